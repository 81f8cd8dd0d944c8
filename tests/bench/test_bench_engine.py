"""`./run bench engine` with backends that answer at once, and the machine it runs on."""

import json
from pathlib import Path

import numpy as np
import onnx.parser
import pytest

from pem_bench import cli, engine, machine, matrix_peak
from pem_bench.backends import NAIVE, REFERENCE, Answers, Backend, Images, Unavailable

MACHINE = {"processor": "P", "cores": 2, "memory_gib": 4.0, "gpus": [], "packages": {"n": "1"}}
SERVED = ["OpenVINO BF16, CPU", "OpenVINO FP32, CPU"]


@pytest.fixture
def graph(tmp_path: Path) -> str:
    """One convolution of 8 x 8 values: 4,608 FLOP an image."""
    zeros = ", ".join("0" * 36)
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        one (float[batch, 2, 8, 8] image) => (float[batch, 2, 8, 8] masks)
        <float[2, 2, 3, 3] w = {{{zeros}}}> {{ masks = Conv <pads = [1, 1, 1, 1]> (image, w) }}"""
    model = onnx.parser.parse_model(text)
    model.graph.node[0].name = "/one"
    onnx.save(model, tmp_path / "one.onnx")
    return str(tmp_path / "one.onnx")


def answers(images: Images, *, class_id: int = 0) -> Answers:
    count = len(images)
    ids, scores = np.full((count, 100), class_id, np.int32), np.ones((count, 100), np.float32)
    return ids, scores, images[..., 0]


@pytest.fixture
def fake_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backends that agree, "Another" that does not, one that is unavailable, and their peaks."""
    found = [Backend(name, lambda: answers) for name in (REFERENCE, NAIVE, *SERVED)]
    found.append(Backend("Another", lambda: lambda images: answers(images, class_id=1)))
    everything = [*found, Unavailable("A third", "needs a TPU")]
    monkeypatch.setattr(engine, "find_backends", lambda sources: everything)
    peaks = {"bf16": 2e15, "f32": 1e15}
    monkeypatch.setattr(matrix_peak, "peak", lambda kind, threads: peaks[kind])


@pytest.mark.usefixtures("fake_backends")
def test_every_backend_is_measured_at_every_batch_and_compared(
    tmp_path: Path, graph: str, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--batches", "1", "3", "--rounds", "1", "--turn-seconds", "0"]
    assert cli.main(["engine", "--graph", graph, *quick, "--output", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    for part in ("A third needs a TPU", "142 images/s", f"Served here by default: {SERVED[0]}"):
        assert part in text
    assert machine.machine_line(machine.describe_machine()) in text
    content = json.loads((tmp_path / "out" / "engine.json").read_text())
    assert (tmp_path / "out" / "engine.png").read_bytes().startswith(b"\x89PNG")
    rows = {(row["backend"], row["batch"]): row for row in content["results"]}
    names = (REFERENCE, NAIVE, *SERVED, "Another")
    assert rows.keys() == {(name, batch) for name in names for batch in (1, 3)}
    assert {row["calls"] for row in rows.values()} == {2}
    assert content["agreement_with_onnx_runtime"]["Another"]["class_ids"] == 0
    assert content["agreement_with_onnx_runtime"][REFERENCE]["masks"] == 1
    assert content["not_run"] == [{"name": "A third", "reason": "needs a TPU"}]
    assert content["gflop_an_image"] == pytest.approx(4608e-9)
    assert content["peaks_gflop_per_second"] == {SERVED[0]: 2e6, SERVED[1]: 1e6}
    speed = {key: row["images_per_second"] for key, row in rows.items()}
    times, share = rows[SERVED[0], 3]["times_naive"], rows[SERVED[1], 1]["share_of_peak"]
    assert times == pytest.approx(speed[SERVED[0], 3] / speed[NAIVE, 3])
    assert share == pytest.approx(speed[SERVED[1], 1] * 4608 / 1e15)
    assert rows[REFERENCE, 1]["share_of_peak"] is None
    assert cli.main(["engine", "--graph", graph, "--only", "a third"]) == 1
    assert "A third needs a TPU" in capsys.readouterr().err


def test_the_roofline_alone_measures_nothing(
    tmp_path: Path, graph: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "find_backends", lambda sources: pytest.fail("measured"))
    assert cli.main(["engine", "--graph", graph, "--roofline", "--output", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "roofline.json").read_text())
    whole = sum(part["microseconds"] for part in content["parts"])
    assert content["images_per_second"] == pytest.approx(1e6 / whole)
    assert f"{content['images_per_second']:.0f} images/s" in capsys.readouterr().out


def test_the_machine_is_described() -> None:
    assert machine.machine_line(MACHINE) == "P, 2 cores, 4.0 GiB; no NVIDIA GPU; n 1"
    found = machine.describe_machine()
    assert found["processor"]
    assert found["packages"]["onnxruntime"]
    assert "3.5" in str(machine.busy_warning(MACHINE | {"load": 3.5}))
    assert machine.busy_warning(MACHINE | {"load": 0.1}) is None
