"""docker-compose.yml: parsed by the real compose, checked by our own rules, and run by hand."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from polling import poll

from pem_server.ports import free_ports

Service = dict[str, Any]
Stages = dict[str, list[tuple[str, str]]]
PROFILES = {
    "t4": {"engine", "server", "haproxy", "prometheus", "grafana"},
    "cpu": {"server-cpu", "haproxy-cpu", "prometheus", "grafana"},
    "loadtest": {"locust"},
}


@pytest.fixture(scope="session")
def compose() -> list[str]:
    """The command of Docker Compose, version 2."""
    for command in (["docker-compose"], ["docker", "compose"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version"], capture_output=True, text=True)
            if done.returncode == 0 and re.search(r"v?2\.\d+", done.stdout):
                return command
    pytest.skip("Docker Compose 2 is not installed here (the package docker-compose of Debian 13)")


@pytest.fixture(scope="session")
def services(root: Path) -> dict[str, Service]:
    """The services as the file has them, its anchors merged."""
    return dict(yaml.safe_load((root / "docker-compose.yml").read_text())["services"])


@pytest.mark.parametrize("profile", PROFILES)
def test_compose_accepts_the_file(profile: str, compose: list[str], root: Path) -> None:
    command = [*compose, "--profile", profile, "config", "--format=json"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["services"].keys() == PROFILES[profile]


def weaknesses(name: str, service: Service) -> list[str]:
    """What a service lacks of what every service must have."""
    found = []
    if not service.get("read_only") or service.get("cap_drop") != ["ALL"]:
        found.append("writes to its image or keeps capabilities")
    if "no-new-privileges:true" not in service.get("security_opt", []):
        found.append("may gain privileges")
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", service.get("user", "")):
        found.append("runs as root")
    tag = service["image"].rpartition(":")[2]
    if not re.match(r"v?\d+\.\d+", tag):
        found.append("is not pinned")
    if "memory" not in service["deploy"]["resources"].get("limits", {}):
        found.append("has no limit of memory")
    if not all(port.startswith("127.0.0.1:") for port in service.get("ports", [])):
        found.append("is open to the network")
    for volume in service.get("volumes", []):
        if volume.startswith("./") and not volume.endswith(":ro"):
            found.append(f"may change {volume}")
    if not name.startswith(("engine", "locust", "server")) and "healthcheck" not in service:
        found.append("has no health check")
    return found


def test_every_service_is_locked_down(services: dict[str, Service]) -> None:
    assert {name: weaknesses(name, service) for name, service in services.items()} == {
        name: [] for name in services
    }


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"read_only": False}, "writes to its image or keeps capabilities"),
        ({"security_opt": []}, "may gain privileges"),
        ({"user": "0:0"}, "runs as root"),
        ({"image": "haproxy:latest"}, "is not pinned"),
        ({"deploy": {"resources": {}}}, "has no limit of memory"),
        ({"ports": ["8000:8000"]}, "is open to the network"),
        ({"volumes": ["./deploy:/etc/pem"]}, "may change ./deploy:/etc/pem"),
        ({"healthcheck": None}, "has no health check"),
    ],
)
def test_a_planted_weakness_is_found(
    change: Service, found: str, services: dict[str, Service]
) -> None:
    changed = {**services["haproxy"], **change}
    kept = {key: value for key, value in changed.items() if value is not None}
    assert found in weaknesses("haproxy", kept)


@pytest.mark.parametrize("name", ["server", "server-cpu"])
def test_servers_have_shared_memory_and_the_probe_that_infers(
    name: str, services: dict[str, Service]
) -> None:
    limit = int(services[name]["deploy"]["resources"]["limits"]["memory"].removesuffix("g")) * 1024
    assert int(services[name]["shm_size"].removesuffix("m")) <= limit / 2
    check = services[name]["healthcheck"]
    assert "/opt/pem/hooks/alive.py" in check["test"]
    assert float(check["timeout"].removesuffix("s")) > 10  # the hook's own deadline


def test_services_start_in_order_and_only_two_need_a_gpu(services: dict[str, Service]) -> None:
    after = {name: service.get("depends_on", {}) for name, service in services.items()}
    assert after["server"]["engine"]["condition"] == "service_completed_successfully"
    assert after["haproxy"]["server"]["condition"] == "service_healthy"
    assert after["haproxy-cpu"]["server-cpu"]["condition"] == "service_healthy"
    resources = {name: service["deploy"]["resources"] for name, service in services.items()}
    with_gpu = {name for name, each in resources.items() if "devices" in str(each)}
    assert with_gpu == {"engine", "server"}


def test_every_image_built_here_is_a_stage(
    services: dict[str, Service], dockerfile_stages: Stages
) -> None:
    for service in services.values():
        if "build" in service:
            assert service["build"]["target"] in dockerfile_stages
            assert service["image"].startswith(f"pem/{service['build']['target']}:")


def test_what_is_mounted_from_the_checkout_exists(services: dict[str, Service], root: Path) -> None:
    mounted = {
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    }
    assert len(mounted) >= 4
    assert [path for path in mounted if not (root / path).exists()] == []


@pytest.mark.parametrize(
    ("manifest", "fits", "is_built"),
    [
        (None, True, True),
        ("of another graph", True, True),
        ("the graph's checksum", False, True),  # another GPU, another TensorRT
        ("the graph's checksum", True, False),
    ],
)
def test_the_engine_is_built_when_there_is_none_that_fits(
    manifest: str | None, fits: bool, is_built: bool, services: dict[str, Service], tmp_path: Path
) -> None:
    (tmp_path / "pem.onnx").write_bytes(b"a graph")
    checksum = hashlib.sha256(b"a graph").hexdigest()
    if manifest:
        text = manifest.replace("the graph's checksum", checksum)
        (tmp_path / "model.plan.json").write_text(text)
    python = tmp_path / "python3"
    python.write_text(f"#!/bin/sh\necho $*\ncase $* in *preflight*) exit {int(not fits)};; esac\n")
    python.chmod(0o755)
    *shell, script = services["engine"]["command"]
    for folder in ("/opt/pem/pem.onnx", "/models/pem_network/1/model.plan.json"):
        script = script.replace(folder, str(tmp_path / Path(folder).name))
    done = subprocess.run(
        [*shell, script.replace("$$", "$")],  # as compose hands it over
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("build_engine.py" in done.stdout) is is_built


@contextlib.contextmanager
def running(command: list[str], **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process for as long as the block."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **settings)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def wait_until(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Return when `condition` holds, which it does not where it raises OSError."""

    def holds() -> bool:
        assert process.poll() is None, f"{process.args} ended"
        with contextlib.suppress(OSError, ValueError):
            return bool(condition())
        return False

    assert poll(holds, pause_s=0.2), f"{process.args} is not ready"


