// Reports, as JSON on stdout.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>

#include "base/latency.hpp"
#include "engine/engine.hpp"

namespace prunekit {

using Report = nlohmann::ordered_json;

// What was run, on what.
Report reportOf(const std::filesystem::path& path, const Engine& engine);
Report reportOf(const Latency& latency);

template <typename Value>
Report orNull(const std::optional<Value>& value) {
    return value ? Report(*value) : Report(nullptr);  // a nan becomes null too: JSON has none
}

void print(const Report& report);

}  // namespace prunekit
