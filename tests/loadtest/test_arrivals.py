"""When images are sent."""

from pathlib import Path

import numpy as np
import pytest

from pem_loadtest.arrivals import poisson, poisson_steps, read_timestamps, shard


def test_gaps_between_arrivals_are_exponential() -> None:
    offsets = poisson(50.0, 400.0, seed=3)
    gaps = np.diff(offsets)
    assert len(offsets) == pytest.approx(20_000, rel=0.03)
    assert gaps.mean() == pytest.approx(0.02, rel=0.03)
    assert gaps.std() == pytest.approx(0.02, rel=0.05)  # regular sending would have 0
    assert (gaps > 0.02).mean() == pytest.approx(np.exp(-1), abs=0.02)


def test_steps_follow_each_other_at_their_own_rates() -> None:
    offsets = poisson_steps([(10.0, 100.0), (40.0, 50.0)], seed=5)
    assert (np.diff(offsets) >= 0).all()
    assert (offsets < 100).sum() == pytest.approx(1000, rel=0.1)
    assert (offsets >= 100).sum() == pytest.approx(2000, rel=0.1)
    assert offsets.max() < 150


def test_the_shares_of_all_workers_are_the_whole() -> None:
    offsets = poisson(10.0, 20.0, seed=6)
    assert not np.array_equal(offsets, poisson(10.0, 20.0, seed=7))
    shares = [shard(offsets, worker, 3) for worker in range(3)]
    np.testing.assert_array_equal(np.sort(np.concatenate(shares)), offsets)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_recording_starts_at_zero_in_order_and_may_be_played_faster(tmp_path: Path) -> None:
    file = tmp_path / "times"
    file.write_text("# from a log\n1700000004\n\n1700000000.5  # first\n1700000002.5\n")
    np.testing.assert_allclose(read_timestamps(file), [0, 2, 3.5])
    np.testing.assert_allclose(read_timestamps(file, speed=2), [0, 1, 1.75])
    for text in ("# nothing\n", "1\ninf\n", "1\n12:30\n"):
        file.write_text(text)
        with pytest.raises(ValueError, match="line 2.*'12:30'" if ":" in text else "finite number"):
            read_timestamps(file)
