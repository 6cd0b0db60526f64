#include "commands/options.hpp"

#include <cstdlib>
#include <functional>
#include <map>

#include "base/errors.hpp"
#include "base/text.hpp"

namespace prunekit {

const char* const usage = R"(Checks and measures a TensorRT engine on this machine, or labels pictures.

prunekit_runner check ENGINE --contract preprocessing.json --golden FOLDER
    --golden FOLDER       images.npy, logits.npy and picture.npy, unpacked by
                          python3 -m zipfile -e golden.npz FOLDER
    --min-agreement X     share of equal labels that passes (0.99)

prunekit_runner bench ENGINE [--contract preprocessing.json]
    --warmup N            calls before the clock starts (20)
    --runs N              calls that are timed (200)
    --batch N             images a call (the engine's, else 1)
    --height N --width N  of the engine's input [px] (the engine's, else the
                          contract's)

prunekit_runner run ENGINE --contract preprocessing.json --out FOLDER PICTURE...
    PICTURE               a PNG or JPEG, or a folder of them
    --overwrite           write over label pictures that are there

Reports are JSON on stdout, reasons stand on stderr.
Exit code 0: done; 1: failed; 2: the command line is not understood.
An engine from uint8 pictures to labels holds all steps itself, and run needs
no contract for it.
)";

namespace {

constexpr std::int64_t mostBatch = 4096;

// What was written behind an option.
struct Value {
    std::string name, text;

    std::int64_t whole(std::int64_t low, std::int64_t high) const;
    double share() const;
};

struct Option {
    std::string commands;  // that take it
    std::function<void(Options&, const Value&)> set;
};

std::int64_t Value::whole(std::int64_t low, std::int64_t high) const {
    const bool digits = !text.empty() && text.size() <= 9 && text.find_first_not_of("0123456789") == std::string::npos;
    const std::int64_t number = digits ? std::atoll(text.c_str()) : -1;
    if (number >= low && number <= high) return number;
    const std::string range = std::to_string(low) + " to " + std::to_string(high);
    throw UsageError(name + " takes a whole number from " + range + ", got '" + shortened(text) + "'.");
}

double Value::share() const {
    char* end = nullptr;
    const double number = std::strtod(text.c_str(), &end);
    if (!text.empty() && *end == '\0' && number >= 0 && number <= 1) return number;
    throw UsageError(name + " takes a number from 0 to 1, got '" + shortened(text) + "'.");
}

const std::map<std::string, Option>& valued() {
    static const std::map<std::string, Option> options = {
        {"--contract", {"check bench run", [](Options& to, const Value& got) { to.contract = got.text; }}},
        {"--golden", {"check", [](Options& to, const Value& got) { to.golden = got.text; }}},
        {"--out", {"run", [](Options& to, const Value& got) { to.out = got.text; }}},
        {"--min-agreement", {"check", [](Options& to, const Value& got) { to.minAgreement = got.share(); }}},
        {"--warmup", {"bench", [](Options& to, const Value& got) { to.counts.warmupRuns = got.whole(0, mostRuns); }}},
        {"--runs", {"bench", [](Options& to, const Value& got) { to.counts.runs = got.whole(1, mostRuns); }}},
        {"--batch", {"bench", [](Options& to, const Value& got) { to.counts.batch = got.whole(1, mostBatch); }}},
        {"--height", {"bench", [](Options& to, const Value& got) { to.size.height = got.whole(1, mostSide); }}},
        {"--width", {"bench", [](Options& to, const Value& got) { to.size.width = got.whole(1, mostSide); }}},
    };
    return options;
}

Command commandOf(const std::string& word) {
    if (word == "check") return Command::check;
    if (word == "bench") return Command::bench;
    if (word == "run") return Command::run;
    if (word == "--help" || word == "-h" || word == "help") return Command::help;
    throw UsageError("There is no command '" + shortened(word) + "'. Commands: check, bench, run.");
}

void requireAll(const Options& options) {
    if (options.engine.empty()) throw UsageError("Name the engine: a file that trtexec wrote on this machine.");
    if (options.command == Command::check && !options.golden) {
        throw UsageError("check needs --golden FOLDER. Unpack the file: python3 -m zipfile -e golden.npz FOLDER");
    }
    if (options.command == Command::run && (!options.out || options.pictures.empty())) {
        throw UsageError(
            "run needs --out FOLDER and the pictures to be labelled, PNG or JPEG files or folders of them.");
    }
}

// The value of an option, behind = or in the next word.
std::string valueOf(const std::string& word, const std::vector<std::string>& words, std::size_t& at) {
    const std::size_t equals = word.find('=');
    if (equals != std::string::npos) return word.substr(equals + 1);
    if (at + 1 >= words.size()) throw UsageError(word + " needs a value.");
    return words[++at];
}

void takeOption(Options& options, const std::vector<std::string>& words, std::size_t& at) {
    const std::string& word = words[at];
    const std::string name = word.substr(0, word.find('='));
    if (word == "--overwrite" && options.command == Command::run) {
        options.overwrite = true;
        return;
    }
    const auto found = valued().find(name);
    if (found == valued().end() || found->second.commands.find(words[0]) == std::string::npos) {
        throw UsageError(words[0] + " has no option " + shortened(name) + ".");
    }
    found->second.set(options, {name, valueOf(word, words, at)});
}

}  // namespace

Options parseOptions(const std::vector<std::string>& arguments) {
    if (arguments.empty()) throw UsageError("Name a command: check, bench or run.");
    Options options;
    options.command = commandOf(arguments[0]);
    bool wordsOnly = false;  // after --, a name may begin with a dash
    for (std::size_t at = 1; at < arguments.size() && options.command != Command::help; ++at) {
        const std::string& word = arguments[at];
        if (!wordsOnly && (word == "--help" || word == "-h"))
            options.command = Command::help;
        else if (!wordsOnly && word == "--")
            wordsOnly = true;
        else if (!wordsOnly && word.size() > 1 && word[0] == '-')
            takeOption(options, arguments, at);
        else if (options.engine.empty())
            options.engine = word;
        else if (options.command == Command::run)
            options.pictures.emplace_back(word);
        else
            throw UsageError(arguments[0] + " takes one engine, and got '" + shortened(word) + "' too.");
    }
    if (options.command != Command::help) requireAll(options);
    return options;
}

}  // namespace prunekit
