"""Train a PEM network on a labelled folder.

    ./run train --data FOLDER --output artifacts/training

After an interruption or a kill, the same command with --resume continues from the last
checkpoint, with the result of an unbroken run. Several GPUs:

    .venv/bin/torchrun --nproc-per-node 4 -m pem_training.train ...

In the output folder: checkpoint.pth, best.pth (by mIoU on the validation split), curve.png,
history.jsonl and tensorboard/ (view it with .venv/bin/tensorboard --logdir FOLDER).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from pem_server.console import accept_old_options, log
from pem_training.backbone_weights import load_backbone
from pem_training.dataset import find_inputs
from pem_training.distributed import (
    World,
    destroy_process_group,
    environment_world,
    init_process_group,
)
from pem_training.loop import Interrupted, run
from pem_training.settings import Settings, SettingsError
from pemexport.repository_steps import ImageError
from pemseg import CheckpointError, Pem, load_network
from pemseg.config import VARIANTS


def train(settings: Settings, *, resume: bool = False) -> Path:
    """Train with `settings`, alone or as one of torchrun's processes.

    Returns the path of the last checkpoint. Raises DataError, CheckpointError or SettingsError
    before the first step, and what `loop.run` raises.
    """
    kind = settings.device
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    world = init_process_group(kind)
    try:
        # Batch norm over 1 x 1 maps needs two images.
        if settings.batch % world.size or settings.batch < 2 * world.size:
            raise SettingsError(
                f"--batch must be a multiple of the {world.size} processes and at least 2 images "
                f"for each, got {settings.batch}"
            )
        device = torch.device(f"cuda:{world.local_rank}" if kind == "cuda" else "cpu")
        network = make_network(settings, world)
        inputs = find_inputs(settings, network.config.classes, world)
        return run(settings, network, inputs, device, world, resume=resume)
    finally:
        destroy_process_group()


def make_network(settings: Settings, world: World) -> Pem:
    """The network to start from: given weights, or random ones drawn from the seed."""
    if settings.weights is not None:
        return load_network(settings.weights)
    torch.manual_seed(settings.seed)
    network = Pem(VARIANTS[settings.variant]())
    if settings.backbone is not None:
        tensors = load_backbone(network, settings.backbone)
        if world.is_first:
            log(f"{settings.backbone}: all {tensors} tensors fit the backbone")
    return network


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="run train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    Settings.add_options(parser)
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    options = parser.parse_args(
        accept_old_options(sys.argv[1:] if argv is None else argv, {"--colour": "--color"})
    )
    try:
        path = train(Settings.from_options(options), resume=options.resume)
    except (CheckpointError, ImageError, SettingsError, OSError) as error:
        log(f"train: {error}")
        return 1
    except FloatingPointError as error:
        log(f"train: {error}; start again with a lower --lr or --precision float32, from the last "
            "checkpoint as --weights, in another --output")  # fmt: skip
        return 1
    except Interrupted as message:
        if environment_world().is_first:
            log(f"train: {message}; add --resume to the same command to continue")
        return 130
    except KeyboardInterrupt:  # before the first step, or for the second time
        return 130
    if environment_world().is_first:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