def fetch(url: str) -> str:
    """The body."""
    with urllib.request.urlopen(url, timeout=10) as response:
        return str(response.read().decode())


def test_the_cpu_services_run_by_hand_in_their_order(
    root: Path, tmp_path: Path, services: dict[str, Service], dockerfile_stages: Stages
) -> None:
    """Each with the command of its image or of compose; only paths, ports and addresses differ."""
    for program in ("haproxy", "prometheus"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed here")
    pytest.importorskip("pem_loadtest")
    here = "127.0.45.1"  # what is the network namespace of server-cpu in compose
    http_port, grpc_port, metrics_port, prometheus_port = free_ports(4)
    own = {"18000": str(http_port), "18001": str(grpc_port), "18002": str(metrics_port)}

    def moved(words: list[str], *changes: tuple[str, str]) -> list[str]:
        for old, new in (*own.items(), *changes):
            words = [word.replace(old, new) for word in words]
        return words

    with contextlib.ExitStack() as stack:
        image = next(json.loads(rest) for word, rest in dockerfile_stages["cpu"] if word == "CMD")
        models = str(root / "model_repository")
        scripts = ("/opt/pem/hooks", str(root / "deploy" / "hooks"))
        # Of this machine's shared memory, other servers may hold a part.
        memory = ("/dev/shm", str(tmp_path))
        command = moved(image, ("python3", sys.executable), ("/models", models), scripts, memory)
        assert str(tmp_path) in command
        server = stack.enter_context(
            running([*command, "--stub-network=5:0"], stdout=subprocess.DEVNULL)
        )
        check = services["server-cpu"]["healthcheck"]["test"][1:]
        check = moved(check, ("python3", sys.executable), scripts)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        wait_until(lambda: subprocess.run(check, **quiet).returncode == 0, server)

        haproxy = services["haproxy-cpu"]
        environment = {**os.environ, "PEM_BIND": f"{here}:"}
        for name, value in haproxy["environment"].items():
            environment[name] = own.get(value, value)
        command = moved(haproxy["command"], ("/etc/pem", str(root / "deploy/haproxy")))
        gate = stack.enter_context(running(command, env=environment))
        wait_until(
            lambda: fetch(haproxy["healthcheck"]["test"][-1].replace("127.0.0.1", here)), gate
        )
        wait_until(lambda: fetch(f"http://{here}:8000/v2/health/ready") == "", gate)
        assert "nv_inference_count" in fetch(f"http://{here}:8002/metrics")
        with pytest.raises(urllib.error.HTTPError, match="404"):  # metrics only
            fetch(f"http://{here}:8002/v2/models/fai-pem-m-ade/ready")

        monitoring = tmp_path / "monitoring"
        shutil.copytree(root / "deploy" / "monitoring", monitoring)
        targets = monitoring / "targets" / "pem.yml"
        targets.write_text(targets.read_text().replace("server:", f"{here}:"))
        words = [("/etc/pem", str(monitoring)), ("=/prometheus", f"={tmp_path / 'prometheus'}")]
        command = ["prometheus", *moved(services["prometheus"]["command"], *words)]
        command.append(f"--web.listen-address=127.0.0.1:{prometheus_port}")
        prometheus = stack.enter_context(running(command))
        address = f"http://127.0.0.1:{prometheus_port}"

        locust = [("python", sys.executable), ("haproxy:8001", f"{here}:8001")]
        locust += [("server:8002", f"{here}:8002"), ("/opt/pem/artifacts", str(tmp_path))]
        command = moved(services["locust"]["entrypoint"], *locust)
        # A busy machine may be late itself: the sums decide here, not the run's verdict.
        command += ["--rate=4", "--seconds=10", "--warm-up=1", "--users=8", "--broken=0"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode in (0, 1, 3), done.stderr
        assert any((tmp_path / "loadtest").glob("*.json"))
        query = urllib.parse.quote("pem:demand_rps > 0")
        wait_until(lambda: '"metric"' in fetch(f"{address}/api/v1/query?query={query}"), prometheus)
