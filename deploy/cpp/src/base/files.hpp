// Files, read within bounds and written whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace prunekit {

using Bytes = std::vector<std::uint8_t>;

// The whole file. Throws Error where it is missing, no regular file (a pipe has no end) or larger than `mostBytes`;
// `what` names it in the message, such as "Engine".
Bytes readBounded(const std::filesystem::path& path, std::size_t mostBytes, const std::string& what);

// A reader, or a kill, sees the old content or the new, never a part. Throws Error.
void writeWhole(const std::filesystem::path& path, const Bytes& content);

}  // namespace prunekit
