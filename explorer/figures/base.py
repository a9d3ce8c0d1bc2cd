"""What all figures have in common."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.colors import hex_to_rgb

from ..units import scientific


def finish(figure: go.Figure, title: str, x: str, y: str, legend: bool) -> go.Figure:
    """The figure with title, axis titles and, below it, a legend, as all of ours have them."""
    figure.update_layout(
        title=title or None,
        height=340,
        showlegend=legend,
        bargap=0.15,
        hovermode="closest",
        margin={"l": 8, "r": 8, "t": 44, "b": 8},
        legend={"orientation": "h", "y": -0.22, "title": None},
    )
    figure.update_xaxes(title=x or None)
    figure.update_yaxes(title=y or None, tickformat="~s", exponentformat="SI")
    return figure


def figure_words(figure: go.Figure) -> str:
    """What a figure shows, for whom it is not seen: its title, and what its legend names where that are several."""
    names = dict.fromkeys(one.name for one in figure.data if one.name and one.showlegend is not False)
    title = figure.layout.title.text or ""
    return re.sub("<[^>]*>", " ", f"{title}: {', '.join(names)}" if len(names) > 1 else title)


def band(
    figure: go.Figure, x: Sequence[float], low: Sequence[float], high: Sequence[float], shade: str, name: str
) -> None:
    """Add the area between two lines, in the colour of the line called `name` and switched on and off with it."""
    red, green, blue = hex_to_rgb(shade)
    for bound, fill in ((high, None), (low, "tonexty")):
        figure.add_scatter(
            x=x,
            y=bound,
            mode="lines",
            line={"width": 0, "color": shade},
            fill=fill,
            fillcolor=f"rgba({red}, {green}, {blue}, 0.2)",
            hoverinfo="skip",
            showlegend=False,
            legendgroup=name,
        )


KIND_SYMBOLS = {"plain": "diamond-open", "residual": "circle"}


def kind_marker(kind: str, share: float = 1.0) -> dict[str, Any]:
    """The marks on a line of a network, which tell plain ones from residual ones as the colour does: eight, or fewer on a
    line that takes a `share` of the figure's width.
    """
    return {"symbol": KIND_SYMBOLS[kind], "size": 8, "maxdisplayed": max(1, round(8 * share))}


def log_axis(figure: go.Figure, values: Sequence[float]) -> None:
    """A logarithmic y axis for positive values: at most eight powers of ten on it, or 1, 2 and 5 times some."""
    figure.update_yaxes(type="log", tickformat=None, exponentformat="power")
    low, high = (math.log10(bound(values)) if values else 0.0 for bound in (min, max))
    if high - low > 1.5:
        figure.update_yaxes(dtick=math.ceil((high - low) / 7))
    else:
        powers = range(math.floor(low), math.ceil(high) + 1)
        ticks = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
        figure.update_yaxes(tickvals=ticks, ticktext=[scientific(tick) for tick in ticks])
