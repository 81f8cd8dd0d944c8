"""The options of an engine build, and the name of its timing cache."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pemtrt.manifest import EngineError, Profile

# Tuned between the single request and the full batch; for throughput alone, 8 is best.
DEFAULT_PROFILE = Profile(smallest=1, best=4, largest=8)


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """The builder's settings."""

    profile: Profile = DEFAULT_PROFILE
    workspace_bytes: int = 4 * 2**30  # scratch memory that one layer may use; a T4 has 16 GiB
    # TensorRT's own default, out of 0 to 5; 5 compares every kernel, for many times as long.
    optimization_level: int = 3

    def __post_init__(self) -> None:
        """EngineError now for what TensorRT would refuse after minutes."""
        sizes = (self.profile.smallest, self.profile.best, self.profile.largest)
        if not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
            raise EngineError(
                "--min-batch, --opt-batch and --max-batch must be at least 1 and not decrease, "
                f"got {', '.join(map(str, sizes))}"
            )
        if not 0 <= self.optimization_level <= 5:
            raise EngineError(
                f"--optimization-level must be between 0 and 5, got {self.optimization_level}"
            )
        if self.workspace_bytes <= 0:
            raise EngineError("--workspace-gib must be positive")

    def as_json(self) -> dict[str, Any]:
        """For the manifest, which has the profile in a field of its own."""
        return {name: value for name, value in asdict(self).items() if name != "profile"}


def timing_cache_path(folder: Path, tensorrt: str, gpu: str, driver: str) -> Path:
    """Kernel timings are valid for one TensorRT, one kind of GPU and one driver: a file each."""
    words = [re.sub(r"[^\w.]+", "-", word) for word in (f"tensorrt-{tensorrt}", gpu, driver)]
    return folder / f"{'_'.join(words)}.cache"
