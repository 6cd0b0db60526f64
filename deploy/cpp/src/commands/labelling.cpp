#include "commands/labelling.hpp"

#include "base/errors.hpp"
#include "base/text.hpp"

namespace prunekit {

void requireContract(const Engine& engine, const std::optional<Contract>& contract) {
    if (contract || (engine.takesPictures() && engine.givesLabels())) return;
    throw UsageError(
        "This engine leaves steps before or after the network to its caller. Say which they are: --contract "
        "preprocessing.json");
}

Size sizeOf(const Engine& engine, const Result& result) {
    std::vector<std::int64_t> shape = result.shape;
    const std::vector<std::int64_t>& declared = engine.output().shape;  // which tells a picture of one row from one axis
    const bool channelsLast = engine.givesLabels() && shape.size() == 4 && declared[3] == 1 && declared[1] != 1;
    if (channelsLast) shape.pop_back();
    return {shape[shape.size() - 2], shape.back()};
}

Result runPicture(Engine& engine, const std::optional<Contract>& contract, const Picture& picture) {
    if (engine.takesPictures()) {
        return engine.run(picture.rgb_HW3.data(), {1, picture.size.height, picture.size.width, 3});
    }
    const std::vector<float> input_3hw = prepare(*contract, picture);
    const Size network = contract->networkSize(picture.size);
    return engine.run(input_3hw.data(), {1, 3, network.height, network.width});
}

std::vector<std::uint8_t> labelsOf(Engine& engine, const std::optional<Contract>& contract, const Picture& picture) {
    const Result result = runPicture(engine, contract, picture);
    const Size size = sizeOf(engine, result);
    if (!engine.givesLabels()) return restoreLabels(*contract, result.logits(), result.shape[1], size, picture.size);
    if (size == picture.size) return {result.labels(), result.labels() + size.pixels()};
    throw Error("The engine gives labels of " + showShape(result.shape) + " for a picture of " +
                showShape({picture.size.height, picture.size.width}) +
                " px: it does not bring them to the picture's size. Export it with prunekit.");
}

}  // namespace prunekit
