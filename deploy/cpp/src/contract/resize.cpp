#include "contract/resize.hpp"

#include <algorithm>
#include <cfloat>

// Python's numbers come out only where each float operation rounds once, to float32; the build forbids fused ones.
static_assert(FLT_EVAL_METHOD == 0, "float arithmetic must not be done in a wider type");

namespace prunekit {
namespace {

// Between which two old pixels each new one lies, and the share of the upper one.
struct Taps {
    std::vector<std::int64_t> low, high;
    std::vector<float> weight;
};

Taps tapsOf(std::int64_t from, std::int64_t to) {
    Taps taps;
    // A float64 product of two float32 values is exact, so a coordinate is rounded once.
    const double step = static_cast<double>(static_cast<float>(from) / static_cast<float>(to));
    for (std::int64_t place = 0; place < to; ++place) {
        const auto raw = static_cast<float>(step * (static_cast<double>(place) + 0.5) - 0.5);
        const float centre = std::max(raw, 0.0f);
        const std::int64_t low = std::min(static_cast<std::int64_t>(centre), from - 1);
        taps.low.push_back(low);
        taps.high.push_back(std::min(low + 1, from - 1));
        taps.weight.push_back(std::clamp(centre - static_cast<float>(low), 0.0f, 1.0f));
    }
    return taps;
}

std::vector<float> resizeRows(const std::vector<float>& values, std::int64_t planes, Size from, std::int64_t height) {
    const Taps taps = tapsOf(from.height, height);
    std::vector<float> resized(static_cast<std::size_t>(planes * height * from.width));
    float* out = resized.data();
    for (std::int64_t plane = 0; plane < planes; ++plane) {
        const float* plane_HW = values.data() + plane * from.pixels();
        for (std::int64_t row = 0; row < height; ++row, out += from.width) {
            const auto at = static_cast<std::size_t>(row);
            const float* below = plane_HW + taps.low[at] * from.width;
            const float* above = plane_HW + taps.high[at] * from.width;
            const float weight = taps.weight[at], rest = 1.0f - weight;
            for (std::int64_t column = 0; column < from.width; ++column) {
                out[column] = below[column] * rest + above[column] * weight;
            }
        }
    }
    return resized;
}

std::vector<float> resizeColumns(const std::vector<float>& values, std::int64_t planes, Size from, std::int64_t width) {
    const Taps taps = tapsOf(from.width, width);
    const std::int64_t rows = planes * from.height;
    std::vector<float> resized(static_cast<std::size_t>(rows * width));
    float* out = resized.data();
    for (std::int64_t row = 0; row < rows; ++row, out += width) {
        const float* row_W = values.data() + row * from.width;
        for (std::int64_t column = 0; column < width; ++column) {
            const auto at = static_cast<std::size_t>(column);
            const float weight = taps.weight[at];
            out[column] = row_W[taps.low[at]] * (1.0f - weight) + row_W[taps.high[at]] * weight;
        }
    }
    return resized;
}

}  // namespace

std::vector<float> resizeBilinear(std::vector<float> values, std::int64_t planes, Size from, Size to) {
    // The axis that shrinks most goes first, rows where both do alike: the order decides the last bits.
    const double rowShare = static_cast<double>(to.height) / static_cast<double>(from.height);
    const double columnShare = static_cast<double>(to.width) / static_cast<double>(from.width);
    const bool rowsFirst = rowShare <= columnShare;
    for (const bool rows : {rowsFirst, !rowsFirst}) {
        if (rows && from.height != to.height) {
            values = resizeRows(values, planes, from, to.height);
            from.height = to.height;
        } else if (!rows && from.width != to.width) {
            values = resizeColumns(values, planes, from, to.width);
            from.width = to.width;
        }
    }
    return values;
}

}  // namespace prunekit
