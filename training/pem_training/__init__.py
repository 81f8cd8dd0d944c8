"""Training and evaluation of the PEM network."""

from importlib.metadata import version

__version__ = version("pem_training")
