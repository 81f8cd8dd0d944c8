"""Each system that `./run bench end-to-end` compares, started for real and asked once."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from pem_bench.agreement import compare
from pem_bench.cli import BenchError
from pem_bench.load_generator import send_once
from pem_bench.processes import memory_mb
from pem_bench.systems import OURS, launchers, start_ours
from pem_client import Detections

pytestmark = pytest.mark.slow

# Of the same weights in other precisions, and at quarter-size masks enlarged before the argmax.
SCORES_WITHIN, MASKS_SAME = 0.05, 0.9


@pytest.fixture(scope="module")
def image(root: Path) -> bytes:
    return (root / "docs" / "street.jpg").read_bytes()


@pytest.fixture(scope="module")
def ours(image: bytes) -> Detections:
    """What the repository itself finds, over gRPC as over HTTP."""
    with ExitStack() as stack:
        system = start_ours(stack, image)
        over_grpc, over_http = (send_once(system.connections[name]) for name in ("grpc", "http"))
        assert memory_mb(system.pids) > 100
    found = Detections.from_json(over_grpc)
    assert found.detections == Detections.from_json(over_http).detections
    assert len(found) > 2
    return found


@pytest.mark.parametrize("name", [name for name in launchers() if name != OURS])
def test_a_peer_finds_what_we_find_and_leaves_nothing(
    name: str, image: bytes, ours: Detections, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        system = launchers(tmp_path)[name].start(stack, image)
        pids = system.pids
        answers = {protocol: send_once(connect) for protocol, connect in system.connections.items()}
        assert memory_mb(pids) > 100
    for protocol, answer in answers.items():
        found = compare(Detections.from_json(answer), ours)
        assert found.missing == 0, protocol
        assert found.score < SCORES_WITHIN, protocol
        assert found.mask_iou > MASKS_SAME, protocol
    assert memory_mb(pids) == 0


def test_a_peer_that_cannot_start_says_why(image: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pem_bench.systems.PEERS", Path(tempfile.gettempdir()))
    with ExitStack() as stack, pytest.raises(BenchError, match="did not become ready"):
        launchers()["fastapi-onnxruntime"].start(stack, image)
