"""Figures beside those of He et al. 2015."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from ..experiments.gradients import PLAIN, RESIDUAL
from .base import finish, kind_marker
from .gradients import SHADES


def response_figure(
    responses: Mapping[str, Sequence[float]], plain: Sequence[str], sort: bool, title: str
) -> go.Figure:
    """The responses of each network's layers by its name, in order of depth or, where they are to `sort`, of size; `plain`
    are those without shortcuts, and the shallowest networks are dashed.
    """
    figure, shallow = go.Figure(), min(map(len, responses.values()))
    for name, found in responses.items():
        kind = PLAIN if name in plain else RESIDUAL
        figure.add_scatter(
            x=list(range(1, len(found) + 1)),
            y=sorted(found, reverse=True) if sort else list(found),
            mode="lines+markers",
            name=name,
            marker=kind_marker(kind),
            line={"color": SHADES[kind], "width": 2, "dash": "dash" if len(found) == shallow else "solid"},
            hovertemplate=f"{name}, layer %{{x}}: %{{y:.2f}}<extra></extra>",
        )
    finish(
        figure,
        title,
        "layer, by size" if sort else "layer, from image to classifier",
        "standard deviation",
        legend=True,
    )
    figure.update_yaxes(rangemode="tozero", tickformat=".1f")
    return figure
