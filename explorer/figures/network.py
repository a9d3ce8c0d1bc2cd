"""A network's cost, receptive fields and paths as figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from ..analysis.layers import Layer
from ..analysis.paths import Paths, PathSizes
from ..analysis.trace import Trace
from ..drawing.palette import ACCENT, STAGES, colour
from ..units import count_text
from .base import finish

MEASURES = {
    "MACs": ("macs", "multiply-adds for one image"),
    "Parameters": ("params", "trainable numbers"),
    "Activations": ("numbers", "output values for one image"),
}
"""What the cost chart can show: label, key, unit."""


def measure(layer: Layer, key: str) -> int:
    return int(np.prod(layer.out_shape)) if key == "numbers" else getattr(layer, key)


def cost_figure(trace: Trace, name: str, by_layer: bool) -> go.Figure:
    """A measure of `MEASURES` by stage, or layer by layer in the order of execution."""
    key, unit = MEASURES[name]
    total = sum(measure(layer, key) for layer in trace.layers)
    figure = go.Figure()
    xs: list[int] | list[str]
    for group, layers in trace.groups.items():
        if by_layer:
            layers = tuple(layer for layer in layers if measure(layer, key))
            xs, ys = [layer.index for layer in layers], [measure(layer, key) for layer in layers]
            names = [layer.name for layer in layers]
        else:
            xs, ys, names = [group], [sum(measure(layer, key) for layer in layers)], [group]
        shares = [y / total if total else 0 for y in ys]
        figure.add_bar(
            x=xs,
            y=ys,
            name=group,
            marker_color=colour(group),
            customdata=list(zip(names, shares, strict=True)),
            hovertemplate="%{customdata[0]}<br>%{y:,} (%{customdata[1]:.1%})<extra></extra>",
            text=[f"{share:.0%}" for share in shares] if not by_layer else None,
        )
    where = "layer by layer" if by_layer else "by stage"
    return finish(figure, f"{name} {where}", "layer" if by_layer else "", unit, legend=by_layer)


def field_figure(trace: Trace, at: str) -> go.Figure:
    """The receptive field of every layer up to global pooling, against the image's side."""
    figure = go.Figure()
    for group, layers in trace.groups.items():
        chosen = [layer for layer in layers if layer.field.effective_stride and not layer.role.on_shortcut]
        if not chosen:
            continue
        figure.add_scatter(
            x=[layer.index for layer in chosen],
            y=[layer.field.size for layer in chosen],
            name=group,
            mode="lines+markers",
            marker={"size": 5, "color": colour(group)},
            line={"shape": "hv", "color": colour(group)},
            customdata=[(layer.name, layer.field.effective_stride) for layer in chosen],
            hovertemplate="%{customdata[0]}<br>sees %{y} px, units %{customdata[1]} px apart<extra></extra>",
        )
    side = max(trace.image_size)
    figure.add_hline(
        y=side,
        line_dash="dot",
        line_color="#8a919e",
        annotation_text=f"image, {side} px",
        annotation_position="top left",
    )
    marked = trace.by_name.get(at)
    if marked and marked.field.effective_stride:
        figure.add_vline(x=marked.index, line_width=1, line_color="#8a919e")
    return finish(figure, "Receptive field by depth", "layer", "pixels a side", legend=True)


def path_depth_figure(rows: Sequence[PathSizes]) -> go.Figure:
    """Where the field sizes of all paths lie, block by block."""
    xs, names = [row.layer.index for row in rows], [row.layer.name for row in rows]
    figure = go.Figure()
    lines = (("95 % of the paths", [row.high for row in rows]), ("5 % of the paths", [row.low for row in rows]))
    for (name, ys), fill in zip(lines, (None, "tonexty"), strict=True):
        figure.add_scatter(
            x=xs,
            y=ys,
            name=name,
            mode="lines",
            line={"width": 0, "color": ACCENT},
            fill=fill,
            showlegend=False,
            fillcolor="rgba(42, 111, 208, 0.22)",
            customdata=names,
            hovertemplate=f"%{{customdata}}<br>{name} see at most %{{y}} px<extra></extra>",
        )
    figure.add_scatter(
        x=xs,
        y=[row.mean for row in rows],
        name="mean of all paths; band: 90 % of them",
        mode="lines+markers",
        line={"color": ACCENT},
        marker={"size": 5},
        customdata=names,
        hovertemplate="%{customdata}<br>mean %{y:.1f} px<extra></extra>",
    )
    figure.add_scatter(
        x=xs,
        y=[row.largest for row in rows],
        name="longest path, a plain network's only one",
        mode="lines",
        line={"color": STAGES[2], "dash": "dash"},
        customdata=names,
        hovertemplate="%{customdata}<br>longest path %{y} px<extra></extra>",
    )
    return finish(figure, "Field sizes by depth", "layer", "pixels a side", legend=True)


def path_figure(paths: Paths, name: str, plain: int | None) -> go.Figure:
    """How many of the paths to a layer see how much, with the plain network's one number."""
    figure = go.Figure(
        go.Bar(
            x=paths.sizes,
            y=paths.shares,
            marker_color=ACCENT,
            customdata=[count_text(c) for c in paths.counts],
            hovertemplate="%{x} px: %{y:.3~%} of the paths, %{customdata} of them<extra></extra>",
        )
    )
    marks = [(paths.mean, f"mean {paths.mean:,.0f} px", "#8a919e")]
    if plain is not None:
        marks.append((plain, f"plain network {plain:,} px", STAGES[2]))
    for x, words, shade in marks:
        figure.add_vline(x=x, line_dash="dash", line_color=shade, name=words, showlegend=True)
    finish(figure, f"Field sizes to {name}", "pixels a side", "share of paths", legend=True)
    figure.update_traces(showlegend=False)
    figure.update_yaxes(tickformat="~%")
    return figure
