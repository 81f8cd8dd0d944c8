"""Makes .venv hold what a command of `./run` needs: `python environment.py LAYER [COMMAND ...]`.

An environment is built in a folder of its own under .venvs/, never renamed, since its scripts name
their Python by its whole path. The link .venv changes to it in one step once it is whole: killed at
any moment, this leaves the previous environment or the new one, and the next call removes the rest.
It runs on the user's Python, hence the standard library only.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from threading import Thread

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "requirements"
LINK = ROOT / ".venv"
ENVIRONMENTS = ROOT / ".venvs"

# What a layer installs: projects of this repository, by folder, and requirements/LAYER.txt.
LAYERS = {
    "serve": ("client", "server", "gateway"),
    "load": ("client", "server", "gateway", "loadtest", "fleet"),
    "network": ("client", "server", "gateway", "build", "training", "loadtest", "bench"),
    "test": (
        "client",
        "server",
        "gateway",
        "build",
        "training",
        "bench",
        "loadtest",
        "fleet",
    ),
}
TORCH = "torch==2.13.0"  # by version only: its build differs from machine to machine
TORCH_NOTICE = """PyPI's torch carries CUDA, several GB. For the CPU build, stop this and set
PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu"""

# Runs a module inside the environment, or not at all. A Python without its pyvenv.cfg is the
# user's own, whatever its path says.
INSIDE = """
import os, runpy, sys
if sys.prefix == sys.base_prefix or not os.path.samefile(sys.prefix, sys.argv[1]):
    sys.exit(f"{sys.executable} is not the Python of the environment {sys.argv[1]}; "
             "nothing was installed: run the command again")
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
# Variables that would send packages elsewhere.
ELSEWHERE = {"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "PIP_PREFIX", "PIP_PYTHON", "PIP_ROOT"} | {
    "PIP_TARGET", "PIP_USER", "UV_PREFIX", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_TARGET"
}  # fmt: skip


class InstallationError(Exception):
    """A step failed; the message is its last output."""


