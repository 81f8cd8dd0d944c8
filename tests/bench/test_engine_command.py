"""`./run bench`: its verbs, its files, and what it says when it cannot."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pem_bench import cli, engine, matrix_peak
from pem_bench.forms import Absent, Answers, Form, Images
from pem_bench.machine import busy_cores, busy_warning, describe_machine, machine_line

MACHINE = {"processor": "P", "cores": 2, "memory_gib": 4.0, "gpus": [], "packages": {"n": "1"}}


def answers(images: Images, *, shifted: int = 0) -> Answers:
    count = len(images)
    ids, scores = np.full((count, 100), shifted, np.int32), np.ones((count, 100), np.float32)
    return ids, scores, images[..., 0]


@pytest.fixture
def two_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    forms = [
        Form(engine.REFERENCE, lambda: answers),
        Form("Another", lambda: lambda images: answers(images, shifted=1)),
        Absent("A third", "needs what is not here"),
    ]
    monkeypatch.setattr(engine, "find_forms", lambda sources: forms)


@pytest.mark.usefixtures("two_forms")
def test_engine_measures_every_form_at_every_batch_and_writes_both_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--batches", "1", "3", "--rounds", "2", "--turn-seconds", "0"]
    assert cli.main(["engine", *quick, "--output", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "Not run: A third needs what is not here." in text
    assert "142 images/s" in text
    content = json.loads((tmp_path / "engine.json").read_text())
    rows = [(row["form"], row["batch"], row["seconds"]["calls"]) for row in content["results"]]
    assert sorted(rows) == [
        ("Another", 1, 4), ("Another", 3, 4), (engine.REFERENCE, 1, 4), (engine.REFERENCE, 3, 4)
    ]  # fmt: skip
    assert content["agreement_with_onnx_runtime"]["Another"]["class_ids"] == 0
    assert content["agreement_with_onnx_runtime"][engine.REFERENCE]["masks"] == 1
    assert content["not_run"] == [{"name": "A third", "reason": "needs what is not here"}]
    assert set(content["roofline"]["images_per_second"]) == {"1", "3", "8"}
    assert (tmp_path / "engine.png").read_bytes().startswith(b"\x89PNG")
    assert content["peaks_gflop_per_second"] == {}  # none of these is a form that is served


def test_the_served_form_is_compared_with_the_naive_graph_and_the_peak(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [engine.REFERENCE, engine.NAIVE, "OpenVINO BF16, CPU", "OpenVINO FP32, CPU"]
    forms = [Form(name, lambda: answers) for name in names]
    monkeypatch.setattr(engine, "find_forms", lambda sources: forms)
    asked = []
    monkeypatch.setattr(matrix_peak, "peak", lambda kind, threads: asked.append(kind) or 1e15)
    quick = ["--batches", "1", "--rounds", "1", "--turn-seconds", "0"]
    assert cli.main(["engine", *quick, "--output", str(tmp_path)]) == 0
    assert asked == ["bf16", "f32"]
    assert "Served here by default: OpenVINO BF16, CPU" in capsys.readouterr().out
    content = json.loads((tmp_path / "engine.json").read_text())
    assert content["gflop_an_image"] == pytest.approx(37.3, abs=0.5)
    assert content["peaks_gflop_per_second"]["OpenVINO BF16, CPU"] == 1e6
    speed = {row["form"]: row["images_per_second"] for row in content["results"]}
    for row in content["standings"]:
        assert row["times_naive"] == pytest.approx(speed[row["form"]] / speed[engine.NAIVE])
    shares = {row["form"]: row["share_of_peak"] for row in content["standings"]}
    flop = 1e9 * content["gflop_an_image"]
    assert shares["OpenVINO FP32, CPU"] == pytest.approx(speed["OpenVINO FP32, CPU"] * flop / 1e15)
    assert shares[engine.REFERENCE] is None


def test_the_roofline_alone_measures_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "find_forms", lambda sources: pytest.fail("measured"))
    assert cli.main(["engine", "--roofline", "--batches", "8", "--output", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "mask product" in text
    content = json.loads((tmp_path / "roofline.json").read_text())
    whole = sum(part["microseconds"] for part in content["parts"])
    assert content["images_per_second"] == pytest.approx(1e6 / whole)
    assert f"At most {content['images_per_second']:.0f} images/s" in text
    assert (tmp_path / "roofline.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("two_forms")
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--only", "a third"], "there must be a form to run: A third needs what is not here"),
        (["--only", "tpu"], "there must be a form to run: none is called tpu"),
        (["--rounds", "0"], "must be 1 or more"),
        (["--graph", "absent.onnx"], "absent.onnx"),
        (["--image", "absent.jpg"], "absent.jpg"),
        (["--graph", __file__], "must be an ONNX graph"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], reason: str
) -> None:
    assert cli.main(["engine", "--output", str(tmp_path), *options]) == 1
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert output.err.startswith("bench engine: ")
    assert reason in output.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), (["nothing"], 2)], ids=["help", "bad"]
)
def test_the_verbs_are_listed(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int
) -> None:
    assert cli.main(arguments) == code
    output = capsys.readouterr()
    assert "./run bench engine" in output.out + output.err


def test_a_busy_machine_is_said_to_be_busy() -> None:
    warning = busy_warning(MACHINE | {"load": 3.5})
    assert warning is not None
    assert "load 3.5 on 2 cores" in warning
    assert busy_warning(MACHINE | {"load": 0.1}) is None


def test_the_load_is_that_of_just_now(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  10 0 10 70 10 0 0 0 0 0\ncpu0 1 2 3\n")
    assert busy_cores(0.0, stat) == 0  # no tick went by
    assert busy_cores(0.0, tmp_path / "absent") == 0
    reads = iter(["cpu  0 0 0 0 0 0 0 0\n", "cpu  50 0 25 20 5 0 0 0\n"])

    class Changing:
        def read_text(self, encoding: str) -> str:
            return next(reads)

    assert busy_cores(0.0, Changing()) == 0.75 * os.cpu_count()  # type: ignore[arg-type]


def test_the_machine_is_described() -> None:
    assert machine_line(MACHINE) == "P, 2 cores, 4.0 GiB; no NVIDIA GPU; n 1"
    found = describe_machine()
    assert found["processor"]
    assert found["packages"]["onnxruntime"]
    assert machine_line(found | {"gpus": ["T4, 15360 MiB, 550.1"]}).count("T4, 15360 MiB") == 1


def test_images_of_a_batch_are_different(root: Path) -> None:
    images = engine.views(root / "docs" / "street.jpg", 3)
    assert images.shape == (3, 640, 640, 3)
    assert len({image.tobytes() for image in images}) == 3
