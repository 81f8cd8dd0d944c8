"""What is accepted, what is refused with which sentence, and what is learned from answers."""

import pytest

from pem_gateway.admission import Admission
from pem_gateway.refusal import Refusal


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def admission_of(seconds_per_image: float, limit_s: float = 5.0, decoders: int = 1) -> Admission:
    """One that has learned that an image takes so long."""
    clock = Clock()
    admission = Admission(limit_s, decoders, clock=clock)
    for _ in range(8):
        sent = admission.note_sent(1, 0.0)
        clock.now += seconds_per_image
        admission.note_done(sent, answered=True)
    return admission


def test_what_would_take_longer_than_the_limit_is_refused() -> None:
    admission = admission_of(0.3, limit_s=1.0)
    with admission.accept(1, 0, 9), admission.accept(1, 0, 9), admission.accept(1, 0, 9):
        with pytest.raises(Refusal) as caught, admission.accept(1, 0, 9):
            pass
        assert caught.value.reason == "overload"
        assert caught.value.retry_after_s == pytest.approx(0.32)
    assert admission.images == 0


def test_a_client_in_a_hurry_is_refused_earlier() -> None:
    admission = admission_of(0.3)
    with admission.accept(1, 0, 9):
        with pytest.raises(Refusal), admission.accept(1, 0, 0.5):
            pass
        with admission.accept(1, 0, 0.7):
            assert admission.images == 2


def test_an_idle_server_takes_any_image() -> None:
    """What was learned may be wrong; only an answer can correct it."""
    admission = admission_of(100.0, limit_s=1.0)
    with admission.accept(8, 0, 9):
        assert admission.images == 8


def test_what_waits_for_decoding_counts() -> None:
    admission = admission_of(0.001, decoders=2)
    with admission.accept(1, 3.0, 9), admission.accept(1, 3.0, 9):
        with pytest.raises(Refusal) as caught, admission.accept(1, 3.0, 9):
            pass
        assert caught.value.reason == "overload"
        with admission.accept(1, 0.003, 9):
            pass


def test_what_costs_more_than_the_limit_alone_is_never_accepted() -> None:
    admission = admission_of(0.1)
    with pytest.raises(Refusal, match=r"12\.5 s") as caught, admission.accept(1, 12.5, 99):
        pass
    assert caught.value.reason == "too_large"
    assert caught.value.retry_after_s is None


def test_an_error_on_the_way_gives_the_place_back() -> None:
    admission = admission_of(0.1)
    with pytest.raises(ZeroDivisionError), admission.accept(3, 1.0, 9):
        raise ZeroDivisionError
    assert admission.images == 0
    assert admission.expected_s(0) == 0


def test_the_time_between_answers_is_learned() -> None:
    """Two images at once, one step: each answer comes 0.2 s after the one before."""
    clock = Clock()
    admission = Admission(60.0, clock=clock)
    sent = [admission.note_sent(1, 0.0), admission.note_sent(1, 0.0)]
    for _ in range(100):
        clock.now += 0.2
        admission.note_done(sent.pop(0), answered=True)
        sent.append(admission.note_sent(1, 0.0))
    assert admission.seconds_per_image == pytest.approx(0.2)


def test_a_pause_is_no_service_time() -> None:
    clock = Clock()
    admission = Admission(60.0, clock=clock)
    for _ in range(20):
        clock.now += 30.0
        sent = admission.note_sent(1, 0.0)
        clock.now += 0.1
        admission.note_done(sent, answered=True)
    assert admission.seconds_per_image == pytest.approx(0.1)


def test_decoding_is_no_time_of_the_network() -> None:
    clock = Clock()
    admission = Admission(60.0, clock=clock)
    for _ in range(20):
        sent = admission.note_sent(1, 1.0)
        clock.now += 1.1
        admission.note_done(sent, answered=True)
    assert admission.seconds_per_image == pytest.approx(0.1)


def test_errors_teach_nothing() -> None:
    admission = admission_of(0.3)
    admission.note_done(admission.note_sent(1, 0.0), answered=False)
    assert admission.seconds_per_image == pytest.approx(0.3)


def test_an_overdue_answer_counts_before_it_is_there() -> None:
    clock = Clock()
    admission = Admission(60.0, clock=clock)
    admission.note_done(admission.note_sent(1, 0.0), answered=True)
    admission.note_sent(1, 0.0)
    clock.now += 20.0
    assert admission.seconds_per_image >= 10.0
