"""The capacity file, which the autoscaler's threshold comes from."""

import dataclasses
from pathlib import Path

import pytest

from pem_loadtest.capacity import Capacity, read_capacity, write_capacity

CAPACITY = Capacity(
    capacity_images_per_second=41.3,
    latency_goal_ms=500.0,
    percentile=99.0,
    protocol="grpc",
    shape="ladder",
    seed=1,
    machine="2 cores of a\nmachine = slow",
    triton_version="2.51.0",
    model="fai-pem-m-ade",
    measured_at="2026-01-02T03:04:05+00:00",
)


def test_what_is_written_is_read_and_has_the_threshold(tmp_path: Path) -> None:
    file = tmp_path / "new" / "capacity.env"
    write_capacity(file, CAPACITY)
    expected = dataclasses.replace(CAPACITY, machine="2 cores of a machine = slow")
    assert read_capacity(file) == expected
    assert [each.name for each in file.parent.iterdir()] == ["capacity.env"]
    lines = file.read_text().splitlines()
    assert all(line.startswith("#") or "=" in line for line in lines)
    assert "threshold_images_per_second=26.8" in lines  # 0.65 * 41.3 = 26.845


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("threshold_images_per_second=26.8", "threshold_images_per_second=30", "measure again"),
        ("seed=1", "seeds=1", "missing or unknown: seed, seeds"),
        ("seed=1", "seed=one", "invalid literal"),
        ("capacity_images_per_second=41.3", "capacity_images_per_second=nan", "measure again"),
    ],
)
def test_a_file_that_somebody_changed_is_refused(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    file = tmp_path / "capacity.env"
    write_capacity(file, CAPACITY)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=sentence):
        read_capacity(file)
