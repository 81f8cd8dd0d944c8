"""The documented exports, trainings and measurements, which take minutes: `./run test --all`."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from pemexport.repository_steps import has_int8

pytestmark = pytest.mark.slow

SMALL = "--size 320"  # a quarter of the time, on the same way
# Two toy scenes cannot judge a graph: tests/quant shows what the limits do.
ANY = "--max-loss 100"

Run = Callable[..., str]


@pytest.fixture
def words(folder: Path) -> dict[str, str]:
    """What stands for the user's own folders: one of the ADE20K layout with four images."""
    from pem_training.toy_scenes import write_dataset

    write_dataset(folder / "toys", 2, 2, 36)
    return {"FOLDER": str(folder / "toys"), "IMAGES": str(folder / "toys/images/validation")}


def test_weights_become_the_graph_that_is_served(root, folder, run):
    source = {"checkpoint.pth": str(root / "build/weights/street-scenes.safetensors")}
    run("./run import-weights checkpoint.pth --output my.safetensors", **source)
    run("./run export --weights my.safetensors", "--output model.onnx")
    committed = root / "model_repository" / "pem_network" / "1" / "model.onnx"
    new, served = onnx.load(folder / "model.onnx"), onnx.load(committed)
    assert [*new.metadata_props] == [*served.metadata_props]  # the weights' checksum among them
    assert [node.op_type for node in new.graph.node] == [node.op_type for node in served.graph.node]


def test_the_graph_is_exported_with_ranges_for_int8(run, words):
    if not has_int8():
        pytest.skip("needs a processor with INT8 dot products, on which the ranges are judged")
    export = "./run export --data FOLDER --calibration IMAGES"
    exported = run(export, f"{ANY} {SMALL} --output model.onnx", **words)
    assert exported.split() == ["model.onnx", "model.ranges.json"]


def test_graphs_for_tensorrt_are_exported_and_checked(run, words):
    run("./run export --precision fp16", f"{SMALL} --output fp16.onnx")
    export = "./run export --precision int8 --data FOLDER --calibration IMAGES"
    run(export, f"{ANY} {SMALL} --output int8.onnx", **words)
    for graph in ("fp16.onnx", "int8.onnx"):
        run("./run engine --compile artifacts/pem-fp16.onnx", **{"artifacts/pem-fp16.onnx": graph})


def test_a_folder_is_evaluated_and_trained_on(folder, real_server, run, words):
    url = {"grpc://127.0.0.1:8001": f"grpc://{real_server.grpc_url}"}
    evaluated = run("./run evaluate --data FOLDER --model grpc://127.0.0.1:8001", **words | url)
    assert "pixel accuracy" in evaluated
    short = "--steps 1 --batch 2 --crop 64 --eval-every 0 --precision float32"
    run("./run train --data FOLDER --output artifacts/training", short, **words)
    assert (folder / "artifacts" / "training" / "checkpoint.pth").is_file()


@pytest.mark.parametrize(
    ("line", "more", "file"),
    [
        ("./run bench engine --roofline", "", "roofline.json"),
        ("./run bench engine", "--batches 1 --rounds 1 --only openvino", "engine.json"),
        ("./run bench steps", "--rounds 1 --turn-seconds 0.5", "steps.json"),
    ],
)
def test_the_bench_measures(folder, run, line, more, file):
    run(line, f"{more} --output measured")
    assert (folder / "measured" / file).is_file()


def test_a_graph_of_the_sdk_is_wrapped(root, folder, run):
    model = onnx.load(root / "model_repository" / "pem_network" / "1" / "model.onnx")
    _use_tensors_of_the_sdk(model.graph)
    onnx.save(model, folder / "model.onnx")
    assert run("./run wrap-onnx model.onnx --output wrapped.onnx") == "wrapped.onnx\n"


def _use_tensors_of_the_sdk(graph: onnx.GraphProto) -> None:
    """Planes of floats in; class ids, index map and scores out, in this order."""
    shape = ["batch", 3, 640, 640]
    graph.input[0].CopyFrom(helper.make_tensor_value_info("images", TensorProto.FLOAT, shape))
    graph.node.insert(0, helper.make_node("Cast", ["pixels"], ["image"], to=TensorProto.UINT8))
    graph.node.insert(0, helper.make_node("Transpose", ["images"], ["pixels"], perm=[0, 2, 3, 1]))
    class_ids, scores, masks = list(graph.output)
    del graph.output[:]
    graph.output.extend([class_ids, masks, scores])
