"""The capacity file, which the autoscaler's threshold comes from."""

import dataclasses
from pathlib import Path

import pytest

from pem_loadtest.capacity import Capacity, read_capacity, write_capacity

RUN = {"protocol": "grpc", "shape": "ladder", "seed": 1, "measured_at": "2026-01-02T03:04:05+00:00"}
SERVER = {"machine": "2 cores of a\nmachine = slow", "triton_version": "2.51.0", "model": "pem"}
CAPACITY = Capacity(41.3, 500.0, 99.0, **RUN, **SERVER)  # type: ignore[arg-type]


def test_what_is_written_is_read_and_has_the_threshold(tmp_path: Path) -> None:
    file = tmp_path / "new" / "capacity.env"
    write_capacity(file, CAPACITY)
    expected = dataclasses.replace(CAPACITY, machine="2 cores of a machine = slow")
    assert read_capacity(file) == expected
    assert [each.name for each in file.parent.iterdir()] == ["capacity.env"]
    assert "\nthreshold_images_per_second=26.8\n" in file.read_text()  # 0.65 * 41.3 = 26.845


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("=26.8", "=30", "measure again"),
        ("=41.3", "=nan", "measure again"),
        ("seed=1", "seeds=1", "missing or unknown: seed, seeds"),
        ("seed=1", "seed=one", "invalid literal"),
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    file = tmp_path / "capacity.env"
    write_capacity(file, CAPACITY)
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ValueError, match=sentence):
        read_capacity(file)
