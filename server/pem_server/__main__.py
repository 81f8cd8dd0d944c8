"""`python -m pem_server serve`: the name that `python -m pem_gateway serve` had in 0.1."""

from importlib import import_module

from pem_server.console import log


def main() -> int:
    """Run the gateway's command line."""
    log("warning: python -m pem_server is now python -m pem_gateway; 0.3 will not have this name")
    return int(import_module("pem_gateway.cli").main())


if __name__ == "__main__":
    raise SystemExit(main())
