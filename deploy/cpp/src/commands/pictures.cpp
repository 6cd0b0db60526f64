#include "commands/pictures.hpp"

#include <opencv2/imgcodecs.hpp>

#include "base/errors.hpp"
#include "commands/headers.hpp"

namespace prunekit {
namespace {

constexpr std::size_t mostPictureBytes = std::size_t{1} << 29;
const char* const damaged = "is damaged or cut off. Replace the file.";

cv::Mat decoded(const Bytes& content, int how) {
    cv::Mat picture;
    try {
        picture = cv::imdecode(content, how);
    } catch (const cv::Exception&) {  // it has said why on stderr
    }
    if (picture.empty() || picture.depth() != CV_8U) throw Error(damaged);
    return picture;
}

// Decoded with its alpha, and refused unless that is opaque everywhere.
cv::Mat opaque(const Bytes& content) {
    const cv::Mat picture = decoded(content, cv::IMREAD_UNCHANGED);
    bool transparent = picture.channels() != 4;  // promised, and not found: not known to be opaque
    for (int row = 0; row < picture.rows && !transparent; ++row) {
        const std::uint8_t* bgra = picture.ptr<std::uint8_t>(row);
        for (int column = 0; column < picture.cols; ++column) transparent = transparent || bgra[4 * column + 3] != 255;
    }
    if (transparent) {
        throw Error(
            "is transparent in places, and what lies behind is not known. Put it on a background and convert it to "
            "8-bit RGB.");
    }
    return picture;
}

Picture fromBgr(const cv::Mat& picture) {
    const auto channels = static_cast<std::size_t>(picture.channels());
    if (channels != 3 && channels != 4) throw Error(damaged);
    Picture result{{picture.rows, picture.cols}, {}};
    result.rgb_HW3.reserve(static_cast<std::size_t>(3 * result.size.pixels()));
    for (int row = 0; row < picture.rows; ++row) {
        const std::uint8_t* bgr = picture.ptr<std::uint8_t>(row);
        for (int column = 0; column < picture.cols; ++column, bgr += channels) {
            result.rgb_HW3.insert(result.rgb_HW3.end(), {bgr[2], bgr[1], bgr[0]});
        }
    }
    return result;
}

Picture decode(const Bytes& content) {
    // Before a decoder takes memory for it, or gives 8 bits of 16 and drops the alpha without a word.
    const Header header = readHeader(content);
    if (header.size.pixels() > mostPixels) {
        throw Error("has " + std::to_string(header.size.width) + "x" + std::to_string(header.size.height) +
                    " pixels, and up to " + std::to_string(mostPixels) + " are read. Cut or shrink it.");
    }
    const Picture picture = fromBgr(header.alpha ? opaque(content) : decoded(content, cv::IMREAD_COLOR));
    return picture;
}

}  // namespace

Picture readPicture(const std::filesystem::path& path) {
    const Bytes content = readBounded(path, mostPictureBytes, "Picture");
    try {
        return decode(content);
    } catch (const Error& error) {
        throw Error(path.string() + " " + error.what());
    }
}

Bytes encodeLabels(const std::vector<std::uint8_t>& labels_HW, Size size) {
    const cv::Mat labels(static_cast<int>(size.height), static_cast<int>(size.width), CV_8UC1,
                         const_cast<std::uint8_t*>(labels_HW.data()));  // only read
    Bytes content;
    cv::imencode(".png", labels, content);
    return content;
}

}  // namespace prunekit
