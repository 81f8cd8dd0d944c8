"""`./run bench steps`: its choices on one image, its report, and a server under its load."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pem_bench import cli, steps
from pem_bench.light_client import Sample
from pem_bench.served import Served, serving
from pem_bench.step_choices import Recorded, by_hand, decoded, difference, saved, stages
from pem_bench.step_report import verdict
from pem_server.stub_network import ANSWER

EQUAL = {  # stages whose choices must all come to the same
    "masks of the index map",
    "PNG of the masks",
    "base64",
    "JSON",
}


@pytest.fixture
def small_image() -> bytes:
    values = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).resize((640, 480)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def answer() -> Recorded:
    with np.load(ANSWER) as recorded:
        return Recorded(recorded["class_ids"], recorded["scores"], recorded["masks"])


def test_every_choice_runs_and_those_that_must_come_to_the_same_do(
    monkeypatch: pytest.MonkeyPatch, small_image: bytes
) -> None:
    monkeypatch.setattr(steps, "ROUNDS", 1)
    monkeypatch.setattr(steps, "TURN_SECONDS", 0)
    measured = steps.measure_choices(small_image)
    assert {choice.image for choice in measured} == {"640x480"}
    assert {choice.stage for choice in measured} > EQUAL
    for stage in {choice.stage for choice in measured}:
        assert [choice.served for choice in measured if choice.stage == stage].count(True) == 1
    assert {c.difference for c in measured if c.stage in EQUAL} == {"equal"}
    assert all(c.bytes for c in measured if c.stage == "PNG of the masks")


def test_an_image_that_is_shrunk_shows_what_shrinking_changes(
    small_image: bytes, answer: Recorded
) -> None:
    larger = steps.enlarged(small_image, 3)
    assert Image.open(io.BytesIO(larger)).size == (1920, 1440)
    [both] = [
        stage
        for stage in stages(larger, answer, steps.REPOSITORY)
        if stage.name == "decode, fit, pad"
    ]
    served, whole = both.calls["Pillow, no larger than needed"], both.calls["Pillow, whole"]
    assert "of values" in difference(whole(), served())


@pytest.mark.parametrize(
    ("found", "served", "words"),
    [
        (np.zeros(4, np.uint8), np.zeros(4, np.uint8), "equal"),
        (np.array([0, 2], np.uint8), np.zeros(2, np.uint8), "50.0% of values, by 1.00 on average"),
        (np.array([255], np.uint8), np.array([0], np.uint8), "100.0% of values, by 255.00 on aver"),
        (np.zeros(4, np.uint8), np.zeros(5, np.uint8), "differs: (4,), not (5,)"),
        (["a"], ["a"], "equal"),
        (["a"], ["b"], "differs"),
    ],
)
def test_a_difference_is_said_in_words(found: object, served: object, words: str) -> None:
    assert difference(found, served).startswith(words)


@pytest.mark.parametrize("write", [by_hand, saved])
def test_the_other_pngs_hold_the_mask(write) -> None:
    mask = np.random.default_rng(0).random((5, 21)) < 0.5
    lines = np.packbits(mask, axis=1).tobytes()
    assert (decoded([write(lines, (21, 5), 1)])[0] == mask).all()


def test_an_answer_that_differs_is_noticed_when_it_is_read() -> None:
    sample = Sample()
    one, other = (json.dumps({"detections": [n], "latency": {"a": n}}).encode() for n in (1, 2))
    verdicts = [sample.check(other if number in (10, 50) else one) for number in range(51)]
    assert verdicts[:50] == [None] * 50  # the tenth was not read
    assert verdicts[50] == "one question must always have one answer"
    assert sample.found == [1]


@pytest.mark.parametrize(
    ("server_ms", "rate", "words"),
    [
        (14.0, 140.0, ("met", "met")),
        (14.1, 139.9, ("MISSED", "MISSED")),
        (3.0, 9.0, ("met", "MIS")),
    ],
)
def test_the_goals_are_met_or_missed(server_ms: float, rate: float, words: tuple[str, str]) -> None:
    half = {"tritonserver": server_ms / 2, "pem_preprocess": server_ms / 2}
    said = verdict(Served("ours", 100, rate, half, 1.0, 1.0, 1.0, []))
    assert f"At most 14 ms of CPU an image: {words[0]}" in said
    assert f"At least 140 images a second: {words[1]}" in said


def test_a_server_without_its_network_is_loaded_and_every_process_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--only", "served", "--rounds", "1", "--turn-seconds", "1"]
    assert cli.main(["steps", *quick, "--output", str(tmp_path)]) == 0
    assert "10 detections" in capsys.readouterr().out
    content = json.loads((tmp_path / "steps.json").read_text())
    [served] = content["served"]
    working = {name for name, spent in served["cpu_ms"].items() if spent}
    assert working == {"tritonserver", "pem_preprocess", "pem_network", "pem_postprocess"}
    assert served["answered"] > 0
    assert served["server_ms"] == pytest.approx(sum(served["cpu_ms"].values()))


def test_the_steps_keep_freed_memory_unless_the_user_says_otherwise(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "123456")
    with serving(root / "model_repository") as (_, processes):
        assert os.getpid() not in processes
        for pid in processes:
            environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
            assert "MALLOC_TRIM_THRESHOLD_=123456" in environment
            assert f"MALLOC_MMAP_THRESHOLD_={32 * 2**20}" in environment


@pytest.mark.parametrize(
    ("options", "reason"),
    [(["--in-flight", "0"], "must be 1 or more"), (["--image", "absent.jpg"], "absent.jpg")],
)
def test_what_cannot_be_done_is_one_line(
    capsys: pytest.CaptureFixture[str], options: list[str], reason: str
) -> None:
    assert cli.main(["steps", *options]) == 1
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert reason in output.err
