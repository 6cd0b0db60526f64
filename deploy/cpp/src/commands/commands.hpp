// The three commands; each returns the exit code, prints its report, and throws Error.
#pragma once

#include "commands/options.hpp"

namespace prunekit {

int check(const Options& options);
int bench(const Options& options);
int label(const Options& options);

}  // namespace prunekit
