"""The manifest beside an engine, model.plan.json: what it was built from, for what, and on what."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pemtrt.errors import EngineError

FORMAT = 1  # of this file; a reader refuses another
BUILD_AGAIN = "build the engine again with ./run engine"


@dataclass(frozen=True)
class Tensor:
    """One input or output of the engine."""

    name: str
    is_input: bool
    type: str  # as config.pbtxt spells it: TYPE_UINT8
    dims: list[int]  # with the batch in front, -1


@dataclass(frozen=True)
class Profile:
    """The batch sizes an engine takes, and the one it was tuned for."""

    smallest: int
    best: int
    largest: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that decides whether an engine may run in a place."""

    tensorrt: str  # four numbers, of the library that built it
    capability: str  # "7.5"
    gpu: str  # "Tesla T4"
    driver: str
    engine_bytes: int
    engine_sha256: str
    onnx_sha256: str
    onnx_types: list[str]  # every element type in the graph: ["FP16", "FP32", "INT64", "UINT8"]
    precision: str  # "fp32", "fp16" or "int8": the lowest that the graph asks for
    profile: Profile
    tensors: list[Tensor]
    class_names: list[str]
    activation_bytes: int  # that one execution context allocates on the GPU
    options: dict[str, Any]  # the builder's
    built_at: str  # ISO 8601, UTC
    build_seconds: float
    format: int = FORMAT


def manifest_path(engine: Path) -> Path:
    """model.plan.json for model.plan."""
    return engine.with_name(f"{engine.name}.json")


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def to_json(manifest: Manifest) -> str:
    """The text of the file."""
    return json.dumps(dataclasses.asdict(manifest), indent=2) + "\n"


def read_manifest(path: Path) -> Manifest:
    """Read what `to_json` wrote. EngineError when there is none, or it is another thing."""
    if not path.is_file():
        raise EngineError(f"The engine's manifest {path} is missing: {BUILD_AGAIN}.")
    try:
        manifest = _made(Manifest, json.loads(path.read_text(encoding="utf-8")), "the manifest")
    except ValueError as error:
        raise EngineError(f"{path} is no engine's manifest: {error}; {BUILD_AGAIN}.") from error
    assert isinstance(manifest, Manifest)
    return manifest


def _made(kind: Any, value: Any, what: str) -> Any:
    """`value` as it comes from JSON, made into `kind`. ValueError when it is not of that form."""
    if dataclasses.is_dataclass(kind):
        fields = typing.get_type_hints(kind)
        if not isinstance(value, dict) or set(value) != set(fields):
            given = ", ".join(sorted(value)) if isinstance(value, dict) else type(value).__name__
            raise ValueError(f"{what} must hold {', '.join(fields)}, and holds {given}")
        made = {name: _made(part, value[name], name) for name, part in fields.items()}
        if made.get("format", FORMAT) != FORMAT:
            raise ValueError(f"its format must be {FORMAT}, and is {made['format']}")
        assert isinstance(kind, type)
        return kind(**made)
    origin = typing.get_origin(kind) or kind
    if origin is list and isinstance(value, list):
        return [_made(typing.get_args(kind)[0], item, f"one of {what}") for item in value]
    if origin is float and type(value) is int:
        return float(value)
    if type(value) is not origin:
        raise ValueError(f"{what} must be of type {origin.__name__}, and is {value!r}")
    return value
