"""The deployment's parts in operation: real servers behind the real HAProxy, hooks against them.

The network is a stub of fixed cost. Servers and HAProxy have addresses of the loopback net.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import tritonclient.grpc as grpcclient
from polling import poll
from tritonclient.utils import InferenceServerException

from pem_client import Client
from pem_server import TritonServer, local_server
from pem_server.ports import free_ports
from pem_server.stub_network import Cost, stub_repository

ADDRESSES = ("127.0.0.2", "127.0.0.1")
NAME = "servers.test."
SUCCESS = re.compile(r'nv_inference_request_success\{model="fai-pem-m-ade".*\} (\d+)')


class Names(threading.Thread):
    """A DNS server on loopback that knows one name; `addresses` may change at any time."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.addresses = list(ADDRESSES)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    def close(self) -> None:
        """Stop answering."""
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self.join()
        self._socket.close()

    def run(self) -> None:
        """Answer until an empty question comes."""
        while True:
            question, sender = self._socket.recvfrom(512)
            if not question:
                return
            end = question.index(b"\0", 12) + 5  # name, then type and class
            is_for_ipv4 = question[end - 4 : end - 2] == b"\0\1"
            addresses = self.addresses if is_for_ipv4 else []
            head = question[:2] + struct.pack(">HHHHH", 0x8580, 1, len(addresses), 0, 0)
            records = (
                b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + socket.inet_aton(address)
                for address in addresses
            )
            self._socket.sendto(head + question[12:end] + b"".join(records), sender)


@pytest.fixture(scope="module")
def repository(root: Path) -> Iterator[Path]:
    """The models, with a network that takes 100 ms, so that requests are often in flight."""
    with stub_repository(root / "model_repository", Cost(100, 0)) as folder:
        yield folder


@pytest.fixture(scope="module")
def servers(repository: Path) -> Iterator[list[TritonServer]]:
    """Two servers with the same ports, on two addresses."""
    http_port, grpc_port, metrics_port = free_ports(3)
    with contextlib.ExitStack() as stack:
        running = []
        for address in ADDRESSES:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(local_server, "LOOPBACK", address)
                ports = {"http_port": http_port, "grpc_port": grpc_port}
                server = TritonServer(
                    repository, **ports, metrics_port=metrics_port, exit_timeout_s=1
                )
                stack.enter_context(server)
                server.wait_until_ready()
            running.append(server)
        yield running


