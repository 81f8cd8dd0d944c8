"""The model repository agrees with itself, with the graph, and with its warm-up files' script."""

import importlib.util
import io
import json
import re
import struct
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from tritonclient.grpc import model_config_pb2

from pem_server.checkout import MODEL_REPOSITORY
from pem_server.model_config import read_model_config

ENSEMBLE = "fai-pem-m-ade"
STEPS = ["pem_network", "pem_postprocess", "pem_preprocess", "pem_render"]
CONFIGS = sorted(MODEL_REPOSITORY.glob("*/config.pbtxt")) + sorted(
    MODEL_REPOSITORY.glob("*/configs/*.pbtxt")
)
DTYPES = {
    model_config_pb2.TYPE_UINT8: np.uint8,
    model_config_pb2.TYPE_INT32: np.int32,
    model_config_pb2.TYPE_FP32: np.float32,
    model_config_pb2.TYPE_FP64: np.float64,
}
ONNX_TYPES = {
    "tensor(uint8)": model_config_pb2.TYPE_UINT8,
    "tensor(int32)": model_config_pb2.TYPE_INT32,
    "tensor(float)": model_config_pb2.TYPE_FP32,
}

each_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda p: "-".join(p.parts[-3:]))
each_step_config = pytest.mark.parametrize(
    "path", [path for path in CONFIGS if ENSEMBLE not in path.parts], ids=each_config.kwargs["ids"]
)


def model_of(path: Path) -> Path:
    return MODEL_REPOSITORY / path.relative_to(MODEL_REPOSITORY).parts[0]


def read(path: Path):
    named = path.stem if path.parent.name == "configs" else None
    return read_model_config(model_of(path), named)


def variants_of(model: str) -> list:
    return [read(path) for path in CONFIGS if model_of(path).name == model]


def chosen(model: str, config_name: str | None):
    """What the server reads with --model-config-name."""
    return read_model_config(MODEL_REPOSITORY / model, config_name)


def tensors(config) -> dict[str, tuple]:
    inputs = {f"in {t.name}": (t.data_type, [*t.dims], t.optional) for t in config.input}
    return inputs | {f"out {t.name}": (t.data_type, [*t.dims]) for t in config.output}


def fits(source: tuple, target: tuple) -> bool:
    """Whether a tensor of one type and dims may go where another is declared; -1 is any length."""
    (source_type, source_dims), (target_type, target_dims) = source, target
    return source_type == target_type and all(
        -1 in pair or pair[0] == pair[1] for pair in zip(source_dims, target_dims, strict=True)
    )


def test_every_folder_is_a_model_and_there_are_no_other_files():
    found = sorted(path.name for path in MODEL_REPOSITORY.iterdir())
    assert found == sorted([ENSEMBLE, *STEPS, "CHECKSUMS"])
    for model in [ENSEMBLE, *STEPS]:
        assert (MODEL_REPOSITORY / model / "config.pbtxt").is_file()
        assert (MODEL_REPOSITORY / model / "1").is_dir()
    assert (MODEL_REPOSITORY / ENSEMBLE / "1" / ".gitkeep").is_file()  # Git drops empty folders


@each_config
def test_a_configuration_names_its_model_and_batches_eight(path):
    config = read(path)
    assert config.name == model_of(path).name
    assert config.max_batch_size == 8
    assert bool(config.backend) != bool(config.platform)


@pytest.mark.parametrize("model", [ENSEMBLE, *STEPS])
def test_all_configurations_of_a_model_have_the_same_tensors(model):
    first, *others = variants_of(model)
    assert [tensors(other) for other in others] == [tensors(first)] * len(others)


def test_the_models_that_differ_on_a_t4_have_a_configuration_for_it():
    found = sorted(path.parts[-3] for path in CONFIGS if path.name == "t4.pbtxt")
    assert found == [ENSEMBLE, "pem_network", "pem_preprocess"]


def limited_queues(config_name):
    steps = {name: chosen(name, config_name).dynamic_batching for name in STEPS}
    return {name: step for name, step in steps.items() if step.HasField("default_queue_policy")}


def test_on_a_cpu_no_queue_has_a_policy():
    """A policy stops Triton's prefetching, and the gateway lets in only what the steps work on."""
    assert limited_queues(None) == {}


def test_on_a_t4_one_queue_has_a_limit_and_a_deadline():
    """Only one, because each costs up to half a second of an idle step."""
    limited = limited_queues("t4")
    assert [*limited] == ["pem_preprocess"]
    policy = limited["pem_preprocess"].default_queue_policy
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert policy.default_timeout_microseconds > 0  # at 0, Triton ignores the client's own limit
    assert policy.allow_timeout_override
    assert policy.max_queue_size >= 8
    # A delay and a time limit together make a model slower and slower (server#8870).
    assert limited["pem_preprocess"].max_queue_delay_microseconds == 0


@each_step_config
def test_every_step_declares_where_it_runs(path):
    [group] = read(path).instance_group
    on_gpu = read(path).platform == "tensorrt_plan"
    assert group.kind == (group.KIND_GPU if on_gpu else group.KIND_CPU)
    assert group.count >= 1


def test_the_t4_runs_the_engine():
    config = read(MODEL_REPOSITORY / "pem_network" / "configs" / "t4.pbtxt")
    assert (config.platform, config.default_model_filename) == ("tensorrt_plan", "model.plan")
    assert config.HasField("dynamic_batching")  # there a batch pays
    assert not chosen("pem_network", None).HasField("dynamic_batching")
    assert [sample.batch_size for sample in config.model_warmup] == [1, 4, 8]


