"""Runs that are killed, interrupted, or shared by two processes, against an unbroken one."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pem_server import free_ports
from pem_training import train
from pemseg import Pem
from pemseg.checkpoint import save_state

MakeFolder = Callable[..., Path]
Options = Callable[..., list[str]]

TRAIN = ("-m", "pem_training.train")
FROZEN = """
import torch
torch.nn.BatchNorm2d.train = lambda self, mode=True: torch.nn.Module.train(self, False)
from pem_training.train import main
raise SystemExit(main())
"""


@pytest.fixture
def options(make_folder: MakeFolder, tiny_network: Callable[..., Pem], tmp_path: Path) -> Options:
    """The options of a run of a tiny network into a folder of its own, with further ones."""
    data, weights = make_folder(training=5, validation=1), tmp_path / "tiny.safetensors"
    save_state(tiny_network(), weights)

    def make(output: str, *more: str) -> list[str]:
        given = (
            f"--data {data} --output {tmp_path / output} --weights {weights} --steps 24 "
            "--batch 4 --crop 64 --scale 0.8 1.5 --short-side 0 --points 200 --lr 2e-3 --clip 1 "
            "--ema 0.9 --color strong --save-every 3 --eval-every 8 --device cpu "
            "--precision float32"
        )
        return [*given.split(), *more]

    return make


def start(*arguments: str, **settings: Any) -> "subprocess.Popen[str]":
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *arguments], **pipes, **settings)


def wait_for_lines(history: Path, lines: int, process: "subprocess.Popen[str]") -> None:
    """Return once the history is so long, or the process has ended."""
    while process.poll() is None:
        if history.is_file() and history.read_text().count("\n") >= lines:
            return
        time.sleep(0.01)


def test_a_killed_run_resumes_with_the_unbroken_result(options: Options, tmp_path: Path) -> None:
    process = start(*TRAIN, *options("killed"))
    wait_for_lines(tmp_path / "killed" / "history.jsonl", random.randint(0, 20), process)
    time.sleep(random.uniform(0, 0.15))  # at any moment of a step, an evaluation or a checkpoint
    process.kill()
    process.communicate()
    assert train.main(options("killed", "--resume")) == 0
    assert train.main(options("unbroken")) == 0
    histories = [(tmp_path / run / "history.jsonl").read_text() for run in ("unbroken", "killed")]
    assert histories[0] == histories[1]  # every loss of every step, to the last bit
    steps = [json.loads(line) for line in histories[0].splitlines()]
    assert [line["step"] for line in steps if "loss" in line] == list(range(1, 25))
    assert [line["step"] for line in steps if "miou" in line] == [8, 16, 24]
    for name in ("checkpoint.pth", "best.pth"):
        files = (tmp_path / run / name for run in ("unbroken", "killed"))
        a, b = (torch.load(file, weights_only=True)["model"] for file in files)
        assert all(torch.equal(value, b[key]) for key, value in a.items())


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 0), (signal.SIGTERM, 1)])
def test_an_interrupted_run_writes_a_checkpoint_and_names_the_option_to_resume(
    options: Options, tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    """The whole process group gets the signal, as from terminals and batch systems."""
    endless = ["--steps", "100000", "--save-every", "100000", "--eval-every", "0"]
    command = options("stopped", *endless, "--workers", str(workers))
    process = start(*TRAIN, *command, start_new_session=True)
    wait_for_lines(tmp_path / "stopped" / "history.jsonl", 2, process)
    os.killpg(process.pid, number)
    output, complaints = process.communicate()
    assert (process.returncode, output) == (130, "")
    steps = len((tmp_path / "stopped" / "history.jsonl").read_text().splitlines())
    assert re.search(f"step {steps} of 100000.*--resume", complaints.splitlines()[-1])
    content = torch.load(tmp_path / "stopped" / "checkpoint.pth", weights_only=True)
    assert content["training"]["step"] == steps


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(options: Options, tmp_path: Path) -> None:
    """But for batch norm, whose statistics each process takes from its own half: frozen here.

    Sums are added in another order, so equal means to five digits, over a few steps.
    """
    few = ["--steps", "4", "--ema", "0", "--eval-every", "4"]
    (port,) = free_ports(1)
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [os.environ | world | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    processes = [start("-c", FROZEN, *options("one", *few))]
    processes += [start("-c", FROZEN, *options("two", *few), env=rank) for rank in ranks]
    for process in processes:
        _, complaints = process.communicate()
        assert process.returncode == 0, complaints
    one, two = (
        [json.loads(line) for line in (tmp_path / run / "history.jsonl").read_text().splitlines()]
        for run in ("one", "two")
    )
    assert len(one) == len(two) == 5
    for expected, got in zip(one, two, strict=True):
        assert got == pytest.approx(expected, rel=1e-4)
