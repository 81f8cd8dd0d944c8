"""Everything a training run can be told, written once: the command's options are these fields."""

import argparse
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from pem_training.augmentation import Augmentation
from pem_training.colour import STRENGTHS
from pem_training.losses import Points
from pem_training.precision import PRECISIONS
from pemexport.contract import ROOT
from pemseg.config import VARIANTS
from pemseg.pem import STRIDE


class SettingsError(ValueError):
    """An option out of its range, or one that contradicts the run it should continue."""


def _option(text: str, *, same: bool = True, **parsing: Any) -> dict[str, Any]:
    """What the parser must know of a field. `same`: a resumed run must have the same value."""
    return {"help": text, "same": same, **parsing}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One run. The defaults are the recipe of the original PEM for ADE20K."""

    data: Path = field(metadata=_option("folder of the ADE20K layout", same=False, type=Path))
    output: Path = field(
        default=ROOT / "artifacts" / "training",
        metadata=_option("folder of checkpoints and curves (%(default)s)", same=False, type=Path),
    )
    steps: int = field(
        default=160_000, metadata=_option("length of the run (%(default)s)", type=int)
    )
    batch: int = field(
        default=32, metadata=_option("images a step, of all processes (%(default)s)", type=int)
    )
    crop: int = field(
        default=512, metadata=_option("side of the crops, a multiple of 32 (%(default)s)", type=int)
    )
    scale: tuple[float, float] = field(
        default=(0.5, 2.0),
        metadata=_option("range of the random scale (0.5 2.0)", type=float, nargs=2),
    )
    short_side: int = field(
        default=512,
        metadata=_option("short side at scale 1; 0: each image's own (%(default)s)", type=int),
    )
    overhang: float = field(
        default=0.0,
        metadata=_option(
            "share of a crop that may lie beyond the right and lower edge (%(default)s)", type=float
        ),
    )
    colour: str = field(
        default="ssd", metadata=_option("colour changes (%(default)s)", choices=tuple(STRENGTHS))
    )
    scenes: int = field(
        default=0, metadata=_option("drawn scenes mixed into each pass (%(default)s)", type=int)
    )
    scene_labels: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            "other numbers for classes of the drawn scenes, where the photographs' labels are "
            "coarser: 81=21 files buses under car",
            nargs="+",
            metavar="OLD=NEW",
        ),
    )
    lr: float = field(
        default=4e-4,
        metadata=_option("learning rate, falling along a cosine (%(default)s)", type=float),
    )
    backbone_lr: float | None = field(
        default=None,
        metadata=_option("the backbone's share of it (0.1 with given weights, else 1)", type=float),
    )
    weight_decay: float = field(
        default=0.05, metadata=_option("but for norms and embeddings (%(default)s)", type=float)
    )
    clip: float | None = field(
        default=None,
        metadata=_option(
            "greatest norm of the gradient (0.01 with given weights, else 1)", type=float
        ),
    )
    points: int = field(
        default=12_544,
        metadata=_option("points of a mask that its losses look at (%(default)s)", type=int),
    )
    skip_unlabelled: bool = field(
        default=False,
        metadata=_option(
            "leave pixels without a label out of the losses of masks; else they belong to no mask",
            action="store_true",
        ),
    )
    ema: float = field(
        default=0.0,
        metadata=_option("keep and use a running mean of the weights, e.g. 0.998", type=float),
    )
    weights: Path | None = field(
        default=None, metadata=_option("start from this checkpoint", type=Path)
    )
    backbone: Path | None = field(
        default=None, metadata=_option("start from STDC's ImageNet weights", type=Path)
    )
    variant: str = field(
        default="fai-pem-m-ade",
        metadata=_option("network to start from scratch (%(default)s)", choices=tuple(VARIANTS)),
    )
    device: str = field(
        default="auto",
        metadata=_option("where to compute (%(default)s)", choices=("auto", "cpu", "cuda")),
    )
    precision: str = field(
        default="auto", metadata=_option("the network's (%(default)s)", choices=PRECISIONS)
    )
    deterministic: bool = field(
        default=False,
        metadata=_option(
            "on a GPU: repeat a run bit for bit, slower (a CPU always does)", action="store_true"
        ),
    )
    seed: int = field(default=0, metadata=_option("another one is another run", type=int))
    workers: int = field(
        default=0,
        metadata=_option(
            "processes that prepare images, for each that trains (%(default)s)",
            same=False,
            type=int,
        ),
    )
    eval_every: int = field(
        default=2_000,
        metadata=_option(
            "steps between evaluations; 0: none, and no validation split is needed (%(default)s)",
            same=False,
            type=int,
        ),
    )
    save_every: int = field(
        default=500,
        metadata=_option("steps between checkpoints (%(default)s)", same=False, type=int),
    )

    def __post_init__(self) -> None:
        self._check("crop", self.crop > 0 and self.crop % STRIDE == 0, f"a multiple of {STRIDE}")
        self._check("scale", 0 < self.scale[0] <= self.scale[1], "two factors, the smaller first")
        self._check("overhang", 0 <= self.overhang < 1, "from 0 to below 1")
        self._check("ema", 0 <= self.ema < 1, "from 0 to below 1")
        for name in ("steps", "batch", "points", "save_every", "lr"):
            self._check(name, getattr(self, name) > 0, "above 0")
        for name in ("short_side", "scenes", "weight_decay", "seed", "workers", "eval_every"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        for name in ("clip", "backbone_lr"):
            value = getattr(self, name)
            self._check(name, value is None or value > 0, "above 0")
        classes = VARIANTS[self.variant]().classes
        for pair in self.scene_labels:
            old, _, new = pair.partition("=")
            known = all(each.isdecimal() and int(each) <= classes for each in (old, new))
            self._check("scene_labels", known, f"pairs like 81=21 of labels from 0 to {classes}")
        if self.weights and self.backbone:
            raise SettingsError("--weights holds a backbone already: leave --backbone out")

    def _check(self, name: str, holds: bool, must: str) -> None:
        if not holds:
            raise SettingsError(f"{_flag(name)} must be {must}, got {getattr(self, name)}")

    @property
    def pretrained(self) -> bool:
        """Whether the backbone has learnt already: it then learns slowly, as the original does."""
        return bool(self.weights or self.backbone)

    @property
    def backbone_factor(self) -> float:
        return self.backbone_lr or (0.1 if self.pretrained else 1.0)

    @property
    def greatest_norm(self) -> float:
        return self.clip or (0.01 if self.pretrained else 1.0)

    @property
    def renumber(self) -> dict[int, int]:
        """`scene_labels` as numbers."""
        return {int(old): int(new) for old, new in (each.split("=") for each in self.scene_labels)}

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(self.crop, self.scale, self.short_side, self.overhang, self.colour)

    @property
    def loss_points(self) -> Points:
        return Points(self.points)

    def identity(self) -> dict[str, str]:
        """The options that decide a run's result, as text; a resumed run must repeat them."""
        return {
            _flag(each.name): str(getattr(self, each.name))
            for each in fields(self)
            if each.metadata["same"]
        }

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Give `parser` an option for each field."""
        for each in fields(cls):
            known = {key: value for key, value in each.metadata.items() if key != "same"}
            if each.default is MISSING:
                parser.add_argument(_flag(each.name), required=True, **known)
            else:
                parser.add_argument(_flag(each.name), default=each.default, **known)

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> Self:
        """The settings in parsed options; SettingsError if one is out of range."""
        values = {each.name: getattr(options, each.name) for each in fields(cls)}
        pairs = {name: tuple(values[name]) for name in ("scale", "scene_labels")}
        return cls(**values | pairs)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
