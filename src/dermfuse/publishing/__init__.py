"""Making what ships: export to ONNX, quantization, the release of a plan, its card and stress."""
