"""The training loop: one run from its first or last checkpoint to its end."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Self

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from pem_server.console import log
from pem_training.batches import Batches, Samples, Steps, load_batches
from pem_training.dataset import Inputs, progress_bar, read_image
from pem_training.distributed import World, all_reduce_sum, any_process
from pem_training.predict import served_labels
from pem_training.run_log import RunLog, side_by_side, write_curve
from pem_training.score import read_truth, score
from pem_training.settings import Settings, SettingsError
from pem_training.trainer import Trainer, read_checkpoint, write_checkpoint
from pemexport.segmentation_scores import Pair, Scores, no_counts
from pemseg import Pem

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """The run was stopped by a signal and wrote a checkpoint; the message names the step."""


class GracefulStop:
    """Inside the `with`, the first Ctrl-C or SIGTERM only sets `requested`.

    So the step can end and a checkpoint be written; a second one acts as without the `with`. Only
    for the main thread.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._request) for number in SIGNALS}
        return self

    def _request(self, _: int, __: FrameType | None) -> None:
        self.requested = True
        self.__exit__()

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def run(
    settings: Settings,
    network: Pem,
    inputs: Inputs,
    device: torch.device,
    world: World | None = None,
    *,
    resume: bool = False,
) -> Path:
    """Train `network` to the end; returns the path of the last checkpoint.

    Raises SettingsError for a run that cannot be started or resumed, Interrupted after
    Ctrl-C, FloatingPointError when the network's output or its gradient is no longer finite.
    """
    world = world or World()
    make_repeatable(settings, device)
    trainer = Trainer(network, settings, device, world)
    path = settings.output / "checkpoint.pth"
    identity = settings.identity() | {"images": inputs.digest, "processes": str(world.size)}
    start_or_resume(trainer, path, identity, resume=resume)
    samples = Samples(inputs.training, settings.augmentation, settings.seed)
    steps = Steps(trainer.steps_done, settings.steps, settings.batch, world)
    batches = load_batches(samples, steps, settings.workers, pinned=device.type == "cuda")
    with ExitStack() as stack:
        run_log = None
        if world.is_first:
            run_log = stack.enter_context(RunLog(settings.output, trainer.steps_done))
        stop = stack.enter_context(GracefulStop())
        for values in take_steps(trainer, batches, quiet=not world.is_first):
            if run_log is not None:
                run_log.add(trainer.steps_done, values)
            stopping = any_process(stop.requested, device)
            if _is_due(trainer, settings.eval_every) and not stopping:
                evaluate(trainer, inputs.validation, world, run_log)
            if (stopping or _is_due(trainer, settings.save_every)) and world.is_first:
                trainer.save(path, identity)
            if stopping and trainer.steps_done < settings.steps:
                raise Interrupted(f"stopped after step {trainer.steps_done} of {settings.steps}")
    return path


def take_steps(trainer: Trainer, batches: Batches, *, quiet: bool) -> Iterator[dict[str, float]]:
    """Take step after step, with a progress bar; yields the values that each reports."""
    done, steps = trainer.steps_done, trainer.settings.steps
    counter = progress_bar(batches, "training", steps, initial=done, disable=quiet)
    for images, labels, numbers in counter:
        values = trainer.step(images, labels, numbers)
        counter.set_postfix(loss=f"{values['loss']:.2f}", refresh=False)
        yield values


def make_repeatable(settings: Settings, device: torch.device) -> None:
    """With --deterministic, make a GPU add in the same order every time."""
    if settings.deterministic and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def start_or_resume(
    trainer: Trainer, path: Path, identity: dict[str, str], *, resume: bool
) -> None:
    """Restore the run's checkpoint with `resume`; refuse to overwrite one without.

    A run that was killed before its first checkpoint starts anew.
    """
    if not path.exists():
        return
    if not resume:
        raise SettingsError(
            f"{path} holds a run already: add --resume to continue it, or choose another --output"
        )
    content = read_checkpoint(path)
    before = content["training"]["identity"]
    different = [
        f"{name} {before.get(name)}, not {identity.get(name)}"
        for name in sorted(before.keys() | identity.keys())
        if before.get(name) != identity.get(name)
    ]
    if different:
        raise SettingsError(
            f"to resume {path}, repeat the options it was started with: {'; '.join(different)}"
        )
    trainer.restore(content)


def evaluate(trainer: Trainer, pairs: list[Pair], world: World, run_log: RunLog | None) -> None:
    """Score the served prediction; log it, with an image, and keep the best weights.

    Each process takes its share of the pairs.
    """
    network = trainer.finished_network()
    counts = score(
        lambda file: {"served": served_labels(network, file)},
        pairs[world.rank :: world.size],
        quiet=not world.is_first,
    ).get("served", no_counts())
    total = all_reduce_sum(torch.from_numpy(counts).to(trainer.device)).cpu().numpy()
    scores = Scores.from_confusion(total)
    is_best = scores.miou > trainer.best
    trainer.best = max(trainer.best, scores.miou)
    if run_log is None:
        return
    if is_best:
        path = trainer.settings.output / "best.pth"
        write_checkpoint(path, {"model": network.state_dict()})
    names = ("miou", "mean_accuracy", "pixel_accuracy")
    run_log.add(trainer.steps_done, {name: getattr(scores, name) for name in names})
    write_curve(trainer.settings.output / "curve.png", trainer.settings.output / "history.jsonl")
    shown = pairs[0]
    prediction = served_labels(network, shown.image)
    preview = side_by_side(read_image(shown.image), read_truth(shown), prediction)
    run_log.add_image(trainer.steps_done, "labels | prediction", preview)
    with tqdm.external_write_mode(sys.stderr):  # clears the progress bar for a moment
        log(f"step {trainer.steps_done}: mIoU {scores.miou:.4f}{', the best so far' * is_best}")


def _is_due(trainer: Trainer, every: int) -> bool:
    """Whether an action of every `every` steps, and of the last one, is due now."""
    done = trainer.steps_done
    return bool(every) and (done % every == 0 or done == trainer.settings.steps)
