"""Graphs of the Focoos SDK in this project's contract: stubs with its inputs and outputs.

The real file needs an account, so each layout is built here as a small graph with the SDK's tensors
(names, order, types, shapes, ranges).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import wrap_focoos
from torch import Tensor, nn
from wrap_focoos import WrapError

from pemexport import contract
from pemexport.focoos_graph import ForeignGraphError, detect_layout
from pemexport.onnx_rewrite import open_session

Make = Callable[..., Path]
Capture = pytest.CaptureFixture[str]

# torch's older exporter, the SDK's, announces its successor at every call.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SIZE = 32
QUERIES, CLASSES = 100, 150


def probabilities(masks: Tensor, classes: Tensor) -> tuple[Tensor, ...]:
    """SDK 0.12 and later: masks first."""
    return masks, classes


def raw_logits(masks: Tensor, classes: Tensor) -> tuple[Tensor, ...]:
    return masks, classes.log()


def index_map(masks: Tensor, classes: Tensor) -> tuple[Tensor, ...]:
    """SDK 0.9: class ids, index map, scores."""
    scores, class_ids = classes.max(-1)
    return class_ids, (masks * scores[..., None, None]).argmax(1), scores


def index_map_of_floats(masks: Tensor, classes: Tensor) -> tuple[Tensor, ...]:
    return tuple(output.float() for output in index_map(masks, classes))


class Stub(nn.Module):
    """A network that depends on colors, so that a wrong channel order changes every answer."""

    def __init__(
        self, finish: Callable[..., Any], stride: int, classes: int = CLASSES, batch: int = -1
    ) -> None:
        """`batch` 1: what tracing with one image can leave behind in the graph itself."""
        super().__init__()
        torch.manual_seed(5)
        self.mean = nn.Parameter(torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1))
        self.see = nn.Conv2d(3, QUERIES, 5, stride, padding=2)
        self.name = nn.Linear(QUERIES, QUERIES * (classes + 1))
        self.finish, self.classes, self.batch = finish, classes, batch

    def inside(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mask probabilities (B, Q, h, w) and class probabilities (B, Q, K)."""
        seen = self.see((images.float() - self.mean) / 58)
        logits = self.name(seen.mean((2, 3))).unflatten(1, (QUERIES, self.classes + 1))
        return (seen * 3).sigmoid(), (logits * 9).softmax(-1)[..., :-1]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.batch > 0:
            images = images.reshape(self.batch, 3, SIZE, SIZE)
        return self.finish(*self.inside(images))


MASKS_FIRST = ("masks", "logits")
MISNAMED = ("logits", "masks")  # as the SDK's BiSeNetFormer names them: masks come first
THREE = ("cls_ids", "masks", "scores")
OPEN = {"images": {0: "batch", 2: "height", 3: "width"}}
FIXED: dict[str, dict[int, str]] = {}


@pytest.fixture
def images() -> np.ndarray:
    """Eight images (8, 32, 32, 3) of colored blocks."""
    blocks = np.random.default_rng(2).integers(0, 256, (8, 8, 8, 3), np.uint8)
    return blocks.repeat(4, 1).repeat(4, 2)


@pytest.fixture
def exported(tmp_path: Path) -> Make:
    def export(
        module: nn.Module,
        names: tuple[str, ...],
        axes: dict[str, dict[int, str]] = OPEN,
        opset: int = 17,
        dtype: torch.dtype = torch.float32,
    ) -> Path:
        path = tmp_path / "focoos" / "model.onnx"
        path.parent.mkdir(exist_ok=True)
        torch.onnx.export(
            module.eval(),
            (128 * torch.ones(1, 3, SIZE, SIZE).to(dtype),),
            path,
            input_names=["images"],
            output_names=list(names),
            dynamic_axes=axes,
            opset_version=opset,
            dynamo=False,
        )
        return path

    return export


@pytest.fixture
def wrap(exported: Make, tmp_path: Path, images: np.ndarray) -> Make:
    """Export a module as the SDK does, and wrap it."""

    def wrap(module: nn.Module, names: tuple[str, ...], bgr: bool = False, **options: Any) -> Path:
        target = tmp_path / "new" / ("bgr.onnx" if bgr else "rgb.onnx")
        return wrap_focoos.wrap_focoos(exported(module, names, **options), target, images, bgr=bgr)

    return wrap


