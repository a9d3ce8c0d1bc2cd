"""What a network does with an image as figures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from resnet.config import stage_and_index

from ..drawing.palette import ACCENT, STAGES, colour
from ..inference.ablation import Ablation
from ..inference.addition import Contribution
from ..inference.effective_field import Width
from ..inference.latency import Roof, TimedLayer
from .base import finish


def width_figure(profile: np.ndarray, first: int, size: int, width: Width, name: str) -> go.Figure:
    """An effective field's profile in a box of `size` pixels, from its pixel `first` on, with the Gaussian that fits."""
    xs = np.arange(len(profile)) + first - (size - 1) / 2
    figure = go.Figure()
    figure.add_scatter(
        x=xs,
        y=profile,
        name="measured",
        mode="lines",
        line={"shape": "hvh", "color": ACCENT},
        fill="tozeroy",
        fillcolor="rgba(42, 111, 208, 0.22)",
        hovertemplate="%{x:+.1~f} px: %{y:.2%}<extra></extra>",
    )
    if np.isfinite(width.sigma):
        fine = np.linspace(xs[0], xs[-1], 400)
        middle = width.middle + xs[0]
        curve = np.exp(-((fine - middle) ** 2) / (2 * width.sigma**2))
        curve *= profile.sum() / np.exp(-((xs - middle) ** 2) / (2 * width.sigma**2)).sum()
        figure.add_scatter(
            x=fine,
            y=curve,
            name=f"Gaussian, σ = {width.sigma:.1f} px",
            mode="lines",
            hoverinfo="skip",
            line={"color": STAGES[2], "dash": "dash"},
        )
        figure.add_vrect(
            middle - 2 * width.sigma,
            middle + 2 * width.sigma,
            fillcolor=STAGES[2],
            opacity=0.1,
            line_width=0,
            annotation_text="4σ",
            annotation_position="top left",
        )
    for edge, words in ((-size / 2, "theoretical field"), (size / 2, None)):
        figure.add_vline(x=edge, line_dash="dot", line_color="#8a919e", name=words, showlegend=words is not None)
    finish(
        figure, f"Where the gradient of {name} falls", "pixels from the middle", "share of a row or column", legend=True
    )
    figure.update_yaxes(tickformat="~%")
    return figure


def channel_figure(values: np.ndarray, name: str, most: int = 40) -> go.Figure:
    """A layer of one number a channel: the channels of largest magnitude."""
    chosen = np.argsort(-np.abs(values), kind="stable")[:most]
    figure = go.Figure(
        go.Bar(
            x=[str(c) for c in chosen],
            y=values[chosen],
            marker_color=colour("stage 1"),
            hovertemplate="channel %{x}: %{y:.4g}<extra></extra>",
        )
    )
    finish(figure, f"Strongest channels of {name}", "channel", "value", legend=False)
    figure.update_xaxes(type="category")
    return figure


def histogram_figure(values: np.ndarray, title: str, deviation: float | None = None) -> go.Figure:
    """How numbers are distributed, and the bell curve of a `deviation` around zero to hold beside them."""
    values = values[np.isfinite(values)]
    counts, edges = np.histogram(values, 80)
    middles = (edges[:-1] + edges[1:]) / 2
    figure = go.Figure(
        go.Bar(
            x=middles,
            y=counts,
            width=np.diff(edges),
            marker_color=colour("stage 1"),
            name="now",
            hovertemplate="around %{x:.3g}: %{y:,}<extra></extra>",
        )
    )
    if deviation:
        bell = np.exp(-((middles / deviation) ** 2) / 2) / (deviation * np.sqrt(2 * np.pi))
        figure.add_scatter(
            x=middles,
            y=bell * len(values) * np.diff(edges),
            mode="lines",
            name="at the start",
            line={"color": "#8a919e", "width": 2},
            hoverinfo="skip",
        )
    finish(figure, title, "weight", "how many", legend=bool(deviation))
    figure.update_xaxes(tickformat=".2~g")
    return figure


def latency_figure(layers: Sequence[TimedLayer], passes: str) -> go.Figure:
    """The measured milliseconds of every layer, in order of execution, and a tick at the least that the roof allows;
    `passes` says of which passes they are.
    """
    figure = go.Figure()
    for group in dict.fromkeys(timed.layer.role.group for timed in layers):
        chosen = [timed for timed in layers if timed.layer.role.group == group]
        figure.add_bar(
            x=[timed.layer.index for timed in chosen],
            y=[timed.seconds * 1000 for timed in chosen],
            name=group,
            marker_color=colour(group),
            customdata=_timed_words(chosen),
            hovertemplate="%{customdata[0]}, %{customdata[1]}<br>%{y:.3~g} ms, %{customdata[2]} its bound<extra></extra>",
        )
    figure.add_scatter(
        x=[timed.layer.index for timed in layers],
        y=[timed.bound * 1000 for timed in layers],
        name="roofline bound",
        mode="markers",
        marker={"symbol": "line-ew", "size": 9, "line": {"width": 2, "color": "#8a919e"}},
        customdata=_timed_words(layers),
        hovertemplate="%{customdata[0]}<br>at least %{y:.3~g} ms<extra></extra>",
    )
    finish(figure, "Time of each layer, and the least it could take", "layer", f"ms, {passes}", legend=True)
    figure.update_yaxes(tickformat="~g")
    return figure


