"""Import the weights of a PEM network: a checkpoint in, fp16 safetensors out.

    ./run import-weights checkpoint.pth    # to artifacts/weights/checkpoint.safetensors
    ./run export --weights artifacts/weights/checkpoint.safetensors

Accepts files of the original code (`{"model": ...}`) and safetensors of this project, of either
variant. The report of keys goes to stderr, the path of the new file to stdout.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pem_server.checkout import ROOT
from pem_server.console import log
from pemseg.checkpoint import CheckpointError, load_network, save_state

FOLDER = ROOT / "artifacts" / "weights"


def import_weights(source: Path, target: Path) -> Path:
    """Load `source` strictly and write its weights to `target`; returns `target`.

    Raises CheckpointError when the file is not such a checkpoint.
    """
    network = load_network(source)
    save_state(network, target)
    parameters = sum(value.numel() for value in network.parameters())
    log(f"{source}: every key fits; {parameters:,} parameters, {network.config}")
    return target


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="run import-weights", description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="a .pth of the original code, or safetensors")
    parser.add_argument(
        "--output", type=Path, help="default: artifacts/weights/CHECKPOINT.safetensors"
    )
    options = parser.parse_args(argv)
    target = options.output or FOLDER / f"{options.checkpoint.stem}.safetensors"
    try:
        print(import_weights(options.checkpoint, target))
    except (CheckpointError, OSError) as error:
        log(f"import-weights: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
