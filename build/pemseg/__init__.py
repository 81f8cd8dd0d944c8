"""PEM, Prototype-based Efficient MaskFormer: the network, its weights and its serving form."""

from .checkpoint import CheckpointError, load_network
from .config import PemConfig, fai_pem_m_ade, pem_stdc2_ade
from .decoder import Prediction
from .model import Pem
from .serving import ServingPem

__all__ = [
    "CheckpointError",
    "Pem",
    "PemConfig",
    "Prediction",
    "ServingPem",
    "fai_pem_m_ade",
    "load_network",
    "pem_stdc2_ade",
]
