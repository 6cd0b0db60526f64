"""Models timed for a host that prunes to a latency: kernels in ONNX Runtime, whole models there or in TensorRT."""
