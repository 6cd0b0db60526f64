// JSON of unknown origin, within bounds: size and depth. Everything that is read as JSON passes here.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/files.hpp"

namespace prunekit {

// Throws Error with a reason to be put after the file's name: no JSON in UTF-8, or nested deeper than 32 levels.
nlohmann::json parseJson(const Bytes& content);

// A value as messages show it, at most 100 bytes; strings that are no UTF-8 do no harm.
std::string showJson(const nlohmann::json& value);

}  // namespace prunekit
