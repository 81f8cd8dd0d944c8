"""Checkpoints of every layout load strictly, and what is none gets a sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pemseg.checkpoint import (
    CheckpointError,
    compare_keys,
    load_network,
    read_state,
    save_state,
    weights_checksum,
)
from pemseg.pem import Pem

Build = Callable[..., Pem]


def original_layout(network: Pem) -> dict[str, torch.Tensor]:
    """The keys as the original code saves them: slices of the backbone again, and the loss."""
    state = dict(network.state_dict())
    slices = {
        f"backbone.x32.{k.split('.', 2)[2]}": v for k, v in state.items() if ".features." in k
    }
    return state | slices | {"criterion.empty_weight": torch.ones(8)}


def save(path: Path, state: object) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize("changes", [{}, {"deformable": True, "layers": 6}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_checkpoint_of_the_original_code_loads_whole(
    tiny_network: Build, tmp_path: Path, changes: dict[str, object], dtype: torch.dtype
) -> None:
    network = tiny_network(**changes)
    state = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in original_layout(network).items()
    }
    loaded = load_network(save(tmp_path / "c.pth", {"model": state, "iteration": 5}))
    assert loaded.config == network.config
    for key, value in loaded.state_dict().items():
        torch.testing.assert_close(value, state[key].to(value.dtype), atol=0, rtol=0)


def test_the_old_name_of_the_queries_is_understood(tiny_network: Build, tmp_path: Path) -> None:
    state = {
        key.replace("query_feat", "static_query"): value
        for key, value in original_layout(tiny_network()).items()
    }
    loaded = load_network(save(tmp_path / "c.pth", {"model": state}))
    torch.testing.assert_close(
        loaded.sem_seg_head.predictor.query_feat.weight,
        state["sem_seg_head.predictor.static_query.weight"],
    )


def test_safetensors_hold_the_weights_in_half_precision(
    tiny_network: Build, tmp_path: Path
) -> None:
    network = tiny_network().half().float()
    save_state(network, tmp_path / "w.safetensors")
    floats = [v for v in read_state(tmp_path / "w.safetensors").values() if v.is_floating_point()]
    assert {value.dtype for value in floats} == {torch.float16}
    loaded = load_network(tmp_path / "w.safetensors")
    assert weights_checksum(loaded) == weights_checksum(network)
    assert loaded.config == network.config


def test_the_checksum_sees_one_changed_weight(tiny_network: Build) -> None:
    network = tiny_network()
    before = weights_checksum(network)
    network.backbone.features[0].conv.weight.data[0, 0, 0, 0] += 1e-3
    assert weights_checksum(network) != before


def test_the_report_names_missing_unexpected_and_misshapen_keys(tiny_network: Build) -> None:
    network = tiny_network()
    state = dict(network.state_dict())
    del state["sem_seg_head.predictor.class_embed.bias"]
    state["head.extra"] = torch.zeros(1)
    state["sem_seg_head.predictor.decoder_norm.weight"] = torch.zeros(3)
    report = compare_keys(network, state)
    assert report.missing == ("sem_seg_head.predictor.class_embed.bias",)
    assert report.unexpected == ("head.extra",)
    assert report.misshapen == (
        "sem_seg_head.predictor.decoder_norm.weight (must be (64,), got (3,))",
    )
    assert not report.fits
    assert report.matched == len(network.state_dict()) - 2
    assert "1 missing: sem_seg_head.predictor.class_embed.bias" in str(report)


def test_a_checkpoint_with_a_missing_key_is_refused_by_name(
    tiny_network: Build, tmp_path: Path
) -> None:
    state = original_layout(tiny_network())
    del state["sem_seg_head.predictor.decoder_norm.bias"]
    with pytest.raises(CheckpointError, match=r"1 missing: .*decoder_norm\.bias"):
        load_network(save(tmp_path / "c.pth", {"model": state}))


def not_a_file(folder: Path) -> Path:
    return folder / "absent.pth"


def text(folder: Path) -> Path:
    path = folder / "notes.pth"
    path.write_text("these are not weights")
    return path


def empty(folder: Path) -> Path:
    path = folder / "empty.pth"
    path.touch()
    return path


def broken_safetensors(folder: Path) -> Path:
    path = folder / "weights.safetensors"
    path.write_bytes(b"\x00" * 64)
    return path


def truncated(folder: Path) -> Path:
    path = save(folder / "cut.pth", {"model": {"a": torch.zeros(1000)}})
    path.write_bytes(path.read_bytes()[:2000])
    return path


def without_model(folder: Path) -> Path:
    return save(folder / "bare.pth", {"state_dict": {"a": torch.zeros(1)}})


def a_list(folder: Path) -> Path:
    return save(folder / "list.pth", [torch.zeros(1)])


def another_network(folder: Path) -> Path:
    return save(folder / "other.pth", {"model": {"conv.weight": torch.zeros(1)}})


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (not_a_file, "does not exist"),
        (text, "not a readable PyTorch checkpoint"),
        (empty, "not a readable PyTorch checkpoint"),
        (truncated, "not a readable PyTorch checkpoint"),
        (broken_safetensors, "not a readable safetensors file"),
        (without_model, "entry 'model'.* got a dictionary with the entries state_dict"),
        (a_list, "entry 'model'.* got a list"),
        (another_network, "must hold the weights of a PEM network, but has no"),
    ],
)
def test_a_file_that_is_no_checkpoint_gets_one_sentence(
    tmp_path: Path, make: Callable[[Path], Path], sentence: str
) -> None:
    with pytest.raises(CheckpointError, match=sentence) as caught:
        load_network(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_weights_beyond_half_precision_are_not_saved_as_infinity(
    tiny_network: Build, tmp_path: Path
) -> None:
    network = tiny_network()
    network.backbone.features[0].bn.running_var.fill_(1e6)
    with pytest.raises(CheckpointError, match=r"features\.0\.bn\.running_var .* range of fp16"):
        save_state(network, tmp_path / "w.safetensors")
