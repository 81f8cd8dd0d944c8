"""The repository with a stub network, and the real server that serves it."""

from pathlib import Path

import pytest
from stub_server import COST, StubServer

from pem_client import Client, InvalidRequest
from pem_loadtest import target_server
from pem_server.checkout import MODEL_REPOSITORY
from pem_server.stub_network import Cost, parse_cost, write_stub_repository


def test_a_cost_is_read_and_what_is_none_is_refused() -> None:
    assert parse_cost("0:0.5") == (0, 0.5)
    for text in ("", *["20", "20:5:1", "a:b", "-1:5", "nan:5", "5:nan", "0:0", "5:inf"]):
        with pytest.raises(ValueError, match="FIXED:PER_IMAGE"):
            parse_cost(text)


def test_all_but_the_network_is_the_repository_as_it_is(tmp_path: Path) -> None:
    copy, network = tmp_path / "copy", MODEL_REPOSITORY / "pem_network"
    write_stub_repository(MODEL_REPOSITORY, copy, Cost(20, 5))
    assert not list(copy.rglob("*.onnx"))
    for file in MODEL_REPOSITORY.rglob("*.*"):
        if file.is_file() and "__pycache__" not in file.parts and network not in file.parents:
            assert (copy / file.relative_to(MODEL_REPOSITORY)).read_bytes() == file.read_bytes()
    config = (network / "config.pbtxt").read_text()
    changed = (copy / "pem_network" / "config.pbtxt").read_text()
    assert changed.startswith(config), "tensors, batching and queue are the network's own"
    assert 'key: "fixed_ms"' in changed.removeprefix(config)


def test_the_stub_answers_after_its_cost_and_is_recognized_by_the_load_test(
    root: Path, stub: StubServer
) -> None:
    server = stub.set_cost(COST)
    with Client(server.grpc_url) as client:
        found = client.infer(root / "docs" / "street.jpg")
        with pytest.raises(InvalidRequest):
            client.infer(b"no image")
    assert len(found) > 0
    assert found.latency["inference"] >= 0.025
    for url in (f"grpc://{server.grpc_url}", f"http://{server.http_url}"):
        description = target_server.describe(url)
        assert description["triton_version"] == "2.51.0"
        assert description["model"] == "fai-pem-m-ade with a STUB NETWORK (20:5 ms)"
