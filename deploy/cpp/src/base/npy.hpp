// Arrays as numpy writes them (.npy, format 1.0), of unknown origin: two types, known axes, bounded memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/files.hpp"

namespace prunekit {

template <typename Element>
struct Array {
    std::vector<std::int64_t> shape;
    std::vector<Element> values;  // the last axis runs fastest
};

// Throw Error where the file is none, of another type or number of axes, by columns, empty, or larger than `mostBytes`.
Array<float> readFloats(const std::filesystem::path& path, std::size_t axes, std::size_t mostBytes);
Array<std::uint8_t> readUint8(const std::filesystem::path& path, std::size_t axes, std::size_t mostBytes);

// The bytes of a .npy file.
Bytes encodeNpy(const Array<float>& array);
Bytes encodeNpy(const Array<std::uint8_t>& array);

}  // namespace prunekit
