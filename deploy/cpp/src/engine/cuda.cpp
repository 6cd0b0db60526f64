#include "engine/cuda.hpp"

#include "base/errors.hpp"

namespace prunekit {
namespace {

void check(cudaError_t status, const char* call) {
    if (status == cudaSuccess) return;
    const std::string number = std::to_string(static_cast<int>(status));
    throw Error(std::string("CUDA: ") + call + " failed with " + number + ": " + cudaGetErrorString(status) + ".");
}

}  // namespace

void requireGpu() {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaSuccess && count > 0) return;
    const std::string reason = status == cudaSuccess ? "CUDA counts none" : cudaGetErrorString(status);
    throw Error("No usable NVIDIA GPU: " + reason +
                ". Run nvidia-smi (on a Jetson: tegrastats) to see whether the driver works.");
}

std::string gpuName() {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
    return properties.name;
}

Stream::Stream() {
    check(cudaStreamCreate(&stream_), "cudaStreamCreate");
}

Stream::~Stream() {
    cudaStreamDestroy(stream_);
}

void Stream::copyIn(void* device, const void* host, std::size_t bytes) const {
    check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream_), "cudaMemcpyAsync");
}

void Stream::copyOut(void* host, const void* device, std::size_t bytes) const {
    check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_), "cudaMemcpyAsync");
}

void Stream::wait() const {
    check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
}

Event::Event() {
    check(cudaEventCreate(&event_), "cudaEventCreate");
}

Event::~Event() {
    cudaEventDestroy(event_);
}

void Event::record(const Stream& stream) const {
    check(cudaEventRecord(event_, stream.get()), "cudaEventRecord");
}

float Event::millisecondsSince(const Event& start) const {
    float elapsed_ms = 0;
    check(cudaEventElapsedTime(&elapsed_ms, start.event_, event_), "cudaEventElapsedTime");
    return elapsed_ms;
}

Buffer::Buffer(std::size_t bytes) : bytes_(bytes) {
    check(cudaMalloc(&device_, bytes), "cudaMalloc");
    const cudaError_t status = cudaMallocHost(&host_, bytes);
    if (status != cudaSuccess) cudaFree(device_);
    check(status, "cudaMallocHost");
}

Buffer::~Buffer() {
    cudaFree(device_);
    cudaFreeHost(host_);
}

}  // namespace prunekit
