"""Published accuracies over what networks cost at an image size, under a budget, as a plotly figure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from resnet import ResNetConfig

from ..analysis.choose import Budget, Point, Row, front
from ..analysis.measured import Other, speeds
from ..analysis.published import RECIPES
from ..drawing.palette import STAGES, STEM, SYMBOLS
from .base import finish

COSTS = {"MACs": "macs", "Parameters": "params", "Peak activations": "memory", "Latency": "ms"}
"""What accuracy can be held against: label, field of `Budget`."""
UNITS = {"macs": "", "params": "", "memory": ", bytes", "ms": ", ms"}
"""What a chart's title says behind the label."""
GREY = "#8a919e"


def cost(row: Row, name: str, machine: str) -> float | None:
    """One of `COSTS` of a network, None where it is not known: the latency is that on a machine."""
    key = COSTS[name]
    if row.candidate is None:
        return None
    if key == "ms":
        found = dict(row.latencies).get(machine)
        return found.ms if found else None
    return getattr(row.candidate, key)


def other_cost(other: Other, name: str, machine: str) -> float | None:
    """The same of a network of another family, of which parameters and latency are known, the latter at its own image size."""
    if name == "Parameters":
        return other.params
    speed = speeds().get(other.network, {}).get(machine)
    return speed.milliseconds if speed and name == "Latency" else None


def choose_figure(
    points: Sequence[Point], name: str, budget: Budget, current: Row, label: str, others: Sequence[Other] = ()
) -> go.Figure:
    """Published accuracies over a cost of `COSTS` at the budget's image size, a colour and a symbol for each group of recipes.

    A point is hollow where the accuracy was measured at another image size, and faint where the network is over budget. The
    line joins those within that no other one beats; what is above the limit on this cost is shaded. `current` is the current
    network, `label` its name; results of its configuration have a rim. The custom data of a point begin with its number among
    `points`.
    """
    figure = go.Figure()
    placed = [(number, point, cost(point.row, name, budget.machine)) for number, point in enumerate(points)]
    known = [(number, point, x) for number, point, x in placed if x]
    _add_others(figure, others, name, budget.machine)
    groups = [*zip((*STAGES, STEM), SYMBOLS, RECIPES.items(), strict=True)]
    for shade, symbol, (group, words) in groups:
        chosen = [one for one in known if one[1].result.group == group]
        _add_group(figure, chosen, words, shade, symbol, current.config)
    for shade, symbol, (
        _,
        words,
    ) in groups:  # for the legend, which would show the first point as faint or hollow as it is
        marker = {"color": shade, "symbol": symbol, "size": 9}
        figure.add_scatter(x=[None], y=[None], mode="markers", name=words, legendgroup=words, marker=marker)
    within = [(x, point.result.top1) for _, point, x in known if point.row.fits]
    best = [within[index] for index in front(within)]
    figure.add_scatter(
        x=[x for x, _ in best],
        y=[y for _, y in best],
        mode="lines",
        name="best that fit",
        line={"color": GREY, "shape": "hv", "width": 1.5},
        hoverinfo="skip",
    )
    key = COSTS[name]
    if limit := getattr(budget, key):
        most = max([limit, *(x for _, _, x in known)])
        figure.add_vrect(x0=limit, x1=10 * most, fillcolor=GREY, opacity=0.18, line_width=0, layer="below")
    if here := cost(current, name, budget.machine):
        figure.add_vline(x=here, line_dash="dot", line_color=GREY)
        figure.add_annotation(
            x=math.log10(here), y=0, yref="paper", text=f" {label}", showarrow=False, xanchor="left", yanchor="bottom"
        )
    height, width = budget.size
    against = (name if name == "MACs" else name.lower()) + UNITS[key]
    if key == "ms":
        against += f" on {budget.machine}"
    finish(figure, f"Top-1 against {against} at {height}×{width} px", "", "", legend=True)
    figure.update_layout(
        clickmode="event+select",
        legend={"font": {"size": 11}, "yref": "container", "y": 0, "yanchor": "bottom", "tracegroupgap": 0},
    )
    every = [math.log10(x) for x in (*(x for _, _, x in known), limit) if x]
    if every:
        figure.update_xaxes(range=[min(every) - 0.06, max(every) + 0.06])
    figure.update_xaxes(type="log", dtick="D2", tickformat="~s", exponentformat="SI")
    figure.update_yaxes(tickformat=".0%")
    return figure


def _add_group(
    figure: go.Figure,
    chosen: Sequence[tuple[int, Point, float]],
    words: str,
    shade: str,
    symbol: str,
    current: ResNetConfig,
) -> None:
    """The results of one group of recipes, each with its number and place."""
    same = [point.row.config == current for _, point, _ in chosen]
    figure.add_scatter(
        x=[x for _, _, x in chosen],
        y=[point.result.top1 for _, point, _ in chosen],
        mode="markers",
        name=words,
        legendgroup=words,
        showlegend=False,
        marker={
            "color": shade,
            "symbol": [symbol if point.at_size else f"{symbol}-open" for _, point, _ in chosen] or symbol,
            "size": [12 if rim else 8 for rim in same],
            "opacity": [0.9 if point.row.fits else 0.45 for _, point, _ in chosen],
            "line": {"width": [2.5 if rim else 1.2 for rim in same], "color": [GREY if rim else shade for rim in same]},
        },
        customdata=[
            (number, point.result.network, point.result.recipe, point.result.size, point.row.reason or "fits")
            for number, point, _ in chosen
        ],
        hovertemplate="<b>%{customdata[1]}</b><br>%{y:.2%} at %{customdata[3]} px, %{customdata[2]}<br>%{x:.3s} "
        "at the size set: %{customdata[4]}<extra></extra>",
    )


def _add_others(figure: go.Figure, others: Sequence[Other], name: str, machine: str) -> None:
    """Networks of other families, where this cost of theirs is known."""
    known = [(other, x) for other in others if (x := other_cost(other, name, machine))]
    if known:
        figure.add_scatter(
            x=[x for _, x in known],
            y=[other.score.top1 for other, _ in known],
            mode="markers",
            name="other families",
            marker={"color": GREY, "symbol": "hexagon2-open", "size": 7, "opacity": 0.8},
            customdata=[(None, other.network, other.tag, other.score.size) for other, _ in known],
            hovertemplate="<b>%{customdata[1]}</b><br>%{y:.2%} at %{customdata[3]} px<br>%{customdata[2]}<br>%{x:.3s}<extra></extra>",
        )
