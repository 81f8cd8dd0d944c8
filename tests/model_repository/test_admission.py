"""The limit of decoded images: pem_preprocess counts them in, pem_network counts them out."""

import pytest
import triton_python_backend_utils as pb_utils

from pem_server.step_metrics import WaitingImages

GAUGE = "pem_images_waiting"


class FakeClock:
    """Shows the time that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def counting_in(load_model, clock):
    """The first step's side, with a limit of 3 images."""
    return load_model("pem_preprocess", "admission").Admission(3, clock)


@pytest.fixture
def counting_out(clock):
    """The network's side."""
    return WaitingImages("pem_network continues", clock)


@pytest.fixture
def refusal(load_model):
    """The sentence with which an image is refused, or None; each load makes a new error class."""

    def ask(admission) -> str | None:
        try:
            admission.check()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None

    return ask


def test_images_are_refused_while_as_many_wait_as_may(counting_in, refusal):
    counting_in.count(2)
    assert refusal(counting_in) is None
    counting_in.count(1)
    assert refusal(counting_in).startswith("OverloadError: 3 images wait for the network")


def test_what_the_network_takes_up_makes_room(counting_in, counting_out, refusal, series):
    counting_out.remove(0)
    counting_out.batch_done()
    counting_in.count(3)
    assert refusal(counting_in)
    counting_out.remove(2)
    assert series(GAUGE).value() == 1
    assert refusal(counting_in) is None


def test_after_a_pause_nothing_can_have_been_waiting(counting_in, counting_out, clock, series):
    counting_in.count(3)  # of which two were given up on the way
    counting_out.batch_done()
    clock.now += 0.3
    counting_out.remove(1)
    assert series(GAUGE).value() == 0


def test_images_sent_straight_to_the_network_do_not_make_room(counting_out, series):
    counting_out.remove(5)
    assert series(GAUGE).value() == 0


def test_a_number_that_never_changes_is_no_number(counting_in, refusal, clock):
    """All that waited were given up: the network will never run and set it right."""
    counting_in.count(3)
    assert refusal(counting_in)
    clock.now += 9.9
    assert refusal(counting_in)
    clock.now += 0.2
    assert refusal(counting_in) is None
    counting_in.count(1)
    assert refusal(counting_in)


def test_no_limit_counts_nothing(load_model, refusal):
    admission = load_model("pem_preprocess", "admission").Admission(0)
    admission.count(100)
    assert refusal(admission) is None
    assert GAUGE not in pb_utils.MetricFamily.registry


def test_without_metrics_all_may_come_in(load_model, refusal, monkeypatch, logged_warnings):
    class Off:
        GAUGE = None

        def __init__(self, *_arguments: object) -> None:
            raise pb_utils.TritonModelException("metrics are off")

    monkeypatch.setattr(pb_utils, "MetricFamily", Off)
    admission = load_model("pem_preprocess", "admission").Admission(1)
    counting_out = WaitingImages("pem_network continues")
    admission.count(5)
    counting_out.remove(1)
    assert refusal(admission) is None
    assert [warning.split(" ")[0] for warning in logged_warnings] == [
        "pem_preprocess",
        "pem_network",
    ]


def test_the_first_step_refuses_without_decoding_and_says_it_is_busy(
    start_model, request_of, arrays_of, outcomes, series, png, strings
):
    model = start_model("pem_preprocess")
    series(GAUGE).set(31)
    good = png(40, 30)

    first, second, third = model.execute(
        [request_of(image=strings(data)) for data in (good, good, b"no image")]
    )

    assert arrays_of(first)["geometry"].tolist() == [[30, 40, 480, 640]]
    for refused in (second, third):
        assert refused.error().code() == pb_utils.TritonError.UNAVAILABLE
        assert "32" in refused.error().message()
    assert outcomes("preprocess") == {"ok": 1, "overload": 2}
