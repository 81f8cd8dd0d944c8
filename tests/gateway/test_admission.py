import pytest

from pem_gateway.admission import Admission
from pem_gateway.refusal import Refusal


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_would_take_longer_than_the_limit_is_refused() -> None:
    admission = Admission(limit_s=1.0)
    admission.seconds_per_image = 0.3
    with admission.accept(1, 0, 9), admission.accept(1, 0, 9), admission.accept(1, 0, 9):
        with pytest.raises(Refusal) as caught, admission.accept(1, 0, 9):
            pass
        assert caught.value.reason == "overload"
        assert caught.value.retry_after_s == pytest.approx(0.2)
    assert admission.images == 0


def test_a_client_in_a_hurry_is_refused_earlier() -> None:
    admission = Admission(limit_s=5.0)
    admission.seconds_per_image = 0.3
    with admission.accept(1, 0, 9):
        with pytest.raises(Refusal), admission.accept(1, 0, 0.5):
            pass
        with admission.accept(1, 0, 0.7):
            assert admission.images == 2


def test_an_idle_server_takes_any_image() -> None:
    """What was learned may be wrong; only an answer can correct it."""
    admission = Admission(limit_s=1.0)
    admission.seconds_per_image = 100.0
    with admission.accept(8, 0, 9):
        assert admission.images == 8


def test_costly_decoding_counts() -> None:
    admission = Admission(limit_s=5.0, decoders=2)
    with admission.accept(1, 6.0, 9), pytest.raises(Refusal), admission.accept(1, 6.0, 9):
        pass


def test_an_error_on_the_way_gives_the_place_back() -> None:
    admission = Admission(limit_s=5.0)
    with pytest.raises(ZeroDivisionError), admission.accept(3, 1.0, 9):
        raise ZeroDivisionError
    assert admission.images == 0
    assert admission.expected_s(0) == 0


def test_the_time_between_answers_is_learned() -> None:
    """Two images at once, one step: each answer comes 0.2 s after the one before."""
    clock = Clock()
    admission = Admission(limit_s=60.0, clock=clock)
    with admission.accept(1, 0, 99), admission.accept(1, 0, 99):
        for _ in range(100):
            clock.now += 0.2
            admission.note_answer(1, 0.4)
    assert admission.seconds_per_image == pytest.approx(0.2, rel=0.01)


def test_a_pause_is_no_service_time() -> None:
    clock = Clock()
    admission = Admission(limit_s=60.0, clock=clock)
    for _ in range(100):
        clock.now += 30.0
        with admission.accept(1, 0, 99):
            clock.now += 0.1
            admission.note_answer(1, 0.1)
    assert admission.seconds_per_image == pytest.approx(0.1, rel=0.01)
