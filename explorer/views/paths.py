"""The field sizes of all paths through the shortcuts."""

from __future__ import annotations

from typing import NamedTuple

import plotly.graph_objects as go
import streamlit as st

from resnet import ResNetConfig

from .. import units
from ..analysis.layers import Layer
from ..analysis.paths import Paths, path_sizes_by_block, paths
from ..analysis.trace import Trace
from ..figures import network
from . import session
from .cached import cached_trace, shared
from .components import plot


class PathComparison(NamedTuple):
    """All paths to a layer, what the plain network's one sees, and the chart of both."""

    paths: Paths
    plain: int | None
    figure: go.Figure


@shared()
def cached_paths(config: ResNetConfig, image_size: tuple[int, int], at: str) -> PathComparison:
    trace = cached_trace(config, image_size)
    layer, found = next((layer, found) for layer, found in paths(trace) if layer.name == at)
    plain = plain_size(trace, layer)
    return PathComparison(found, plain, network.path_figure(found, at, plain))


@shared()
def cached_depth_chart(config: ResNetConfig, image_size: tuple[int, int]) -> go.Figure:
    return network.path_depth_figure(path_sizes_by_block(cached_trace(config, image_size)))


def all_paths(trace: Trace, layer: Layer | None = None) -> None:
    """The field sizes of all paths to a layer (the last stage's end), and to each block, with the plain network's."""
    layer = layer or trace.stages[-1][-1]
    found = cached_paths(trace.config, trace.image_size, layer.name)
    with st.container(border=True, key="paths"):
        if found.paths.total > 1:
            left, right = st.columns(2)
            plot(found.figure, "paths chart", left)
            plot(cached_depth_chart(trace.config, trace.image_size), "paths by depth", right)
        st.caption(session.escape_markdown(path_words(trace, found.paths, found.plain, layer)))


def plain_size(trace: Trace, layer: Layer) -> int | None:
    """What the same place of the plain network sees; None on a shortcut, which that has not."""
    if layer.role.on_shortcut:
        return None
    twin = cached_trace(trace.config.with_(shortcut="none")[0], trace.image_size)
    return twin.by_name.get(layer.name, twin.parts[layer.part][-1]).field.size


def path_words(trace: Trace, path_sizes: Paths, plain: int | None, layer: Layer) -> str:
    if trace.config.shortcut == "none":
        return f"A plain network has one path. To {layer.name} it sees {path_sizes.sizes[-1]:,} px a side, whatever else is learned."
    total, blocks = path_sizes.total, path_sizes.total.bit_length() - 1
    if total == 1:
        return f"No addition comes before {layer.name}: one path leads there."
    words = (
        f"{blocks} additions up to {layer.name} make {units.power(2, blocks)}"
        if total == 1 << blocks
        else units.count_text(total)
    )
    words += f" = {total:,} paths" if 1 < blocks < 60 else " paths"
    words += f", counted exactly: from {path_sizes.sizes[0]:,} to {path_sizes.sizes[-1]:,} px a side, {path_sizes.mean:,.1f} px in the mean."
    if plain is not None:
        rare = units.count_text(total // path_sizes.counts[-1])
        words += f" The plain network's only path sees {plain:,} px; here one path in {rare} sees as much."
    return words
