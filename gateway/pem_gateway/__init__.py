"""The gateway: the process that clients talk to, and the only one that talks to tritonserver."""

from importlib.metadata import version

__version__ = version("pem_gateway")