def roofline_figure(layers: Sequence[TimedLayer], roof: Roof) -> go.Figure:
    """FLOP/s against FLOPs per byte, both logarithmic: the measured roof, and below it the layers that multiply."""
    working = [timed for timed in layers if timed.layer.macs]
    intensities = [timed.intensity for timed in working] + [roof.ridge]
    corners = [min(intensities) / 2, roof.ridge, max(intensities) * 2]
    figure = go.Figure()
    figure.add_scatter(
        x=corners,
        y=[roof.at(corner) for corner in corners],
        name="measured roof",
        mode="lines",
        line={"color": "#8a919e", "width": 2},
        hovertemplate="roof: %{y:.3~s}FLOP/s<extra></extra>",
    )
    for group in dict.fromkeys(timed.layer.role.group for timed in working):
        chosen = [timed for timed in working if timed.layer.role.group == group]
        figure.add_scatter(
            x=[timed.intensity for timed in chosen],
            y=[timed.achieved for timed in chosen],
            name=group,
            mode="markers",
            marker={"size": 9, "color": colour(group), "opacity": 0.8},
            customdata=_timed_words(chosen),
            hovertemplate="%{customdata[0]}, %{customdata[1]}<br>%{x:.3~g} FLOPs a byte, %{y:.3~s}FLOP/s, "
            "%{customdata[2]} its bound<extra></extra>",
        )
    finish(figure, "Roofline: speed against arithmetic per byte", "FLOPs per byte moved", "FLOP/s", legend=True)
    figure.update_xaxes(type="log", tickformat="~g", dtick=1)
    figure.update_yaxes(type="log", dtick=1)
    return figure


def _timed_words(layers: Sequence[TimedLayer]) -> list[tuple[str, str, str]]:
    return [(timed.layer.name, timed.layer.label, f"{timed.ratio:,.1f}×") for timed in layers]


def contribution_figure(contributions: Sequence[Contribution], at: str, off: Collection[str]) -> go.Figure:
    """‖F(x)‖ / ‖S(x)‖ of every residual block; the block `at` has a rim, and those that are `off` are hollow."""
    figure = go.Figure()
    stages = {one.block: f"stage {stage_and_index(one.block)[0]}" for one in contributions}
    for group in dict.fromkeys(stages.values()):
        chosen = [one for one in contributions if stages[one.block] == group]
        shade = colour(group)
        figure.add_bar(
            x=[one.block for one in chosen],
            y=[one.ratio for one in chosen],
            name=group,
            marker={
                "color": ["rgba(0, 0, 0, 0)" if one.block in off else shade for one in chosen],
                "line": {
                    "color": ["#8a919e" if one.block == at else shade for one in chosen],
                    "width": [3 if one.block == at else 1 for one in chosen],
                },
            },
            customdata=[(one.branch, one.shortcut, " (off)" if one.block in off else "") for one in chosen],
            hovertemplate="%{x}%{customdata[2]}: %{y:.3~g}<br>‖F(x)‖ = %{customdata[0]:.3~g}, "
            "‖S(x)‖ = %{customdata[1]:.3~g}<extra></extra>",
        )
    figure.add_hline(y=1, line_dash="dot", line_color="#8a919e", annotation_text="as large as the shortcut")
    finish(figure, "Branch against shortcut, by block", "stage.block", "‖F(x)‖ / ‖S(x)‖", legend=True)
    names = [one.block for one in contributions]
    figure.update_xaxes(
        type="category", tickformat=None, tickangle=0, tickvals=names, ticktext=[short(name) for name in names]
    )
    figure.update_yaxes(tickformat="~g")
    return figure


ABLATION_MEASURES = {"Error": "error", "Probability of the right class": "right_probability"}
"""What an ablation can be judged by: label, field of `Ablation`."""


def ablation_figure(series: Mapping[str, Sequence[Ablation]], label: str, images: str) -> go.Figure:
    """A measure of `ABLATION_MEASURES` without each block in turn, and of the whole network as a line.

    The first of the `series` are bars in the colours of the stages, another is diamonds beside them. `images` says
    what it was measured on.
    """
    key, figure = ABLATION_MEASURES[label], go.Figure()
    order = sorted({one.block for found in series.values() for one in found if one.block}, key=stage_and_index)
    for number, (name, found) in enumerate(series.items()):
        whole = next(getattr(one, key) for one in found if not one.block)
        taken = [one for one in found if one.block]
        xs, ys = [one.block for one in taken], [getattr(one, key) for one in taken]
        shades = [colour(f"stage {stage_and_index(block)[0]}") for block in xs]
        words = f"{name} without %{{x}}: %{{y:.1%}}<br>whole: {whole:.1%}<extra></extra>"
        if number:
            figure.add_scatter(
                x=xs,
                y=ys,
                name=name,
                mode="markers",
                hovertemplate=words,
                marker={"symbol": "diamond-open", "size": 9, "color": "#8a919e", "line": {"width": 2}},
            )
        else:
            figure.add_bar(x=xs, y=ys, name=name, marker_color=shades, hovertemplate=words)
        figure.add_scatter(
            x=order,
            y=[whole] * len(order),
            name=f"{name}, whole: {whole:.1%}",
            mode="lines",
            hoverinfo="skip",
            line={"width": 1.5, "dash": "dot" if number else "solid", "color": "#8a919e" if number else ACCENT},
        )
    finish(figure, f"{label} with one block off, {images}", "block that is off, as stage.block", "", legend=True)
    figure.update_xaxes(
        type="category",
        tickformat=None,
        categoryorder="array",
        categoryarray=order,
        tickangle=0,
        tickvals=order,
        ticktext=[short(block) for block in order],
    )
    figure.update_yaxes(tickformat="~%", rangemode="tozero")
    return figure


def short(block: str) -> str:
    """2.0 for layer2.0."""
    return block.removeprefix("layer")
