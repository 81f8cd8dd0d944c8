"""Learning and measuring: losses, training, evaluation and drawn scenes for the PEM network."""

from importlib.metadata import version

__version__ = version("pem_training")
