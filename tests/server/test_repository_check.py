"""What is checked before the server starts: each problem is one sentence with its remedy."""

import socket
from pathlib import Path

import pytest

from pem_server import python_check, repository_check
from pem_server.ports import free_ports, is_taken

PROBLEMS = [
    # (problem, a part of its sentence: what was found or the remedy; None where nothing is wrong)
    (python_check.system_problem("Linux", "x86_64"), None),
    (python_check.system_problem("Darwin", "arm64"), "Darwin on arm64"),
    (python_check.glibc_problem("2.35"), None),
    (python_check.glibc_problem("2.100"), None),
    (python_check.glibc_problem("2.34"), "glibc 2.34"),
    (python_check.glibc_problem(None), "Debian 12"),
    (python_check.python_problem((3, 11)), None),
    (python_check.python_problem((3, 12)), None),
    (python_check.python_problem((3, 13)), "3.13"),
    (python_check.python_problem((3, 9)), "PYTHON="),
    (python_check.libpython_problem(Path("/usr/lib"), (3, 12)), None),
    (python_check.libpython_problem(None, (3, 12)), "apt install libpython3.12"),
    (repository_check.package_problem("numpy", "1.26.4"), None),
    (repository_check.package_problem("numpy", "2.0.0"), 'pip install "numpy<2"'),
    (repository_check.package_problem("numpy", None), "./run"),
    (repository_check.package_problem("nvidia-pytriton", "0.7.0"), None),
    (repository_check.package_problem("nvidia-pytriton", None), "nvidia-pytriton"),
    (repository_check.same_port_problem(1, 2, 3), None),
    (repository_check.same_port_problem(8000, 8001, 8000), "8000, 8001, 8000"),
    (repository_check.shared_memory_problem(repository_check.SHARED_MEMORY_NEEDED), None),
    (repository_check.shared_memory_problem(2**20), "1 MiB"),
    (repository_check.shared_memory_problem(None), "--shm-size=1g"),
]


@pytest.mark.parametrize(("problem", "part"), PROBLEMS)
def test_a_problem_is_one_sentence_with_what_was_found(problem, part):
    if part is None:
        assert problem is None
    else:
        assert part in problem
        assert "\n" not in problem


def test_this_machine_can_run_the_server():
    assert repository_check.machine_problems(*free_ports(3)) == []


@pytest.mark.parametrize("address", ["127.0.0.1", ""])  # "" is every address
def test_a_port_is_taken_exactly_while_something_listens_on_it(address):
    with socket.create_server((address, 0)) as listener:
        port = listener.getsockname()[1]
        problem = repository_check.port_problem("--grpc-port", port)
        assert str(port) in problem
        assert "--grpc-port" in problem
    assert repository_check.port_problem("--grpc-port", port) is None


def test_connections_in_time_wait_do_not_take_the_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            served, _ = listener.accept()
            served.close()  # who closes first keeps the port in TIME_WAIT
            client.recv(1)
    assert not is_taken(port)


def test_free_ports_are_different_and_free():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert not any(map(is_taken, ports))


def test_a_complete_repository_has_no_problem(tmp_path):
    assert repository_check.repository_problems(make_repository(tmp_path), None) == []
    assert repository_check.repository_problems(make_repository(tmp_path), "small") == []


def test_a_folder_without_the_network_step_is_no_repository(tmp_path):
    (problem,) = repository_check.repository_problems(tmp_path / "absent")
    assert str(tmp_path / "absent") in problem
    assert "--repository" in problem


def test_a_missing_graph_is_named_with_the_command_that_makes_it(tmp_path):
    graph = make_repository(tmp_path) / "pem_network" / "1" / "model.onnx"
    graph.unlink()
    (problem,) = repository_check.repository_problems(tmp_path)
    assert str(graph) in problem
    assert "./run export" in problem


@pytest.mark.parametrize(
    ("config_name", "parts"), [("smal", ("smal,", "small, t4")), ("t4", ("tensorrt", "t4.pbtxt"))]
)
def test_a_configuration_that_is_absent_or_not_for_this_server_is_refused(
    tmp_path, config_name, parts
):
    (problem,) = repository_check.repository_problems(make_repository(tmp_path), config_name)
    assert all(part in problem for part in parts)


def test_a_broken_configuration_is_named(tmp_path):
    (make_repository(tmp_path) / "pem_network" / "config.pbtxt").write_text("backend: {")
    (problem,) = repository_check.repository_problems(tmp_path)
    assert "config.pbtxt" in problem


def make_repository(folder):
    """A repository complete for these checks, with the configurations small and t4."""
    model = folder / "pem_network"
    for part in ("1", "configs"):
        (model / part).mkdir(parents=True, exist_ok=True)
    (model / "1" / "model.onnx").write_bytes(b"graph")
    (model / "config.pbtxt").write_text('name: "pem_network"\nbackend: "python"\n')
    (model / "configs" / "small.pbtxt").write_text('# platform: "onnx"\nbackend: "python"\n')
    (model / "configs" / "t4.pbtxt").write_text('backend: "tensorrt"\n')
    return folder
