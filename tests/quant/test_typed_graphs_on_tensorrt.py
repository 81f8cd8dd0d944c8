"""TensorRT's parser takes the typed forms, by its list of operators for a T4."""

from collections.abc import Callable

import onnx
import pytest

from pemquant.fp16 import to_half
from pemquant.int8 import candidates, quantise
from pemtrt.parser_check import prove

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


def test_the_fp16_form_is_in_the_list(exported: Callable[..., onnx.ModelProto]) -> None:
    assert prove(to_half(exported())).problems == []


def test_the_int8_form_is_in_the_list(exported: Callable[..., onnx.ModelProto]) -> None:
    model = exported()
    layers = candidates(model)
    clips = {node.input[0]: 3.0 for node in model.graph.node if node.name in layers}
    assert prove(to_half(quantise(model, clips, layers))).problems == []
