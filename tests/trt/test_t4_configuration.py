"""configs/t4.pbtxt against what the TensorRT backend of Triton makes of it."""

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from pem_server.checkout import MODEL_REPOSITORY
from pem_server.model_config import read_model_config
from pemtrt.build_options import BuildOptions


@pytest.fixture
def t4_config() -> ModelConfig:
    return read_model_config(MODEL_REPOSITORY / "pem_network", "t4")


def test_graphs_are_recorded_for_sizes_that_the_default_engine_takes(
    t4_config: ModelConfig,
) -> None:
    """The backend looks a graph up by batch size and dims without the batch, exactly."""
    [image] = t4_config.input
    cuda = t4_config.optimization.cuda
    assert cuda.graphs
    assert [spec.batch_size for spec in cuda.graph_spec] == [1, 2, 4, 8]
    for spec in cuda.graph_spec:
        assert {name: list(shape.dim) for name, shape in spec.input.items()} == {
            image.name: list(image.dims)
        }
        assert not spec.HasField("graph_lower_bound")


def test_the_default_engine_takes_every_batch_of_the_server(t4_config: ModelConfig) -> None:
    profile = BuildOptions().profile
    warmed = [sample.batch_size for sample in t4_config.model_warmup]
    assert warmed == [profile.smallest, profile.best, t4_config.max_batch_size]


def test_the_engine_has_one_instance_on_each_gpu_and_no_queue_policy(
    t4_config: ModelConfig,
) -> None:
    [group] = t4_config.instance_group
    assert (group.kind, group.count) == (ModelInstanceGroup.KIND_GPU, 1)
    assert [field.name for field, _ in t4_config.dynamic_batching.ListFields()] == [
        "max_queue_delay_microseconds"  # server#8870, see the file
    ]
