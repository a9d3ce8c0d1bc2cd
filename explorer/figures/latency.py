"""How long networks took beside each other, as a plotly figure."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from ..drawing.palette import NETWORKS
from ..inference.latency import Timed
from .base import finish


def compared_figure(timed: Sequence[Timed], title: str) -> go.Figure:
    """Every pass of each network as a point, over a box from quartile to quartile with the median in it."""
    figure = go.Figure()
    for one, shade in zip(timed, NETWORKS, strict=False):
        figure.add_box(
            x=[1000 * seconds for seconds in one.seconds],
            y=[one.name] * len(one.seconds),
            name=one.name,
            orientation="h",
            quartilemethod="inclusive",
            boxpoints="all",
            jitter=0.5,
            pointpos=0,
            marker={"color": shade, "size": 4, "opacity": 0.6},
            line={"color": shade, "width": 1.5},
            hovertemplate="%{x:.4g} ms<extra>%{y}</extra>",
        )
    finish(figure, title, "ms a batch", "", legend=False)
    figure.update_layout(height=120 + 48 * len(timed))
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(autorange="reversed", tickformat=None, automargin=True)
    return figure
