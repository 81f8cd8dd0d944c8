"""What is read from /proc."""

import os
import subprocess
import sys

from pem_bench.processes import (
    Memory,
    cpu_seconds,
    descendants,
    memory,
    parse_rollup,
    role,
    seconds_by_role,
)

ROLLUP = """55f0-7ffe ---p 00000000 00:00 0                          [rollup]
Rss:                2000 kB
Pss:                1500 kB
Pss_Dirty:           900 kB
Pss_Anon:            700 kB
Pss_File:            300 kB
Pss_Shmem:           500 kB
Shared_Clean:        100 kB
"""


def test_a_rollup_is_read_in_megabytes() -> None:
    assert parse_rollup(ROLLUP) == Memory(rss=2.048, pss=1.536, shared=0.512)
    assert parse_rollup("") == Memory(0, 0, 0)


def test_children_and_their_children_are_found_and_added_up() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1); input()'])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        assert child.stdin
        child.stdout.readline()  # the grandchild runs
        found = descendants(os.getpid())
        below = descendants(child.pid)
        both, one = memory([child.pid, *below]), memory([child.pid])
        name = role(child.pid)
        child.stdin.close()
    assert child.pid in found
    assert len(below) == 1
    assert set(below) < set(found)
    assert both.rss > one.rss >= one.pss > 0
    assert name.startswith("python")
    assert memory([child.pid]) == Memory(0, 0, 0)  # it has ended


def test_processor_time_is_that_of_the_system() -> None:
    here = os.times()
    assert here.user + here.system - 0.2 < cpu_seconds(os.getpid()) <= sum(os.times()[:2]) + 0.2
    (only,) = seconds_by_role([os.getpid()]).items()
    assert only[0] == role(os.getpid())
