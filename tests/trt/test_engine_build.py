"""The builder's logic, with a fake TensorRT on a fake machine."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import onnx
import pytest
from onnx import TensorProto

from pemtrt import gpu_info, manifest
from pemtrt.build_options import BuildOptions, timing_cache_path
from pemtrt.engine_build import BuildPaths, layer_table, make_engine
from pemtrt.gpu_info import Machine
from pemtrt.manifest import EngineError, Profile, Tensor, manifest_path, read_manifest, sha256

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def built_on_t4(on: Callable[[Machine], None], t4: Machine) -> None:
    on(t4)


def journal(tensorrt: ModuleType) -> list[str]:
    return [entry[0] for entry in tensorrt.behaviour.journal]


def calls(tensorrt: ModuleType, what: str) -> list[tuple]:
    return [entry[1:] for entry in tensorrt.behaviour.journal if entry[0] == what]


CONVOLUTION = {
    "Name": "conv + relu",
    "LayerType": "Cask",
    "Outputs": [{"Name": "y", "Dimensions": [8, 64], "Format/Datatype": "FP16"}],
    "TacticName": "turing|fprop",
}


@pytest.mark.parametrize(
    ("report", "rows"),
    [
        (json.dumps({"Layers": [CONVOLUTION]}), ["conv + relu Cask [8, 64] FP16 turing/fprop"]),
        (json.dumps({"Layers": ["a name only", {}]}), ["a name only", ""]),
        (json.dumps({"Layers": [{"Outputs": [7]}]}), []),
        ("[]", []),
        ("no JSON", []),
    ],
)
def test_the_layers_are_a_table_as_far_as_they_are_known(report: str, rows: list[str]) -> None:
    table = [line.replace("|", " ").split() for line in layer_table(report).splitlines()]
    assert table[2:] == [row.split() for row in rows]


def test_an_engine_is_installed_with_its_manifest(
    places: BuildPaths, t4: Machine, capsys: Capture
) -> None:
    built = make_engine(places, BuildOptions())
    assert places.target.read_bytes() == b"an engine"
    assert json.loads((places.report / "layers.json").read_text()) == {"Layers": []}
    assert (places.report / "layers.md").read_text() == layer_table('{"Layers": []}')
    assert read_manifest(manifest_path(places.target)) == built
    assert (built.tensorrt, built.driver) == (t4.tensorrt, t4.driver)
    assert (built.gpu, built.capability) == ("Tesla T4", "7.5")
    assert built.engine_bytes == len(b"an engine")
    assert built.engine_sha256 == sha256(places.target)
    assert built.onnx_sha256 == sha256(places.graph)
    assert (built.precision, built.onnx_types) == ("fp32", ["FP32", "UINT8"])
    assert built.profile == Profile(1, 4, 8)
    assert built.class_names == ["wall", "sky"]
    assert built.activation_bytes == 123456789
    assert built.options == {"workspace_bytes": 4 * 2**30, "optimization_level": 3}
    assert built.tensors == [
        Tensor("image", True, "TYPE_UINT8", [-1, 2]),
        Tensor("masks", False, "TYPE_UINT8", [-1, 2]),
    ]
    files = {path.name for path in places.target.parent.iterdir()}
    assert files == {"model.plan", "model.plan.json"}
    output = capsys.readouterr()
    assert "TensorRT: a remark" in output.err
    assert "Timing" in output.err  # the progress
    assert "chatter" not in output.err  # TensorRT's infos
    assert output.out == ""


def test_tensorrt_is_called_in_this_order(tensorrt: ModuleType, places: BuildPaths) -> None:
    options = BuildOptions(profile=Profile(1, 2, 8), workspace_bytes=5, optimization_level=4)
    make_engine(places, options)
    in_order = """ILogger create_network parse_from_file set_memory_pool_limit clear_flag set_shape
        add_optimization_profile set_timing_cache IProgressMonitor build_serialized_network
        step_complete serialize_timing_cache deserialize_cuda_engine get_engine_information"""
    assert journal(tensorrt) == in_order.split()
    strongly_typed = tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    assert calls(tensorrt, "create_network") == [(1 << strongly_typed,)]
    assert calls(tensorrt, "parse_from_file") == [(str(places.graph),)]
    assert calls(tensorrt, "set_memory_pool_limit") == [(tensorrt.MemoryPoolType.WORKSPACE, 5)]
    assert calls(tensorrt, "clear_flag") == [(tensorrt.BuilderFlag.TF32,)]
    shapes = [[batch, 2] for batch in (1, 2, 8)]
    assert calls(tensorrt, "set_shape") == [("image", *shapes)]
    detailed = tensorrt.ProfilingVerbosity.DETAILED
    assert calls(tensorrt, "build_serialized_network") == [(4, detailed)]


@pytest.mark.parametrize("accepted", [True, False])
def test_a_build_begins_with_the_timings_of_the_last_unless_tensorrt_rejects_them(
    tensorrt: ModuleType, places: BuildPaths, t4: Machine, capsys: Capture, accepted: bool
) -> None:
    make_engine(places, BuildOptions())
    tensorrt.behaviour.accepts_cache = accepted
    make_engine(places, BuildOptions())
    again = [] if accepted else [(b"", False)]
    assert calls(tensorrt, "set_timing_cache") == [(b"", False), (b"+timed", False), *again]
    cache = timing_cache_path(places.timing_caches, t4.tensorrt, "Tesla T4", t4.driver)
    assert cache.read_bytes() == (b"+timed+timed" if accepted else b"+timed")
    assert ("timing cache" in capsys.readouterr().err) == (not accepted)


def test_every_tensorrt_gpu_and_driver_has_timings_of_its_own(tmp_path: Path) -> None:
    facts = ("10.16.1.11", "Tesla T4", "580.95.05")
    others = [("10.16.1.12", *facts[1:]), (facts[0], "NVIDIA L4", facts[2]), (*facts[:2], "581.1")]
    names = {timing_cache_path(tmp_path, *each).name for each in (facts, *others)}
    assert len(names) == 4
    assert "tensorrt-10.16.1.11_Tesla-T4_580.95.05.cache" in names


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ({"parse_errors": [("/R", "Add", "no"), ("", "", "bad")]}, r"/R \(Add\): no .*; bad"),
        ({"has_cuda": False}, "GPU: .*error: 35"),
        ({"input_dims": [8, 2]}, "dynamic batch"),
        ({"input_dims": [-1, -1]}, "dynamic batch"),
        ({"profile_index": -1}, "optimization profile"),
        ({"build_error": "no kernel for {Foreign}."}, ": no kernel for {Foreign}$"),
        ({"engine_loads": False}, "could not load .*: no memory"),
        ({"tensors": [("image", "INPUT", "UINT8", [-1, 2])]}, "names the outputs"),
        ({"tensors": [("image", "INPUT", "HALF", [-1, 2])]}, "TYPE_FP16"),
    ],
)
def test_a_failed_build_leaves_the_old_engine(
    tensorrt: ModuleType, places: BuildPaths, trouble: dict[str, object], message: str
) -> None:
    places.target.parent.mkdir()
    places.target.write_bytes(b"the old one")
    for name, value in trouble.items():
        setattr(tensorrt.behaviour, name, value)

    with pytest.raises(EngineError, match=message):
        make_engine(places, BuildOptions())
    assert [path.name for path in places.target.parent.iterdir()] == ["model.plan"]
    assert places.target.read_bytes() == b"the old one"


@pytest.mark.parametrize(
    ("dims", "largest", "kind", "message"),
    [
        ("3", 8, TensorProto.FLOAT, r"\[-1, 3\] for input image"),
        ("2", 4, TensorProto.FLOAT, "profile takes 1 to 4"),
        ("2", 8, TensorProto.BFLOAT16, r"BF16.* 8\.0.*Tesla T4"),
    ],
)
def test_what_cannot_be_served_is_refused_before_tensorrt_starts(
    small_graph: Callable[..., onnx.ModelProto],
    tensorrt: ModuleType,
    places: BuildPaths,
    dims: str,
    largest: int,
    kind: int,
    message: str,
) -> None:
    onnx.save(small_graph(kind), places.graph)
    places.config.write_text(places.config.read_text().replace("[ 2 ]", f"[ {dims} ]", 1))
    with pytest.raises(EngineError, match=message):
        make_engine(places, BuildOptions(profile=Profile(1, 2, largest)))
    assert journal(tensorrt) == []


def test_a_disk_that_is_full_leaves_the_old_engine_and_its_manifest(
    places: BuildPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_engine(places, BuildOptions())
    before = {path.name: path.read_bytes() for path in places.target.parent.iterdir()}

    def full(*_: object) -> str:
        raise OSError("No space left on device")

    monkeypatch.setattr(manifest, "to_json", full)
    with pytest.raises(OSError, match="No space"):
        make_engine(places, BuildOptions(optimization_level=5))
    assert {path.name: path.read_bytes() for path in places.target.parent.iterdir()} == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_build_and_leaves_nothing(
    tensorrt: ModuleType, places: BuildPaths, capsys: Capture, number: int
) -> None:
    both = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.getsignal(each) for each in both]
    tensorrt.behaviour.during_build = lambda monitor: os.kill(os.getpid(), number)
    with pytest.raises(KeyboardInterrupt):
        make_engine(places, BuildOptions())
    assert "next step" in capsys.readouterr().err
    assert calls(tensorrt, "step_complete") == [(False,)]
    assert not places.target.parent.exists() | places.timing_caches.exists()
    assert [signal.getsignal(each) for each in both] == handlers


def test_pythons_tensorrt_must_be_the_servers(
    places: BuildPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.backend.touch()
    monkeypatch.setattr(gpu_info, "server_library", lambda backend: Path("the server's"))
    versions = {"the server's": "10.16.1.12", "libnvinfer.so.10": "10.16.1.11"}
    monkeypatch.setattr(gpu_info, "library_version", lambda library: versions[library.name])
    with pytest.raises(EngineError, match=r"10\.16\.1\.11, .* 10\.16\.1\.12"):
        make_engine(places, BuildOptions())
