"""What the package shows, and what it must not bring along."""

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pem_client
from pem_client import cli, palette, table

NAMES = [
    "AsyncClient",
    "Client",
    "DeadlineExceeded",
    "Detection",
    "Detections",
    "ImageError",
    "InvalidRequest",
    "Overloaded",
    "PemError",
    "ServerError",
    "ServerUnavailable",
    "Transport",
    "UrlError",
    "class_colour",
    "format_table",
]


def test_the_public_names_are_these():
    assert sorted(pem_client.__all__) == NAMES
    assert all(inspect.getdoc(getattr(pem_client, name)) for name in NAMES)


def test_every_public_module_says_what_is_public():
    for module in (cli, palette, table):
        assert all(hasattr(module, name) for name in module.__all__)


def test_the_package_tells_type_checkers_that_it_is_typed():
    assert Path(pem_client.__file__).with_name("py.typed").is_file()


def test_importing_the_package_brings_no_torch_and_neither_wire():
    heavy = "{'torch', 'onnxruntime', 'grpc', 'gevent', 'aiohttp', 'pemseg', 'pem_server'}"
    program = f"import sys, pem_client, pem_client.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_project_asks_for_three_packages_only(root):
    project = tomllib.loads((root / "client/pyproject.toml").read_text())["project"]
    names = {re.match(r"[a-z]+", need)[0] for need in project["dependencies"]}
    assert names == {"numpy", "pillow", "tritonclient"}
    assert project["scripts"] == {"pem-client": "pem_client.cli:main"}
