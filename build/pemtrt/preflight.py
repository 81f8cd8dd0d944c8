"""Whether the server may start with an engine: its manifest against machine and configuration.

    python -m pemtrt.preflight --repository model_repository --config-name t4
    python -m pemtrt.preflight --repository ... --config-name t4 -- tritonserver ...

One sentence a reason on stderr and exit code 1, or one line that says what fits and 0; with a
command behind --, that command instead of 0. Runs in the serving image: nothing but Python is
needed, no TensorRT, no torch.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pemtrt import gpu_info, pbtxt
from pemtrt.errors import EngineError
from pemtrt.gpu_info import Gpu, Machine
from pemtrt.manifest import (
    BUILD_AGAIN,
    Manifest,
    Profile,
    Tensor,
    manifest_path,
    read_manifest,
    sha256,
)

TENSORRT = ("tensorrt_plan", "tensorrt")  # the platform's name and the backend's
# The first compute capability with each type, and what an older one, such as a T4's 7.5, lacks.
FIRST_CAPABILITY = {"BF16": (8, 0), "FP8": (8, 9), "FP4": (10, 0)}
LABELS = Path("pem_postprocess") / "labels.txt"


def main(argv: Sequence[str] | None = None) -> int:
    """Check; 0 when the server may start, 1 with a sentence a reason, 2 for wrong options."""
    options = _parser().parse_args(argv)
    try:
        found = check(
            options.repository, options.config_name, options.backend, options.accept_driver
        )
    except (EngineError, OSError, ValueError) as error:
        found = [str(error)]
    for problem in found:
        print(f"preflight: {problem}", file=sys.stderr)
    if not found and options.command:
        sys.stdout.flush()
        os.execvp(options.command[0], options.command)
    return 1 if found else 0


def check(
    repository: Path, config_name: str | None, backend: Path, accept_driver: bool = False
) -> list[str]:
    """What keeps the server from starting, a sentence each; without any, prints what fits.

    `backend` is the server's TensorRT backend. EngineError or ValueError for what cannot be read.
    """
    configs = list(engine_configs(repository, config_name))
    if not configs:
        print("preflight: no model of this configuration is a TensorRT engine")
        return []
    here = gpu_info.this_machine(backend)
    found = [p for config in configs for p in problems(repository, config, here, accept_driver)]
    if not found:
        print(f"preflight: the engine fits TensorRT {here.tensorrt} on {here.gpus[0].name}")
    return found


def engine_configs(repository: Path, config_name: str | None) -> Iterator[Path]:
    """The configuration of every model that runs an engine, as Triton picks it. EngineError."""
    if not repository.is_dir():
        raise EngineError(
            f"The model repository must be a folder, and {repository} is none: name another with "
            "--repository."
        )
    if config_name and not any(repository.glob(f"*/configs/{config_name}.pbtxt")):
        raise EngineError(
            f"A model must have configs/{config_name}.pbtxt, and none in {repository} has: Triton "
            "would serve config.pbtxt without a word; change --config-name."
        )
    for model in sorted(folder for folder in repository.iterdir() if folder.is_dir()):
        config = model / "configs" / f"{config_name}.pbtxt"
        if not config.is_file():
            config = model / "config.pbtxt"
        if config.is_file():
            message = pbtxt.read(config)
            if _first(message, "backend") in TENSORRT or _first(message, "platform") in TENSORRT:
                yield config


def problems(
    repository: Path, config: Path, here: Machine, accept_driver: bool = False
) -> list[str]:
    """What keeps the engine of one configuration from running; a sentence each."""
    message = pbtxt.read(config)
    engine = engine_path(repository / config.relative_to(repository).parts[0], message)
    if not engine.is_file():
        return [f"The engine {engine} is missing: build it on this machine with ./run engine."]
    manifest = read_manifest(manifest_path(engine))
    return [
        *file_problems(manifest, engine),
        *machine_problems(manifest, here, accept_driver),
        *(p for gpu in dict.fromkeys(here.gpus) for p in missing_types(manifest.onnx_types, gpu)),
        *config_problems(manifest.tensors, manifest.profile, message, config),
        *label_problems(manifest, repository / LABELS),
    ]


def engine_path(model: Path, config: pbtxt.Message) -> Path:
    """The file that Triton loads: of the model's highest version."""
    versions = [int(folder.name) for folder in model.iterdir() if folder.name.isdecimal()]
    name = _first(config, "default_model_filename") or "model.plan"
    return model / str(max(versions, default=1)) / str(name)


def file_problems(manifest: Manifest, engine: Path) -> Iterator[str]:
    """The manifest must speak of this very file."""
    size = engine.stat().st_size
    if size != manifest.engine_bytes:
        yield (
            f"{engine} must have the {manifest.engine_bytes} bytes that its manifest states, and "
            f"has {size}: copy both files again, or {BUILD_AGAIN}."
        )
    elif sha256(engine) != manifest.engine_sha256:
        yield (
            f"{engine} must be the file that its manifest describes, and its checksum differs: "
            f"copy both files again, or {BUILD_AGAIN}."
        )


