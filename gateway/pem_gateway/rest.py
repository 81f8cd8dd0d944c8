"""Plain HTTP beside KServe's protocol: POST an image to /v1/segment, get JSON or a PNG.

The image goes to the ensemble as it came, and the answer comes back as the ensemble made it: the
string `detections`, or the PNG `segmentation`. Only the overlay is drawn here, by a process of its
own (`overlay_process`).
"""

import json
import re
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grpc import StatusCode
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

from pem_client.palette import class_colour

from .callable_models import ENSEMBLE
from .dispatcher import PATIENCE_S
from .front import Front
from .http_server import abandoned_on_disconnect, route
from .image_body import read_image
from .openapi import describe
from .overlay_process import LONGEST_S, Overlays
from .refusal import Refusal, bad_request

JSON, PNG = "application/json", "image/png"
OUTPUT = {JSON: "detections", PNG: "segmentation"}
NUMBER = re.compile(r"[0-9]{0,20}\.?[0-9]{1,20}([eE][-+]?[0-9]{1,3})?", re.ASCII)
PARAMETERS = ("threshold", "overlay", "timeout")


class NotAcceptable(Refusal):
    """Accept names nothing that is made here: HTTP 406, for which gRPC has no code."""

    http_status = 406


@dataclass(frozen=True)
class Options:
    """What the URL of a request says; None leaves it to the server."""

    threshold: float | None = None
    overlay: bool = False
    timeout_s: float | None = None


class Rest:
    """The routes of plain HTTP."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._limit = front.contract.max_image_bytes
        self._classes = json.dumps({"classes": _classes(front.contract.labels)}).encode()
        self._openapi = json.dumps(describe(front.contract)).encode()
        self._overlays = Overlays()

    def routes(self) -> list[BaseRoute]:
        """What is served beside KServe's paths."""
        return [
            route("/v1/segment", self._segment, "POST"),
            route("/v1/classes", self._list_classes),
            route("/openapi.json", self._describe),
        ]

    async def _list_classes(self, _: Request) -> Response:
        return Response(self._classes, media_type=JSON)

    async def _describe(self, _: Request) -> Response:
        return Response(self._openapi, media_type=JSON)

    async def _segment(self, request: Request) -> Response:
        options = parse_options(request.query_params.multi_items())
        kind = choose_kind(request.headers.get("Accept"), [PNG] if options.overlay else [JSON, PNG])
        image = await read_image(request, self._limit)
        async with abandoned_on_disconnect(request) as run:
            if options.overlay:
                content = await run(self._overlay(image, options))
            else:
                content = await run(self._infer(image, options, OUTPUT[kind]))
        return Response(content, media_type=kind)

    async def _overlay(self, image: bytes, options: Options) -> bytes:
        with self._overlays.place():
            began = time.monotonic()
            detections = await self._infer(image, options, OUTPUT[JSON])
            left_s = (options.timeout_s or LONGEST_S) - (time.monotonic() - began)
            return await self._overlays.draw(image, detections, max(0.0, left_s))

    async def _infer(self, image: bytes, options: Options, output: str) -> bytes:
        message = _message(image, options.threshold, output)
        try:
            answer = await self._front.infer(message, None, options.timeout_s)
        except Refusal as refusal:
            # Of no meaning to whoever knows no ensemble.
            refusal.sentence = refusal.sentence.removeprefix(f"in ensemble '{ENSEMBLE}', ")
            raise
        # One BYTES element after its length of 4 bytes.
        return bytes(ModelInferResponse.FromString(answer).raw_output_contents[0][4:])


def parse_options(items: Sequence[tuple[str, str]]) -> Options:
    """The options in a URL's query. Raises Refusal for what is not one, or comes twice."""
    query: dict[str, str] = {}
    for name, value in items:
        if name not in PARAMETERS:
            raise bad_request(
                f"the parameter '{name[:100]}' is not known; there are {', '.join(PARAMETERS)}"
            )
        if name in query:
            raise bad_request(f"the parameter '{name}' came twice; give it once")
        query[name] = value
    return Options(
        threshold=_number(query, "threshold", 1.0),
        overlay=_flag(query, "overlay"),
        timeout_s=_seconds(query),
    )


def choose_kind(accept: str | None, offered: Sequence[str]) -> str:
    """The offered type that Accept likes best, the first of equals. Raises Refusal for none."""
    liking = {kind: _quality(accept, kind) for kind in offered}
    best = max(offered, key=lambda kind: liking[kind])
    if not liking[best]:
        raise NotAcceptable(
            StatusCode.INVALID_ARGUMENT,
            "bad_request",
            f"Accept must allow {' or '.join(offered)}, got {(accept or '')[:100]}",
        )
    return best


def _quality(accept: str | None, kind: str) -> float:
    """How much Accept likes a type, 0 to 1: the most specific range that holds it counts."""
    if not accept or not accept.strip():
        return 1.0
    qualities: dict[str, float] = {}
    for entry in accept.split(",")[:100]:
        name, _, parameters = entry.partition(";")
        found = re.search(r"(?:^|;)\s*q\s*=\s*([0-9.]{1,5})", parameters.lower())
        try:
            qualities[name.strip().lower()] = float(found[1]) if found else 1.0
        except ValueError:
            qualities[name.strip().lower()] = 0.0
    for accepted in (kind, kind.partition("/")[0] + "/*", "*/*"):
        if accepted in qualities:
            return qualities[accepted]
    return 0.0


def _number(query: Mapping[str, str], name: str, most: float) -> float | None:
    text = query.get(name)
    if text is None:
        return None
    if not NUMBER.fullmatch(text) or not float(text) <= most:
        raise bad_request(
            f"{name} must be a number from 0 to {most:g}, got '{text[:40]}'; leave it out for the "
            "server's own"
        )
    return float(text)


def _seconds(query: Mapping[str, str]) -> float | None:
    seconds = _number(query, "timeout", PATIENCE_S)
    if seconds == 0:
        raise bad_request("timeout must be a number of seconds above 0, got '0'; leave it out")
    return seconds


def _flag(query: Mapping[str, str], name: str) -> bool:
    text = query.get(name, "false")
    if text not in ("true", "false"):
        raise bad_request(f"{name} must be true or false, got '{text[:40]}'")
    return text == "true"


def _message(image: bytes, threshold: float | None, output: str) -> ModelInferRequest:
    message = ModelInferRequest(model_name=ENSEMBLE)
    message.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    message.raw_input_contents.append(struct.pack("<I", len(image)) + image)
    if threshold is not None:
        message.inputs.add(name="threshold", datatype="FP32", shape=[1, 1])
        message.raw_input_contents.append(struct.pack("<f", threshold))
    message.outputs.add(name=output)
    return message


def _classes(labels: Sequence[str]) -> list[dict[str, object]]:
    return [
        {"id": index, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*class_colour(index))}
        for index, name in enumerate(labels)
    ]
