// The preprocessing contract, preprocessing.json: how a picture becomes the network's input, and its logits labels.
//
// docs/preprocessing.md explains each field. What is accepted and what is refused is the same as in
// prunekit_runtime/preprocessing.py and rules.py; tests/runtime/cpp holds the two equal.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>

namespace prunekit {

constexpr std::int64_t mostSide = 1 << 14;    // px; a picture above it is a mistake or an attack, not a camera
constexpr std::int64_t mostPixels = 1 << 26;  // 67 megapixels, 0.8 GB as float32 in three colours

struct Size {
    std::int64_t height;  // px
    std::int64_t width;   // px

    std::int64_t pixels() const { return height * width; }
    bool operator==(const Size& other) const { return height == other.height && width == other.width; }
};

struct Contract {
    Size size;  // before padding; 0 and 0 keep each picture's own
    bool bgr;   // as the network sees the channels; `mean` and `std` are in that order
    double scale;
    std::array<double, 3> mean;
    std::array<double, 3> std;
    std::int64_t padMultiple;

    // Of a picture of this size after resizing, before padding.
    Size resizedSize(Size picture) const;
    // Of the network's input for a picture of this size, padding included.
    Size networkSize(Size picture) const;
    // Throws Error where a picture of this size, or what padding makes of it, takes too much memory.
    void checkSize(Size picture) const;
};

// Both throw Error: the file is missing, larger than 64 KiB, no JSON, or says what is not followed here.
Contract readContract(const std::filesystem::path& path);
Contract parseContract(const nlohmann::json& values);

}  // namespace prunekit
