"""One step, its optimiser, and what a run keeps on disk."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pem_training import checkpoint_file, material
from pem_training.checkpoint_file import read_checkpoint, write_checkpoint
from pem_training.curve_chart import running_mean, write_curve
from pem_training.curves import Curves
from pem_training.material import draw_scenes
from pem_training.optimiser import FINAL_RATE, average, learning_rate, make_optimiser
from pem_training.precision import choose_precision
from pem_training.preview import side_by_side
from pem_training.session import begin
from pem_training.settings import Settings, SettingsError
from pem_training.trainer import Trainer
from pemseg import Pem, load_network

MakeTrainer = Callable[..., Trainer]
CPU = torch.device("cpu")


@pytest.fixture
def make_trainer(tiny_network: Callable[..., Pem], tmp_path: Path) -> MakeTrainer:
    def make(seed: int = 0, **changes: Any) -> Trainer:
        values: dict[str, Any] = {"steps": 10, "points": 64, "precision": "float32"}
        settings = Settings(data=tmp_path, output=tmp_path, **values | changes)
        return Trainer(tiny_network(seed), settings, CPU)

    return make


def a_batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 4, (2, 4, 4), dtype=torch.uint8, generator=generator)
    return images, labels.repeat_interleave(16, 1).repeat_interleave(16, 2), torch.arange(2)


def weights_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def test_norms_and_embeddings_do_not_decay_and_the_backbone_learns_slowly(
    tiny_network: Callable[..., Pem],
) -> None:
    network = tiny_network()
    optimiser = make_optimiser(network, weight_decay=0.05, backbone_factor=0.1)
    found = {
        id(parameter): (group["weight_decay"], group["factor"])
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
    predictor = network.sem_seg_head.predictor
    features = network.backbone.features
    assert found[id(features[0].conv.weight)] == (0.05, 0.1)
    assert found[id(features[0].bn.weight)] == (0.0, 0.1)
    assert found[id(predictor.query_feat.weight)] == (0.0, 1.0)
    assert found[id(predictor.decoder_norm.bias)] == (0.0, 1.0)
    assert found[id(predictor.class_embed.bias)] == (0.05, 1.0)
    attention = predictor.transformer_cross_attention_layers[0]
    assert found[id(attention.alpha)] == (0.05, 1.0)
    assert len(found) == len(list(network.parameters()))  # each one, once


def test_the_rate_falls_along_half_a_cosine() -> None:
    rates = [learning_rate(step, 100, 4e-4) for step in range(100)]
    assert rates[0] == 4e-4
    assert rates[50] == pytest.approx((4e-4 + FINAL_RATE) / 2)
    assert rates[25] == pytest.approx(FINAL_RATE + (4e-4 - FINAL_RATE) * (1 + math.sqrt(0.5)) / 2)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates))
    assert FINAL_RATE < rates[99] < 2e-6


def test_a_mean_network_takes_weights_and_statistics_in_the_given_share(
    tiny_network: Callable[..., Pem],
) -> None:
    mean, new = tiny_network(seed=1), tiny_network(seed=2)
    before, added = weights_of(mean), weights_of(new)
    average(mean, new, keep=0.75)
    for key, value in weights_of(mean).items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.75 * before[key] + 0.25 * added[key])
        else:
            assert torch.equal(value, added[key])


def test_a_step_reports_every_loss_and_changes_every_weight(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    before = weights_of(trainer.network)
    values = trainer.step(*a_batch())
    names = {
        f"loss_{kind}{end}" for kind in ("ce", "dice", "mask") for end in ("", "_0", "_1", "_2")
    }
    assert values.keys() == names | {"loss", "gradient", "rate"}
    assert trainer.steps_done == 1
    assert values["rate"] == trainer.settings.lr
    after = trainer.network.state_dict()
    unchanged = {key for key, value in before.items() if torch.equal(value, after[key])}
    assert not unchanged


def test_the_same_step_has_the_same_result(make_trainer: MakeTrainer) -> None:
    first, again, other = make_trainer(), make_trainer(), make_trainer(seed=1)
    assert first.step(*a_batch()) == again.step(*a_batch()) != other.step(*a_batch())


def test_the_gradient_is_cut_to_the_given_norm(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(clip=0.01)
    assert trainer.step(*a_batch())["gradient"] > 1  # as it was before
    squares = sum(
        float((p.grad**2).sum()) for p in trainer.network.parameters() if p.grad is not None
    )
    assert math.sqrt(squares) == pytest.approx(0.01, rel=1e-3)


def test_bf16_learns_about_the_same(make_trainer: MakeTrainer) -> None:
    exact, rough = (make_trainer(precision=name).step(*a_batch()) for name in ("float32", "bf16"))
    assert rough["loss"] != exact["loss"]
    assert rough["loss"] == pytest.approx(exact["loss"], rel=0.1)


def test_without_a_gpu_auto_is_bf16_or_float32() -> None:
    assert choose_precision("auto", CPU) in ("bf16", "float32")
    assert choose_precision("fp16", CPU) == "fp16"


@pytest.mark.parametrize("spoilt", ["class_embed", "mask_embed"])
def test_an_answer_that_is_no_number_stops_the_run(make_trainer: MakeTrainer, spoilt: str) -> None:
    trainer = make_trainer()
    with torch.no_grad():
        next(trainer.network.sem_seg_head.predictor.get_submodule(spoilt).parameters()).fill_(
            torch.nan
        )
    with pytest.raises(FloatingPointError, match="must be finite"):
        trainer.step(*a_batch())
    assert trainer.steps_done == 0


def test_a_gradient_that_is_no_number_stops_the_run_before_the_weights_change(
    make_trainer: MakeTrainer,
) -> None:
    trainer = make_trainer()
    trainer.network.sem_seg_head.predictor.class_embed.weight.register_hook(
        lambda gradient: gradient * torch.inf
    )
    before = weights_of(trainer.network.sem_seg_head.predictor)
    with pytest.raises(FloatingPointError, match="gradient must be finite"):
        trainer.step(*a_batch())
    after = trainer.network.sem_seg_head.predictor.state_dict()
    assert torch.equal(before["class_embed.weight"], after["class_embed.weight"])


# On disk.


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_checkpoint_is_loaded_as_weights_and_continued_as_a_run(
    make_trainer: MakeTrainer, tmp_path: Path, ema: float
) -> None:
    path, trainer = tmp_path / "checkpoint.pth", make_trainer(ema=ema)
    trainer.step(*a_batch(1))
    trainer.best = 0.5
    trainer.save(path, {"--lr": "0.1"})
    loaded = load_network(path).state_dict()
    finished = trainer.finished_network().state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in finished.items())
    is_mean = any(not torch.equal(loaded[k], v) for k, v in trainer.network.state_dict().items())
    assert is_mean == bool(ema)
    other = make_trainer(seed=5, ema=ema)
    other.restore(read_checkpoint(path))
    assert (other.steps_done, other.best) == (1, 0.5)
    for seed in (2, 3):
        assert other.step(*a_batch(seed)) == trainer.step(*a_batch(seed))


def test_a_checkpoint_that_fails_to_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pth"
    write_checkpoint(path, {"training": {"step": 1}})

    def break_off(content: object, file: Any) -> None:
        file.write(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint_file.torch, "save", break_off)
    with pytest.raises(OSError, match="no space"):
        write_checkpoint(path, {"training": {"step": 2}})
    assert read_checkpoint(path)["training"]["step"] == 1


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_a_file_that_is_no_checkpoint_of_a_run_is_refused(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "checkpoint.pth"
    if content is None:
        torch.save({"model": {}}, path)  # weights only, such as best.pth
    else:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match="must be a checkpoint of a training run"):
        read_checkpoint(path)


def test_a_run_is_neither_overwritten_nor_continued_as_another_one(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    path, trainer = tmp_path / "checkpoint.pth", make_trainer()
    begin(trainer, path, {"--lr": "0.1"}, resume=False)  # nothing there yet: nothing to do
    begin(trainer, path, {"--lr": "0.1"}, resume=True)
    trainer.step(*a_batch())
    trainer.save(path, {"--lr": "0.1", "--seed": "1"})
    again = make_trainer()
    with pytest.raises(SettingsError, match="holds a run already: go on with it by --resume"):
        begin(again, path, {"--lr": "0.1", "--seed": "1"}, resume=False)
    with pytest.raises(SettingsError, match=r"repeat how it was started: --lr 0\.1, not 0\.2$"):
        begin(again, path, {"--lr": "0.2", "--seed": "1"}, resume=True)
    assert again.steps_done == 0
    begin(again, path, {"--lr": "0.1", "--seed": "1"}, resume=True)
    assert again.steps_done == 1


def test_curves_forget_what_comes_after_the_checkpoint(tmp_path: Path) -> None:
    with Curves(tmp_path, 0) as curves:
        for step in (1, 2, 3):
            curves.add(step, {"loss": step / 3})
        curves.add_image(3, "labels", np.zeros((4, 6, 3), np.uint8))
    history = tmp_path / "history.jsonl"
    whole = history.read_text()
    history.write_text(whole + '{"step": 4, "lo')  # killed while writing
    with Curves(tmp_path, 2) as curves:
        curves.add(3, {"loss": 1.0})
    assert history.read_text() == whole
    assert list((tmp_path / "tensorboard").iterdir())


def test_the_curve_is_drawn_from_any_history(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    lines = ['{"step": 1, "loss": 3.0}', '{"step": 1, "miou": 0.2}', '{"step": 2, "loss": 1.0}']
    for count in (0, 1, 3):
        history.write_text("\n".join(lines[:count]))
        write_curve(tmp_path / f"{count}.png", history)
    with Image.open(tmp_path / "3.png") as drawn, Image.open(tmp_path / "0.png") as empty:
        assert drawn.size == empty.size
        assert drawn.tobytes() != empty.tobytes()


def test_a_running_mean_stands_at_its_last_step() -> None:
    series = np.array([[1.0, 2.0, 4.0], [10.0, 20.0, 60.0]])
    np.testing.assert_array_equal(running_mean(series, 2), [[2, 4], [15, 40]])
    np.testing.assert_array_equal(running_mean(series, 9), [[4], [30]])


def test_the_preview_shows_labels_and_answer_side_by_side() -> None:
    image = Image.fromarray(np.full((2, 3, 3), 100, np.uint8))
    truth = np.array([[0, 1, 1], [0, 2, 2]], np.uint8)
    shown = side_by_side(image, truth, np.zeros_like(truth))
    assert shown.shape == (2, 6, 3)
    assert (shown[:, 0] == 100).all()  # no label: the image itself
    assert (shown[:, 3:] == 100).all()
    assert shown[0, 1].tolist() == [(100 + value) // 2 for value in (204 + 48, 71 + 48, 22 + 48)]
    assert not np.array_equal(shown[0, 1], shown[1, 1])


def test_scenes_are_drawn_once_and_wholly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def write(folder: Path, split: str, count: int, seed: int, renumber: object) -> None:
        drawn.append(seed)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        for kind, suffix in (("images", "jpg"), ("annotations", "png")):
            place = folder / kind / split
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{seed}.{suffix}").touch()

    monkeypatch.setattr(material, "write_scenes", write)
    with pytest.raises(KeyboardInterrupt):
        draw_scenes(tmp_path / "scenes", 3)
    assert not (tmp_path / "scenes").exists()
    draw_scenes(tmp_path / "scenes", 3)
    draw_scenes(tmp_path / "scenes", 3)
    draw_scenes(tmp_path / "scenes", 2)
    assert drawn == [0, 1, 0, 1, 2]
