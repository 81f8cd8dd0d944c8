"""One training run from its first or last checkpoint to its end: the loop around the trainer."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import torch

from pem_training.batches import Batches, Samples, Steps, load_batches
from pem_training.checkpoint_file import read_checkpoint, write_checkpoint
from pem_training.confusion import no_counts, scores_of
from pem_training.curve_chart import write_curve
from pem_training.curves import Curves
from pem_training.dataset import Pair, read_image
from pem_training.interruption import Interruption
from pem_training.material import Material
from pem_training.measure import CLASSES, measure, read_truth
from pem_training.preview import side_by_side
from pem_training.progress import bar, say
from pem_training.readings import served_labels
from pem_training.settings import Settings, SettingsError
from pem_training.trainer import Trainer
from pem_training.world import World, in_any_process, world_sum
from pemseg import Pem


class Interrupted(Exception):
    """The run was asked to stop, and wrote a checkpoint; the message says after which step."""


def run(
    settings: Settings,
    network: Pem,
    material: Material,
    device: torch.device,
    world: World | None = None,
    *,
    resume: bool = False,
) -> Path:
    """Train `network` to the end; returns the path of the last checkpoint.

    Raises SettingsError for a run that cannot be begun or resumed, Interrupted after Ctrl-C,
    FloatingPointError when the network's answer or its gradient is no longer a number.
    """
    world = world or World()
    make_repeatable(settings, device)
    trainer = Trainer(network, settings, device, world)
    path = settings.output / "checkpoint.pth"
    identity = settings.identity() | {"images": material.digest, "processes": str(world.size)}
    begin(trainer, path, identity, resume=resume)
    samples = Samples(material.training, settings.augmentation, settings.seed)
    steps = Steps(trainer.steps_done, settings.steps, settings.batch, world)
    batches = load_batches(samples, steps, settings.workers, pinned=device.type == "cuda")
    with ExitStack() as stack:
        curves = None
        if world.is_first:
            curves = stack.enter_context(Curves(settings.output, trainer.steps_done))
        interruption = stack.enter_context(Interruption())
        for values in learn(trainer, batches, quiet=not world.is_first):
            if curves is not None:
                curves.add(trainer.steps_done, values)
            stopping = in_any_process(interruption.came, device)
            if _is_due(trainer, settings.eval_every) and not stopping:
                evaluate(trainer, material.validation, world, curves)
            if (stopping or _is_due(trainer, settings.save_every)) and world.is_first:
                trainer.save(path, identity)
            if stopping and trainer.steps_done < settings.steps:
                raise Interrupted(f"stopped after step {trainer.steps_done} of {settings.steps}")
    return path


def learn(trainer: Trainer, batches: Batches, *, quiet: bool) -> Iterator[dict[str, float]]:
    """Take step after step, with a bar; yields what each reports."""
    done, steps = trainer.steps_done, trainer.settings.steps
    counter = bar(batches, "training", steps, initial=done, disable=quiet)
    for images, labels, numbers in counter:
        values = trainer.step(images, labels, numbers)
        counter.set_postfix(loss=f"{values['loss']:.2f}", refresh=False)
        yield values


def make_repeatable(settings: Settings, device: torch.device) -> None:
    """Where asked, let a GPU compute the same sum in the same order every time."""
    if settings.deterministic and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def begin(trainer: Trainer, path: Path, identity: dict[str, str], *, resume: bool) -> None:
    """Restore the run's checkpoint if it should go on; make sure that none is overwritten if not.

    A run that was killed before its first checkpoint begins anew.
    """
    if not path.exists():
        return
    if not resume:
        raise SettingsError(
            f"{path} holds a run already: go on with it by --resume, or choose another --output"
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
            f"to go on with {path}, repeat how it was started: {'; '.join(different)}"
        )
    trainer.restore(content)


def evaluate(trainer: Trainer, pairs: list[Pair], world: World, curves: Curves | None) -> None:
    """Measure the served reading; write it down, with an image, and keep the best weights.

    Each process takes its share of the pairs.
    """
    network = trainer.finished_network()
    counts = measure(
        lambda file: {"served": served_labels(network, read_image(file))},
        pairs[world.rank :: world.size],
        quiet=not world.is_first,
    ).get("served", no_counts(CLASSES))
    scores = scores_of(world_sum(torch.from_numpy(counts).to(trainer.device)).cpu().numpy())
    is_best = scores.miou > trainer.best
    trainer.best = max(trainer.best, scores.miou)
    if curves is None:
        return
    if is_best:
        path = trainer.settings.output / "best.pth"
        write_checkpoint(path, {"model": network.state_dict()})
    curves.add(
        trainer.steps_done,
        {
            "miou": scores.miou,
            "mean_accuracy": scores.mean_accuracy,
            "pixel_accuracy": scores.pixel_accuracy,
        },
    )
    write_curve(trainer.settings.output / "curve.png", trainer.settings.output / "history.jsonl")
    shown = pairs[0]
    image = read_image(shown.image)
    answer = served_labels(network, image)
    curves.add_image(
        trainer.steps_done, "labels | answer", side_by_side(image, read_truth(shown), answer)
    )
    say(f"step {trainer.steps_done}: mIoU {scores.miou:.4f}{', the best so far' * is_best}")


def _is_due(trainer: Trainer, every: int) -> bool:
    """Whether something done every so many steps, and at the end, is to be done now."""
    if not every:
        return False
    return trainer.steps_done % every == 0 or trainer.steps_done == trainer.settings.steps
