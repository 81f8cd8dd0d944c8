"""Build the TensorRT engine that the server runs on a GPU, and install it in the model repository.

    ./run engine                        # for the GPU of this machine; needs TensorRT
    ./run engine --check model.onnx     # on any machine: does NVIDIA's parser read a graph?
    ./run engine --compile model.onnx   # and does it compile for a T4?

See pemtrt/.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pem_server.checkout import MODEL_REPOSITORY, ROOT
from pem_server.console import log
from pemtrt import gpu_info
from pemtrt.build_options import BuildOptions
from pemtrt.engine_build import BuildPaths, make_engine
from pemtrt.graph_types import load
from pemtrt.manifest import EngineError, Profile
from pemtrt.rtx_parser import parse_graph, rtx_version

NETWORK = MODEL_REPOSITORY / "pem_network"
ARTIFACTS = ROOT / "artifacts" / "engine"
INTERRUPTED = 130
GIB, MIB = 2**30, 2**20


def main(argv: Sequence[str] | None = None) -> int:
    """0 with the engine's path on stdout; 1 with an error message; 130 when interrupted."""
    options = _parser().parse_args(argv)
    try:
        if graph := options.compile or options.check:
            print_check(graph, compile_for_t4=bool(options.compile))
            return 0
        manifest = make_engine(_paths(options), _build_options(options))
    except (EngineError, OSError, ValueError) as error:
        log(f"engine: {error}")
        return 1
    except KeyboardInterrupt:
        log("engine: interrupted; nothing was changed")
        return INTERRUPTED
    log(
        f"{manifest.precision} engine of {manifest.engine_bytes / MIB:.0f} MiB in "
        f"{manifest.build_seconds:.0f} s; {manifest.activation_bytes / MIB:.0f} MiB of activations"
    )
    print(options.output)
    return 0


def print_check(graph: Path, compile_for_t4: bool) -> None:
    """Parse a graph without a GPU, and compile it if that is wanted. EngineError if it fails."""
    model = load(graph)
    engine_bytes = parse_graph(graph, log, compile_for_t4)
    kinds = sorted({node.op_type for node in model.graph.node})
    print(f"{graph}: {rtx_version()} parses its {len(model.graph.node)} nodes: {', '.join(kinds)}")
    if compile_for_t4:
        print(f"compiles for a T4 (sm_75): {engine_bytes / MIB:.1f} MiB; neither run nor timed")


def _paths(options: argparse.Namespace) -> BuildPaths:
    return BuildPaths(
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
    default = BuildOptions()
    parser = argparse.ArgumentParser(
        prog="./run engine", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("--check", type=Path, metavar="ONNX", help="only parse a graph; needs no GPU")
    add("--compile", type=Path, metavar="ONNX", help="parse a graph, compile it for a T4; no GPU")
    for name, value, text in (
        ("--onnx", NETWORK / "1" / "model.onnx", "the graph"),
        ("--output", NETWORK / "1" / "model.plan", "the engine; its manifest goes beside it"),
        ("--config", NETWORK / "configs" / "t4.pbtxt", "the configuration that will serve it"),
        ("--timing-caches", ARTIFACTS / "timing-caches", "folder of kernel timings"),
        ("--report", ARTIFACTS, "folder for layers.json and layers.md"),
        ("--backend", gpu_info.BACKEND, "the server's backend; its TensorRT must be Python's"),
    ):
        add(name, type=Path, default=value, metavar="PATH", help=f"{text}; default %(default)s")
    profile = default.profile
    for name, kind, number, text in (
        ("--min-batch", int, profile.smallest, "the smallest batch"),
        ("--opt-batch", int, profile.best, "the batch to be fastest at; 8 for throughput"),
        ("--max-batch", int, profile.largest, "the largest batch"),
        ("--workspace-gib", float, default.workspace_bytes / GIB, "scratch memory of one layer"),
        ("--optimization-level", int, default.optimization_level, "0 to 5: search for kernels"),
    ):
        add(name, type=kind, default=number, metavar="N", help=f"{text}; default %(default)s")
    # Of 0.1, when a list of operators could refuse a graph that the parser takes.
    add("--unproven", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
