"""The checksums of the files that decide what the server answers: graph, ranges, labels.

CHECKSUMS in the model repository is in the format of `sha256sum`. A damaged graph can load and
serve nonsense, so the start compares them; `./run export` and `./run wrap-onnx` write them anew. A
repository without the file is served unchecked.
"""

import hashlib
from pathlib import Path

NAME = "CHECKSUMS"
GRAPH = "pem_network/1/model.onnx"
RANGES = "pem_network/1/model.ranges.json"
FILES = (GRAPH, RANGES, "pem_postprocess/labels.txt")


def problem(repository: Path) -> str | None:
    """Return the first difference, None where there is none or nothing to compare with."""
    manifest = repository / NAME
    if not manifest.is_file():
        return None
    try:
        listed = dict(map(_entry, manifest.read_text(encoding="utf-8").splitlines()))
    except ValueError:
        return f"{manifest} is not what sha256sum writes; {_remedy(repository)}."
    for name, checksum in listed.items():
        file = repository / name
        if not file.is_file():
            return f"{file}, which {NAME} lists, is missing; {_remedy(repository)}."
        if checksum_of(file) != checksum:
            return (
                f"{file} is not the file that {NAME} lists, but a damaged or another one; "
                f"{_remedy(repository)}."
            )
    return None


def write(repository: Path) -> None:
    """Take the files as they are for the right ones."""
    present = [name for name in FILES if (repository / name).is_file()]
    lines = [f"{checksum_of(repository / name)}  {name}\n" for name in present]
    (repository / NAME).write_text("".join(lines), encoding="utf-8")


def graph_written(graph: Path) -> None:
    """Write the checksums anew if `graph` is the one of a repository that has checksums."""
    graph = graph.resolve()
    if graph.match(GRAPH) and (graph.parents[2] / NAME).is_file():
        write(graph.parents[2])


def checksum_of(file: Path) -> str:
    """SHA-256 in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _entry(line: str) -> tuple[str, str]:
    checksum, name = line.split(maxsplit=1)
    return name.removeprefix("*"), checksum


def _remedy(repository: Path) -> str:
    present = " ".join(name for name in FILES if (repository / name).is_file())
    return (
        "restore it (./run export makes graph and ranges), or, if you changed it on purpose, run "
        f"(cd {repository} && sha256sum {present} > {NAME})"
    )
