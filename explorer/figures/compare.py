"""Several networks stage by stage, and a bill, as plotly figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import plotly.graph_objects as go

from .. import units
from ..analysis.compare import Charge, output_bytes
from ..analysis.layers import Layer
from ..analysis.trace import Trace
from ..drawing.palette import ACCENT, NETWORKS, PATTERNS, STAGES
from .base import finish

COMPARED: Mapping[str, tuple[str, Callable[[Sequence[Layer]], int]]] = {
    "MACs": ("multiply-adds for one image", lambda layers: sum(layer.macs for layer in layers)),
    "Parameters": ("trainable numbers", lambda layers: sum(layer.params for layer in layers)),
    "Activations": ("bytes of layer outputs for one image", lambda layers: sum(map(output_bytes, layers))),
    "Receptive field": ("pixels a side", lambda layers: layers[-1].field.size),
}
"""What networks can be compared in stage by stage: label, unit, and the figure of a stage's layers."""


def stages_figure(traces: Sequence[Trace], names: Sequence[str], name: str) -> go.Figure:
    """A measure of `COMPARED` stage by stage, a bar for each network, by colour and pattern; the field at each stage's end, without the head."""
    unit, figure_of = COMPARED[name]
    figure = go.Figure()
    field = name == "Receptive field"
    digits = 3 if len(traces) <= 4 else 2  # more bars are narrower than three
    for trace, label, shade, pattern in zip(traces, names, NETWORKS, PATTERNS, strict=False):
        groups = {group: layers for group, layers in trace.groups.items() if not (field and group == "head")}
        values = [figure_of(layers) for layers in groups.values()]
        figure.add_bar(
            x=list(groups),
            y=values,
            name=label,
            marker={"color": shade, "pattern": {"shape": pattern, "fillmode": "overlay", "size": 7, "solidity": 0.2}},
            texttemplate="%{y:,}" if field else f"%{{y:.{digits}s}}",
            textposition="outside",
            textangle=0,
            cliponaxis=False,
            hovertemplate=f"{label}<br>%{{x}}: %{{y:,}}<extra></extra>",
        )
    title = "Receptive field at the end of each stage" if field else f"{name} by stage"
    finish(figure, title, "", unit, legend=True)
    order = dict.fromkeys(group for trace in traces for group in trace.groups)
    ranked = sorted(order, key=lambda group: (group == "head", group != "stem", group))
    figure.update_xaxes(categoryorder="array", categoryarray=ranked)
    figure.update_layout(uniformtext={"mode": "hide", "minsize": 9})
    return figure


def bill_figure(bill: Sequence[Charge], total: int, key: str, name: str) -> go.Figure:
    """How the charges of a bill ("params" or "macs") lead from no difference to the `total`."""
    values = [*(getattr(charge, key) for charge in bill), total]
    figure = go.Figure(
        go.Waterfall(
            x=[*(charge.title.replace(" and ", "<br>and ") for charge in bill), "total"],
            y=values,
            measure=["relative"] * len(bill) + ["total"],
            text=[units.signed(value, units.amount) for value in values],
            textposition="outside",
            cliponaxis=False,
            increasing={"marker": {"color": STAGES[2]}},
            decreasing={"marker": {"color": STAGES[1]}},
            totals={"marker": {"color": ACCENT}},
            connector={"line": {"color": "#8a919e", "width": 1}},
            customdata=values,
            hovertemplate="%{x}: %{customdata:+,}<extra></extra>",
        )
    )
    return finish(figure, f"Which option changes the {name}", "", name, legend=False)
