"""What timm publishes: the weights of networks that a configuration can express, a row of `published.csv` for each tag.

How an image becomes their input, their classes, licences and papers are timm 1.0.31's, from `pretrained_cfg`
(https://github.com/huggingface/pytorch-image-models, Apache-2.0; the weights have licences of their own), the accuracies
those of its `results/results-imagenet.csv` at aa4b5850c1543fa488abf260f18390eda46cf85d.
"""

from __future__ import annotations

import csv
import re
from functools import cache
from math import floor
from pathlib import Path
from typing import NamedTuple, cast

from .config import ResNetConfig
from .datasets import DataSet, ImageNet, Interpolation, Numbered, Preprocessing
from .errors import WeightsError
from .presets import preset
from .shipped import intact

FILE = Path(__file__).with_suffix(".csv")

DATA_SETS = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "ig1b": "Instagram (IG-1B)",
    "yfcc100m": "YFCC100M",
    "bamboo": "Bamboo",
}
"""What tags call data sets: `sw_in12k_ft_in1k` was trained on the second, then on the first."""


class Tag(NamedTuple):
    """Weights that timm publishes under a name: "resnet50.a1_in1k".

    `size` is the side in pixels of the images that it was trained on, `test_size` of those that it is measured on, `crop`
    and `test_crop` the share of the shorter side that they keep. `classes` is 0 where it has no classifier. `top1` and
    `top5` are the shares of ImageNet-1k's validation images at `test_size` that it gets right, None where it has other
    classes. `bytes` is what its tensors take.
    """

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    test_size: int
    crop: float
    test_crop: float
    interpolation: Interpolation
    classes: int
    licence: str
    paper: str
    top1: float | None
    top5: float | None
    bytes: int

    @property
    def hub(self) -> str:
        """The repository of the Hugging Face hub that holds it."""
        return f"timm/{self.name}"

    @property
    def recipe(self) -> str:
        """How it was trained, in timm's words: "a1_in1k"."""
        return self.name.partition(".")[2]

    @property
    def source(self) -> str:
        """Where the recipe is described: in a paper, else beside the weights."""
        paper = self.paper.removeprefix("arXiv:")
        return f"https://arxiv.org/abs/{paper}" if paper else f"https://huggingface.co/{self.hub}"

    @property
    def config(self) -> ResNetConfig:
        """The network; with 1000 classes where it has no classifier."""
        return preset(self.name).with_(num_classes=self.classes or 1000)[0]

    @property
    def data(self) -> DataSet:
        """What it was trained on, and how timm evaluates it: at the test size with its crop."""
        *before, last = (DATA_SETS[name] for name in re.findall("|".join(DATA_SETS), self.recipe))
        return DataSet(
            last,
            self.source,
            self.licence,
            Preprocessing(
                floor(self.test_size / self.test_crop),
                self.test_size,
                self.mean,
                self.std,
                interpolation=self.interpolation,
            ),
            ImageNet() if self.classes == 1000 else Numbered(self.config.num_classes),
            ", ".join(before),
        )


@cache
def tags() -> tuple[Tag, ...]:
    """Every tag, in timm's order.

    Raises:
        WeightsError: where `published.csv` is missing or damaged.
    """
    with intact(FILE, WeightsError):
        text = FILE.read_text(encoding="utf-8")
        if not text.endswith("\n"):
            raise ValueError("it is cut off")
        return tuple(map(_tag, csv.DictReader(text.splitlines())))


def _tag(row: dict[str, str]) -> Tag:
    """A row of the file, in which what is not published is left out."""
    mean, std = (tuple(map(float, row[name].split())) for name in ("mean", "std"))
    top1, top5 = (float(row[name]) / 100 if row[name] else None for name in ("top1", "top5"))
    return Tag(
        row["tag"],
        mean,
        std,
        int(row["size"]),
        int(row["test_size"]),
        float(row["crop_pct"]),
        float(row["test_crop_pct"] or row["crop_pct"]),
        cast(Interpolation, row["interpolation"]),
        int(row["classes"]),
        row["licence"],
        row["paper"],
        top1,
        top5,
        int(row["bytes"]),
    )
