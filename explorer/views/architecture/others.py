"""The same network as other tools show it."""

from __future__ import annotations

import streamlit as st

from resnet import ResNetConfig, build, preset_name

from ...analysis.trace import Trace
from ...drawing import dot
from ...drawing.network import overview
from ...export import drawings
from ...link import origin
from .. import session
from ..cached import shared
from ..components import download

MAX_UNASKED_LAYERS = 2000
"""Layers up to which torchinfo, which takes a hundred times as long as a trace, is run at once."""


@shared("torchinfo summarises the network …")
def cached_torchinfo_summary(config: ResNetConfig, image_size: tuple[int, int]) -> str:
    """torchinfo's own text for this network, on the meta device."""
    from torchinfo import summary

    columns = ("input_size", "output_size", "num_params", "kernel_size", "mult_adds")
    network = build(config, device="meta").eval()
    statistics = summary(
        network,
        (1, config.in_channels, *image_size),
        device="meta",
        col_names=columns,
        row_settings=("var_names",),
        verbose=0,
    )
    return str(statistics)


def torchinfo_summary(trace: Trace) -> None:
    st.caption(
        "torchinfo's summary of the same network. Its mult-adds also count one per normalisation weight, "
        "which ours leave out."
    )
    if len(trace.layers) > MAX_UNASKED_LAYERS and not st.button("Run torchinfo on this deep network"):
        return
    st.code(cached_torchinfo_summary(trace.config, trace.image_size), language=None, height=520)


def graphviz_drawing(trace: Trace) -> None:
    name, says = preset_name(trace.config) or "network", origin(session.view())
    with st.container(horizontal=True):
        download(
            "Download DOT",
            lambda: dot.graph(trace).source.encode(),
            f"{name}.dot",
            "text/vnd.graphviz",
            "The graph below, as Graphviz takes it",
        )
        download(
            "Download overview as SVG",
            lambda: drawings.svg(overview(trace), says).encode(),
            f"{name}.svg",
            "image/svg+xml",
            "The drawing at the top of the page",
        )
    with st.container(height=640):
        st.graphviz_chart(dot.graph(trace), width="content")
