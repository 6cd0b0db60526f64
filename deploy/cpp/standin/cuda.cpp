// A stand-in for the CUDA runtime: host memory for the GPU's, the clock for its events. It tests our calls, not CUDA.
#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "failing.hpp"

namespace {

using Clock = std::chrono::steady_clock;

cudaError_t allocate(void** memory, std::size_t bytes, const char* call) {
    *memory = failing(call) ? nullptr : std::malloc(bytes);
    return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t release(void* memory) {
    std::free(memory);
    return cudaSuccess;
}

}  // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
    *count = failing("no GPU") ? 0 : 1;
    return failing("cudaGetDeviceCount") ? cudaErrorInsufficientDriver : cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* prop, int) {
    std::snprintf(prop->name, sizeof prop->name, "stand-in, no GPU");
    return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorMemoryAllocation ? "out of memory" : "CUDA driver version is insufficient";
}

cudaError_t cudaMalloc(void** devPtr, std::size_t size) {
    return allocate(devPtr, size, "cudaMalloc");
}

cudaError_t cudaFree(void* devPtr) {
    return release(devPtr);
}

cudaError_t cudaMallocHost(void** ptr, std::size_t size) {
    return allocate(ptr, size, "cudaMallocHost");
}

cudaError_t cudaFreeHost(void* ptr) {
    return release(ptr);
}

cudaError_t cudaMemcpyAsync(void* dst, const void* src, std::size_t count, cudaMemcpyKind, cudaStream_t) {
    std::memcpy(dst, src, count);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* pStream) {
    *pStream = static_cast<cudaStream_t>(std::malloc(1));
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) {
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    return release(stream);
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
    *event = reinterpret_cast<cudaEvent_t>(static_cast<Clock::time_point*>(std::malloc(sizeof(Clock::time_point))));
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
    const Clock::time_point now = Clock::now();
    std::memcpy(static_cast<void*>(event), &now, sizeof now);
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end) {
    Clock::time_point from, to;
    std::memcpy(&from, static_cast<void*>(start), sizeof from);
    std::memcpy(&to, static_cast<void*>(end), sizeof to);
    *ms = std::chrono::duration<float, std::milli>(to - from).count();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    return release(event);
}

}  // extern "C"
