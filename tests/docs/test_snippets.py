"""What a newcomer types first runs as README.md and docs/ show it."""

import re
import subprocess
import sys

from pem_client import Detections


def words(output: str) -> set[str]:
    """The words of an output without its numbers, which differ between processors."""
    return set(re.findall(r"[a-z]{3,}", output))


def test_the_demo_prints_the_table_of_the_readme(run, root, folder):
    output = run("./run demo")
    readme = (root / "README.md").read_text(encoding="utf-8")
    shown, printed = (re.search(r"^label .*?\n\n", text, re.M | re.S) for text in (readme, output))
    assert words(shown[0]) == words(printed[0])
    overlay = re.search(r"^overlay +(.*)$", output, re.MULTILINE)
    assert (folder / overlay[1]).is_file()


def test_images_are_segmented_by_a_running_server(run, serve, folder):
    with serve() as addresses:
        segment = "./run segment photo.jpg --overlay overlay.png"
        assert "road" in run(segment, f"--url {addresses['gRPC']}")
        assert (folder / "overlay.png").is_file()
        as_json = "./run segment --json --url http://127.0.0.1:8000 photo.jpg"
        output = run(as_json, **{"http://127.0.0.1:8000": addresses["HTTP"]})
        assert len(Detections.from_json(output)) > 3


def test_load_is_sent_and_measured(run, serve, documented, folder):
    assert "./run serve --stub-network 20:5" in documented
    with serve("--stub-network=20:5") as addresses:
        where = f"--host {addresses['gRPC']} --metrics {addresses['metrics']}"
        short = "--seconds 3 --warm-up 0 --latency-goal 5000 --lateness-limit 2000"
        run("./run loadtest --rate 2", f"{short} {where} --output one")
        assert (folder / "one" / "report.json").is_file()
        # What lies above --highest-rate is a missed goal: enough to see the command work.
        goal = "--rate 4 --latency-goal 1000 --capacity-file capacity.env"
        ladder = f"./run loadtest --shape ladder {goal}"
        more = f"{short} --highest-rate 8 --tolerance 0.5 {where} --output two"
        assert "--highest-rate" in run(ladder, more, code=1)


def test_a_python_snippet_finds_the_street(root, real_server, tmp_path, python_snippet, shown):
    code = python_snippet.replace("127.0.0.1:8001", real_server.grpc_url)
    code = re.sub(r'"(?:docs/)?street\.jpg"', f'"{root}/docs/street.jpg"', code)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "sky" in done.stdout, done.stderr
    assert not shown or words(done.stdout) == words(shown)
