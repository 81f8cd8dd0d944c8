"""The network as it is served: fused, with an index map, written as ONNX."""

from importlib.metadata import version

__version__ = version("pemseg")
