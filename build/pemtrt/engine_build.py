"""From an ONNX file to an engine in the model repository, and all that is checked between."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from tqdm import tqdm  # type: ignore[import-untyped]

from pemtrt import gpu_info, layers, pbtxt, preflight
from pemtrt.build_options import BuildOptions, timing_cache_path
from pemtrt.build_progress import Phases
from pemtrt.errors import EngineError
from pemtrt.gpu_info import Machine
from pemtrt.graph_types import Value, load, precision_of, types_of
from pemtrt.import_tensorrt import REMEDY, load_tensorrt
from pemtrt.install import place, write_whole
from pemtrt.manifest import Manifest, Tensor, sha256
from pemtrt.parser_check import Proof, operator_list, prove

if TYPE_CHECKING:
    from pemtrt.tensorrt_build import Built


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a build reads and writes."""

    graph: Path  # .onnx
    target: Path  # model.plan, in a version folder of the repository
    config: Path  # the configuration that is going to serve it
    timing_caches: Path  # a folder
    report: Path  # a folder, for layers.json and layers.md
    backend: Path = field(default=gpu_info.BACKEND)


def make_engine(places: Places, options: BuildOptions, unproven: bool = False) -> Manifest:
    """Build, describe and place an engine for this machine's first GPU.

    EngineError with its sentence, and nothing is changed, when it cannot be. `unproven` builds a
    graph that the static proof refuses. KeyboardInterrupt after Ctrl-C or SIGTERM.
    """
    config = pbtxt.read(places.config)
    model = load(places.graph)
    proof = prove(model)
    load_tensorrt()
    here = building_machine(places.backend)
    check_graph(proof, here, unproven)
    check_config(graph_tensors(model, proof.values), options, config, places.config)
    began = time.monotonic()
    built = _build(places, options, here)
    manifest = describe(model, proof, built, here, options, places.graph, time.monotonic() - began)
    check_config(built.tensors, options, config, places.config)
    write_report(built.layer_report, manifest, places.report)
    place(built.engine, manifest, places.target)
    return manifest


def building_machine(backend: Path) -> Machine:
    """This machine with the TensorRT that Python has loaded, which must be the server's.

    Where there is no server, nothing is compared: preflight does it where the engine is served.
    """
    version = gpu_info.library_version(gpu_info.loaded_library())
    if backend.is_file():
        served = gpu_info.library_version(gpu_info.server_library(backend))
        if served != version:
            raise EngineError(
                f"Python's TensorRT must be the server's, {served}, and is {version}: {REMEDY}."
            )
    else:
        say(f"No server is here ({backend}): the engine will run with TensorRT {version} only.")
    return Machine(gpu_info.visible_gpus(), gpu_info.driver_version(), version)


def check_graph(proof: Proof, here: Machine, unproven: bool) -> None:
    """Refuse what this GPU cannot compute. EngineError with every reason."""
    types = types_of(proof.values.values())
    reasons = list(preflight.missing_types(types, here.gpus[0]))
    if reasons:
        raise EngineError(" ".join(reasons))
    if proof.problems and not unproven:
        raise EngineError(
            f"The graph must pass the static proof for {operator_list().architecture}, and does "
            f"not: {' '.join(proof.problems)} Export it again, or build it all the same with "
            "--unproven."
        )


def check_config(
    tensors: list[Tensor], options: BuildOptions, config: pbtxt.Message, path: Path
) -> None:
    """Refuse what the configuration at `path` does not serve. EngineError with every reason."""
    problems = preflight.config_problems(tensors, options.profile, config, path)
    if reasons := list(problems):
        raise EngineError(" ".join(reasons))


def graph_tensors(model: onnx.ModelProto, values: dict[str, Value]) -> list[Tensor]:
    """Inputs and outputs as the engine is going to have them: known before it is built."""
    return [
        Tensor(end.name, is_input, f"TYPE_{value.type}", [-1, *(d or -1 for d in value.shape[1:])])
        for ends, is_input in ((model.graph.input, True), (model.graph.output, False))
        for end in ends
        if (value := values[end.name]).shape
    ]


def describe(
    model: onnx.ModelProto,
    proof: Proof,
    built: Built,
    here: Machine,
    options: BuildOptions,
    graph: Path,
    seconds: float,
) -> Manifest:
    """The manifest of what was built."""
    facts = {entry.key: entry.value for entry in model.metadata_props}
    return Manifest(
        tensorrt=here.tensorrt,
        capability=here.gpus[0].capability,
        gpu=here.gpus[0].name,
        driver=here.driver,
        engine_bytes=len(built.engine),
        engine_sha256=hashlib.sha256(built.engine).hexdigest(),
        onnx_sha256=sha256(graph),
        onnx_types=types_of(proof.values.values()),
        precision=precision_of(model, proof.values),
        profile=options.profile,
        tensors=built.tensors,
        class_names=json.loads(facts.get("class_names", "[]")),
        activation_bytes=built.activation_bytes,
        options=options.stated(),
        built_at=datetime.now(UTC).isoformat(timespec="seconds"),
        build_seconds=round(seconds, 1),
    )


def write_report(layer_report: str, manifest: Manifest, folder: Path) -> None:
    """layers.json as TensorRT gives it, layers.md as a table."""
    write_whole(folder / "layers.json", layer_report.encode())
    try:
        found = layers.layers_of(layer_report)
    except ValueError as error:
        say(f"The layer report is no JSON ({error}): layers.json holds it as it is, no table.")
        return
    title = f"{manifest.precision} engine, TensorRT {manifest.tensorrt}, {manifest.gpu}"
    write_whole(folder / "layers.md", layers.to_markdown(found, title).encode())


def say(text: str) -> None:
    """A line on stderr that does not tear the progress bars apart."""
    tqdm.write(text, file=sys.stderr)


def _build(places: Places, options: BuildOptions, here: Machine) -> Built:
    from pemtrt import tensorrt_build  # late: it imports TensorRT

    gpu = here.gpus[0]
    cache = timing_cache_path(places.timing_caches, here.tensorrt, gpu.name, here.driver)
    known = cache.read_bytes() if cache.is_file() else b""
    say(f"Building for {gpu.name} with TensorRT {here.tensorrt}; the first time takes minutes.")
    with contextlib.closing(Phases()) as phases, _stopped_by_signals(phases):
        built = tensorrt_build.build(places.graph, options, known, phases, say)
    write_whole(cache, built.timing_cache)
    return built


@contextlib.contextmanager
def _stopped_by_signals(phases: Phases) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the build at its next step, instead of in the middle of TensorRT."""

    def stop(number: int, frame: Any) -> None:
        phases.stop()
        say("Stopping at the builder's next step ...")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
