"""What the real server's counters say, its own and ours: the facts behind deploy/monitoring.

They hold for Triton 2.51. An upgrade that changes one is noticed here, and rules.yml follows.
"""

import queue
import re
import shutil
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
from PIL import Image
from polling import poll
from stub_server import StubServer, running

from pem_client import Client, InvalidRequest, Overloaded
from pem_server import TritonServer
from pem_server.stub_network import Cost, stub_repository

Read = dict[str, float]  # series as Prometheus reads them -> value
Changes = dict[tuple[str, ...], float]  # (metric, labels ...) -> what is added

MODEL = "fai-pem-m-ade"
ENSEMBLE = f'model="{MODEL}"'
FIRST = 'model="pem_preprocess"'
PREPARED = 'step="preprocess"'
PENDING = "nv_inference_pending_request_count"
SUCCESS, FAILURE = "nv_inference_request_success", "nv_inference_request_failure"
FEW = Cost(0, 20)


@pytest.fixture
def server(stub: StubServer) -> TritonServer:
    """The shared server with a stub network."""
    return stub.set_cost(FEW)


@pytest.fixture(scope="module")
def decoding_server(root: Path) -> Iterator[TritonServer]:
    """A server that refuses before decoding, with three processes there, as on a T4."""
    with stub_repository(root / "model_repository", Cost(0, 1)) as repository:
        decoding = repository / "pem_preprocess"
        shutil.copy(decoding / "configs" / "t4.pbtxt", decoding / "config.pbtxt")
        config = decoding / "config.pbtxt"
        _replace(config, "max_queue_size: 64", "max_queue_size: 16")
        _replace(config, "timeout_microseconds: 5000000", "timeout_microseconds: 100000000")
        with running(repository) as server:
            yield server


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path} says {old!r} no more"
    path.write_text(text.replace(old, new))


def page(server: TritonServer) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics") as reply:
        return reply.read().decode()


def read(server: TritonServer) -> Read:
    lines = [line for line in page(server).splitlines() if not line.startswith("#")]
    return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}


def total(values: Read, name: str, *labels: str) -> float:
    """The sum of a metric's series that have all these labels."""
    return sum(
        value
        for series, value in values.items()
        if series.split("{")[0] == name and all(label in series for label in labels)
    )


def check_added(server: TritonServer, before: Read, expected: Changes) -> Read:
    """Check what the counters show since `before`; returns what each series has gained.

    Triton counts a request after it has answered it: the numbers are waited for. One that grows
    beyond the expected is caught where another image is sent last, which is expected.
    """
    seen = poll(
        lambda: _added(before, read(server)),
        lambda seen: all(total(seen, *series) >= value for series, value in expected.items()),
        patience_s=30,
    )
    assert {series: total(seen, *series) for series in expected} == expected
    return seen


def _counted(server: TritonServer) -> Read:
    """The counters after one more image, so that all that earlier tests sent is in them."""
    answered = total(read(server), SUCCESS, ENSEMBLE)
    assert ask(server, image()) == "answered"
    return poll(lambda: read(server), lambda now: total(now, SUCCESS, ENSEMBLE) > answered)


def _added(before: Read, after: Read) -> Read:
    return {series: value - before.get(series, 0) for series, value in after.items()}


def image(side: int = 64) -> bytes:
    file = BytesIO()
    Image.new("RGB", (side, side), (200, 30, 30)).save(file, "PNG")
    return file.getvalue()


def ask(server: TritonServer, data: bytes, threshold: float = 0.5) -> str:
    with Client(server.grpc_url) as client:
        try:
            client.infer(data, threshold=threshold)
        except (InvalidRequest, Overloaded) as error:
            return type(error).__name__
    return "answered"


