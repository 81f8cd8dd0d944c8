"""A real tritonserver on this machine, and the modules that its Python steps share.

The steps import this package inside the server, where neither the launcher nor its dependencies may
be installed; so the launcher is imported when its names are first used.
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pem_server.local_server import LocalServerError, TritonServer
    from pem_server.ports import free_ports

__all__ = ["LocalServerError", "TritonServer", "free_ports"]

_MODULES = {
    "LocalServerError": "local_server",
    "TritonServer": "local_server",
    "free_ports": "ports",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("pem_server")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
