"""Figures of the experiments on gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb
from plotly.subplots import make_subplots

from ..drawing.palette import ACCENT, STAGES
from ..experiments.gradients import PLAIN, RESIDUAL, Flows, Point, cosines_by_depth
from ..units import decimals
from .base import KIND_SYMBOLS, finish, kind_marker, log_axis

SHADES = {RESIDUAL: ACCENT, PLAIN: STAGES[2]}
"""Residual is blue and plain brown, here as in the other experiments."""


class Style(NamedTuple):
    """How one network's lines look."""

    kind: str
    dash: str


def flow_figure(
    flows: Mapping[str, tuple[Flows, Style]], quantity: str, xs: Mapping[str, Sequence[int]], title: str, axis: str
) -> go.Figure:
    """The "signal" or "gradient" of several networks by depth, each with a band from least to greatest.

    `xs` are the places of the values, in convolutions from the image.
    """
    figure, seen = go.Figure(), []
    for name, (spread, (kind, dash)) in flows.items():
        mean, low, high = (np.where(values > 0, values, np.nan) for values in spread.statistics(quantity))
        places, shade = list(xs[name]), SHADES[kind]
        red, green, blue = hex_to_rgb(shade)
        for bound, fill in ((high, None), (low, "tonexty")) if len(spread.flows) > 1 else ():
            figure.add_scatter(
                x=places,
                y=_drawn(bound),
                mode="lines",
                line={"width": 0, "color": shade},
                fill=fill,
                hoverinfo="skip",
                fillcolor=f"rgba({red}, {green}, {blue}, 0.15)",
                showlegend=False,
                legendgroup=name,
            )
        figure.add_scatter(
            x=places,
            y=_drawn(mean),
            mode="lines+markers",
            name=name,
            legendgroup=name,
            marker=kind_marker(kind),
            line={"color": shade, "dash": dash, "width": 2},
            hovertemplate=f"{name}, convolution %{{x}}: %{{y:.2~e}}<extra></extra>",
        )
        seen += mean[np.isfinite(mean)].tolist()
    finish(figure, title, "convolution, from image to classifier", axis, legend=True)
    figure.update_layout(height=400)
    log_axis(figure, seen)
    return figure


def _drawn(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def cosine_figure(points: Sequence[Point], depths: Sequence[int]) -> go.Figure:
    """How alike the gradients of neighbouring inputs are, by depth: every seed, and the mean."""
    figure = go.Figure()
    for kind, shade in SHADES.items():
        found = cosines_by_depth(points, kind)
        figure.add_scatter(
            x=[depth for depth, cosines in found.items() for _ in cosines],
            y=[c for cosines in found.values() for c in cosines],
            mode="markers",
            marker={"size": 5, "color": shade, "opacity": 0.45, "symbol": KIND_SYMBOLS[kind]},
            showlegend=False,
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=list(found),
            y=[float(np.mean(cosines)) for cosines in found.values()],
            mode="lines+markers",
            name=kind,
            line={"color": shade, "width": 2.5},
            marker={"size": 8, "symbol": KIND_SYMBOLS[kind]},
            hovertemplate=f"{kind}, %{{x}} layers: %{{y:.2f}}<extra></extra>",
        )
    finish(figure, "Gradients of neighbouring inputs", "layers", "cosine between them", legend=True)
    figure.update_layout(height=400)
    figure.update_xaxes(range=[0, depths[-1] * 1.04], tickvals=list(depths), tickangle=0)
    figure.update_yaxes(range=[-0.12, 1.05], tickformat=".1f", dtick=0.2)
    return figure


def slope_figure(points: Sequence[Point]) -> go.Figure:
    """How the score changes along the way, one network above the other."""
    figure = make_subplots(
        rows=len(points),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.09,
        subplot_titles=[f"{point.kind}, {point.depth} layers: cosine {decimals(point.cosine)}" for point in points],
    )
    for row, point in enumerate(points, start=1):
        figure.add_scatter(
            x=list(range(len(point.slope))),
            y=point.slope,
            mode="lines",
            row=row,
            col=1,
            line={"color": SHADES[point.kind], "width": 1.2},
            hovertemplate="input %{x}: %{y:.2f}<extra></extra>",
        )
    finish(figure, "The gradient along the way", "", "", legend=False)
    figure.update_layout(
        height=400, margin_t=66, title={"y": 1 - 22 / 400, "yanchor": "middle"}
    )  # where others have it
    figure.update_annotations(font_size=12, x=0, xanchor="left")
    figure.update_xaxes(showgrid=False)
    figure.update_xaxes(title="input, from one image to another", row=len(points), col=1)
    figure.update_yaxes(tickformat=None, nticks=4)
    return figure
