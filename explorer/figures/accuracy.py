"""Published accuracies over what networks cost, as a plotly figure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from resnet import ResNetConfig

from ..analysis.published import RECIPES, Result
from ..analysis.trace import Trace
from ..drawing.palette import HEAD, STAGES, SYMBOLS
from .base import finish

COSTS = {
    "MACs": ("macs", "multiply-adds for one image"),
    "Parameters": ("params", "trainable numbers"),
    "Peak activations": ("peak", "bytes held at once for one image"),
}
"""What accuracy can be held against: label, key, unit."""


def cost(trace: Trace, name: str) -> int:
    """One of `COSTS` of a network."""
    key = COSTS[name][0]
    return trace.inference_memory.bytes if key == "peak" else getattr(trace, key)


def accuracy_figure(
    points: Sequence[tuple[Result, int]], name: str, current_cost: int, label: str, current_config: ResNetConfig
) -> go.Figure:
    """Published accuracies over a cost of `COSTS`, a colour and a symbol for each group of recipes.

    `current_cost` is what the current network costs, `label` its name; results of its configuration `current_config` have a rim.
    The custom data of a point is its number among `points`.
    """
    figure = go.Figure()
    for shade, symbol, (group, words) in zip((*STAGES, HEAD), SYMBOLS, RECIPES.items(), strict=True):
        chosen = [(number, *point) for number, point in enumerate(points) if point[0].group == group]
        same = [result.config == current_config for _, result, _ in chosen]
        figure.add_scatter(
            x=[x for _, _, x in chosen],
            y=[result.top1 for _, result, _ in chosen],
            mode="markers",
            name=words,
            marker={
                "color": shade,
                "symbol": symbol,
                "size": [13 if rim else 9 for rim in same],
                "opacity": 0.85,
                "line": {"color": "#8a919e", "width": [2 if rim else 0 for rim in same]},
            },
            customdata=[(number, result.network, result.recipe, result.size) for number, result, _ in chosen],
            hovertemplate="<b>%{customdata[1]}</b><br>%{y:.2%}, %{customdata[2]}<br>%{x:.3s} at %{customdata[3]} px<extra></extra>",
        )
    figure.add_vline(x=current_cost, line_dash="dot", line_color="#8a919e")
    figure.add_annotation(
        x=math.log10(current_cost),
        y=0,
        yref="paper",
        text=f" {label}",
        showarrow=False,
        xanchor="left",
        yanchor="bottom",
    )
    finish(
        figure,
        f"ImageNet top-1 accuracy against {name.lower() if name != 'MACs' else name}",
        COSTS[name][1],
        "top-1",
        legend=True,
    )
    figure.update_layout(height=520, clickmode="event+select")
    figure.update_xaxes(type="log", dtick="D2", tickformat="~s", exponentformat="SI")
    figure.update_yaxes(tickformat=".0%")
    return figure
