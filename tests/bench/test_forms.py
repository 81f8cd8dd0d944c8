"""The forms: half precision against single, which of them run here, TensorRT's names."""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pem_bench import cpu_forms, cuda_forms, tensorrt_forms
from pem_bench.forms import (
    NAIVE,
    REFERENCE,
    SERVED_FORMS,
    Absent,
    Form,
    Sources,
    agreement,
    find_forms,
)
from pem_bench.half_precision import HalfPem
from pemexport.serving import ServingPem
from pemseg import Pem


def test_half_precision_answers_nearly_the_same(tiny_network: Callable[..., Pem]) -> None:
    serving = ServingPem(tiny_network(seed=24), 64, 96).eval()
    random = torch.Generator().manual_seed(1)
    blocks = torch.randint(0, 256, (2, 8, 12, 3), generator=random, dtype=torch.uint8)
    images = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    with torch.inference_mode():
        half = HalfPem(serving).eval()(images)
        single = serving(images)
    assert [value.dtype for value in half] == [value.dtype for value in single]
    found = agreement(
        tuple(value.numpy() for value in half), tuple(value.numpy() for value in single)
    )
    assert found.class_ids > 0.9
    assert found.scores < 0.01
    assert found.masks > 0.98
    assert len(single[2].unique()) > 2  # or the agreement of masks would say nothing


def test_half_precision_leaves_the_network_as_it_was(tiny_network: Callable[..., Pem]) -> None:
    serving = ServingPem(tiny_network(), 64, 64)
    before = {name: value.clone() for name, value in serving.state_dict().items()}
    half = HalfPem(serving)
    for name, value in serving.state_dict().items():
        assert torch.equal(value, before[name])
    convolution = half.network.backbone.features[3].conv_list[1].conv
    assert convolution.weight.dtype == torch.float16
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)


def test_agreement_counts_each_output() -> None:
    ids, scores, masks = np.arange(4), np.zeros(4, np.float32), np.zeros((2, 2), np.uint8)
    found = agreement((ids, scores + 0.5, masks), (np.array([0, 1, 2, 9]), scores, masks + 1))
    assert (found.class_ids, found.scores, found.masks) == (0.75, 0.5, 0.0)


def test_a_form_is_there_or_says_why_not() -> None:
    forms = find_forms(Sources())
    assert len({form.name for form in forms}) == len(forms) == 9
    for form in forms:
        assert isinstance(form, Form) or form.reason.startswith("needs ")
    present = [form.name for form in forms if isinstance(form, Form)]
    assert {REFERENCE, NAIVE, "OpenVINO FP32, CPU"} <= set(present)
    assert SERVED_FORMS.keys() <= {form.name for form in forms}


def test_int8_needs_the_processor_and_the_ranges(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def int8(sources: Sources) -> Form | Absent:
        return next(form for form in cpu_forms.forms(sources) if "INT8" in form.name)

    monkeypatch.setattr(cpu_forms, "has_int8", lambda: True)
    assert isinstance(int8(Sources()), Form)
    bare = int8(Sources(graph=tmp_path / "model.onnx"))
    assert isinstance(bare, Absent)
    assert bare.reason.endswith("model.ranges.json; make it with ./run export --calibration IMAGES")
    monkeypatch.setattr(cpu_forms, "has_int8", lambda: False)
    other = int8(Sources())
    assert isinstance(other, Absent)
    assert "INT8 dot products" in other.reason


def test_without_an_engine_tensorrt_says_how_to_make_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tensorrt_forms, "load_tensorrt", object)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "NVIDIA GPU" in str(tensorrt_forms.why_not(Sources(engine=tmp_path / "none.plan")))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    plain, graph = tensorrt_forms.forms(Sources(engine=tmp_path / "none.plan"))
    assert isinstance(plain, Absent)
    assert isinstance(graph, Absent)
    assert plain.reason.endswith("none.plan; make it with ./run engine")
    (tmp_path / "none.plan").touch()
    for form in tensorrt_forms.forms(Sources(engine=tmp_path / "none.plan")):
        assert isinstance(form, Form)


def test_on_a_gpu_pytorch_is_a_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (form,) = cuda_forms.forms(Sources())
    assert isinstance(form, Form)


class FakeContext:
    """Takes addresses as TensorRT's does, and answers into them."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return name == "image"

    def get_tensor_shape(self, name: str) -> list[int]:
        batch, height, width, _ = self.shape
        return [batch, height, width] if name == "masks" else [batch, 100]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        batch, height, width, _ = self.shape
        image = self.at("image", ctypes.c_uint8, self.shape)
        self.at("class_ids", ctypes.c_int32, (batch, 100))[:] = 7
        self.at("scores", ctypes.c_float, (batch, 100))[:] = 0.5
        self.at("masks", ctypes.c_uint8, (batch, height, width))[:] = image[..., 1]
        return stream == 11

    def at(self, name: str, kind: type, shape: tuple[int, ...]) -> np.ndarray:
        memory = ctypes.cast(self.addresses[name], ctypes.POINTER(kind))
        return np.ctypeslib.as_array(memory, shape)


def fake_tensorrt(engine: object) -> SimpleNamespace:
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: engine)
    return SimpleNamespace(
        Logger=type("Logger", (), {"WARNING": 1, "__init__": lambda self, level: None}),
        Runtime=lambda logger: runtime,
        __version__="10.16.1",
    )


def test_an_engine_answers_from_the_memory_it_was_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    contexts: list[FakeContext] = []

    def new_context() -> FakeContext:
        contexts.append(FakeContext())
        return contexts[-1]

    engine = SimpleNamespace(create_execution_context=new_context)
    monkeypatch.setattr(tensorrt_forms, "load_tensorrt", lambda: fake_tensorrt(engine))
    monkeypatch.setattr(cuda_forms, "DEVICE", "cpu")
    stream = SimpleNamespace(cuda_stream=11)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    (tmp_path / "model.plan").write_bytes(b"plan")
    sources = Sources(engine=tmp_path / "model.plan")
    network = tensorrt_forms.engine_form(sources, graph=False)
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    for batch in (images[:1], images, images[::-1], images[1:2]):
        class_ids, scores, masks = network(batch)
        assert (class_ids.dtype, class_ids.shape) == (np.int32, (len(batch), 100))
        assert set(class_ids.flat) == {7}
        assert set(scores.flat) == {0.5}
        np.testing.assert_array_equal(masks, batch[..., 1])
    assert len(contexts) == 2  # one for each batch size


def test_an_engine_that_tensorrt_refuses_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tensorrt_forms, "load_tensorrt", lambda: fake_tensorrt(None))
    (tmp_path / "model.plan").touch()
    with pytest.raises(OSError, match=r"an engine of TensorRT 10\.16\.1 .* ./run engine"):
        tensorrt_forms.engine_form(Sources(engine=tmp_path / "model.plan"), graph=True)


@pytest.mark.parametrize("version", ["10.16.1", "11.4.0"])
def test_tensorrt_has_the_names_that_are_used(shared: Path, version: str) -> None:
    stub = (shared / "tensorrt-api" / f"tensorrt-{version}.pyi").read_text("utf-8")
    source = Path(tensorrt_forms.__file__).read_text("utf-8")
    used = set(re.findall(r"\b(?:trt|engine|context|Runtime\(logger\))\.(\w+)", source))
    used -= {"is_file", "read_bytes", "plan", "__version__"}  # of pathlib, of the package
    assert used >= {"Runtime", "Logger", "create_execution_context", "execute_async_v3"}
    for name in used:
        assert re.search(rf"^\s*(def|class) {name}\b|^\s*{name}: ", stub, re.M), name