def machine_problems(
    manifest: Manifest, here: Machine, accept_driver: bool = False
) -> Iterator[str]:
    """The engine must have been built by this TensorRT, on this kind of GPU, with this driver."""
    if manifest.tensorrt != here.tensorrt:
        yield (
            f"The engine was built by TensorRT {manifest.tensorrt}, and the server has "
            f"{here.tensorrt}, which cannot load it: {BUILD_AGAIN} in the serving image."
        )
    for ordinal, gpu in enumerate(here.gpus):
        if gpu.capability != manifest.capability:
            yield (
                f"The engine was built for compute capability {manifest.capability}, and GPU "
                f"{ordinal} ({gpu.name}) has {gpu.capability}: {BUILD_AGAIN} on this machine, or "
                "hide that GPU with CUDA_VISIBLE_DEVICES."
            )
        elif gpu.name != manifest.gpu:
            yield (
                f"The engine was tuned on a {manifest.gpu}, and GPU {ordinal} is a {gpu.name}: "
                f"{BUILD_AGAIN} on this machine, or hide that GPU with CUDA_VISIBLE_DEVICES."
            )
    if manifest.driver != here.driver and not accept_driver:
        yield (
            f"The engine was built with driver {manifest.driver}, and this machine has "
            f"{here.driver}: {BUILD_AGAIN}, or start with --accept-driver when you have tried "
            "the engine with it."
        )


def missing_types(types: Sequence[str], gpu: Gpu) -> Iterator[str]:
    """The GPU must have the number types of the graph."""
    for kind, first in FIRST_CAPABILITY.items():
        if kind in types and _numbers(gpu.capability) < first:
            yield (
                f"The graph computes in {kind}, which needs compute capability "
                f"{first[0]}.{first[1]}, and the {gpu.name} has {gpu.capability}: export it with "
                "--precision fp16 or int8 and build its engine."
            )


def config_problems(
    tensors: Sequence[Tensor], profile: Profile, message: pbtxt.Message, config: Path
) -> Iterator[str]:
    """Names, types, dims and batch sizes must be those of the configuration."""
    for kind, is_input in (("input", True), ("output", False)):
        stated = {str(_first(tensor, "name")): tensor for tensor in message.get(kind, [])}
        built = {tensor.name: tensor for tensor in tensors if tensor.is_input == is_input}
        if set(stated) != set(built):
            yield (
                f"{config} names the {kind}s {_listed(stated)}, and the engine has "
                f"{_listed(built)}: export the graph again and build its engine."
            )
        for name in sorted(set(stated) & set(built)):
            wanted = (_first(stated[name], "data_type"), [-1, *stated[name].get("dims", [])])
            given = (built[name].type, built[name].dims)
            if wanted != given:
                yield (
                    f"{config} gives {kind} {name} the type and dims {_tensor(*wanted)}, and the "
                    f"engine has {_tensor(*given)}: correct the configurations, or export the "
                    "graph with their sizes and build its engine."
                )
    yield from batch_problems(profile, message, config)


def batch_problems(profile: Profile, message: pbtxt.Message, config: Path) -> Iterator[str]:
    """Every batch that the server forms must lie within the engine's profile."""
    largest = _number(message, "max_batch_size")
    if not 1 == profile.smallest <= largest <= profile.largest:
        yield (
            f"{config} allows batches of 1 to {largest}, and the engine's profile takes "
            f"{profile.smallest} to {profile.largest}: change max_batch_size, or build the engine "
            f"with --max-batch {largest}."
        )
    for optimization in message.get("optimization", []):
        for cuda in optimization.get("cuda", []):
            sizes = [_number(spec, "batch_size") for spec in cuda.get("graph_spec", [])]
            if beyond := [size for size in sizes if not 1 <= size <= largest]:
                yield (
                    f"{config} records CUDA graphs for batches of {_listed(beyond)}, and "
                    f"max_batch_size is {largest}: remove those graph_spec."
                )


def label_problems(manifest: Manifest, labels: Path) -> Iterator[str]:
    """The server must name classes as the graph was trained to."""
    if not (labels.is_file() and manifest.class_names):  # a graph may come without names
        return
    if labels.read_text(encoding="utf-8").splitlines() != manifest.class_names:
        yield (
            f"{labels} must list the {len(manifest.class_names)} classes that the engine was built "
            "for, and lists others: put the matching file there, or build the engine of its graph."
        )


def _first(message: pbtxt.Message, field: str) -> object:
    return message.get(field, [None])[0]


def _number(message: pbtxt.Message, field: str) -> int:
    return int(str(_first(message, field) or 0))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values)) or "nothing"


def _tensor(kind: object, dims: list[int]) -> str:
    return f"{kind} [{', '.join(map(str, dims))}]"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pemtrt.preflight", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        metavar="PATH",
        help="the model repository; default %(default)s",
    )
    parser.add_argument(
        "--config-name", metavar="NAME", help="the server's --model-config-name; t4 on a T4"
    )
    parser.add_argument(
        "--backend",
        type=Path,
        default=gpu_info.BACKEND,
        metavar="PATH",
        help="the server's TensorRT backend; default %(default)s",
    )
    parser.add_argument(
        "--accept-driver",
        action="store_true",
        help="start with another driver than the engine was built with",
    )
    parser.add_argument(
        "command", nargs="*", metavar="COMMAND", help="after --: becomes this, if all fits"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
