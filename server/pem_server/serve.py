"""tritonserver alone on this machine until Ctrl-C, for containers until the gateway is in them."""

import time
from pathlib import Path

from pem_server import repository_check
from pem_server.console import log
from pem_server.local_server import LocalServerError, TritonServer
from pem_server.server_log import Reporter
from pem_server.stub_network import Cost


def serve(
    repository: Path,
    *,
    config_name: str | None = None,
    stub_network: Cost | None = None,
    verbose: bool = False,
    **ports: int,
) -> int:
    """Serve until Ctrl-C, SIGTERM or SIGHUP (0), or until the server fails (1).

    `stub_network` replaces the network by a stub of that cost; config_name must be None then.
    `ports`: http_port, grpc_port and metrics_port of `TritonServer`.
    """
    reporter = Reporter(log)
    if problems := repository_check.repository_problems(
        repository, config_name, stub_network=bool(stub_network)
    ):
        log("\n".join(problems))
        return 1
    try:
        server = TritonServer(
            repository,
            config_name=config_name,
            stub_network=stub_network,
            verbose=verbose,
            on_log=log if verbose else reporter,
            **ports,
        )
        with server:
            _serve_until_interrupted(server, reporter, stub_network)
    except (LocalServerError, OSError) as error:
        log(str(error))
        return 1
    return 0


def wait_ready(server: TritonServer, reporter: Reporter) -> None:
    """Wait for a started server, log how long it took, then pass on its own log."""
    began = time.monotonic()
    log("starting the server ...")
    server.wait_until_ready()
    log(f"ready after {time.monotonic() - began:.1f} s")
    reporter.release()


def _serve_until_interrupted(
    server: TritonServer, reporter: Reporter, stub_network: Cost | None
) -> None:
    try:
        wait_ready(server, reporter)
        print(_welcome(server), flush=True)
        if stub_network:
            print(f"  THE NETWORK IS A STUB: {stub_network}. It recognizes nothing.\n", flush=True)
        server.wait()
    except KeyboardInterrupt:
        log("\nstopping, a few seconds; Ctrl-C again stops at once")


def _welcome(server: TritonServer) -> str:
    return f"""
  gRPC     grpc://{server.grpc_url}
  HTTP     http://{server.http_url}
  metrics  {server.metrics_url}

  try      ./run segment IMAGE --url grpc://{server.grpc_url} --overlay overlay.png
  stop     Ctrl-C
"""
