"""What the real server's counters say, its own and ours: the facts behind deploy/monitoring.

They hold for Triton 2.51. An upgrade that changes one is noticed here, and rules.yml follows.
"""

import re
import shutil
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from PIL import Image

from pem_client import Client, InvalidRequest, Overloaded
from pem_server import TritonServer
from pem_server.stub_network import Cost, stub_repository

Read = dict[str, float]  # series as Prometheus reads them -> value

ENSEMBLE = 'model="fai-pem-m-ade"'
FIRST = 'model="pem_preprocess"'
NETWORK = 'model="pem_network"'


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[TritonServer]:
    """A server with a stand-in network that takes 80 ms an image, for these counters alone."""
    with (
        stub_repository(root / "model_repository", Cost(0, 80)) as repository,
        TritonServer(repository) as server,
    ):
        server.wait_until_ready()
        yield server


@pytest.fixture(scope="module")
def decoding_server(root: Path) -> Iterator[TritonServer]:
    """A server that refuses before decoding, with three processes there, as on a T4."""
    with stub_repository(root / "model_repository", Cost(0, 1)) as repository:
        decoding = repository / "pem_preprocess"
        shutil.copy(decoding / "configs" / "t4.pbtxt", decoding / "config.pbtxt")
        _replace(decoding / "config.pbtxt", "max_queue_size: 64", "max_queue_size: 4")
        with TritonServer(repository) as server:
            server.wait_until_ready()
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


def change(server: TritonServer, action: Callable[[], object]) -> Read:
    """What `action` adds to each series; Triton counts a request after it has answered it."""
    before = _settled(server)
    action()
    after = _settled(server)
    return {series: value - before.get(series, 0) for series, value in after.items()}


def _settled(server: TritonServer) -> Read:
    values: Read = {}
    while (later := _without_the_machine(read(server))) != values:
        values = later
        time.sleep(0.8)
    return values


def _without_the_machine(values: Read) -> Read:
    return {series: value for series, value in values.items() if not series.startswith("nv_cpu")}


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
    data: bytes | None = None,
    **options: float,
) -> str:
    """One request of several equal images, by Triton's own client."""
    data = data or image()
    inputs = []
    for name, kind, array in (
        ("image", "BYTES", np.array([[data]] * images, dtype=object)),
        ("threshold", "FP32", np.full((images, 1), threshold, np.float32)),
    ):
        inputs.append(tritonclient.grpc.InferInput(name, [images, 1], kind))
        inputs[-1].set_data_from_numpy(array)
    wanted = [tritonclient.grpc.InferRequestedOutput(name) for name in outputs]
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        try:
            client.infer("fai-pem-m-ade", inputs, outputs=wanted, **options)
        except tritonclient.grpc.InferenceServerException as error:
            return error.status()
    return "answered"


def flood(server: TritonServer, data: bytes, count: int = 120) -> Counter[str]:
    """Ask for the same image `count` times at the same moment."""
    together = threading.Barrier(count)

    def one(_number: int) -> str:
        together.wait()
        return ask(server, data)

    with ThreadPoolExecutor(count) as pool:
        return Counter(pool.map(one, range(count)))


def test_every_image_is_counted_once_by_its_outcome(server: TritonServer) -> None:
    def some_of_each() -> None:
        ask(server, image())
        send(server, images=3, outputs=("detections", "segmentation"))
        ask(server, b"no image")
        ask(server, b"")
        ask(server, b"\0" * 20_971_521)
        ask(server, image(), threshold=2.0)

    seen = change(server, some_of_each)

    images = {
        tuple(re.findall(r'="(\w+)"', series)): value
        for series, value in seen.items()
        if series.startswith("pem_images_total") and value
    }
    assert images == {
        ("ok", "preprocess"): 5,
        ("bad_image", "preprocess"): 2,
        ("too_large", "preprocess"): 1,
        ("ok", "postprocess"): 4,
        ("bad_request", "postprocess"): 1,
        ("ok", "render"): 3,
    }
    assert total(seen, "pem_decode_seconds_count") == 5
    assert total(seen, "pem_image_pixels_sum") == 5 * 64 * 64
    assert total(seen, "pem_detections_per_image_count") == 4
    assert total(seen, "pem_postprocess_seconds_count") == 4


