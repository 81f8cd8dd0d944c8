"""configs/t4.pbtxt against what the TensorRT backend of Triton makes of it."""

from pathlib import Path
from typing import Any

import pytest

from pemtrt import pbtxt
from pemtrt.build_options import BuildOptions


@pytest.fixture
def t4_config(root: Path) -> dict[str, list[Any]]:
    return pbtxt.read(root / "model_repository" / "pem_network" / "configs" / "t4.pbtxt")


def test_graphs_are_recorded_for_sizes_that_the_usual_engine_takes(t4_config: dict) -> None:
    """The backend looks a graph up by batch size and dims without the batch, exactly."""
    [optimization] = t4_config["optimization"]
    [cuda] = optimization["cuda"]
    [image] = t4_config["input"]

    assert cuda["graphs"] == [True]
    assert [spec["batch_size"] for spec in cuda["graph_spec"]] == [[1], [2], [4], [8]]
    for spec in cuda["graph_spec"]:
        [given] = spec["input"]
        assert given["key"] == image["name"]
        assert given["value"] == [{"dim": image["dims"]}]
        assert "graph_lower_bound" not in spec


def test_the_usual_engine_takes_every_batch_of_the_server(t4_config: dict) -> None:
    profile = BuildOptions().profile
    warmed = [sample["batch_size"] for sample in t4_config["model_warmup"]]

    assert t4_config["max_batch_size"] == [profile.largest]
    assert warmed == [[profile.smallest], [profile.best], [profile.largest]]


def test_the_engine_has_one_instance_on_each_gpu_and_no_queue_policy(t4_config: dict) -> None:
    assert t4_config["instance_group"] == [{"kind": ["KIND_GPU"], "count": [1]}]
    [batching] = t4_config["dynamic_batching"]
    assert set(batching) == {"max_queue_delay_microseconds"}  # server#8870, see the file
