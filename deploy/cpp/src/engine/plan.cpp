#include "engine/plan.hpp"

#include <cstring>

#include "base/errors.hpp"

namespace prunekit {
namespace {

constexpr std::size_t headerBytes = 28;
constexpr std::size_t versionAt = 24;  // major, minor, patch, build: what trtexec --getPlanVersionOnly shows

}  // namespace

std::string planVersion(const Bytes& content, const std::string& name) {
    if (content.size() < headerBytes) {
        throw Error("Engine " + name + " is cut short: it has " + std::to_string(content.size()) +
                    " bytes, its header alone 28. Build it again.");
    }
    if (std::memcmp(content.data(), "vtrt", 4) == 0) {
        throw Error("Engine " + name +
                    " is one of TensorRT-RTX, and this runner is built for TensorRT. Build the engine "
                    "with trtexec on this machine.");
    }
    if (std::memcmp(content.data(), "ftrt", 4) != 0) {
        throw Error(name +
                    " is no TensorRT engine: it does not begin with 'ftrt'. Build one with trtexec on this machine.");
    }
    std::string version;
    for (std::size_t at = versionAt; at < headerBytes; ++at) {
        version += (version.empty() ? "" : ".") + std::to_string(content[at]);
    }
    return version;
}

}  // namespace prunekit
