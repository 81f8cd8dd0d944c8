"""The manifest beside an engine, model.plan.json, and how both get into the model repository.

It records what the engine was built from, with which options, and on which machine.
"""

import dataclasses
import hashlib
import json
import os
import tempfile
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 1  # of this file; a reader refuses another
BUILD_AGAIN = "build the engine again with ./run engine"


class EngineError(RuntimeError):
    """No engine can be built, or the one that is there must not be served; the message says why."""


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
    """Everything that decides whether an engine may run on a machine."""

    tensorrt: str  # four numbers, of the library that built it
    capability: str  # "7.5"
    gpu: str  # "Tesla T4"
    driver: str
    engine_bytes: int
    engine_sha256: str
    onnx_sha256: str
    onnx_types: list[str]  # every element type in the graph: ["FP16", "FP32", "INT64", "UINT8"]
    precision: str  # "fp32", "fp16" or "int8": the lowest in the graph
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
    """Read what `to_json` wrote. EngineError when it is missing or malformed."""
    if not path.is_file():
        raise EngineError(f"the engine's manifest {path} is missing; {BUILD_AGAIN}")
    try:
        manifest = _decode(Manifest, json.loads(path.read_text(encoding="utf-8")), "the manifest")
    except ValueError as error:
        raise EngineError(f"{path} is not an engine manifest: {error}; {BUILD_AGAIN}") from error
    assert isinstance(manifest, Manifest)
    return manifest


def install(engine: bytes, manifest: Manifest, target: Path) -> None:
    """Write `target` and its manifest, replacing what is there.

    Both are complete on the disk before the first is renamed. A machine that stops between the two
    renames leaves an engine whose checksum differs from its manifest's, which preflight notices.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".engine-") as folder:
        draft = Path(folder) / target.name
        _write_synced(draft, engine)
        _write_synced(manifest_path(draft), to_json(manifest).encode())
        os.replace(draft, target)
        os.replace(manifest_path(draft), manifest_path(target))


def write_atomically(path: Path, content: bytes) -> None:
    """Write one file, so that a reader finds the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".draft-") as folder:
        draft = Path(folder) / path.name
        _write_synced(draft, content)
        os.replace(draft, path)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _decode(kind: Any, value: Any, what: str) -> Any:
    """Turn a JSON `value` into `kind`. ValueError when it does not match."""
    if dataclasses.is_dataclass(kind):
        fields = typing.get_type_hints(kind)
        if not isinstance(value, dict) or set(value) != set(fields):
            given = ", ".join(sorted(value)) if isinstance(value, dict) else type(value).__name__
            raise ValueError(f"{what} must have the fields {', '.join(fields)}, got {given}")
        decoded = {name: _decode(part, value[name], name) for name, part in fields.items()}
        if decoded.get("format", FORMAT) != FORMAT:
            raise ValueError(f"this version reads format {FORMAT}, got {decoded['format']}")
        assert isinstance(kind, type)
        return kind(**decoded)
    origin = typing.get_origin(kind) or kind
    if origin is list and isinstance(value, list):
        return [_decode(typing.get_args(kind)[0], item, f"an item of {what}") for item in value]
    if origin is float and type(value) is int:
        return float(value)
    if type(value) is not origin:
        raise ValueError(f"{what} must be of type {origin.__name__}, got {value!r}")
    return value
