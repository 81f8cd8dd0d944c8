"""The step opens a graph, and answers what the contract promises."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image


@pytest.fixture
def openvino_network(load_model):
    return load_model("pem_network", "openvino_network")


@pytest.fixture
def graph(save_graph):
    """A stub with the network's contract on 4 x 4 images, its outputs in another order."""
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
        ("masks", TensorProto.UINT8, ["batch", 4, 4]),
        ("scores", TensorProto.FLOAT, ["batch", 4]),
        ("class_ids", TensorProto.INT32, ["batch", 4]),
    ]
    image = ("image", TensorProto.UINT8, ["batch", 4, 4, 3])
    return save_graph(nodes, [image], outputs, [axes, channel])


@pytest.mark.parametrize("count", [1, 3])
def test_the_outputs_come_in_the_order_of_the_contract(openvino_network, graph, count):
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    class_ids, scores, masks = openvino_network.Network(graph, threads=1, precision="f32")(images)
    assert (masks == images.max(axis=3)).all()
    assert np.allclose(scores, images.mean(axis=(2, 3)), atol=1e-4)
    assert (class_ids == scores.astype(np.int32)).all()
    assert (class_ids.dtype, scores.dtype, masks.dtype) == (np.int32, np.float32, np.uint8)


def test_a_graph_without_ranges_computes_in_floats_and_says_why(
    openvino_network, graph, monkeypatch
):
    cpu = openvino_network.detect_cpu(openvino_network.openvino_core())
    with_int8 = replace(cpu, int8=True, bf16=False)
    monkeypatch.setattr(openvino_network, "detect_cpu", lambda _: with_int8)
    network = openvino_network.Network(graph, threads=1)
    assert str(network.precision).startswith("f32 (no int8: ")
    assert "model.ranges.json" in str(network.precision)


def test_signals_arrive_after_networks_came_and_went(graph):
    """Not here but in a new process, since it dies otherwise: see `openvino_core`."""
    script = f"""
import os, pathlib, signal
from pemexport.repository_steps import open_network
arrived = []
signal.signal(signal.SIGUSR1, lambda *_: arrived.append(True))
networks = [open_network(pathlib.Path({str(graph)!r}), "f32", 1) for _ in range(2)]
networks.clear()
os.kill(os.getpid(), signal.SIGUSR1)
assert arrived
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def class_map(network, image):
    class_ids, _, masks = network(image)
    return class_ids[0, masks[0]]


def test_int8_sees_the_drawn_street_as_f32_does(openvino_network, root):
    with Image.open(root / "docs" / "street.jpg") as image:
        street = np.asarray(image.convert("RGB").resize((640, 640)))[None]
    path = root / "model_repository" / "pem_network" / "1" / "model.onnx"
    if not openvino_network.detect_cpu(openvino_network.openvino_core()).int8:
        pytest.skip("needs a CPU with INT8 dot products")
    quick = openvino_network.Network(path, threads=0, precision="int8")
    exact = openvino_network.Network(path, threads=0, precision="f32")
    assert quick.precision.int8
    same_floats = openvino_network.Network(path, threads=0, precision=quick.precision.floats)
    assert (quick(street)[1] != same_floats(street)[1]).any()  # INT8 is another computation
    found, expected = class_map(quick, street), class_map(exact, street)
    assert len(np.unique(expected)) > 5
    assert (found == expected).mean() > 0.98
