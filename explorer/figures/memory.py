"""What takes memory, as a figure."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from ..analysis.demand import Term
from ..drawing.palette import HEAD, NETWORKS, STEM
from ..units import mebibytes
from .base import finish

LOOKS: Mapping[Term, tuple[str, str]] = {
    Term.WEIGHTS: (HEAD, "x"),
    Term.BUFFERS: (STEM, "."),
    Term.STATES: (NETWORKS[2], "-"),
    Term.GRADIENTS: (NETWORKS[4], "+"),
    Term.COPIES: (NETWORKS[3], "|"),
    Term.INPUT: (NETWORKS[5], "\\"),
    Term.SAVED: (NETWORKS[0], ""),
    Term.WORKING: (NETWORKS[1], "/"),
}
"""The colour of a term, and what its bars are hatched with, so that the colour is not their only sign."""
UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def memory_figure(rows: Mapping[str, Mapping[Term, int]]) -> go.Figure:
    """A bar for each row, stacked of the bytes of its terms."""
    largest = max(sum(terms.values()) for terms in rows.values())
    size, unit = next((one for one in UNITS if largest >= one[0]), UNITS[-1])
    figure = go.Figure()
    for term, (shade, pattern) in LOOKS.items():
        values = [terms.get(term, 0) for terms in rows.values()]
        if any(values):
            figure.add_bar(
                y=list(rows),
                x=[value / size for value in values],
                name=str(term),
                orientation="h",
                marker={
                    "color": shade,
                    "pattern": {"shape": pattern, "fillmode": "overlay", "size": 7, "solidity": 0.2},
                },
                customdata=[(f"{value:,}", mebibytes(value)) for value in values],
                hovertemplate=f"%{{y}}<br>{term}: %{{customdata[1]}}, %{{customdata[0]}} bytes<extra></extra>",
            )
    finish(figure, "Memory at the peak, by what takes it", "", "", legend=True)
    figure.update_layout(barmode="stack", height=290, legend={"y": -0.16, "traceorder": "normal"})
    figure.update_xaxes(ticksuffix=f" {unit}")
    figure.update_yaxes(autorange="reversed", tickformat=None)
    return figure
