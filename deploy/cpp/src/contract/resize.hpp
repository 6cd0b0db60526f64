// Bilinear resizing: half-pixel centres, no antialias, edges repeated; the arithmetic of prunekit_runtime, bit for bit.
#pragma once

#include <cstdint>
#include <vector>

#include "contract/contract.hpp"

namespace prunekit {

// Resizes `planes` planes of float32, (planes, from.height, from.width) -> (planes, to.height, to.width).
std::vector<float> resizeBilinear(std::vector<float> values, std::int64_t planes, Size from, Size to);

}  // namespace prunekit
