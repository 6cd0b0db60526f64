// The few calls of the CUDA runtime that an engine needs; what is created is freed, and a failed call throws Error.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>

namespace prunekit {

// Throws Error where the driver is missing or too old, or there is no GPU.
void requireGpu();

// As CUDA calls it, such as "Orin".
std::string gpuName();

class Stream {
  public:
    Stream();
    ~Stream();
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    cudaStream_t get() const { return stream_; }
    void copyIn(void* device, const void* host, std::size_t bytes) const;
    void copyOut(void* host, const void* device, std::size_t bytes) const;
    void wait() const;

  private:
    cudaStream_t stream_ = nullptr;
};

class Event {
  public:
    Event();
    ~Event();
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;

    void record(const Stream& stream) const;
    // Both must have happened.
    float millisecondsSince(const Event& start) const;

  private:
    cudaEvent_t event_ = nullptr;
};

// Device memory and page-locked host memory of the same size.
class Buffer {
  public:
    explicit Buffer(std::size_t bytes);
    ~Buffer();
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    std::size_t bytes() const { return bytes_; }
    void* device() const { return device_; }
    void* host() const { return host_; }

  private:
    std::size_t bytes_;
    void* device_ = nullptr;
    void* host_ = nullptr;
};

}  // namespace prunekit
