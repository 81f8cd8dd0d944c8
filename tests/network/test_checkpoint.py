"""Checkpoints of every layout load strictly, and what is none gets a sentence."""

import io
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


@pytest.mark.parametrize(
    ("changes", "dtype", "queries"),
    [
        ({}, torch.float16, "query_feat"),
        ({"deformable": True, "layers": 6}, torch.float32, "static_query"),  # an older name
    ],
)
def test_a_checkpoint_of_the_original_code_loads_whole(
    tiny_network: Build,
    tmp_path: Path,
    changes: dict[str, object],
    dtype: torch.dtype,
    queries: str,
) -> None:
    network = tiny_network(**changes)
    state = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in original_layout(network).items()
    }
    old = {key.replace("query_feat", queries): value for key, value in state.items()}
    loaded = load_network(save(tmp_path / "c.pth", {"model": old, "iteration": 5}))
    assert loaded.config == network.config
    for key, value in loaded.state_dict().items():
        torch.testing.assert_close(value, state[key].to(value.dtype), atol=0, rtol=0)


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
    (misshapen,) = report.misshapen
    assert misshapen == "sem_seg_head.predictor.decoder_norm.weight (must be (64,), got (3,))"
    assert report.matched == len(network.state_dict()) - 2


def test_a_checkpoint_with_a_missing_key_is_refused_by_name(
    tiny_network: Build, tmp_path: Path
) -> None:
    state = original_layout(tiny_network())
    del state["sem_seg_head.predictor.decoder_norm.bias"]
    with pytest.raises(CheckpointError, match=r"1 missing: .*decoder_norm\.bias"):
        load_network(save(tmp_path / "c.pth", {"model": state}))


def saved(state: object) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


ZEROS = {"a": torch.zeros(1000)}


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("absent.pth", None, "does not exist"),
        ("text.pth", b"these are not weights", "not a readable PyTorch checkpoint"),
        ("empty.pth", b"", "not a readable PyTorch checkpoint"),
        ("cut.pth", saved({"model": ZEROS})[:2000], "not a readable PyTorch checkpoint"),
        ("broken.safetensors", b"\0" * 64, "not a readable safetensors file"),
        ("bare.pth", saved({"state_dict": ZEROS}), "a dictionary with the entries state_dict"),
        ("list.pth", saved([]), "entry 'model'.* got a list"),
        ("other.pth", saved({"model": ZEROS}), "weights of a PEM network, but has no"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_no_checkpoint_gets_one_sentence(
    tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=sentence) as caught:
        load_network(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_weights_beyond_half_precision_are_not_saved_as_infinity(
    tiny_network: Build, tmp_path: Path
) -> None:
    network = tiny_network()
    network.backbone.features[0].bn.running_var.fill_(1e6)
    with pytest.raises(CheckpointError, match=r"features\.0\.bn\.running_var .* range of fp16"):
        save_state(network, tmp_path / "w.safetensors")
