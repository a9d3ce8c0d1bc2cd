"""What networks were trained on: the names of its classes, and how an image becomes the input that they take."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, overload

Interpolation = Literal["bilinear", "bicubic"]
"""How an image is scaled: as Pillow does, which averages where it makes an image smaller."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input that a set of weights was trained on.

    The image is scaled until it just covers `crop`, whose shorter side then stands for `resize`
    pixels, and the middle is kept: for a square, the shorter side becomes `resize` pixels, as in
    torchvision. With `fit` the whole image is scaled into `crop` and the rest is background.
    Then (x − mean) / std, x in 0…1, one entry a channel.
    """

    resize: int
    crop: int | tuple[int, int]
    """The side of a square, or (height, width), in pixels."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: bool = False
    bright_on_dark: bool = False
    """Trained on bright objects on black: an image with a bright border is inverted first."""
    interpolation: Interpolation = "bilinear"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of what the network takes, in pixels."""
        return (self.crop, self.crop) if isinstance(self.crop, int) else self.crop

    def at(self, size: tuple[int, int]) -> Preprocessing:
        """The same for another size (height, width) in pixels: the same part of the image is kept."""
        if size == self.size:
            return self
        return replace(self, resize=round(self.resize * min(size) / min(self.size)), crop=size)


@dataclass(frozen=True)
class DataSet:
    """What a network was trained on, as the app states it."""

    name: str
    source: str
    licence: str
    preprocessing: Preprocessing
    categories: Sequence[str]
    """Their names, in what can be hashed; whatever is kept of these weights holds them."""
    pretraining: str = ""
    """What it was trained on before, where that is another data set."""


FASHION_MNIST = DataSet(
    name="Fashion-MNIST",
    source="Xiao, Rasul, Vollgraf 2017, https://arxiv.org/abs/1708.07747",
    licence="MIT",
    preprocessing=Preprocessing(28, 28, (0.2860,), (0.3530,), fit=True, bright_on_dark=True),
    categories=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
)


@dataclass(frozen=True)
class ImageNet(Sequence[str]):
    """The 1000 classes of ImageNet-1k, as torchvision calls them; whatever holds this holds none of the names."""

    def __len__(self) -> int:
        return len(_imagenet_names())

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return _imagenet_names()[index]


@cache
def _imagenet_names() -> tuple[str, ...]:
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


@dataclass(frozen=True)
class Numbered(Sequence[str]):
    """ "class 0", "class 1" and so on, made when they are asked for."""

    number: int

    def __len__(self) -> int:
        return self.number

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        numbers = range(self.number)[index]
        return f"class {numbers}" if isinstance(numbers, int) else [f"class {number}" for number in numbers]

    def __contains__(self, name: object) -> bool:  # a person may ask for a class among 100,000
        found = re.fullmatch(r"class ([0-9]{1,9})", name) if isinstance(name, str) else None
        return found is not None and int(found[1]) < self.number and name == f"class {int(found[1])}"
