"""From an ONNX graph to a TensorRT engine that the server may run, and the proofs around it.

`operators` proves on a CPU that TensorRT takes a graph, `tensorrt_build` builds the engine on its
GPU, `placement` puts it into the model repository with its manifest, and `preflight` compares that
manifest with the machine before the server starts. The preflight runs in the serving image: what it
imports is of Python's own library.
"""

from importlib.metadata import version

__version__ = version("pemseg")
