"""The builder's phases as bars, called as TensorRT calls them."""

import sys

import pytest

from pemtrt.build_progress import Phases


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_phase_is_drawn_below_its_parent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    phases = Phases()
    phases.start("build", None, 2)
    phases.start("timing", "build", 3)
    phases.start("conv", "timing", 1)
    for name in ("conv", "timing", "build"):
        assert phases.step(name)
        phases.finish(name)
    drawn = capsys.readouterr().err
    assert "\rbuild:   0%" in drawn
    assert "\r  timing:   0%" in drawn
    assert ("\r    conv:   0%" in drawn) == is_terminal
    assert ("\x1b[A" in drawn) == is_terminal  # the line above
    # TensorRT may abandon a phase, and may use a name again.
    assert phases.step("never started")
    phases.start("build", "a parent that has ended", 1)
    for _ in range(2):
        phases.finish("build")
