"""Requests as bytes that are made once, over gRPC or HTTP, and the JSON of their answers.

What a client library does for each request would be measured with the server; this sends the same
bytes again and nothing more. Each image travels as its file, undecoded.
"""

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from .load_generator import Connect, Send

METHOD = "/inference.GRPCInferenceService/ModelInfer"
TIMEOUT_S = 60.0
ENSEMBLE = "fai-pem-m-ade"
OUTPUT = "detections"
BOUNDARY = "image-follows"

Tensor = tuple[dict[str, Any], bytes]  # name, datatype and shape of a request's input; its content
Extract = Callable[[http.client.HTTPResponse, bytes], bytes]  # the answer in a response's body


class UnexpectedResponse(Exception):
    """The response holds no answer."""


def encoded_image(image: bytes, images: int = 1) -> Tensor:
    """The input of our ensemble: BYTES [N, 1], the image `images` times."""
    content = (len(image).to_bytes(4, "little") + image) * images
    return {"name": "image", "datatype": "BYTES", "shape": [images, 1]}, content


def image_as_uint8(image: bytes) -> Tensor:
    """The input of the tutorial's ensemble: the file as UINT8 [1, length]."""
    return {"name": "input_image", "datatype": "UINT8", "shape": [1, len(image)]}, image


def triton_grpc(address: str, model: str, tensor: Tensor) -> Connect:
    """Over gRPC. Channels of one process share a connection, as in a service that calls Triton."""
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(**tensor[0])
    request.outputs.add(name=OUTPUT)
    request.raw_input_contents.append(tensor[1])
    body = request.SerializeToString()
    return lambda: _grpc(address, body)


def triton_http(address: str, model: str, tensor: Tensor) -> Connect:
    """Over HTTP with Triton's binary extension, a connection for each thread."""
    description, content = tensor
    sizes = {"parameters": {"binary_data_size": len(content)}}
    output = {"name": OUTPUT, "parameters": {"binary_data": True}}
    header = json.dumps({"inputs": [description | sizes], "outputs": [output]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(header))}

    def extract(response: http.client.HTTPResponse, body: bytes) -> bytes:
        return _first_string(body[int(response.headers["Inference-Header-Content-Length"]) :])

    path = f"/v2/models/{model}/infer"
    return lambda: _http(address, path, header + content, headers, extract)


def upload(address: str, path: str, field: str, image: bytes) -> Connect:
    """The image as a browser uploads a file; the answer is the response's body."""
    start = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="image.jpg"'
        "\r\nContent-Type: image/jpeg\r\n\r\n"
    ).encode()
    body = start + image + f"\r\n--{BOUNDARY}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return lambda: _http(address, path, body, headers, lambda response, content: content)


@contextmanager
def _grpc(address: str, body: bytes) -> Iterator[Send]:
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    limits.append(("grpc.enable_http_proxy", 0))  # what is measured is on this machine
    with grpc.insecure_channel(address, options=limits) as channel:
        call = channel.unary_unary(METHOD)  # bytes to bytes

        def send() -> bytes:
            response = service_pb2.ModelInferResponse.FromString(call(body, timeout=TIMEOUT_S))
            return _first_string(response.raw_output_contents[0])

        yield send


@contextmanager
def _http(
    address: str, path: str, body: bytes, headers: dict[str, str], extract: Extract
) -> Iterator[Send]:
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)

    def send() -> bytes:
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            content = response.read()
        except Exception:
            connection.close()  # the next request opens a new one
            raise
        if response.status != http.HTTPStatus.OK:
            text = content[:200].decode(errors="replace")
            raise UnexpectedResponse(f"HTTP {response.status}: {text}")
        return extract(response, content)

    with closing(connection):
        yield send


def _first_string(content: bytes) -> bytes:
    """The first element of a BYTES tensor: four bytes of length, then that many."""
    length = int.from_bytes(content[:4], "little")
    if len(content) < 4 + length:
        raise UnexpectedResponse(f"expected a string of {length} bytes, got {len(content)}")
    return content[4 : 4 + length]
