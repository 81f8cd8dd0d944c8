"""Plain HTTP in process, with a fake of what is behind it: bodies, options, answers, refusals."""

import asyncio
import contextlib
import io
import json
import struct
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from grpc import StatusCode
from PIL import Image
from starlette.applications import Starlette
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

from pem_gateway.callable_models import Contract
from pem_gateway.http_server import HttpProtocol
from pem_gateway.openapi import ANSWER_SCHEMA
from pem_gateway.page_files import FILES, page_routes
from pem_gateway.refusal import Refusal
from pem_gateway.rest import Rest, choose_kind, parse_options

JSON, PNG = "application/json", "image/png"
ANSWERS = {"detections": b'{"detections":[],"latency":{}}', "segmentation": b"\x89PNG a map"}


class FakeFront:
    """Answers every request, and remembers it."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.asked: list[ModelInferRequest] = []
        self.patience: list[float | None] = []
        self.refusal: Refusal | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled = 0

    async def infer(
        self, message: ModelInferRequest, raw: bytes | None, patience_s: float | None
    ) -> bytes:
        self.asked.append(message)
        self.patience.append(patience_s)
        if self.refusal:
            raise self.refusal
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        content = ANSWERS[message.outputs[0].name]
        answer = ModelInferResponse(raw_output_contents=[struct.pack("<I", len(content)) + content])
        return bytes(answer.SerializeToString())


@pytest.fixture
def front(contract: Contract) -> FakeFront:
    return FakeFront(contract)


def app_of(front: Any) -> Starlette:
    return HttpProtocol(front).app([*Rest(front).routes(), *page_routes()])


def ask(front: FakeFront, method: str, url: str, **request: Any) -> httpx.Response:
    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app_of(front))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.request(method, url, **request)

    return asyncio.run(main())


def segment(front: FakeFront, query: str = "", **request: Any) -> httpx.Response:
    return ask(front, "POST", f"/v1/segment{query}", **request)


def sentence(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status
    assert answer.headers["content-type"] == JSON
    return str(answer.json()["error"])


@pytest.mark.parametrize(
    "headers",
    [{}, {"Content-Type": "image/jpeg"}, {"Content-Type": "application/x-www-form-urlencoded"}],
)
def test_a_body_of_any_type_is_the_image(front: FakeFront, headers: dict[str, str]) -> None:
    answer = segment(front, content=b"image=1&b", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)
    assert answer.content == ANSWERS["detections"]
    assert front.asked[0].raw_input_contents[0] == b"\x09\0\0\0image=1&b"
    assert len(front.asked[0].inputs) == 1, "the threshold is the server's"


def test_the_file_of_a_form_is_the_image(front: FakeFront) -> None:
    photo = b"\r\n--x" * 50_000
    assert segment(front, files={"any": ("photo.jpg", photo)}).content == ANSWERS["detections"]
    assert front.asked[0].raw_input_contents[0][4:] == photo


def test_options_reach_the_server(front: FakeFront) -> None:
    segment(front, "?threshold=0.25&timeout=1.5", content=b"i")
    assert front.asked[0].raw_input_contents[1] == struct.pack("<f", 0.25)
    assert front.patience == [1.5]


def test_accept_chooses_the_class_map(front: FakeFront) -> None:
    answer = segment(front, content=b"i", headers={"Accept": PNG})
    assert (answer.headers["content-type"], answer.content) == (PNG, ANSWERS["segmentation"])


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("image/*", PNG),
        ("IMAGE/PNG", PNG),
        ("application/json;q=0.5, image/png", PNG),
        ("image/png;q=0, */*", JSON),
        ("text/html, */*;q=0.1", JSON),
        ("image/png;q=0.2, application/*;q=0.9", JSON),
    ],
)
def test_accept_is_weighed(accept: str | None, kind: str) -> None:
    assert choose_kind(accept, [JSON, PNG]) == kind


@pytest.mark.parametrize("accept", ["text/html", "image/jpeg", "*/*;q=0", "image/png;q=....."])
def test_an_accept_that_allows_nothing_is_406(front: FakeFront, accept: str) -> None:
    assert PNG in sentence(segment(front, content=b"i", headers={"Accept": accept}), 406)
    assert not front.asked


def test_an_overlay_is_no_json(front: FakeFront) -> None:
    answer = segment(front, "?overlay=true", content=b"i", headers={"Accept": JSON})
    assert PNG in sentence(answer, 406)


@pytest.mark.parametrize(
    "query",
    [
        *(f"threshold={value}" for value in ("", "2", "-1", "nan", "inf", "1_0", " 1", "²", "1e9")),
        *(f"timeout={value}" for value in ("0", "31", "-1", "x")),
        *(f"overlay={value}" for value in ("", "1", "yes", "TRUE")),
        "treshold=0.5",
        "threshold=0.5&threshold=0.6",
    ],
)
def test_an_option_that_is_none_is_named(front: FakeFront, query: str) -> None:
    assert query.split("=")[0] in sentence(segment(front, f"?{query}", content=b"i"), 400)
    assert not front.asked


def test_options_are_read() -> None:
    options = parse_options([("threshold", "1"), ("overlay", "true"), ("timeout", "1e-1")])
    assert (options.threshold, options.overlay, options.timeout_s) == (1.0, True, 0.1)


def test_no_body_gets_the_command_that_sends_one(front: FakeFront) -> None:
    assert "curl" in sentence(segment(front), 400)


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_beyond_the_limit_is_413(front: FakeFront, announced: bool) -> None:
    body = b"0" * (front.contract.max_image_bytes + 1)
    content: Any = body if announced else _parts(body)
    assert f"{front.contract.max_image_bytes:,}" in sentence(segment(front, content=content), 413)


async def _parts(body: bytes) -> Any:
    for start in range(0, len(body), 1 << 20):
        yield body[start : start + (1 << 20)]


def test_a_file_of_a_form_beyond_the_limit_is_413(front: FakeFront) -> None:
    files = {"image": b"0" * (front.contract.max_image_bytes + 1)}
    sentence(segment(front, files=files), 413)


def form(*parts: bytes, boundary: bytes = b"edge") -> bytes:
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--edge--\r\n"


FIELD = b'Content-Disposition: form-data; name="a"\r\n\r\nvalue'
FILE = b'Content-Disposition: form-data; name="a"; filename="a"\r\n\r\nvalue'


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", form(FILE)),
        ("multipart/form-data; boundary=", form(FILE)),
        ("multipart/form-data; boundary=other", form(FILE)),
        ("multipart/form-data; boundary=" + "x" * 5000, form(FILE)),
        ("multipart/form-data; boundary=edge; charset=none", form(FIELD)),
        ("multipart/form-data; boundary=edge", form()),
        ("multipart/form-data; boundary=edge", form(FIELD)),
        ("multipart/form-data; boundary=edge", form(FILE, FIELD)),
        ("multipart/form-data; boundary=edge", form(FILE, FILE)),
        ("multipart/form-data; boundary=edge", form(*[FILE] * 1000)),
        ("multipart/form-data; boundary=edge", form(*[FIELD] * 1000)),
        ("multipart/form-data; boundary=edge", form(FILE)[:-20]),
        ("multipart/form-data; boundary=edge", form(b"X: " + b"y" * 1_000_000 + b"\r\n" + FILE)),
        ("multipart/form-data; boundary=edge", form(b"no header\r\n\r\n")),
        ("multipart/form-data; boundary=edge", form(b"\r\n\r\nvalue")),
        ("multipart/form-data; boundary=edge", b"\xff" * 1000),
        ("multipart/form-data; boundary=edge", b""),
    ],
)
def test_a_form_without_one_whole_file_gets_the_command_that_sends_one(
    front: FakeFront, kind: str, body: bytes
) -> None:
    assert "curl -F" in sentence(segment(front, content=body, headers={"Content-Type": kind}), 400)
    assert not front.asked


def test_a_refusal_has_its_status_and_when_to_come_back(front: FakeFront) -> None:
    front.refusal = Refusal(StatusCode.UNAVAILABLE, "overload", "busy", retry_after_s=2.4)
    answer = segment(front, content=b"i")
    assert (sentence(answer, 503), answer.headers["Retry-After"]) == ("busy", "2")


def test_the_ensemble_is_not_named_to_whoever_knows_none(front: FakeFront) -> None:
    told = "in ensemble 'fai-pem-m-ade', image must be a file"
    front.refusal = Refusal(StatusCode.INVALID_ARGUMENT, "failed", told)
    assert sentence(segment(front, content=b"i"), 400) == "image must be a file"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "TRACE"])
def test_another_method_is_405_and_told_the_right_one(front: FakeFront, method: str) -> None:
    answer = ask(front, method, "/v1/segment")
    assert "POST" in sentence(answer, 405)
    assert answer.headers["Allow"] == "POST"


def test_a_client_that_leaves_cancels_its_request(front: FakeFront) -> None:
    async def main() -> None:
        front.gate.clear()
        arrived = [{"type": "http.request", "body": b"i"}, {"type": "http.disconnect"}]

        async def receive() -> dict[str, Any]:
            while not front.asked and len(arrived) == 1:
                await asyncio.sleep(0)
            return arrived.pop(0)

        async def send(_: Any) -> None:
            pass

        scope = {"type": "http", "method": "POST", "path": "/v1/segment", "headers": [],
                 "query_string": b""}  # fmt: skip
        with contextlib.suppress(asyncio.CancelledError):
            await app_of(front)(scope, receive, send)  # type: ignore[arg-type]

    asyncio.run(main())
    assert front.cancelled == 1


def test_classes_have_names_and_colors(front: FakeFront) -> None:
    classes = ask(front, "GET", "/v1/classes").json()["classes"]
    assert len(classes) == 150
    assert classes[2] == {"id": 2, "name": "sky", "color": "#8489e4"}


@pytest.mark.parametrize("path", FILES)
def test_pages_load_nothing_from_elsewhere(front: FakeFront, path: str) -> None:
    answer = ask(front, "GET", path)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    outside = answer.text.replace("http://www.w3.org/2000/svg", "")
    assert "//" not in outside.replace("// ", ""), "an address, or a comment without a space"


def test_a_real_gateway_answers_as_the_schema_says(gateway_url: str, root: Path) -> None:
    street = (root / "docs" / "street.jpg").read_bytes()
    url = f"{gateway_url}/v1/segment"
    answer = httpx.post(url, content=street)
    jsonschema.validate(answer.json(), json.loads(ANSWER_SCHEMA.read_text()))
    assert answer.json()["detections"]
    few = httpx.post(f"{url}?threshold=0.9", files={"image": street}).json()["detections"]
    assert 0 < len(few) < len(answer.json()["detections"])
    for query, mode in (("", "P"), ("?overlay=true", "RGB")):
        drawn = httpx.post(url + query, content=street, headers={"Accept": PNG}, timeout=60)
        image = Image.open(io.BytesIO(drawn.content))
        assert (image.size, image.mode) == ((640, 480), mode)
    assert "whole JPEG" in sentence(httpx.post(url, content=b"no image"), 400)
