"""KServe's HTTP protocol, as tritonserver speaks it, on Starlette.

What is asked about models and metrics is fetched from tritonserver's own HTTP port as it is.
"""

import asyncio
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from grpc import StatusCode
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from tritonclient.grpc.service_pb2 import ModelInferResponse

from .front import Front
from .kserve_http import compress, decompress, format_response, parse_request
from .refusal import Refusal, bad_request, not_found

HEADER_LENGTH = "Inference-Header-Content-Length"
LARGEST_BODY_SPARE = 1 << 20  # of JSON and small tensors beside the images
MODEL = "/v2/models/{model}"
VERSION = MODEL + "/versions/{version}"
VERSION_SERVED = "1"
# tritonserver is on this machine, whatever proxy the environment names.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
FETCH_TIMEOUT_S = 5.0
CLIENT_LEFT = 499  # as nginx calls it; nobody reads it
HELD = "pem_gateway.held"  # in a scope: the bytes that its request holds of the budget
PACKED_IN_THREAD = 32 << 10  # a longer body is unpacked beside the others, a longer answer packed

Handler = Callable[[Request], Awaitable[Response]]


class HttpProtocol:
    """The routes of one gateway."""

    def __init__(self, front: Front) -> None:
        self._front = front
        contract = front.contract
        batch = max(model.max_batch for model in contract.models.values())
        self.largest_body = batch * contract.max_image_bytes + LARGEST_BODY_SPARE

    def app(self, more_routes: Sequence[BaseRoute] = ()) -> Starlette:
        """The application of the client's port, with the routes of others beside KServe's."""
        routes = [
            route("/v2/health/live", self._live),
            route("/live", self._live),
            route("/v2/health/ready", self._ready),
            route("/ready", self._ready),
            route("/v2", self._about),
            route("/v2/models/stats", self._about),  # of every model
        ]
        for path in (MODEL, VERSION):
            routes += [
                route(path + "/infer", self._infer, "POST"),
                route(path + "/ready", self._model_ready),
                route(path + "/config", self._about),
                route(path + "/stats", self._about),
                route(path, self._about),
            ]
        app = Starlette(
            routes=[*routes, *more_routes],
            exception_handlers={404: _not_served, 405: _wrong_method, 500: _failed},
        )
        app.router.redirect_slashes = False
        return app

    def metrics_app(self) -> Starlette:
        """The application of the metrics' port."""
        return Starlette(routes=[route("/metrics", self._metrics)])

    async def _live(self, _: Request) -> Response:
        return Response(status_code=200)

    async def _ready(self, _: Request) -> Response:
        return Response(status_code=200 if self._front.is_ready else 503)

    async def _model_ready(self, request: Request) -> Response:
        known = request.path_params["model"] in self._front.contract.models
        is_version = request.path_params.get("version", VERSION_SERVED) == VERSION_SERVED
        ready = known and is_version and self._front.is_ready
        if not ready:
            raise bad_request("Model version not ready")
        return Response()

    async def _about(self, request: Request) -> Response:
        model = request.path_params.get("model")
        if model is not None and model not in self._front.contract.models:
            if request.url.path.endswith("/stats"):
                raise bad_request(f"requested model '{model[:100]}' is not available")
            raise not_found(f"Request for unknown model: '{model[:100]}' is not found")
        version = request.path_params.get("version", VERSION_SERVED)
        if version != VERSION_SERVED:
            raise not_found(
                f"Request for unknown model: '{model}' version {version[:20]} is not found; leave "
                "the version out"
            )
        status, kind, body = await self._ask_server(request.url.path)
        return Response(body, status, media_type=kind)

    async def _ask_server(self, path: str) -> tuple[int, str, bytes]:
        """What tritonserver's own HTTP port answers. `path` has only names that were checked."""
        server = self._front.backend.server
        try:
            if server is None:
                raise OSError
            return await asyncio.to_thread(_fetch, f"http://{server.http_url}{path}")
        except OSError:
            raise Refusal(
                StatusCode.UNAVAILABLE,
                "restarting",
                "the server is being restarted; ask again in a few seconds",
                retry_after_s=self._front.backend.start_took_s,
            ) from None

    async def _metrics(self, request: Request) -> Response:
        page = self._front.metrics.page()
        server = self._front.backend.server
        if server is not None and self._front.backend.ready.is_set():
            with contextlib.suppress(OSError):
                _, _, triton = await asyncio.to_thread(_fetch, server.metrics_url)
                page += triton
        return Response(page, media_type="text/plain; version=0.0.4")

    async def _infer(self, request: Request) -> Response:
        model, version = request.path_params["model"], request.path_params.get("version", "")
        if version and not version.isdecimal():
            raise not_found(f"version '{version[:20]}' of a model is not found; leave it out")
        body = await read_body(request, self.largest_body)
        asked = parse_request(
            model,
            version,
            body,
            request.headers.get(HEADER_LENGTH),
        )
        async with abandoned_on_disconnect(request) as run:
            answer = await run(self._front.infer(asked.message, None, None))
        content, header_length = format_response(ModelInferResponse.FromString(answer), asked)
        headers, kind = {}, "application/json"
        if header_length is not None:
            headers, kind = {HEADER_LENGTH: str(header_length)}, "application/octet-stream"
        if accepted := request.headers.get("Accept-Encoding"):
            content, encoding = await _compressed(content, accepted)
            headers |= {"Content-Encoding": encoding} if encoding else {}
        return Response(content, media_type=kind, headers=headers)


