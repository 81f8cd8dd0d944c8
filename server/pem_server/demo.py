"""`./run demo`: one image through a server of its own, from start to stop."""

import time
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pem_client import Client, Detections, PemError, class_colour
from pem_server import repository_check
from pem_server.console import log
from pem_server.local_server import LocalServerError, TritonServer
from pem_server.serve import wait_ready
from pem_server.server_log import Reporter

CLASSES = 150


def demo(image: Path, *, repository: Path, threshold: float, overlay: Path) -> int:
    """Segment `image`, print its detections, write the overlay and the class map. Exit code."""
    problems = [image_problem(image), output_problem(overlay)]
    problems += repository_check.repository_problems(repository)
    if any(problems):
        log("\n".join(filter(None, problems)))
        return 1
    reporter = Reporter(log)
    try:
        with TritonServer(repository, on_log=reporter) as server:
            wait_ready(server, reporter)
            with Client(f"grpc://{server.grpc_url}") as client:
                start = time.perf_counter()
                detections = client.infer(image, threshold=threshold)
                round_trip_s = time.perf_counter() - start  # of the first request
                class_map = client.segment(image, threshold=threshold)
            print(f"\n{image}\n\n{detections}\nround trip {round_trip_s * 1e3:.1f} ms\n")
            _write(image, detections, class_map, overlay)
            log("stopping the server ...")
    except (LocalServerError, PemError, OSError) as error:
        log(str(error))
        return 1
    return 0


def image_problem(path: Path) -> str | None:
    """Return why the file is no image, before a server is started for it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the server has its own limit of pixels
            with Image.open(path) as image:
                image.load()
    except OSError as error:
        return f"cannot read {path}: {error.strerror or 'not an image, or damaged'}"
    except (ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"cannot read {path}: {error}"
    return None


def output_problem(overlay: Path) -> str | None:
    """Make the folder, or return why no image can be written there."""
    if overlay.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp", ".bmp"):
        return f"--output must be an image file such as overlay.png, got {overlay}."
    try:
        overlay.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"cannot write {overlay}: {error.strerror}"
    return None


def _write(
    image: Path, detections: Detections, class_map: NDArray[np.uint8], overlay: Path
) -> None:
    segmentation = overlay.with_name(f"{overlay.stem.removesuffix('-overlay')}-segmentation.png")
    detections.overlay(image).save(overlay)
    colored = Image.fromarray(class_map, mode="P")
    colors = [(0, 0, 0), *(class_colour(class_id) for class_id in range(CLASSES))]
    colored.putpalette([channel for color in colors for channel in color])
    colored.save(segmentation)
    print(f"overlay    {overlay}\nclass map  {segmentation} (class id + 1 per pixel, 0 = nothing)")
