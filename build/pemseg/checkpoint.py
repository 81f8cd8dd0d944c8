"""Load and save weights: original PEM checkpoints, safetensors, and a strict report of keys.

The original code saves `{"model": state_dict, ...}` with every backbone tensor twice
(`backbone.features.N...` and `backbone.x32.M...`), the loss's class weights under `criterion.`,
and in old files `static_query` for `query_feat`. Only this file handles that.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .config import PemConfig
from .decoder import LEVELS
from .pem import Pem

State = dict[str, Tensor]

ALIAS = re.compile(r"backbone\.x\d+\.")  # the original's slices of `features`
PREDICTOR = "sem_seg_head.predictor."
PIXEL_DECODER = "sem_seg_head.pixel_decoder."


class CheckpointError(ValueError):
    """A file that cannot be loaded as the weights of a PEM network; the message says why."""


@dataclass(frozen=True)
class KeyReport:
    """How the keys of a checkpoint compare with those of a network."""

    matched: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.misshapen)

    def __str__(self) -> str:
        lines = [f"{self.matched} keys match"]
        for kind in ("missing", "unexpected", "misshapen"):
            keys = getattr(self, kind)
            if keys:
                shown = ", ".join(keys[:5]) + (", ..." if len(keys) > 5 else "")
                lines.append(f"{len(keys)} {kind}: {shown}")
        return "; ".join(lines)


def load_network(path: Path) -> Pem:
    """The network whose weights are in `path`, float32, in evaluation mode.

    Its configuration (layers, widths, kind of convolution) is read from the shapes.
    Raises CheckpointError if the file is not a PEM checkpoint or does not fit.
    """
    state = read_state(path)
    network = Pem(infer_config(state, path))
    report = compare_keys(network, state)
    if not report.fits:
        raise CheckpointError(f"{path} does not fit the network it describes: {report}")
    network.load_state_dict(state, strict=False)  # compare_keys was strict, but for batch counters
    return network.eval()


def read_state(path: Path) -> State:
    """The tensors of a checkpoint under this project's keys, types as stored."""
    if not path.is_file():
        raise CheckpointError(f"the checkpoint {path} does not exist")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    return {_rename(key): value for key, value in content.items() if not _is_surplus(key)}


def save_state(network: Pem, path: Path) -> None:
    """Write the weights as fp16 safetensors; batch norm statistics beyond fp16 are refused."""
    state = {key: _to_half(key, value) for key, value in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    path.chmod(0o644)  # the library makes it readable by the owner alone


def infer_config(state: Mapping[str, Tensor], path: Path) -> PemConfig:
    """Read the configuration from the shapes of the weights."""

    def shape(key: str) -> torch.Size:
        if key not in state:
            raise CheckpointError(
                f"{path} must hold the weights of a PEM network, but has no {key}; "
                "expected a checkpoint of the original code or a file written by this project"
            )
        return state[key].shape

    queries, width = shape(PREDICTOR + "query_feat.weight")
    layer = re.compile(re.escape(PREDICTOR) + r"transformer_ffn_layers\.(\d+)\.")
    numbers = {int(found[1]) for key in state if (found := layer.match(key))}
    stem_width = shape("backbone.features.1.conv.weight")[0]
    return PemConfig(
        classes=shape(PREDICTOR + "class_embed.weight")[0] - 1,
        queries=queries,
        layers=max(numbers, default=0) + 1,
        deformable=PIXEL_DECODER + "dcn.0.dcn_offset.weight" in state,
        decoder_width=width,
        pixel_width=shape(PIXEL_DECODER + "dcn.0.dcn.weight")[0],
        ffn_width=shape(PREDICTOR + "transformer_ffn_layers.0.linear1.weight")[0],
        backbone_base=stem_width,
        backbone_blocks=_count_blocks(state, stem_width),
    )


def compare_keys(network: Pem, state: Mapping[str, Tensor]) -> KeyReport:
    """Compare names and shapes. Batch counters may be absent: no result depends on them."""
    own = network.state_dict()
    shared = own.keys() & state.keys()
    misshapen = [
        f"{key} (must be {tuple(own[key].shape)}, got {tuple(state[key].shape)})"
        for key in sorted(shared)
        if own[key].shape != state[key].shape
    ]
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    return KeyReport(
        matched=len(shared) - len(misshapen),
        missing=tuple(missing),
        unexpected=tuple(key for key in state if key not in own),
        misshapen=tuple(misshapen),
    )


def weights_checksum(network: Pem) -> str:
    """SHA-256 over names and float32 values: equal for equal weights in any file format."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        if not key.endswith("num_batches_tracked"):
            digest.update(key.encode())
            digest.update(value.float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read_safetensors(path: Path) -> State:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from None


def _read_pickle(path: Path) -> State:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes make the unpickler raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is not a readable PyTorch checkpoint: {reason}") from None
    state = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(
            f"{path} must hold a dictionary whose entry 'model' is the state dict, "
            f"got {_describe(content)}"
        )
    return dict(state)


def _describe(content: object) -> str:
    if isinstance(content, Mapping):
        return "a dictionary with the entries " + ", ".join(sorted(map(str, content))[:5])
    return f"a {type(content).__name__}"


def _is_surplus(key: str) -> bool:
    return key.startswith("criterion.") or ALIAS.match(key) is not None


def _rename(key: str) -> str:
    return key.replace(".static_query.", ".query_feat.")


def _to_half(key: str, value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    half = value.half()
    if not torch.isfinite(half).all():
        raise CheckpointError(f"{key} has values beyond the range of fp16 (65504)")
    return half


def _count_blocks(state: Mapping[str, Tensor], stem_width: int) -> tuple[int, int, int]:
    """Blocks in each backbone stage, distinguished by the width of their first convolution."""
    block = re.compile(r"backbone\.features\.\d+\.conv_list\.0\.conv\.weight")
    halves = [value.shape[0] for key, value in state.items() if block.fullmatch(key)]
    first, second, third = (halves.count(2 * stem_width * 2**stage) for stage in range(LEVELS))
    return first, second, third
