"""What a person brings, as a session holds it: images and a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from resnet import ResNetConfig

from ..inference import images
from ..sharing.store import Own


@dataclass(frozen=True, eq=False)
class Upload:
    """An image's file, which could be opened, told apart by its bytes' digest; with its middle as a small square."""

    digest: Own
    name: str
    data: bytes = field(repr=False)
    tile: np.ndarray = field(repr=False)

    @property
    def nbytes(self) -> int:
        return len(self.data) + self.tile.nbytes

    def pixels(self) -> np.ndarray:
        return images.pixels(self.data)


@dataclass(frozen=True)
class Brought:
    """What a session holds of one source, each image once, in the order in which they came.

    A widget for files is emptied as soon as they are read, by another one in its place, which is number `widget`. Of the last files
    that it brought, `problems` are sentences on those that are not kept, and `unread` is how many were too many; both
    until its page is left.
    """

    images: tuple[Upload, ...] = ()
    problems: tuple[str, ...] = ()
    unread: int = 0
    widget: int = 0


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What was read from an uploaded file.

    `config` is the network that was opened for it, `asked` are the options that its tensors do
    not show, each with the values that fit, `broken` the tensors with NaN or infinity.
    """

    name: str
    digest: Own
    config: ResNetConfig
    declared: bool
    asked: Mapping[str, tuple[Any, ...]]
    broken: tuple[str, ...]
    tensors: Mapping[str, Tensor]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())
