"""genie-onnx: quantize float ONNX CNNs to a few bits, without data."""
