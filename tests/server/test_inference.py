import numpy as np
import openvino
import pytest
from onnx import TensorProto, helper, save


@pytest.fixture
def inference(load_model):
    return load_model("pem_network", "inference")


@pytest.fixture
def graph(tmp_path):
    """A stand-in with the network's contract on 4 x 4 images, its outputs in another order."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    channel = helper.make_tensor("channel", TensorProto.INT64, [1], [3])
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["pixels", "channel"], ["brightest"], keepdims=0),
        helper.make_node("Cast", ["brightest"], ["masks"], to=TensorProto.UINT8),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["scores"], keepdims=0),
        helper.make_node("Cast", ["scores"], ["class_ids"], to=TensorProto.INT32),
    ]
    outputs = [
        helper.make_tensor_value_info("masks", TensorProto.UINT8, ["batch", 4, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 4]),
        helper.make_tensor_value_info("class_ids", TensorProto.INT32, ["batch", 4]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 4, 4, 3])
    made = helper.make_graph(nodes, "stand-in", [image], outputs, [axes, channel])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path / "model.onnx"
    save(model, path)
    return path


@pytest.mark.parametrize("count", [1, 3])
def test_the_outputs_come_in_the_order_of_the_contract(inference, graph, count):
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)

    class_ids, scores, masks = inference.Network(graph, threads=1, precision="f32")(images)

    assert (masks == images.max(axis=3)).all()
    assert np.allclose(scores, images.mean(axis=(2, 3)), atol=1e-4)
    assert (class_ids == scores.astype(np.int32)).all()
    assert (class_ids.dtype, scores.dtype, masks.dtype) == (np.int32, np.float32, np.uint8)


def test_a_missing_file_is_one_sentence(inference, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^the network must lie at .*model\.onnx; make it"):
        inference.Network(tmp_path / "model.onnx", threads=1)


@pytest.mark.parametrize(
    ("wanted", "has_bf16", "taken"),
    [("auto", True, "bf16"), ("auto", False, "f32"), ("f32", True, "f32"), ("bf16", True, "bf16")],
)
def test_the_processor_decides_the_precision(
    inference, graph, monkeypatch, wanted, has_bf16, taken
):
    told = []

    class Core(openvino.Core):
        def get_property(self, device, name):
            assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
            return ["FP32", "BF16"] if has_bf16 else ["FP32"]

        def compile_model(self, path, device, settings):
            told.append(settings["INFERENCE_PRECISION_HINT"])
            return super().compile_model(path, device, {})

    monkeypatch.setattr(openvino, "Core", Core)

    assert inference.Network(graph, threads=1, precision=wanted).precision == taken
    assert told == [taken]


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("fp16", "precision must be one of auto, bf16, f32, got 'fp16'"),
        ("bf16", "precision bf16 needs a processor with bfloat16"),
    ],
)
def test_a_precision_that_cannot_be_is_one_sentence(
    inference, graph, monkeypatch, wanted, sentence
):
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32"])

    with pytest.raises(ValueError, match=f"^{sentence}"):
        inference.Network(graph, threads=1, precision=wanted)
