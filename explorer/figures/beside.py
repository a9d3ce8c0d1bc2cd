"""Figures of networks side by side: what can be read at each depth, how alike blocks are, and what disturbing them costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from resnet.config import stage_and_index

from ..drawing.palette import NETWORKS, PATTERNS, SYMBOLS
from ..experiments.lesions import Lesion
from .base import band, finish

GREY = "#8a919e"
DASHES = {"probe": "solid", "own classifier": "dash", "CKA": "dot"}
"""How a line is drawn, by what it is of."""


class Line(NamedTuple):
    """Values by block of the network with this number; `kind` is one of `DASHES`, and `spread` the least and the greatest of
    each where there are several.
    """

    name: str
    number: int
    kind: str
    values: Mapping[str, float]
    spread: Mapping[str, tuple[float, float]] = {}


def depth_figure(lines: Sequence[Line], blocks: Sequence[str], title: str, y: str) -> go.Figure:
    """Lines over all blocks in order of depth, in one colour a network; the stages are set apart."""
    figure = go.Figure()
    for line in lines:
        places = [place for place, block in enumerate(blocks) if block in line.values]
        values = [line.values[blocks[place]] for place in places]
        spread = [line.spread.get(blocks[place], (value, value)) for place, value in zip(places, values, strict=True)]
        shade = GREY if line.kind == "CKA" else NETWORKS[line.number]
        figure.add_scatter(
            x=places,
            y=values,
            name=line.name,
            mode="lines+markers",
            line={"color": shade, "dash": DASHES[line.kind], "width": 2},
            marker={"symbol": SYMBOLS[line.number], "size": 6},
            error_y={
                "array": [high - value for (_, high), value in zip(spread, values, strict=True)],
                "arrayminus": [value - low for (low, _), value in zip(spread, values, strict=True)],
                "thickness": 1,
                "width": 2,
            }
            if line.spread
            else None,
            customdata=[blocks[place] for place in places],
            hovertemplate=f"{line.name}, %{{customdata}}: %{{y:.3~f}}<extra></extra>",
        )
    finish(figure, title, "block, from the image to the classifier", y, legend=True)
    mark_stages(figure, blocks)
    figure.update_yaxes(tickformat=".1f", range=[0, 1.03])
    figure.update_layout(height=420, legend_y=-0.32)
    return figure


def mark_stages(figure: go.Figure, blocks: Sequence[str]) -> None:
    """Name blocks below the x axis, and part the stages by lines."""
    starts = [place for place, block in enumerate(blocks) if stage_and_index(block)[1] == 0]
    for place in starts[1:]:
        figure.add_vline(x=place - 0.5, line_color=GREY, line_width=1, opacity=0.5)
    step = max(1, len(blocks) // 9)
    ticks = [
        place
        for start, end in zip(starts, [*starts[1:], len(blocks)], strict=True)
        for place in range(start, end, step)
    ]
    figure.update_xaxes(tickvals=ticks, ticktext=[blocks[place] for place in ticks], tickangle=-45)


def similarity_figure(similarity: np.ndarray, rows: Sequence[tuple[str, str]]) -> go.Figure:
    """CKA between all blocks, K×K, of which each row is one network's (name, block); lines part the networks and their stages.
    It is left open where it is not a number.
    """
    names = [f"{network} {block}" for network, block in rows]
    figure = go.Figure(
        go.Heatmap(
            z=similarity,
            zmin=0,
            zmax=1,
            hoverongaps=False,
            colorscale="Viridis",
            customdata=[[(one, other) for other in names] for one in names],
            hovertemplate="%{customdata[0]} and<br>%{customdata[1]}: %{z:.2f}<extra></extra>",
            colorbar={"title": "CKA", "thickness": 12},
        )
    )
    finish(figure, "Linear CKA between all blocks", "", "", legend=False)
    starts = [place for place, (_, block) in enumerate(rows) if stage_and_index(block)[1] == 0]
    for place in starts[1:]:
        whole = rows[place][0] != rows[place - 1][0]
        style = {"line_color": "#ffffff", "line_width": 3 if whole else 1, "opacity": 1 if whole else 0.6}
        figure.add_hline(y=place - 0.5, **style)
        figure.add_vline(x=place - 0.5, **style)
    labels = [f"{rows[place][0]} {rows[place][1].partition('.')[0]}" for place in starts]
    figure.update_xaxes(tickvals=starts, ticktext=labels, tickangle=-45, constrain="domain", showgrid=False)
    figure.update_yaxes(
        tickvals=starts,
        ticktext=labels,
        tickformat="",
        autorange="reversed",
        scaleanchor="x",
        constrain="domain",
        showgrid=False,
    )
    figure.update_layout(height=560)
    return figure


def class_figure(shares: Mapping[str, Sequence[float]], classes: Sequence[str]) -> go.Figure:
    """The share of each class's images that every network, by name, gets right."""
    figure = go.Figure()
    for number, (name, values) in enumerate(shares.items()):
        figure.add_bar(
            x=list(classes),
            y=list(values),
            name=name,
            marker={"color": NETWORKS[number], "pattern": {"shape": PATTERNS[number], "solidity": 0.25}},
            hovertemplate=f"{name}, %{{x}}: %{{y:.1%}}<extra></extra>",
        )
    finish(figure, "Accuracy by class", "", "accuracy on the class", legend=True)
    figure.update_yaxes(tickformat="~%", range=[0, 1])
    return figure


