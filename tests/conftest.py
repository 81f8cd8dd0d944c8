"""What every test may ask for: the repository's root and the material that lies beside it."""

import importlib.util
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pemseg import Pem

ROOT = Path(__file__).resolve().parents[1]

TINY = {
    "classes": 7,
    "queries": 10,
    "decoder_width": 64,
    "pixel_width": 16,
    "ffn_width": 32,
    "backbone_base": 16,
    "backbone_blocks": (2, 1, 1),
}


def pytest_configure() -> None:
    """A suite that runs in the background has Ctrl-C ignored, and so would have all it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Fixtures, photographs and checkpoints that are too large for the project."""
    folder = ROOT.parent / "shared"
    if not (folder / "fixtures").is_dir():
        pytest.skip("needs the material of the project's makers in ../shared, which is not here")
    return folder


@pytest.fixture
def load_source() -> Callable[[Path], ModuleType]:
    """Import one self-contained file of the model repository, which is no package."""

    def load(path: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def tiny_network() -> Callable[..., "Pem"]:
    """Build a PEM network that runs in milliseconds, of either variant, seeded.

    Its batch norms are away from the identity, so that folding them is no empty exercise.
    """
    import torch  # here, because the tests of the server and the client do without

    from pemseg import Pem, PemConfig

    def build(seed: int = 0, **changes: object) -> "Pem":
        torch.manual_seed(seed)
        network = Pem(PemConfig(**(TINY | changes)))  # type: ignore[arg-type]
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(module.running_mean, 0, 0.2)
                torch.nn.init.uniform_(module.running_var, 0.5, 2)
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.normal_(module.bias, 0, 0.2)
        return network.eval()

    return build
