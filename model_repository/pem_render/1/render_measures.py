"""What this step tells Prometheus, through Triton's metric API: images by outcome.

Triton adds up what the processes of one model send under one name. Sending takes the step about ten
microseconds a value, so values are gathered and sent once for each `execute`.
"""

import traceback
from collections import Counter
from typing import Any

import triton_python_backend_utils as pb_utils

STEP = "render"
OUTCOMES = ("ok", "bad_request", "cancelled", "failed")


class RenderMeasures:
    """Counts images by outcome.

    Without metrics in the server it does nothing: counting must never cost an answer.
    """

    def __init__(self) -> None:
        """Register every series, so that each is there, at 0, before its first event."""
        self._images: Counter[str] = Counter()  # by outcome
        try:
            self._register()
            self._on = True
        except Exception:
            self._turn_off()

    def add(self, outcome: str, images: int = 1) -> None:
        """Count images; `outcome` is one of OUTCOMES."""
        self._images[outcome] += images

    def send(self) -> None:
        """Hand to Triton what was added since the last time."""
        images, self._images = self._images, Counter()
        if not self._on:
            return
        try:
            for outcome, count in images.items():
                self._by_outcome[outcome].increment(count)
        except Exception:
            self._turn_off()

    def _register(self) -> None:
        kinds = pb_utils.MetricFamily
        self._family = kinds("pem_images_total", "Images by step and outcome", kinds.COUNTER)
        self._by_outcome: dict[str, Any] = {
            outcome: self._family.Metric(labels={"step": STEP, "outcome": outcome})
            for outcome in OUTCOMES
        }

    def _turn_off(self) -> None:
        self._on = False
        pb_utils.Logger.log_warn(
            f"pem_{STEP} goes on without its metrics: {traceback.format_exc()}"
        )
