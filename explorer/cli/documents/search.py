"""`search`: the designs of a space that fit a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ...analysis.search import Candidate, Limits, Part
from ...analysis.space import SIZE, Space
from ...link import View, query_text
from . import costs
from .base import Tabular, Taken, folding, table
from .facts import named_facts


def typed_as(candidate: Candidate) -> str:
    """What a candidate is typed as where a NETWORK is asked for."""
    return query_text(View(candidate.config, candidate.image_size))


@dataclass(frozen=True)
class Searched(Tabular):
    """The designs that are shown of those that were found: all, or those that no other one beats by `goals`."""

    space: Space
    limits: Limits
    found: Part
    shown: Sequence[Candidate]
    goals: str = ""

    @property
    def heading(self) -> str:
        """How many designs are shown, of how many, and what was left out."""
        found = self.found
        unbeaten = f" that no other beats by {self.goals}, of {len(found.candidates):,}" if self.goals else ""
        counts = ((found.over, "over a limit"), (found.invalid, "not buildable"))
        left_out = ", ".join(f"{count:,} {words}" for count, words in counts if count)
        budget = costs.limit_words(self.limits, own_sizes=SIZE in dict(self.space.axes))
        shown = f"{len(self.shown):,}{unbeaten} of {len(self.space):,} designs {budget}"
        return shown + (f"; {left_out}" if left_out else "")

    @property
    def rows(self) -> list[costs.Row]:
        """The designs that are shown, each with what it costs."""
        return [costs.row(typed_as(one), one) for one in self.shown]

    def text(self) -> str:
        return "\n".join([self.heading, *costs.framed(self.rows), ""])

    def table(self) -> RenderableType:
        """Where the names of designs do not fit beside their costs, they fold."""
        designs = folding(table(costs.COLUMNS, self.rows, words=1))
        return Group(Text(self.heading, style="bold"), *([designs] if self.shown else []))

    def taken(self) -> Taken:
        """The designs that are shown, each by what a NETWORK is typed as."""
        return costs.taken(self.heading, self.rows, self.shown)

    def facts(self) -> dict[str, Any]:
        found = self.found
        return {
            "limits": costs.limit_facts(self.limits),
            "space": self.space.to_text(),
            "designs": {
                "all": len(self.space),
                "within": len(found.candidates),
                "over": found.over,
                "invalid": found.invalid,
            },
            "goals": self.goals or None,
            "networks": [
                {"index": one.index, "query": typed_as(one)} | named_facts(one.config) | costs.cost_facts(one)
                for one in self.shown
            ],
        }
