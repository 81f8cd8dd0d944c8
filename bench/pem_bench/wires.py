"""One request as bytes that are made once, over gRPC or HTTP, and the JSON of its answer.

What a client library does for each request would be measured beside the server; here it does
nothing but send the same bytes again. Each image travels as its file, undecoded.
"""

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import grpc  # type: ignore[import-untyped]
from tritonclient.grpc import service_pb2

from .load import Ask, Lane

METHOD = "/inference.GRPCInferenceService/ModelInfer"
TIMEOUT_S = 60.0
ENSEMBLE = "fai-pem-m-ade"
OUTPUT = "detections"
BOUNDARY = "image-follows"


class WireError(Exception):
    """The server answered something else than an answer."""


def triton_grpc(address: str, model: str, tensor: dict[str, Any], raw: bytes) -> Lane:
    """Ask a Triton server over gRPC; `tensor` is its only input, `raw` what it holds.

    Equal channels of one process share a connection, as a service that calls Triton has it.
    """
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(**tensor)
    request.outputs.add(name=OUTPUT)
    request.raw_input_contents.append(raw)
    body = request.SerializeToString()
    return lambda: _grpc_ask(address, body)


def triton_http(address: str, model: str, tensor: dict[str, Any], raw: bytes) -> Lane:
    """The same over HTTP with Triton's binary extension, a connection for each thread."""
    sizes = {"parameters": {"binary_data_size": len(raw)}}
    wanted = {"name": OUTPUT, "parameters": {"binary_data": True}}
    header = json.dumps({"inputs": [tensor | sizes], "outputs": [wanted]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(header))}

    def read(answer: http.client.HTTPResponse, body: bytes) -> bytes:
        length = int(answer.headers["Inference-Header-Content-Length"])
        return _first_string(body[length:])

    return lambda: _http_ask(address, f"/v2/models/{model}/infer", header + raw, headers, read)


def upload(address: str, path: str, field: str, image: bytes) -> Lane:
    """Send the image as a browser uploads a file; the answer is the body."""
    start = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="image.jpg"'
        "\r\nContent-Type: image/jpeg\r\n\r\n"
    ).encode()
    body = start + image + f"\r\n--{BOUNDARY}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return lambda: _http_ask(address, path, body, headers, lambda answer, read: read)


def encoded_image(image: bytes, images: int = 1) -> tuple[dict[str, Any], bytes]:
    """The input of our ensemble: BYTES [N, 1], the image so many times."""
    tensor = {"name": "image", "datatype": "BYTES", "shape": [images, 1]}
    return tensor, (len(image).to_bytes(4, "little") + image) * images


def image_as_numbers(image: bytes) -> tuple[dict[str, Any], bytes]:
    """The input of the tutorial's ensemble: the file as UINT8 [1, length]."""
    return {"name": "input_image", "datatype": "UINT8", "shape": [1, len(image)]}, image


@contextmanager
def _grpc_ask(address: str, body: bytes) -> Iterator[Ask]:
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(address, options=limits) as channel:
        call = channel.unary_unary(METHOD)  # bytes to bytes

        def ask() -> bytes:
            answer = service_pb2.ModelInferResponse.FromString(call(body, timeout=TIMEOUT_S))
            return _first_string(answer.raw_output_contents[0])

        yield ask


@contextmanager
def _http_ask(
    address: str,
    path: str,
    body: bytes,
    headers: dict[str, str],
    read: Callable[[http.client.HTTPResponse, bytes], bytes],
) -> Iterator[Ask]:
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)

    def ask() -> bytes:
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except Exception:
            connection.close()  # the next request makes a new one
            raise
        if answer.status != http.HTTPStatus.OK:
            raise WireError(f"HTTP {answer.status}: {content[:200].decode(errors='replace')}")
        return read(answer, content)

    with closing(connection):
        yield ask


def _first_string(raw: bytes) -> bytes:
    """The first element of a BYTES tensor: four bytes of length, then so many."""
    length = int.from_bytes(raw[:4], "little")
    if len(raw) < 4 + length:
        raise WireError(f"an answer must hold a string, got {len(raw)} bytes for {length}")
    return raw[4 : 4 + length]
