"""Graph passes over ONNX models: one file each, none imports another."""
