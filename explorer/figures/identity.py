"""The identity experiment as a figure."""

from __future__ import annotations

import plotly.graph_objects as go

from ..drawing.palette import ACCENT, STAGES
from ..experiments.identity import AppendResult
from .base import finish
from .paths import GREY


def appended_figure(result: AppendResult, trained: bool) -> go.Figure:
    """What the network gets right, or names as before, with each kind of block appended; the line is without any."""
    figure = go.Figure()
    values = [one.accuracy if trained else one.same_class for one in result.outcomes]
    shades = [ACCENT if one.kind.startswith("residual") else STAGES[2] for one in result.outcomes]
    names = [one.kind.replace(", ", ",<br>", 1) for one in result.outcomes]
    figure.add_bar(
        y=names,
        x=values,
        orientation="h",
        marker_color=shades,
        text=[f"{value:.1%}" for value in values],
        textposition=["inside" if value > 0.15 else "outside" for value in values],
        textangle=0,
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    before = result.accuracy if trained else 1.0
    figure.add_vline(x=before, line_dash="dot", line_color=GREY)
    title = "Top-1 accuracy with the blocks appended" if trained else "Same class named as before"
    words = f"dotted: before, {before:.1%}" if trained else "share of the images"
    finish(figure, title, words, "", legend=False)
    figure.update_yaxes(autorange="reversed", tickformat=None)
    figure.update_xaxes(tickformat="~%", range=[0, 1.02])
    return figure
