#include "engine/tensors.hpp"

#include <algorithm>
#include <iterator>

#include "base/errors.hpp"
#include "base/text.hpp"

namespace prunekit {
namespace {

constexpr double mostTensorBytes = 8.0 * (1 << 30);

bool isLabels(const Tensor& output) {
    if (output.element != Element::uint8) return false;
    return output.shape.size() == 3 || (output.shape.size() == 4 && (output.shape[1] == 1 || output.shape[3] == 1));
}

bool isLogits(const Tensor& output) {
    return output.element == Element::float32 && output.shape.size() == 4;
}

// In the order of nvinfer1::DataType.
const char* const typeNames[] = {"float32", "float16", "int8", "int32", "bool", "uint8", "fp8", "bfloat16", "int64"};

std::string typeName(nvinfer1::DataType type) {
    const auto number = static_cast<std::size_t>(type);
    return number < std::size(typeNames) ? typeNames[number] : "a type that this runner does not know";
}

std::string shown(const Tensor& tensor) {
    return tensor.name + " (" + nameOf(tensor.element) + ", " + showShape(tensor.shape) + ")";
}

}  // namespace

const char* nameOf(Element element) {
    return element == Element::float32 ? "float32" : "uint8";
}

Element elementOf(nvinfer1::DataType type, const std::string& subject) {
    if (type == nvinfer1::DataType::kFLOAT) return Element::float32;
    if (type == nvinfer1::DataType::kUINT8) return Element::uint8;
    throw Error(subject + " is " + typeName(type) + ", but float32 or uint8 is needed. Export it with prunekit.");
}

std::vector<std::int64_t> sizesOf(const nvinfer1::Dims& dims) {
    return std::vector<std::int64_t>(dims.d, dims.d + std::max(0, dims.nbDims));
}

nvinfer1::Dims dimsOf(const std::vector<std::int64_t>& shape) {
    nvinfer1::Dims dims{};
    dims.nbDims = static_cast<std::int32_t>(shape.size());
    std::copy(shape.begin(), shape.end(), dims.d);
    return dims;
}

void checkInput(const Tensor& input, const std::string& path) {
    const std::size_t colours = input.element == Element::uint8 ? 3 : 1;
    if (input.shape.size() == 4 && input.shape[colours] == 3) return;
    throw Error("Engine " + path + " takes " + shown(input) +
                ", not float32 (N, 3, h, w) or uint8 (N, H, W, 3). Export it "
                "with prunekit.");
}

std::size_t outputToRead(const std::vector<Tensor>& outputs, const std::string& path) {
    const auto labels = std::count_if(outputs.begin(), outputs.end(), isLabels);
    const auto logits = std::count_if(outputs.begin(), outputs.end(), isLogits);
    if (labels == 1) {
        return static_cast<std::size_t>(std::find_if(outputs.begin(), outputs.end(), isLabels) - outputs.begin());
    }
    if (labels == 0 && logits == 1 && outputs.size() == 1) return 0;
    std::string listed;
    for (const Tensor& output : outputs) listed += (listed.empty() ? "" : ", ") + shown(output);
    throw Error("Engine " + path + " gives " + (listed.empty() ? "nothing" : listed) +
                ", not logits (float32, N x K x h x w) alone, or labels (uint8, N x H x W). Export it with prunekit.");
}

void checkFits(const Tensor& tensor, const std::vector<std::int64_t>& shape, const std::string& path) {
    bool fits = shape.size() == tensor.shape.size();
    for (std::size_t axis = 0; fits && axis < shape.size(); ++axis) {
        fits = shape[axis] > 0 && (tensor.shape[axis] < 0 || tensor.shape[axis] == shape[axis]);
    }
    if (fits) return;
    throw Error("Engine " + path + " takes " + nameOf(tensor.element) + " of the shape " + showShape(tensor.shape) +
                ", got " + showShape(shape) +
                ". Use pictures of that size, or export the model with --dynamic for other sizes.");
}

std::size_t bytesOf(const std::vector<std::int64_t>& shape, Element element, const std::string& subject) {
    double bytes = element == Element::float32 ? 4 : 1;  // a double: absurd sizes overflow nothing
    for (const std::int64_t size : shape) bytes *= static_cast<double>(size);
    if (bytes >= 1 && bytes <= mostTensorBytes) return static_cast<std::size_t>(bytes);
    throw Error(subject + " of the shape " + showShape(shape) + " takes " + std::to_string(bytes / (1 << 30)) +
                " GiB, and up to 8 GiB are allowed. Use smaller pictures or fewer at once.");
}

}  // namespace prunekit
