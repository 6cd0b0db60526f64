#include "engine/engine.hpp"

#include <cstring>

#include "base/errors.hpp"
#include "base/files.hpp"
#include "base/text.hpp"
#include "engine/plan.hpp"
#include "engine/tensors.hpp"

namespace prunekit {
namespace {

constexpr std::size_t mostEngineBytes = std::size_t{1} << 33;

std::string libraryVersion() {
    const int version = getInferLibVersion();  // (major * 100 + minor) * 100 + patch
    return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
           std::to_string(version % 100);
}

}  // namespace

void ErrorLog::log(Severity severity, const char* message) noexcept {
    if (severity > Severity::kERROR || message == nullptr) return;
    try {
        last_ = shortened(message, 1000);
    } catch (...) {  // no memory for it: the failure itself is reported all the same
    }
}

std::string ErrorLog::reason() const {
    return last_.empty() ? "TensorRT gave no reason" : last_;
}

Engine::Engine(const std::filesystem::path& path) : path_(path.string()) {
    const Bytes content = readBounded(path, mostEngineBytes, "Engine");
    const std::string builtBy = planVersion(content, path_);
    requireGpu();
    runtime_.reset(nvinfer1::createInferRuntime(log_));
    if (!runtime_) throw Error("TensorRT " + libraryVersion() + " does not start: " + log_.reason() + ".");
    engine_.reset(runtime_->deserializeCudaEngine(content.data(), content.size()));
    if (!engine_) {
        throw Error("Engine " + path_ + " was built by TensorRT " + builtBy + "; " + libraryVersion() +
                    " here refuses it: " + log_.reason() +
                    ". Build it again on this machine: an engine is bound to one version and one kind of GPU.");
    }
    context_.reset(engine_->createExecutionContext());
    if (!context_) {
        throw Error("Engine " + path_ + " gives no execution context: " + log_.reason() + ". Is the memory full?");
    }
    readTensors();
    stream_ = std::make_unique<Stream>();
    start_ = std::make_unique<Event>();
    end_ = std::make_unique<Event>();
}

std::string Engine::name() const {
    return "tensorrt " + libraryVersion();
}

void Engine::readTensors() {
    std::vector<Tensor> inputs, outputs;
    for (std::int32_t number = 0; number < engine_->getNbIOTensors(); ++number) {
        const char* name = engine_->getIOTensorName(number);
        const bool in = engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
        (in ? inputs : outputs).push_back(describe(name));
    }
    chooseTensors(inputs, outputs);
}

Tensor Engine::describe(const char* name) const {
    const std::string subject = "Engine " + path_ + ": " + name;
    if (engine_->getTensorFormat(name) != nvinfer1::TensorFormat::kLINEAR) {
        throw Error(subject +
                    " is stored in vectors of channels. Build it without --inputIOFormats and --outputIOFormats.");
    }
    return {name, elementOf(engine_->getTensorDataType(name), subject), sizesOf(engine_->getTensorShape(name))};
}

void Engine::chooseTensors(const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs) {
    if (inputs.size() != 1) {
        throw Error("Engine " + path_ + " has " + std::to_string(inputs.size()) +
                    " inputs, not one. Export it with prunekit.");
    }
    input_ = inputs.front();
    checkInput(input_, path_);
    const std::size_t at = outputToRead(outputs, path_);
    output_ = outputs[at];
    for (std::size_t number = 0; number < outputs.size(); ++number) {
        if (number != at) others_.push_back(outputs[number]);
    }
}

Result Engine::run(const void* input, const std::vector<std::int64_t>& shape) {
    setShape(shape);
    const std::size_t inputBytes = bytesOf(shape, input_.element, path_ + ": " + input_.name);
    const Buffer& in = bind(input_.name, inputBytes);
    for (const Tensor& other : others_) {
        bind(other.name, bytesOf(shapeOf(other.name), other.element, path_ + ": " + other.name));
    }
    const std::vector<std::int64_t> outputShape = shapeOf(output_.name);
    const std::size_t outputBytes = bytesOf(outputShape, output_.element, path_ + ": " + output_.name);
    const Buffer& out = bind(output_.name, outputBytes);
    std::memcpy(in.host(), input, inputBytes);
    stream_->copyIn(in.device(), in.host(), inputBytes);
    start_->record(*stream_);
    if (!context_->enqueueV3(stream_->get())) throw Error(name() + " failed on " + path_ + ": " + log_.reason() + ".");
    end_->record(*stream_);
    stream_->copyOut(out.host(), out.device(), outputBytes);
    stream_->wait();
    lastCompute_ms_ = end_->millisecondsSince(*start_);
    return {outputShape, out.host()};
}

void Engine::setShape(const std::vector<std::int64_t>& shape) {
    checkFits(input_, shape, path_);
    if (context_->setInputShape(input_.name.c_str(), dimsOf(shape))) return;
    const auto limit = [this](nvinfer1::OptProfileSelector which) {
        return showShape(sizesOf(engine_->getProfileShape(input_.name.c_str(), 0, which)));
    };
    throw Error("Engine " + path_ + " takes " + limit(nvinfer1::OptProfileSelector::kMIN) + " to " +
                limit(nvinfer1::OptProfileSelector::kMAX) + ", got " + showShape(shape) +
                ". Build it again with a profile that covers this shape.");
}

std::vector<std::int64_t> Engine::shapeOf(const std::string& name) const {
    std::vector<std::int64_t> shape = sizesOf(context_->getTensorShape(name.c_str()));
    for (const std::int64_t size : shape) {
        if (size < 0) {
            throw Error("Engine " + path_ + " does not tell the shape of " + name +
                        " before running. Export it again.");
        }
    }
    return shape;
}

Buffer& Engine::bind(const std::string& name, std::size_t bytes) {
    std::unique_ptr<Buffer>& held = buffers_[name];
    if (!held || held->bytes() < bytes) {
        held.reset();  // first, so that old and new are never held at once
        held = std::make_unique<Buffer>(bytes);
    }
    if (!context_->setTensorAddress(name.c_str(), held->device())) {
        throw Error(this->name() + " does not take memory for " + name + ": " + log_.reason() + ".");
    }
    return *held;
}

}  // namespace prunekit
