#include "contract/contract.hpp"

#include <cmath>

#include "base/errors.hpp"
#include "base/json.hpp"
#include "contract/rules.hpp"

namespace prunekit {
namespace {

using nlohmann::json;

constexpr std::size_t mostContractBytes = 1 << 16;
constexpr int formatVersion = 1;
constexpr double largestNumber = 1e6;  // keeps float32 arithmetic finite
constexpr double smallestStd = 1e-6;
const char* const remedy = "Export the model again.";
const char* const fields[] = {"version", "height", "width",  "resize",       "channel_order", "scale",
                              "mean",    "std",    "layout", "pad_multiple", "dtype"};

std::int64_t paddedSide(std::int64_t side, std::int64_t multiple) {
    return (side + multiple - 1) / multiple * multiple;
}

bool isNumber(const json& value) {
    return value.is_number() && std::abs(value.get<double>()) <= largestNumber;
}

bool isField(const std::string& key) {
    for (const char* field : fields) {
        if (key == field) return true;
    }
    return false;
}

void checkKeys(const json& values) {
    if (!values.is_object()) {
        throw Error(std::string("A preprocessing contract is a JSON object, got ") + values.type_name() + ".");
    }
    for (const auto& item : values.items()) {
        if (!isField(item.key()) && !isRule(item.key())) {
            throw Error("Preprocessing contract: unknown key " + showJson(item.key()) + ". " + remedy);
        }
    }
    for (const char* field : fields) {
        if (!values.contains(field)) {
            throw Error(std::string("Preprocessing contract: missing key ") + field + ". " + remedy);
        }
    }
}

void checkVersion(const json& version) {
    // Python takes true for 1, and so must whoever answers as it does.
    require(version == formatVersion || version == true, "version", version, "This release reads 1.");
}

std::string oneOf(const json& values, const char* name, std::initializer_list<const char*> known) {
    std::string listed;
    for (const char* choice : known) {
        if (values.at(name) == choice) return choice;
        listed += (listed.empty() ? "" : ", ") + std::string(choice);
    }
    require(false, name, values.at(name), "Known: " + listed + ".");
    return "";
}

std::int64_t wholeNumber(const json& values, const char* name, std::int64_t low) {
    const json& value = values.at(name);
    // Above 63 bits a number is unsigned, and comes out negative: below `low` too.
    const std::int64_t number = value.is_number_integer() ? value.get<std::int64_t>() : -1;
    const std::string range = std::to_string(low) + " to " + std::to_string(mostSide);
    require(number >= low && number <= mostSide, name, value, "Write a whole number from " + range + ".");
    return number;
}

std::array<double, 3> threeNumbers(const json& values, const char* name) {
    const json& list = values.at(name);
    const bool fits =
        list.is_array() && list.size() == 3 && isNumber(list[0]) && isNumber(list[1]) && isNumber(list[2]);
    require(fits, name, list, "Write a list of three finite numbers.");
    return {list[0].get<double>(), list[1].get<double>(), list[2].get<double>()};
}

void checkSizes(const Contract& contract) {
    const json sides = {contract.size.height, contract.size.width};
    const bool both = (contract.size.height == 0) == (contract.size.width == 0);
    require(both, "height, width", sides, "Give both, or 0 and 0 to keep the picture's size.");
    const Size padded = contract.networkSize(contract.size);
    const std::string most = "At most " + std::to_string(mostPixels) + " px are allowed.";
    require(padded.pixels() <= mostPixels, "the padded size", {padded.height, padded.width}, most);
}

}  // namespace

Size Contract::resizedSize(Size picture) const {
    return size.height > 0 ? size : picture;
}

Size Contract::networkSize(Size picture) const {
    const Size resized = resizedSize(picture);
    return {paddedSide(resized.height, padMultiple), paddedSide(resized.width, padMultiple)};
}

void Contract::checkSize(Size picture) const {
    const bool sides =
        picture.height >= 1 && picture.width >= 1 && picture.height <= mostSide && picture.width <= mostSide;
    if (sides && picture.pixels() <= mostPixels && networkSize(picture).pixels() <= mostPixels) return;
    throw Error(std::to_string(picture.height) + " x " + std::to_string(picture.width) +
                " px cannot be prepared: sides of 1 to " + std::to_string(mostSide) + ", and at most " +
                std::to_string(mostPixels) + " px with padding. Shrink it.");
}

Contract parseContract(const json& values) {
    checkKeys(values);
    checkVersion(values.at("version"));
    checkRules(values);
    oneOf(values, "resize", {"bilinear"});
    oneOf(values, "layout", {"NCHW"});
    oneOf(values, "dtype", {"float32"});
    Contract contract{};
    contract.bgr = oneOf(values, "channel_order", {"rgb", "bgr"}) == "bgr";
    contract.size = {wholeNumber(values, "height", 0), wholeNumber(values, "width", 0)};
    contract.padMultiple = wholeNumber(values, "pad_multiple", 1);
    checkSizes(contract);
    const json& scale = values.at("scale");
    require(isNumber(scale) && scale.get<double>() > 0, "scale", scale, "Write 1/255 for pixels in [0, 1].");
    contract.scale = scale.get<double>();
    contract.mean = threeNumbers(values, "mean");
    contract.std = threeNumbers(values, "std");
    for (const double deviation : contract.std) {
        require(deviation >= smallestStd, "std", values.at("std"), "Each must be above 1e-6.");
    }
    return contract;
}

Contract readContract(const std::filesystem::path& path) {
    const Bytes content = readBounded(path, mostContractBytes, "Preprocessing contract");
    json values;
    try {
        values = parseJson(content);
    } catch (const Error& error) {
        throw Error("Preprocessing contract " + path.string() + " is no JSON: " + error.what() + ". " + remedy);
    }
    return parseContract(values);
}

}  // namespace prunekit
