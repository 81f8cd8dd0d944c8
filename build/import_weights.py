"""Bring the weights of a PEM network into the project: a checkpoint in, fp16 safetensors out.

    ./run import-weights checkpoint.pth --output weights.safetensors

Takes files of the original code (`{"model": ...}`) and safetensors of this project, of either
variant. The report of keys goes to stderr, the path of the new file to stdout.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pemexport.contract import WEIGHTS_PATH
from pemseg.checkpoint import CheckpointError, load_network, save_state


def import_weights(source: Path, target: Path) -> Path:
    """Load `source` strictly and write its weights to `target`; returns `target`.

    Raises CheckpointError with one sentence when the file is not such a checkpoint.
    """
    network = load_network(source)
    save_state(network, target)
    parameters = sum(value.numel() for value in network.parameters())
    print(f"{source}: every key fits; {parameters:,} parameters, {network.config}", file=sys.stderr)
    return target


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="run import-weights", description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="a .pth of the original code, or safetensors")
    parser.add_argument("--output", type=Path, default=WEIGHTS_PATH, help="default: %(default)s")
    options = parser.parse_args(argv)
    try:
        print(import_weights(options.checkpoint, options.output))
    except (CheckpointError, OSError) as error:
        print(f"import-weights: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
