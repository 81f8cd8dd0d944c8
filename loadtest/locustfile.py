"""The load test as locust runs it: `./run loadtest`, or by hand

    locust -f loadtest/locustfile.py --headless --users 64 --spawn-rate 100 --rate 20

All decisions are in pem_loadtest; here they are tied to locust's events. Users are the pool of
those who can wait for an answer; when images are sent is the conductor's plan.
"""

import sys
import traceback

import gevent
from locust import User, events, task
from locust.runners import MasterRunner, WorkerRunner

from pem_loadtest import finish, options, wiring
from pem_loadtest.conductor import ENDED, PLAY
from pem_loadtest.verdict import Verdict


@events.init_command_line_parser.add_listener
def add_options(parser):
    options.add_options(parser)
    parser.set_defaults(host=options.HOST, num_users=options.USERS, spawn_rate=100)


@events.init.add_listener
def prepare(environment, runner, **_):
    """Make this process's player, conductor, or both, and let them talk."""
    try:
        settings = options.read_settings(environment.parsed_options)
    except ValueError as error:
        sys.exit(f"{error}")
    if settings.closed:
        environment.parsed_options.num_users = settings.closed
    if not isinstance(runner, WorkerRunner):
        conductor = wiring.make_conductor(settings, runner)
        runner.register_message(
            ENDED, lambda msg, **_: conductor.on_ended(msg.data["number"], msg.data["log"])
        )
        environment.events.spawning_complete.add_listener(
            lambda **_: gevent.spawn(conduct, environment, settings, conductor)
        )
    if not isinstance(runner, MasterRunner):
        # Not before the test starts: a worker has the master's options from then on.
        environment.events.test_start.add_listener(join)
        runner.register_message(PLAY, lambda msg, **_: environment.party.begin(msg.data))


def join(environment, **_):
    settings = options.read_settings(environment.parsed_options)
    environment.party = wiring.make_party(settings, environment.runner)


def conduct(environment, settings, conductor):
    """The run, in one process only; without an exit code it has not reached its end."""
    try:
        environment.process_exit_code = finish.run(conductor, settings, environment.host)
    except Exception:
        traceback.print_exc()
    finally:  # also when there is nobody left to print to
        environment.runner.quit()


@events.quitting.add_listener
def decide(environment, **_):
    """The verdict is the master's; locust asks its workers for an exit code, too."""
    if isinstance(environment.runner, WorkerRunner):
        environment.process_exit_code = 0
    elif environment.process_exit_code is None:
        print("INVALID\n  the run did not reach its end", file=sys.stderr)
        environment.process_exit_code = Verdict.INVALID


@events.quit.add_listener
def remember(exit_code, **_):
    wiring.remember(exit_code)


class Sender(User):
    """One who sends an image and waits for its answer."""

    def on_start(self):
        self.client = self.environment.party.connect(self.environment.host)

    @task
    def send(self):
        self.environment.party.send_one(self.client, self.environment.events.request.fire)
