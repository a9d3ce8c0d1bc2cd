"""Loss curves of the degradation runs as plotly figures: one colour a network, dashes for the shallower ones, and
marks that tell plain from residual ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb

from ..drawing.palette import STAGES
from ..experiments.degradation import Network, Settings, TrainingRun, running_mean
from .base import kind_marker

COLOURS = {
    ("plain", False): STAGES[2],
    ("plain", True): STAGES[4],
    ("residual", False): STAGES[1],
    ("residual", True): STAGES[0],
}
"""By kind and whether it is the deeper one."""

POINTS = 150
"""As many points of a curve are drawn, at most."""


def network_colour(network: Network, settings: Settings) -> str:
    return COLOURS[network.kind, network.depth == settings.deep]


def run_figure(run: TrainingRun, title: str) -> go.Figure:
    """The training loss of one run as far as it has come: each batch's faintly, their running mean on top."""
    figure, settings = go.Figure(), run.settings
    for curve in run.curves:
        shade, name = network_colour(curve.network, settings), curve.network.name
        kept = thinned(len(curve.losses))
        figure.add_scatter(
            x=kept + 1,
            y=np.array(curve.losses)[kept],
            mode="lines",
            showlegend=False,
            hoverinfo="skip",
            line={"color": shade, "width": 1},
            opacity=0.25,
            name=name,
            legendgroup=name,
        )
        _line(figure, kept, running_mean(curve.losses), curve.network, settings)
    return _finish(figure, title, settings)


def spread_figure(runs: Sequence[TrainingRun], title: str, kind: str = "") -> go.Figure:
    """The training loss of complete runs that differ in their seed: the mean over the seeds, and a band from least to greatest.

    With a `kind`, "plain" or "residual", of the networks of that kind alone.
    """
    figure, settings = go.Figure(), runs[0].settings
    kept = thinned(settings.steps)
    for number, network in enumerate(settings.networks):
        if kind not in ("", network.kind):
            continue
        shade = network_colour(network, settings)
        losses = np.array([running_mean(run.curves[number].losses) for run in runs])
        red, green, blue = hex_to_rgb(shade)
        for bound, fill in ((losses.max(0), None), (losses.min(0), "tonexty")):
            figure.add_scatter(
                x=kept + 1,
                y=bound[kept],
                mode="lines",
                line={"width": 0, "color": shade},
                fill=fill,
                hoverinfo="skip",
                fillcolor=f"rgba({red}, {green}, {blue}, 0.2)",
                showlegend=False,
                legendgroup=network.name,
            )
        _line(figure, kept, losses.mean(0), network, settings)
    return _finish(figure, title, settings)


def thinned(count: int) -> np.ndarray:
    """Which of `count` points are drawn: the last one, and others at equal distances before it."""
    return np.arange(count - 1, -1, -max(1, -(-count // POINTS)))[::-1]


def _line(figure: go.Figure, indices: np.ndarray, losses: np.ndarray, network: Network, settings: Settings) -> None:
    figure.add_scatter(
        x=indices + 1,
        y=losses[indices],
        mode="lines+markers",
        name=network.name,
        legendgroup=network.name,
        marker=kind_marker(network.kind, (indices[-1] + 1) / settings.steps),
        line={
            "color": network_colour(network, settings),
            "width": 2.5,
            "dash": "solid" if network.depth == settings.deep else "dash",
        },
        hovertemplate=f"{network.name}, step %{{x}}: %{{y:.3f}}<extra></extra>",
    )


def _finish(figure: go.Figure, title: str, settings: Settings) -> go.Figure:
    figure.update_layout(
        title=title,
        height=380,
        hovermode="closest",
        margin={"l": 8, "r": 8, "t": 44, "b": 8},
        legend={"orientation": "h", "y": -0.2, "title": None},
    )
    figure.update_xaxes(title="step", range=[0, settings.steps])
    figure.update_yaxes(title="training loss", rangemode="tozero", tickformat="~g")
    return figure
