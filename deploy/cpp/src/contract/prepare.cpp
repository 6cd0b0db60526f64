#include <array>

#include "contract/picture.hpp"
#include "contract/resize.hpp"

namespace prunekit {
namespace {

std::vector<float> asPlanes(const Contract& contract, const Picture& picture) {
    const std::int64_t pixels = picture.size.pixels();
    std::vector<float> planes_3HW(static_cast<std::size_t>(3 * pixels));
    for (std::int64_t channel = 0; channel < 3; ++channel) {
        const std::uint8_t* from = picture.rgb_HW3.data() + (contract.bgr ? 2 - channel : channel);
        float* to = planes_3HW.data() + channel * pixels;
        for (std::int64_t pixel = 0; pixel < pixels; ++pixel) to[pixel] = from[3 * pixel];
    }
    return planes_3HW;
}

}  // namespace

std::vector<float> prepare(const Contract& contract, const Picture& picture) {
    contract.checkSize(picture.size);
    const Size resized = contract.resizedSize(picture.size), padded = contract.networkSize(picture.size);
    const std::vector<float> image_3HW = resizeBilinear(asPlanes(contract, picture), 3, picture.size, resized);
    std::vector<float> input_3hw(static_cast<std::size_t>(3 * padded.pixels()));  // zeros, which padding stays
    const auto scale = static_cast<float>(contract.scale);
    const float* from = image_3HW.data();
    for (std::size_t channel = 0; channel < 3; ++channel) {
        const auto mean = static_cast<float>(contract.mean[channel]);
        const auto deviation = static_cast<float>(contract.std[channel]);
        float* to = input_3hw.data() + static_cast<std::int64_t>(channel) * padded.pixels();
        for (std::int64_t row = 0; row < resized.height; ++row, to += padded.width, from += resized.width) {
            for (std::int64_t column = 0; column < resized.width; ++column) {
                to[column] = (from[column] * scale - mean) / deviation;
            }
        }
    }
    return input_3hw;
}

}  // namespace prunekit
