"""What is tested: Triton's version, whether the network is a stand-in, and the machines."""

import json
import os
import platform
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pem_client import Client, PemError

from .counters import ENSEMBLE, NETWORK

UNKNOWN = "unknown"
_TIMEOUT_S = 10.0


def problem(url: str) -> str | None:
    """Why no image can be sent there: the address, or no model ready; None if all is well."""
    try:
        with Client(url, timeout_s=_TIMEOUT_S) as client:
            client.get_remote_model(ENSEMBLE)
    except PemError as error:
        return str(error)
    return None


def describe(url: str) -> dict[str, str]:
    """`triton_version` and `model`, as the server says over its own protocol."""
    scheme, _, address = url.partition("://")
    try:
        ask = _over_http if scheme == "http" else _over_grpc
        version, config = ask(address)
    except Exception:  # a proxy may let nothing through but inference: then nobody knows
        return {"triton_version": UNKNOWN, "model": f"{ENSEMBLE} (not said which network)"}
    parameters = config.get("parameters", {})
    if "fixed_ms" in parameters:
        cost = ":".join(_number(parameters[name]) for name in ("fixed_ms", "per_image_ms"))
        model = f"{ENSEMBLE} with a STAND-IN for the network ({cost} ms)"
    else:
        model = f"{ENSEMBLE} ({config.get('backend') or config.get('platform', UNKNOWN)})"
    return {"triton_version": version, "model": model}


def _over_http(address: str) -> tuple[str, dict[str, Any]]:
    def get(path: str) -> Any:
        with urllib.request.urlopen(f"http://{address}/v2{path}", timeout=_TIMEOUT_S) as answer:
            return json.load(answer)

    return get("")["version"], get(f"/models/{NETWORK}/config")


def _over_grpc(address: str) -> tuple[str, dict[str, Any]]:
    import tritonclient.grpc as triton_grpc

    with triton_grpc.InferenceServerClient(address) as client:
        version = client.get_server_metadata(client_timeout=_TIMEOUT_S).version
        answer = client.get_model_config(NETWORK, as_json=True, client_timeout=_TIMEOUT_S)
        return version, answer["config"]


def _number(parameter: dict[str, str]) -> str:
    return f"{float(parameter['string_value']):g}"


def server_machine(url: str) -> str:
    """This machine, when the address is on it; another cannot be asked."""
    host = urlsplit(url).hostname or ""
    is_here = host == "localhost" or host.startswith("127.")
    return this_machine() if is_here else f"{host} (--machine tells more)"


def this_machine() -> str:
    """Cores and processor of this machine."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = found[0] if found else name
    return f"{os.cpu_count()} cores of {name}"
