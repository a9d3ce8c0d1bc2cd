"""What a channel stands for as figures: a bar for each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from ..drawing.palette import ACCENT, STAGES
from .base import finish


def strongest_figure(counts: np.ndarray, means: np.ndarray, classes: Sequence[str], channel: int) -> go.Figure:
    """How many of the strongest images are of each of K classes; their mean activations are read over the bars."""
    figure = _bars(
        counts, classes, [ACCENT] * len(classes), means, "%{y}: %{x} images<br>mean activation %{customdata:.3~g}"
    )
    finish(figure, f"Channel {channel}: strongest images", f"of the {counts.sum()} strongest", "", legend=False)
    return _classes(figure)


def silence_figure(
    right: np.ndarray, whole: np.ndarray, counts: np.ndarray, classes: Sequence[str], channel: int
) -> go.Figure:
    """How the share of right images of each of K classes changes where a channel is at zero, of so many images a class."""
    before, after = whole / np.maximum(counts, 1), right / np.maximum(counts, 1)
    change = after - before
    shades = [STAGES[2] if one < 0 else STAGES[1] for one in change]
    figure = _bars(
        change,
        classes,
        shades,
        list(zip(before, after, strict=True)),
        "%{y}: %{customdata[0]:.1%} → %{customdata[1]:.1%}",
    )
    finish(figure, f"Accuracy, channel {channel} at zero", "change", "", legend=False)
    largest = max(float(np.abs(change).max()), 0.05)
    figure.update_xaxes(tickformat="+.0%", range=[-1.1 * largest, 1.1 * largest])
    return _classes(figure)


def _bars(
    values: np.ndarray, classes: Sequence[str], shades: Sequence[str], more: Sequence[object] | np.ndarray, words: str
) -> go.Figure:
    """Bars from left to right, the first class on top."""
    return go.Figure(
        go.Bar(
            x=values,
            y=list(classes),
            orientation="h",
            marker_color=shades,
            customdata=more,
            hovertemplate=f"{words}<extra></extra>",
        )
    )


def _classes(figure: go.Figure) -> go.Figure:
    figure.update_yaxes(autorange="reversed", type="category", tickformat=None)
    return figure
