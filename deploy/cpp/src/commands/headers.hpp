// What the header of a picture file says, read before a decoder is trusted with it.
#pragma once

#include "base/files.hpp"
#include "contract/contract.hpp"

namespace prunekit {

struct Header {
    Size size;
    bool alpha;  // it may be transparent
};

// Throws Error with a clause to be put after the file's name: neither PNG nor JPEG, damaged, 16 bits, an animation, or
// a PNG with EXIF data, which releases of OpenCV treat in different ways.
Header readHeader(const Bytes& content);

}  // namespace prunekit
