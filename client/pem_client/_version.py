"""The version of the whole repository; every pyproject.toml reads it from here."""

__version__ = "0.2.0"
