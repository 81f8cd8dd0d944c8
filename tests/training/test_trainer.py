"""One step, its optimizer, and the files of a run."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pem_training.loop import start_or_resume
from pem_training.optimizer import FINAL_RATE, learning_rate, update_ema
from pem_training.run_log import RunLog, running_mean, side_by_side, write_curve
from pem_training.settings import Settings, SettingsError
from pem_training.trainer import Trainer, read_checkpoint, write_checkpoint
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


def test_norms_do_not_decay_and_the_backbone_learns_slowly(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(weight_decay=0.05, backbone_lr=0.1)
    names = {id(parameter): name for name, parameter in trainer.network.named_parameters()}
    found = {
        names.pop(id(parameter)): (group["weight_decay"], group["factor"])
        for group in trainer.optimizer.param_groups
        for parameter in group["params"]
    }
    assert not names
    head = "sem_seg_head.predictor."
    assert found["backbone.features.0.conv.weight"] == (0.05, 0.1)
    assert found["backbone.features.0.bn.weight"] == (0.0, 0.1)
    assert found[head + "query_feat.weight"] == found[head + "decoder_norm.bias"] == (0.0, 1.0)
    assert found[head + "class_embed.bias"] == (0.05, 1.0)
    assert found[head + "transformer_cross_attention_layers.0.alpha"] == (0.05, 1.0)


def test_the_rate_falls_along_half_a_cosine() -> None:
    rates = [learning_rate(step, 100, 4e-4) for step in range(100)]
    assert rates[0] == 4e-4
    assert rates[50] == pytest.approx((4e-4 + FINAL_RATE) / 2)
    assert rates[25] == pytest.approx(FINAL_RATE + (4e-4 - FINAL_RATE) * (1 + math.sqrt(0.5)) / 2)
    assert FINAL_RATE < rates[99] < 2e-6


def test_the_ema_takes_weights_and_statistics(tiny_network: Callable[..., Pem]) -> None:
    mean, new = tiny_network(seed=1), tiny_network(seed=2)
    before, added = weights_of(mean), weights_of(new)
    update_ema(mean, new, keep=0.75)
    for key, value in weights_of(mean).items():
        mixed = 0.75 * before[key] + 0.25 * added[key]
        torch.testing.assert_close(value, mixed if value.is_floating_point() else added[key])


def test_a_step_reports_every_loss_and_changes_every_weight(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    before = weights_of(trainer.network)
    values = trainer.step(*a_batch())
    kinds, ends = ("loss_ce", "loss_dice", "loss_mask"), ("", "_0", "_1", "_2")
    names = {kind + end for kind in kinds for end in ends}
    assert values.keys() == names | {"loss", "gradient", "rate"}
    assert (trainer.steps_done, values["rate"]) == (1, trainer.settings.lr)
    after = trainer.network.state_dict()
    assert not [key for key, value in before.items() if torch.equal(value, after[key])]


def test_the_gradient_is_clipped_to_the_given_norm(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(clip=0.01)
    assert trainer.step(*a_batch())["gradient"] > 1  # as it was before
    gradients = [p.grad for p in trainer.network.parameters() if p.grad is not None]
    assert float(nn.utils.get_total_norm(gradients)) == pytest.approx(0.01, rel=1e-3)


def test_bf16_learns_about_the_same(make_trainer: MakeTrainer) -> None:
    exact, rough = (make_trainer(precision=name).step(*a_batch()) for name in ("float32", "bf16"))
    assert rough["loss"] != exact["loss"]
    assert rough["loss"] == pytest.approx(exact["loss"], rel=0.1)


@pytest.mark.parametrize("spoilt", ["class_embed", "mask_embed", "gradient"])
def test_what_is_not_finite_stops_the_run(make_trainer: MakeTrainer, spoilt: str) -> None:
    trainer = make_trainer()
    predictor = trainer.network.sem_seg_head.predictor
    if spoilt == "gradient":
        predictor.query_feat.weight.register_hook(lambda gradient: gradient * torch.inf)
    else:
        next(predictor.get_submodule(spoilt).parameters()).data.fill_(torch.nan)
    before = predictor.query_feat.weight.clone()
    with pytest.raises(FloatingPointError, match="must be finite"):
        trainer.step(*a_batch())
    assert trainer.steps_done == 0
    assert torch.equal(predictor.query_feat.weight, before)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_checkpoints_load_and_resume(make_trainer: MakeTrainer, tmp_path: Path, ema: float) -> None:
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


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pth"
    write_checkpoint(path, {"training": {"step": 1, "identity": {}}})

    def break_off(content: object, file: Any) -> None:
        file.write(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", break_off)
    with pytest.raises(OSError, match="no space"):
        write_checkpoint(path, {"training": {"step": 2, "identity": {}}})
    assert read_checkpoint(path)["training"]["step"] == 1


def test_a_file_that_is_no_checkpoint_of_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_bytes(b"text")
    torch.save({"model": {}}, tmp_path / "best.pth")  # weights only
    for name in ("text.pth", "best.pth"):
        with pytest.raises(SettingsError, match="--output"):
            read_checkpoint(tmp_path / name)


def test_a_run_is_not_overwritten_nor_mixed_up(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    path, trainer = tmp_path / "checkpoint.pth", make_trainer()
    start_or_resume(trainer, path, {"--lr": "0.1"}, resume=False)  # no file yet
    start_or_resume(trainer, path, {"--lr": "0.1"}, resume=True)
    trainer.step(*a_batch())
    trainer.save(path, {"--lr": "0.1", "--seed": "1"})
    again = make_trainer()
    with pytest.raises(SettingsError, match="--resume"):
        start_or_resume(again, path, {"--lr": "0.1", "--seed": "1"}, resume=False)
    with pytest.raises(SettingsError, match=r"--lr 0\.1, not 0\.2$"):
        start_or_resume(again, path, {"--lr": "0.2", "--seed": "1"}, resume=True)
    assert again.steps_done == 0
    start_or_resume(again, path, {"--lr": "0.1", "--seed": "1"}, resume=True)
    assert again.steps_done == 1


def test_a_run_of_0_1_resumes(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    path, trainer = tmp_path / "checkpoint.pth", make_trainer()
    trainer.step(*a_batch())
    written = {"pictures": "3-abc", "--colour": "ssd", "--scenes": "0", "--scene-labels": "()"}
    trainer.save(path, written)
    content = torch.load(path, weights_only=True)
    content["training"]["optimiser"] = content["training"].pop("optimizer")
    torch.save(content, path)
    again = make_trainer()
    start_or_resume(again, path, {"images": "3-abc", "--color": "ssd"}, resume=True)
    assert again.step(*a_batch(1)) == trainer.step(*a_batch(1))
    trainer.save(path, written | {"--scenes": "30"})
    with pytest.raises(SettingsError, match="--scenes 30, not None"):
        start_or_resume(again, path, {"images": "3-abc", "--color": "ssd"}, resume=True)


def test_the_log_drops_what_comes_after_the_checkpoint(tmp_path: Path) -> None:
    with RunLog(tmp_path, 0) as run_log:
        for step in (1, 2, 3):
            run_log.add(step, {"loss": step / 3})
        run_log.add_image(3, "labels", np.zeros((4, 6, 3), np.uint8))
    history = tmp_path / "history.jsonl"
    whole = history.read_text()
    history.write_text(whole + '{"step": 4, "lo')  # killed while writing
    with RunLog(tmp_path, 2) as run_log:
        run_log.add(3, {"loss": 1.0})
    assert history.read_text() == whole
    assert list((tmp_path / "tensorboard").iterdir())


def test_the_curve_is_drawn_from_any_history_also_with_nulls(tmp_path: Path) -> None:
    history, empty, drawn = (tmp_path / name for name in ("history.jsonl", "0.png", "3.png"))
    with RunLog(tmp_path, 0) as run_log:
        run_log.add(1, {"miou": math.nan, "loss": math.inf, "rate": 0.5})
        assert history.read_text() == '{"step": 1, "miou": null, "loss": null, "rate": 0.5}\n'
        write_curve(empty, history)
        for step in (2, 3):
            run_log.add(step, {"loss": 9.0 / step, "miou": 0.2})
    write_curve(drawn, history)
    with Image.open(drawn) as one, Image.open(empty) as other:
        assert one.size == other.size
        assert one.tobytes() != other.tobytes()


def test_a_running_mean_is_drawn_at_its_last_step() -> None:
    series = np.array([[1.0, 2.0, 4.0], [10.0, 20.0, 60.0]])
    np.testing.assert_array_equal(running_mean(series, 2), [[2, 4], [15, 40]])
    np.testing.assert_array_equal(running_mean(series, 9), [[4], [30]])


def test_the_preview_shows_labels_and_prediction_side_by_side() -> None:
    image = Image.fromarray(np.full((2, 3, 3), 100, np.uint8))
    truth = np.array([[0, 1, 1], [0, 2, 2]], np.uint8)
    shown = side_by_side(image, truth, np.zeros_like(truth))
    assert shown.shape == (2, 6, 3)
    assert (shown[:, [0, 3, 4, 5]] == 100).all()  # no label: the image itself
    assert shown[0, 1].tolist() == [(100 + value) // 2 for value in (204 + 48, 71 + 48, 22 + 48)]
    assert not np.array_equal(shown[0, 1], shown[1, 1])
