"""Real sockets against the bounded protocol, with bounds that are short for the test."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pem_gateway.bounded_protocol import Bounds, Connections

SHORT = Bounds(
    header_s=0.4, body_grace_s=0.4, body_s=3.0, write_s=0.4, idle_s=0.4, look_every_s=0.1
)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


async def echo(request: Request) -> Response:
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
    except ClientDisconnect:
        return Response()
    return Response(str(size))


@contextlib.asynccontextmanager
async def serving(connections: Connections, app: Any = None) -> AsyncIterator[int]:
    app = app or Starlette(routes=[Route("/", echo, methods=["GET", "POST"])])
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    options: dict[str, Any] = {"http": connections.protocol, "proxy_headers": False}
    server = uvicorn.Server(
        uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False, **options)
    )
    task = asyncio.create_task(server._serve([listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


async def exchange(port: int, *sent: bytes) -> tuple[int, bytes]:
    """Status and body of what comes back until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        with contextlib.suppress(ConnectionError):  # closed before it had read everything
            for part in sent:
                writer.write(part)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(65536):
                answer += part
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body


def sentence(answer: tuple[int, bytes], status: int) -> str:
    assert answer[0] == status
    return str(json.loads(answer[1])["error"])


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ([], 408),
        ([b"GET / HT"], 408),
        ([GET[:-2]], 408),
        ([POST, b"x"], 408),
        ([CHUNKED, b"1\r\nx\r\n"], 408),
        ([b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000], 431),
        ([b"GET /" + b"x" * 200_000], 431),
        ([b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n"], 431),
        ([b"\x16\x03\x01\0\xa5\x01" + bytes(160)], 400),
        ([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(40)], 400),
        ([bytes(100_000)], 400),
        ([CHUNKED, b"1\r\nx\r\n" * 5000], 400),
        ([CHUNKED, b"zz\r\n"], 400),
    ],
)
def test_a_client_that_takes_too_much_is_told_and_closed(sent: list[bytes], status: int) -> None:
    async def test() -> None:
        async with serving(Connections(bounds=SHORT)) as port:
            assert sentence(await exchange(port, *sent), status)
            assert (await exchange(port, GET.replace(b"1.1", b"1.0")))[0] == 200

    run(test)


def test_good_bodies_pass_however_they_are_cut() -> None:
    async def test() -> None:
        async with serving(Connections(bounds=SHORT)) as port:
            close = POST.replace(b"Host", b"Connection: close\r\nHost")
            assert await exchange(port, close, *[b"x" * 100] * 1000) == (200, b"100000")
            chunked = CHUNKED.replace(b"Host", b"Connection: close\r\nHost")
            few = [b"1\r\nx\r\n"] * 500
            assert await exchange(port, chunked, *few, b"0\r\n\r\n") == (200, b"500")

    run(test)


def test_an_idle_connection_is_closed_and_a_used_one_is_not() -> None:
    async def test() -> None:
        async with serving(Connections(bounds=SHORT)) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(4):
                writer.write(GET)
                assert b"200" in await reader.readuntil(b"\r\n0")  # the body is "0"
                await asyncio.sleep(0.2)
            assert await reader.read() == b""
            writer.close()

    run(test)


def test_a_client_that_does_not_read_its_answer_is_closed() -> None:
    async def large(request: Request) -> Response:
        return Response(bytes(50_000_000))

    connections = Connections(bounds=SHORT)

    async def test() -> None:
        async with serving(connections, Starlette(routes=[Route("/", large)])) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
            writer.write(GET)
            await until(lambda: len(connections._open) == 1)
            await until(lambda: not connections._open)
            writer.close()

    run(test)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_an_address_has_so_many_connections() -> None:
    connections = Connections(of_each=3)

    async def test() -> None:
        async with serving(connections) as port:
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            await until(lambda: len(connections._open) == 3)
            assert "3" in sentence(await exchange(port, GET), 429)
            held[0][1].close()
            await until(lambda: len(connections._open) == 2)
            assert (await exchange(port, GET.replace(b"1.1", b"1.0")))[0] == 200
            for _, writer in held:
                writer.close()

    run(test)
    assert not connections._open
    assert not connections._addresses


def test_slow_clients_keep_nobody_out() -> None:
    """300 clients send a byte now and then, where 100 connections are allowed."""
    connections = Connections(most=100)

    async def test() -> None:
        async with serving(connections) as port:
            writers = []
            for number in range(300):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(POST + b"x" if number % 2 else GET[:9])
                writers.append(writer)
                if number % 50 == 49:
                    answer = await exchange(port, GET.replace(b"1.1", b"1.0"))
                    assert answer == (200, b"0")
            assert len(connections._open) <= 100
            for writer in writers:
                writer.close()

    run(test)


def test_a_connection_that_waits_for_its_answer_is_not_closed_for_new_ones() -> None:
    connections, go = Connections(most=5), asyncio.Event()

    async def wait(request: Request) -> Response:
        await go.wait()
        return Response("answered")

    app = Starlette(routes=[Route("/wait", wait), Route("/", echo)])

    async def test() -> None:
        async with serving(connections, app) as port:
            ask = GET.replace(b"/ ", b"/wait ").replace(b"1.1", b"1.0")
            waiting = asyncio.create_task(exchange(port, ask))
            await until(lambda: len(connections._open) == 1)
            others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
            await until(lambda: len(connections._open) == 5)
            go.set()
            assert await waiting == (200, b"answered")
            for _, writer in others:
                writer.close()

    run(test)


def test_requests_sent_before_their_answers_are_bounded() -> None:
    async def test() -> None:
        async with serving(Connections()) as port:
            few = GET * 20 + GET.replace(b"Host", b"Connection: close\r\nHost")
            assert (await exchange(port, few))[0] == 200
            began = time.process_time()
            status, _ = await exchange(port, GET * 20_000)
            assert status in (0, 200, 400)
            assert time.process_time() - began < 5

    run(test)
