// The command line.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/latency.hpp"
#include "contract/contract.hpp"

namespace prunekit {

enum class Command { help, check, bench, run };

struct Options {
    Command command = Command::help;
    std::filesystem::path engine;
    std::optional<std::filesystem::path> contract, golden, out;
    std::vector<std::filesystem::path> pictures;
    double minAgreement = 0.99;  // fp16 flips pixels on class borders only
    Counts counts{20, 200, 0};   // a batch of 0: the engine's, else 1
    Size size{0, 0};             // of the engine's input; 0: the engine's, else the contract's
    bool overwrite = false;
};

// Throws UsageError where the line says nothing that can be done.
Options parseOptions(const std::vector<std::string>& arguments);

extern const char* const usage;

}  // namespace prunekit
