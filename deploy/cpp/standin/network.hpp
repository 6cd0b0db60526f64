// What the stand-in computes: a 1x1 convolution, float32 or uint8 in, logits or labels out.
//
// Its "engine" is a text after the 28 bytes of a plan's header, one word and its values a line:
//   input NAME TYPE SIZE...     output NAME TYPE SIZE...     weights K*3     normalize SCALE MEAN*3 STD*3
//   profile MIN*4 MAX*4         format vector                refused REASON
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>
#include <string>
#include <vector>

namespace standin {

struct Tensor {
    std::string name;
    nvinfer1::DataType type;
    std::vector<std::int64_t> sizes;
};

struct Network {
    std::vector<Tensor> inputs, outputs;
    std::vector<float> weights_K3;
    float scale = 1;
    std::vector<float> mean{0, 0, 0}, std{1, 1, 1};
    std::vector<std::int64_t> least, most;  // of the input; empty: any
    bool vectorFormat = false;
    std::string refused;

    std::int64_t classes() const { return static_cast<std::int64_t>(weights_K3.size()) / 3; }
};

Network parseNetwork(const std::string& text);

// Input of the shape `sizes` to logits, or to the class with the largest one, by the types of input and output.
void compute(const Network& network, const std::vector<std::int64_t>& sizes, const void* input, const Tensor& output,
             void* result);

}  // namespace standin
