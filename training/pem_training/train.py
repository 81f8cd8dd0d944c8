"""Train a PEM network on a labelled folder.

    ./run train --data FOLDER --output artifacts/training

Interrupted or killed, the same command with --resume goes on from the last checkpoint as if
nothing had happened. Several GPUs: .venv/bin/torchrun --nproc-per-node 4 -m pem_training.train ...
In the output folder: checkpoint.pth, best.pth (by mIoU on the validation split), curve.png,
history.jsonl and tensorboard/ (look at it with .venv/bin/tensorboard --logdir FOLDER).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from pem_training.backbone_weights import load_backbone
from pem_training.dataset import DataError
from pem_training.material import gather_material
from pem_training.progress import say
from pem_training.session import Interrupted, run
from pem_training.settings import Settings, SettingsError
from pem_training.world import World, join_world, leave_world, own_world
from pemseg import CheckpointError, Pem, load_network
from pemseg.config import VARIANTS


def train(settings: Settings, *, resume: bool = False) -> Path:
    """Train as `settings` say, alone or as one of torchrun's processes.

    Returns the path of the last checkpoint. Raises DataError, CheckpointError or SettingsError
    before the first step, and what `session.run` raises.
    """
    kind = settings.device
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    world = join_world(kind)
    try:
        if settings.batch % world.size:
            raise SettingsError(
                f"--batch must be a multiple of the {world.size} processes, got {settings.batch}"
            )
        if settings.batch < 2 * world.size:  # the batch norm of an image's mean needs another one
            raise SettingsError(
                f"--batch must be at least 2 images a process, got {settings.batch} for "
                f"{world.size}"
            )
        device = torch.device(f"cuda:{world.local_rank}" if kind == "cuda" else "cpu")
        network = make_network(settings, world)
        material = gather_material(settings, network.config.classes, world)
        return run(settings, network, material, device, world, resume=resume)
    finally:
        leave_world()


def make_network(settings: Settings, world: World) -> Pem:
    """The network to begin with: given weights, or random ones that the seed decides."""
    if settings.weights is not None:
        return load_network(settings.weights)
    torch.manual_seed(settings.seed)
    network = Pem(VARIANTS[settings.variant]())
    if settings.backbone is not None:
        tensors = load_backbone(network, settings.backbone)
        if world.is_first:
            say(f"{settings.backbone}: all {tensors} tensors fit the backbone")
    return network


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="run train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    Settings.add_options(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    options = parser.parse_args(argv)
    try:
        path = train(Settings.from_options(options), resume=options.resume)
    except (CheckpointError, DataError, SettingsError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except FloatingPointError as error:
        print(f"train: {error}; begin again with a lower --lr, or --precision float32, from the "
              "last checkpoint by --weights in another --output", file=sys.stderr)  # fmt: skip
        return 1
    except Interrupted as message:
        if own_world().is_first:
            print(f"train: {message}; the same command with --resume goes on", file=sys.stderr)
        return 130
    except KeyboardInterrupt:  # before the first step, or for the second time
        return 130
    if own_world().is_first:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
