"""A proxy in the environment, as on a company's laptop, is not for this machine."""

import subprocess
import sys

from pem_client._transports import channel_args

DEAD = "http://127.0.0.1:9"
PROGRAM = """
import sys
from pem_client import Client
for url in sys.argv[2:]:
    with Client(url) as client:
        print(len(client.infer(sys.argv[1])))
"""


def test_both_wires_reach_a_gateway_on_this_machine(gateway, root, monkeypatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, DEAD)
    urls = [f"grpc://{gateway.grpc}", f"http://{gateway.http}"]
    command = [sys.executable, "-c", PROGRAM, str(root / "docs" / "street.jpg"), *urls]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == 2


def test_other_machines_are_reached_as_the_environment_says() -> None:
    for address in ("127.0.0.1:8001", "localhost:8001", "[::1]:8001"):
        assert ("grpc.enable_http_proxy", 0) in channel_args(address)
    assert ("grpc.enable_http_proxy", 1) in channel_args("example.org:8001")
