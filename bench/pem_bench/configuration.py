"""Changing one number in a model's config.pbtxt, in a copy of the repository.

The text is rewritten, not parsed: the files are hand-written, and what is not found exactly once is
an error.
"""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from .cli import BenchError

ENSEMBLE = "fai-pem-m-ade"
DELAY, INSTANCES, MAX_BATCH = "delay_us", "instances", "max_batch_size"

Changes = Mapping[str, str]  # "MODEL.KEY" to a value


def parse_changes(text: str) -> dict[str, str]:
    """The changes written MODEL.KEY=VALUE, with commas between; BenchError for another form."""
    changes = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not value or name.count(".") != 1:
            raise BenchError(
                f"a change is MODEL.KEY=VALUE, such as pem_network.threads=1, not {part!r}"
            )
        changes[name.strip()] = value.strip()
    return changes


def altered_copy(repository: Path, folder: Path, changes: Changes) -> Path:
    """A copy of `repository` at `folder`, which must not exist, with the changes; returns it.

    The weights are linked, not copied. BenchError for a change that finds no place.
    """
    shutil.copytree(
        repository,
        folder,
        ignore=shutil.ignore_patterns("__pycache__", "configs"),
        copy_function=_link_large,
    )
    for name, value in changes.items():
        model, key = name.split(".")
        change_file(folder / model / "config.pbtxt", key, value)
        if key == MAX_BATCH:  # the ensemble's is the smallest of its steps
            change_file(folder / ENSEMBLE / "config.pbtxt", key, value)
    return folder


def change_file(path: Path, key: str, value: str) -> None:
    """Rewrite one number of one configuration."""
    if not path.is_file():
        raise BenchError(f"there must be a model {path.parent.name} to change {key} of")
    try:
        path.write_text(changed(path.read_text(encoding="utf-8"), key, value), encoding="utf-8")
    except ValueError as error:
        raise BenchError(f"{path.parent.name}: {error}") from None


def changed(text: str, key: str, value: str) -> str:
    """A configuration's text with `key` at `value`.

    `key` is delay_us (of dynamic_batching, which is added where there is none), instances,
    max_batch_size, or the name of a parameter. ValueError when the text has it not, or twice.
    """
    if key == DELAY:
        batching = f"dynamic_batching {{ max_queue_delay_microseconds: {value} }}"
        if "dynamic_batching {" not in text:
            return f"{text}\n{batching}\n"
        return _once(r"dynamic_batching \{[^}]*\}", batching, text, key)
    if key == INSTANCES:
        return _once(r"(kind: KIND_CPU count: )\d+", rf"\g<1>{value}", text, key)
    if key == MAX_BATCH:
        return _once(r"^(max_batch_size: )\d+", rf"\g<1>{value}", text, key)
    pattern = rf'(key: "{re.escape(key)}"\s*value \{{ string_value: ")[^"]*'
    return _once(pattern, rf"\g<1>{value}", text, key)


def value_of(repository: Path, name: str) -> str:
    """What MODEL.KEY is in a repository; for a delay "0" if not stated, "none" without batching."""
    model, key = name.split(".")
    text = (repository / model / "config.pbtxt").read_text(encoding="utf-8")
    pattern = {
        DELAY: r"max_queue_delay_microseconds: (\d+)",
        INSTANCES: r"kind: KIND_CPU count: (\d+)",
        MAX_BATCH: r"^max_batch_size: (\d+)",
    }.get(key, rf'key: "{re.escape(key)}"\s*value \{{ string_value: "([^"]*)')
    found = re.search(pattern, text, re.MULTILINE)
    if found is None and key != DELAY:
        raise BenchError(f"{model} must have {key} in its configuration, and has not")
    if found is None:
        return "0" if "dynamic_batching {" in text else "none"
    return found.group(1)


def _once(pattern: str, replacement: str, text: str, key: str) -> str:
    result, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"{key} must stand once in the configuration, and stands {count} times")
    return result


def _link_large(source: str, target: str) -> str:
    if source.endswith((".onnx", ".plan")):
        Path(target).symlink_to(Path(source).resolve())
        return target
    return str(shutil.copy2(source, target))
