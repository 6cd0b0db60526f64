// Percentiles of latencies: every sample kept, numbers as numpy gives them.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace prunekit {

constexpr std::int64_t mostRuns = 1000000;  // every sample is kept

struct Latency {
    std::int64_t runs, warmupRuns, batch;
    double p50_ms, p90_ms, p99_ms, mean_ms, std_ms;
    double images_per_s;  // batch / mean: what a loop of such calls gets through
};

struct Counts {
    std::int64_t warmupRuns, runs, batch;
};

// Percentiles lie between two samples where they must (linear). Throws Error where there is no sample.
Latency summarise(std::vector<double> samples_ms, Counts counts);

// Wall time of each call, those of the warm-up left out; `run` must return only when its result is there.
std::vector<double> measure_ms(const std::function<void()>& run, Counts counts);

}  // namespace prunekit
