"""The deployment's parts in operation: real servers behind the real HAProxy, hooks against them.

The network is a stub of fixed cost. Servers and HAProxy have addresses of the loopback net.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import tritonclient.grpc as grpcclient
from polling import poll
from tritonclient.utils import InferenceServerException

from pem_client import Client
from pem_fleet.rehearsal.programs import running
from pem_server import TritonServer, local_server
from pem_server.ports import free_ports
from pem_server.stub_network import Cost, stub_repository

from .conftest import DEPLOY, ROOT, get

BALANCER = "127.0.43.1"
ADDRESSES = ("127.0.0.2", "127.0.0.1")
STREET = (ROOT / "docs" / "street.jpg").read_bytes()
SUCCESS = re.compile(r'nv_inference_request_success\{model="fai-pem-m-ade".*\} (\d+)')


class Names(socketserver.UDPServer):
    """A DNS server on loopback that knows one name; `addresses` may change at any time."""

    addresses: list[str]

    def finish_request(self, request: tuple[bytes, socket.socket], client_address: object) -> None:
        question, own = request
        end = question.index(b"\0", 12) + 5  # name, then type and class
        is_for_ipv4 = question[end - 4 : end - 2] == b"\0\1"
        addresses = self.addresses if is_for_ipv4 else []
        head = question[:2] + struct.pack(">HHHHH", 0x8580, 1, len(addresses), 0, 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4)
        records = b"".join(record + socket.inet_aton(address) for address in addresses)
        own.sendto(head + question[12:end] + records, client_address)


@pytest.fixture(scope="module")
def repository() -> Iterator[Path]:
    """The models, with a network that takes 100 ms, so that requests are often in flight."""
    with stub_repository(ROOT / "model_repository", Cost(100, 0)) as folder:
        yield folder


@pytest.fixture(scope="module")
def servers(repository: Path) -> Iterator[list[TritonServer]]:
    """Two servers with the same ports, on two addresses."""
    ports = dict(zip(("http_port", "grpc_port", "metrics_port"), free_ports(3), strict=True))
    with contextlib.ExitStack() as stack:
        servers = []
        for address in ADDRESSES:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(local_server, "LOOPBACK", address)
                server = TritonServer(repository, **ports, exit_timeout_s=1)
                servers.append(stack.enter_context(server))
                server.wait_until_ready()
        yield servers


@pytest.fixture
def names() -> Iterator[Names]:
    """Who the servers are."""
    with Names(("127.0.0.1", 0), socketserver.BaseRequestHandler) as names:
        names.addresses = list(ADDRESSES)
        threading.Thread(target=names.serve_forever, daemon=True).start()
        yield names
        names.shutdown()


@pytest.fixture
def balancer(
    names: Names, servers: list[TritonServer], tmp_path: Path, monkeypatch
) -> Iterator[str]:
    """HAProxy with the project's configuration, once it has found both servers."""
    if not shutil.which("haproxy"):
        pytest.skip("haproxy is not installed here")
    text = (DEPLOY / "haproxy" / "haproxy.cfg").read_text()
    assert "    parse-resolv-conf\n" in text
    nameserver = f"nameserver test 127.0.0.1:{names.server_address[1]}"
    (tmp_path / "haproxy.cfg").write_text(text.replace("parse-resolv-conf", nameserver))
    ports = {"PEM_HTTP": servers[0].http_port, "PEM_GRPC": servers[0].grpc_port}
    settings = {"PEM_BIND": f"{BALANCER}:", "PEM_SERVERS": "servers.test.", "PEM_SLOTS": 4, **ports}
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    command = ["haproxy", "-W", "-db", "-f", str(tmp_path / "haproxy.cfg")]
    with running(command, tmp_path / "haproxy.log"):
        assert poll(lambda: servers_up() == 2, pause_s=0.1)
        yield BALANCER


def servers_up() -> int:
    """How many servers HAProxy sends gRPC to and has found well, by its own metrics."""
    page = get(f"http://{BALANCER}:8404/metrics")[1]
    up = re.findall(r'haproxy_server_status\{proxy="grpc",server="(\w+)",state="UP"\} 1', page)
    # Without a check yet, a server counts as up, too.
    well = r'haproxy_server_check_status\{proxy="grpc",server="(\w+)",state="L7OK"\} 1'
    return len(set(up) & set(re.findall(well, page)))


