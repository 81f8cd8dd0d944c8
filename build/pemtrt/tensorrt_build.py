"""The build itself, through TensorRT's Python API: 10 and 11 alike.

The only module that imports TensorRT, so that every other one works without it. What it uses
exists with the same signature in both versions: tests compare it with both type stubs.
"""
# Where TensorRT is not installed its classes are unknown, and two are inherited from here.
# mypy: allow-subclassing-any

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsInt, cast

import tensorrt as trt  # type: ignore[import-not-found, unused-ignore]

from pemtrt.build_options import BuildOptions
from pemtrt.build_progress import Phases
from pemtrt.manifest import EngineError, Tensor

WriteLine = Callable[[str], None]

TYPE_NAMES = {
    "FLOAT": "TYPE_FP32",
    "HALF": "TYPE_FP16",
    "BF16": "TYPE_BF16",
    "INT8": "TYPE_INT8",
    "INT32": "TYPE_INT32",
    "INT64": "TYPE_INT64",
    "UINT8": "TYPE_UINT8",
    "BOOL": "TYPE_BOOL",
}


@dataclass(frozen=True)
class Built:
    """The result of a build."""

    engine: bytes
    timing_cache: bytes
    tensors: list[Tensor]
    activation_bytes: int
    layer_report: str  # the inspector's JSON


class Log(trt.ILogger):
    """Collects TensorRT's errors for EngineError, and shows warnings above the progress bars."""

    def __init__(self, write_line: WriteLine) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []
        self._write_line = write_line

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
            self.errors.append(msg)
        elif severity == trt.ILogger.Severity.WARNING:
            self._write_line(f"TensorRT: {msg}")


class Monitor(trt.IProgressMonitor):
    """Shows TensorRT's phases, and ends the build when `phases` is stopped.

    Nothing may be raised here: TensorRT cannot propagate it. Signals stop `phases` instead.
    """

    def __init__(self, phases: Phases) -> None:
        trt.IProgressMonitor.__init__(self)
        self._phases = phases

    def phase_start(
        self, phase_name: str, parent_phase: str | None, num_steps: SupportsInt
    ) -> None:
        self._phases.start(phase_name, parent_phase, int(num_steps))

    def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
        return self._phases.step(phase_name)

    def phase_finish(self, phase_name: str) -> None:
        self._phases.finish(phase_name)


def build(
    graph: Path, options: BuildOptions, timing_cache: bytes, phases: Phases, write_line: WriteLine
) -> Built:
    """Build an engine of an ONNX file for the GPU of this machine; minutes.

    `timing_cache` is that of an earlier build, or empty. EngineError with TensorRT's reasons,
    KeyboardInterrupt when `phases` was stopped.
    """
    log = Log(write_line)
    try:
        builder = trt.Builder(log)
    except TypeError as error:  # the binding gives no other reason when it has no CUDA
        raise EngineError(failed("TensorRT could not use the GPU", log)) from error
    network, _parser = parsed(builder, graph, log)
    config = builder.create_builder_config()
    configure(config, options)
    if config.add_optimization_profile(profile_of(builder, network, options)) < 0:
        raise EngineError(failed("TensorRT rejected the optimization profile", log))
    attach_timing_cache(config, timing_cache, write_line)
    monitor = Monitor(phases)  # TensorRT does not keep it alive
    config.progress_monitor = monitor
    engine = builder.build_serialized_network(network, config)
    if phases.stopped:
        raise KeyboardInterrupt
    if not engine:
        raise EngineError(failed("TensorRT could not build the engine", log))
    content = _bytes_of(engine)
    timings = _bytes_of(config.get_timing_cache().serialize())
    return inspect(content, timings, log)


def parsed(
    builder: trt.Builder, graph: Path, log: Log
) -> tuple[trt.INetworkDefinition, trt.OnnxParser]:
    """The network of a graph, and its parser, which owns the weights: both must be kept.

    EngineError with every rejected node.
    """
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if parser.parse_from_file(str(graph)):
        return network, parser
    reasons = []
    for index in range(parser.num_errors):
        error: trt.ParserError = parser.get_error(index)
        node = f"node {error.node_name()} ({error.node_operator()}): " if error.node_name() else ""
        # For an operator that the parser does not know, the description is only "false".
        reasons.append(f"{node}{error.desc()} (in {error.func()})")
    if not reasons:
        raise EngineError(failed(f"TensorRT's parser rejected {graph}", log))
    raise EngineError(f"TensorRT's parser rejected {graph}: {'; '.join(reasons)}")


def configure(config: trt.IBuilderConfig, options: BuildOptions) -> None:
    """Set everything but profile, timing cache and monitor."""
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for the report; costs no time
    # With it, newer GPUs would compute FP32 with 10 bits of mantissa.
    config.clear_flag(trt.BuilderFlag.TF32)


def profile_of(
    builder: trt.Builder, network: trt.INetworkDefinition, options: BuildOptions
) -> trt.IOptimizationProfile:
    """One profile over the batch; every other length must be fixed. EngineError if not."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        dims = _lengths(tensor.shape)
        if dims[:1] != [-1] or -1 in dims[1:]:
            raise EngineError(
                f"input {tensor.name} must have a dynamic batch and a fixed size, got dims "
                f"{dims}; export the graph with ./run export"
            )
        batches = options.profile
        shapes = [
            trt.Dims([batch, *dims[1:]])
            for batch in (batches.smallest, batches.best, batches.largest)
        ]
        profile.set_shape(tensor.name, *shapes)
    return profile


def attach_timing_cache(config: trt.IBuilderConfig, content: bytes, write_line: WriteLine) -> None:
    """Use earlier timings, or start again when TensorRT finds them to be another machine's."""
    cache = config.create_timing_cache(content)
    if not (cache and config.set_timing_cache(cache, False)):
        write_line("the timing cache is of another TensorRT or GPU; starting a new one")
        config.set_timing_cache(config.create_timing_cache(b""), False)


def inspect(content: bytes, timings: bytes, log: Log) -> Built:
    """Load the engine, as the server will, and describe it."""
    runtime = trt.Runtime(log)
    engine = runtime.deserialize_cuda_engine(content)
    if not engine:
        raise EngineError(failed("TensorRT could not load the engine that it just built", log))
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inspector = engine.create_engine_inspector()
    return Built(
        engine=content,
        timing_cache=timings,
        tensors=[_tensor(engine, name) for name in names],
        activation_bytes=engine.device_memory_size_v2,
        layer_report=inspector.get_engine_information(trt.LayerInformationFormat.JSON),
    )


def _tensor(engine: trt.ICudaEngine, name: str) -> Tensor:
    kind = engine.get_tensor_dtype(name).name
    return Tensor(
        name=name,
        is_input=engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
        type=TYPE_NAMES.get(kind, kind),
        dims=_lengths(engine.get_tensor_shape(name)),
    )


def _lengths(dims: trt.Dims) -> list[int]:
    return [dims[index] for index in range(len(dims))]


def _bytes_of(memory: trt.IHostMemory) -> bytes:
    return bytes(cast(Sequence[int], memory))  # a buffer at run time, unknown to the stubs


def failed(what: str, log: Log) -> str:
    """A message with the reasons in the log."""
    reasons = "; ".join(reason.strip().rstrip(".") for reason in log.errors) or "no reason given"
    return f"{what}: {reasons}"
