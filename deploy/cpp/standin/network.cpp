#include "network.hpp"

#include <sstream>

namespace standin {
namespace {

using nvinfer1::DataType;

template <typename Value>
std::vector<Value> rest(std::istream& words) {
    std::vector<Value> values;
    for (Value value; words >> value;) values.push_back(value);
    return values;
}

Tensor parseTensor(std::istream& words) {
    std::string name, type;
    words >> name >> type;
    const DataType known = type == "uint8" ? DataType::kUINT8 : type == "float16" ? DataType::kHALF : DataType::kFLOAT;
    return {name, known, rest<std::int64_t>(words)};
}

void parseLine(Network& network, const std::string& line) {
    std::istringstream words(line);
    std::string what;
    words >> what;
    if (what == "input") network.inputs.push_back(parseTensor(words));
    if (what == "output") network.outputs.push_back(parseTensor(words));
    if (what == "weights") network.weights_K3 = rest<float>(words);
    if (what == "format") network.vectorFormat = true;
    if (what == "refused") std::getline(words >> std::ws, network.refused);
    if (what == "normalize") {
        const std::vector<float> values = rest<float>(words);
        network.scale = values[0];
        network.mean.assign(values.begin() + 1, values.begin() + 4);
        network.std.assign(values.begin() + 4, values.begin() + 7);
    }
    if (what == "profile") {
        const std::vector<std::int64_t> sizes = rest<std::int64_t>(words);
        network.least.assign(sizes.begin(), sizes.begin() + 4);
        network.most.assign(sizes.begin() + 4, sizes.begin() + 8);
    }
}

}  // namespace

Network parseNetwork(const std::string& text) {
    Network network;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) parseLine(network, line);
    return network;
}

void compute(const Network& network, const std::vector<std::int64_t>& sizes, const void* input, const Tensor& output,
             void* result) {
    const bool pictures = network.inputs[0].type == DataType::kUINT8, labels = output.type == DataType::kUINT8;
    const std::int64_t pixels = pictures ? sizes[1] * sizes[2] : sizes[2] * sizes[3];
    const auto* bytes_NHW3 = static_cast<const std::uint8_t*>(input);
    const auto* floats_N3hw = static_cast<const float*>(input);
    for (std::int64_t at = 0; at < sizes[0] * pixels; ++at) {
        const std::int64_t image = at / pixels, pixel = at % pixels;
        float colour[3];
        for (std::int64_t channel = 0; channel < 3; ++channel) {
            const auto place = static_cast<std::size_t>(channel);
            colour[channel] =
                pictures ? (bytes_NHW3[at * 3 + channel] * network.scale - network.mean[place]) / network.std[place]
                         : floats_N3hw[(image * 3 + channel) * pixels + pixel];
        }
        std::int64_t best = 0;
        float largest = 0;
        for (std::int64_t label = 0; label < network.classes(); ++label) {
            const float* weight = network.weights_K3.data() + 3 * label;
            const float logit = colour[0] * weight[0] + colour[1] * weight[1] + colour[2] * weight[2];
            if (!labels) static_cast<float*>(result)[(image * network.classes() + label) * pixels + pixel] = logit;
            if (label == 0 || logit > largest) {
                best = label;
                largest = logit;
            }
        }
        if (labels) static_cast<std::uint8_t*>(result)[at] = static_cast<std::uint8_t>(best);
    }
}

}  // namespace standin