@pytest.mark.parametrize(
    ("module", "names", "axes", "opset"),
    [
        (Stub(index_map, 1), THREE, OPEN, 17),
        (Stub(index_map_of_floats, 1), ("output0", "output1", "output2"), FIXED, 13),
        (Stub(index_map, 4), THREE, OPEN, 17),
        (Stub(probabilities, 1), MISNAMED, OPEN, 18),
        (Stub(probabilities, 4), MASKS_FIRST, FIXED, 18),
    ],
    ids=["map", "floats", "map at 1/4", "misnamed", "masks at 1/4"],
)
def test_a_graph_of_either_layout_gets_the_tensors_of_the_contract(
    wrap: Make,
    images: np.ndarray,
    capsys: Capture,
    module: Stub,
    names: tuple[str, ...],
    axes: dict[str, dict[int, str]],
    opset: int,
) -> None:
    target = wrap(module, names, axes=axes, opset=opset)
    assert capsys.readouterr().err.count("class ids equal") == 3
    assert list(target.parent.iterdir()) == [target]
    class_ids, scores, masks = answers(target, images)
    assert (class_ids.dtype, scores.dtype, masks.dtype) == (np.int32, np.float32, np.uint8)
    true_ids, true_scores, true_masks = truth(module, images, masks.shape[1])
    np.testing.assert_array_equal(class_ids, true_ids)
    np.testing.assert_allclose(scores, true_scores, atol=1e-5)
    assert (masks == true_masks).mean() > 0.999
    assert len(np.unique(masks)) > 5  # or the agreement would say nothing


def truth(module: Stub, images: np.ndarray, size: int) -> tuple[np.ndarray, ...]:
    """The card's reading of the network itself, in PyTorch."""
    with torch.inference_mode():
        masks, classes = module.inside(torch.from_numpy(images).permute(0, 3, 1, 2))
        scores, class_ids = classes.max(-1)
        weighted = masks * scores[..., None, None]
        if weighted.shape[-1] != size:
            weighted = nn.functional.interpolate(weighted, (size, size), mode="bilinear")
    return class_ids.numpy(), scores.numpy(), weighted.argmax(1).numpy()


