"""The server under test: its Triton version, its network (real or stub) and its machine."""

import importlib
import os
import platform
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pem_client import Client, PemError

from .counters import ENSEMBLE, NETWORK, is_on_this_machine

UNKNOWN = "unknown"
_TIMEOUT_S = 10.0


def problem(url: str) -> str | None:
    """Why no image can be sent there, or None."""
    try:
        with Client(url, timeout_s=_TIMEOUT_S) as client:
            client.get_remote_model(ENSEMBLE)
    except PemError as error:
        return str(error)
    return None


def describe(url: str) -> dict[str, str]:
    """`triton_version` and `model`, as the server reports them."""
    try:
        version, config = _metadata(url)
    except Exception:  # a proxy may pass inference only
        return {"triton_version": UNKNOWN, "model": f"{ENSEMBLE} (unknown network)"}
    parameters = config.get("parameters", {})
    if "fixed_ms" in parameters:
        values = (parameters[name]["string_value"] for name in ("fixed_ms", "per_image_ms"))
        cost = ":".join(f"{float(value):g}" for value in values)
        model = f"{ENSEMBLE} with a STUB NETWORK ({cost} ms)"
    else:
        model = f"{ENSEMBLE} ({config.get('backend') or config.get('platform', UNKNOWN)})"
    return {"triton_version": version, "model": model}


def _metadata(url: str) -> tuple[str, dict[str, Any]]:
    """Triton's version and the configuration of the network."""
    scheme, _, address = url.partition("://")
    module = importlib.import_module(f"tritonclient.{scheme}")
    options = {"as_json": True, "client_timeout": _TIMEOUT_S} if scheme == "grpc" else {}
    direct = {"channel_args": [("grpc.enable_http_proxy", 0)]}
    local = scheme == "grpc" and is_on_this_machine(url)
    with module.InferenceServerClient(address, **(direct if local else {})) as client:
        version = client.get_server_metadata(**options)["version"]
        config = client.get_model_config(NETWORK, **options)
    return version, config.get("config", config)


def server_machine(url: str) -> str:
    """This machine, when the address is on it; a remote one is not known."""
    if is_on_this_machine(url):
        return this_machine()
    return f"{urlsplit(url).hostname or ''} (describe it with --machine)"


def this_machine() -> str:
    """Cores and processor of this machine."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = found[0] if found else name
    return f"{os.cpu_count()} cores of {name}"
