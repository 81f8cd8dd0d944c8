"""Put an engine and its manifest into the model repository: whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pemtrt.manifest import Manifest, manifest_path, to_json


def place(engine: bytes, manifest: Manifest, target: Path) -> None:
    """Write `target` and its manifest, replacing what is there.

    Both are complete on the disk before the first takes its name. A machine that stops between the
    two renamings leaves an engine whose checksum its manifest denies, which preflight notices.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".engine-") as folder:
        draft = Path(folder) / target.name
        _write(draft, engine)
        _write(manifest_path(draft), to_json(manifest).encode())
        os.replace(draft, target)
        os.replace(manifest_path(draft), manifest_path(target))


def write_whole(path: Path, content: bytes) -> None:
    """Write one file, so that a reader finds the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".draft-") as folder:
        draft = Path(folder) / path.name
        _write(draft, content)
        os.replace(draft, path)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