def main(arguments: Sequence[str]) -> int:
    """Set up the layer `arguments[0]`; the rest is the user's command, for those who wait."""
    layer, command = arguments[0], " ".join(arguments[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if is_installed(layer):
            return 0
        ENVIRONMENTS.mkdir(exist_ok=True)
        with only_one(command):
            if not is_installed(layer):  # it may be now, after a wait
                install(layer)
    except (InstallationError, OSError) as error:
        log(f"{error}\nNothing was changed: {LINK} is what it was.")
        return 1
    except KeyboardInterrupt:
        log(f"Interrupted; {LINK} is what it was.")
        return 130
    return 0


def is_installed(layer: str) -> bool:
    """Whether .venv is whole, for this version of Python, and holds the layer as locked now."""
    if not (LINK / "pyvenv.cfg").is_file() or not (LINK / "bin/python").exists():
        return False
    return any(
        holds(other, layer) and fingerprint(other) == installed
        for other, installed in installed_layers().items()
    )


def installed_layers() -> dict[str, str]:
    """The layers in .venv and the fingerprint of each."""
    try:
        found = json.loads((LINK / "layers.json").read_text())
    except (OSError, ValueError):
        return {}
    return {layer: mark for layer, mark in found.items() if layer in LAYERS}


def holds(larger: str, smaller: str) -> bool:
    return larger in ("test", smaller) or smaller == "serve"


def fingerprint(layer: str) -> str:
    """A digest of all that decides what the layer's environment contains."""
    parts: list[object] = [str(ROOT), sys.version_info[:2], TORCH, LAYERS[layer]]
    parts += [(LOCKS / f"{name}.txt").read_text() for name in (layer, "uv")]
    parts += [installed_metadata(ROOT / project) for project in LAYERS[layer]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def installed_metadata(project: Path) -> list[object]:
    """What an editable installation copies, but for the dependencies, which the lock decides."""
    described = tomllib.loads((project / "pyproject.toml").read_text())
    copied = ("name", "version", "scripts", "entry-points")
    hatch = described.get("tool", {}).get("hatch", {})
    version = hatch.get("version", {}).get("path")
    fields = {name: described["project"].get(name) for name in copied}
    return [fields, hatch, (project / version).read_text() if version else None]


def install(layer: str) -> None:
    """Build an environment with this layer and those already there, then switch to it."""
    layers = {layer, *installed_layers()}
    layers = {one for one in layers if not any(holds(o, one) for o in layers - {one})}
    remove_unused()
    new = ENVIRONMENTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    try:
        build(new, sorted(layers))
        switch_to(new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    remove_unused()


def build(new: Path, layers: Sequence[str]) -> None:
    """Make the environment `new`, complete but for the link to it."""
    # Resolved: what is called .venv/bin/python may be a link to the user's Python, and soon gone.
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    version = ".".join(map(str, sys.version_info[:3]))
    run_step(f"making an environment with Python {version}", [python, "-I", "-m", "venv", str(new)])
    install_inside(new, "pip", "uv", ["--no-deps", "--require-hashes", "-r", f"{LOCKS}/uv.txt"])
    locks = [LOCKS / f"{layer}.txt" for layer in layers]
    files = [part for lock in locks for part in ("-r", str(lock))]
    install_fast(new, f"the packages of {', '.join(layers)}", ["--require-hashes", *files])
    projects = sorted({project for layer in layers for project in LAYERS[layer]})
    if "build" in projects:
        install_torch(new, locks)
    folders = [part for project in projects for part in ("-e", str(ROOT / project))]
    install_fast(new, "the project's own", ["--no-build-isolation", *folders])
    (new / "layers.json").write_text(json.dumps({layer: fingerprint(layer) for layer in layers}))


def install_fast(new: Path, what: str, arguments: Sequence[str]) -> None:
    """By uv, in seconds; if that fails by pip, since only pip reads the user's pip.conf."""
    try:
        install_inside(new, "uv", what, ["--no-deps", *arguments])
    except InstallationError as error:
        log(f"{error}\nuv failed; pip tries the same.")
        install_inside(new, "pip", what, ["--no-deps", *arguments])


def install_torch(new: Path, locks: Sequence[Path]) -> None:
    """By pip, from wherever the user's settings say, with CUDA's libraries if that build has any.

    Those are pinned by torch itself; everything else is there already and held by the lock.
    """
    versions = new / "versions.txt"
    text = "\n".join(lock.read_text() for lock in locks)
    pinned = re.findall(r"^[a-z0-9][^\\\n]*==[^\\\n]*", text, re.MULTILINE)
    versions.write_text("\n".join(pinned))
    log(TORCH_NOTICE)
    install_inside(new, "pip", TORCH, ["-c", str(versions), TORCH])


def install_inside(new: Path, installer: str, what: str, arguments: Sequence[str]) -> None:
    """Run pip or uv in the environment's own Python, which checks first that it is one."""
    options = ["--no-input", "--disable-pip-version-check", "--no-user", "--progress-bar=off"]
    command = {
        "pip": ["pip", "install", *options, *arguments],
        "uv": ["uv", "pip", "install", "--python", str(new), *arguments],
    }[installer]
    python = str(new / "bin/python")
    run_step(f"installing {what}", [python, "-I", "-c", INSIDE, str(new), *command])


def run_step(title: str, command: Sequence[str]) -> None:
    """Run a command, show that it moves, and raise its last lines if it fails."""
    log(f"{title} ...")
    environment = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    if os.environ.get("PIP_INDEX_URL"):  # uv reads none of pip's settings
        environment.setdefault("UV_DEFAULT_INDEX", os.environ["PIP_INDEX_URL"])
    process = subprocess.Popen(
        command, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, text=True,
        errors="replace",
    )  # fmt: skip
    assert process.stdout
    lines: deque[str] = deque(maxlen=20)
    reader = Thread(target=lines.extend, args=[map(str.rstrip, process.stdout)], daemon=True)
    reader.start()
    try:
        watch(process, lines)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    reader.join()
    process.stdout.close()
    if process.returncode:
        raise InstallationError("\n".join(lines) or f"{title} ended with {process.returncode}")


def watch(process: subprocess.Popen[str], lines: Sequence[str]) -> None:
    """Wait, with the last line of output every ten seconds."""
    start = time.monotonic()
    while process.poll() is None:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            log(f"  {time.monotonic() - start:.0f} s  {lines[-1] if lines else ''}")


def switch_to(new: Path) -> None:
    """Let the link .venv name `new`, in one step unless a folder is in the way."""
    link = ENVIRONMENTS / "link"
    link.unlink(missing_ok=True)
    link.symlink_to(new.relative_to(ROOT))
    if LINK.is_dir() and not LINK.is_symlink():
        put_aside(LINK)
    os.replace(link, LINK)


def put_aside(folder: Path) -> None:
    """Remove a folder .venv of version 0.1, or what is left of one; keep one of the user's own."""
    if any(folder.glob("installed-*")) or not (folder / "pyvenv.cfg").exists():
        folder.rename(ENVIRONMENTS / f"before-{os.getpid()}")
    else:
        kept = ROOT / f".venv-before-{os.getpid()}"
        folder.rename(kept)
        log(f"{folder} was not made by ./run: it is now {kept}")


def remove_unused() -> None:
    """Remove environments that neither .venv nor a running process uses."""
    for folder in ENVIRONMENTS.iterdir():
        if folder.is_dir() and folder.resolve() != LINK.resolve() and not is_used(folder):
            shutil.rmtree(folder, ignore_errors=True)


def is_used(folder: Path) -> bool:
    """Whether a process was started from the folder or has a library of it loaded."""
    inside = f"{folder.resolve()}/"
    for process in Path("/proc").glob("[0-9]*"):
        for file in (process / "cmdline", process / "maps"):
            try:
                if inside in file.read_text(errors="replace"):
                    return True
            except OSError:  # the process ended, or is another user's
                continue
    return False


@contextmanager
def only_one(command: str) -> Iterator[None]:
    """Wait until no other process sets up; the kernel ends the wait even if that one is killed."""
    with (ENVIRONMENTS / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            log(f"waiting for process {file.read().strip()}, which sets up the environment ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{os.getpid()} (./run {command})")
        file.flush()
        yield


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
