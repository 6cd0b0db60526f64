// Runs the contract code for tests/runtime/cpp: one job a line on stdin, one line a job on stdout.
#include <cstdio>
#include <exception>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>

#include "base/errors.hpp"
#include "base/json.hpp"
#include "base/latency.hpp"
#include "base/npy.hpp"
#include "base/text.hpp"
#include "contract/contract.hpp"
#include "contract/picture.hpp"

namespace {

using namespace prunekit;
using nlohmann::json;

constexpr std::size_t mostBytes = 1 << 28;

json contractJob(std::istream& words) {
    std::string path;
    words >> path;
    const Contract contract = readContract(path);
    return {{"height", contract.size.height},
            {"width", contract.size.width},
            {"bgr", contract.bgr},
            {"scale", contract.scale},
            {"mean", contract.mean},
            {"std", contract.std},
            {"pad_multiple", contract.padMultiple}};
}

json prepareJob(std::istream& words) {
    std::string contractPath, picturePath, out;
    words >> contractPath >> picturePath >> out;
    const Contract contract = readContract(contractPath);
    const Array<std::uint8_t> array = readUint8(picturePath, 3, mostBytes);
    const Picture picture{{array.shape[0], array.shape[1]}, array.values};
    const Array<float> input{
        {1, 3, contract.networkSize(picture.size).height, contract.networkSize(picture.size).width},
        prepare(contract, picture)};
    writeWhole(out, encodeNpy(input));
    return input.shape;
}

json labelsJob(std::istream& words) {
    std::string contractPath, logitsPath, out;
    Size picture{};
    words >> contractPath >> logitsPath >> picture.height >> picture.width >> out;
    const Array<float> logits = readFloats(logitsPath, 4, mostBytes);
    const Size network{logits.shape[2], logits.shape[3]};
    const Contract contract = readContract(contractPath);
    const Array<std::uint8_t> labels{{picture.height, picture.width},
                                     restoreLabels(contract, logits.values.data(), logits.shape[1], network, picture)};
    writeWhole(out, encodeNpy(labels));
    return labels.shape;
}

json npyJob(std::istream& words) {
    std::string path;
    std::size_t axes = 0;
    words >> path >> axes;
    return readFloats(path, axes, mostBytes).shape;
}

json latencyJob(std::istream& words) {
    const std::vector<double> samples_ms{std::istream_iterator<double>(words), {}};
    const Latency latency = summarise(samples_ms, {0, static_cast<std::int64_t>(samples_ms.size()), 1});
    return {latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.mean_ms, latency.std_ms, latency.images_per_s};
}

json textJob(std::istream& words) {
    std::string path;
    words >> path;
    const Bytes content = readBounded(path, mostBytes, "Text");
    return printable(std::string(content.begin(), content.end()));
}

json run(const std::string& line) {
    std::istringstream words(line);
    std::string job;
    words >> job;
    if (job == "contract") return contractJob(words);
    if (job == "prepare") return prepareJob(words);
    if (job == "labels") return labelsJob(words);
    if (job == "npy") return npyJob(words);
    if (job == "latency") return latencyJob(words);
    if (job == "text") return textJob(words);
    throw UsageError("Unknown job " + job + ".");
}

}  // namespace

int main() {
    std::string line;
    while (std::getline(std::cin, line)) {
        json answer;
        try {
            answer = {{"ok", run(line)}};
        } catch (const Error& error) {
            answer = {{"refused", printable(error.what())}};
        } catch (const std::exception& error) {
            std::fprintf(stderr, "%s: %s\n", line.c_str(), error.what());
            return 1;
        }
        std::printf("%s\n", answer.dump().c_str());
    }
    return 0;
}