def confusion_figure(counts: np.ndarray, classes: Sequence[str], name: str) -> go.Figure:
    """How many images of each class (rows) a network gives which name (columns)."""
    figure = go.Figure(
        go.Heatmap(
            z=np.sqrt(counts),
            x=list(classes),
            y=list(classes),
            text=np.where(counts, counts.astype(str), ""),
            texttemplate="%{text}",
            textfont={"size": 11},
            customdata=counts,
            hovertemplate="%{y} named %{x}: %{customdata}<extra></extra>",
            colorscale="Blues",
            showscale=False,
        )
    )
    finish(figure, f"{name}: confusion matrix", "predicted class", "true class", legend=False)
    figure.update_xaxes(tickangle=-45)
    figure.update_yaxes(autorange="reversed", tickformat="")
    figure.update_layout(height=420)
    return figure


def lesion_figure(curves: Mapping[str, Sequence[Lesion]], swapped: bool) -> go.Figure:
    """Error against blocks taken out, or against Kendall's τ of the blocks' order where they are `swapped`: the mean over those
    that are disturbed alike, and a band from the least to the greatest.
    """
    figure = go.Figure()
    for number, (name, lesions) in enumerate(curves.items()):
        groups = grouped(lesions, swapped)
        errors = [[one.error for one in group] for group in groups]
        x = [float(np.mean([one.tau if swapped else one.times for one in group])) for group in groups]
        band(figure, x, list(map(min, errors)), list(map(max, errors)), NETWORKS[number], name)
        figure.add_scatter(
            x=x,
            y=[float(np.mean(each)) for each in errors],
            mode="lines+markers",
            name=name,
            legendgroup=name,
            line={"color": NETWORKS[number], "width": 2.5},
            marker={"symbol": SYMBOLS[number], "size": 7},
            customdata=[(len(each), min(each), max(each)) for each in errors],
            hovertemplate=f"{name}, {'τ %{x:.2f}' if swapped else '%{x} out'}: %{{y:.1%}} wrong, %{{customdata[1]:.1%}} to "
            "%{customdata[2]:.1%} in %{customdata[0]}<extra></extra>",
        )
    title = "Blocks swapped" if swapped else "Blocks taken out"
    x_title = "Kendall's τ between the blocks' order and their own" if swapped else "blocks taken out"
    finish(figure, f"{title}: error on the test images", x_title, "error", legend=True)
    figure.update_yaxes(tickformat="~%", range=[0, 1.03])
    if swapped:
        figure.update_xaxes(autorange="reversed")
    return figure


def grouped(lesions: Sequence[Lesion], swapped: bool) -> list[list[Lesion]]:
    """The whole network, then those with as many blocks out; of swapped ones, those whose τ is nearest to the same fortieth,
    from the greatest on.
    """
    keys = [-round(40 * one.tau) if swapped and one.times else one.times - 41 * swapped for one in lesions]
    return [[one for one, its in zip(lesions, keys, strict=True) if its == key] for key in sorted(set(keys))]
