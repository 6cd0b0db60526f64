// The golden check: known input, expected logits, so that an engine proves on its device that it computes the same.
#pragma once

#include <filesystem>
#include <optional>

#include "base/npy.hpp"
#include "contract/picture.hpp"
#include "engine/engine.hpp"

namespace prunekit {

// A golden.npz of prunekit_runtime, unpacked.
struct Golden {
    Array<float> images_N3hw;
    Array<float> logits_NKhw;
    std::optional<Picture> picture;  // that the first image was prepared from
};

struct Agreement {
    std::optional<double> maxAbsError;               // of logits; none where the engine gives labels
    double maxAbsLogit;                              // of the expected ones: the scale to read the error against
    double labelAgreement;                           // share of pixels in [0, 1]
    std::optional<double> preprocessingMaxAbsError;  // none: nothing to compare
};

// Throws Error: an array is missing, damaged or too large, or they do not belong together.
Golden loadGolden(const std::filesystem::path& folder);

// Throws Error: the engine gives another shape, or needs a picture or a contract that is not there.
Agreement compare(const Golden& golden, Engine& engine, const std::optional<Contract>& contract);

// A nan anywhere fails.
bool passes(const Agreement& agreement, double minAgreement);

}  // namespace prunekit
