"""All settings of a training run, written once: the command's options are these fields."""

# ruff: noqa: RUF009  (`_option` makes a field, which no two settings share)

import argparse
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from pem_server.checkout import ROOT
from pem_training.augmentation import Augmentation
from pem_training.color import STRENGTHS
from pem_training.losses import Points
from pem_training.optimizer import PRECISIONS
from pemseg.config import VARIANTS
from pemseg.pem import STRIDE


class SettingsError(ValueError):
    """An option out of its range, or one that contradicts the run to be resumed."""


def _option(text: str, default: Any = MISSING, *, same: bool = True, **parsing: Any) -> Any:
    """A field and what the parser needs of it. `same`: a resumed run must have the same value."""
    return field(default=default, metadata={"help": text, "same": same, **parsing})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One run. The defaults are the recipe of the original PEM for ADE20K."""

    data: Path = _option("folder of the ADE20K layout", same=False, type=Path)
    output: Path = _option(
        "folder of the run (%(default)s)", ROOT / "artifacts" / "training", same=False, type=Path
    )
    steps: int = _option("length of the run (%(default)s)", 160_000, type=int)
    batch: int = _option("images a step, of all processes (%(default)s)", 32, type=int)
    crop: int = _option("side of the crops, a multiple of 32 (%(default)s)", 512, type=int)
    scale: tuple[float, float] = _option("random scale (0.5 2.0)", (0.5, 2.0), type=float, nargs=2)
    short_side: int = _option("short side at scale 1; 0: its own (%(default)s)", 512, type=int)
    overhang: float = _option(
        "share of a crop that may lie right of an image or below it (%(default)s)", 0.0, type=float
    )
    color: str = _option("color jitter (%(default)s)", "ssd", choices=tuple(STRENGTHS))
    lr: float = _option("learning rate, with cosine decay (%(default)s)", 4e-4, type=float)
    backbone_lr: float | None = _option(
        "factor for the backbone (0.1 with given weights, else 1)", None, type=float
    )
    weight_decay: float = _option("of all but norms and embeddings (%(default)s)", 0.05, type=float)
    clip: float | None = _option(
        "largest norm of the gradient (0.01 with given weights, else 1)", None, type=float
    )
    points: int = _option("points of a mask that its losses sample (%(default)s)", 12_544, type=int)
    skip_unlabelled: bool = _option(
        "leave pixels without a label out of the mask losses; else they belong to no mask",
        False,
        action="store_true",
    )
    ema: float = _option("keep and use a running mean of the weights, e.g. 0.998", 0.0, type=float)
    weights: Path | None = _option("start from this checkpoint", None, type=Path)
    backbone: Path | None = _option("start from STDC's ImageNet weights", None, type=Path)
    variant: str = _option(
        "network to start from scratch (%(default)s)", "fai-pem-m-ade", choices=tuple(VARIANTS)
    )
    device: str = _option("where to compute (%(default)s)", "auto", choices=("auto", "cpu", "cuda"))
    precision: str = _option("the network's (%(default)s)", "auto", choices=PRECISIONS)
    deterministic: bool = _option(
        "on a GPU: repeat a run bit for bit, slower (a CPU always does)", False, action="store_true"
    )
    seed: int = _option("another one is another run", 0, type=int)
    workers: int = _option(
        "processes that prepare images, for each that trains (%(default)s)", 0, same=False, type=int
    )
    eval_every: int = _option(
        "steps between evaluations (%(default)s); 0: no validation", 2_000, same=False, type=int
    )
    save_every: int = _option("steps between checkpoints (%(default)s)", 500, same=False, type=int)

    def __post_init__(self) -> None:
        self._check("crop", self.crop > 0 and self.crop % STRIDE == 0, f"a multiple of {STRIDE}")
        self._check("scale", 0 < self.scale[0] <= self.scale[1], "two factors, the smaller first")
        self._check("overhang", 0 <= self.overhang < 1, "from 0 to below 1")
        self._check("ema", 0 <= self.ema < 1, "from 0 to below 1")
        for name in ("steps", "batch", "points", "save_every", "lr"):
            self._check(name, getattr(self, name) > 0, "above 0")
        for name in ("short_side", "weight_decay", "seed", "workers", "eval_every"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        for name in ("clip", "backbone_lr"):
            value = getattr(self, name)
            self._check(name, value is None or value > 0, "above 0")
        if self.weights and self.backbone:
            raise SettingsError("--weights holds a backbone already: leave --backbone out")

    def _check(self, name: str, holds: bool, must: str) -> None:
        if not holds:
            raise SettingsError(f"{_flag(name)} must be {must}, got {getattr(self, name)}")

    @property
    def pretrained(self) -> bool:
        """Whether the backbone is trained already: its rate is then lower, as in the original."""
        return bool(self.weights or self.backbone)

    @property
    def backbone_factor(self) -> float:
        return self.backbone_lr or (0.1 if self.pretrained else 1.0)

    @property
    def max_norm(self) -> float:
        return self.clip or (0.01 if self.pretrained else 1.0)

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(self.crop, self.scale, self.short_side, self.overhang, self.color)

    @property
    def loss_points(self) -> Points:
        return Points(self.points)

    def identity(self) -> dict[str, str]:
        """The options that determine a run's result, as text; a resumed run must repeat them."""
        return {
            _flag(option.name): str(getattr(self, option.name))
            for option in fields(self)
            if option.metadata["same"]
        }

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Give `parser` an option for each field."""
        for option in fields(cls):
            parsing = {key: value for key, value in option.metadata.items() if key != "same"}
            if option.default is MISSING:
                parser.add_argument(_flag(option.name), required=True, **parsing)
            else:
                parser.add_argument(_flag(option.name), default=option.default, **parsing)

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> Self:
        """The settings in parsed options; SettingsError if one is out of range."""
        values = {option.name: getattr(options, option.name) for option in fields(cls)}
        return cls(**values | {"scale": tuple(values["scale"])})


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
