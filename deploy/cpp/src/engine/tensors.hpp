// Which tensors of an engine are understood, and TensorRT's shapes as ours.
#pragma once

#include <string>
#include <vector>

#include "engine/engine.hpp"

namespace prunekit {

// float32 or uint8; throws Error for any other type, `subject` being what has it.
Element elementOf(nvinfer1::DataType type, const std::string& subject);

std::vector<std::int64_t> sizesOf(const nvinfer1::Dims& dims);
nvinfer1::Dims dimsOf(const std::vector<std::int64_t>& shape);

// Throws Error where the input is neither float32 (N, 3, h, w) nor uint8 (N, H, W, 3).
void checkInput(const Tensor& input, const std::string& path);

// The number of the output that holds logits or labels; of several outputs the one that holds labels.
std::size_t outputToRead(const std::vector<Tensor>& outputs, const std::string& path);

// Throws Error where a shape differs from what the tensor takes.
void checkFits(const Tensor& tensor, const std::vector<std::int64_t>& shape, const std::string& path);

// Throws Error above 8 GiB: a size that a file declares is not a reason to take all memory.
std::size_t bytesOf(const std::vector<std::int64_t>& shape, Element element, const std::string& subject);

}  // namespace prunekit
