"""Memory and processor time of real processes."""

import subprocess
import sys

from pem_bench.processes import cpu_by_role, descendants, memory_mb, role


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
        assert 0 < one < both
        assert role(child.pid).startswith("python")
        assert cpu_by_role([child.pid])[role(child.pid)] > 0
        child.stdin.close()
    assert child.pid in found
    assert len(below) == 1
    assert set(below) < set(found)
    assert memory_mb([child.pid]) == 0  # it has ended
    assert cpu_by_role([child.pid]) == {}
