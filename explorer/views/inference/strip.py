"""The network as a strip of maps, and the layers of the part that is open in its place."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import streamlit as st
from PIL import Image

from resnet.presets import short_title

from ...analysis.layers import Layer, shape_text
from ...analysis.parts import drawn_parts
from ...analysis.trace import Trace
from ...drawing import network, rasters
from .. import session
from ..cached import Key, shared
from ..components import picture
from ..network import choose_output, detail_drawing, file_name, part_title
from .running import Run
from .verdict import kinds_off


def strip(result: Run) -> None:
    """What each part puts out, of which a click selects one; or layer by layer the part that is open, and the way back."""
    trace, layer = result.trace, result.layer
    with st.container(border=True, key="strip", gap="xxsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key="crumbs"):
            crumbs(trace, layer)
            if result.off:
                words = f"All {kinds_off(result.off)} on"
                st.button(words, on_click=session.choose, kwargs={"off": ()}, type="tertiary")
        if is_open(trace, session.view().at):
            detail_drawing(trace, layer)
        else:
            unfolded = session.held().unfolded
            maps = cached_thumbnails(result.key, result)
            drawing = network.strip(trace, layer.name, unfolded, maps, result.off)
            picture(drawing, "strip drawing", f"{file_name(trace)}-maps", lambda part: choose_output(trace, part))


def is_open(trace: Trace, at: str) -> bool:
    """Whether a view's `at` names a layer inside of a part, rather than a part, or what one outside of the blocks puts out."""
    if at not in trace.by_name:
        return False
    return bool(trace.by_name[at].block) or at not in {part.layers[-1].name for part in drawn_parts(trace)}


def crumbs(trace: Trace, layer: Layer) -> None:
    """Where the selected layer is, with the ways out of its part and into it."""
    here, name = layer.part, part_title(layer)
    inside = trace.parts[here]
    shape = shape_text(layer.out_shape)
    if is_open(trace, session.view().at):
        closed = here if here in trace.blocks else inside[-1].name
        st.button(
            short_title(trace.config),
            on_click=session.choose,
            kwargs={"at": closed},
            type="tertiary",
            icon=":material/chevron_left:",
            key="close part",
            help="Back to the maps of the whole network.",
        )
        st.markdown(f"› **{name}** › `{layer.name}` {shape}")
        return
    opened = layer.name if layer.block else inside[0].name
    st.markdown(f"**{name}** › `{layer.name}` {shape}")
    if is_open(trace, opened):
        st.button(
            "Its layers",
            on_click=session.choose,
            kwargs={"at": opened},
            type="tertiary",
            icon=":material/expand_more:",
            key="open part",
            help="The layers of this part in place of the maps.",
        )
    if session.held().unfolded & trace.groups.keys():
        st.button("Fold stages", on_click=lambda: session.hold(unfolded=frozenset()), type="tertiary")


@shared()
def cached_thumbnails(key: Key, _result: Run) -> Mapping[str, str]:
    """The strongest map of each part of the network, as image addresses."""
    found = _result.prediction.strongest

    def colours(values: np.ndarray) -> np.ndarray:
        return rasters.scale_over([rasters.extent(values)], rasters.has_negative(values)).colours(values)

    return {
        part.identifier: rasters.data_url(Image.fromarray(colours(found[part.layers[-1].name])))
        for part in drawn_parts(_result.trace)
        if part.layers[-1].name in found and len(part.shape) == 3 and part.shape[1] > 1
    }
