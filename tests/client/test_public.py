"""What the package exports, and what it must not import."""

import inspect
import subprocess
import sys

import pem_client


def test_everything_public_is_exported_and_documented():
    names = {name for name, value in vars(pem_client).items() if not inspect.ismodule(value)}
    public = {name for name in names if not name.startswith("_")}
    assert set(pem_client.__all__) == public
    assert all(inspect.getdoc(getattr(pem_client, name)) for name in public)


def test_importing_the_package_brings_no_torch_and_neither_wire():
    heavy = "{'torch', 'onnxruntime', 'grpc', 'gevent', 'aiohttp', 'pemseg', 'pem_server'}"
    program = f"import sys, pem_client, pem_client.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
