#include <algorithm>
#include <iostream>
#include <map>

#include "base/errors.hpp"
#include "base/text.hpp"
#include "commands/commands.hpp"
#include "commands/labelling.hpp"
#include "commands/pictures.hpp"
#include "commands/report.hpp"

namespace prunekit {
namespace {

using Path = std::filesystem::path;

bool isPictureName(const Path& path) {
    std::string suffix = path.extension().string();
    std::transform(suffix.begin(), suffix.end(), suffix.begin(), [](char letter) {
        return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + 32) : letter;
    });
    return suffix == ".png" || suffix == ".jpg" || suffix == ".jpeg";
}

std::vector<Path> picturesIn(const Path& folder) {
    std::vector<Path> found;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        const bool hidden = entry.path().filename().string().front() == '.';
        if (!hidden && isPictureName(entry.path()) && entry.is_regular_file()) found.push_back(entry.path());
    }
    if (found.empty()) {
        throw Error(folder.string() + " holds no PNG or JPEG files. Name another folder, or the pictures.");
    }
    std::sort(found.begin(), found.end());
    return found;
}

// Files as they were named, folders replaced by their pictures in the order of their names.
std::vector<Path> findPictures(const std::vector<Path>& named) {
    std::vector<Path> pictures;
    for (const Path& path : named) {
        if (!std::filesystem::exists(path)) {
            throw Error(path.string() + " does not exist. Name pictures, or folders of them.");
        }
        const std::vector<Path> found =
            std::filesystem::is_directory(path) ? picturesIn(path) : std::vector<Path>{path};
        pictures.insert(pictures.end(), found.begin(), found.end());
    }
    return pictures;
}

// Where the labels of each picture go, known to be free before the first is written.
std::vector<Path> targetsOf(const std::vector<Path>& pictures, const Options& options) {
    std::map<Path, Path> taken;
    std::vector<Path> targets;
    for (const Path& picture : pictures) {
        const Path target = *options.out / (picture.stem().string() + ".png");
        const auto [other, fresh] = taken.emplace(target, picture);
        if (!fresh) {
            throw Error(other->second.string() + " and " + picture.string() + " would both become " + target.string() +
                        ". Label them into two folders.");
        }
        targets.push_back(target);
    }
    for (const Path& target : targets) {
        if (!std::filesystem::exists(std::filesystem::symlink_status(target))) continue;
        const auto same = [&target](const Path& picture) {
            std::error_code failure;
            return std::filesystem::equivalent(picture, target, failure);
        };
        if (std::any_of(pictures.begin(), pictures.end(), same)) {
            throw Error(target.string() +
                        " is one of the pictures, and would be overwritten. Name another folder: --out");
        }
        if (!options.overwrite) {
            throw Error(target.string() + " is there already. Name another folder, or add --overwrite.");
        }
    }
    return targets;
}

}  // namespace

int label(const Options& options) {
    std::optional<Contract> contract;
    if (options.contract) contract = readContract(*options.contract);
    const std::vector<Path> pictures = findPictures(options.pictures), targets = targetsOf(pictures, options);
    Engine engine(options.engine);
    requireContract(engine, contract);
    std::filesystem::create_directories(*options.out);
    Report failed = Report::array();
    for (std::size_t number = 0; number < pictures.size(); ++number) {
        try {
            const Picture picture = readPicture(pictures[number]);
            writeWhole(targets[number], encodeLabels(labelsOf(engine, contract, picture), picture.size));
        } catch (const Error& error) {  // one bad picture stops no other
            failed.push_back({{"picture", pictures[number].string()}, {"reason", error.what()}});
            std::cerr << printable("No result: " + pictures[number].string() + ": " + error.what()) << std::endl;
        }
    }
    Report report = reportOf(options.engine, engine);
    report["out"] = options.out->string();
    report["written"] = pictures.size() - failed.size();
    report["failed"] = failed;
    print(report);
    return failed.empty() ? 0 : 1;
}

}  // namespace prunekit
