"""The network: figures, diagram, inspector, table, charts, and how other tools show it."""

from functools import partial

import streamlit as st

from explorer.analysis.layers import Layer
from explorer.analysis.trace import Trace
from explorer.figures.network import MEASURES, cost_figure, field_figure
from explorer.navigation import ARCHITECTURE
from explorer.views import network, paths, session, tabs
from explorer.views.architecture import ledger, others, table
from explorer.views.cached import cached_trace
from explorer.views.headline import figures, heading


def cost(trace: Trace) -> None:
    row = st.container(horizontal=True)
    measure = row.segmented_control(
        "Measure", list(MEASURES), default="MACs", required=True, key="measure", persist_state="session"
    )
    grain = row.segmented_control(
        "Shown", ["by stage", "by layer"], default="by stage", required=True, key="grain", persist_state="session"
    )
    st.plotly_chart(cost_figure(trace, measure, grain == "by layer"), key="cost chart")


def field(trace: Trace, layer: Layer) -> None:
    st.plotly_chart(field_figure(trace, layer.name), key="field chart")
    st.caption(network.field_remark(trace))
    paths.all_paths(trace)


view = session.view()
trace = cached_trace(view.config, view.image_size)
layer = network.selected_layer(trace, view.at)

heading(trace, ARCHITECTURE)
figures(trace)
network.overview(trace, layer)
left, right = st.columns([8, 5])
with left:
    network.block_detail(trace, layer)
with right:
    network.inspector(trace, layer)

tabs.tabs(
    {
        "Layers": partial(table.layers, trace, layer),
        "Cost": partial(cost, trace),
        "MACs and other tools' counts": partial(ledger.ledger, trace),
        "Receptive field": partial(field, trace, layer),
        "torchinfo": partial(others.torchinfo_summary, trace),
        "graphviz": partial(others.graphviz_drawing, trace),
    }
)