def run_hook(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A hook as the kubelet runs it."""
    command = [sys.executable, "-I", DEPLOY / "hooks" / name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@contextlib.contextmanager
def requests(url: str) -> Iterator[None]:
    """Send one image after the other during the block; every one must be answered."""
    stop = threading.Event()

    def send() -> None:
        with Client(url) as client:
            client.infer(STREET)
            while not stop.is_set():
                client.infer(STREET)

    with ThreadPoolExecutor() as pool:
        senders = [pool.submit(send) for _ in range(3)]
        try:
            yield
        finally:
            stop.set()
    assert [sender.result() for sender in senders] == [None] * 3


def test_one_grpc_channel_is_spread_and_follows_the_name(
    balancer: str, servers: list[TritonServer], names: Names
) -> None:
    urls = [f"http://{address}:{servers[0].metrics_port}/metrics" for address in ADDRESSES]

    def counts() -> list[int]:
        """Of each server, once they stand still: an answer is counted a little after it."""
        found: list[int] = []
        while (now := [int(SUCCESS.search(get(url)[1])[1]) for url in urls]) != found:
            found = now
            time.sleep(1)
        return found

    def shares(images: int) -> list[int]:
        before = counts()
        for _ in range(images):
            client.infer(STREET)
        return [after - old for after, old in zip(counts(), before, strict=True)]

    with Client(f"grpc://{balancer}:8001") as client:
        assert min(shares(20)) >= 9
        with requests(f"grpc://{balancer}:8001"):
            names.addresses.remove(ADDRESSES[0])  # as when its pod is about to end
            assert poll(lambda: servers_up() == 1, pause_s=0.1)
        assert shares(6) == [0, 6]
        names.addresses.append(ADDRESSES[0])
        assert poll(lambda: servers_up() == 2, pause_s=0.1)
        # Once in ten runs of the suite, a returned server got its share only a little later.
        assert min(poll(lambda: shares(10), lambda seen: min(seen) >= 4)) >= 4


def test_clients_reach_the_models_and_nothing_else(balancer: str) -> None:
    assert get(f"http://{balancer}:8000/v2/models/fai-pem-m-ade/ready")[0] == 200
    for path in ("/v2/repository/index", "/v2/systemsharedmemory/status", "/v2/logging", "/x"):
        assert get(f"http://{balancer}:8000{path}")[0] == 403
    with grpcclient.InferenceServerClient(f"{balancer}:8001") as client:
        assert client.is_model_ready("fai-pem-m-ade")
        with pytest.raises(InferenceServerException, match="403"):
            client.get_system_shared_memory_status()


def test_the_drain_waits_for_a_busy_server_up_to_its_cap_and_returns_at_an_idle_one(
    servers: list[TritonServer],
) -> None:
    metrics = f"--metrics=http://{ADDRESSES[1]}:{servers[1].metrics_port}/metrics"
    with requests(f"grpc://{ADDRESSES[1]}:{servers[1].grpc_port}"):
        busy = run_hook("drain.py", metrics, "--settle=0.5", "--idle=2", "--cap=4")
    assert busy.stderr.startswith("still busy after 4.")
    idle = run_hook("drain.py", metrics, "--settle=0.5", "--idle=1")
    assert (idle.returncode, idle.stderr[:11]) == (0, "idle after ")


def test_the_probe_notices_a_dead_python_step(repository: Path) -> None:
    with TritonServer(repository, exit_timeout_s=1) as server:
        server.wait_until_ready()
        url = f"--url=http://{server.http_url}"
        assert run_hook("alive.py", url).returncode == 0
        below = psutil.Process(server._supervisor.pid).children(recursive=True)
        step = next(each for each in below if "pem_postprocess" in " ".join(each.cmdline()))
        os.kill(step.pid, signal.SIGKILL)
        assert get(f"http://{server.http_url}/v2/health/ready")[0] == 200  # why the probe infers
        done = run_hook("alive.py", url)
        assert done.returncode == 1
        assert "restart it" in done.stderr
