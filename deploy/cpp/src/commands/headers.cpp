#include "commands/headers.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/errors.hpp"

namespace prunekit {
namespace {

const std::string pngMagic = "\x89PNG\r\n\x1a\n";
const std::string jpegMagic = "\xff\xd8\xff";
constexpr std::size_t chunkFrame = 12;  // length, kind and checksum of a PNG chunk

bool beginsWith(const Bytes& content, const std::string& magic) {
    return content.size() >= magic.size() && std::memcmp(content.data(), magic.data(), magic.size()) == 0;
}

[[noreturn]] void refuse(const std::string& detail) {
    throw Error("is damaged or cut off: " + detail + ". Replace the file.");
}

// High byte first, as PNG and JPEG write numbers.
std::int64_t number(const Bytes& content, std::size_t at, std::size_t bytes) {
    std::int64_t value = 0;
    for (std::size_t place = at; place < at + bytes; ++place) value = value * 256 + content[place];
    return value;
}

Header pngStart(const Bytes& content) {
    const std::size_t header = pngMagic.size() + 8;
    if (content.size() < header + 13 || std::memcmp(content.data() + header - 4, "IHDR", 4) != 0) {
        refuse("it has no header");
    }
    const std::uint8_t bits = content[header + 8], colourType = content[header + 9];
    if (bits == 16) throw Error("has 16 bits a colour channel, and 8 are read. Convert it to 8-bit RGB.");
    return {{number(content, header, 4), number(content, header + 4, 4)}, colourType == 4 || colourType == 6};
}

Header pngHeader(const Bytes& content) {
    Header header = pngStart(content);
    for (std::size_t at = pngMagic.size(); at + chunkFrame <= content.size();) {
        const std::string kind(content.begin() + static_cast<std::ptrdiff_t>(at) + 4,
                               content.begin() + static_cast<std::ptrdiff_t>(at) + 8);
        if (kind == "IEND") return header;
        if (kind == "acTL") throw Error("holds several pictures (an animation). Save the one that is meant alone.");
        if (kind == "eXIf") throw Error("is a PNG with EXIF data, which may turn it. Save it again without.");
        if (kind == "tRNS") header.alpha = true;
        at += chunkFrame + static_cast<std::size_t>(number(content, at, 4));
    }
    refuse("its end is missing");
}

// ITU T.81, table B.1: the markers that begin a frame, whose size stands in them.
bool beginsFrame(std::uint8_t marker) {
    return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
}

// What is cut off OpenCV fills with grey, so the end must be there, behind the last start of pixels.
void checkWhole(const Bytes& content) {
    const std::uint8_t end[] = {0xFF, 0xD9}, scan[] = {0xFF, 0xDA};
    const auto lastEnd = std::find_end(content.begin(), content.end(), std::begin(end), std::end(end));
    const auto lastScan = std::find_end(content.begin(), content.end(), std::begin(scan), std::end(scan));
    if (lastEnd == content.end() || (lastScan != content.end() && lastEnd < lastScan)) refuse("its end is missing");
}

Header jpegHeader(const Bytes& content) {
    checkWhole(content);
    for (std::size_t at = 2; at + 9 <= content.size() && content[at] == 0xFF;) {
        const std::uint8_t marker = content[at + 1];
        if (beginsFrame(marker)) return {{number(content, at + 5, 2), number(content, at + 7, 2)}, false};
        at += marker == 0xFF ? 1 : 2 + static_cast<std::size_t>(number(content, at + 2, 2));  // 0xFF alone: a filler
    }
    refuse("its header names no size");
}

}  // namespace

Header readHeader(const Bytes& content) {
    if (beginsWith(content, pngMagic)) return pngHeader(content);
    if (beginsWith(content, jpegMagic)) return jpegHeader(content);
    throw Error("is no PNG or JPEG file. Convert it to one of them.");
}

}  // namespace prunekit