def test_our_counts_agree_with_tritons(server: TritonServer) -> None:
    def three() -> None:
        ask(server, image())
        ask(server, image(100))
        ask(server, b"no image")

    seen = change(server, three)

    ours = total(seen, "pem_images_total", 'step="preprocess"')
    assert ours == total(seen, "nv_inference_count", FIRST) == 3
    answered = total(seen, "nv_inference_count", ENSEMBLE)
    assert total(seen, "pem_images_total", 'step="postprocess"', 'outcome="ok"') == answered == 2


def test_our_metrics_have_the_types_that_prometheus_needs(server: TritonServer) -> None:
    types = dict(re.findall(r"# TYPE (pem_\w+) (\w+)", page(server)))
    assert types == {
        "pem_images_total": "counter",
        "pem_decode_seconds": "histogram",
        "pem_image_pixels": "histogram",
        "pem_images_waiting": "gauge",
        "pem_postprocess_seconds": "histogram",
        "pem_detections_per_image": "histogram",
    }


def test_a_refused_image_is_a_success_of_its_step_and_two_failures_of_the_ensemble(
    server: TritonServer,
) -> None:
    seen = change(server, lambda: ask(server, b"no image"))

    assert total(seen, "nv_inference_request_success", FIRST) == 1
    assert total(seen, "nv_inference_request_failure", FIRST) == 0
    assert total(seen, "nv_inference_request_failure", ENSEMBLE) == 2
    assert total(seen, "nv_inference_request_success", ENSEMBLE) == 0


def test_a_request_that_both_last_steps_refuse_is_one_failure_of_the_ensemble(
    server: TritonServer,
) -> None:
    both = ("detections", "segmentation")
    seen = change(server, lambda: send(server, outputs=both, threshold=2.0))

    assert total(seen, "pem_images_total", 'outcome="bad_request"') == 2
    assert total(seen, "nv_inference_request_failure", ENSEMBLE) == 1


def test_what_the_first_step_refuses_as_too_much_is_a_success_of_it_and_counted_as_overload(
    server: TritonServer,
) -> None:
    answers: Counter[str] = Counter()
    seen_meanwhile: list[Read] = []

    with sampled(server, seen_meanwhile):
        seen = change(server, lambda: answers.update(flood(server, image())))

    answered, refused = answers["answered"], answers["Overloaded"]
    assert refused > 0
    assert answered + refused == 120
    # What rules.yml calls offered: exact in both terms.
    assert total(seen, "nv_inference_request_success", FIRST) == 120
    assert total(seen, "nv_inference_request_success", ENSEMBLE) == answered
    assert total(seen, "nv_inference_request_failure", ENSEMBLE) == 2 * refused
    assert total(seen, "nv_inference_request_failure", 'model="pem_') == 0
    # What it calls lost.
    assert total(seen, "pem_images_total", 'outcome="overload"') == refused
    assert total(seen, "pem_images_total", 'step="preprocess"', 'outcome="ok"') == answered
    assert total(seen, "nv_inference_count", ENSEMBLE) == answered
    # What it calls backlog, and what the first step refuses by: never more than its limit.
    gauge = "nv_inference_pending_request_count"
    assert max(total(values, gauge, NETWORK) for values in seen_meanwhile) > 8
    assert max(total(values, gauge, ENSEMBLE) for values in seen_meanwhile) == 0
    assert max(total(values, "pem_images_waiting") for values in seen_meanwhile) == 32


def test_requests_given_up_on_the_way_do_not_count_as_waiting_for_ever(
    server: TritonServer,
) -> None:
    """Triton lets a cancelled request go between two steps, so the network never takes it up."""

    def give_up(_number: int) -> str:
        return send(server, client_timeout=0.3)

    with ThreadPoolExecutor(24) as pool:
        others = [pool.submit(send, server, images=8) for _ in range(2)]  # 1.3 s of work
        given_up = list(pool.map(give_up, range(20)))
        assert [each.result() for each in others] == ["answered"] * 2
    assert "StatusCode.DEADLINE_EXCEEDED" in given_up
    time.sleep(1)
    assert ask(server, image()) == "answered"
    assert total(read(server), "pem_images_waiting") == 0


