#include "base/text.hpp"

#include <cstdio>

namespace prunekit {
namespace {

struct Decoded {
    std::uint32_t code;
    std::size_t bytes;  // 0: what stands there is no UTF-8
};

std::uint8_t byteAt(const std::string& text, std::size_t at) {
    return static_cast<std::uint8_t>(text[at]);
}

// RFC 3629: the smallest code that may take so many bytes; a longer form of a smaller one is refused.
Decoded decode(const std::string& text, std::size_t at) {
    const std::uint8_t first = byteAt(text, at);
    if (first < 0x80) return {first, 1};
    const std::size_t bytes = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || at + bytes > text.size()) return {first, 0};
    std::uint32_t code = first & (0xFFu >> (bytes + 1));
    for (std::size_t offset = 1; offset < bytes; ++offset) {
        const std::uint8_t next = byteAt(text, at + offset);
        if ((next & 0xC0) != 0x80) return {first, 0};
        code = code << 6 | (next & 0x3Fu);
    }
    const std::uint32_t smallest = bytes == 4 ? 0x10000 : bytes == 3 ? 0x800 : 0x80;
    const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    if (code < smallest || code > 0x10FFFF || surrogate) return {first, 0};
    return {code, bytes};
}

bool harmful(std::uint32_t code) {
    if (code == '\t' || code == '\n') return false;
    if (code < 0x20 || (code >= 0x7F && code <= 0x9F)) return true;  // C0 and C1, which terminals obey
    if (code == 0x61C || code == 0x200E || code == 0x200F) return true;
    return (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
}

std::string escaped(std::uint32_t code) {
    char shown[16];
    std::snprintf(shown, sizeof shown, code < 0x100 ? "\\x%02x" : "\\u%04x", static_cast<unsigned>(code));
    return shown;
}

}  // namespace

std::string printable(const std::string& text) {
    std::string shown;
    for (std::size_t at = 0; at < text.size();) {
        const Decoded next = decode(text, at);
        if (next.bytes == 0 || harmful(next.code)) {
            shown += escaped(next.code);
        } else {
            shown.append(text, at, next.bytes);
        }
        at += next.bytes == 0 ? 1 : next.bytes;
    }
    return shown;
}

std::string shortened(const std::string& text, std::size_t most) {
    return text.size() <= most ? text : text.substr(0, most) + "...";
}

std::string showShape(const std::vector<std::int64_t>& shape) {
    std::string shown;
    for (const std::int64_t size : shape) {
        if (!shown.empty()) shown += " x ";
        shown += size < 0 ? "?" : std::to_string(size);
    }
    return shown.empty() ? "scalar" : shown;
}

}  // namespace prunekit
