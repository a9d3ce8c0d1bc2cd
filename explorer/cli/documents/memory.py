"""`memory`: what a batch takes, and the largest that fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ...analysis.demand import NOT_COUNTED, OPTIMIZERS, Demand, Term
from ...analysis.forms import Precision
from ...analysis.trace import Trace
from .base import Document, table
from .facts import named_facts

TERM_COLUMNS = ("bytes at the peak", "prediction", "training")
FITS_COLUMNS = ("largest batch within", "prediction", "training")


@dataclass(frozen=True)
class Memory(Document):
    """What a network takes for a batch: its trace, how it runs, and the memories in bytes that it may have to fit into."""

    traced: Trace
    batch: int
    precision: str
    optimizer: str
    prediction: Demand
    training: Demand
    memories: tuple[int, ...]

    @property
    def heading(self) -> str:
        """ResNet-50 at 224×224, depth 50: 32 images, everything in fp32, with SGD with momentum."""
        images = "1 image" if self.batch == 1 else f"{self.batch:,} images"
        words = Precision(self.precision).words
        return f"{self.traced.heading}: {images}, {words}, with {OPTIMIZERS[self.optimizer].label}"

    @property
    def terms(self) -> list[tuple[str, int, int]]:
        """What takes memory at the peaks, in the order of `TERM_COLUMNS`; the last row is all of it."""
        first, second = self.prediction.terms(self.batch), self.training.terms(self.batch)
        rows = [
            (str(term), first.get(term, 0), second.get(term, 0)) for term in Term if term in first or term in second
        ]
        return [*rows, ("at once", sum(first.values()), sum(second.values()))]

    @property
    def largest(self) -> list[tuple[str, int, int]]:
        """The largest batches, in the order of `FITS_COLUMNS`."""
        return [
            (f"{size / 2**30:g} GiB", self.prediction.largest_batch(size), self.training.largest_batch(size))
            for size in self.memories
        ]

    @property
    def lines(self) -> list[str]:
        """When the peaks are, and what is not counted, in sentences."""
        first, second = self.prediction.peak(self.batch).when, self.training.peak(self.batch).when
        return [f"The peak of a prediction: {first}. That of a step of training: {second}.", NOT_COUNTED]

    def text(self) -> str:
        lines = []
        for columns, rows in ((TERM_COLUMNS, self.terms), (FITS_COLUMNS, self.largest)):
            cells = [columns, *((name, f"{one:,}", f"{two:,}") for name, one, two in rows)]
            lines += [f"{name:24}{one:>18}{two:>18}" for name, one, two in cells] + [""]
        return "\n".join([self.heading, "", *lines, *self.lines, ""])

    def table(self) -> RenderableType:
        """What takes memory at the peaks, then the largest batches."""
        return Group(
            Text(self.heading, style="bold"),
            table(TERM_COLUMNS, self.terms, words=1, name="at once"),
            "",
            table(FITS_COLUMNS, self.largest, words=1),
            *map(Text, ["", *self.lines]),
        )

    def facts(self) -> dict[str, Any]:
        """In bytes."""

        def demanded(demand: Demand) -> dict[str, Any]:
            peak = demand.peak(self.batch)
            return {"peak": demand.bytes(self.batch), "when": peak.when, "terms": demand.terms(self.batch)}

        return {
            **named_facts(self.traced.config),
            "image_size": self.traced.image_size,
            "parameters": self.traced.params,
            "batch": self.batch,
            "precision": self.precision,
            "optimizer": self.optimizer,
            "prediction": demanded(self.prediction),
            "training": demanded(self.training),
            "fits": [
                {
                    "memory": size,
                    "prediction": self.prediction.largest_batch(size),
                    "training": self.training.largest_batch(size),
                }
                for size in self.memories
            ],
        }
