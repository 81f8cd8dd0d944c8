"""The tritonserver inside the installed package nvidia-pytriton, and what it needs to run."""

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from pem_server.python_check import libpython_folder


def triton_folder() -> Path:
    """Return the folder of the server inside nvidia-pytriton, without importing that package."""
    spec = importlib.util.find_spec("pytriton")
    if not spec or not spec.submodule_search_locations:
        raise ModuleNotFoundError("nvidia-pytriton, which contains tritonserver, is not installed")
    return Path(spec.submodule_search_locations[0]) / "tritonserver"


def new_scratch() -> Path:
    """Make a private folder with the backends, and an empty one as the server's working directory.

    Triton wants the Python backend and its stub process in one folder; the wheel keeps a stub for
    each Python version. A Python step looks for modules in the working directory first.
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
    """Return the environment in which Triton's Python steps run this Python and its packages."""
    libraries = [triton_folder().parents[1] / "nvidia_pytriton.libs"]
    if folder := libpython_folder():
        libraries.insert(0, folder)  # before the system's libpython, which may be another build
    search = [*map(str, libraries), os.environ.get("LD_LIBRARY_PATH", "")]
    one_thread = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {
        **os.environ,
        # The backend's stub process takes the packages of the first python3: this environment,
        # with pem_server itself, which the steps import.
        "PATH": os.pathsep.join([str(Path(sys.prefix, "bin")), os.environ.get("PATH", os.defpath)]),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, search)),
        # One thread per step: more steps scale, more threads in each compete for the cores. The
        # network step sets its own number.
        **dict.fromkeys(one_thread, "1"),
        # This server has no GPU backend; a visible GPU would only cost it memory.
        "CUDA_VISIBLE_DEVICES": "",
    }