@contextlib.contextmanager
def haproxy(
    deploy: Path, folder: Path, own_address: str, nameserver: int, settings: dict[str, str]
) -> Iterator[None]:
    """HAProxy with the project's configuration, at its usual ports of `own_address`."""
    if not shutil.which("haproxy"):
        pytest.skip("haproxy is not installed here")
    text = (deploy / "haproxy" / "haproxy.cfg").read_text()
    assert "    parse-resolv-conf\n" in text
    changed = text.replace("parse-resolv-conf", f"nameserver test 127.0.0.1:{nameserver}")
    (folder / "haproxy.cfg").write_text(changed)
    environment = {**os.environ, "PEM_BIND": f"{own_address}:", **settings}
    command = ["haproxy", "-W", "-db", "-f", str(folder / "haproxy.cfg")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def names() -> Iterator[Names]:
    """Who the servers are."""
    names = Names()
    names.start()
    yield names
    names.close()


@pytest.fixture
def balancer(
    names: Names, servers: list[TritonServer], deploy: Path, tmp_path: Path
) -> Iterator[str]:
    """The address of a HAProxy that has found both servers."""
    address = "127.0.43.1"
    settings = {
        "PEM_SERVERS": NAME,
        "PEM_SLOTS": "4",
        "PEM_HTTP": str(servers[0].http_port),
        "PEM_GRPC": str(servers[0].grpc_port),
    }
    with haproxy(deploy, tmp_path, address, names.port, settings):
        assert poll(lambda: servers_up(address) == 2, pause_s=0.1)
        yield address


def servers_up(address: str) -> int:
    """How many servers HAProxy sends gRPC to and has found well, by its own metrics."""
    try:
        page = get(f"http://{address}:8404/metrics")[1]
    except OSError:
        return 0
    up = re.findall(r'haproxy_server_status\{proxy="grpc",server="(\w+)",state="UP"\} 1', page)
    # Without a check yet, a server counts as up, too.
    well = r'haproxy_server_check_status\{proxy="grpc",server="(\w+)",state="L7OK"\} 1'
    return len(set(up) & set(re.findall(well, page)))


def get(url: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def answered(server: TritonServer, address: str) -> int:
    """Images that this server has answered."""
    page = get(f"http://{address}:{server.metrics_port}/metrics")[1]
    match = SUCCESS.search(page)
    assert match
    return int(match[1])


def run_hook(deploy: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A hook as the kubelet runs it."""
    command = [sys.executable, "-I", str(deploy / "hooks" / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@contextlib.contextmanager
def requests(url: str, street: bytes) -> Iterator[None]:
    """Send one image after the other during the block; every one must be answered."""
    stop = threading.Event()

    def send() -> int:
        answers = 0
        with Client(url) as client:
            while not stop.is_set():
                client.infer(street)
                answers += 1
        return answers

    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(send) for _ in range(3)]
        try:
            yield
        finally:
            stop.set()
    assert all(answer.result() for answer in answers)


def test_one_grpc_channel_is_spread_and_follows_the_name(
    balancer: str, servers: list[TritonServer], names: Names, root: Path
) -> None:
    def counts() -> list[int]:
        """Of each server, once they stand still: an answer is counted a little after it."""
        found: list[int] = []
        while (now := [answered(*pair) for pair in zip(servers, ADDRESSES, strict=True)]) != found:
            found = now
            time.sleep(1)
        return found

    def shares(images: int) -> list[int]:
        before = counts()
        for _ in range(images):
            client.infer(street)
        return [after - old for after, old in zip(counts(), before, strict=True)]

    street = (root / "docs" / "street.jpg").read_bytes()
    with Client(f"grpc://{balancer}:8001") as client:
        assert min(shares(20)) >= 9
        with requests(f"grpc://{balancer}:8001", street):
            names.addresses.remove(ADDRESSES[0])  # as when its pod is about to end
            assert poll(lambda: servers_up(balancer) == 1, pause_s=0.1)
        assert shares(6) == [0, 6]
        names.addresses.append(ADDRESSES[0])
        assert poll(lambda: servers_up(balancer) == 2, pause_s=0.1)
        assert min(shares(10)) >= 4


def test_clients_reach_the_models_and_nothing_else(balancer: str) -> None:
    assert get(f"http://{balancer}:8000/v2/models/fai-pem-m-ade/ready")[0] == 200
    for path in ("/v2/repository/index", "/v2/systemsharedmemory/status", "/v2/logging", "/x"):
        assert get(f"http://{balancer}:8000{path}")[0] == 403
    with grpcclient.InferenceServerClient(f"{balancer}:8001") as client:
        assert client.is_model_ready("fai-pem-m-ade")
        with pytest.raises(InferenceServerException, match="403"):
            client.get_system_shared_memory_status()


def test_the_drain_waits_for_a_busy_server_up_to_its_cap_and_returns_at_an_idle_one(
    servers: list[TritonServer], deploy: Path, root: Path
) -> None:
    street = (root / "docs" / "street.jpg").read_bytes()
    metrics = f"--metrics=http://{ADDRESSES[1]}:{servers[1].metrics_port}/metrics"
    with requests(f"grpc://{ADDRESSES[1]}:{servers[1].grpc_port}", street):
        busy = run_hook(deploy, "drain.py", metrics, "--settle=0.5", "--idle=2", "--cap=4")
    assert busy.stderr.startswith("still busy after 4.")
    idle = run_hook(deploy, "drain.py", metrics, "--settle=0.5", "--idle=1")
    assert (idle.returncode, idle.stderr[:11]) == (0, "idle after ")


def test_the_probe_notices_a_dead_python_step(repository: Path, deploy: Path) -> None:
    with TritonServer(repository, exit_timeout_s=1) as server:
        server.wait_until_ready()
        url = f"--url=http://{server.http_url}"
        assert run_hook(deploy, "alive.py", url).returncode == 0
        os.kill(process_of(server, "pem_postprocess"), signal.SIGKILL)
        assert get(f"http://{server.http_url}/v2/health/ready")[0] == 200  # why the probe infers
        done = run_hook(deploy, "alive.py", url)
        assert done.returncode == 1
        assert "restart it" in done.stderr


def process_of(server: TritonServer, model: str) -> int:
    """The process of a Python step, below this server's supervisor."""
    assert server._supervisor
    below = psutil.Process(server._supervisor.pid).children(recursive=True)
    return next(process.pid for process in below if model in " ".join(process.cmdline()))
