#include <cmath>
#include <string>

#include "base/errors.hpp"
#include "contract/picture.hpp"
#include "contract/resize.hpp"

namespace prunekit {
namespace {

constexpr std::int64_t mostClasses = 256;  // labels are uint8

std::vector<float> cropped(const float* plane_hw, Size network, Size kept) {
    std::vector<float> values;
    values.reserve(static_cast<std::size_t>(kept.pixels()));
    for (std::int64_t row = 0; row < kept.height; ++row) {
        const float* start = plane_hw + row * network.width;
        values.insert(values.end(), start, start + kept.width);
    }
    return values;
}

void check(const Contract& contract, const float* logits_Khw, std::int64_t classes, Size network, Size picture) {
    contract.checkSize(picture);
    const Size expected = contract.networkSize(picture);
    if (classes < 1 || classes > mostClasses) {
        throw Error("Labels are uint8, so 1 to 256 classes; got " + std::to_string(classes) + ". Use another model.");
    }
    if (!(network == expected)) {
        throw Error("Logits for a picture of " + std::to_string(picture.height) + " x " +
                    std::to_string(picture.width) + " px must be " + std::to_string(expected.height) + " x " +
                    std::to_string(expected.width) + ", got " + std::to_string(network.height) + " x " +
                    std::to_string(network.width) + ". Does preprocessing.json belong to this engine?");
    }
    if (!allFinite(logits_Khw, classes * network.pixels())) {
        throw Error(
            "The engine gives logits that are not finite (nan or infinity). Its weights are damaged, or it "
            "overflows in fp16: export fp32.");
    }
}

}  // namespace

bool allFinite(const float* values, std::int64_t count) {
    for (std::int64_t at = 0; at < count; ++at) {
        if (!std::isfinite(values[at])) return false;
    }
    return true;
}

std::vector<std::uint8_t> restoreLabels(const Contract& contract, const float* logits_Khw, std::int64_t classes,
                                        Size network, Size picture) {
    check(contract, logits_Khw, classes, network, picture);
    const Size kept = contract.resizedSize(picture);
    // One class after the other: all of them at the size of a camera picture are memory that a small board lacks.
    std::vector<float> best_HW = resizeBilinear(cropped(logits_Khw, network, kept), 1, kept, picture);
    std::vector<std::uint8_t> labels_HW(best_HW.size(), 0);
    for (std::int64_t label = 1; label < classes; ++label) {
        const float* plane_hw = logits_Khw + label * network.pixels();
        const std::vector<float> candidate_HW = resizeBilinear(cropped(plane_hw, network, kept), 1, kept, picture);
        for (std::size_t pixel = 0; pixel < labels_HW.size(); ++pixel) {
            if (candidate_HW[pixel] > best_HW[pixel]) {
                best_HW[pixel] = candidate_HW[pixel];
                labels_HW[pixel] = static_cast<std::uint8_t>(label);
            }
        }
    }
    return labels_HW;
}

}  // namespace prunekit
