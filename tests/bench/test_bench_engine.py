"""`./run bench engine` with backends that answer at once, and the machine it runs on."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pem_bench import cli, engine, machine, matrix_peak
from pem_bench.backends import NAIVE, REFERENCE, Answers, Backend, Images, Unavailable

MACHINE = {"processor": "P", "cores": 2, "memory_gib": 4.0, "gpus": [], "packages": {"n": "1"}}
SERVED = ["OpenVINO BF16, CPU", "OpenVINO FP32, CPU"]
QUICK = ["--rounds", "1", "--turn-seconds", "0"]


@pytest.fixture
def graph(tmp_path: Path) -> str:
    """One convolution of 8 x 8 values: 4,608 FLOP an image."""
    values = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 2, 8, 8])
    masks = helper.make_tensor_value_info("masks", TensorProto.FLOAT, ["batch", 2, 8, 8])
    weights = numpy_helper.from_array(np.zeros((2, 2, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", ["image", "w"], ["masks"], name="/one", pads=[1] * 4)
    model = helper.make_model(
        helper.make_graph([node], "one", [values], [masks], [weights]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, tmp_path / "one.onnx")
    return str(tmp_path / "one.onnx")


def answers(images: Images, *, class_id: int = 0) -> Answers:
    count = len(images)
    ids, scores = np.full((count, 100), class_id, np.int32), np.ones((count, 100), np.float32)
    return ids, scores, images[..., 0]


@pytest.fixture
def two_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        Backend(REFERENCE, lambda: answers),
        Backend("Another", lambda: lambda images: answers(images, class_id=1)),
        Unavailable("A third", "needs a TPU"),
    ]
    monkeypatch.setattr(engine, "find_backends", lambda sources: found)


@pytest.mark.usefixtures("two_backends")
def test_every_backend_is_measured_at_every_batch(
    tmp_path: Path, graph: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    options = ["--graph", graph, "--batches", "1", "3", *QUICK, "--output", str(output)]
    assert cli.main(["engine", *options]) == 0
    text = capsys.readouterr().out
    assert "A third needs a TPU" in text
    assert "142 images/s" in text
    assert machine.machine_line(machine.describe_machine()) in text
    content = json.loads((output / "engine.json").read_text())
    rows = [(row["backend"], row["batch"], row["calls"]) for row in content["results"]]
    assert sorted(rows) == [
        ("Another", 1, 2), ("Another", 3, 2), (REFERENCE, 1, 2), (REFERENCE, 3, 2)
    ]  # fmt: skip
    assert content["agreement_with_onnx_runtime"]["Another"]["class_ids"] == 0
    assert content["agreement_with_onnx_runtime"][REFERENCE]["masks"] == 1
    assert content["not_run"] == [{"name": "A third", "reason": "needs a TPU"}]
    assert content["peaks_gflop_per_second"] == {}  # none of these is served


def test_the_served_backend_is_compared_with_the_naive_graph_and_the_peak(
    tmp_path: Path, graph: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [Backend(name, lambda: answers) for name in [REFERENCE, NAIVE, *SERVED]]
    monkeypatch.setattr(engine, "find_backends", lambda sources: found)
    monkeypatch.setattr(
        matrix_peak, "peak", lambda kind, threads: {"bf16": 2e15, "f32": 1e15}[kind]
    )
    options = ["--graph", graph, "--batches", "1", *QUICK, "--output", str(tmp_path)]
    assert cli.main(["engine", *options]) == 0
    assert "Served here by default: OpenVINO BF16, CPU" in capsys.readouterr().out
    content = json.loads((tmp_path / "engine.json").read_text())
    assert content["gflop_an_image"] == pytest.approx(4608e-9)
    assert content["peaks_gflop_per_second"] == {SERVED[0]: 2e6, SERVED[1]: 1e6}
    rows = {row["backend"]: row for row in content["results"]}
    speed = {name: row["images_per_second"] for name, row in rows.items()}
    assert rows[SERVED[0]]["times_naive"] == pytest.approx(speed[SERVED[0]] / speed[NAIVE])
    assert rows[SERVED[1]]["share_of_peak"] == pytest.approx(speed[SERVED[1]] * 4608 / 1e15)
    assert rows[REFERENCE]["share_of_peak"] is None


def test_the_roofline_alone_measures_nothing(
    tmp_path: Path, graph: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "find_backends", lambda sources: pytest.fail("measured"))
    assert cli.main(["engine", "--graph", graph, "--roofline", "--output", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "roofline.json").read_text())
    whole = sum(part["microseconds"] for part in content["parts"])
    assert content["images_per_second"] == pytest.approx(1e6 / whole)
    assert f"{content['images_per_second']:.0f} images/s" in capsys.readouterr().out


@pytest.mark.usefixtures("two_backends")
@pytest.mark.parametrize(
    ("options", "token"),
    [
        (["--only", "a third"], "A third needs a TPU"),
        (["--only", "npu"], "npu"),
        (["--rounds", "0"], "rounds"),
        (["--image", "absent.jpg"], "absent.jpg"),
        (["--graph", __file__], "ONNX"),
    ],
)
def test_a_user_error_is_one_line_and_writes_nothing(
    tmp_path: Path, graph: str, capsys: pytest.CaptureFixture[str], options: list[str], token: str
) -> None:
    output = tmp_path / "out"
    assert cli.main(["engine", "--graph", graph, "--output", str(output), *options]) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith("bench engine: ")
    assert token in printed.err
    assert not output.exists()


def test_the_machine_is_described() -> None:
    assert machine.machine_line(MACHINE) == "P, 2 cores, 4.0 GiB; no NVIDIA GPU; n 1"
    found = machine.describe_machine()
    assert found["processor"]
    assert found["packages"]["onnxruntime"]
    assert found["load"] >= 0
    assert "3.5" in str(machine.busy_warning(MACHINE | {"load": 3.5}))
    assert machine.busy_warning(MACHINE | {"load": 0.1}) is None
