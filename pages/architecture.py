"""The network: figures, diagram, inspector, table, charts, what memory it takes, and how other tools show it."""

from functools import partial

import streamlit as st

from explorer.analysis.layers import Layer
from explorer.analysis.trace import Trace
from explorer.figures.network import field_figure
from explorer.navigation import ARCHITECTURE
from explorer.views import network, paths, session, tabs
from explorer.views.architecture import cost, ledger, memory, others, table
from explorer.views.cached import cached_trace
from explorer.views.components import plot
from explorer.views.headline import figures, heading


def field(trace: Trace, layer: Layer) -> None:
    plot(field_figure(trace, layer.name), key="field chart")
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
        "Cost": partial(cost.panel, trace),
        "Memory": partial(memory.panel, trace),
        "MACs and other tools' counts": partial(ledger.ledger, trace),
        "Receptive field": partial(field, trace, layer),
        "torchinfo": partial(others.torchinfo_summary, trace),
        "graphviz": partial(others.graphviz_drawing, trace),
    }
)
