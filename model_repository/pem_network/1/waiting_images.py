"""How many decoded images wait for this step: lowers the gauge that pem_preprocess raises.

The gauge lives in the server, through Triton's metric API, and is the two steps' only tie besides
tensors: pem_preprocess refuses images by it (see admission.py there).
"""

import time
import traceback
from collections.abc import Callable
from typing import Any

import triton_python_backend_utils as pb_utils

GAUGE = "pem_images_waiting"
# Between two batches of a busy server lie some milliseconds. After a longer pause nothing had been
# waiting: the count is set right, if requests that were given up on the way had made it wrong.
PAUSE_S = 0.2


class WaitingImages:
    """Counts images out of the queue.

    Without metrics in the server it does nothing: counting must never cost an answer.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Register the gauge."""
        self._clock, self._idle_since = clock, clock()
        try:
            kinds = pb_utils.MetricFamily
            self._family = kinds(GAUGE, "Decoded images that wait for pem_network", kinds.GAUGE)
            self._gauge: Any = self._family.Metric(labels={})
            self._on = True
        except Exception:
            self._turn_off()

    def take(self, images: int) -> None:
        """Note that a batch of so many images was taken up."""
        if not self._on:
            return
        try:
            if self._clock() - self._idle_since > PAUSE_S:
                self._gauge.set(0)
                return
            self._gauge.increment(-images)
            if self._gauge.value() < 0:  # some came past pem_preprocess, straight to this step
                self._gauge.set(0)
        except Exception:
            self._turn_off()

    def done(self) -> None:
        """Note that the batch was answered, and the step waits for the next."""
        self._idle_since = self._clock()

    def _turn_off(self) -> None:
        self._on = False
        pb_utils.Logger.log_warn(
            f"pem_network goes on without counting what waits: {traceback.format_exc()}"
        )
