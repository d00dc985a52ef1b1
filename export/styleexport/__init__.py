"""Export: trained generators to frame-in, frame-out ONNX files and TensorRT plans."""
