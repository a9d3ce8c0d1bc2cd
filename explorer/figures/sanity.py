"""Two checks of an explanation as figures."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from ..drawing.palette import STAGES
from ..inference.sanity import CAM, PIXELS, Checks
from .base import finish

SHADES = {CAM: STAGES[4], PIXELS: STAGES[0]}
"""The colours of the explanations."""


def cascade_figure(found: Checks) -> go.Figure:
    """How like the explanations stay to those of the network as it is, while its weights are made random from the top."""
    figure = go.Figure()
    names = [one.name for one in found.cascade]
    series = {
        CAM: ([one.cam_rank for one in found.cascade], SHADES[CAM], "solid", "circle"),
        PIXELS: ([one.pixel_rank for one in found.cascade], SHADES[PIXELS], "solid", "square"),
        f"{PIXELS}, magnitude": ([one.magnitude_rank for one in found.cascade], SHADES[PIXELS], "dot", "square-open"),
    }
    for name, (values, shade, dash, symbol) in series.items():
        figure.add_scatter(
            x=names,
            y=values,
            name=name,
            mode="lines+markers",
            line={"color": shade, "dash": dash},
            marker={"symbol": symbol, "size": 8},
            hovertemplate=f"{name}, random down to %{{x}}: %{{y:.2f}}<extra></extra>",
        )
    figure.add_hline(y=0, line_dash="dot", line_color="#8a919e")
    finish(
        figure, "Rank correlation with the map of the trained network", "random from the top down to", "", legend=True
    )
    figure.update_xaxes(type="category", tickformat=None)
    figure.update_yaxes(tickformat="~g", range=[min(-0.3, *lowest(series)), 1.05])
    return figure


def lowest(series: dict[str, tuple[list[float], str, str, str]]) -> list[float]:
    """Just below the least of each series' numbers."""
    return [float(np.nanmin(values)) - 0.05 for values, *_ in series.values()]


def deletion_figure(found: Checks, class_name: str) -> go.Figure:
    """The probability of a class while pixels are removed: those that an explanation names first, and at random."""
    figure = go.Figure()
    shares = np.linspace(0, 1, found.random.shape[1])
    low, high = found.random.min(0), found.random.max(0)
    figure.add_scatter(
        x=np.concatenate([shares, shares[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        fill="toself",
        fillcolor="rgba(138, 145, 158, 0.25)",
        line={"width": 0},
        name=f"{len(found.random)} random orders, from lowest to highest",
        mode="lines",
        hoverinfo="skip",
    )
    series = {name: (curve, SHADES[name], "solid") for name, curve in found.curves.items()}
    for name, (curve, shade, dash) in (series | {"random, mean": (found.random.mean(0), "#8a919e", "dash")}).items():
        figure.add_scatter(
            x=shares,
            y=curve,
            name=name,
            mode="lines",
            line={"color": shade, "dash": dash, "width": 2},
            hovertemplate=f"{name}: %{{y:.1%}} with %{{x:.0%}} removed<extra></extra>",
        )
    finish(figure, f"Probability of {class_name} while pixels are removed", "share of pixels removed", "", legend=True)
    figure.update_xaxes(tickformat="~%")
    figure.update_yaxes(tickformat="~%", rangemode="tozero")
    return figure