def send(
    server: TritonServer,
    images: int = 1,
    outputs: tuple[str, ...] = ("detections",),
    threshold: float = 0.5,
    **options: float,
) -> str:
    """One request of several equal images, by Triton's own client."""
    wanted = [tritonclient.grpc.InferRequestedOutput(name) for name in outputs]
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        try:
            client.infer(MODEL, request(image(), images, threshold), outputs=wanted, **options)
        except tritonclient.grpc.InferenceServerException as error:
            return error.status()
    return "answered"


def request(data: bytes, images: int = 1, threshold: float = 0.5) -> list[Any]:
    """The tensors of a request of several equal images."""
    tensors = [
        tritonclient.grpc.InferInput("image", [images, 1], "BYTES"),
        tritonclient.grpc.InferInput("threshold", [images, 1], "FP32"),
    ]
    tensors[0].set_data_from_numpy(np.array([[data]] * images, dtype=object))
    tensors[1].set_data_from_numpy(np.full((images, 1), threshold, np.float32))
    return tensors


class Flood:
    """Requests for the same image, all on the way at the same time over one connection."""

    def __init__(
        self, server: TritonServer, data: bytes, count: int = 120, images: int = 1
    ) -> None:
        self.count = count
        self._answers: queue.Queue[str] = queue.Queue()
        self._client = tritonclient.grpc.InferenceServerClient(server.grpc_url)
        outputs = [tritonclient.grpc.InferRequestedOutput("detections")]
        tensors = request(data, images)
        self.calls = [
            self._client.async_infer(MODEL, tensors, self._note, outputs=outputs)
            for _ in range(count)
        ]

    def _note(self, result: object, error: tritonclient.grpc.InferenceServerException) -> None:
        self._answers.put(error.status() if error else "answered")

    def answers(self) -> Counter[str]:
        """How all of them ended, once they have."""
        with self._client:
            return Counter(self._answers.get(timeout=120) for _ in range(self.count))


def test_every_image_is_counted_once_by_its_outcome(server):
    before = _counted(server)
    ask(server, image())
    send(server, images=3, outputs=("detections", "segmentation"))
    ask(server, b"no image")
    ask(server, b"")
    ask(server, b"\0" * 20_971_521)
    ask(server, image(), threshold=2.0)

    expected: Changes = {("pem_decode_seconds_count",): 5, ("pem_image_pixels_sum",): 5 * 64 * 64}
    expected |= {("pem_detections_per_image_count",): 4, ("pem_postprocess_seconds_count",): 4}
    # Triton's counts agree with ours.
    expected |= {("nv_inference_count", FIRST): 8, ("nv_inference_count", ENSEMBLE): 4}
    seen = check_added(server, before, expected)

    images = {
        " ".join(re.findall(r'="(\w+)"', series)): value
        for series, value in seen.items()
        if series.startswith("pem_images_total") and value
    }
    first = {"ok preprocess": 5, "bad_image preprocess": 2, "too_large preprocess": 1}
    assert images == first | {"ok postprocess": 4, "bad_request postprocess": 1, "ok render": 3}


def test_our_metrics_have_the_types_that_prometheus_needs(server):
    types = dict(re.findall(r"# TYPE (pem_\w+) (\w+)", page(server)))
    histograms = ["decode_seconds", "image_pixels", "postprocess_seconds", "detections_per_image"]
    expected = {f"pem_{name}": "histogram" for name in histograms}
    assert types == expected | {"pem_images_total": "counter"}


def test_a_refused_image_is_a_success_of_its_step_and_two_failures_of_the_ensemble(server):
    before = _counted(server)
    assert (ask(server, b"no image"), ask(server, image())) == ("InvalidRequest", "answered")
    expected = {(SUCCESS, FIRST): 2, (FAILURE, FIRST): 0}
    check_added(server, before, expected | {(SUCCESS, ENSEMBLE): 1, (FAILURE, ENSEMBLE): 2})


