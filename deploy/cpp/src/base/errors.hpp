// The errors that a user can cause. main() is the one place that catches them.
#pragma once

#include <stdexcept>

namespace prunekit {

// What, got, and what to do, in one message; the program ends with 1.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A command line that says nothing that can be done; the program ends with 2.
struct UsageError : Error {
    using Error::Error;
};

}  // namespace prunekit
