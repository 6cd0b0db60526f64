#include "commands/report.hpp"

#include <iostream>

namespace prunekit {

Report reportOf(const std::filesystem::path& path, const Engine& engine) {
    return {{"model", path.string()},
            {"runner", engine.name()},
            {"gpu", gpuName()},
            {"input", nameOf(engine.input().element)},
            {"output", engine.givesLabels() ? "labels" : "logits"}};
}

Report reportOf(const Latency& latency) {
    return {{"runs", latency.runs},     {"warmup_runs", latency.warmupRuns},
            {"p50_ms", latency.p50_ms}, {"p90_ms", latency.p90_ms},
            {"p99_ms", latency.p99_ms}, {"mean_ms", latency.mean_ms},
            {"std_ms", latency.std_ms}, {"images_per_s", latency.images_per_s},
            {"batch", latency.batch}};
}

void print(const Report& report) {
    // A file's name may be no UTF-8, which is shown as such, not a reason to end without a report.
    std::cout << report.dump(2, ' ', false, Report::error_handler_t::replace) << std::endl;
}

}  // namespace prunekit
