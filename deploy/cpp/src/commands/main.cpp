// prunekit_runner: checks and measures a TensorRT engine, or labels pictures with it.
#include <iostream>
#include <new>

#include "base/errors.hpp"
#include "base/text.hpp"
#include "commands/commands.hpp"

namespace {

using namespace prunekit;

int run(const std::vector<std::string>& arguments) {
    const Options options = parseOptions(arguments);
    switch (options.command) {
        case Command::check:
            return check(options);
        case Command::bench:
            return bench(options);
        case Command::run:
            return label(options);
        case Command::help:
            break;
    }
    std::cout << usage;
    return 0;
}

int complain(const std::string& message, int code) {
    std::cerr << printable(message) << std::endl;
    return code;
}

}  // namespace

int main(int count, char** words) {
    try {
        return run(std::vector<std::string>(words + 1, words + count));
    } catch (const UsageError& error) {
        return complain(std::string(error.what()) + " See prunekit_runner --help", 2);
    } catch (const Error& error) {
        return complain(error.what(), 1);
    } catch (const std::bad_alloc&) {
        return complain("There is not enough memory. Use smaller pictures, or close other programs.", 1);
    } catch (const std::exception& error) {  // the file system's own errors, most of all
        return complain(std::string("Not done: ") + error.what() + ".", 1);
    }
}
