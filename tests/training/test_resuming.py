"""Runs that are killed, interrupted, or shared by two processes, as commands of their own."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

MakeFolder = Callable[..., Path]
Command = Callable[..., list[str]]

# The command line with a network that takes milliseconds, on one thread.
PROGRAM = """
import os, sys, torch
from pemseg import config
config.VARIANTS["tiny"] = lambda: config.PemConfig(
    classes=5, queries=8, decoder_width=32, pixel_width=16, ffn_width=32, heads=4,
    backbone_base=16, backbone_blocks=(1, 1, 1))
torch.set_num_threads(1)
if "FROZEN_NORMS" in os.environ:
    torch.nn.BatchNorm2d.train = lambda self, mode=True: torch.nn.Module.train(self, False)
from pem_training.train import main
sys.exit(main(sys.argv[1:]))
"""
STEPS = 24


@pytest.fixture
def command(make_folder: MakeFolder, tmp_path: Path) -> Command:
    """The command of a run into a folder of its own, with further options."""
    data = make_folder(training=5, validation=1)

    def make(output: str, *options: str) -> list[str]:
        given = (
            f"--data {data} --output {tmp_path / output} --variant tiny --steps {STEPS} --batch 4 "
            "--crop 64 --scale 0.8 1.5 --short-side 0 --points 200 --lr 2e-3 --ema 0.9 "
            "--colour strong --save-every 3 --eval-every 8 --device cpu --precision float32"
        )
        return [sys.executable, "-c", PROGRAM, *given.split(), *options]

    return make


def finish(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def wait_for_lines(history: Path, lines: int, process: "subprocess.Popen[bytes]") -> None:
    """Return once the history is so long, or the process is done."""
    while process.poll() is None:
        if history.is_file() and history.read_text().count("\n") >= lines:
            return
        time.sleep(0.01)


def test_a_run_that_is_killed_goes_on_as_if_nothing_had_happened(
    command: Command, tmp_path: Path
) -> None:
    finish(command("unbroken"))
    for line in (random.randint(0, 8), random.randint(9, 20)):
        process = subprocess.Popen(command("killed", "--resume"), stderr=subprocess.DEVNULL)
        wait_for_lines(tmp_path / "killed" / "history.jsonl", line, process)
        time.sleep(random.uniform(0, 0.15))  # in the middle of anything
        process.kill()
        process.wait()
    finish(command("killed", "--resume"))
    histories = [(tmp_path / run / "history.jsonl").read_text() for run in ("unbroken", "killed")]
    assert histories[0] == histories[1]  # every loss of every step, to the last bit
    steps = [json.loads(line) for line in histories[0].splitlines()]
    assert [line["step"] for line in steps if "loss" in line] == list(range(1, STEPS + 1))
    assert [line["step"] for line in steps if "miou" in line] == [8, 16, 24]
    for name in ("checkpoint.pth", "best.pth"):
        one, other = (
            torch.load(tmp_path / run / name, weights_only=True) for run in ("unbroken", "killed")
        )
        assert all(torch.equal(value, other["model"][key]) for key, value in one["model"].items())


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_writes_a_checkpoint_and_says_how_to_go_on(
    command: Command, tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    """Interrupted with all its processes, as terminals and batch systems do it."""
    endless = ["--steps", "100000", "--save-every", "100000", "--eval-every", "0"]
    process = subprocess.Popen(
        command("stopped", *endless, "--workers", str(workers)),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for_lines(tmp_path / "stopped" / "history.jsonl", 2, process)
    os.killpg(process.pid, number)
    output, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output == b""
    last = complaints.decode().splitlines()[-1]
    history = (tmp_path / "stopped" / "history.jsonl").read_text().splitlines()
    assert last == (
        f"train: stopped after step {len(history)} of 100000; "
        "the same command with --resume goes on"
    )
    content = torch.load(tmp_path / "stopped" / "checkpoint.pth", weights_only=True)
    assert content["training"]["step"] == len(history)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_two_processes_do_what_one_does_with_the_whole_batch(
    command: Command, tmp_path: Path
) -> None:
    """But for batch norm, whose statistics each process takes from its own half: held still here.

    Sums are added in another order, so equal means to five digits, over a few steps.
    """
    frozen = os.environ | {"FROZEN_NORMS": "1"}
    few = ["--steps", "4", "--ema", "0", "--eval-every", "4"]
    subprocess.run(command("one", *few), env=frozen, check=True, capture_output=True, timeout=120)
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            command("two", *few),
            env=frozen | meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, complaints = process.communicate(timeout=120)
        assert process.returncode == 0, complaints.decode()
    one, two = (
        [json.loads(line) for line in (tmp_path / run / "history.jsonl").read_text().splitlines()]
        for run in ("one", "two")
    )
    assert len(one) == len(two) == 5
    for expected, got in zip(one, two, strict=True):
        assert got == pytest.approx(expected, rel=1e-4)
