"""From an ONNX graph to a TensorRT engine that the server may run, and the checks around it.

`rtx_parser` parses and compiles a graph on a CPU, `tensorrt_build` builds the engine on its GPU,
`manifest` installs it with a manifest, and `preflight` compares that manifest with the machine
before the server starts. The preflight runs in the serving image, which has neither torch
nor onnx.
"""

from importlib.metadata import version

__version__ = version("pemseg")
