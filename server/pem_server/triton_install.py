"""The tritonserver inside the installed package nvidia-pytriton, and what it needs around it."""

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from pem_server import python_check as interpreter


def triton_folder() -> Path:
    """Return the folder of the server inside nvidia-pytriton, without importing that package."""
    spec = importlib.util.find_spec("pytriton")
    if not spec or not spec.submodule_search_locations:
        raise ModuleNotFoundError("nvidia-pytriton carries the server and is not installed")
    return Path(spec.submodule_search_locations[0]) / "tritonserver"


def new_scratch() -> Path:
    """Make a private folder with the backends, and an empty one as the server's working folder.

    Triton looks for the Python backend and the stub of one Python version in one folder; the wheel
    keeps a stub for each. The working folder comes first in the module path of a Python step.
    """
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    triton = triton_folder()
    stub = triton / "python_backend_stubs" / python / "triton_python_backend_stub"
    scratch = Path(tempfile.mkdtemp(prefix="pem-server-"))
    (scratch / "empty").mkdir()
    backend = scratch / "backends" / "python"
    backend.mkdir(parents=True)
    for part in (stub, *(triton / "backends" / "python").iterdir()):
        (backend / part.name).symlink_to(part)
    return scratch


def environment() -> dict[str, str]:
    """Return the environment in which a stub finds this very Python and its packages."""
    libraries = [triton_folder().parents[1] / "nvidia_pytriton.libs"]
    if folder := interpreter.libpython_folder():
        libraries.insert(0, folder)  # before the system's libpython, which may be another build
    search = [*map(str, libraries), os.environ.get("LD_LIBRARY_PATH", "")]
    one_thread = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {
        **os.environ,
        # The stub takes its environment from the python3 that comes first.
        "PATH": os.pathsep.join([str(Path(sys.prefix, "bin")), os.environ.get("PATH", os.defpath)]),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, search)),
        # One thread a step: more steps scale, more threads in each fight for the cores. The
        # network step sets its own number explicitly.
        **dict.fromkeys(one_thread, "1"),
        # This server has no GPU backend; seen, a GPU would only cost it memory.
        "CUDA_VISIBLE_DEVICES": "",
    }
