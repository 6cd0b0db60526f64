#include "contract/rules.hpp"

#include "base/errors.hpp"
#include "base/json.hpp"

namespace prunekit {
namespace {

using nlohmann::json;

// The same as RULES in prunekit_runtime/rules.py; a test compares the two, so that a new rule there is missed here.
const json& rules() {
    static const json known = {
        {"picture_channels", "rgb"},
        {"picture_dtype", "uint8"},
        {"picture_orientation", "exif"},
        {"steps", json::array({"channel_order", "resize", "normalize", "pad"})},
        {"resize_aspect", "stretch"},
        {"resize_antialias", false},
        {"resize_align_corners", false},
        {"resize_edges", "repeat"},
        {"resize_rounding", "none"},
        {"normalize", "(value * scale - mean) / std"},
        {"pad_rounding", "up"},
        {"pad_side", "bottom-right"},
        {"pad_value", 0.0},
        {"logits_steps", json::array({"crop", "resize", "argmax"})},
        {"logits_layout", "NKHW"},
        {"logits_crop", "padding"},
        {"logits_resize", "bilinear"},
        {"argmax_ties", "lowest"},
    };
    return known;
}

}  // namespace

bool isRule(const std::string& key) {
    return rules().contains(key);
}

void checkRules(const json& values) {
    for (const auto& rule : rules().items()) {
        const auto found = values.find(rule.key());
        if (found == values.end()) continue;
        require(*found == rule.value(), rule.key(), *found, "This release knows " + showJson(rule.value()) + ".");
    }
}

void require(bool fulfilled, const std::string& name, const json& got, const std::string& remedy) {
    if (!fulfilled) throw Error("Preprocessing contract: " + name + " cannot be " + showJson(got) + ". " + remedy);
}

}  // namespace prunekit
