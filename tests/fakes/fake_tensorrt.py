"""A fake of TensorRT's Python API: records the calls, and builds nothing.

Every name here is compared with NVIDIA's bindings in tests/trt/test_tensorrt_api.py. A test sets
what happens in `behaviour`; the module is imported again for each test.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Behaviour:
    """What the fake does, and its journal of calls."""

    journal: list[tuple[Any, ...]] = field(default_factory=list)
    has_cuda: bool = True
    parse_errors: list[tuple[str, str, str]] = field(default_factory=list)  # node, operator, reason
    input_dims: list[int] = field(default_factory=lambda: [-1, 2])
    profile_index: int = 0
    accepts_cache: bool = True
    during_build: Callable[[Any], None] = lambda monitor: None
    build_error: str = ""  # the build fails, with this in the log
    engine_loads: bool = True
    tensors: list[tuple[str, str, str, list[int]]] = field(
        default_factory=lambda: [
            ("image", "INPUT", "UINT8", [-1, 2]),
            ("masks", "OUTPUT", "UINT8", [-1, 2]),
        ]
    )


behaviour = Behaviour()


def note(*what: Any) -> None:
    behaviour.journal.append(what)


def call_back(function: Callable[..., Any], *arguments: Any) -> Any:
    """From C++, where an exception would end the process."""
    try:
        return function(*arguments)
    except BaseException as error:
        raise SystemError("an exception left a callback") from error


NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": 1})
MemoryPoolType = enum.Enum("MemoryPoolType", {"WORKSPACE": 0})
ProfilingVerbosity = enum.Enum("ProfilingVerbosity", {"DETAILED": 1})
LayerInformationFormat = enum.Enum("LayerInformationFormat", {"JSON": 1})
BuilderFlag = enum.Enum("BuilderFlag", {"TF32": 7})
TensorIOMode = enum.Enum("TensorIOMode", {"INPUT": 1, "OUTPUT": 2})
DataType = enum.Enum("DataType", {"FLOAT": 0, "HALF": 1, "INT32": 3, "UINT8": 5})


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3

    def __init__(self) -> None:
        note("ILogger")

    def log(self, severity, msg):
        raise NotImplementedError


class IProgressMonitor:
    def __init__(self) -> None:
        note("IProgressMonitor")

    def phase_start(self, phase_name, parent_phase, num_steps):
        raise NotImplementedError

    def step_complete(self, phase_name, step):
        raise NotImplementedError

    def phase_finish(self, phase_name):
        raise NotImplementedError


class Dims:
    def __init__(self, shape) -> None:
        self._shape = list(shape)

    def __len__(self) -> int:
        return len(self._shape)

    def __getitem__(self, arg0):
        return self._shape[arg0]


class IHostMemory:
    """A buffer, as the real one."""

    def __new__(cls, content: bytes = b""):
        return memoryview(content)


class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self):
        note("serialize_timing_cache")
        return IHostMemory(self._content + b"+timed")


class ITensor:
    name = "image"

    @property
    def shape(self):
        return Dims(behaviour.input_dims)


class INetworkDefinition:
    num_inputs = 1

    def get_input(self, index):
        return ITensor()


class IOptimizationProfile:
    def set_shape(self, input, min, opt, max):
        note("set_shape", input, *([*dims] for dims in (min, opt, max)))


class IBuilderConfig:
    builder_optimization_level = 3
    profiling_verbosity = None
    progress_monitor = None

    def __init__(self) -> None:
        self._cache = None

    def set_memory_pool_limit(self, pool, pool_size):
        note("set_memory_pool_limit", pool, pool_size)

    def clear_flag(self, flag):
        note("clear_flag", flag)

    def add_optimization_profile(self, profile):
        note("add_optimization_profile")
        return behaviour.profile_index

    def create_timing_cache(self, serialized_timing_cache):
        return ITimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache, ignore_mismatch):
        note("set_timing_cache", cache._content, ignore_mismatch)
        if cache._content and not behaviour.accepts_cache:
            return False
        self._cache = cache
        return True

    def get_timing_cache(self):
        return self._cache


class ParserError:
    def __init__(self, facts) -> None:
        self._facts = facts

    def node_name(self):
        return self._facts[0]

    def node_operator(self):
        return self._facts[1]

    def desc(self):
        return self._facts[2]

    def func(self):
        return "importNode"


class OnnxParser:
    def __init__(self, network, logger) -> None:
        pass

    def parse_from_file(self, model):
        note("parse_from_file", model)
        return not behaviour.parse_errors

    @property
    def num_errors(self):
        return len(behaviour.parse_errors)

    def get_error(self, index):
        return ParserError(behaviour.parse_errors[index])


class Builder:
    def __init__(self, logger) -> None:
        self._logger = logger
        if not behaviour.has_cuda:
            logger.log(ILogger.Severity.ERROR, "CUDA initialization failure with error: 35.")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def create_network(self, flags=0):
        note("create_network", flags)
        return INetworkDefinition()

    def create_builder_config(self):
        return IBuilderConfig()

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def build_serialized_network(self, network, config):
        settings = config.builder_optimization_level, config.profiling_verbosity
        note("build_serialized_network", *settings)
        monitor = config.progress_monitor
        call_back(monitor.phase_start, "Building Engine", None, 2)
        call_back(monitor.phase_start, "Timing", "Building Engine", 1)
        behaviour.during_build(monitor)
        goes_on = call_back(monitor.step_complete, "Timing", 0)
        note("step_complete", goes_on)
        call_back(monitor.phase_finish, "Timing")
        call_back(monitor.phase_finish, "Building Engine")
        if behaviour.build_error:
            self._logger.log(ILogger.Severity.ERROR, behaviour.build_error)
        if behaviour.build_error or not goes_on:
            return None
        self._logger.log(ILogger.Severity.WARNING, "a remark")
        self._logger.log(ILogger.Severity.INFO, "chatter")
        return IHostMemory(b"an engine")


class EngineInspector:
    def get_engine_information(self, format):
        note("get_engine_information", format)
        return '{"Layers": []}'


class ICudaEngine:
    device_memory_size_v2 = 123456789

    @property
    def num_io_tensors(self):
        return len(behaviour.tensors)

    def get_tensor_name(self, index):
        return behaviour.tensors[index][0]

    def get_tensor_mode(self, name):
        return TensorIOMode[self._facts(name)[1]]

    def get_tensor_dtype(self, name):
        return DataType[self._facts(name)[2]]

    def get_tensor_shape(self, name):
        return Dims(self._facts(name)[3])

    def create_engine_inspector(self):
        return EngineInspector()

    def _facts(self, name):
        return next(facts for facts in behaviour.tensors if facts[0] == name)


class Runtime:
    def __init__(self, logger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine):
        note("deserialize_cuda_engine", serialized_engine)
        if not behaviour.engine_loads:
            self._logger.log(ILogger.Severity.ERROR, "no memory")
            return None
        return ICudaEngine()
