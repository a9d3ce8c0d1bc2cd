"""Published ImageNet accuracies, each with its training recipe, beside what our own trace says a network costs.

`published.csv` holds the paper's (He 2015, Tables 2 and 3, ten crops) and timm's
(https://github.com/huggingface/pytorch-image-models/blob/0173a139/results/results-imagenet.csv, one crop);
torchvision's are read from torchvision.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from resnet import OPTIONS, PRESETS, ResNetConfig, preset, preset_name
from resnet.options import from_text
from resnet.shipped import intact
from resnet.weights import torchvision_weights

RECIPES: Mapping[str, str] = {
    "paper": "He 2015, ten crops",
    "torchvision V1": "torchvision V1",
    "torchvision V2": "torchvision V2",
    "timm a": "timm A1 to A3 (Wightman 2021)",
    "timm gluon": "timm, from GluonCV",
    "timm": "timm, others",
}
"""Groups of recipes, in the order of the legend; a recipe belongs to the longest that it starts with."""


class Result(NamedTuple):
    """Top-1 accuracy on ImageNet's validation images, 0 to 1, of one network under one recipe.

    `size` is the side in pixels at which it was measured.
    """

    network: str
    config: ResNetConfig
    recipe: str
    top1: float
    size: int
    source: str

    @property
    def group(self) -> str:
        """The key in `RECIPES`."""
        matching = [group for group in RECIPES if self.recipe.startswith(group)]
        return max(matching, key=len)


FILE = Path(__file__).parent / "published.csv"
PAPER = "https://arxiv.org/abs/1512.03385"
TIMM = "https://github.com/huggingface/pytorch-image-models/blob/main/results/results-imagenet.csv"


@cache
def published() -> tuple[Result, ...]:
    """Every result at hand, the paper's first.

    Raises:
        ShippedError: where `published.csv` is missing or damaged.
    """
    with intact(FILE):
        text = FILE.read_text(encoding="utf-8")
        if not text.endswith("\n"):
            raise ValueError("it is cut off")
        rows = [
            Result(
                row["network"],
                network(row["network"]),
                row["recipe"],
                float(row["top1"]) / 100,
                int(row["size"]),
                PAPER if row["recipe"] == "paper" else TIMM,
            )
            for row in csv.DictReader(text.splitlines())
        ]
    for config in dict.fromkeys(map(preset, PRESETS)):
        for weights in torchvision_weights(config):
            name, recipe = preset_name(config) or "", f"torchvision {weights.key.removeprefix('IMAGENET1K_')}"
            size, source = weights.data.preprocessing.size[0], weights.data.source
            rows.append(Result(name, config, recipe, weights.accuracy or 0.0, size, source))
    return tuple(rows)


def network(text: str) -> ResNetConfig:
    """The configuration of "resnet34", or of "resnet34+shortcut=A"."""
    name, _, change = text.partition("+")
    if not change:
        return preset(name)
    option, _, value = change.partition("=")
    return preset(name).with_(**{option: from_text(option, OPTIONS[option], value)})[0]
