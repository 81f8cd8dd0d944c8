"""Build the TensorRT engine that the server runs on a GPU, and put it into the model repository.

    ./run engine                        # for the GPU of this machine; needs TensorRT
    ./run engine --check model.onnx     # prove on any machine that TensorRT takes a graph on a T4

See pemtrt/.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pemtrt import gpu_info, graph_types
from pemtrt.build_options import BuildOptions
from pemtrt.engine_build import Places, make_engine
from pemtrt.errors import EngineError
from pemtrt.manifest import Profile
from pemtrt.parser_check import operator_list, prove

ROOT = Path(__file__).resolve().parents[1]
NETWORK = ROOT / "model_repository" / "pem_network"
ARTIFACTS = ROOT / "artifacts" / "engine"
INTERRUPTED = 130
GIB, MIB = 2**30, 2**20


def main(argv: Sequence[str] | None = None) -> int:
    """0 with the engine's path on stdout; 1 with a sentence; 130 when interrupted."""
    options = _parser().parse_args(argv)
    try:
        if options.check:
            return check(options.check)
        manifest = make_engine(_places(options), _build_options(options), options.unproven)
    except (EngineError, OSError, ValueError) as error:
        print(f"engine: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("engine: stopped; what was there before is unchanged", file=sys.stderr)
        return INTERRUPTED
    print(
        f"{manifest.precision} engine of {manifest.engine_bytes / MIB:.0f} MiB in "
        f"{manifest.build_seconds:.0f} s; {manifest.activation_bytes / MIB:.0f} MiB of activations",
        file=sys.stderr,
    )
    print(options.output)
    return 0


def check(path: Path) -> int:
    """Print the static proof of one graph; 1 when TensorRT would refuse it."""
    model = graph_types.load(path)
    proof = prove(model)
    listed = operator_list()
    kinds = sorted({node.op_type for node in model.graph.node})
    print(f"{path}: {proof.nodes} nodes against {listed.parser} on {listed.architecture}")
    for problem in proof.problems:
        print(f"  {problem}")
    if proof.problems:
        return 1
    print(f"operators, all supported with their types: {', '.join(kinds)}")
    print("uint8 at the ends only; no shape depends on an image; batches of 1 to 8 inferred")
    memory = graph_types.memory(model, proof.values)
    print(f"activations of a batch of {graph_types.BATCHES[-1]} as written, the largest:")
    for name, value, size in memory.largest:
        print(f"  {size / MIB:7.0f} MiB  {value.type} {list(value.shape or ())}  {name}")
    print(f"  {memory.peak_bytes / MIB:7.0f} MiB  at most alive at once; fusion saves some of it")
    return 0


def _places(options: argparse.Namespace) -> Places:
    return Places(
        graph=options.onnx,
        target=options.output,
        config=options.config,
        timing_caches=options.timing_caches,
        report=options.report,
        backend=options.backend,
    )


def _build_options(options: argparse.Namespace) -> BuildOptions:
    return BuildOptions(
        profile=Profile(options.min_batch, options.opt_batch, options.max_batch),
        workspace_bytes=int(options.workspace_gib * GIB),
        optimization_level=options.optimization_level,
    )


def _parser() -> argparse.ArgumentParser:
    usual = BuildOptions()
    parser = argparse.ArgumentParser(
        prog="./run engine", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("--check", type=Path, metavar="ONNX", help="prove a graph instead; needs no GPU")
    paths = {
        "--onnx": (NETWORK / "1" / "model.onnx", "the graph"),
        "--output": (NETWORK / "1" / "model.plan", "the engine; its manifest goes beside it"),
        "--config": (NETWORK / "configs" / "t4.pbtxt", "what is going to serve it"),
        "--timing-caches": (ARTIFACTS / "timing-caches", "folder of kernel timings"),
        "--report": (ARTIFACTS, "folder for layers.json and layers.md"),
        "--backend": (gpu_info.BACKEND, "the server's backend, whose TensorRT must be Python's"),
    }
    for name, (default, meaning) in paths.items():
        add(
            name, type=Path, default=default, metavar="PATH", help=f"{meaning}; default %(default)s"
        )
    add("--min-batch", type=int, default=usual.profile.smallest, metavar="N", help="default 1")
    add(
        "--opt-batch",
        type=int,
        default=usual.profile.best,
        metavar="N",
        help="the batch size to be fastest at; default %(default)s, 8 for throughput",
    )
    add("--max-batch", type=int, default=usual.profile.largest, metavar="N", help="default 8")
    add(
        "--workspace-gib",
        type=float,
        default=usual.workspace_bytes / GIB,
        metavar="GIB",
        help="scratch memory of one layer; default %(default)s",
    )
    add(
        "--optimization-level",
        type=int,
        default=usual.optimization_level,
        metavar="N",
        help="0 to 5: how long to look for kernels; default %(default)s",
    )
    add("--unproven", action="store_true", help="build what the static proof refuses")
    return parser


if __name__ == "__main__":
    sys.exit(main())
