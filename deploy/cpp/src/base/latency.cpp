#include "base/latency.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/errors.hpp"

namespace prunekit {
namespace {

double percentile(const std::vector<double>& sorted, double share) {
    const double place = share * static_cast<double>(sorted.size() - 1);
    const auto low = static_cast<std::size_t>(place);
    const std::size_t high = std::min(low + 1, sorted.size() - 1);
    return sorted[low] + (sorted[high] - sorted[low]) * (place - static_cast<double>(low));
}

}  // namespace

Latency summarise(std::vector<double> samples_ms, Counts counts) {
    if (samples_ms.empty() || counts.batch < 1) throw Error("A latency needs at least 1 run of at least 1 image.");
    std::sort(samples_ms.begin(), samples_ms.end());
    const auto number = static_cast<double>(samples_ms.size());
    double sum_ms = 0, squares = 0;
    for (const double sample_ms : samples_ms) sum_ms += sample_ms;
    const double mean_ms = sum_ms / number;
    for (const double sample_ms : samples_ms) squares += (sample_ms - mean_ms) * (sample_ms - mean_ms);
    Latency latency{};
    latency.runs = static_cast<std::int64_t>(samples_ms.size());
    latency.warmupRuns = counts.warmupRuns;
    latency.batch = counts.batch;
    latency.p50_ms = percentile(samples_ms, 0.5);
    latency.p90_ms = percentile(samples_ms, 0.9);
    latency.p99_ms = percentile(samples_ms, 0.99);
    latency.mean_ms = mean_ms;
    latency.std_ms = std::sqrt(squares / number);
    latency.images_per_s =
        static_cast<double>(counts.batch) * 1e3 / std::max(mean_ms, 1e-6);  // a call may take 0 ticks
    return latency;
}

std::vector<double> measure_ms(const std::function<void()>& run, Counts counts) {
    using Clock = std::chrono::steady_clock;
    std::vector<double> samples_ms;
    for (std::int64_t number = 0; number < counts.warmupRuns + counts.runs; ++number) {
        const Clock::time_point start = Clock::now();
        run();
        const std::chrono::duration<double, std::milli> spent_ms = Clock::now() - start;
        if (number >= counts.warmupRuns) samples_ms.push_back(spent_ms.count());
    }
    return samples_ms;
}

}  // namespace prunekit
