"""Strangers at a real gateway: keys, limits and TLS, on both wires."""

import argparse
import asyncio
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import tritonclient.grpc
import tritonclient.http
from gateway_process import running_gateway
from polling import poll
from tritonclient.grpc.service_pb2 import ModelInferRequest

from pem_client import AccessDenied, AsyncClient, Client, Overloaded
from pem_client.cli import main
from pem_gateway.client_limits import NO_LIMITS, Limits
from pem_gateway.guard_settings import add_guard_options, guard_from_options, is_loopback
from pem_gateway.page_files import FILES
from pem_server.stub_network import Cost

KEY, NEW_KEY = "k" * 32, "n" * 32
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"anna:{KEY}\n")
    return path


@pytest.fixture(scope="module")
def keyed(keys: Path) -> Iterator[Any]:
    with running_gateway("--api-keys", str(keys), cost=Cost(1, 1)) as gateway:
        yield gateway


@pytest.fixture
def street(root: Path) -> Path:
    return root / "docs" / "street.jpg"


def test_the_client_sends_its_key_on_both_wires(keyed: Any, street: Path) -> None:
    for url in (f"grpc://{keyed.grpc}", keyed.http_url):
        with Client(url, api_key=KEY) as client:
            assert client.infer(street).detections
            assert client.get_remote_model("pem_network")
        for wrong in (None, "x" * 32):
            with Client(url, api_key=wrong) as client, pytest.raises(AccessDenied, match="api_key"):
                client.infer(street)

    async def asked() -> int:
        async with AsyncClient(f"grpc://{keyed.grpc}", api_key=KEY) as client:
            return len((await client.infer(street)).detections)

    assert asyncio.run(asked())


def test_the_command_line_takes_its_key_from_an_option_or_the_environment(
    keyed: Any, street: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["segment", str(street), "--url", keyed.http_url]
    assert main(command) == 1
    assert "PEM_API_KEY" in capsys.readouterr().err
    assert main([*command, "--api-key", KEY]) == 0
    monkeypatch.setenv("PEM_API_KEY", KEY)
    assert main(command) == 0
    assert main([*command, "--api-key", "no key"]) == 1
    assert "no key" not in capsys.readouterr().err


@pytest.mark.parametrize("header", ["Authorization", "api-key"])
def test_clients_of_triton_send_it_as_a_header(keyed: Any, header: str) -> None:
    headers = {header: f"Bearer {KEY}" if header == "Authorization" else KEY}
    http = tritonclient.http.InferenceServerClient(keyed.http)
    assert http.get_server_metadata(headers=headers)["name"] == "triton"
    with pytest.raises(tritonclient.http.InferenceServerException, match="API key"):
        http.get_server_metadata()
    http.close()
    rpc = tritonclient.grpc.InferenceServerClient(keyed.grpc)
    lower = {name.lower(): value for name, value in headers.items()}
    assert rpc.get_server_metadata(headers=lower).name == "triton"
    with pytest.raises(tritonclient.grpc.InferenceServerException, match="API key") as caught:
        rpc.get_server_metadata()
    assert "UNAUTHENTICATED" in caught.value.status()
    rpc.close()


def test_health_and_the_page_are_open_and_nothing_else_is(keyed: Any) -> None:
    open_paths = ["/live", "/ready", "/v2/health/live", "/v2/health/ready", "/openapi.json"]
    for path in [*open_paths, *FILES]:
        assert httpx.get(keyed.http_url + path).status_code == 200
    for path in ("/v1/classes", "/v2", "/v2/models/fai-pem-m-ade", "/nothing", "/page", "//"):
        assert httpx.get(keyed.http_url + path).status_code == 401
    answer = httpx.post(f"{keyed.http_url}/v1/segment", content=b"x")
    assert (answer.status_code, "Bearer" in answer.json()["error"]) == (401, True)
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    rpc = tritonclient.grpc.InferenceServerClient(keyed.grpc)
    assert rpc.is_server_live()
    assert rpc.is_server_ready()
    rpc.close()


def test_a_strangers_message_is_not_read(keyed: Any) -> None:
    """The refusal comes while the client is still sending."""

    def endless() -> Iterator[bytes]:
        yield b"x"
        threading.Event().wait(30)

    with grpc.insecure_channel(keyed.grpc) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_unary(INFER)(endless(), timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        live = INFER.replace("ModelInfer", "ServerLive")
        assert channel.stream_unary(live)(endless(), timeout=20) == b"\x08\x01"


def test_a_new_key_is_taken_without_a_restart(keyed: Any, keys: Path) -> None:
    keys.write_text(f"anna:{KEY}\nbert:{NEW_KEY}\n")
    ask = {"Authorization": f"Bearer {NEW_KEY}"}
    assert poll(lambda: httpx.get(f"{keyed.http_url}/v2", headers=ask).status_code == 200)


def test_a_client_beyond_its_limits_is_told_when_to_come_back(street: Path) -> None:
    with running_gateway("--client-rate", "0.5", "--client-requests", "2") as gateway:
        assert httpx.get(f"{gateway.http_url}/v2").status_code == 200
        assert httpx.get(f"{gateway.http_url}/v2").status_code == 200
        refused = httpx.get(f"{gateway.http_url}/v2")
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "2")
        assert httpx.get(f"{gateway.http_url}/ready").status_code == 200
        with Client(f"grpc://{gateway.grpc}") as client, pytest.raises(Overloaded):
            client.infer(street)


def test_a_client_has_so_many_requests_at_a_time_on_both_wires(street: Path) -> None:
    limits = ("--client-requests", "2", "--client-connections", "50", "--stub-network", "300:1")
    with running_gateway(*limits) as gateway, ThreadPoolExecutor(8) as pool:
        image = street.read_bytes()
        url = f"{gateway.http_url}/v1/segment"
        answers = pool.map(lambda _: httpx.post(url, content=image, timeout=30), range(8))
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 429}
        message = ModelInferRequest(model_name="fai-pem-m-ade")
        message.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
        message.raw_input_contents.append(len(image).to_bytes(4, "little") + image)
        with grpc.insecure_channel(gateway.grpc) as channel:
            ask = channel.unary_unary(INFER)
            calls = [ask.future(message.SerializeToString()) for _ in range(8)]
            codes = {call.code() for call in calls}
        assert codes == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}


