// Who built an engine file: its first 28 bytes tell.
#pragma once

#include <string>

#include "base/files.hpp"

namespace prunekit {

// The version that built it, such as 10.3.0.26. Throws Error where the bytes are no engine of TensorRT.
std::string planVersion(const Bytes& content, const std::string& name);

}  // namespace prunekit
