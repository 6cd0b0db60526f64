// A TensorRT engine: one picture tensor in, logits or labels out. One stream, pinned memory, events round the kernels.
//
// N images of a batch, H W a picture's size, h w the network's, K classes.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/cuda.hpp"

static_assert(NV_TENSORRT_MAJOR >= 10, "TensorRT 10 or newer: JetPack 6.1 or newer");

namespace prunekit {

enum class Element { float32, uint8 };

struct Tensor {
    std::string name;
    Element element;
    std::vector<std::int64_t> shape;  // -1 where any size is taken
};

const char* nameOf(Element element);

// What a run gave; valid until the next run.
struct Result {
    std::vector<std::int64_t> shape;  // logits (N, K, h, w), or labels (N, H, W), perhaps with an axis of one
    const void* data;

    const float* logits() const { return static_cast<const float*>(data); }
    const std::uint8_t* labels() const { return static_cast<const std::uint8_t*>(data); }
};

// Keeps TensorRT's errors: it reports the reason of a failure nowhere else.
class ErrorLog : public nvinfer1::ILogger {
  public:
    void log(Severity severity, const char* message) noexcept override;
    std::string reason() const;

  private:
    std::string last_;
};

class Engine {
  public:
    // Throws Error: the file is no engine, was built for another version, or has no picture in and labels or logits
    // out.
    explicit Engine(const std::filesystem::path& path);

    // float32 (N, 3, h, w), prepared; or uint8 (N, H, W, 3), RGB as decoded.
    const Tensor& input() const { return input_; }
    // float32 logits or uint8 labels.
    const Tensor& output() const { return output_; }
    bool takesPictures() const { return input_.element == Element::uint8; }
    bool givesLabels() const { return output_.element == Element::uint8; }
    // Such as "tensorrt 10.3.0".
    std::string name() const;

    // Copies in, computes, copies out and waits. Throws Error: the shape does not fit, or TensorRT failed.
    Result run(const void* input, const std::vector<std::int64_t>& shape);
    // The GPU's own time of the last run, without copies.
    float lastCompute_ms() const { return lastCompute_ms_; }

  private:
    void readTensors();
    void chooseTensors(const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs);
    Tensor describe(const char* name) const;
    void setShape(const std::vector<std::int64_t>& shape);
    Buffer& bind(const std::string& name, std::size_t bytes);
    std::vector<std::int64_t> shapeOf(const std::string& name) const;

    std::string path_;
    ErrorLog log_;
    // In this order: what is destroyed first stands last.
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
    std::unique_ptr<Stream> stream_;
    std::unique_ptr<Event> start_, end_;
    std::map<std::string, std::unique_ptr<Buffer>> buffers_;
    Tensor input_, output_;
    std::vector<Tensor> others_;  // such as the confidence: given memory, not read
    float lastCompute_ms_ = 0;
};

}  // namespace prunekit
