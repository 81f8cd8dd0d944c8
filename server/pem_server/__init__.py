"""A real tritonserver on this machine, for trying, testing and measuring."""

from importlib.metadata import version

from pem_server.local_server import LocalServerError, TritonServer
from pem_server.ports import free_ports

__all__ = ["LocalServerError", "TritonServer", "free_ports"]

__version__ = version("pem_server")
