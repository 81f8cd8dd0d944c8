"""The limit of decoded images: pem_preprocess counts them in, pem_network counts them out."""

import pytest
import triton_python_backend_utils as pb_utils
from step_requests import image_request, outputs, png

from pem_server.step_metrics import WaitingImages

GAUGE = "pem_images_waiting"


class FakeClock:
    """Shows the time that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def new_admission(load_model):
    return load_model("pem_preprocess", "admission").Admission


@pytest.fixture
def counting_in(new_admission, clock):
    """The first step's side, with a limit of 3 images."""
    return new_admission(3, clock)


@pytest.fixture
def counting_out(clock):
    """The network's side."""
    return WaitingImages("pem_network continues", clock)


def refusal(admission) -> str | None:
    """The sentence with which an image is refused, or None; each load makes a new error class."""
    try:
        admission.check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def test_what_the_network_takes_up_makes_room(counting_in, counting_out, series):
    counting_out.remove(0)
    counting_out.batch_done()
    counting_in.count(2)
    assert refusal(counting_in) is None
    counting_in.count(1)
    assert refusal(counting_in).startswith("OverloadError: 3 images")
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


def test_a_number_that_never_changes_is_no_number(counting_in, clock):
    """All that waited were given up: the network will never run and set it right."""
    counting_in.count(3)
    assert refusal(counting_in)
    clock.now += 9.9
    assert refusal(counting_in)
    clock.now += 0.2
    assert refusal(counting_in) is None
    counting_in.count(1)
    assert refusal(counting_in)


def test_no_limit_counts_nothing(new_admission):
    admission = new_admission(0)
    admission.count(100)
    assert refusal(admission) is None
    assert GAUGE not in pb_utils.MetricFamily.registry


def test_without_metrics_all_may_come_in(new_admission, monkeypatch):
    monkeypatch.delattr(pb_utils, "MetricFamily")
    admission, counting_out = new_admission(1), WaitingImages("pem_network continues")
    admission.count(5)
    counting_out.remove(1)
    assert refusal(admission) is None
    warnings = [warning.split(" ")[0] for warning in pb_utils.Logger.warnings]
    assert warnings == ["pem_preprocess", "pem_network"]


def test_the_first_step_refuses_without_decoding_and_says_it_is_busy(start_model, outcomes, series):
    model = start_model("pem_preprocess")
    series(GAUGE).set(31)
    first, *refused = model.execute([image_request(f) for f in (*[png(40, 30)] * 2, b"no image")])
    assert outputs(first)["geometry"].tolist() == [[30, 40, 480, 640]]
    for response in refused:
        assert response.error().code() == pb_utils.TritonError.UNAVAILABLE
        assert "32" in response.error().message()
    assert outcomes("preprocess") == {"ok": 1, "overload": 2}
