"""`predict`: the classes of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from resnet import title
from resnet.options import plain

from ...inference.classify import Classified
from ...inference.device import Device
from ...inference.weights import Chosen
from .base import Document, folding, table
from .facts import named_facts, preprocessing_facts

COLUMNS = ("image", "class", "probability")


@dataclass(frozen=True)
class Prediction(Document):
    """The classes of images, and the network with the weights that named them."""

    found: Sequence[Classified]
    chosen: Chosen
    device: Device

    @property
    def heading(self) -> str:
        """ResNet-50, weights: timm resnet50.a1_in1k, images of 288×288 pixels."""
        height, width = self.chosen.weights.data.preprocessing.size
        config = self.chosen.network.config
        return f"{title(config)}, weights: {self.chosen.words}, images of {height}×{width} pixels"

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """The classes of images, in the order of `COLUMNS`."""
        return [
            (plain(one.image, 80), plain(each.name, 60), f"{each.probability:.2%}")
            for one in self.found
            for each in one.classes
        ]

    @property
    def notes(self) -> list[str]:
        """What was done and assumed, below an empty line; nothing where nothing was."""
        return ["", *self.chosen.notes] if self.chosen.notes else []

    def text(self) -> str:
        rows = [COLUMNS, *self.rows]
        wide, name = (max(len(row[place]) for row in rows) for place in (0, 1))
        lines = [f"{image:{wide}}  {what:{name}}  {share:>11}" for image, what, share in rows]
        return "\n".join([self.heading, "", *lines, *self.notes, ""])

    def table(self) -> RenderableType:
        """Paths that are too long fold."""
        classes = folding(table(COLUMNS, self.rows, words=2))
        return Group(Text(self.heading, style="bold"), classes, *map(Text, self.notes))

    def facts(self) -> dict[str, Any]:
        data = self.chosen.weights.data
        return {
            **named_facts(self.chosen.network.config),
            "weights": self.chosen.words,
            "data": data.name,
            "preprocessing": preprocessing_facts(data.preprocessing),
            "device": self.device.name,
            "notes": self.chosen.notes,
            "images": [
                {
                    "image": one.image,
                    "inverted": one.inverted,
                    "classes": [each._asdict() for each in one.classes],
                    "problem": one.problem or None,
                }
                for one in self.found
            ],
        }
