// Whether a call of the stand-in is to fail: PRUNEKIT_STANDIN_FAIL holds its name.
#pragma once

#include <cstdlib>
#include <cstring>

inline bool failing(const char* call) {
    const char* chosen = std::getenv("PRUNEKIT_STANDIN_FAIL");
    return chosen != nullptr && std::strcmp(chosen, call) == 0;
}
