"""PEM, Prototype-based Efficient MaskFormer: the network and its weights."""

from importlib.metadata import version

from .checkpoint import CheckpointError, load_network
from .config import PemConfig, fai_pem_m_ade, pem_stdc2_ade
from .decoder import Prediction
from .pem import Pem

__all__ = [
    "CheckpointError",
    "Pem",
    "PemConfig",
    "Prediction",
    "fai_pem_m_ade",
    "load_network",
    "pem_stdc2_ade",
]

__version__ = version("pemseg")
