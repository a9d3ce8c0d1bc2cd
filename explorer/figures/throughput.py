"""Throughput against batch, as a figure."""

from __future__ import annotations

import plotly.graph_objects as go

from ..drawing.palette import ACCENT
from ..inference.throughput import Throughput
from .base import band, finish


def throughput_figure(found: Throughput) -> go.Figure:
    """Images a second by batch: the median of the passes, and between their quartiles a band."""
    batches = [point.batch for point in found.points]
    spreads = [point.images_per_second for point in found.points]
    figure = go.Figure()
    band(figure, batches, [one.lower for one in spreads], [one.upper for one in spreads], ACCENT, "median")
    figure.add_scatter(
        x=batches,
        y=[one.median for one in spreads],
        name="median",
        mode="lines+markers",
        line={"color": ACCENT},
        marker={"size": 8},
        customdata=[
            (one.lower, one.upper, len(point.seconds)) for one, point in zip(spreads, found.points, strict=True)
        ],
        hovertemplate="batch %{x}: %{y:,.1f} images/s<br>quartiles %{customdata[0]:,.1f} to %{customdata[1]:,.1f}, "
        "%{customdata[2]} passes<extra></extra>",
    )
    finish(figure, "Throughput by batch", "batch", "images/s", legend=False)
    figure.update_xaxes(type="log", tickvals=batches, ticktext=[f"{batch:,}" for batch in batches], tickformat=None)
    figure.update_yaxes(rangemode="tozero")
    return figure
