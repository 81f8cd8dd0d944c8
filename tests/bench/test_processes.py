"""Memory and processor time of real processes."""

import os
import subprocess
import sys
from pathlib import Path

from pem_bench.processes import STUB, cpu_by_role, descendants, memory_mb, role


def test_children_and_their_children_are_found_and_added_up() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1); input()'])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        assert child.stdin
        child.stdout.readline()  # the grandchild runs
        found, below = descendants(), descendants(child.pid)
        both, one = memory_mb([child.pid, *below]), memory_mb([child.pid])
        assert 0 < one["pss_mb"] < both["pss_mb"] <= both["rss_mb"]
        assert role(child.pid).startswith("python")
        child.stdin.close()
    assert child.pid in found
    assert len(below) == 1
    assert set(below) < set(found)
    assert memory_mb([child.pid])["pss_mb"] == 0  # it has ended
    assert cpu_by_role([child.pid]) == {}


def test_a_python_step_is_named_after_its_model(tmp_path: Path) -> None:
    step = tmp_path / "pem_render" / "1" / "model.py"
    step.parent.mkdir(parents=True)
    step.write_text("print(1, flush=True); input()")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([STUB, str(step)], executable=sys.executable, **pipes) as child:
        assert child.stdout
        child.stdout.readline()
        assert role(child.pid) == "pem_render"
        child.communicate(b"\n")
    assert role(child.pid) == "ended"


def test_processor_time_is_that_of_the_system() -> None:
    before = sum(os.times()[:2])
    ((name, seconds),) = cpu_by_role([os.getpid()]).items()
    assert before - 0.2 < seconds <= sum(os.times()[:2]) + 0.2
    assert name == role(os.getpid())
