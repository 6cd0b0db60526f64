#include "base/npy.hpp"

#include <cstring>
#include <limits>

#include "base/errors.hpp"
#include "base/text.hpp"

namespace prunekit {
namespace {

constexpr char magic[] = "\x93NUMPY\x01";  // with the zero at its end: format 1.0
constexpr std::size_t prefixBytes = 10;    // magic, version, and the header's length, two bytes, low one first
constexpr std::size_t mostHeaderBytes = 1024;

// Reads the header from left to right: numpy writes its three keys in this one order.
class Cursor {
  public:
    explicit Cursor(std::string text) : text_(std::move(text)) {}

    void expect(const std::string& wanted) {
        if (text_.compare(at_, wanted.size(), wanted) != 0) throw Error("its header is none of numpy's");
        at_ += wanted.size();
    }

    bool take(const std::string& wanted) {
        const bool found = text_.compare(at_, wanted.size(), wanted) == 0;
        if (found) at_ += wanted.size();
        return found;
    }

    std::int64_t number() {
        const std::size_t start = at_;
        std::int64_t value = 0;
        for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
            value = 10 * value + (text_[at_] - '0');
            if (value > std::numeric_limits<std::int32_t>::max()) throw Error("an axis of it is too long");
        }
        if (at_ == start) throw Error("its header is none of numpy's");
        return value;
    }

  private:
    std::string text_;
    std::size_t at_ = 0;
};

std::vector<std::int64_t> parseHeader(const std::string& header, const std::string& type) {
    Cursor cursor(header);
    cursor.expect("{'descr': '");
    if (!cursor.take(type + "'")) throw Error("its numbers are not " + type);
    cursor.expect(", 'fortran_order': ");
    if (!cursor.take("False")) throw Error("it is stored by columns");
    cursor.expect(", 'shape': (");
    std::vector<std::int64_t> shape;
    while (!cursor.take(")")) {
        shape.push_back(cursor.number());
        if (!cursor.take(", ")) cursor.take(",");
    }
    cursor.expect(", }");
    return shape;
}

// As doubles, so that a header of absurd axes overflows nothing.
double elementCount(const std::vector<std::int64_t>& shape) {
    double count = 1;
    for (const std::int64_t size : shape) count *= static_cast<double>(size);
    return count;
}

template <typename Element>
Array<Element> parse(const Bytes& content, const std::string& type, std::size_t axes) {
    if (content.size() < prefixBytes || std::memcmp(content.data(), magic, sizeof magic) != 0) {
        throw Error("it is no array of numpy's format 1.0");
    }
    const std::size_t headerBytes = content[8] + 256u * content[9];
    if (headerBytes > mostHeaderBytes || prefixBytes + headerBytes > content.size()) {
        throw Error("its header is none of numpy's");
    }
    const auto start = content.begin() + prefixBytes;
    Array<Element> array;
    array.shape = parseHeader(std::string(start, start + static_cast<std::ptrdiff_t>(headerBytes)), type);
    const std::size_t bodyBytes = content.size() - prefixBytes - headerBytes;
    const double wanted = elementCount(array.shape) * sizeof(Element);
    if (array.shape.size() != axes || wanted != static_cast<double>(bodyBytes) || bodyBytes == 0) {
        throw Error("its shape is " + showShape(array.shape) + " with " + std::to_string(bodyBytes) + " bytes, not " +
                    std::to_string(axes) + " axes and the bytes that they take");
    }
    array.values.resize(bodyBytes / sizeof(Element));
    std::memcpy(array.values.data(), content.data() + prefixBytes + headerBytes, bodyBytes);
    return array;
}

template <typename Element>
Array<Element> read(const std::filesystem::path& path, const std::string& type, std::size_t axes, std::size_t most) {
    const Bytes content = readBounded(path, most, "Array");
    try {
        return parse<Element>(content, type, axes);
    } catch (const Error& error) {
        throw Error("Array " + path.string() + " cannot be used: " + error.what() +
                    ". Write it again with numpy.save.");
    }
}

template <typename Element>
Bytes encode(const Array<Element>& array, const std::string& type) {
    std::string header = "{'descr': '" + type + "', 'fortran_order': False, 'shape': (";
    for (const std::int64_t size : array.shape) header += std::to_string(size) + ", ";
    header += "), }";
    header.resize((prefixBytes + header.size() + 64) / 64 * 64 - prefixBytes,
                  ' ');  // numpy aligns the data to 64 bytes
    header.back() = '\n';
    Bytes content(magic, magic + sizeof magic);
    content.push_back(static_cast<std::uint8_t>(header.size() % 256));
    content.push_back(static_cast<std::uint8_t>(header.size() / 256));
    content.insert(content.end(), header.begin(), header.end());
    const auto* values = reinterpret_cast<const std::uint8_t*>(array.values.data());
    content.insert(content.end(), values, values + array.values.size() * sizeof(Element));
    return content;
}

}  // namespace

Array<float> readFloats(const std::filesystem::path& path, std::size_t axes, std::size_t mostBytes) {
    return read<float>(path, "<f4", axes, mostBytes);
}

Array<std::uint8_t> readUint8(const std::filesystem::path& path, std::size_t axes, std::size_t mostBytes) {
    return read<std::uint8_t>(path, "|u1", axes, mostBytes);
}

Bytes encodeNpy(const Array<float>& array) {
    return encode(array, "<f4");
}

Bytes encodeNpy(const Array<std::uint8_t>& array) {
    return encode(array, "|u1");
}

}  // namespace prunekit
