"""What a newcomer types first runs as README.md and docs/ show it."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pem_client import Detections
from pem_server import TritonServer

README = Path(__file__).resolve().parents[2] / "README.md"


def printed_in_the_readme(after: str) -> str:
    """The text block that follows a line of the README."""
    text = README.read_text(encoding="utf-8").partition(after)[2]
    found = re.search(r"^```(?:text)?\n(.*?)^```", text.partition("\n```\n")[2], re.M | re.S)
    assert found
    return found[1]


def words(output: str) -> set[str]:
    """The words of an output without its numbers, which differ between processors."""
    return set(re.findall(r"[a-z]{3,}", output))


def test_the_demo_prints_the_table_of_the_readme(run: Callable[..., str], folder: Path) -> None:
    for line in ("./run demo", "./run demo photo.jpg"):
        output = run(line)
        table = output.partition("label ")[2]
        shown = printed_in_the_readme("./run demo  ").partition("label ")[2]
        assert words(shown.partition("overlay")[0]) == words(table.partition("overlay")[0])
        overlay = re.search(r"^overlay +(.*)$", output, re.MULTILINE)
        assert overlay
        assert (folder / overlay[1]).is_file()


def test_images_are_segmented_by_a_running_server(
    run: Callable[..., str], serve: Callable[..., Any], documented: set[str], folder: Path
) -> None:
    assert "./run serve" in documented
    with serve() as addresses:
        overlay = run("./run segment photo.jpg --overlay overlay.png", f"--url {addresses['gRPC']}")
        assert "road" in overlay
        assert (folder / "overlay.png").is_file()
        as_json = "./run segment --json --url http://127.0.0.1:8000 photo.jpg"
        output = run(as_json, **{"http://127.0.0.1:8000": addresses["HTTP"]})
        assert len(Detections.from_json(output)) > 3


def test_load_is_sent_and_measured(
    run: Callable[..., str], serve: Callable[..., Any], documented: set[str], folder: Path
) -> None:
    assert "./run serve --stub-network 20:5" in documented
    with serve("--stub-network=20:5") as addresses:
        where = f"--host {addresses['gRPC']} --metrics {addresses['metrics']}"
        short = "--seconds 3 --warm-up 0 --latency-goal 5000 --lateness-limit 2000"
        run("./run loadtest --rate 2", f"{short} {where} --output one")
        assert (folder / "one" / "report.json").is_file()
        # What lies above --highest-rate is a missed goal: enough to see the command work.
        ladder = (
            "./run loadtest --shape ladder --rate 4 --latency-goal 1000 "
            "--capacity-file capacity.env"
        )
        more = f"{short} --highest-rate 8 --tolerance 0.5 {where} --output two"
        assert "--highest-rate" in run(ladder, more, code=1)


def test_a_python_snippet_finds_the_street(
    root: Path, server: TritonServer, tmp_path: Path, python_snippet: str
) -> None:
    output = run_python(python_snippet, root, server, tmp_path)
    assert "sky" in output


def test_the_readme_shows_what_its_python_prints(
    root: Path, server: TritonServer, tmp_path: Path
) -> None:
    snippet = re.search(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert snippet
    output = run_python(snippet[1], root, server, tmp_path)
    assert words(output) == words(printed_in_the_readme("```python"))


def run_python(snippet: str, root: Path, server: TritonServer, folder: Path) -> str:
    """Run a snippet in a folder of its own, with the running server and the street of docs/."""
    code = snippet.replace("127.0.0.1:8001", server.grpc_url)
    code = re.sub(r'"(?:docs/)?street\.jpg"', f'"{root}/docs/street.jpg"', code)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