def test_a_request_that_both_last_steps_refuse_is_one_failure_of_the_ensemble(server):
    before = _counted(server)
    send(server, outputs=("detections", "segmentation"), threshold=2.0)
    assert ask(server, image()) == "answered"
    expected = {("pem_images_total", 'outcome="bad_request"'): 2}
    check_added(server, before, expected | {(SUCCESS, ENSEMBLE): 1, (FAILURE, ENSEMBLE): 1})


def test_a_client_that_hangs_up_is_two_failures_of_the_ensemble(stub, server):
    """A step sees it when it takes up the request."""
    before = _counted(server)
    with stub.held():
        others = Flood(server, image(), count=3, images=8)
        poll(lambda: decoded(server, before), lambda images: images == 24)
        given_up = Flood(server, image(), count=1)
        poll(lambda: decoded(server, before), lambda images: images == 25)
        given_up.calls[0].cancel()
        assert given_up.answers() == {"StatusCode.CANCELLED": 1}
    assert others.answers() == {"answered": 3}
    assert ask(server, image()) == "answered"
    expected = {("pem_images_total", 'step="postprocess"', 'outcome="cancelled"'): 1}
    check_added(server, before, expected | {(SUCCESS, ENSEMBLE): 4, (FAILURE, ENSEMBLE): 2})


def decoded(server: TritonServer, before: Read) -> float:
    """Images that the first step has passed on since then."""
    return total(_added(before, read(server)), "pem_images_total", PREPARED, 'outcome="ok"')


def test_a_place_in_a_limited_queue_expires_as_two_failures_of_the_ensemble(decoding_server):
    before = _counted(decoding_server)
    # Three requests for three processes, eight images to decode in each, and three that wait.
    others = Flood(decoding_server, image(1500), count=6, images=8)
    poll(lambda: total(read(decoding_server), PENDING, FIRST), pause_s=0.01)
    assert send(decoding_server, timeout=1000) == "StatusCode.UNAVAILABLE"
    assert others.answers() == {"answered": 6}
    # A queue with a limit looks for what has expired every half second.
    expected = {(FAILURE, FIRST, 'reason="REJECTED"'): 1}
    expected |= {(SUCCESS, ENSEMBLE): 6, (FAILURE, ENSEMBLE): 2}
    check_added(decoding_server, before, expected)


def test_what_is_refused_before_decoding_is_seen_in_the_ensemble_only(decoding_server):
    before = _counted(decoding_server)
    flood = Flood(decoding_server, image(2000), count=120)
    answers = flood.answers()
    answered, refused = answers["answered"], answers["StatusCode.UNAVAILABLE"]

    assert refused > 0
    assert answered + refused == flood.count
    expected = {(SUCCESS, FIRST): answered, (FAILURE, FIRST): 0}
    expected |= {(SUCCESS, ENSEMBLE): answered, (FAILURE, ENSEMBLE): 2 * refused}
    check_added(decoding_server, before, expected)


def test_the_processes_of_one_model_add_up(decoding_server):
    processes, warm_ups = 3, 2
    images = ("pem_images_total", PREPARED, 'outcome="ok"')
    assert total(read(decoding_server), *images) >= processes * warm_ups

    before = _counted(decoding_server)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: ask(decoding_server, image()), range(12)))
    check_added(decoding_server, before, {images: 12, ("pem_decode_seconds_count",): 12})


class WithoutMetrics(TritonServer):
    """A server that tells nobody."""

    def _command(self, scratch: Path) -> list[str]:
        return [*super()._command(scratch), "--allow-metrics=false"]


def test_a_server_without_metrics_answers_all_the_same(root):
    with (
        stub_repository(root / "model_repository", Cost(0, 1)) as repository,
        WithoutMetrics(repository, exit_timeout_s=1) as server,
    ):
        server.wait_until_ready()
        assert ask(server, image()) == "answered"
        assert ask(server, b"no image") == "InvalidRequest"
        with pytest.raises(OSError, match="refused"):
            page(server)
