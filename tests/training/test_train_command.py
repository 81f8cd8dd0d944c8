"""`./run train`: its options, what it starts from, and what it refuses before the first step."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pem_training import train
from pem_training.backbone_weights import load_backbone
from pem_training.distributed import World
from pem_training.settings import Settings, SettingsError
from pemseg import CheckpointError, Pem
from pemseg.checkpoint import save_state

MakeFolder = Callable[..., Path]


@pytest.mark.parametrize(
    "faulty",
    ["crop 500", "crop 0", "scale 2 0.5", "steps 0", "lr 0", "clip -1", "ema 1", "overhang 1.5"],
)
def test_an_option_out_of_range_is_named(faulty: str, capsys: pytest.CaptureFixture[str]) -> None:
    option, *values = faulty.split()
    assert train.main(["--data", "x", f"--{option}", *values]) == 1
    assert re.search(f"--{option} must be .*, got .?{values[0]}", capsys.readouterr().err)


def test_weights_and_a_backbone_exclude_each_other() -> None:
    with pytest.raises(SettingsError, match=r"--weights .*--backbone"):
        Settings(data=Path("x"), weights=Path("a"), backbone=Path("b"))


def test_pretrained_weights_are_changed_slowly_unless_an_option_says_otherwise() -> None:
    def rates(**options: Any) -> tuple[float, float]:
        settings = Settings(data=Path("x"), **options)
        return settings.backbone_factor, settings.max_norm

    assert rates() == (1.0, 1.0)
    assert rates(backbone=Path("b")) == rates(weights=Path("w")) == (0.1, 0.01)
    assert rates(weights=Path("w"), backbone_lr=0.5, clip=2.0) == (0.5, 2.0)


def test_only_options_that_decide_the_result_must_be_repeated() -> None:
    one = Settings(data=Path("x"), workers=1, save_every=5, output=Path("a")).identity()
    assert one == Settings(data=Path("y")).identity()
    assert one != Settings(data=Path("x"), seed=1).identity()
    assert one["--color"] == "ssd"


@pytest.mark.parametrize("split", ["training", "validation"])
def test_bad_data_stops_the_command_before_the_first_step(
    make_folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str
) -> None:
    folder = make_folder()
    Image.new("L", (64, 48), 151).save(folder / f"annotations/{split}/p0.png")
    options = ["--data", str(folder), "--output", str(tmp_path / "out"), "--steps", "1"]
    assert train.main(options) == 1
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert re.match(f"train: .*{split}/p0.png .*0 to 150, got 151", complaint)
    assert not (tmp_path / "out" / "history.jsonl").exists()


def test_the_old_spelling_of_color_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", "absent", "--colour", "none", "--batch", "1"]
    assert train.main(options) == 1
    warning, complaint = capsys.readouterr().err.splitlines()
    assert "--color;" in warning
    assert "--batch" in complaint


def test_the_seed_decides_the_first_weights() -> None:
    settings = [Settings(data=Path("x"), seed=seed) for seed in (1, 1, 2)]
    one, again, other = (train.make_network(each, World()).state_dict() for each in settings)
    key = "backbone.features.5.conv_list.0.conv.weight"
    assert torch.equal(one[key], again[key])
    assert not torch.equal(one[key], other[key])
    assert one["sem_seg_head.predictor.class_embed.weight"].shape == (151, 256)


def test_given_weights_come_first(tiny_network: Callable[..., Pem], tmp_path: Path) -> None:
    save_state(tiny_network(seed=4), tmp_path / "w.safetensors")
    settings = Settings(data=Path("x"), weights=tmp_path / "w.safetensors")
    network = train.make_network(settings, World())
    assert network.config == tiny_network().config
    expected = tiny_network(seed=4).half().float().state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())


def backbone_file(network: Pem, path: Path, changes: dict[str, torch.Tensor | None]) -> Path:
    """A file as the backbone's authors publish it; `changes` replaces tensors, None removes."""
    state: dict[str, torch.Tensor | None] = dict(network.backbone.state_dict())
    classifier = ("fc.weight", "bn.weight", "linear.weight", "conv_last.conv.weight")
    state |= {key: torch.zeros(3) for key in classifier} | changes
    torch.save({"state_dict": {k: v for k, v in state.items() if v is not None}}, path)
    return path


def test_a_file_fills_only_the_backbone(tiny_network: Callable[..., Pem], tmp_path: Path) -> None:
    source, target = tiny_network(seed=1), tiny_network(seed=2)
    path = backbone_file(source, tmp_path / "stdc.tar", {})
    assert load_backbone(target, path) == len(source.backbone.state_dict())
    expected = source.backbone.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in target.backbone.state_dict().items())
    head = tiny_network(seed=2).sem_seg_head.state_dict()
    assert all(torch.equal(v, head[k]) for k, v in target.sem_seg_head.state_dict().items())


CONV = "features.0.conv.weight"


@pytest.mark.parametrize(
    ("changes", "report"),
    [
        ({CONV: None}, f"1 missing: backbone.{CONV}"),
        ({"features.99.conv.weight": torch.zeros(2)}, "1 unexpected: backbone.features.99.conv"),
        ({CONV: torch.zeros(8, 3, 5, 5)}, r"must be \(8, 3, 3, 3\), got \(8, 3, 5, 5\)"),
        (b"text", r"stdc\.tar"),
        ([], "'state_dict'"),
        (None, "does not exist"),
    ],
)
def test_a_backbones_file_that_does_not_fit_is_reported_and_changes_nothing(
    tiny_network: Callable[..., Pem], tmp_path: Path, changes: Any, report: str
) -> None:
    path, target = tmp_path / "stdc.tar", tiny_network(seed=2)
    if isinstance(changes, dict):
        backbone_file(tiny_network(seed=1), path, changes)
    elif isinstance(changes, bytes):
        path.write_bytes(changes)
    elif changes is not None:
        torch.save(changes, path)
    with pytest.raises(CheckpointError, match=report):
        load_backbone(target, path)
    before = tiny_network(seed=2).state_dict()
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())
