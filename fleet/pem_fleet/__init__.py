"""How many servers a load needs: the autoscaling loop, tested for real and simulated."""

from importlib.metadata import version

__version__ = version("pem_fleet")
