"""Client and AsyncClient over a server that is a Python object."""

import asyncio

import numpy as np
import pytest

from pem_client import AsyncClient, Client, PemError


class AsyncFake:
    """The fake server for asyncio; each answer waits for a turn of the loop."""

    def __init__(self, transport):
        self.blocking = transport
        self.running = self.most_running = 0

    async def infer(self, model, inputs, outputs):
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(0.01)
        self.running -= 1
        return self.blocking.infer(model, inputs, outputs)

    async def close(self):
        self.blocking.close()


def test_segment_requests_only_the_class_map_and_leaving_the_context_closes(transport):
    with Client(transport=transport) as client:
        class_map = client.segment(b"jpeg", threshold=0.25)
        assert not transport.closed
    assert transport.closed
    assert transport.requests[0]["outputs"] == ["segmentation"]
    assert transport.requests[0]["threshold"].item() == 0.25
    assert (class_map.shape, class_map.dtype) == ((40, 60), np.uint8)
    assert class_map[0, 0] == 3


def test_the_model_cards_snippet_works_with_another_first_line(
    transport, street, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("pem_client._client.open_transport", lambda *_: transport)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image.jpg").write_bytes(b"jpeg")
    transport.models = ("another",)
    focoos = Client("127.0.0.1:8001")
    model = focoos.get_remote_model("another")
    predictions = model.infer("./image.jpg", threshold=0.5)
    print(predictions)
    assert capsys.readouterr().out == f"{street}\n"
    focoos.infer(b"jpeg")
    assert [request["model"] for request in transport.requests] == ["another", "fai-pem-m-ade"]


@pytest.mark.parametrize("make", [Client, AsyncClient])
@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf")])
def test_a_time_limit_must_be_positive(make, timeout_s):
    with pytest.raises(ValueError, match="timeout_s"):
        make("grpc://127.0.0.1:1", timeout_s=timeout_s)


def test_async_calls_give_the_same_results_and_run_at_the_same_time(transport, street, tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(b"jpeg")
    fake = AsyncFake(transport)

    async def infer():
        async with AsyncClient(transport=fake) as client:
            first, second = client.infer(path), client.infer(b"jpeg", 0.25)
            return await asyncio.gather(first, second, client.segment(b"jpeg"))

    first, second, class_map = asyncio.run(infer())
    assert first == second == street
    assert class_map[39, 0] == 7
    assert fake.most_running == 3
    assert sorted(request["threshold"].item() for request in transport.requests) == [0.25, 0.5, 0.5]
    assert {request["image"].item() for request in transport.requests} == {b"jpeg"}
    assert transport.closed


def test_an_async_client_must_be_opened_and_refuses_http():
    with pytest.raises(PemError, match="async with AsyncClient"):
        asyncio.run(AsyncClient("grpc://127.0.0.1:1").infer(b"jpeg"))
    with pytest.raises(PemError, match="grpc://"):
        asyncio.run(AsyncClient("http://127.0.0.1:8000").__aenter__())
