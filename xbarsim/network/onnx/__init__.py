"""Networks from ONNX files, without torch."""
