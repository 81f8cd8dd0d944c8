"""What is checked before the server starts: each problem is one sentence with its remedy."""

import socket
from pathlib import Path

import pytest

from pem_server import machine_check, python_check
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
    (machine_check.package_problem("numpy", "1.26.4"), None),
    (machine_check.package_problem("numpy", "2.0.0"), 'pip install "numpy<2"'),
    (machine_check.package_problem("numpy", None), "./run"),
    (machine_check.package_problem("nvidia-pytriton", "0.7.0"), None),
    (machine_check.package_problem("nvidia-pytriton", None), "nvidia-pytriton"),
    (machine_check.same_port_problem(1, 2, 3), None),
    (machine_check.same_port_problem(8000, 8001, 8000), "8000, 8001, 8000"),
    (machine_check.shared_memory_problem(machine_check.SHARED_MEMORY_NEEDED), None),
    (machine_check.shared_memory_problem(2**20), "1 MiB"),
    (machine_check.shared_memory_problem(None), "--shm-size=1g"),
]


@pytest.mark.parametrize(("problem", "part"), PROBLEMS)
def test_a_problem_is_one_sentence_with_what_was_found(problem, part):
    if part is None:
        assert problem is None
    else:
        assert part in problem
        assert "\n" not in problem


def test_this_machine_can_run_the_server():
    assert machine_check.machine_problems(*free_ports(3)) == []


@pytest.mark.parametrize("address", ["127.0.0.1", ""])  # "" is every address
def test_a_port_is_taken_exactly_while_something_listens_on_it(address):
    with socket.create_server((address, 0)) as listener:
        port = listener.getsockname()[1]
        problem = machine_check.port_problem("--grpc-port", port)
        assert str(port) in problem
        assert "--grpc-port" in problem
    assert machine_check.port_problem("--grpc-port", port) is None


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
