"""`./run train`: its options, what it starts from, and what it refuses before the first step."""

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
    ("changes", "facts"),
    [
        ({"crop": 500}, "--crop .* 32, got 500"),
        ({"crop": 0}, "--crop .* 32, got 0"),
        ({"scale": (2.0, 0.5)}, r"--scale .*got \(2.0, 0.5\)"),
        ({"steps": 0}, "--steps .*got 0"),
        ({"lr": 0.0}, "--lr .*got 0.0"),
        ({"clip": -1.0}, "--clip .*got -1.0"),
        ({"ema": 1.0}, "--ema .*got 1.0"),
        ({"overhang": 1.5}, "--overhang .*got 1.5"),
        ({"weights": Path("a"), "backbone": Path("b")}, "--weights .*--backbone"),
    ],
)
def test_an_option_out_of_range_is_named(changes: dict[str, Any], facts: str) -> None:
    with pytest.raises(SettingsError, match=facts):
        Settings(data=Path("x"), **changes)


@pytest.mark.parametrize(
    ("changes", "factor", "norm"),
    [
        ({}, 1.0, 1.0),
        ({"backbone": Path("b")}, 0.1, 0.01),
        ({"weights": Path("w")}, 0.1, 0.01),
        ({"weights": Path("w"), "backbone_lr": 0.5, "clip": 2.0}, 0.5, 2.0),
    ],
)
def test_pretrained_weights_are_changed_slowly(
    changes: dict[str, Any], factor: float, norm: float
) -> None:
    settings = Settings(data=Path("x"), **changes)
    assert (settings.backbone_factor, settings.max_norm) == (factor, norm)


def test_only_options_that_decide_the_result_must_be_repeated() -> None:
    one = Settings(data=Path("x"), workers=1, save_every=5, output=Path("a")).identity()
    assert one == Settings(data=Path("y")).identity()
    assert one != Settings(data=Path("x"), seed=1).identity()
    assert one["--color"] == "ssd"


def remove_labels(folder: Path) -> str:
    (folder / "annotations" / "training" / "p1.png").unlink()
    return "p1.png"


def raise_label(folder: Path) -> str:
    Image.new("L", (64, 48), 151).save(folder / "annotations" / "validation" / "p0.png")
    return "0 to 150, got 151"


@pytest.mark.parametrize("spoil", [remove_labels, raise_label])
def test_bad_data_stops_the_command_before_the_first_step(
    make_folder: MakeFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], str],
) -> None:
    folder = make_folder()
    facts = spoil(folder)
    options = ["--data", str(folder), "--output", str(tmp_path / "out"), "--steps", "1"]
    assert train.main(options) == 1
    output = capsys.readouterr()
    complaint = output.err.splitlines()[-1]
    assert complaint.startswith("train: ")
    assert facts in complaint
    assert not (tmp_path / "out" / "history.jsonl").exists()


def test_the_old_spelling_of_color_is_accepted_with_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--data", "absent", "--colour", "none", "--batch", "1"]
    assert train.main(options) == 1
    warning, complaint = capsys.readouterr().err.splitlines()
    assert "--color;" in warning
    assert "--batch" in complaint


def test_the_seed_decides_the_first_weights() -> None:
    one, again, other = (
        train.make_network(Settings(data=Path("x"), seed=seed), World()).state_dict()
        for seed in (1, 1, 2)
    )
    key = "backbone.features.5.conv_list.0.conv.weight"
    assert torch.equal(one[key], again[key])
    assert not torch.equal(one[key], other[key])
    assert one["sem_seg_head.predictor.class_embed.weight"].shape == (151, 256)


def test_given_weights_are_the_first_weights(
    tiny_network: Callable[..., Pem], tmp_path: Path
) -> None:
    save_state(tiny_network(seed=4), tmp_path / "w.safetensors")
    settings = Settings(data=Path("x"), weights=tmp_path / "w.safetensors")
    network = train.make_network(settings, World())
    assert network.config == tiny_network().config
    expected = tiny_network(seed=4).half().float().state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())


# The backbone's file.


def backbone_file(network: Pem, path: Path, changes: dict[str, torch.Tensor | None]) -> Path:
    """A file as the backbone's authors publish it; `changes` replaces tensors, None removes."""
    state: dict[str, torch.Tensor | None] = dict(network.backbone.state_dict())
    classifier = ("fc.weight", "bn.weight", "linear.weight", "conv_last.conv.weight")
    state |= {key: torch.zeros(3) for key in classifier} | changes
    torch.save({"state_dict": {k: v for k, v in state.items() if v is not None}}, path)
    return path


def test_the_backbones_file_fills_the_backbone_and_nothing_else(
    tiny_network: Callable[..., Pem], tmp_path: Path
) -> None:
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
    ],
)
def test_a_backbones_file_that_does_not_fit_is_reported_and_changes_nothing(
    tiny_network: Callable[..., Pem],
    tmp_path: Path,
    changes: dict[str, torch.Tensor | None],
    report: str,
) -> None:
    path = backbone_file(tiny_network(seed=1), tmp_path / "stdc.tar", changes)
    target = tiny_network(seed=2)
    with pytest.raises(CheckpointError, match=report):
        load_backbone(target, path)
    before = tiny_network(seed=2).state_dict()
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (None, "does not exist"),
        (b"text", r"stdc\.tar"),
        ({"model": {}}, "'state_dict'"),
    ],
)
def test_another_file_is_refused(
    tiny_network: Callable[..., Pem], tmp_path: Path, content: object, facts: str
) -> None:
    path = tmp_path / "stdc.tar"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=facts):
        load_backbone(tiny_network(), path)
