"""Can this Python run the local server? Standard library only, so that it runs anywhere.

`./run` checks every Python it finds before it installs anything (`python3 -I python_check.py`: one
sentence per problem, exit code 1 if there is one), and the server checks again at each start.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import sysconfig
from pathlib import Path

OLDEST_GLIBC = (2, 35)  # what the binaries inside nvidia-pytriton 0.7.0 are linked against
PYTHONS = ((3, 11), (3, 12))  # numpy below 2 exists up to 3.12; the project is written for 3.11


def problems() -> list[str]:
    """Return one sentence for each reason why this Python cannot run the server."""
    version = sys.version_info[:2]
    checks = [
        system_problem(platform.system(), platform.machine()),
        glibc_problem(glibc_version()),
        # No need to install the library of a Python that cannot be used anyway.
        python_problem(version) or libpython_problem(libpython_folder(), version),
    ]
    return [problem for problem in checks if problem]


def system_problem(system: str, machine: str) -> str | None:
    """`system` and `machine` as the module `platform` names them."""
    if (system, machine) == ("Linux", "x86_64"):
        return None
    return (
        f"The local server needs Linux on x86_64, but this is {system} on {machine}; "
        "a virtual machine will do."
    )


def glibc_problem(version: str | None) -> str | None:
    """`version` such as "2.36"; None where the C library is another one (Alpine's musl)."""
    if version and tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_GLIBC:
        return None
    return (
        f"The local server needs glibc 2.35 or newer, but this system has "
        f"{'glibc ' + version if version else 'another C library'}; "
        "use Debian 12, Ubuntu 22.04, Fedora 36 or later."
    )


def python_problem(version: tuple[int, int]) -> str | None:
    """`version` such as (3, 11)."""
    if version in PYTHONS:
        return None
    return (
        f"The project needs Python 3.11 or 3.12, but this is {version[0]}.{version[1]}; "
        "install one of them, or name one: PYTHON=/usr/bin/python3.12 ./run."
    )


def libpython_problem(folder: Path | None, version: tuple[int, int]) -> str | None:
    """`folder` holds the shared library of Python `version`; None when none was found."""
    if folder:
        return None
    name = f"{version[0]}.{version[1]}"
    return (
        f"Triton's Python steps need {libpython_name(version)}, which is missing; on Debian and "
        f"Ubuntu run sudo apt install libpython{name}; with pyenv reinstall Python by "
        f"PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install {name}."
    )


def venv_problem() -> str | None:
    """Debian and Ubuntu ship Python without the module that makes virtual environments."""
    if importlib.util.find_spec("ensurepip"):
        return None
    name = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return (
        f"{sys.executable} cannot make a virtual environment; "
        f"on Debian and Ubuntu run sudo apt install python{name}-venv."
    )


def glibc_version() -> str | None:
    """Return the version of this process's glibc, None under another C library."""
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except (ValueError, OSError):
        return None
    return version if name == "glibc" else None


def libpython_name(version: tuple[int, int]) -> str:
    """Return the file that a Triton stub for Python `version` is linked against."""
    return f"libpython{version[0]}.{version[1]}.so.1.0"


def libpython_folder() -> Path | None:
    """Return the folder of this Python's shared library, its own before the system's."""
    libdir = Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")
    multiarch = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
    places = [libdir, libdir / multiarch, Path(sys.base_prefix, "lib")]
    places += [Path(place) for place in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib")]
    name = libpython_name(sys.version_info[:2])
    return next((place for place in places if (place / name).is_file()), None)


def main() -> int:
    """Print the problems of this Python, also where it cannot make a virtual environment."""
    reasons = [*problems(), *filter(None, [venv_problem()])]
    print(*reasons, sep="\n", end="\n" if reasons else "")
    return 1 if reasons else 0


if __name__ == "__main__":
    raise SystemExit(main())
