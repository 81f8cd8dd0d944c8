"""What the server does with many requests, read from its own statistics."""

import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
import tritonclient.grpc
from PIL import Image, ImageOps
from polling import poll
from stub_server import StubServer

from pem_client import Client, DeadlineExceeded, Overloaded
from pem_server import TritonServer
from pem_server.stub_network import Cost

SMALL = Image.new("RGB", (64, 48), (200, 30, 30))


def statistics(server: TritonServer, model: str) -> tuple[int, int]:
    """(images, runs) of a model since the start."""
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        stats = client.get_inference_statistics(model).model_stats[0]
    return stats.inference_count, stats.execution_count


def change(
    server: TritonServer, model: str, images: int, action: Callable[[], object]
) -> tuple[int, int]:
    """What `action` adds to the statistics; Triton counts a request after it has answered it."""
    before = counted(server, model)
    action()
    after = poll(lambda: statistics(server, model), lambda now: now[0] >= before[0] + images)
    return after[0] - before[0], after[1] - before[1]


def counted(server: TritonServer, model: str) -> tuple[int, int]:
    """The same after one more image, so that what earlier tests sent is in it."""
    earlier = statistics(server, model)
    with Client(server.grpc_url) as client:
        client.segment(SMALL) if model == "pem_render" else client.infer(SMALL)
    return poll(lambda: statistics(server, model), lambda now: now > earlier)


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


@pytest.fixture
def batching_server(stub: StubServer) -> TritonServer:
    """A server whose network batches, as on a T4."""
    return stub.set_cost(Cost(50, 0))


def ask_a_held_network(stub: StubServer, images: list[Image.Image]) -> list[object]:
    """Send them all, and let the network go on once the first step has had every one."""
    before = statistics(stub.server, "pem_preprocess")
    with ThreadPoolExecutor(1) as pool, stub.held():
        answers = pool.submit(ask_at_once, stub.server, images)
        poll(
            lambda: statistics(stub.server, "pem_preprocess"),
            lambda now: now[0] == before[0] + len(images),
        )
    return answers.result()


def test_eight_images_of_different_sizes_run_in_fewer_larger_batches(stub, batching_server, street):
    images = [street.resize((200 + 37 * n, 400 - 23 * n)) for n in range(8)]
    ask = functools.partial(ask_a_held_network, stub, images)
    count, runs = change(batching_server, "pem_network", 8, ask)
    assert count == 8
    assert runs <= 2, f"{runs} runs for 8 images, of which 7 at least waited for the first"


def test_on_a_cpu_no_image_waits_for_another_ones_run(server, street):
    images = [street.resize((200 + 37 * n, 400 - 23 * n)) for n in range(4)]
    assert change(server, "pem_network", 4, lambda: ask_at_once(server, images)) == (4, 4)


def test_the_image_of_classes_is_made_only_when_it_is_asked_for(server, grpc_client, street):
    def both() -> None:
        grpc_client.infer(street)
        grpc_client.segment(street)

    # Two requests, and each of the two steps ran for the one that asked for its output.
    assert change(server, "pem_render", 1, both) == (1, 1)
    assert change(server, "pem_postprocess", 1, both) == (1, 1)


def test_a_request_may_carry_several_images_and_no_threshold(server, grpc_client, street_path):
    mirrored, file = ImageOps.mirror(Image.open(street_path)), BytesIO()
    mirrored.save(file, "PNG")
    alone = [grpc_client.segment(image) for image in (street_path, mirrored)]
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        files = [street_path.read_bytes(), file.getvalue()]
        tensor = tritonclient.grpc.InferInput("image", [2, 1], "BYTES")
        tensor.set_data_from_numpy(np.array(files, dtype=object)[:, None])
        wanted = [tritonclient.grpc.InferRequestedOutput("segmentation")]
        answer = client.infer("fai-pem-m-ade", [tensor], outputs=wanted)
    for data, expected in zip(answer.as_numpy("segmentation")[:, 0], alone, strict=True):
        with Image.open(BytesIO(data)) as image:
            np.testing.assert_array_equal(np.asarray(image), expected)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_clients_own_time_limit_ends_the_wait(stub, street, scheme):
    address = stub.server.grpc_url if scheme == "grpc" else stub.server.http_url
    hurried = Client(f"{scheme}://{address}", timeout_s=0.02)
    with stub.held(), hurried as client, pytest.raises(DeadlineExceeded):
        client.infer(street)
