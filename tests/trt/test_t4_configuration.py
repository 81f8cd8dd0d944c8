"""configs/t4.pbtxt against what the TensorRT backend of Triton makes of it."""

from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

from pem_server.checkout import MODEL_REPOSITORY
from pem_server.model_config import read_model_config
from pemtrt.build_options import BuildOptions

CONFIG = read_model_config(MODEL_REPOSITORY / "pem_network", "t4")


def test_graphs_are_recorded_for_sizes_that_the_default_engine_takes() -> None:
    """The backend looks a graph up by batch size and dims without the batch, exactly."""
    [image] = CONFIG.input
    cuda = CONFIG.optimization.cuda
    assert cuda.graphs
    assert [spec.batch_size for spec in cuda.graph_spec] == [1, 2, 4, 8]
    for spec in cuda.graph_spec:
        dims = {name: list(shape.dim) for name, shape in spec.input.items()}
        assert dims == {image.name: list(image.dims)}
        assert not spec.HasField("graph_lower_bound")


def test_the_default_engine_takes_every_batch_on_one_instance_without_a_queue_policy() -> None:
    profile = BuildOptions().profile
    warmed = [sample.batch_size for sample in CONFIG.model_warmup]
    assert warmed == [profile.smallest, profile.best, CONFIG.max_batch_size]
    [group] = CONFIG.instance_group
    assert (group.kind, group.count) == (ModelInstanceGroup.KIND_GPU, 1)
    batching = [field.name for field, _ in CONFIG.dynamic_batching.ListFields()]
    assert batching == ["max_queue_delay_microseconds"]  # server#8870, see the file
