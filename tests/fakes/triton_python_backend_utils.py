"""What the models use of Triton's module of this name, behaving like that of Triton 2.51.

The real one exists inside a running Python step only. The tests against a real server keep this
one honest.
"""

import enum

import numpy as np


class TritonError:
    class Code(enum.Enum):
        UNKNOWN = 0
        INTERNAL = 1
        NOT_FOUND = 2
        INVALID_ARG = 3
        UNAVAILABLE = 4
        UNSUPPORTED = 5
        ALREADY_EXISTS = 6
        CANCELLED = 7

    _, INTERNAL, _, INVALID_ARG, UNAVAILABLE, _, _, CANCELLED = Code

    def __init__(self, message: str, code: Code = INTERNAL) -> None:
        self._message, self._code = message, code

    def message(self) -> str:
        return self._message

    def code(self) -> Code:
        return self._code


class TritonModelException(Exception):
    pass


class Tensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"incompatible constructor arguments: {name!r}, {array!r}")
        self._name, self._array = name, np.ascontiguousarray(array)

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._array


class InferenceRequest:
    def __init__(self, inputs: list[Tensor], cancelled: bool = False) -> None:
        self._inputs, self._cancelled = inputs, cancelled

    def inputs(self) -> list[Tensor]:
        return self._inputs

    def is_cancelled(self) -> bool:
        return self._cancelled


class InferenceResponse:
    def __init__(
        self, output_tensors: list[Tensor] | None = None, error: TritonError | None = None
    ) -> None:
        self._output_tensors = [] if error else (output_tensors or [])
        self._error = error

    def output_tensors(self) -> list[Tensor]:
        return self._output_tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error


class Logger:
    """Keeps what was logged; a test empties it."""

    errors: list[str] = []  # noqa: RUF012  the real one is one for the whole process too
    warnings: list[str] = []  # noqa: RUF012

    @classmethod
    def log_error(cls, message: str) -> None:
        cls.errors.append(message)

    @classmethod
    def log_warn(cls, message: str) -> None:
        cls.warnings.append(message)


class MetricKind(enum.Enum):
    COUNTER = 0
    GAUGE = 1
    HISTOGRAM = 2


class Series:
    """One labelled series; the real one is called Metric and lives in the server."""

    def __init__(self, kind: MetricKind, buckets: list[float] | None) -> None:
        self.kind, self.buckets = kind, buckets
        self.total = 0.0
        self.observed: list[float] = []

    def increment(self, value: float) -> None:
        if self.kind is MetricKind.HISTOGRAM or (self.kind is MetricKind.COUNTER and value < 0):
            raise TritonModelException(f"Failed to increment metric value: {self.kind}, {value}")
        self.total += value

    def set(self, value: float) -> None:
        if self.kind is not MetricKind.GAUGE:
            raise TritonModelException(f"Failed to set metric value: {self.kind}")
        self.total = value

    def value(self) -> float:
        if self.kind is MetricKind.HISTOGRAM:
            raise TritonModelException(f"Failed to get metric value: {self.kind}")
        return self.total

    def observe(self, value: float) -> None:
        if self.kind is not MetricKind.HISTOGRAM:
            raise TritonModelException(f"Failed to observe metric value: {self.kind}")
        self.observed.append(value)


class MetricFamily:
    """Series of one name; families of one name share them, as in the server."""

    COUNTER, GAUGE, HISTOGRAM = MetricKind
    registry: dict[str, dict[tuple[tuple[str, str], ...], Series]] = {}  # noqa: RUF012

    def __init__(self, name: str, description: str, kind: MetricKind) -> None:
        self._kind = kind
        self._series = self.registry.setdefault(name, {})

    def Metric(
        self, labels: dict[str, str] | None = None, buckets: list[float] | None = None
    ) -> Series:
        if (buckets is None) == (self._kind is MetricKind.HISTOGRAM):
            raise TritonModelException("Failed to create metric: buckets are for histograms")
        key = tuple(sorted((labels or {}).items()))
        return self._series.setdefault(key, Series(self._kind, buckets))


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    return next((tensor for tensor in request.inputs() if tensor.name() == name), None)


def get_output_config_by_name(model_config: dict, name: str) -> dict | None:
    return next((output for output in model_config["output"] if output["name"] == name), None)
