import os
import signal
import subprocess
import sys
import time

from pem_gateway.process_watch import STOPPED_S, ProcessWatch

CHILD = "import subprocess, sys; c = subprocess.Popen(['sleep', '60']); print(c.pid, flush=True); "


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _family() -> tuple[subprocess.Popen[str], int]:
    parent = subprocess.Popen(
        [sys.executable, "-c", CHILD + "c.wait()"], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    return parent, int(parent.stdout.readline())


def _until(state: str, pid: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with open(f"/proc/{pid}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] == state:
                return
        time.sleep(0.01)
    raise AssertionError(f"{pid} never came into state {state}")


def test_stopped_and_dead_processes_are_noticed() -> None:
    parent, child = _family()
    clock = Clock()
    with parent:
        try:
            watch = ProcessWatch(parent.pid, clock)
            assert watch.problem() is None
            os.kill(child, signal.SIGSTOP)
            _until("T", child)
            assert watch.problem() is None, "a short stop does no harm"
            clock.now += STOPPED_S
            assert "sleep" in str(watch.problem())
            os.kill(child, signal.SIGCONT)
            _until("S", child)
            assert watch.problem() is None
            parent.kill()
            parent.wait()
            assert "supervisor" in str(watch.problem())
        finally:
            os.kill(child, signal.SIGKILL)
