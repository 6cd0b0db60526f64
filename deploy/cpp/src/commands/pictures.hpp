// Picture files of unknown origin, by OpenCV.
#pragma once

#include <filesystem>

#include "base/files.hpp"
#include "contract/picture.hpp"

namespace prunekit {

// A PNG or JPEG as RGB, upright as its EXIF data says. Throws Error: it is missing, of another format, damaged, too
// large, transparent, or deeper than 8 bits.
Picture readPicture(const std::filesystem::path& path);

// A grey PNG whose values are the labels.
Bytes encodeLabels(const std::vector<std::uint8_t>& labels_HW, Size size);

}  // namespace prunekit
