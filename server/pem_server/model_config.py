"""Read config.pbtxt with Triton's own message type: the one reader of the repository."""

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2


def config_path(model: Path, config_name: str | None = None) -> Path:
    """The file that `tritonserver --model-config-name` takes for the folder `model`."""
    named = model / "configs" / f"{config_name}.pbtxt"
    return named if config_name and named.is_file() else model / "config.pbtxt"


def read_model_config(model: Path, config_name: str | None = None) -> model_config_pb2.ModelConfig:
    """The configuration of one model. Raises OSError if it is missing, ValueError if malformed."""
    return parse_model_config(config_path(model, config_name))


def parse_model_config(path: Path) -> model_config_pb2.ModelConfig:
    """The same for one file."""
    try:
        text = path.read_text(encoding="utf-8")
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except (UnicodeDecodeError, text_format.ParseError) as error:
        raise ValueError(f"{path} must be in protobuf's text format: {error}") from error
