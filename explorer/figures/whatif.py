"""How far a change of the image reaches into the network, as a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from ..analysis.layers import Layer
from ..drawing.palette import colour
from ..inference.whatif import Effect
from .base import finish


def effect_figure(found: Effect, layers: Sequence[Layer], outputs: Sequence[Layer]) -> go.Figure:
    """The relative change of every layer's output in order of execution, and a line through those of the `outputs` of the
    network's parts, from the image on.
    """
    figure = go.Figure()
    known = [layer for layer in layers if math.isfinite(found.distances[layer.name])]
    for group in dict.fromkeys(layer.role.group for layer in known):
        chosen = [layer for layer in known if layer.role.group == group]
        figure.add_scatter(
            x=[layer.index for layer in chosen],
            y=[found.distances[layer.name] for layer in chosen],
            name=group,
            mode="markers",
            marker={"size": 6, "color": colour(group), "opacity": 0.75},
            customdata=[(layer.name, layer.label) for layer in chosen],
            hovertemplate="%{customdata[0]}, %{customdata[1]}: %{y:.3~g}<extra></extra>",
        )
    on_line = [layer for layer in outputs if layer in known]
    figure.add_scatter(
        x=[-1, *(layer.index for layer in on_line)],
        y=[found.image, *(found.distances[layer.name] for layer in on_line)],
        name="from part to part",
        mode="lines",
        line={"color": "#8a919e", "width": 2},
        hovertext=["the image", *(layer.name for layer in on_line)],
        hovertemplate="after %{hovertext}: %{y:.3~g}<extra></extra>",
    )
    finish(
        figure, "How much each layer's output changes", "layer, in order of execution", "‖a′ − a‖ / ‖a‖", legend=True
    )
    figure.update_yaxes(rangemode="tozero", tickformat="~g")
    return figure