async def _compressed(content: bytes, accepted: str) -> tuple[bytes, str | None]:
    if len(content) < PACKED_IN_THREAD:
        return compress(content, accepted)
    return await asyncio.to_thread(compress, content, accepted)


async def read_body(request: Request, limit: int) -> bytes:
    """The body, unpacked, of at most `limit` bytes. Raises Refusal beyond that."""
    announced = request.headers.get("Content-Length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise too_large(limit)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise too_large(limit)
        parts.append(part)
    body = b"".join(parts)
    encoding = request.headers.get("Content-Encoding")
    if not encoding or encoding.strip().lower() == "identity":
        return body
    if size < PACKED_IN_THREAD:
        body = decompress(body, encoding, limit)
    else:
        body = await asyncio.to_thread(decompress, body, encoding, limit)
    if held := request.scope.get(HELD):
        held.grow(max(0, len(body) - size))
    return body


def too_large(limit: int) -> Refusal:
    """The answer to a body over the limit."""
    return Refusal(
        StatusCode.OUT_OF_RANGE, "too_large", f"a body must have at most {limit:,} bytes; send less"
    )


@contextlib.asynccontextmanager
async def abandoned_on_disconnect(
    request: Request,
) -> AsyncIterator[Callable[[Awaitable[bytes]], Awaitable[bytes]]]:
    """Run something for a client; it is cancelled when the client leaves (ClientDisconnect)."""
    gone = asyncio.ensure_future(_disconnected(request))

    async def run(answer: Awaitable[bytes]) -> bytes:
        work = asyncio.ensure_future(answer)
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
            raise ClientDisconnect
        return await work

    try:
        yield run
    finally:
        gone.cancel()


async def _disconnected(request: Request) -> bytes:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return b""


def route(path: str, handler: Handler, method: str = "GET") -> Route:
    """A route whose handler may raise Refusal."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Refusal as refusal:
            return refused(refusal)
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)

    return Route(path, answer, methods=[method])


def refused(refusal: Refusal) -> Response:
    """The answer to a refused request, in the protocol's shape."""
    headers = {}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(refusal.retry_after_s)))
    if refusal.code is StatusCode.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": refusal.sentence}, refusal.http_status, headers=headers)


async def _wrong_method(request: Request, error: Exception) -> Response:
    headers = dict(getattr(error, "headers", None) or {})
    told = f"{request.url.path[:100]} takes {headers.get('Allow', 'another method')}"
    sentence = f"{told}, got {request.method[:20]}; see /docs"
    return JSONResponse({"error": sentence}, 405, headers=headers)


async def _failed(request: Request, _: Exception) -> Response:
    return JSONResponse({"error": "the gateway failed; the reason is in its log"}, 500)


async def _not_served(request: Request, _: Exception) -> Response:
    return JSONResponse(
        {"error": f"{request.method} {request.url.path[:100]} is not served here; see /docs"}, 404
    )


def _fetch(url: str) -> tuple[int, str, bytes]:
    try:
        with DIRECT.open(url, timeout=FETCH_TIMEOUT_S) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, "application/json", error.read() or json.dumps({}).encode()
