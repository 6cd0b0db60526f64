// A picture before and after the network. H, W its size; h, w the network's; K classes.
#pragma once

#include <cstdint>
#include <vector>

#include "contract/contract.hpp"

namespace prunekit {

struct Picture {
    Size size;
    std::vector<std::uint8_t> rgb_HW3;
};

// The network's input, float32 (1, 3, h, w). Throws Error where the picture is too large.
std::vector<float> prepare(const Contract& contract, const Picture& picture);

// The class of each pixel of a picture of this size, (H, W), from logits (K, h, w) of the size that the contract gives.
// Of classes with equal logits the lowest is taken. Throws Error where the sizes do not belong together, K is not 1 to
// 256, or a logit is not finite.
std::vector<std::uint8_t> restoreLabels(const Contract& contract, const float* logits_Khw, std::int64_t classes,
                                        Size network, Size picture);

bool allFinite(const float* values, std::int64_t count);

}  // namespace prunekit
