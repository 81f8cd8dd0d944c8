"""`./run demo`: one image through a server of its own, from start to stop."""

import time
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pem_client import Client, Detections, PemError, class_colour
from pem_server import repository_check
from pem_server.local_server import LocalServerError, TritonServer
from pem_server.serve import say, wait_aloud
from pem_server.server_log import Reporter

CLASSES = 150


def demo(image: Path, *, repository: Path, threshold: float, overlay: Path) -> int:
    """Segment `image`, print what was found, write the overlay and the class map. Exit code."""
    problems = [image_problem(image), output_problem(overlay)]
    problems += repository_check.repository_problems(repository)
    if told := [problem for problem in problems if problem]:
        say("\n".join(told))
        return 1
    reporter = Reporter(say)
    try:
        with TritonServer(repository, on_log=reporter) as server:
            wait_aloud(server, reporter)
            found, class_map, round_trip_s = _ask(server, image, threshold)
            print(f"\n{image}\n\n{found}\nround trip {round_trip_s * 1e3:.1f} ms\n")
            _write(image, found, class_map, overlay)
            say("stopping the server ...")
    except (LocalServerError, PemError, OSError) as error:
        say(str(error))
        return 1
    return 0


def image_problem(path: Path) -> str | None:
    """Return why the file cannot be an image, before a server is started for it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the server has its own limit of pixels
            with Image.open(path) as image:
                image.load()
    except OSError as error:
        return f"cannot read {path}: {error.strerror or 'it is not an image, or a damaged one'}"
    except (ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"cannot read {path}: {error}"
    return None


def output_problem(overlay: Path) -> str | None:
    """Make the folder, and return why no image can be written there."""
    if overlay.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp", ".bmp"):
        return f"--output must name an image, such as overlay.png, and it is {overlay}."
    try:
        overlay.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"cannot write {overlay}: {error.strerror}"
    return None


def _ask(
    server: TritonServer, image: Path, threshold: float
) -> tuple[Detections, NDArray[np.uint8], float]:
    """Return what was found, the class map, and the seconds of the first request."""
    with Client(f"grpc://{server.grpc_url}") as client:
        began = time.perf_counter()
        found = client.infer(image, threshold=threshold)
        round_trip_s = time.perf_counter() - began
        return found, client.segment(image, threshold=threshold), round_trip_s


def _write(image: Path, found: Detections, class_map: NDArray[np.uint8], overlay: Path) -> None:
    segmentation = overlay.with_name(f"{overlay.stem.removesuffix('-overlay')}-segmentation.png")
    found.overlay(image).save(overlay)
    coloured = Image.fromarray(class_map, mode="P")
    colours = [(0, 0, 0), *(class_colour(number) for number in range(CLASSES))]
    coloured.putpalette([value for colour in colours for value in colour])
    coloured.save(segmentation)
    print(f"overlay    {overlay}\nclass map  {segmentation} (class id + 1 a pixel, 0 = nothing)")
