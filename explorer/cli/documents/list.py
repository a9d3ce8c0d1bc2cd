"""`list`: the networks that fit a budget, and the nearest of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ...analysis.search import Fits, narrower
from . import costs
from .base import Tabular, Taken, table
from .facts import named_facts

NEAREST = 5
"""Networks over the budget that are named."""
KEYS = {"params": "parameters"} | {name: name for name in ("macs", "memory")}
"""What the JSON calls each limit."""


@dataclass(frozen=True)
class Listed(Tabular):
    """Networks against a budget: those that fit, then the nearest first."""

    found: Fits

    @property
    def heading(self) -> str:
        """1 of 103 presets at 320×640, at most 5.00 GMACs."""
        found = self.found
        return f"{len(found.inside)} of {len(found.rows)} presets {costs.limit_words(found.limits)}"

    @property
    def rows(self) -> list[costs.Row]:
        """The networks that fit, each with what it costs."""
        return [costs.row(row.name, row.candidate) for row in self.found.inside if row.candidate]

    @property
    def nearest(self) -> list[str]:
        """The nearest of the others, a line each, and how many each limit leaves out; none where all fit."""
        found = self.found
        if not found.outside:
            return []
        first_names = {row.config: row for row in reversed(found.outside)}  # a network with two names is named once
        near = [row for row in found.outside if first_names[row.config] is row][:NEAREST]
        lines = []
        for row in near:
            remedy = f"; {narrower(row.config, found.limits).words}" if row.over else ""
            lines.append(f"{row.name}: {row.reason}{remedy}")
        counts = [f"{count} by {found.limits.options()[name].label}" for name, count in found.left_out.items()]
        return ["The nearest of the others:", *lines, *([f"Left out: {', '.join(counts)}."] if counts else [])]

    def text(self) -> str:
        return "\n".join([self.heading, *costs.framed(self.rows), "", *self.nearest]).rstrip() + "\n"

    def table(self) -> RenderableType:
        rows, nearest = self.rows, self.nearest
        return Group(
            Text(self.heading, style="bold"),
            *([table(costs.COLUMNS, rows, words=1)] if rows else []),
            *map(Text, ["", *nearest] if nearest else []),
        )

    def taken(self) -> Taken:
        """The networks that fit, each by a name that a NETWORK is typed as."""
        return costs.taken(self.heading, self.rows, [row.candidate for row in self.found.inside if row.candidate])

    def facts(self) -> dict[str, Any]:
        return {
            "limits": costs.limit_facts(self.found.limits),
            "networks": [
                {"name": row.name}
                | named_facts(row.config)
                | (costs.cost_facts(row.candidate) if row.candidate else {})
                | {"over": [{"limit": KEYS[one.measure], "value": one.value, "ratio": one.ratio} for one in row.over]}
                for row in (*self.found.inside, *self.found.outside)
            ],
        }
