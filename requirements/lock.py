"""`./run lock`: writes requirements/*.txt anew from what every pyproject.toml asks for.

A file holds the hashes of every package, for Python 3.11 and 3.12 on Linux x86_64. A version stays
until a pyproject.toml forbids it or you name it: `./run lock --upgrade-package grpcio`. No file may
contain the address of a package index.
"""

import subprocess
import sys
import tomllib
from collections.abc import Sequence

from environment import LAYERS, LOCKS, ROOT

# The images of the Dockerfile that do not install a whole layer.
IMAGES = {"image-t4": (), "image-engine": (), "image-loadtest": ("client", "loadtest")}
# Groups in the pyproject.toml of the root; the others have `backend`, which builds our projects.
GROUPS = {
    "test": ("backend", "test"),
    "image-t4": ("backend", "image-t4"),
    "image-engine": ("image-engine",),
    "uv": ("uv",),
}
OPTIONS = [
    "--universal", "--python-version=3.11", "--generate-hashes", "--no-emit-index-url",
    "--no-emit-find-links", "--no-header", "--no-annotate", "--quiet",
]  # fmt: skip


def main(options: Sequence[str]) -> int:
    """Lock the tests first, since they hold everything; the rest takes the same versions."""
    lock("test", LAYERS["test"], options)
    for name, projects in {**LAYERS, **IMAGES, "uv": ()}.items():
        if name != "test":
            lock(name, projects, [f"--constraint={LOCKS.name}/test.txt", *options])
    return 0


def lock(name: str, projects: Sequence[str], options: Sequence[str]) -> None:
    """Resolve the dependencies of the projects and groups of `name` into requirements/NAME.txt."""
    groups = [f"--group=pyproject.toml:{group}" for group in GROUPS.get(name, ("backend",))]
    unlocked = [f"--no-emit-package={package}" for package in ("torch", *own_packages())]
    compiler = [sys.executable, "-m", "uv", "pip", "compile", "-"]
    output = f"{LOCKS.name}/{name}.txt"
    subprocess.run(
        [*compiler, f"--output-file={output}", *OPTIONS, *unlocked, *groups, *options],
        input="".join(f"-e ./{project}\n" for project in projects),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        check=True,
        text=True,
    )
    print(output)


def own_packages() -> list[str]:
    """The names of this repository's projects."""
    files = [ROOT / project / "pyproject.toml" for project in LAYERS["test"]]
    return [tomllib.loads(file.read_text())["project"]["name"] for file in files]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
