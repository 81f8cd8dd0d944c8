"""The snippets of README.md, docs/ and the other pages, and what it takes to run them."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("*/*.md")), ROOT / "build/weights/README.md"]


def command_lines(page: Path) -> list[str]:
    """The shell lines of a page, continued ones joined, without their comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    lines = (re.sub(r"\s+", " ", re.sub(r"(^|\s)#.*", "", line)) for line in joined.splitlines())
    return [line.strip() for line in lines if line.strip()]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each page, `./run` line or Python snippet, where a test takes one."""
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
    if "command_line" in metafunc.fixturenames:
        lines = {line for page in PAGES for line in command_lines(page) if "./run " in line}
        metafunc.parametrize("command_line", sorted(lines))
    if "python_snippet" in metafunc.fixturenames:
        pattern = r"^```python\n(.*?)^```(?:\n\n```text\n(.*?)^```)?"
        snippets = [s for page in PAGES for s in re.findall(pattern, page.read_text(), re.M | re.S)]
        metafunc.parametrize(("python_snippet", "shown"), snippets)


@pytest.fixture(scope="session")
def documented() -> set[str]:
    """Every shell line of every page."""
    return {line for page in PAGES for line in command_lines(page)}


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    """A user's own folder with an image."""
    shutil.copy(root / "docs" / "street.jpg", tmp_path / "photo.jpg")
    return tmp_path


@pytest.fixture
def run(root: Path, folder: Path, documented: set[str]) -> Callable[..., str]:
    """Run a documented line from `folder`, with more options and some of its words replaced."""

    def run(line: str, more: str = "", *, code: int = 0, **replaced: str) -> str:
        assert line in documented
        words = [replaced.get(word, word) for word in shlex.split(line)] + shlex.split(more)
        command = [root / "run", *words[1:]]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + (done.stderr if code else "")

    return run


@pytest.fixture
def serve(root: Path) -> Callable[..., contextlib.AbstractContextManager[dict[str, str]]]:
    """`./run serve` on free ports; the addresses it prints. Ended by Ctrl-C."""

    @contextlib.contextmanager
    def serve(*more: str) -> Iterator[dict[str, str]]:
        free = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")
        command = [root / "run", "serve", *free, *more]
        options = {"stdout": subprocess.PIPE, "text": True, "start_new_session": True}
        with subprocess.Popen(command, **options) as process:
            assert process.stdout
            try:
                addresses = {}
                for line in process.stdout:
                    name, *values = line.split() or [""]
                    addresses[name] = values[-1] if values else ""
                    if name == "stop":
                        break
                yield addresses
            finally:
                os.killpg(process.pid, signal.SIGINT)
        assert process.returncode == 0

    return serve
