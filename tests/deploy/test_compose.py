"""docker-compose.yml: parsed by the real compose, checked by our own rules, and run by hand."""

import contextlib
import hashlib
import json
import re
import shutil
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from polling import poll

from pem_fleet.rehearsal.programs import running
from pem_server.ports import free_ports

from .conftest import COMMANDS, DEPLOY, ROOT, SERVICES, STAGES, get

Service = dict[str, Any]
PROFILES = {
    "t4": "engine server haproxy prometheus grafana",
    "cpu": "server-cpu haproxy-cpu prometheus grafana",
    "loadtest": "locust",
}


def mounted(service: Service) -> list[str]:
    """The volumes that lie in the checkout."""
    return [volume for volume in service.get("volumes", []) if volume.startswith("./")]


def compose() -> list[str]:
    """The command of Docker Compose, version 2."""
    for command in (["docker-compose"], ["docker", "compose"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version"], capture_output=True, text=True)
            if done.returncode == 0 and re.search(r"v?2\.\d+", done.stdout):
                return command
    pytest.skip("Docker Compose 2 is not installed here (the package docker-compose of Debian 13)")


@pytest.mark.parametrize("profile", PROFILES)
def test_compose_accepts_the_file(profile: str) -> None:
    command = [*compose(), "--profile", profile, "config", "--format=json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["services"].keys() == set(PROFILES[profile].split())


def weaknesses(name: str, service: Service) -> list[str]:
    """What a service lacks of what every service must have."""
    ports = service.get("ports", [])
    lacks = {
        "writes to its image": not service.get("read_only"),
        "keeps capabilities": service.get("cap_drop") != ["ALL"],
        "may gain privileges": "no-new-privileges:true" not in service.get("security_opt", []),
        "runs as root": not re.fullmatch(r"[1-9]\d*:[1-9]\d*", service.get("user", "")),
        "is not pinned": not re.match(r"v?\d+\.\d+", service["image"].rpartition(":")[2]),
        "has no limit of memory": "memory" not in service["deploy"]["resources"].get("limits", {}),
        "is open to the network": not all(port.startswith("127.0.0.1:") for port in ports),
        "may change the checkout": not all(volume.endswith(":ro") for volume in mounted(service)),
        "has no health check": not name.startswith(("engine", "locust", "server"))
        and not service.get("healthcheck"),
    }
    return [lack for lack, is_true in lacks.items() if is_true]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_locked_down(name: str) -> None:
    assert weaknesses(name, SERVICES[name]) == []


PLANTED: dict[str, Service] = {
    "writes to its image": {"read_only": False},
    "keeps capabilities": {"cap_drop": ["NET_RAW"]},
    "may gain privileges": {"security_opt": []},
    "runs as root": {"user": "0:0"},
    "is not pinned": {"image": "haproxy:latest"},
    "has no limit of memory": {"deploy": {"resources": {}}},
    "is open to the network": {"ports": ["8000:8000"]},
    "may change the checkout": {"volumes": ["./deploy:/etc/pem"]},
    "has no health check": {"healthcheck": None},
}


@pytest.mark.parametrize("found", PLANTED)
def test_a_planted_weakness_is_found(found: str) -> None:
    assert weaknesses("haproxy", {**SERVICES["haproxy"], **PLANTED[found]}) == [found]


@pytest.mark.parametrize("name", ["server", "server-cpu"])
def test_servers_have_shared_memory_and_the_probe_that_infers(name: str) -> None:
    service = SERVICES[name]
    limit = int(service["deploy"]["resources"]["limits"]["memory"].removesuffix("g")) * 1024
    assert int(service["shm_size"].removesuffix("m")) <= limit / 2
    check = service["healthcheck"]
    assert "/opt/pem/hooks/alive.py" in check["test"]
    assert float(check["timeout"].removesuffix("s")) > 10  # the hook's own deadline


def test_services_start_in_order_and_only_two_need_a_gpu() -> None:
    after = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    assert after["server"]["engine"]["condition"] == "service_completed_successfully"
    assert after["haproxy"]["server"]["condition"] == "service_healthy"
    assert after["haproxy-cpu"]["server-cpu"]["condition"] == "service_healthy"
    with_gpu = {name for name, each in SERVICES.items() if "devices" in str(each["deploy"])}
    assert with_gpu == {"engine", "server"}


def test_what_services_build_and_mount_exists() -> None:
    for service in (each for each in SERVICES.values() if "build" in each):
        assert service["build"]["target"] in STAGES
        assert service["image"].startswith(f"pem/{service['build']['target']}:")
    paths = [volume.split(":")[0] for each in SERVICES.values() for volume in mounted(each)]
    assert len(set(paths)) >= 4
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    ("manifest", "fits", "is_built"),
    [
        (None, True, True),
        ("of another graph", True, True),
        (hashlib.sha256(b"a graph").hexdigest(), False, True),  # another GPU, another TensorRT
        (hashlib.sha256(b"a graph").hexdigest(), True, False),
    ],
)
def test_the_engine_is_built_when_there_is_none_that_fits(
    manifest: str | None, fits: bool, is_built: bool, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "pem.onnx").write_bytes(b"a graph")
    if manifest:
        (tmp_path / "model.plan.json").write_text(manifest)
    python = tmp_path / "python3"
    python.write_text(f"#!/bin/sh\necho $*\ncase $* in *preflight*) exit {int(not fits)};; esac\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    *shell, script = SERVICES["engine"]["command"]
    for file in ("/opt/pem/pem.onnx", "/models/pem_network/1/model.plan.json"):
        script = script.replace(file, str(tmp_path / Path(file).name))
    command = [*shell, script.replace("$$", "$")]  # as compose hands it over
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ("build_engine.py" in done.stdout) is is_built


def test_the_cpu_services_run_by_hand_in_their_order(tmp_path: Path, monkeypatch) -> None:
    """Each with the command of its image or of compose; only paths, ports and addresses differ."""
    if not (shutil.which("haproxy") and shutil.which("prometheus")):
        pytest.skip("haproxy and prometheus are not installed here")
    pytest.importorskip("pem_loadtest")
    here = "127.0.45.1"  # what is the network namespace of server-cpu in compose
    *ports, prometheus_port = map(str, free_ports(4))
    own = dict(zip(("18000", "18001", "18002"), ports, strict=True))

    def moved(words: list[str], *changes: tuple[str, str]) -> list[str]:
        for old, new in (*own.items(), *changes):
            words = [word.replace(old, new) for word in words]
        return words

    with contextlib.ExitStack() as stack:

        def start(name: str, *command: str) -> None:
            stack.enter_context(running(command, tmp_path / f"{name}.log"))

        # Of this machine's shared memory, other servers may hold a part.
        folders = ("/models", str(ROOT / "model_repository")), ("/dev/shm", str(tmp_path))
        scripts = ("/opt/pem/hooks", str(DEPLOY / "hooks")), ("python3", sys.executable)
        assert "/dev/shm" in " ".join(COMMANDS["cpu"])
        start("server", *moved(COMMANDS["cpu"], *scripts, *folders), "--stub-network=5:0")
        check = moved(SERVICES["server-cpu"]["healthcheck"]["test"][1:], *scripts)
        assert poll(lambda: subprocess.run(check, capture_output=True).returncode == 0)

        haproxy = SERVICES["haproxy-cpu"]
        monkeypatch.setenv("PEM_BIND", f"{here}:")
        for name, value in haproxy["environment"].items():
            monkeypatch.setenv(name, own.get(value, value))
        start("haproxy", *moved(haproxy["command"], ("/etc/pem", str(DEPLOY / "haproxy"))))
        health = haproxy["healthcheck"]["test"][-1].replace("127.0.0.1", here)
        assert poll(lambda: get(health)[0] == 200)
        assert poll(lambda: get(f"http://{here}:8000/v2/health/ready") == (200, ""))
        assert "nv_inference_count" in get(f"http://{here}:8002/metrics")[1]
        assert get(f"http://{here}:8002/v2/models/fai-pem-m-ade/ready")[0] == 404  # metrics only

        shutil.copytree(DEPLOY / "monitoring", tmp_path / "monitoring")
        targets = tmp_path / "monitoring" / "targets" / "pem.yml"
        targets.write_text(targets.read_text().replace("server:", f"{here}:"))
        folders = ("/etc/pem", str(tmp_path / "monitoring")), ("=/prometheus", f"={tmp_path}/data")
        options = moved(SERVICES["prometheus"]["command"], *folders)
        address = f"127.0.0.1:{prometheus_port}"
        start("prometheus", "prometheus", *options, f"--web.listen-address={address}")

        locust = [("python", sys.executable), ("haproxy:8001", f"{here}:8001")]
        locust += [("server:8002", f"{here}:8002"), ("/opt/pem/artifacts", str(tmp_path))]
        command = moved(SERVICES["locust"]["entrypoint"], *locust)
        # A busy machine may be late itself: the sums decide here, not the run's verdict.
        command += ["--rate=4", "--seconds=10", "--warm-up=1", "--users=8", "--broken=0"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode in (0, 1, 3), done.stderr
        assert any((tmp_path / "loadtest").glob("*.json"))
        query = urllib.parse.urlencode({"query": "pem:demand_rps > 0"})
        url = f"http://{address}/api/v1/query?{query}"
        assert poll(lambda: '"metric"' in get(url)[1])
