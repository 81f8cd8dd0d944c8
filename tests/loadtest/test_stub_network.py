"""The repository with a stand-in for the network, and the real server that serves it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pem_client import Client, InvalidRequest
from pem_loadtest import target_server
from pem_server import TritonServer
from pem_server.stub_network import Cost, parse_cost, write_stub_repository


@pytest.mark.parametrize(("text", "cost"), [("20:5", (20, 5)), ("0:0.5", (0, 0.5))])
def test_a_cost_is_read(text: str, cost: tuple[float, float]) -> None:
    assert parse_cost(text) == cost


@pytest.mark.parametrize(
    "text", ["", "20", "20:5:1", "a:b", "-1:5", "nan:5", "5:nan", "0:0", "5:inf"]
)
def test_what_is_no_cost_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="FIXED:PER_IMAGE"):
        parse_cost(text)


def test_a_larger_batch_gives_more_images_a_second() -> None:
    assert Cost(20, 5).images_per_second(1) == 40
    assert Cost(20, 5).images_per_second(8) == pytest.approx(133.3, abs=0.1)


def test_all_but_the_network_is_the_repository_as_it_is(root: Path, tmp_path: Path) -> None:
    repository, copy = root / "model_repository", tmp_path / "copy"
    write_stub_repository(repository, copy, Cost(20, 5))
    assert not list(copy.rglob("*.onnx"))
    for file in repository.rglob("*"):
        ours = copy / file.relative_to(repository)
        is_the_networks = file.relative_to(repository).parts[:2] in {
            ("pem_network", "1"),
            ("pem_network", "configs"),
            ("pem_network", "config.pbtxt"),
        }
        if file.is_file() and "__pycache__" not in file.parts and not is_the_networks:
            assert ours.read_bytes() == file.read_bytes()
    config = (repository / "pem_network" / "config.pbtxt").read_text()
    changed = (copy / "pem_network" / "config.pbtxt").read_text()
    assert changed.startswith(config), "tensors, batching and queue are the network's own"
    assert 'key: "fixed_ms"' in changed.removeprefix(config)


def test_the_stand_in_answers_after_its_cost_and_says_what_it_is(
    root: Path, server: TritonServer
) -> None:
    with Client(server.grpc_url) as client:
        found = client.infer(root / "docs" / "street.jpg")
        with pytest.raises(InvalidRequest):
            client.infer(b"no image")
    assert len(found) > 0
    assert found.latency["inference"] >= 0.025
    for url in (f"grpc://{server.grpc_url}", f"http://{server.http_url}"):
        said = target_server.describe(url)
        assert said["triton_version"] == "2.51.0"
        assert said["model"] == "fai-pem-m-ade with a STUB NETWORK (20:5 ms)"


def test_serve_tells_that_the_network_is_a_stand_in(root: Path) -> None:
    command = [sys.executable, "-m", "pem_gateway", "serve", "--stub-network", "20:5"]
    ports = [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
    serving = subprocess.Popen(
        [*command, *ports], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert serving.stdout
        deadline = time.monotonic() + 120
        lines = []
        while "STUB" not in "".join(lines[-1:]) and time.monotonic() < deadline:
            lines.append(serving.stdout.readline())
            assert serving.poll() is None, serving.communicate()
        assert "THE NETWORK IS A STUB: 20 ms a batch and 5 ms an image" in lines[-1]
    finally:
        serving.terminate()
        _, log = serving.communicate(timeout=60)
    assert "stub, NOT the network" in log
    assert serving.returncode == 0
