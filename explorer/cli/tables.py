"""`summary`, `compare`, `list`, `search`, `checkpoint`, `predict` and `latency` as tables for a terminal: what `documents` says, with columns that fit its width."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from resnet import Opened
from resnet.options import plain

from ..analysis.compare import DELTAS, Comparison, charges, differing_rows, remarks, total_pairs
from ..analysis.search import Candidate, Fits, Limits, Part
from ..analysis.space import Space
from ..analysis.trace import COLUMNS, Trace
from ..inference.classify import Classified
from ..inference.latency import Machine, Timed
from ..inference.weights import Chosen
from . import documents

WIDE = 110
"""Characters of a line from which on the layer table stands in it with all of its columns."""


def rendered(content: RenderableType) -> str:
    """What a terminal shows, with its colours and in its width. The text in it is text, whatever is in it."""
    console = Console(markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        console.print(content)
    return capture.get()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], words: int, name: str = "") -> Table:
    """Rows whose first `words` columns are text and whose others are numbers; the last row is set apart if `name` is its
    first word."""
    made = Table(*columns, box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for place, column in enumerate(made.columns):
        column.justify = "left" if place < words else "right"
        column.no_wrap = place >= words or place == 0
    for row in rows:
        cells = [f"{value:,}" if isinstance(value, int) else str(value) for value in row]
        made.add_row(*cells, style="bold" if name and row[0] == name else None)
    return made


def summary(traced: Trace) -> RenderableType:
    """The layers, then the totals."""
    narrow = Console().width < WIDE
    frame = traced.frame().drop(columns=["inputs", *(["part", "effective_stride", "start"] * narrow)])
    layers = table(
        [COLUMNS[name].label for name in frame.columns],
        frame.itertuples(index=False, name=None),
        words=3 if narrow else 4,
    )
    figures = table(("", ""), traced.figures, words=2)
    figures.show_header = False
    notes = map(Text, traced.notes)
    return Group(layers, "", Text(traced.heading, style="bold"), figures, *notes)


def comparison(compared: Comparison) -> RenderableType:
    """The totals, the layers that differ, and the bill."""
    names = compared.names
    totals = [(name, one, two, f"{two - one:+,}", f"×{two / one:.3g}") for name, one, two in total_pairs(compared)]
    rows = differing_rows(compared)
    return Group(
        Text(compared.heading, style="bold"),
        table(("", *names, "difference", "ratio"), totals, words=1),
        *map(Text, remarks((compared.a, compared.b), names)),
        "",
        Text(compared.differing, style="bold"),
        *([table(("layer", *names, *DELTAS), rows, words=3)] if rows else []),
        "",
        table(("applied in this order", *DELTAS), charges(compared), words=1, name="total"),
    )


def fits(found: Fits) -> RenderableType:
    """The networks that fit, and the nearest of the others."""
    rows = documents.fit_rows(found)
    return Group(
        Text(documents.fit_heading(found), style="bold"),
        *([table(documents.COST_COLUMNS, rows, words=1)] if rows else []),
        *map(Text, ["", *lines] if (lines := documents.near_lines(found)) else []),
    )


def search(space: Space, limits: Limits, found: Part, shown: Sequence[Candidate], goals: str) -> RenderableType:
    """The designs that are shown of those that were found; where they do not fit beside each other, their names fold."""
    made = table(documents.COST_COLUMNS, documents.design_rows(shown), words=1)
    made.columns[0].no_wrap = False
    made.columns[0].overflow = "fold"
    heading = Text(documents.search_heading(space, limits, found, shown, goals), style="bold")
    return Group(heading, *([made] if shown else []))


def checkpoint(name: str, opened: Opened, answers: Mapping[str, str]) -> RenderableType:
    """What a checkpoint is, then what was left out, done and assumed."""
    figures = table(("", ""), documents.checkpoint_figures(opened), words=2)
    figures.show_header = False
    figures.columns[1].overflow = "fold"
    return Group(
        Text(plain(name, 80), style="bold"), figures, "", *map(Text, documents.checkpoint_lines(name, opened, answers))
    )


def prediction(found: Sequence[Classified], chosen: Chosen) -> RenderableType:
    """The classes of images; paths that are too long fold."""
    made = table(documents.CLASS_COLUMNS, documents.class_rows(found), words=2)
    made.columns[0].no_wrap = False
    made.columns[0].overflow = "fold"
    heading = Text(documents.prediction_heading(chosen), style="bold")
    return Group(heading, made, *map(Text, ["", *chosen.notes] if chosen.notes else []))


def latency(timed: Sequence[Timed], machine: Machine, batch: int) -> RenderableType:
    """Networks with their times; in a narrow terminal without their MACs and the least, and names fold."""
    left_out = ("MACs", "least ms") if Console().width < WIDE else ()
    places = [place for place, name in enumerate(documents.LATENCY_COLUMNS) if name not in left_out]
    columns, *rows = (
        [row[place] for place in places] for row in (documents.LATENCY_COLUMNS, *documents.latency_rows(timed, batch))
    )
    made = table(columns, rows, words=1)
    made.columns[0].no_wrap = False
    made.columns[0].overflow = "fold"
    return Group(made, "", *map(Text, documents.latency_lines(timed, machine, batch)))
