"""What `list` and `search` say alike: a budget, and what networks cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...analysis.search import LIMITED, WRITTEN, Candidate, Limits
from ...link import View, relative
from .base import Taken
from .facts import field_facts

COLUMNS = ("network", "depth", "parameters", "MACs", "peak bytes", "training bytes", "field")
Row = tuple[str | int, ...]


def limit_words(limits: Limits, own_sizes: bool = False) -> str:
    """At 320×640, at most 5.00 GMACs and 30.00 M parameters; without the size where networks have their own."""
    given = [WRITTEN[name](value) for name in LIMITED if (value := getattr(limits, name))]
    size = "at their own sizes" if own_sizes else "at {}×{}".format(*limits.size)
    return size + (f", at most {' and '.join(given)}" if given else "")


def row(name: str, candidate: Candidate) -> Row:
    """A network and what it costs, in the order of `COLUMNS`."""
    return (
        name,
        candidate.depth,
        candidate.params,
        candidate.macs,
        candidate.memory,
        candidate.training_memory,
        candidate.field.size,
    )


def framed(rows: list[Row]) -> list[str]:
    """Rows of `COLUMNS` as text; nothing where there are none."""
    import pandas

    return ["", pandas.DataFrame(rows, columns=[*COLUMNS]).to_string(index=False)] if rows else []


def taken(heading: str, rows: Iterable[Row], candidates: Iterable[Candidate]) -> Taken:
    """Rows of `COLUMNS` to take away, each with the link to its own network."""
    links = (relative(View(one.config, one.image_size)) for one in candidates)
    return Taken(heading, COLUMNS, tuple(rows)).linked(links)


def limit_facts(limits: Limits) -> dict[str, Any]:
    """A budget, null where there is no limit."""
    return {
        "image_size": limits.size,
        "macs": limits.macs or None,
        "parameters": limits.params or None,
        "memory": limits.memory or None,
    }


def cost_facts(candidate: Candidate) -> dict[str, Any]:
    """What a candidate costs."""
    return {
        "image_size": candidate.image_size,
        "depth": candidate.depth,
        "parameters": candidate.params,
        "macs": candidate.macs,
        "memory": {"peak": candidate.memory, "training": candidate.training_memory},
        "receptive_field": field_facts(candidate.field),
    }
