"""What timm measured of networks: images per second on four machines, and top-1 on ImageNet and on five harder test sets.

Figures of its `results/` at aa4b5850c1543fa488abf260f18390eda46cf85d
(https://github.com/huggingface/pytorch-image-models, Apache-2.0), in the rows of `speeds.csv` and `robustness.csv`.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from resnet.presets import PRESETS
from resnet.shipped import intact

_FOLDER = Path(__file__).parents[1] / "samples"
SPEEDS, SCORES = _FOLDER / "speeds.csv", _FOLDER / "robustness.csv"

MACHINES: Mapping[str, str] = MappingProxyType(
    {
        "i7-12700H": "Core i7-12700H, fp32, torch 2.4 compiled, batch 1",
        "i9-10940X": "Core i9-10940X, fp32, torch 2.4 compiled, batch 1",
        "RTX 3090": "RTX 3090, fp16 autocast, torch 2.4, channels last, one image's share of a batch of 512 to 1,024",
        "RTX 4090": "RTX 4090, fp16 autocast, torch 2.4, channels last, one image's share of a batch of 512",
    }
)
"""The machines, and how networks ran there. A GPU's milliseconds are of its throughput: one image alone takes longer."""

ROBUSTNESS: Mapping[str, str] = MappingProxyType(
    {
        "ReaL": "ImageNet's validation images with labels made anew, https://arxiv.org/abs/2006.07159",
        "V2": "ImageNet-V2, matched frequency: new images in the way of the old, https://arxiv.org/abs/1902.10811",
        "A": "ImageNet-A: photos that ResNet-50 gets wrong, of 200 classes, https://arxiv.org/abs/1907.07174",
        "R": "ImageNet-R: paintings, toys and other renditions, of 200 classes, https://arxiv.org/abs/2006.16241",
        "Sketch": "ImageNet-Sketch: black and white sketches, https://arxiv.org/abs/1905.13549",
    }
)
"""The harder test sets, each with what it holds and its paper."""
IMAGENET = "ImageNet"
_SETS = (IMAGENET, *ROBUSTNESS)


class Speed(NamedTuple):
    """Images per second of a network on square images of `size` pixels a side, in batches of `batch`.

    `macs` is what our trace counts for one such image; 0 for a network that no configuration expresses.
    """

    size: int
    batch: int
    images_per_second: float
    macs: int

    @property
    def milliseconds(self) -> float:
        """For one image: of a batch, its share."""
        return 1000 / self.images_per_second


class Score(NamedTuple):
    """Top-1 accuracy, 0 to 1, on a test set's images of `size` pixels a side."""

    size: int
    top1: float


@cache
def speeds() -> Mapping[str, Mapping[str, Speed]]:
    """By the network's name in timm, then by the key in `MACHINES`.

    Raises:
        ShippedError: where the file is missing or damaged.
    """
    found: dict[str, dict[str, Speed]] = {}
    with intact(SPEEDS):
        for row in _rows(SPEEDS, ("network", "machine", "size", "batch", "images_per_second", "macs")):
            network, machine, size, batch, speed, macs = row
            found.setdefault(network, {})[machine] = Speed(int(size), int(batch), float(speed), int(macs or 0))
    return MappingProxyType(found)


@cache
def scores() -> Mapping[str, Mapping[str, Score]]:
    """By the weights' name in timm ("resnet50.a1_in1k"), then by `IMAGENET` or the key in `ROBUSTNESS`.

    Raises:
        ShippedError: where the file is missing or damaged.
    """
    with intact(SCORES):
        return MappingProxyType(
            {
                tag: {name: _score(cell) for name, cell in zip(_SETS, cells, strict=True) if cell}
                for tag, _, *cells in _rows(SCORES, ("tag", "params_millions", *_SETS))
            }
        )


def _score(cell: str) -> Score:
    size, top1 = cell.split()
    return Score(int(size), float(top1) / 100)


class Other(NamedTuple):
    """Weights of another family of networks, which no configuration expresses: `network` is its name in timm."""

    network: str
    tag: str
    params: int
    score: Score


@cache
def others() -> tuple[Other, ...]:
    """The best weights of each network of other families, by top-1 on ImageNet.

    Raises:
        ShippedError: where the file is missing or damaged.
    """
    best: dict[str, Other] = {}
    with intact(SCORES):
        for tag, millions, cell, *_ in _rows(SCORES, ("tag", "params_millions", *_SETS)):
            one = Other(tag.partition(".")[0], tag, round(float(millions) * 1e6), _score(cell))
            if one.network not in PRESETS and one.score.top1 > getattr(best.get(one.network), "score", _NONE).top1:
                best[one.network] = one
    return tuple(best.values())


_NONE = Score(0, 0)


def _rows(path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    """The rows of a file, below its head.

    Raises:
        ValueError: where it has other columns, or is cut off.
    """
    text = path.read_text(encoding="utf-8")
    head, *rows = csv.reader(text.splitlines())
    if tuple(head) != columns or not text.endswith("\n"):
        raise ValueError("it is cut off")
    return rows