def test_both_wires_speak_tls(tmp_path: Path, street: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    _make_certificate(certificate, key)
    with running_gateway("--tls-cert", str(certificate), "--tls-key", str(key)) as gateway:
        url = f"https://{gateway.http}/v2/models/fai-pem-m-ade"
        verify = ssl.create_default_context(cafile=str(certificate))
        assert httpx.get(url, verify=verify).json()["name"] == "fai-pem-m-ade"
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://{gateway.http}/v2")
        with socket.create_connection(gateway.http.split(":"), timeout=60) as silent:
            assert silent.recv(1) == b"", "a handshake has its time, too"
        rpc = tritonclient.grpc.InferenceServerClient(
            gateway.grpc, ssl=True, root_certificates=str(certificate)
        )
        assert rpc.get_server_metadata().name == "triton"
        rpc.close()


def _make_certificate(certificate: Path, key: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *name, *files], check=True, capture_output=True)


def settings(*options: str) -> Any:
    parser = argparse.ArgumentParser()
    add_guard_options(parser)
    return guard_from_options(parser, parser.parse_args(options))


def test_limits_are_off_on_loopback_and_on_beyond_it() -> None:
    assert settings().limits == NO_LIMITS
    assert settings("--bind", "0.0.0.0", "--allow-open").limits == Limits()
    assert settings("--bind", "::", "--api-keys", "keys").limits == Limits()
    chosen = settings("--bind", "::1", "--client-rate", "2.5", "--client-requests", "7")
    assert chosen.limits == Limits(2.5, 7, 0)
    assert settings("--body-budget", "100").body_bytes == 100_000_000


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--bind", "0.0.0.0"], "--allow-open"),
        (["--bind", "::"], "--allow-open"),
        (["--bind", "host.example"], "--allow-open"),
        (["--tls-cert", "c"], "--tls-key"),
        (["--tls-key", "k"], "--tls-cert"),
        (["--client-rate", "-1"], "--client-rate"),
        (["--client-rate", "nan"], "--client-rate"),
        (["--body-budget", "0"], "--body-budget"),
    ],
)
def test_options_that_cannot_be_meant_end_with_2(
    options: list[str], names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        settings(*options)
    assert caught.value.code == 2
    assert names in capsys.readouterr().err


def test_loopback_is_every_address_of_this_machine_alone() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "192.0.2.1", "", "example.com"]))
