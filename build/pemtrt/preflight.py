"""Check that the server may start with an engine: its manifest against machine and configuration.

    python -m pemtrt.preflight --repository model_repository --config-name t4
    python -m pemtrt.preflight --repository ... --config-name t4 -- tritonserver ...

Prints one line per problem to stderr and exits with 1, or one line about what fits and exits with
0; a command after -- replaces this process instead of exiting with 0. Runs in the serving image,
which has neither torch nor onnx.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from pem_server.console import log
from pem_server.model_config import config_path, parse_model_config
from pemtrt import gpu_info
from pemtrt.gpu_info import Gpu, Machine
from pemtrt.manifest import (
    BUILD_AGAIN,
    EngineError,
    Manifest,
    Profile,
    Tensor,
    manifest_path,
    read_manifest,
    sha256,
)

TENSORRT = ("tensorrt_plan", "tensorrt")  # the platform's name and the backend's
# The first compute capability with each type; an older GPU, such as a T4 with 7.5, lacks it.
FIRST_CAPABILITY = {"BF16": (8, 0), "FP8": (8, 9), "FP4": (10, 0)}
LABELS = Path("pem_postprocess") / "labels.txt"


def main(argv: Sequence[str] | None = None) -> int:
    """0 when the server may start, 1 with one line per problem, 2 for wrong options."""
    options = _parser().parse_args(argv)
    try:
        found = check(
            options.repository, options.config_name, options.backend, options.accept_driver
        )
    except (EngineError, OSError, ValueError) as error:
        found = [str(error)]
    for problem in found:
        log(f"preflight: {problem}")
    if not found and options.command:
        sys.stdout.flush()
        os.execvp(options.command[0], options.command)
    return 1 if found else 0


def check(
    repository: Path, config_name: str | None, backend: Path, accept_driver: bool = False
) -> list[str]:
    """The problems that keep the server from starting; when there are none, prints what fits.

    `backend` is the server's TensorRT backend. EngineError or ValueError for unreadable files.
    """
    models = list(engine_models(repository, config_name))
    if not models:
        print("preflight: no model of this configuration is a TensorRT engine")
        return []
    machine = gpu_info.this_machine(backend)
    found = []
    for model in models:
        found += problems(model, config_path(model, config_name), machine, accept_driver)
    if not found:
        print(f"preflight: the engine fits TensorRT {machine.tensorrt} on {machine.gpus[0].name}")
    return found


def engine_models(repository: Path, config_name: str | None) -> Iterator[Path]:
    """The folder of every model that runs an engine. EngineError."""
    if not repository.is_dir():
        raise EngineError(f"the model repository {repository} is not a folder; see --repository")
    if config_name and not any(repository.glob(f"*/configs/{config_name}.pbtxt")):
        raise EngineError(
            f"no model in {repository} has configs/{config_name}.pbtxt, so Triton would silently "
            "serve config.pbtxt; change --config-name"
        )
    for model in sorted(folder for folder in repository.iterdir() if folder.is_dir()):
        path = config_path(model, config_name)
        if path.is_file():
            config = parse_model_config(path)
            if config.backend in TENSORRT or config.platform in TENSORRT:
                yield model


def problems(
    model: Path, config_file: Path, machine: Machine, accept_driver: bool = False
) -> list[str]:
    """The problems that keep the engine of one model from running."""
    config = parse_model_config(config_file)
    engine = engine_path(model, config)
    if not engine.is_file():
        return [f"the engine {engine} is missing; build it on this machine with ./run engine"]
    manifest = read_manifest(manifest_path(engine))
    gpus = dict.fromkeys(machine.gpus)
    return [
        *file_problems(manifest, engine),
        *machine_problems(manifest, machine, accept_driver),
        *(p for gpu in gpus for p in missing_types(manifest.onnx_types, gpu)),
        *config_problems(manifest.tensors, manifest.profile, config, config_file),
        *label_problems(manifest, model.parent / LABELS),
    ]


def engine_path(model: Path, config: ModelConfig) -> Path:
    """The file that Triton loads: of the model's highest version."""
    versions = [int(folder.name) for folder in model.iterdir() if folder.name.isdecimal()]
    name = config.default_model_filename or "model.plan"
    return model / str(max(versions, default=1)) / name


def file_problems(manifest: Manifest, engine: Path) -> Iterator[str]:
    """The manifest must describe this very file."""
    size = engine.stat().st_size
    if size != manifest.engine_bytes:
        yield (
            f"{engine} has {size} bytes, its manifest states {manifest.engine_bytes}; copy both "
            f"files again, or {BUILD_AGAIN}"
        )
    elif sha256(engine) != manifest.engine_sha256:
        yield (
            f"{engine} has another checksum than its manifest states; copy both files again, or "
            f"{BUILD_AGAIN}"
        )


