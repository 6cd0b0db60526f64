"""From a network to files a device can run: ONNX, graph passes, parity, TensorRT engines."""
