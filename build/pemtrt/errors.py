"""The one error of this package."""


class EngineError(RuntimeError):
    """No engine can be built, or none may be run: what must hold, what was found, what to do."""
