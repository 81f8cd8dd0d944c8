"""Reduced precision: FP16 and INT8 graphs, and the accuracy gate that each must pass."""

from importlib.metadata import version

__version__ = version("pemseg")
