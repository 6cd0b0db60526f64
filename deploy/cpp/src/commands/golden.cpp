#include "commands/golden.hpp"

#include <cmath>

#include "base/errors.hpp"
#include "base/text.hpp"
#include "commands/labelling.hpp"

namespace prunekit {
namespace {

constexpr std::size_t mostBytes = 1 << 28;  // of all arrays together
// Preprocessing is the same float32 arithmetic everywhere; rounding is all that may differ.
constexpr double mostPreprocessingError = 1e-4;
const char* const remedy =
    "Write it again: python3 -m prunekit_runtime golden model.onnx --contract preprocessing.json";

void checkTogether(const Golden& golden) {
    const std::vector<std::int64_t>&images = golden.images_N3hw.shape, &logits = golden.logits_NKhw.shape;
    if (images[0] != logits[0] || images[1] != 3 || images[2] != logits[2] || images[3] != logits[3]) {
        throw Error("Golden images " + showShape(images) + " and logits " + showShape(logits) +
                    " do not belong together. " + remedy);
    }
    const auto finite = [](const Array<float>& array) {
        return allFinite(array.values.data(), static_cast<std::int64_t>(array.values.size()));
    };
    if (!finite(golden.images_N3hw) || !finite(golden.logits_NKhw)) {
        throw Error(std::string("Golden images or logits hold nan or infinity. ") + remedy);
    }
}

Picture loadPicture(const std::filesystem::path& path, std::size_t most) {
    Array<std::uint8_t> array = readUint8(path, 3, most);
    if (array.shape[2] != 3) throw Error("Golden picture cannot be " + showShape(array.shape) + ". " + remedy);
    return {{array.shape[0], array.shape[1]}, std::move(array.values)};
}

struct Share {
    std::int64_t equal = 0, all = 0;
};

// Compares N images of K x pixels logits; nan must not hide behind a maximum: it stays, and no tolerance accepts it.
Agreement compareLogits(const Array<float>& expected, const float* got) {
    const std::int64_t classes = expected.shape[1], pixels = expected.shape[2] * expected.shape[3];
    double error = 0, largest = 0;
    Share share;
    for (std::int64_t image = 0; image < expected.shape[0]; ++image) {
        for (std::int64_t pixel = 0; pixel < pixels; ++pixel, ++share.all) {
            std::int64_t wanted = 0, found = 0;
            bool finite = true;
            const std::int64_t first = image * classes * pixels + pixel;
            const float* want = expected.values.data() + first;
            const float* have = got + first;
            for (std::int64_t label = 0; label < classes; ++label) {
                const std::int64_t at = label * pixels;
                const double difference = std::abs(static_cast<double>(have[at]) - want[at]);
                if (!(difference <= error)) error = std::isnan(error) ? error : difference;
                largest = std::max(largest, std::abs(static_cast<double>(want[at])));
                if (want[at] > want[wanted * pixels]) wanted = label;
                if (have[at] > have[found * pixels]) found = label;
                finite = finite && std::isfinite(have[at]);
            }
            share.equal += finite && wanted == found;
        }
    }
    return {error, largest, static_cast<double>(share.equal) / static_cast<double>(share.all), std::nullopt};
}

// Of one picture; the expected labels come from the golden logits by the contract.
Agreement compareLabels(const Golden& golden, const Engine& engine, const Result& result, const Contract& contract) {
    const std::vector<std::int64_t>& shape = golden.logits_NKhw.shape;
    const Size size = golden.picture->size;
    if (!(sizeOf(engine, result) == size)) {
        throw Error("The engine gives labels of " + showShape(result.shape) + ", and the golden picture has " +
                    showShape({size.height, size.width}) + " px. Does the golden file belong to this engine?");
    }
    const float* logits_Khw = golden.logits_NKhw.values.data();
    const std::vector<std::uint8_t> expected =
        restoreLabels(contract, logits_Khw, shape[1], {shape[2], shape[3]}, size);
    Share share;
    for (const std::uint8_t label : expected) share.equal += label == result.labels()[share.all++];
    double largest = 0;
    const std::int64_t count = shape[1] * shape[2] * shape[3];
    for (std::int64_t at = 0; at < count; ++at)
        largest = std::max(largest, std::abs(static_cast<double>(logits_Khw[at])));
    return {std::nullopt, largest, static_cast<double>(share.equal) / static_cast<double>(share.all), std::nullopt};
}

std::optional<double> preprocessingError(const Golden& golden, const std::optional<Contract>& contract) {
    if (!contract || !golden.picture) return std::nullopt;
    const std::vector<float> input_3hw = prepare(*contract, *golden.picture);
    const Size size = contract->networkSize(golden.picture->size);
    const std::vector<std::int64_t>& expected = golden.images_N3hw.shape;
    if (!(size == Size{expected[2], expected[3]})) {
        throw Error("The contract gives images of " + showShape({size.height, size.width}) +
                    " px, and the golden ones have " + showShape({expected[2], expected[3]}) + ". " + remedy);
    }
    double error = 0;
    for (std::size_t at = 0; at < input_3hw.size(); ++at) {
        error = std::max(error, std::abs(static_cast<double>(input_3hw[at]) - golden.images_N3hw.values[at]));
    }
    return error;
}

// The golden logits that the engine has to give: of all images, or of the one picture that it takes.
Array<float> expectedLogits(const Golden& golden, const Engine& engine) {
    Array<float> expected = golden.logits_NKhw;
    if (engine.takesPictures()) {
        expected.values.resize(expected.values.size() / static_cast<std::size_t>(expected.shape[0]));
        expected.shape[0] = 1;
    }
    return expected;
}

void requirePicture(const Golden& golden, const Engine& engine, const std::optional<Contract>& contract) {
    if (!engine.takesPictures() && !engine.givesLabels()) return;
    if (!golden.picture) {
        throw Error(std::string("This engine is checked by a picture, and picture.npy is not there. ") + remedy);
    }
    if (engine.givesLabels() && !contract) {
        throw UsageError(
            "Which labels to expect follows from the golden logits by the contract: --contract preprocessing.json");
    }
}

}  // namespace

Golden loadGolden(const std::filesystem::path& folder) {
    if (!std::filesystem::is_directory(folder)) {
        throw Error("Golden folder " + folder.string() +
                    " is none. Unpack the golden file: python3 -m zipfile -e golden.npz "
                    "FOLDER");
    }
    Golden golden{readFloats(folder / "images.npy", 4, mostBytes), {}, std::nullopt};
    std::size_t left = mostBytes - 4 * golden.images_N3hw.values.size();
    golden.logits_NKhw = readFloats(folder / "logits.npy", 4, left);
    left -= 4 * golden.logits_NKhw.values.size();
    checkTogether(golden);
    if (std::filesystem::exists(folder / "picture.npy")) golden.picture = loadPicture(folder / "picture.npy", left);
    return golden;
}

Agreement compare(const Golden& golden, Engine& engine, const std::optional<Contract>& contract) {
    requirePicture(golden, engine, contract);
    const bool onPicture = engine.takesPictures() || engine.givesLabels();
    const Result result = onPicture ? runPicture(engine, contract, *golden.picture)
                                    : engine.run(golden.images_N3hw.values.data(), golden.images_N3hw.shape);
    Agreement agreement{};
    if (engine.givesLabels()) {
        agreement = compareLabels(golden, engine, result, *contract);
    } else {
        const Array<float> expected = expectedLogits(golden, engine);
        if (result.shape != expected.shape) {
            throw Error("The engine gives logits " + showShape(result.shape) + ", expected " +
                        showShape(expected.shape) + ". Does the golden file belong to this engine?");
        }
        agreement = compareLogits(expected, result.logits());
    }
    agreement.preprocessingMaxAbsError = preprocessingError(golden, contract);
    return agreement;
}

bool passes(const Agreement& agreement, double minAgreement) {
    const bool finite = std::isfinite(agreement.maxAbsError.value_or(0));
    const bool sameInput = agreement.preprocessingMaxAbsError.value_or(0) <= mostPreprocessingError;
    return agreement.labelAgreement >= minAgreement && finite && sameInput;
}

}  // namespace prunekit
