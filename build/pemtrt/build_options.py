"""What a build is asked for."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pemtrt.errors import EngineError
from pemtrt.manifest import Profile

# Four lies between the lone request and the full batch; for throughput alone, the best is eight.
USUAL_PROFILE = Profile(smallest=1, best=4, largest=8)


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """The builder's settings."""

    profile: Profile = USUAL_PROFILE
    workspace_bytes: int = 4 * 2**30  # scratch memory that one layer may use; a T4 has 16 GiB
    # TensorRT's own default, out of 0 to 5; 5 compares every kernel, for many times as long.
    optimization_level: int = 3

    def __post_init__(self) -> None:
        """EngineError for what TensorRT would refuse in its own words, after minutes."""
        sizes = (self.profile.smallest, self.profile.best, self.profile.largest)
        if not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
            raise EngineError(
                "The batch sizes must rise from --min-batch over --opt-batch to --max-batch and be "
                f"1 at least, and they are {', '.join(map(str, sizes))}: change them."
            )
        if not 0 <= self.optimization_level <= 5:
            raise EngineError(
                "The optimisation level must be 0 to 5, and is "
                f"{self.optimization_level}: change --optimization-level."
            )
        if self.workspace_bytes <= 0:
            raise EngineError("The workspace must be larger than nothing: change --workspace-gib.")

    def stated(self) -> dict[str, Any]:
        """For the manifest, which states the profile on its own."""
        return {name: value for name, value in asdict(self).items() if name != "profile"}


def timing_cache_path(folder: Path, tensorrt: str, gpu: str, driver: str) -> Path:
    """Kernel timings hold for one TensorRT, one kind of GPU and one driver: a file for each."""
    words = [re.sub(r"[^\w.]+", "-", word) for word in (f"tensorrt-{tensorrt}", gpu, driver)]
    return folder / f"{'_'.join(words)}.cache"
