"""The command line: `pem-client segment street.jpg --overlay overlay.png`."""

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ._client import Client
from ._errors import ImageError, InvalidRequest, PemError
from ._protocol import DEFAULT_URL
from ._result import Detections
from ._version import __version__
from .table import format_table

__all__ = ["main"]

_INTERRUPTED = 130  # 128 + SIGINT, what a shell reports for it
_BROKEN_PIPE = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 if every image was segmented, 1 after a message on stderr if not."""
    arguments = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a file name may be no text of this terminal's
    try:
        done = _segment(arguments)
        sys.stdout.flush()
        return 0 if done else 1
    except PemError as error:
        return _complain(error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OSError as error:  # of stdout; every other one is a PemError by now
        # Python flushes stdout once more at exit, and would complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return _BROKEN_PIPE
        return _complain(f"cannot print the result: {error.strerror}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pem-client", description="Client of a fai-pem-m-ade server."
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    segment = verbs.add_parser(
        "segment",
        help="find the segments of images",
        description="Print what a server finds in images: label, score, box, share.",
    )
    segment.add_argument("images", nargs="+", metavar="IMAGE", type=Path)
    segment.add_argument(
        "--url", default=DEFAULT_URL, help="grpc://host:port or http://host:port (%(default)s)"
    )
    segment.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        help="keep segments with a score above this, 0 to 1 (%(default)s)",
    )
    segment.add_argument(
        "--json", action="store_true", help="print one JSON document a line, masks included"
    )
    segment.add_argument(
        "--overlay",
        type=Path,
        metavar="PATH",
        help="write the image with its segments drawn in; a folder if there are several",
    )
    return parser


def _segment(arguments: argparse.Namespace) -> bool:
    """Segment each image; whether all went well. A bad image does not stop the others."""
    overlays = _overlay_paths(arguments.images, arguments.overlay)
    done = True
    with Client(arguments.url) as client:
        for image, overlay in zip(arguments.images, overlays, strict=True):
            try:
                encoded = _read(image)
                found = client.infer(encoded, arguments.threshold)
                _print(image, found, arguments)
                if overlay:
                    _save(found.overlay(encoded), overlay)
            except (InvalidRequest, ImageError) as error:
                _complain(f"{image}: {error}")
                done = False
    return done


def _read(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise ImageError(error.strerror) from error


def _overlay_paths(images: Sequence[Path], target: Path | None) -> list[Path | None]:
    """Where each image's overlay goes: the path itself, or PNG files in that folder."""
    if target is None:
        return [None] * len(images)
    if len(images) == 1 and not os.path.isdir(target):
        return [target]
    names = [image.stem for image in images]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise PemError(f"two images would both become {target / twice}.png; segment them apart")
    return [target / f"{name}.png" for name in names]


def _print(image: Path, found: Detections, arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps({"image": str(image), **found.to_dict()}), flush=True)
        return
    if len(arguments.images) > 1:
        print(f"{image}:")
    print(format_table(found), flush=True)


def _save(image: Image.Image, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    except (OSError, ValueError) as error:  # ValueError: a suffix that Pillow does not know
        raise PemError(f"cannot write {path}: {error}") from error
    print(f"overlay: {path}", file=sys.stderr)


def _complain(message: object) -> int:
    print(f"pem-client: {message}", file=sys.stderr)
    return 1
