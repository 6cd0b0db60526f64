// Text of unknown origin, made harmless for a terminal; numbers and shapes as messages show them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace prunekit {

// Shows control characters, marks that turn the direction of writing and bytes that are no UTF-8 as \x1b or \u202e;
// line ends and tabs stay. The same characters as printable() of prunekit_runtime.
std::string printable(const std::string& text);

// At most `most` bytes of a text of any length.
std::string shortened(const std::string& text, std::size_t most = 100);

// 1 x 3 x ? x ?; the question mark, -1 in the shape, stands for any size.
std::string showShape(const std::vector<std::int64_t>& shape);

}  // namespace prunekit
