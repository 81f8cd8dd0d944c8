"""What the server does with many requests, read from its own statistics."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from PIL import Image

from pem_client import Client, DeadlineExceeded, Overloaded
from pem_server import TritonServer
from pem_server.stub_network import Cost, stub_repository


def statistics(server: TritonServer, model: str) -> tuple[int, int]:
    """(images, runs) of a model since the start."""
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        stats = client.get_inference_statistics(model).model_stats[0]
    return stats.inference_count, stats.execution_count


def change(
    server: TritonServer, model: str, images: int, action: Callable[[], object]
) -> tuple[int, int]:
    """What `action` adds to the statistics; Triton counts a request after it has answered it."""
    time.sleep(0.2)  # what earlier tests asked is counted by now
    before = statistics(server, model)
    action()
    deadline = time.monotonic() + 10
    after = statistics(server, model)
    while after[0] < before[0] + images and time.monotonic() < deadline:
        time.sleep(0.01)
        after = statistics(server, model)
    return after[0] - before[0], after[1] - before[1]


def ask_at_once(server: TritonServer, images: list[Image.Image]) -> list[object]:
    """Send each image over a connection of its own, all at the same moment."""
    together = threading.Barrier(len(images))

    def ask(image: Image.Image) -> object:
        with Client(server.grpc_url) as client:
            together.wait()
            try:
                return client.infer(image)
            except Overloaded as error:
                return error

    with ThreadPoolExecutor(len(images)) as pool:
        return list(pool.map(ask, images))


@pytest.fixture(scope="module")
def batching_server(root: Path) -> Iterator[TritonServer]:
    """A server whose network batches, as on a T4: a stand-in that takes 50 ms a run."""
    with (
        stub_repository(root / "model_repository", Cost(50, 0)) as repository,
        TritonServer(repository) as server,
    ):
        server.wait_until_ready()
        yield server


def test_eight_images_of_different_sizes_run_in_fewer_larger_batches(
    batching_server: TritonServer, street: Image.Image
) -> None:
    images = [street.resize((200 + 37 * n, 400 - 23 * n)) for n in range(8)]
    count, runs = change(
        batching_server, "pem_network", 8, lambda: ask_at_once(batching_server, images)
    )
    assert count == 8
    assert runs <= 4, f"{runs} runs for 8 images: nothing was batched"


def test_on_a_cpu_no_image_waits_for_another_ones_run(
    server: TritonServer, street: Image.Image
) -> None:
    images = [street.resize((200 + 37 * n, 400 - 23 * n)) for n in range(4)]
    assert change(server, "pem_network", 4, lambda: ask_at_once(server, images)) == (4, 4)


def test_the_image_of_classes_is_made_only_when_it_is_asked_for(
    server: TritonServer, grpc_client: Client, street: Image.Image
) -> None:
    def both() -> None:
        grpc_client.infer(street)
        grpc_client.segment(street)

    # Two requests, and each of the two steps ran for the one that asked for its output.
    assert change(server, "pem_render", 1, both) == (1, 1)
    assert change(server, "pem_postprocess", 1, both) == (1, 1)


def test_a_request_may_carry_several_images_and_leave_out_the_threshold(
    server: TritonServer, grpc_client: Client, street_path: Path, street: Image.Image
) -> None:
    mirrored = np.asarray(street)[:, ::-1]
    alone = [grpc_client.segment(image) for image in (street_path, mirrored)]
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        files = [street_path.read_bytes(), png(mirrored)]
        tensor = tritonclient.grpc.InferInput("image", [2, 1], "BYTES")
        tensor.set_data_from_numpy(np.array(files, dtype=object)[:, None])
        wanted = [tritonclient.grpc.InferRequestedOutput("segmentation")]
        answer = client.infer("fai-pem-m-ade", [tensor], outputs=wanted)
    for data, expected in zip(answer.as_numpy("segmentation")[:, 0], alone, strict=True):
        with Image.open(BytesIO(data)) as image:
            np.testing.assert_array_equal(np.asarray(image), expected)


def png(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_a_flood_is_refused_in_part_and_the_server_recovers(
    server: TritonServer, grpc_client: Client, street: Image.Image
) -> None:
    tiny = [street.resize((64, 48))] * 160
    answers = Counter(type(answer).__name__ for answer in ask_at_once(server, tiny))
    assert answers["Overloaded"] > 0, "160 at once fit into a queue of 32"
    assert answers["Detections"] > 0
    assert answers.total() == 160
    assert len(grpc_client.infer(street)) > 0


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_clients_own_time_limit_ends_the_wait(
    server: TritonServer, street: Image.Image, scheme: str
) -> None:
    address = server.grpc_url if scheme == "grpc" else server.http_url
    with (
        Client(f"{scheme}://{address}", timeout_s=0.02) as client,
        pytest.raises((DeadlineExceeded, Overloaded)),
    ):
        client.infer(street)
