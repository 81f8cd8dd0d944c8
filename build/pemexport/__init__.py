"""The network as it is served: fused, with an index map, written as ONNX."""
