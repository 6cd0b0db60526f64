"""Runners on the device: ONNX Runtime, TensorRT, and the CUDA calls that an engine needs."""
