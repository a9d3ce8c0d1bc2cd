"""`latency`: how long networks take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from ...inference.latency import Machine, Timed, spread
from .base import WIDE, Document, folding, table
from .facts import named_facts

COLUMNS = ("network", "pixels", "MACs", "median ms", "quartiles ms", "least ms", "images/s", "of the first")


@dataclass(frozen=True)
class Latency(Document):
    """Networks with their times, for a batch of images."""

    timed: Sequence[Timed]
    machine: Machine
    batch: int

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Networks with their times, in the order of `COLUMNS`."""
        rows: list[tuple[str, ...]] = []
        for one in self.timed:
            times, ratio = spread([1000 * each for each in one.seconds]), one.against(self.timed[0])
            share = "1" if one is self.timed[0] else f"{ratio.median:.2f} ({ratio.lower:.2f}–{ratio.upper:.2f})"
            cells = (f"{times.median:,.2f}", f"{times.lower:,.2f}–{times.upper:,.2f}", f"{times.least:,.2f}")
            pixels = "×".join(map(str, one.traced.image_size))
            rate = f"{1000 * self.batch / times.median:,.1f}"
            rows.append((one.name, pixels, f"{one.traced.macs:,}", *cells, rate, share))
        return rows

    @property
    def lines(self) -> list[str]:
        """What was measured, and on what, in sentences."""
        machine, rounds = self.machine, len(self.timed[0].seconds)
        where = machine.device.partition(",")[0]
        busy = "" if machine.load is None else f", with a load of {machine.load:.1f} in the minute before"
        return [
            f"{rounds} passes of each network over a batch of {self.batch} in turn, in {machine.form}, with weights at their "
            f"initialisation, on {where}.",
            f"{machine.threads} of torch's threads on {machine.cores} cores{busy}; torch {machine.torch}. Other work on the "
            "machine slows passes.",
        ]

    def text(self) -> str:
        rows = [COLUMNS, *self.rows]
        wide = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
        lines = [
            "  ".join(
                [f"{row[0]:{wide[0]}}", *(f"{cell:>{size}}" for cell, size in zip(row[1:], wide[1:], strict=True))]
            )
            for row in rows
        ]
        return "\n".join([*lines, "", *self.lines, ""])

    def table(self) -> RenderableType:
        """In a narrow terminal without MACs and the least, and names fold."""
        left_out = ("MACs", "least ms") if Console().width < WIDE else ()
        places = [place for place, name in enumerate(COLUMNS) if name not in left_out]
        columns, *rows = ([row[place] for place in places] for row in (COLUMNS, *self.rows))
        return Group(folding(table(columns, rows, words=1)), "", *map(Text, self.lines))

    def facts(self) -> dict[str, Any]:
        """Times are in seconds."""
        return {
            "batch": self.batch,
            "machine": self.machine._asdict(),
            "networks": [
                {
                    "name": one.name,
                    **named_facts(one.traced.config),
                    "image_size": one.traced.image_size,
                    "parameters": one.traced.params,
                    "macs": one.traced.macs,
                    **spread(one.seconds)._asdict(),
                    "ratio": one.against(self.timed[0])._asdict(),
                    "seconds": one.seconds,
                }
                for one in self.timed
            ],
        }
