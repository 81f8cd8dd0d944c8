"""What every test may use: the checkout, the servers of the suite, a tiny network."""

import importlib.util
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from stub_server import StubServer, running, running_stub

from pem_server import TritonServer

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


# Before a test file imports NumPy or torch, and inherited by all that a test starts. Tests run side
# by side, where several threads for tiny arrays mostly wait for each other.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")


def pytest_configure() -> None:
    """A suite that runs in the background has Ctrl-C ignored, and so would have all it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name for each test the process of pytest-xdist that holds what the test shares with others.

    Two servers are started for the whole suite, each in one process. What a room or a file makes
    once, by a fixture of wider scope than a test, is made in one process, too.
    """
    for item in items:
        if group := _group(item):
            item.add_marker(pytest.mark.xdist_group(group))


def _group(item: pytest.Item) -> str | None:
    if item.get_closest_marker("xdist_group"):
        return None
    fixtures: dict[str, Any] = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    for server in ("stub", "real_server"):
        if server in fixtures:
            return server
    own = [each[-1] for each in fixtures.values() if each[-1].baseid not in ("", "tests")]
    if any(fixture.scope == "session" for fixture in own):
        return str(item.path.parent.name)
    return str(item.path.stem) if any(each.scope == "module" for each in own) else None


@pytest.fixture(scope="session")
def real_server(root: Path) -> Iterator[TritonServer]:
    """The whole `model_repository` in the real tritonserver, on loopback, ready."""
    with running(root / "model_repository") as server:
        yield server


@pytest.fixture(scope="session")
def stub(root: Path) -> Iterator[StubServer]:
    """The same with a stub network, whose cost a test sets."""
    with running_stub(root / "model_repository") as stub:
        yield stub


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
