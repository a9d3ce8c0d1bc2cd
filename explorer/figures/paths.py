"""Figures of the experiments on paths and on the identity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from ..drawing.palette import ACCENT, STAGES
from ..experiments.paths import PathGradients, effective, path_shares
from ..units import count_text
from .base import finish, log_axis

GREY = "#8a919e"


def length_figure(counts: Sequence[int], found: PathGradients | None) -> go.Figure:
    """How long the paths are; where the gradients were measured, what part each length carries, and the effective ones."""
    lengths, shares = list(range(len(counts))), path_shares(counts)
    words = [count_text(count) for count in counts]
    figure = go.Figure()
    if found is None:
        figure.add_bar(
            x=lengths,
            y=shares,
            marker_color=GREY,
            customdata=words,
            name="share of the paths",
            hovertemplate="length %{x}: %{customdata} paths, %{y:.3~%} of all<extra></extra>",
        )
    else:
        run = effective(found.shares, counts)
        figure.add_vrect(run.low - 0.5, run.high + 0.5, fillcolor=ACCENT, opacity=0.1, line_width=0, layer="below")
        figure.add_bar(
            x=lengths,
            y=found.shares,
            marker_color=ACCENT,
            name="share of the gradient",
            hovertemplate="length %{x}: %{y:.2~%} of the gradient<extra></extra>",
        )
        figure.add_scatter(
            x=lengths,
            y=shares,
            mode="lines+markers",
            line={"color": GREY, "width": 2},
            marker={"size": 4},
            customdata=words,
            name="share of the paths",
            hovertemplate="length %{x}: %{customdata} paths, %{y:.3~%} of all<extra></extra>",
        )
    title = "Paths by length" if found is None else "Paths, and the gradient they carry"
    finish(figure, title, "length: branches that a path runs through", "", legend=found is not None)
    figure.update_xaxes(tickformat="d")
    figure.update_yaxes(tickformat="~%", rangemode="tozero")
    return figure


def norm_figure(found: PathGradients) -> go.Figure:
    """The gradient norm along one path by its length: every draw, and the mean."""
    figure = go.Figure()
    xs = [length for length, norms in zip(found.lengths, found.norms, strict=True) for norm in norms if norm > 0]
    figure.add_scatter(
        x=xs,
        y=[norm for norms in found.norms for norm in norms if norm > 0],
        mode="markers",
        name="one path",
        marker={"size": 4, "color": GREY, "opacity": 0.45},
        hovertemplate="length %{x}: %{y:.2~e}<extra></extra>",
    )
    figure.add_scatter(
        x=found.lengths,
        y=[mean or None for mean in found.means],
        mode="lines+markers",
        name="mean",
        line={"color": ACCENT},
        marker={"size": 6},
        hovertemplate="length %{x}: %{y:.2~e} in the mean<extra></extra>",
    )
    whole = float(np.mean(found.whole))
    figure.add_scatter(  # a line of the layout would be misplaced on a logarithmic axis
        x=[found.lengths[0], found.lengths[-1]],
        y=[whole or None] * 2,
        mode="lines",
        hoverinfo="skip",
        name="all paths together",
        line={"color": STAGES[2], "dash": "dot", "width": 1.5},
    )
    finish(figure, "Gradient at the image along one path", "length of the path", "‖∂loss/∂image‖", legend=True)
    figure.update_xaxes(tickformat="d")
    seen = [norm for norms in found.norms for norm in norms if norm > 0] + [whole] * (whole > 0)
    log_axis(figure, seen)
    return figure
