"""`python -m pem_server serve`: the name that `python -m pem_gateway serve` had in 0.1.

Forwards for one release. Where the gateway is not installed, as in the container images, it starts
tritonserver alone.
"""

from importlib import import_module, util

from pem_server.console import log


def main() -> int:
    """Run the gateway's command line, or that of the server alone."""
    if util.find_spec("pem_gateway") is None:
        return int(import_module("pem_server.cli").main())
    log("warning: python -m pem_server is now python -m pem_gateway; 0.3 will not have this name")
    return int(import_module("pem_gateway.cli").main())


if __name__ == "__main__":
    raise SystemExit(main())
