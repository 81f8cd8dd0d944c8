"""Properties of the network that hold for any weights."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pemexport.serving import ServingPem
from pemseg.config import VARIANTS
from pemseg.inference import card_outputs
from pemseg.pem import Pem

Build = Callable[..., Pem]

BOTH_VARIANTS = pytest.mark.parametrize(
    "changes", [{}, {"deformable": True, "layers": 6}], ids=["card", "original"]
)


def images(batch: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch)
    coarse = torch.rand(batch, 3, height // 8, width // 8, generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").byte()


@pytest.mark.parametrize(
    ("name", "parameters"), [("fai-pem-m-ade", 16_182_327), ("pem-stdc2-ade", 21_021_960)]
)
def test_the_named_variants_have_the_published_number_of_parameters(
    name: str, parameters: int
) -> None:
    with torch.device("meta"):
        network = Pem(VARIANTS[name]())
    assert sum(value.numel() for value in network.parameters()) == parameters


@BOTH_VARIANTS
def test_every_layer_gives_an_auxiliary_output_and_a_gradient(
    tiny_network: Build, changes: dict[str, object]
) -> None:
    network = tiny_network(**changes)
    prediction = network(images(2, 64, 96))
    assert prediction.logits.shape == (2, 10, 8)
    assert prediction.masks.shape == (2, 10, 16, 24)
    assert len(prediction.earlier) == network.config.layers
    outputs = (prediction, *prediction.earlier)
    sum(output.logits.mean() + output.masks.mean() for output in outputs).backward()
    unused = [name for name, value in network.named_parameters() if value.grad is None]
    assert unused == []


def test_a_batch_gives_what_its_images_give_alone(tiny_network: Build) -> None:
    network = tiny_network().double()
    batch = images(3, 64, 64)
    with torch.inference_mode():
        together = network(batch)
        for number in range(3):
            alone = network(batch[number : number + 1])
            torch.testing.assert_close(together.logits[number], alone.logits[0])
            torch.testing.assert_close(together.masks[number], alone.masks[0])


@BOTH_VARIANTS
@pytest.mark.parametrize("size", [(32, 32), (64, 96), (96, 64)])
def test_the_serving_network_is_the_network_and_its_reading(
    tiny_network: Build, changes: dict[str, object], size: tuple[int, int]
) -> None:
    network = tiny_network(**changes).double()
    batch = images(2, *size)
    with torch.inference_mode():
        expected = card_outputs(network(batch), (size[0] // 4, size[1] // 4))
        served = ServingPem(network, *size, mask_stride=4).double()(batch.permute(0, 2, 3, 1))
    np.testing.assert_array_equal(served[0], expected[0])
    torch.testing.assert_close(served[1], expected[1], atol=1e-9, rtol=0)
    np.testing.assert_array_equal(served[2], expected[2])


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_mask_stride_is_the_size_of_the_index_map(tiny_network: Build, stride: int) -> None:
    network = tiny_network()
    with torch.inference_mode():
        _, _, masks = ServingPem(network, 64, 96, stride)(torch.zeros(1, 64, 96, 3).byte())
    assert (masks.shape, masks.dtype) == ((1, 64 // stride, 96 // stride), torch.uint8)


@pytest.mark.parametrize(
    ("size", "sentence"),
    [((64, 100), "multiples of 32"), ((16, 32), "multiples of 32"), ((64, 64, 3), "1, 2 or 4")],
)
def test_an_impossible_size_or_stride_is_refused(
    tiny_network: Build, size: tuple[int, ...], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        ServingPem(tiny_network(), *size)
    if len(size) == 2:
        with pytest.raises(ValueError, match=sentence):
            tiny_network()(torch.zeros(1, 3, *size))
