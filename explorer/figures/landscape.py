"""The loss around trained networks as contours, as a surface, and along slices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..experiments.gradients import PLAIN, RESIDUAL
from ..experiments.landscape import Surface
from ..units import scientific
from .base import band, finish, kind_marker, log_axis
from .gradients import SHADES

SCALE = "Viridis"


class Range(NamedTuple):
    """The least and the greatest log₁₀ of a loss in charts that share their colours."""

    low: float
    high: float

    @property
    def ticks(self) -> tuple[list[float], list[str]]:
        """Where losses are named, on the logarithmic scale, and their names."""
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        wide = self.high - self.low > 2.5
        step = math.ceil((self.high - self.low) / 6)
        digits, powers = ((1,), powers[::step]) if wide else ((1, 2, 5), powers)
        values = [float(f"{digit}e{power}") for power in powers for digit in digits]
        kept = [value for value in values if self.low <= math.log10(value) <= self.high]
        return [math.log10(value) for value in kept], [scientific(value) for value in kept]


def common_range(surfaces: Iterable[Surface]) -> Range:
    """That of several surfaces; losses that are not finite are left out."""
    logs = np.concatenate([_logs(one).ravel() for one in surfaces])
    return Range(float(logs[np.isfinite(logs)].min()), float(logs[np.isfinite(logs)].max()))


def _logs(surface: Surface) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(surface.grid)


def contour_figure(surfaces: Sequence[Surface], shades: Range, title: str) -> go.Figure:
    """One map for each seed, side by side, all in the same colours; the cross is the network as it was trained."""
    figure = make_subplots(
        rows=1,
        cols=len(surfaces),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=[f"seed {one.seed}" for one in surfaces],
    )
    values, words = shades.ticks
    low, high = shades
    for column, one in enumerate(surfaces, start=1):
        figure.add_contour(
            x=list(one.steps),
            y=list(one.steps),
            z=_logs(one),
            customdata=one.grid,
            row=1,
            col=column,
            coloraxis="coloraxis",
            contours={"start": low, "end": high, "size": (high - low) / 12 or 1},
            line={"width": 0.7, "color": "rgba(255,255,255,0.55)"},
            name=f"seed {one.seed}",
            hovertemplate="u %{x}, v %{y}: loss %{customdata:.3~g}<extra></extra>",
        )
        figure.add_scatter(
            x=[0],
            y=[0],
            mode="markers",
            marker={"symbol": "cross-thin", "size": 11, "line": {"width": 2, "color": "white"}},
            row=1,
            col=column,
            showlegend=False,
            hoverinfo="skip",
        )
    finish(figure, title, "", "", legend=False)
    figure.update_layout(
        height=300,
        margin_t=66,
        title={"y": 1 - 22 / 300, "yanchor": "middle"},
        coloraxis={
            "colorscale": SCALE,
            "cmin": low,
            "cmax": high,
            "colorbar": {"tickvals": values, "ticktext": words, "title": "loss", "thickness": 12},
        },
    )
    figure.update_annotations(font_size=12)
    figure.update_xaxes(tickvals=[-0.5, 0, 0.5], showgrid=False)  # at the ends those of two maps would meet
    figure.update_yaxes(tickvals=[-0.5, 0, 0.5], tickformat=None, showgrid=False)
    figure.update_xaxes(title="step along u", col=(len(surfaces) + 1) // 2)
    figure.update_yaxes(title="step along v", col=1)
    return figure


def surface_figure(surface: Surface, shades: Range, title: str) -> go.Figure:
    """The same as a surface in space; its height, like the colour, is the logarithm of the loss."""
    values, words = shades.ticks
    low, high = shades
    figure = go.Figure(
        go.Surface(
            x=list(surface.steps),
            y=list(surface.steps),
            z=_logs(surface),
            customdata=surface.grid,
            colorscale=SCALE,
            cmin=low,
            cmax=high,
            showscale=False,
            name=title,
            hovertemplate="u %{x}, v %{y}: loss %{customdata:.3~g}<extra></extra>",
        )
    )
    finish(figure, title, "", "", legend=False)
    figure.update_layout(
        height=380,
        scene={
            "xaxis": {"title": "u", "tickvals": [-1, 0, 1]},
            "yaxis": {"title": "v", "tickvals": [-1, 0, 1]},
            "zaxis": {"title": "loss", "tickvals": values, "ticktext": words, "range": [low, high]},
            "camera": {"eye": {"x": 1.25, "y": -1.48, "z": 0.85}, "center": {"x": 0, "y": 0, "z": -0.15}},
            "aspectratio": {"x": 1, "y": 1, "z": 0.7},
        },
    )
    return figure


def profile_figure(surfaces: Mapping[str, Sequence[Surface]], plain: Sequence[str], title: str) -> go.Figure:
    """The median loss by the distance from the trained network, in steps of the grid: the geometric mean over the seeds, and a
    band from the least to the greatest; `plain` are the networks without shortcuts.
    """
    figure, seen = go.Figure(), []
    for name, every in surfaces.items():
        shade = SHADES[PLAIN if name in plain else RESIDUAL]
        losses = np.array([list(one.by_distance.values()) for one in every])
        distances = list(every[0].by_distance)
        band(figure, distances, losses.min(0), losses.max(0), shade, name)
        middle = np.exp(np.log(losses).mean(0))
        figure.add_scatter(
            x=distances,
            y=middle,
            mode="lines+markers",
            name=name,
            legendgroup=name,
            marker=kind_marker(PLAIN if name in plain else RESIDUAL),
            line={"color": shade, "width": 2.5},
            hovertemplate=f"{name}, %{{x}} away: loss %{{y:.3~g}}<extra></extra>",
        )
        seen += losses.ravel().tolist()
    finish(figure, title, "distance, in lengths of the filters", "loss", legend=True)
    log_axis(figure, [value for value in seen if math.isfinite(value) and value > 0])
    return figure


def slice_figure(
    losses: Mapping[str, Sequence[float]], steps: Sequence[float], plain: Sequence[str], title: str
) -> go.Figure:
    """The losses along one direction, as far as they are computed, by the name of the network."""
    figure, seen = go.Figure(), []
    for name, found in losses.items():
        kind = PLAIN if name in plain else RESIDUAL
        figure.add_scatter(
            x=list(steps[: len(found)]),
            y=[loss if math.isfinite(loss) else None for loss in found],
            mode="lines+markers",
            name=name,
            marker=kind_marker(kind),
            line={"color": SHADES[kind], "width": 2.5},
            hovertemplate=f"{name}, step %{{x}}: loss %{{y:.3~g}}<extra></extra>",
        )
        seen += [loss for loss in found if math.isfinite(loss) and loss > 0]
    finish(figure, title, "step along u", "loss", legend=True)
    figure.update_xaxes(range=[steps[0], steps[-1]])
    log_axis(figure, seen)
    return figure
