#include "base/files.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <system_error>

#include "base/errors.hpp"

namespace prunekit {
namespace {

struct Closer {
    void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Closer>;

[[noreturn]] void refuse(const std::string& subject, const std::string& done, int number) {
    throw Error(subject + " cannot be " + done + ": " + std::strerror(number) + ". Check the path.");
}

std::size_t sizeOf(const std::filesystem::path& path, const std::string& subject) {
    std::error_code failure;
    const auto status = std::filesystem::status(path, failure);
    if (!std::filesystem::exists(status)) throw Error(subject + " does not exist. Check the path.");
    if (!std::filesystem::is_regular_file(status)) throw Error(subject + " is no file. Check the path.");
    const auto size = std::filesystem::file_size(path, failure);
    if (failure) refuse(subject, "read", failure.value());
    return static_cast<std::size_t>(size);
}

}  // namespace

Bytes readBounded(const std::filesystem::path& path, std::size_t mostBytes, const std::string& what) {
    const std::string subject = what + " " + path.string();
    const std::size_t size = sizeOf(path, subject);
    const std::string tooLarge = subject + " is larger than the " + std::to_string(mostBytes) + " bytes that are read.";
    if (size > mostBytes) throw Error(tooLarge + " Is it the right file?");
    const File file(std::fopen(path.c_str(), "rb"));
    if (!file) refuse(subject, "read", errno);
    Bytes content(size + 1);  // one more, so that a file that has grown since shows
    const std::size_t got = std::fread(content.data(), 1, content.size(), file.get());
    if (std::ferror(file.get()) != 0) refuse(subject, "read", errno);
    if (got > size) throw Error(subject + " grows while it is read. Try again when it is whole.");
    content.resize(got);
    return content;
}

void writeWhole(const std::filesystem::path& path, const Bytes& content) {
    // A name of its own, made without following links; as short as it can be, whatever the length of `path`.
    std::string temporary = (path.parent_path() / ".writing-XXXXXX").string();
    const int handle = mkstemp(temporary.data());
    if (handle < 0) refuse(path.string(), "written", errno);
    File file(fdopen(handle, "wb"));
    const bool written = file && std::fwrite(content.data(), 1, content.size(), file.get()) == content.size() &&
                         std::fflush(file.get()) == 0 && fchmod(handle, 0644) == 0;
    int number = written ? 0 : errno;
    if (file && std::fclose(file.release()) != 0 && number == 0) number = errno;
    if (number == 0 && std::rename(temporary.c_str(), path.c_str()) != 0) number = errno;
    if (number != 0) {
        unlink(temporary.c_str());
        refuse(path.string(), "written", number);
    }
}

}  // namespace prunekit
