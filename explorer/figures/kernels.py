"""Kernel stacks and blocks as plotly figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from ..analysis.layers import Layer, Op
from ..drawing.palette import STAGES
from ..experiments.kernels import StackComparison
from .base import finish


def stack_figure(comparison: StackComparison, measure: str, name: str) -> go.Figure:
    """A stack's "params" or "macs" against the width between its convolutions, and where they meet the single kernel's."""
    widths, counts = comparison.widths, comparison.curves[measure]
    most, even, now = getattr(comparison.single, measure), comparison.break_even[measure], comparison.lab.between
    small, large = comparison.stack.name, comparison.single.name.lower()
    figure = go.Figure()
    figure.add_scatter(
        x=widths,
        y=counts,
        name=small,
        mode="lines",
        line={"color": STAGES[0]},
        hovertemplate=f"%{{x:,}} channels between: %{{y:,}} {name}<extra></extra>",
    )
    figure.add_scatter(
        x=[widths[0], widths[-1]],
        y=[most, most],
        name=large,
        mode="lines",
        line={"color": STAGES[2], "dash": "dash"},
        hovertemplate=f"{large}: %{{y:,}} {name}<extra></extra>",
    )
    figure.add_scatter(
        x=[now],
        y=[getattr(comparison.stack, measure)],
        name="now",
        mode="markers",
        marker={"size": 11, "color": STAGES[0]},
        hovertemplate=f"now, %{{x:,}} channels between: %{{y:,}} {name}<extra></extra>",
    )
    if even:
        figure.add_vline(
            x=even,
            line_dash="dot",
            line_color="#8a919e",
            annotation_text=f"break-even at {even:,}",
            annotation_position="top left",
        )
    finish(figure, f"{name} by the width between", "channels between", name, legend=True)
    figure.update_yaxes(rangemode="tozero")
    return figure


def block_figure(blocks: Mapping[str, Sequence[Layer]]) -> go.Figure:
    """The weights of each block's convolutions, one bar a block."""
    figure = go.Figure()
    found = {
        name: {
            "shortcut" if layer.role.on_shortcut else layer.role.slot: layer
            for layer in layers
            if layer.op == Op.CONVOLUTION
        }
        for name, layers in blocks.items()
    }
    for index, slot in enumerate(sorted(set().union(*found.values()))):
        part = {name: layers[slot] for name, layers in found.items() if slot in layers}
        figure.add_bar(
            y=[f"{name} " for name in part],
            x=[layer.params for layer in part.values()],
            name=slot,
            orientation="h",
            marker_color=STAGES[index],
            customdata=[layer.label for layer in part.values()],
            hovertemplate="%{customdata}: %{x:,} weights<extra></extra>",
        )
    totals = {name: sum(layer.params for layer in layers.values()) for name, layers in found.items()}
    for name, total in totals.items():
        figure.add_annotation(
            x=total, y=f"{name} ", text=f"<b>{total:,}</b>", showarrow=False, xanchor="left", xshift=6, yanchor="middle"
        )
    finish(figure, "Weights of a block at so many channels", "", "", legend=True)
    figure.update_layout(barmode="stack", height=270, legend_traceorder="normal")
    figure.update_xaxes(range=[0, 1.45 * max(totals.values())], tickformat="~s")
    figure.update_yaxes(autorange="reversed", tickformat=None)
    return figure