def answers(path: Path, images: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(open_session(path).run(list(contract.OUTPUTS), {contract.IMAGE: images}))


@pytest.mark.parametrize("dtype", [torch.float16, torch.uint8])
def test_half_precision_and_uint8_inputs_are_fed_what_they_take(
    wrap: Make, images: np.ndarray, dtype: torch.dtype
) -> None:
    target = wrap(Stub(index_map, 1), THREE, dtype=dtype)
    expected = truth(Stub(index_map, 1), images, SIZE)
    np.testing.assert_array_equal(answers(target, images)[0], expected[0])


def test_blue_first_is_fed_blue_first(wrap: Make, images: np.ndarray) -> None:
    plain, turned = (wrap(Stub(index_map, 1), THREE, bgr=bgr) for bgr in (False, True))
    flipped = np.ascontiguousarray(images[..., ::-1])
    for one, other in zip(answers(turned, flipped), answers(plain, images), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (answers(turned, images)[0] != answers(plain, images)[0]).any()


def test_the_new_file_has_metadata(wrap: Make) -> None:
    wrapped = onnx.load(wrap(Stub(probabilities, 4), MASKS_FIRST))
    facts = {entry.key: entry.value for entry in wrapped.metadata_props}
    assert json.loads(facts["class_names"]) == contract.class_names()
    assert facts["wrapped_layout"] == "probabilities, masks at stride 4, RGB inside"
    dims = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in (*wrapped.graph.input, *wrapped.graph.output)]  # fmt: skip
    assert dims == [["batch", 32, 32, 3], ["batch", 100], ["batch", 100], ["batch", 32, 32]]


@pytest.mark.parametrize(
    ("module", "names", "reason"),
    [
        (Stub(raw_logits, 4), MASKS_FIRST, "class probabilities .* 0 to 1"),
        (Stub(probabilities, 4, classes=19), MASKS_FIRST, "150 classes .* got 19"),
        (Stub(probabilities, 3), MASKS_FIRST, "whole number of times smaller"),
        (Stub(index_map, 8), THREE, "got 8"),
        (nn.Conv2d(3, 4, 3), ("boxes",), r"outputs must be .* got boxes \(1, 4, 30, 30\)"),
    ],
    ids=["raw logits", "other classes", "odd stride", "map at 1/8", "a detector"],
)
def test_another_graph_is_refused_and_the_old_file_stays(
    wrap: Make, tmp_path: Path, module: nn.Module, names: tuple[str, ...], reason: str
) -> None:
    target = tmp_path / "new" / "rgb.onnx"
    target.parent.mkdir()
    target.write_bytes(b"the old one")
    with pytest.raises(ForeignGraphError, match=reason):
        wrap(module, names)
    assert target.read_bytes() == b"the old one"


def test_a_graph_of_one_image_is_refused_with_the_remedy(wrap: Make, tmp_path: Path) -> None:
    with pytest.raises(WrapError, match="dynamic batch"):
        wrap(Stub(index_map, 1, batch=1), THREE, axes=FIXED)
    assert not list((tmp_path / "new").glob("*"))


def test_a_graph_of_another_size_or_with_two_inputs_is_refused(
    exported: Make, tmp_path: Path, images: np.ndarray
) -> None:
    source = exported(Stub(index_map, 1), THREE, FIXED)
    with pytest.raises(ForeignGraphError, match=r"\(batch, 3, 16, 16\), got \(1, 3, 32, 32\)"):
        wrap_focoos.wrap_focoos(source, tmp_path / "m.onnx", images[:, :16, :16])
    model = onnx.load(source)
    model.graph.input.append(onnx.helper.make_tensor_value_info("size", 1, [1]))
    onnx.save(model, source)
    with pytest.raises(ForeignGraphError, match="got 2"):
        wrap_focoos.wrap_focoos(source, tmp_path / "m.onnx", images)


@pytest.mark.parametrize("name", wrap_focoos.METADATA_FILES)
def test_other_class_names_beside_the_graph_are_refused(
    exported: Make, tmp_path: Path, images: np.ndarray, name: str
) -> None:
    source, names = exported(Stub(index_map, 1), THREE), contract.class_names()
    names[8] += " "  # so the SDK's registry spells "window"
    (source.parent / name).write_text(json.dumps({"classes": names}))
    wrap_focoos.wrap_focoos(source, tmp_path / "m.onnx", images)
    (source.parent / name).write_text(json.dumps({"classes": [*names[:7], "couch", *names[8:]]}))
    with pytest.raises(ForeignGraphError, match=r"labels\.txt from id 7"):
        wrap_focoos.wrap_focoos(source, tmp_path / "m.onnx", images)


def test_values_out_of_their_range_are_no_index_map() -> None:
    ids = np.zeros((1, QUERIES), np.int64)
    scores = np.full((1, QUERIES), 0.5, np.float32)
    masks = np.zeros((1, SIZE, SIZE), np.int64)
    good = {"ids": ids, "masks": masks, "scores": scores}
    assert detect_layout(good, SIZE).scores == "scores"
    swapped = {"scores": scores, "masks": masks, "ids": ids}  # types tell, not places
    assert detect_layout(swapped, SIZE).scores == "scores"
    for name, wrong in [("ids", ids + 150), ("masks", masks + 100), ("scores", scores * np.nan)]:
        with pytest.raises(ForeignGraphError, match="must be"):
            detect_layout(good | {name: wrong}, SIZE)


def test_a_file_that_is_no_graph_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("not a graph")
    for path in (tmp_path / "absent.onnx", text):
        assert wrap_focoos.main([str(path), "--output", str(tmp_path / "m.onnx")]) == 1
        output = capsys.readouterr()
        assert (output.out, output.err[:11], output.err.count("\n")) == ("", "wrap-onnx: ", 1)
