"""The load test as locust runs it: `./run loadtest`, or by hand

    locust -f loadtest/locustfile.py --headless --users 64 --spawn-rate 100 --rate 20

This file only connects pem_loadtest to locust's events. Users are the pool that can wait for
answers; the coordinator plans when images are sent.
"""

import sys
import traceback

import gevent
from locust import User, events, task
from locust.runners import MasterRunner, WorkerRunner

from pem_loadtest import options, run_report, worker
from pem_loadtest.coordinator import ENDED, SCHEDULE, Coordinator
from pem_loadtest.verdict import Verdict


@events.init_command_line_parser.add_listener
def add_options(parser):
    options.add_options(parser)
    parser.set_defaults(host=options.HOST, num_users=options.USERS, spawn_rate=100)


@events.init.add_listener
def prepare(environment, runner, **_):
    """Make this process's worker, its coordinator, or both, and connect their messages."""
    try:
        settings = options.read_settings(environment.parsed_options)
    except ValueError as error:
        sys.exit(f"{error}")
    if settings.closed:
        environment.parsed_options.num_users = settings.closed
    if not isinstance(runner, WorkerRunner):
        coordinator = Coordinator(
            settings, runner.send_message, lambda: worker.live_workers(runner)
        )
        runner.register_message(
            ENDED, lambda msg, **_: coordinator.on_ended(msg.data["number"], msg.data["samples"])
        )
        environment.events.spawning_complete.add_listener(
            lambda **_: gevent.spawn(run, environment, settings, coordinator)
        )
    if not isinstance(runner, MasterRunner):
        # Not before the test starts: a worker has the master's options from then on.
        environment.events.test_start.add_listener(join)
        runner.register_message(SCHEDULE, lambda msg, **_: environment.worker.begin(msg.data))


def join(environment, **_):
    settings = options.read_settings(environment.parsed_options)
    environment.worker = worker.make_worker(settings, environment.runner)


def run(environment, settings, coordinator):
    """The whole run; it leaves no exit code when it does not reach its end."""
    try:
        environment.process_exit_code = run_report.run(coordinator, settings, environment.host)
    except Exception:
        traceback.print_exc()
    finally:  # even if printing fails
        environment.runner.quit()


@events.quitting.add_listener
def decide(environment, **_):
    """The master has the verdict; locust wants an exit code of its workers, too."""
    if isinstance(environment.runner, WorkerRunner):
        environment.process_exit_code = 0
    elif environment.process_exit_code is None:
        print("INVALID\n  the run did not reach its end", file=sys.stderr)
        environment.process_exit_code = Verdict.INVALID


@events.quit.add_listener
def remember(exit_code, **_):
    worker.remember(exit_code)


class ImageUser(User):
    """Sends an image and waits for its answer."""

    def on_start(self):
        self.client = self.environment.worker.connect(self.environment.host)

    @task
    def send(self):
        self.environment.worker.send_one(self.client, self.environment.events.request.fire)
