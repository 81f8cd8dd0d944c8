"""Measurements of the network on this machine, and what a T4 could do at best."""

from importlib.metadata import version

__version__ = version("pem_bench")