def test_a_client_that_hangs_up_is_two_failures_of_the_ensemble(server: TritonServer) -> None:
    """A step sees it when it takes up the request."""

    def wait_behind_others() -> None:
        decoded = total(read(server), "nv_inference_count", FIRST)
        with ThreadPoolExecutor(3) as pool:
            others = [pool.submit(send, server, images=8) for _ in range(3)]  # 1.9 s of work
            while total(read(server), "nv_inference_count", FIRST) < decoded + 24:
                time.sleep(0.01)
            assert send(server, client_timeout=0.8) == "StatusCode.DEADLINE_EXCEEDED"
            assert [each.result() for each in others] == ["answered"] * 3

    seen = change(server, wait_behind_others)

    assert total(seen, "nv_inference_request_failure", ENSEMBLE) == 2
    assert total(seen, "pem_images_total", 'step="postprocess"', 'outcome="cancelled"') == 1


def test_a_place_in_a_limited_queue_expires_as_two_failures_of_the_ensemble(
    decoding_server: TritonServer,
) -> None:
    large = image(3000)

    def wait_behind_others() -> None:
        with ThreadPoolExecutor(3) as pool:  # for each process, eight images to decode
            others = [pool.submit(send, decoding_server, 8, data=large) for _ in range(3)]
            time.sleep(0.15)
            assert send(decoding_server, timeout=1000) == "StatusCode.UNAVAILABLE"
            assert [each.result() for each in others] == ["answered"] * 3
        time.sleep(1)  # a queue with a limit looks for what has expired every half second

    seen = change(decoding_server, wait_behind_others)

    assert total(seen, "nv_inference_request_failure", ENSEMBLE) == 2
    assert total(seen, "nv_inference_request_failure", FIRST, 'reason="REJECTED"') == 1


def test_what_is_refused_before_decoding_is_seen_in_the_ensemble_only(
    decoding_server: TritonServer,
) -> None:
    answers: Counter[str] = Counter()

    seen = change(decoding_server, lambda: answers.update(flood(decoding_server, image(2000))))

    answered, refused = answers["answered"], answers["Overloaded"]
    assert refused > 0
    assert answered + refused == 120
    assert total(seen, "nv_inference_request_success", FIRST) == answered
    assert total(seen, "nv_inference_request_failure", FIRST) == 0
    assert total(seen, "nv_inference_request_success", ENSEMBLE) == answered
    assert total(seen, "nv_inference_request_failure", ENSEMBLE) == 2 * refused


def test_the_processes_of_one_model_add_up(decoding_server: TritonServer) -> None:
    processes, warm_ups = 3, 2
    series = 'pem_images_total{outcome="ok",step="preprocess"}'
    assert read(decoding_server)[series] >= processes * warm_ups

    def twelve() -> None:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda _: ask(decoding_server, image()), range(12)))

    seen = change(decoding_server, twelve)

    assert seen[series] == 12
    assert total(seen, "pem_decode_seconds_count") == 12


class WithoutMetrics(TritonServer):
    """A server that tells nobody."""

    def _command(self, scratch: Path) -> list[str]:
        return [*super()._command(scratch), "--allow-metrics=false"]


def test_a_server_without_metrics_answers_all_the_same(root: Path) -> None:
    with (
        stub_repository(root / "model_repository", Cost(0, 1)) as repository,
        WithoutMetrics(repository) as server,
    ):
        server.wait_until_ready()
        assert ask(server, image()) == "answered"
        assert ask(server, b"no image") == "InvalidRequest"
        with pytest.raises(OSError, match="refused"):
            page(server)


@contextmanager
def sampled(server: TritonServer, samples: list[Read]) -> Iterator[None]:
    """Read the counters again and again while the block runs."""
    over = threading.Event()

    def sample() -> None:
        while not over.wait(0.05):
            samples.append(read(server))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
