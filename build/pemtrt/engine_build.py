"""From an ONNX file to an engine in the model repository, with every check on the way."""

import contextlib
import hashlib
import json
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from tqdm import tqdm  # type: ignore[import-untyped]

from pem_server.model_config import parse_model_config
from pemtrt import gpu_info, preflight
from pemtrt.build_options import BuildOptions, timing_cache_path
from pemtrt.build_progress import Phases
from pemtrt.gpu_info import Machine
from pemtrt.graph_types import element_types, load, precision_of, type_name
from pemtrt.manifest import EngineError, Manifest, Tensor, install, sha256, write_atomically

if TYPE_CHECKING:
    from pemtrt.tensorrt_build import Built


@dataclass(frozen=True, kw_only=True)
class BuildPaths:
    """Where a build reads and writes."""

    graph: Path  # .onnx
    target: Path  # model.plan, in a version folder of the repository
    config: Path  # the configuration that will serve it
    timing_caches: Path  # a folder
    report: Path  # a folder, for layers.json and layers.md
    backend: Path = gpu_info.BACKEND


def make_engine(paths: BuildPaths, options: BuildOptions) -> Manifest:
    """Build, describe and install an engine for this machine's first GPU.

    EngineError, and nothing is changed, when that is impossible. KeyboardInterrupt after Ctrl-C or
    SIGTERM.
    """
    config = parse_model_config(paths.config)
    model = load(paths.graph)
    types = element_types(model)
    gpu_info.load_tensorrt()
    machine = building_machine(paths.backend)
    require(preflight.missing_types(sorted(set(types.values())), machine.gpus[0]))
    require(preflight.config_problems(graph_tensors(model), options.profile, config, paths.config))
    began = time.monotonic()
    built = _build(paths, options, machine)
    seconds = time.monotonic() - began
    manifest = describe(model, types, built, machine, options, paths.graph, seconds)
    require(preflight.config_problems(built.tensors, options.profile, config, paths.config))
    write_atomically(paths.report / "layers.json", built.layer_report.encode())
    write_atomically(paths.report / "layers.md", layer_table(built.layer_report).encode())
    install(built.engine, manifest, paths.target)
    return manifest


def building_machine(backend: Path) -> Machine:
    """This machine with the TensorRT that Python has loaded, which must be the server's.

    Without a server here, nothing is compared: preflight does it where the engine is served.
    """
    version = gpu_info.library_version(gpu_info.loaded_library())
    if backend.is_file():
        served = gpu_info.library_version(gpu_info.server_library(backend))
        if served != version:
            raise EngineError(
                f"Python's TensorRT is {version}, but the server's is {served}; "
                f"{gpu_info.INSTALL_TENSORRT}"
            )
    else:
        write_line(f"no server here ({backend}): the engine will need TensorRT {version} exactly")
    return Machine(gpu_info.visible_gpus(), gpu_info.driver_version(), version)


def require(problems: Iterable[str]) -> None:
    """EngineError with every problem, if there is any."""
    if reasons := list(problems):
        raise EngineError("; ".join(reasons))


def graph_tensors(model: onnx.ModelProto) -> list[Tensor]:
    """Inputs and outputs as the engine will have them: known before it is built."""
    tensors = []
    for ends, is_input in ((model.graph.input, True), (model.graph.output, False)):
        for end in ends:
            kind = end.type.tensor_type
            dims = [-1, *(dim.dim_value or -1 for dim in kind.shape.dim[1:])]
            tensors.append(Tensor(end.name, is_input, f"TYPE_{type_name(kind.elem_type)}", dims))
    return tensors


def describe(
    model: onnx.ModelProto,
    types: dict[str, str],
    built: "Built",
    machine: Machine,
    options: BuildOptions,
    graph: Path,
    seconds: float,
) -> Manifest:
    """The manifest of what was built."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return Manifest(
        tensorrt=machine.tensorrt,
        capability=machine.gpus[0].capability,
        gpu=machine.gpus[0].name,
        driver=machine.driver,
        engine_bytes=len(built.engine),
        engine_sha256=hashlib.sha256(built.engine).hexdigest(),
        onnx_sha256=sha256(graph),
        onnx_types=sorted(set(types.values())),
        precision=precision_of(model, types),
        profile=options.profile,
        tensors=built.tensors,
        class_names=json.loads(metadata.get("class_names", "[]")),
        activation_bytes=built.activation_bytes,
        options=options.as_json(),
        built_at=datetime.now(UTC).isoformat(timespec="seconds"),
        build_seconds=round(seconds, 1),
    )


def layer_table(report: str) -> str:
    """The inspector's layers as Markdown, as far as its JSON, which differs by version, goes."""
    rows = [["Name", "LayerType", "Dimensions", "Format/Datatype", "TacticName"], ["---"] * 5]
    with contextlib.suppress(ValueError, TypeError, AttributeError):  # some of it was not JSON
        for layer in json.loads(report).get("Layers", []):
            found = layer if isinstance(layer, dict) else {"Name": layer}
            found = {**next(iter(found.get("Outputs", [])), {}), **found}
            rows.append([str(found.get(column, "")).replace("|", "/") for column in rows[0]])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def write_line(text: str) -> None:
    """A line on stderr that leaves the progress bars intact."""
    tqdm.write(text, file=sys.stderr)


def _build(paths: BuildPaths, options: BuildOptions, machine: Machine) -> "Built":
    from pemtrt import tensorrt_build  # late: it imports TensorRT

    gpu = machine.gpus[0]
    cache = timing_cache_path(paths.timing_caches, machine.tensorrt, gpu.name, machine.driver)
    known = cache.read_bytes() if cache.is_file() else b""
    write_line(f"building for {gpu.name} with TensorRT {machine.tensorrt}; minutes the first time")
    with contextlib.closing(Phases()) as phases, _stopped_by_signals(phases):
        built = tensorrt_build.build(paths.graph, options, known, phases, write_line)
    write_atomically(cache, built.timing_cache)
    return built


@contextlib.contextmanager
def _stopped_by_signals(phases: Phases) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the build at its next step, instead of in the middle of TensorRT."""

    def stop(number: int, frame: Any) -> None:
        phases.stop()
        write_line("stopping at the builder's next step ...")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