def machine_problems(
    manifest: Manifest, machine: Machine, accept_driver: bool = False
) -> Iterator[str]:
    """The engine must have been built by this TensorRT, on this kind of GPU, with this driver."""
    if manifest.tensorrt != machine.tensorrt:
        yield (
            f"the engine was built by TensorRT {manifest.tensorrt}, which the server's TensorRT "
            f"{machine.tensorrt} cannot load; {BUILD_AGAIN} in the serving image"
        )
    for ordinal, gpu in enumerate(machine.gpus):
        built, found = f"a {manifest.gpu}", f"a {gpu.name}"
        if gpu.capability != manifest.capability:
            built, found = (
                f"compute capability {manifest.capability}",
                f"{gpu.name} with compute capability {gpu.capability}",
            )
        if built != found:
            yield (
                f"the engine was built for {built}, but GPU {ordinal} is {found}; {BUILD_AGAIN} "
                "on this machine, or hide that GPU with CUDA_VISIBLE_DEVICES"
            )
    if manifest.driver != machine.driver and not accept_driver:
        yield (
            f"the engine was built with driver {manifest.driver}, but this machine has "
            f"{machine.driver}; {BUILD_AGAIN}, or pass --accept-driver once you have tested it"
        )


def missing_types(types: Sequence[str], gpu: Gpu) -> Iterator[str]:
    """The GPU must support the number types of the graph."""
    for kind, first in FIRST_CAPABILITY.items():
        if kind in types and tuple(map(int, gpu.capability.split("."))) < first:
            yield (
                f"the graph computes in {kind}, which needs compute capability "
                f"{first[0]}.{first[1]}, but the {gpu.name} has {gpu.capability}; export it with "
                "--precision fp16 or int8 and build its engine"
            )


def config_problems(
    tensors: Sequence[Tensor], profile: Profile, config: ModelConfig, config_file: Path
) -> Iterator[str]:
    """Names, types, dims and batch sizes must be those of the configuration."""
    for kind, in_config, is_input in (
        ("input", config.input, True),
        ("output", config.output, False),
    ):
        stated = {tensor.name: tensor for tensor in in_config}
        built = {tensor.name: tensor for tensor in tensors if tensor.is_input == is_input}
        if set(stated) != set(built):
            yield (
                f"{config_file} names the {kind}s {_listed(stated)}, but the engine has "
                f"{_listed(built)}; export the graph again and build its engine"
            )
        for name in sorted(set(stated) & set(built)):
            expected = _tensor(DataType.Name(stated[name].data_type), [-1, *stated[name].dims])
            given = _tensor(built[name].type, built[name].dims)
            if expected != given:
                yield (
                    f"{config_file} states {expected} for {kind} {name}, but the engine has "
                    f"{given}; correct the configurations, or export the graph with their sizes "
                    "and build its engine"
                )
    yield from batch_problems(profile, config, config_file)


def batch_problems(profile: Profile, config: ModelConfig, config_file: Path) -> Iterator[str]:
    """Every batch that the server forms must lie within the engine's profile."""
    largest = config.max_batch_size
    if not 1 == profile.smallest <= largest <= profile.largest:
        yield (
            f"{config_file} allows batches of 1 to {largest}, but the engine's profile takes "
            f"{profile.smallest} to {profile.largest}; change max_batch_size, or build the engine "
            f"with --max-batch {largest}"
        )
    sizes = [spec.batch_size for spec in config.optimization.cuda.graph_spec]
    if beyond := [size for size in sizes if not 1 <= size <= largest]:
        yield (
            f"{config_file} records CUDA graphs for batches of {_listed(beyond)}, but "
            f"max_batch_size is {largest}; remove those graph_spec"
        )


def label_problems(manifest: Manifest, labels: Path) -> Iterator[str]:
    """The server's class names must be those that the graph was trained with."""
    if not (labels.is_file() and manifest.class_names):  # a graph may come without names
        return
    if labels.read_text(encoding="utf-8").splitlines() != manifest.class_names:
        yield (
            f"{labels} lists other classes than the {len(manifest.class_names)} of the engine; "
            "put the matching file there, or build the engine of its graph"
        )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values)) or "nothing"


def _tensor(kind: str, dims: list[int]) -> str:
    return f"{kind} {dims}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pemtrt.preflight", description=(__doc__ or "").split("\n")[0]
    )

    def add(name: str, text: str, **more: Any) -> None:
        parser.add_argument(name, help=text, **more)

    add(
        "--repository",
        "the model repository; default %(default)s",
        type=Path,
        default=Path("model_repository"),
    )
    add("--config-name", "the server's --model-config-name; t4 on a T4", metavar="NAME")
    add(
        "--backend",
        "the server's TensorRT backend; default %(default)s",
        type=Path,
        default=gpu_info.BACKEND,
    )
    add("--accept-driver", "allow another driver than the engine's", action="store_true")
    add("command", "after --: run instead of exiting with 0", nargs="*", metavar="COMMAND")
    return parser


if __name__ == "__main__":
    sys.exit(main())
