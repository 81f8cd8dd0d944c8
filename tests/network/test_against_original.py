"""The network computes what the original PEM code computed, number by number."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pemexport.serving import ServingPem
from pemexport.serving_layer import ServingCrossAttention
from pemseg.attention import PrototypeCrossAttention, unit_length
from pemseg.checkpoint import load_network
from pemseg.decoder import Prediction
from pemseg.inference import semantic_map
from pemseg.pem import Pem


@pytest.fixture(scope="module")
def fixture(shared: Path) -> Path:
    return shared / "fixtures" / "pem_conv3"


@pytest.fixture(scope="module")
def network(fixture: Path) -> Pem:
    return load_network(fixture / "checkpoint.pth").double()


@pytest.fixture(scope="module")
def image(fixture: Path) -> torch.Tensor:
    return torch.from_numpy(np.load(fixture / "input.npy"))


def every_output(prediction: Prediction) -> Iterator[tuple[str, torch.Tensor]]:
    named = {"": prediction} | {f"aux_{k}_": aux for k, aux in enumerate(prediction.earlier)}
    for prefix, output in named.items():
        yield f"{prefix}pred_logits.npy", output.logits
        yield f"{prefix}pred_masks.npy", output.masks


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.float32, 1e-4)])
def test_final_and_auxiliary_outputs_are_the_originals(
    fixture: Path, image: torch.Tensor, dtype: torch.dtype, tolerance: float
) -> None:
    network = load_network(fixture / "checkpoint.pth").to(dtype)
    with torch.inference_mode():
        outputs = list(every_output(network(image)))
    assert len(outputs) == 8
    for name, value in outputs:
        np.testing.assert_allclose(value.numpy(), np.load(fixture / name), atol=tolerance, rtol=0)


def test_semantic_inference_gives_the_originals_class_map(
    fixture: Path, network: Pem, image: torch.Tensor
) -> None:
    with torch.inference_mode():
        shares = semantic_map(network(image), (288, 352))[0].numpy()
    np.testing.assert_array_equal(shares.argmax(0), np.load(fixture / "sem_seg_argmax.npy"))
    every8 = np.load(fixture / "sem_seg_every8.npy")
    np.testing.assert_allclose(shares[:, ::8, ::8], every8, atol=1e-5)


def test_the_serving_network_gives_the_originals_logits_and_masks(
    fixture: Path, network: Pem, image: torch.Tensor
) -> None:
    served = ServingPem(network, 288, 352).double()
    with torch.inference_mode():
        features = served.backbone(network.normalize(image))
        logits, masks = served.decoder(*served.pixel_decoder(features))
    np.testing.assert_allclose(logits, np.load(fixture / "pred_logits.npy"), atol=1e-5, rtol=0)
    np.testing.assert_allclose(masks, np.load(fixture / "pred_masks.npy"), atol=1e-5, rtol=0)


class EdgeCases:
    """Three images for layer 0: some queries masked out whole, all of them, none."""

    def __init__(self, path: Path) -> None:
        arrays: dict[str, NDArray[np.float32]] = dict(np.load(path))
        tensors = {key: torch.from_numpy(value).double() for key, value in arrays.items()}
        self.queries = tensors["tgt"].transpose(0, 1)  # (B, Q, D)
        self.query_pos = tensors["query_pos"].transpose(0, 1)  # (B, Q, D)
        self.tokens = tensors["memory"] + tensors["pos"]  # (B, D, H, W)
        self.mask_logits = tensors["memory_mask"].flatten(2)  # (B, Q, N)
        self.out = arrays["out"].transpose(1, 0, 2)  # (B, Q, D)
        self.index = arrays["prototype_index"]  # (B, h, Q)


@pytest.fixture(scope="module")
def edge_cases(fixture: Path) -> EdgeCases:
    return EdgeCases(fixture / "pem_ca_edge_cases.npz")


@pytest.fixture(scope="module")
def first_attention(network: Pem) -> PrototypeCrossAttention:
    return network.sem_seg_head.predictor.transformer_cross_attention_layers[0]


def test_masked_cross_attention_takes_the_originals_tokens_at_its_edges(
    first_attention: PrototypeCrossAttention, edge_cases: EdgeCases
) -> None:
    case, attention = edge_cases, first_attention
    with torch.inference_mode():
        keys = unit_length(attention.feature_proj(case.tokens), dim=-1)
        query = unit_length(attention.query_proj(case.queries + case.query_pos), dim=-1)
        index = attention.select_prototypes(query, keys, case.mask_logits < 0)
        added = attention(case.queries, case.query_pos, case.tokens, case.mask_logits < 0)
    np.testing.assert_array_equal(index, case.index)
    np.testing.assert_allclose(case.queries + added, case.out, atol=1e-5, rtol=0)


def test_the_serving_network_takes_the_same_tokens_at_its_edges(
    first_attention: PrototypeCrossAttention, edge_cases: EdgeCases
) -> None:
    case = edge_cases
    served = ServingCrossAttention(first_attention, case.query_pos, 5 * 7, None).double()
    with torch.inference_mode():
        keys = unit_length(first_attention.feature_proj(case.tokens), dim=-1).transpose(1, 2)
        added = served(case.queries, keys, case.mask_logits)
    np.testing.assert_allclose(case.queries + added, case.out, atol=1e-5, rtol=0)
