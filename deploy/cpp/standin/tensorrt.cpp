// A stand-in for TensorRT's runtime, on the host: it tests how the runner calls it, not NVIDIA's code.
#include <NvInferRuntime.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "failing.hpp"
#include "network.hpp"

namespace standin {
namespace {

using namespace nvinfer1;

constexpr std::size_t headerBytes = 28;
using Sizes = std::vector<std::int64_t>;

Dims asDims(const Sizes& sizes) {
    Dims dims{};
    dims.nbDims = static_cast<std::int32_t>(sizes.size());
    std::copy(sizes.begin(), sizes.end(), dims.d);
    return dims;
}

class Context : public IExecutionContext {
  public:
    Context(const Network& network, ILogger& logger) : network_(network), logger_(logger) {}

    bool setInputShape(char const*, Dims const& dims) noexcept override {
        const Sizes sizes(dims.d, dims.d + dims.nbDims);
        for (std::size_t axis = 0; axis < network_.least.size(); ++axis) {
            if (sizes[axis] < network_.least[axis] || sizes[axis] > network_.most[axis]) return false;
        }
        sizes_ = sizes;
        return true;
    }

    Dims getTensorShape(char const* tensorName) const noexcept override {
        if (tensorName == network_.inputs[0].name) return asDims(sizes_);
        if (failing("getTensorShape")) return asDims({-1});
        const auto output = std::find_if(network_.outputs.begin(), network_.outputs.end(),
                                         [tensorName](const Tensor& tensor) { return tensor.name == tensorName; });
        const bool pictures = network_.inputs[0].type == DataType::kUINT8;
        const std::int64_t height = sizes_[pictures ? 1 : 2], width = sizes_[pictures ? 2 : 3];
        Sizes sizes{sizes_[0], height, width};
        if (output->type == DataType::kFLOAT && output->sizes.size() == 4) {
            sizes.insert(sizes.begin() + 1, network_.classes());
        } else if (output->sizes.size() == 4) {  // labels with an axis of one, first or last
            sizes.insert(output->sizes[1] == 1 ? sizes.begin() + 1 : sizes.end(), 1);
        }
        return asDims(sizes);
    }

    bool setTensorAddress(char const* tensorName, void* data) noexcept override {
        if (failing("setTensorAddress")) return false;
        addresses_[tensorName] = data;
        return data != nullptr;
    }

    bool enqueueV3(cudaStream_t) noexcept override {
        const bool bound = addresses_.size() == network_.inputs.size() + network_.outputs.size();
        if (failing("enqueueV3") || !bound) {
            logger_.log(ILogger::Severity::kWARNING, "not the reason");
            logger_.log(ILogger::Severity::kERROR, "a kernel failed");
            return false;
        }
        for (const Tensor& output : network_.outputs) {
            if (output.name == "confidence") continue;  // given memory, not read
            compute(network_, sizes_, addresses_[network_.inputs[0].name], output, addresses_[output.name]);
        }
        return true;
    }

  private:
    const Network& network_;
    ILogger& logger_;
    Sizes sizes_;
    std::map<std::string, void*> addresses_;
};

class Engine : public ICudaEngine {
  public:
    Engine(Network network, ILogger& logger) : network_(std::move(network)), logger_(logger) {}

    std::int32_t getNbIOTensors() const noexcept override {
        return static_cast<std::int32_t>(network_.inputs.size() + network_.outputs.size());
    }

    char const* getIOTensorName(std::int32_t index) const noexcept override { return at(index).name.c_str(); }

    TensorIOMode getTensorIOMode(char const* tensorName) const noexcept override {
        for (const Tensor& tensor : network_.inputs) {
            if (tensor.name == tensorName) return TensorIOMode::kINPUT;
        }
        return TensorIOMode::kOUTPUT;
    }

    DataType getTensorDataType(char const* tensorName) const noexcept override { return named(tensorName).type; }

    TensorFormat getTensorFormat(char const*) const noexcept override {
        return network_.vectorFormat ? TensorFormat::kCHW2 : TensorFormat::kLINEAR;
    }

    Dims getTensorShape(char const* tensorName) const noexcept override { return asDims(named(tensorName).sizes); }

    Dims getProfileShape(char const*, std::int32_t, OptProfileSelector select) const noexcept override {
        return asDims(select == OptProfileSelector::kMIN ? network_.least : network_.most);
    }

    IExecutionContext* createExecutionContext() noexcept override {
        return failing("createExecutionContext") ? nullptr : new Context(network_, logger_);
    }

  private:
    const Tensor& at(std::int32_t index) const {
        const auto place = static_cast<std::size_t>(index);
        const std::size_t inputs = network_.inputs.size();
        return place < inputs ? network_.inputs[place] : network_.outputs[place - inputs];
    }

    const Tensor& named(const char* name) const {
        for (std::int32_t index = 0; index < getNbIOTensors(); ++index) {
            if (at(index).name == name) return at(index);
        }
        return at(0);
    }

    Network network_;
    ILogger& logger_;
};

class Runtime : public IRuntime {
  public:
    explicit Runtime(ILogger& logger) : logger_(logger) {}

    ICudaEngine* deserializeCudaEngine(void const* blob, std::size_t size) noexcept override {
        Network network = parseNetwork(std::string(static_cast<const char*>(blob) + headerBytes, size - headerBytes));
        if (network.refused.empty()) return new Engine(std::move(network), logger_);
        logger_.log(ILogger::Severity::kERROR, network.refused.c_str());
        return nullptr;
    }

  private:
    ILogger& logger_;
};

}  // namespace
}  // namespace standin

namespace nvinfer1 {

IRuntime* createInferRuntime(ILogger& logger) noexcept {
    return failing("createInferRuntime") ? nullptr : new standin::Runtime(logger);
}

}  // namespace nvinfer1

extern "C" std::int32_t getInferLibVersion() noexcept {
    return 100300;  // 10.3.0
}
