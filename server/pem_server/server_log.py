"""Reads tritonserver's log: the lines worth showing, and one sentence for why a start failed.

A line is `E1122 18:28:21.114631 5092 model_lifecycle.cc:642] "message"`: the level (I, W or E), the
date, the time, the process, the source, and the message as a JSON string or, from libraries, bare.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence

_LINE = re.compile(r"([IWE])\d{4} [\d:.]+\s+\d+ \S+:\d+\]\s*(.*)", re.DOTALL)

LEVELS = {"W": "warning: ", "E": "error: "}
# Logged by every healthy server here. All else of level W and E is shown.
_HARMLESS = (
    # There is no GPU, or it is hidden on purpose; nothing here would use one.
    "CudaDriverHelper has not been initialized",
    "unable to create stream for",
    # That memory speeds up copies to a GPU; its pool is disabled.
    "failed to allocate pinned system memory",
    # The requested stop.
    "Signal (15) received.",
)


def parse(line: str) -> tuple[str, str]:
    """Return the level, "" where the line is in no known format, and the message."""
    match = _LINE.match(line.rstrip("\n"))
    if not match:
        return "", line.rstrip("\n")
    level, message = match.groups()
    if message.startswith('"'):
        try:
            message = json.loads(message, strict=False)
        except ValueError:
            message = message.strip('"')
    return level, message.strip()


def plain(line: str) -> str | None:
    """Return the line as a person should see it; None for information and harmless warnings."""
    level, message = parse(line)
    if level == "I" or not message or any(part in message for part in _HARMLESS):
        return None
    return f"tritonserver: {LEVELS.get(level, '')}{message}"


class Reporter:
    """Passes on what a person should see, once the server is ready.

    Until then it keeps the lines, because a failed start is reported in one sentence.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._held: list[str] | None = []

    def __call__(self, line: str) -> None:
        """Take one line of the server's log."""
        text = plain(line)
        if text is None:
            return
        if self._held is None:
            self._show(text)
        else:
            self._held.append(text)

    def release(self) -> None:
        """Show the kept lines now, and later ones at once."""
        held, self._held = self._held or [], None
        for text in held:
            self._show(text)


def causes(lines: Iterable[str]) -> str:
    """Return why a start failed, a few words for each cause; "" where the log does not say."""
    all_causes = [cause for cause in map(_cause, lines) if cause]
    # An ensemble without one of its steps, and the server's exit, only repeat an earlier cause.
    first = [cause for cause in all_causes if not cause.startswith(("depends on", "server: "))]
    return "; ".join(dict.fromkeys(first or all_causes))


def last_error(lines: Sequence[str]) -> str:
    """Return the first line of the last warning or error, "" where there is none."""
    messages = [parse(line)[1] for line in lines if plain(line)]
    return messages[-1].partition("\n")[0].rstrip(".") if messages else ""


def _cause(line: str) -> str | None:
    message = parse(line)[1]
    if match := re.match(r"failed to load '(.+)' version \d+: (.*)", message, re.DOTALL):
        model, reason = match.groups()
        missing_step = re.search(r"depends on '(.+?)' which has no loaded version", reason)
        return f"depends on {missing_step[1]}" if missing_step else f"{model}: {_short(reason)}"
    if match := re.match(r"Poll failed for model directory '(.+)': (.*)", message, re.DOTALL):
        return f"{match[1]}: {_short(match[2])}"
    if match := re.search(r"Error parsing text-format inference.ModelConfig: (.*)", message):
        return f"config.pbtxt {match[1].rstrip('.')}"
    if message.startswith("failed to start "):
        return _short(message)
    if match := re.match(r"error: creating server: (.*)", message):
        return f"server: {_short(match[1])}"
    return None


def _short(reason: str) -> str:
    """Keep the first line without Triton's error class, and of a Python traceback the place."""
    first, _, rest = reason.partition("\n")
    first = re.sub(r"^(?:Internal|Invalid argument|Unavailable)(?:: | - )", "", first).strip()
    place = re.search(r"^\s*(\S+\(\d+\))", rest.partition("At:\n")[2])
    return f"{first.rstrip('.')} at {place[1]}" if place else first.rstrip(".")
