"""Published ImageNet accuracies, each with its training recipe, beside what our own trace says a network costs.

The paper's (He 2015, Tables 2 and 3) are of ten crops, torchvision's and timm's of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import NamedTuple

from resnet import OPTIONS, ResNetConfig, preset, preset_name
from resnet.options import from_text
from resnet.weights import Weights
from resnet.weights import published as published_weights

RECIPES: Mapping[str, str] = {
    "paper": "He 2015, ten crops",
    "torchvision V1": "torchvision V1",
    "torchvision V2": "torchvision V2",
    "timm a1": "timm, A1 to A3",
    "timm gluon": "timm, from GluonCV",
    "timm": "timm, others",
    "more data": "timm, pretrained",
}
"""Groups of recipes, in the order of the legend: those of A1 to A3 are Wightman 2021's (https://arxiv.org/abs/2110.00476), and what
was pretrained has seen more data than ImageNet-1k. A recipe belongs to the last where its weights were trained on another
data set before, else to the longest that it starts with."""

PAPER = "https://arxiv.org/abs/1512.03385"
PAPER_TOP1: Mapping[str, float] = {
    "plain18": 0.7206,
    "resnet18+shortcut=A": 0.7212,
    "plain34": 0.7146,
    "resnet34+shortcut=A": 0.7497,
    "resnet34": 0.7548,
    "resnet34+shortcut=C": 0.7581,
    "resnet50_v1": 0.7715,
    "resnet101_v1": 0.7825,
    "resnet152_v1": 0.7857,
}
"""What Tables 2 and 3 of the paper say at 224 pixels, by what `parse_config` reads."""


class Result(NamedTuple):
    """Top-1 accuracy on ImageNet's validation images, 0 to 1, of one network under one recipe.

    `size` is the side in pixels at which it was measured; `weights` are those that it was measured with, None where they
    are not published.
    """

    network: str
    config: ResNetConfig
    recipe: str
    top1: float
    size: int
    source: str
    weights: Weights | None = None

    @property
    def more_data(self) -> bool:
        """Whether ImageNet-1k is not all that the weights were trained on."""
        return self.weights is not None and bool(self.weights.data.pretraining)

    @property
    def group(self) -> str:
        """The key in `RECIPES`."""
        recipe = self.recipe.replace("timm a2", "timm a1").replace("timm a3", "timm a1")  # one paper's three
        matching = [group for group in RECIPES if recipe.startswith(group)]
        return "more data" if self.more_data else max(matching, key=len)


@cache
def published() -> tuple[Result, ...]:
    """Every result at hand, the paper's first.

    Raises:
        WeightsError: where the list of timm's weights is missing or damaged.
    """
    paper = [Result(network, parse_config(network), "paper", top1, 224, PAPER) for network, top1 in PAPER_TOP1.items()]
    return (*paper, *_measured_weights())


def _measured_weights() -> Iterator[Result]:
    """What was measured with weights that are published; timm's copies of torchvision's are left out."""
    for weights in published_weights():
        network, _, tag = weights.key.rpartition(".")
        if weights.accuracy is None or tag in ("tv_in1k", "tv2_in1k"):
            continue
        recipe = f"timm {tag.replace('_in1k', '')}" if weights.hub else f"torchvision {tag.removeprefix('IMAGENET1K_')}"
        network = network or preset_name(weights.config) or ""
        size, source = weights.data.preprocessing.size[0], weights.data.source
        yield Result(network, weights.config, recipe, weights.accuracy, size, source, weights)


def parse_config(text: str) -> ResNetConfig:
    """The configuration of "resnet34", or of "resnet34+shortcut=A"."""
    name, _, change = text.partition("+")
    if not change:
        return preset(name)
    option, _, value = change.partition("=")
    return preset(name).with_(**{option: from_text(option, OPTIONS[option], value)})[0]
