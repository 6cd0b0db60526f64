"""Label pictures and videos with a run, an ONNX file or an engine."""
