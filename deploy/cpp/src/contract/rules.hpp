// What a preprocessing contract says besides its numbers: the steps that are done in one way only.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace prunekit {

bool isRule(const std::string& key);

// Throws Error where a rule is there and is another one; a rule that is absent, as in older files, has the known value.
void checkRules(const nlohmann::json& values);

// Throws Error, "Preprocessing contract: NAME cannot be GOT. REMEDY", unless `fulfilled`.
void require(bool fulfilled, const std::string& name, const nlohmann::json& got, const std::string& remedy);

}  // namespace prunekit
