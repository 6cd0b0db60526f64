#include <functional>
#include <random>

#include "base/errors.hpp"
#include "base/files.hpp"
#include "base/text.hpp"
#include "commands/commands.hpp"
#include "commands/labelling.hpp"
#include "commands/report.hpp"
#include "contract/picture.hpp"
#include "engine/tensors.hpp"

namespace prunekit {
namespace {

using Shape = std::vector<std::int64_t>;

// The first that is known of what was asked for, the engine's own and the contract's.
std::int64_t chosen(std::int64_t asked, std::int64_t own, std::int64_t contract) {
    return asked > 0 ? asked : own > 0 ? own : contract;
}

Shape inputShape(const Options& options, const Engine& engine, const std::optional<Contract>& contract) {
    const Shape& own = engine.input().shape;
    const bool pictures = engine.takesPictures();
    const std::size_t rows = pictures ? 1 : 2;
    Size known{0, 0};
    if (contract && contract->size.height > 0) {
        known = pictures ? contract->size : contract->networkSize(contract->size);
    }
    const std::int64_t batch = chosen(options.counts.batch, own[0], 1);
    const Size size{chosen(options.size.height, own[rows], known.height),
                    chosen(options.size.width, own[rows + 1], known.width)};
    const Shape shape = pictures ? Shape{batch, size.height, size.width, 3} : Shape{batch, 3, size.height, size.width};
    if (size.height > 0 && size.width > 0) return shape;
    throw UsageError("The engine takes " + showShape(own) + ". Say which size to measure: --height and --width.");
}

// Noise, the same each time: flat input would let a GPU look faster and cooler than it is.
Bytes noise(const Shape& shape, Element element) {
    std::size_t count = 1;
    for (const std::int64_t size : shape) count *= static_cast<std::size_t>(size);
    std::mt19937 generator(0);
    Bytes values(count * (element == Element::float32 ? sizeof(float) : 1));
    if (element == Element::uint8) {
        for (std::uint8_t& value : values) value = static_cast<std::uint8_t>(generator());
        return values;
    }
    auto* floats = reinterpret_cast<float*>(values.data());  // operator new aligns for any type
    for (std::size_t at = 0; at < count; ++at) floats[at] = static_cast<float>(generator()) / 1073741824.0f - 2.0f;
    return values;
}

void checkFinite(const Engine& engine, const Result& result) {
    if (engine.givesLabels()) return;
    std::int64_t count = 1;
    for (const std::int64_t size : result.shape) count *= size;
    if (!allFinite(result.logits(), count)) {
        throw Error(
            "The engine gives logits that are not finite (nan or infinity), and no latency of it means anything. Its "
            "weights are damaged, or it overflows in fp16: export fp32.");
    }
}

Report measured(const std::function<void()>& run, Counts counts) {
    return reportOf(summarise(measure_ms(run, counts), counts));
}

// What the caller does on the CPU before and after an engine that leaves it to him.
void addCpuSteps(Report& report, const Engine& engine, const Contract& contract, const Result& result, Counts counts) {
    counts.batch = 1;
    const Size size = sizeOf(engine, result);
    const Size picture = contract.size.height > 0 ? contract.size : size;
    if (!engine.takesPictures()) {
        const Picture synthetic{picture, noise({picture.height, picture.width, 3}, Element::uint8)};
        report["preprocessing"] = measured([&] { prepare(contract, synthetic); }, counts);
    }
    if (!engine.givesLabels() && contract.networkSize(picture) == size) {
        const float* logits_Khw = result.logits();
        report["labels"] =
            measured([&] { restoreLabels(contract, logits_Khw, result.shape[1], size, picture); }, counts);
    }
    report["picture"] = {picture.height, picture.width};
}

}  // namespace

int bench(const Options& options) {
    std::optional<Contract> contract;
    if (options.contract) contract = readContract(*options.contract);
    Engine engine(options.engine);
    const Shape shape = inputShape(options, engine, contract);
    bytesOf(shape, engine.input().element, options.engine.string());  // refused before memory is taken for it
    const Bytes input = noise(shape, engine.input().element);
    Counts counts = options.counts;
    counts.batch = shape[0];
    Result result = engine.run(input.data(), shape);
    checkFinite(engine, result);
    std::vector<double> compute_ms;
    const auto run = [&] {
        result = engine.run(input.data(), shape);
        compute_ms.push_back(static_cast<double>(engine.lastCompute_ms()));
    };
    Report report = reportOf(options.engine, engine);
    report["input_shape"] = shape;
    report["latency"] = measured(run, counts);
    compute_ms.erase(compute_ms.begin(), compute_ms.begin() + counts.warmupRuns);
    report["compute"] = reportOf(summarise(compute_ms, counts));
    if (contract) addCpuSteps(report, engine, *contract, result, counts);
    print(report);
    return 0;
}

}  // namespace prunekit
