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
from ._detections import Detections, format_table
from ._errors import ImageError, InvalidRequest, PemError
from ._protocol import DEFAULT_URL, checked_key
from ._version import __version__

__all__ = ["main"]

_INTERRUPTED = 130  # 128 + SIGINT, what a shell reports for it
_BROKEN_PIPE = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 if every image was segmented, 1 after a message on stderr if not."""
    arguments = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a file name may not be valid text here
    try:
        done = _segment(arguments)
        sys.stdout.flush()
        return 0 if done else 1
    except PemError as error:
        return _fail(error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OSError as error:  # of stdout; every other one is a PemError
        # Python flushes stdout again at exit, and would report the error there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return _BROKEN_PIPE
        return _fail(f"cannot print the result: {error.strerror}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pem-client", description="Client of a fai-pem-m-ade server."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    segment = commands.add_parser(
        "segment",
        help="find the segments of images",
        description="Print the segments of images: label, score, box, share of the image.",
    )
    segment.add_argument("images", nargs="+", metavar="IMAGE", type=Path)
    segment.add_argument(
        "--url", default=DEFAULT_URL, help="grpc://host:port or http://host:port (%(default)s)"
    )
    segment.add_argument(
        "--api-key",
        metavar="KEY",
        help="the key that the server asks for; better in the variable PEM_API_KEY, where other "
        "users of this machine cannot see it",
    )
    segment.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        help="keep segments with a score above this, 0 to 1 (%(default)s)",
    )
    segment.add_argument(
        "--json", action="store_true", help="print one JSON document per line, masks included"
    )
    segment.add_argument(
        "--overlay",
        type=Path,
        metavar="PATH",
        help="write the image with its segments drawn on it; a folder for several images",
    )
    return parser


def _segment(arguments: argparse.Namespace) -> bool:
    """Segment each image; whether all succeeded. A bad image does not stop the others."""
    overlays = _overlay_paths(arguments.images, arguments.overlay)
    done = True
    with Client(arguments.url, api_key=_key(arguments)) as client:
        for image, overlay in zip(arguments.images, overlays, strict=True):
            try:
                encoded = _read(image)
                detections = client.infer(encoded, arguments.threshold)
                _print(image, detections, arguments)
                if overlay:
                    _save(detections.overlay(encoded), overlay)
            except (InvalidRequest, ImageError) as error:
                _fail(f"{image}: {error}")
                done = False
    return done


def _key(arguments: argparse.Namespace) -> str | None:
    try:
        return checked_key(arguments.api_key)
    except ValueError as error:
        raise PemError(str(error)) from error


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
    if duplicate := next((name for name in names if names.count(name) > 1), None):
        raise PemError(f"{target / duplicate}.png would be written twice; segment one at a time")
    return [target / f"{name}.png" for name in names]


def _print(image: Path, detections: Detections, arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps({"image": str(image), **detections.to_dict()}), flush=True)
        return
    if len(arguments.images) > 1:
        print(f"{image}:")
    print(format_table(detections), flush=True)


def _save(image: Image.Image, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    except (OSError, ValueError) as error:  # ValueError: a suffix unknown to Pillow
        raise PemError(f"cannot write {path}: {error}") from error
    print(f"overlay: {path}", file=sys.stderr)


def _fail(message: object) -> int:
    print(f"pem-client: {message}", file=sys.stderr)
    return 1
