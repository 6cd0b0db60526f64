// A picture through an engine of either kind, to the label of each of its pixels.
#pragma once

#include <optional>

#include "contract/picture.hpp"
#include "engine/engine.hpp"

namespace prunekit {

// Throws UsageError where the engine leaves steps to its caller and there is no contract that says them.
void requireContract(const Engine& engine, const std::optional<Contract>& contract);

// Labels (H, W) of one picture. Throws Error: it does not fit the engine, or the engine failed.
std::vector<std::uint8_t> labelsOf(Engine& engine, const std::optional<Contract>& contract, const Picture& picture);

// What the engine makes of one picture, prepared where the engine does not do that.
Result runPicture(Engine& engine, const std::optional<Contract>& contract, const Picture& picture);

// Height and width of a result: its last two axes, an axis of one behind labels aside.
Size sizeOf(const Engine& engine, const Result& result);

}  // namespace prunekit