@pytest.mark.parametrize("config_name", [None, "t4"])
def test_the_ensemble_connects_tensors_of_one_type_and_shape(config_name):
    config = chosen(ENSEMBLE, config_name)
    known = {t.name: (t.data_type, [*t.dims]) for t in config.input}
    optional = {t.name for t in config.input if t.optional}
    for wiring in config.ensemble_scheduling.step:
        step = read(MODEL_REPOSITORY / wiring.model_name / "config.pbtxt")
        inputs = {t.name: t for t in step.input}
        outputs = {t.name: t for t in step.output}
        assert set(wiring.input_map) == set(inputs)
        assert set(wiring.output_map) == set(outputs)
        assert config.max_batch_size <= step.max_batch_size
        for name, source in wiring.input_map.items():
            assert fits(known[source], (inputs[name].data_type, inputs[name].dims)), name
            assert inputs[name].optional == (source in optional)
        for name, target in wiring.output_map.items():
            assert target not in known
            known[target] = outputs[name].data_type, [*outputs[name].dims]
    for output in config.output:
        assert fits(known[output.name], (output.data_type, output.dims))


def test_no_step_makes_both_outputs_so_that_one_alone_costs_one():
    config = read(MODEL_REPOSITORY / ENSEMBLE / "config.pbtxt")
    outputs = {output.name for output in config.output}
    by_step = [outputs & {*step.output_map.values()} for step in config.ensemble_scheduling.step]
    assert [names for names in by_step if names] == [{"detections"}, {"segmentation"}]


def test_only_the_t4_limits_requests_in_flight():
    portable, t4 = (chosen(ENSEMBLE, name).ensemble_scheduling for name in (None, "t4"))
    assert portable.max_inflight_requests == 0  # Triton 2.51 cannot read the field
    assert t4.max_inflight_requests >= 8  # a full batch
    t4.ClearField("max_inflight_requests")
    assert t4 == portable


def test_the_steps_agree_on_the_largest_image():
    limits = {
        config.parameters["max_image_pixels"].string_value
        for model in ("pem_preprocess", "pem_postprocess", "pem_render")
        for config in variants_of(model)
    }
    assert len(limits) == 1


@each_step_config
def test_warmup_gives_every_required_input_a_file_of_its_size(path):
    config = read(path)
    inputs = {t.name: t for t in config.input}
    required = {t.name for t in config.input if not t.optional}
    assert config.model_warmup
    for sample in config.model_warmup:
        assert set(sample.inputs) == required
        assert 1 <= sample.batch_size <= config.max_batch_size
        for name, given in sample.inputs.items():
            assert fits((given.data_type, given.dims), (inputs[name].data_type, inputs[name].dims))
            if given.zero_data:
                continue
            content = (model_of(path) / "warmup" / given.input_data_file).read_bytes()
            if given.data_type == model_config_pb2.TYPE_STRING:
                assert struct.unpack("<I", content[:4]) == (len(content) - 4,)
            else:
                size = np.prod(given.dims) * np.dtype(DTYPES[given.data_type]).itemsize
                assert len(content) == size


def test_the_warmup_files_are_those_that_their_script_draws(root):
    path = root / "build" / "make_warmup.py"
    spec = importlib.util.spec_from_file_location("make_warmup", path)
    make_warmup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_warmup)
    drawn = make_warmup.warmup_files()
    assert sorted(drawn) == sorted(MODEL_REPOSITORY.glob("*/warmup/*"))
    for path, content in drawn.items():
        committed = path.read_bytes()
        if path.suffix == ".bytes":  # compressors differ between machines
            committed, content = (
                np.asarray(Image.open(io.BytesIO(file[4:]))) for file in (committed, content)
            )
            assert np.abs(committed.astype(int) - content).max() <= 2
        else:
            assert committed == content, f"{path}: run build/make_warmup.py"


@pytest.fixture(scope="module")
def graph():
    file = MODEL_REPOSITORY / "pem_network" / "1" / "model.onnx"
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def test_the_graph_has_the_tensors_of_the_network_step(graph):
    config = chosen("pem_network", None)
    for declared, found in (
        (config.input, graph.get_inputs()),
        (config.output, graph.get_outputs()),
    ):
        assert {t.name: (t.data_type, [*t.dims]) for t in declared} == {
            t.name: (ONNX_TYPES[t.type], t.shape[1:]) for t in found
        }
        assert all(isinstance(t.shape[0], str) for t in found)  # any batch size


def test_the_labels_are_the_150_classes_of_the_graph(graph):
    labels = (MODEL_REPOSITORY / "pem_postprocess" / "labels.txt").read_text().splitlines()
    assert len(labels) == len(set(labels)) == 150
    assert (labels[0], labels[2], labels[20], labels[149]) == ("wall", "sky", "car", "flag")
    assert json.loads(graph.get_modelmeta().custom_metadata_map["class_names"]) == labels


def test_the_labels_are_those_of_the_model_card(shared):
    rows = re.findall(
        r"<td>(\d+)</td>\s*<td>([^<]+)</td>\s*<td>[\d.]+</td>",
        (shared / "model-card.md").read_text(),
    )
    labels = (MODEL_REPOSITORY / "pem_postprocess" / "labels.txt").read_text().splitlines()
    assert rows == [(str(number), label) for number, label in enumerate(labels, start=1)]
