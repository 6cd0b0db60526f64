#include "base/json.hpp"

#include <algorithm>

#include "base/errors.hpp"
#include "base/text.hpp"

namespace prunekit {
namespace {

using nlohmann::json;

constexpr int mostDepth = 32;

// Level by level, not by recursion: the depth is what is not known to be small.
void checkDepth(const json& value) {
    std::vector<const json*> level{&value};
    for (int depth = 0; depth <= mostDepth; ++depth) {
        std::vector<const json*> below;
        for (const json* node : level) {
            for (const json& child : *node) {
                if (child.is_structured()) below.push_back(&child);
            }
        }
        if (below.empty()) return;
        level = std::move(below);
    }
    throw Error("it is nested deeper than " + std::to_string(mostDepth) + " levels");
}

}  // namespace

json parseJson(const Bytes& content) {
    // The library takes a zero byte for the end, and skips a byte-order mark; JSON knows neither.
    const bool zero = std::find(content.begin(), content.end(), 0) != content.end();
    const bool marked = content.size() >= 3 && content[0] == 0xEF && content[1] == 0xBB && content[2] == 0xBF;
    if (zero || marked) throw Error(zero ? "it holds a zero byte" : "it begins with a byte-order mark");
    json value;
    try {
        value = json::parse(content.begin(), content.end());
    } catch (const json::exception& error) {
        throw Error(shortened(error.what(), 200));
    }
    if (value.is_structured()) checkDepth(value);
    return value;
}

std::string showJson(const json& value) {
    return shortened(value.dump(-1, ' ', false, json::error_handler_t::replace));
}

}  // namespace prunekit
