"""Which models may be called and what their tensors are, read from the model repository."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2

from pem_server.image_header import Limits
from pem_server.model_config import read_model_config

ENSEMBLE = "fai-pem-m-ade"
CALLABLE = (ENSEMBLE, "pem_network")
LABELS = Path("pem_postprocess", "labels.txt")
# Bytes of one element; BYTES elements carry their own length.
ITEM_SIZE = {
    "BOOL": 1, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "INT8": 1, "INT16": 2,
    "INT32": 4, "INT64": 8, "FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """One input or output. `dims` are those of one image, without the batch."""

    name: str
    datatype: str  # as the protocol spells it: BYTES, FP32, ...
    dims: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True)
class Model:
    """A model that clients may call."""

    name: str
    max_batch: int
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


@dataclass(frozen=True)
class Contract:
    """The repository as clients see it, and what admission needs; sizes are of one image."""

    models: Mapping[str, Model]
    max_image_bytes: int
    max_image_pixels: int
    labels: tuple[str, ...] = ()  # the name of each class
    decoders: int = 1  # processes of pem_preprocess
    batch: int = 1  # images that the network takes at a time

    @property
    def limits(self) -> Limits:
        """What pem_preprocess checks an image by."""
        return Limits(self.max_image_bytes, self.max_image_pixels)

    @property
    def window(self) -> int:
        """Images inside tritonserver that keep every step busy, and no more.

        One is decoded, one is in the network, one or two are on their way or behind it; with
        batches, one batch each.
        """
        return 4 if self.batch == 1 else 3 * self.batch


def load_contract(repository: Path, config_name: str | None = None) -> Contract:
    """Read the contract. OSError or ValueError where a configuration is missing or malformed."""
    models = {name: _model(read_model_config(repository / name, config_name)) for name in CALLABLE}
    preprocess = read_model_config(repository / "pem_preprocess", config_name)
    network = read_model_config(repository / "pem_network", config_name)
    parameters = preprocess.parameters
    return Contract(
        models,
        max_image_bytes=int(parameters["max_image_bytes"].string_value),
        max_image_pixels=int(parameters["max_image_pixels"].string_value),
        labels=tuple((repository / LABELS).read_text(encoding="utf-8").splitlines()),
        decoders=sum(group.count for group in preprocess.instance_group) or 1,
        batch=network.max_batch_size if network.HasField("dynamic_batching") else 1,
    )


def _model(config: model_config_pb2.ModelConfig) -> Model:
    return Model(
        config.name, config.max_batch_size, _tensors(config.input), _tensors(config.output)
    )


def _tensors(configs: Iterable[Any]) -> dict[str, Tensor]:
    return {
        each.name: Tensor(
            each.name, _datatype(each.data_type), tuple(each.dims), getattr(each, "optional", False)
        )
        for each in configs
    }


def _datatype(number: int) -> str:
    """TYPE_STRING is BYTES in the protocol, every other TYPE_X is X."""
    name = str(model_config_pb2.DataType.Name(number)).removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name
