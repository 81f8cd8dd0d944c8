"""`./run serve`: the model repository on this machine until Ctrl-C."""

import contextlib
import sys
import time
from pathlib import Path

from pem_server import repository_check
from pem_server.local_server import LocalServerError, TritonServer
from pem_server.server_log import Reporter
from pem_server.stub_network import Cost, stand_in_repository


def say(text: str) -> None:
    """Tell progress and problems; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


def serve(
    repository: Path,
    *,
    http_port: int,
    grpc_port: int,
    metrics_port: int,
    config_name: str | None = None,
    stand_in: Cost | None = None,
    verbose: bool = False,
) -> int:
    """Serve until Ctrl-C, SIGTERM or SIGHUP (0), or until the server fails (1).

    With `stand_in`, the network is one of that cost, for tests of load; config_name must be None.
    """
    reporter = Reporter(say)
    with contextlib.ExitStack() as stack:
        try:
            if stand_in:
                repository = stack.enter_context(stand_in_repository(repository, stand_in))
            elif problems := repository_check.repository_problems(repository, config_name):
                say("\n".join(problems))
                return 1
            server = TritonServer(
                repository,
                http_port=http_port,
                grpc_port=grpc_port,
                metrics_port=metrics_port,
                config_name=config_name,
                verbose=verbose,
                on_log=say if verbose else reporter,
            )
            with server:
                _serve_until_interrupted(server, reporter, stand_in)
        except (LocalServerError, OSError) as error:
            say(str(error))
            return 1
    return 0


def wait_aloud(server: TritonServer, reporter: Reporter) -> None:
    """Wait for a server that was started, say how long it took, then let its log be seen."""
    began = time.monotonic()
    say("starting the server ...")
    server.wait_until_ready()
    say(f"ready after {time.monotonic() - began:.1f} s")
    reporter.release()


def _serve_until_interrupted(
    server: TritonServer, reporter: Reporter, stand_in: Cost | None
) -> None:
    try:
        wait_aloud(server, reporter)
        print(_welcome(server), flush=True)
        if stand_in:
            print(f"  THE NETWORK IS A STAND-IN: {stand_in}. It recognises nothing.\n", flush=True)
        server.wait()
    except KeyboardInterrupt:
        say("\nstopping, a few seconds; Ctrl-C again stops at once")


def _welcome(server: TritonServer) -> str:
    return f"""
  gRPC     grpc://{server.grpc_url}
  HTTP     http://{server.http_url}
  metrics  {server.metrics_url}

  try      ./run segment IMAGE --url grpc://{server.grpc_url} --overlay overlay.png
  stop     Ctrl-C
"""
