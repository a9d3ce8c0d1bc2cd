"""The network as a drawing to choose in, and the inspector of what is chosen."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from resnet import preset_name
from resnet.config import block_path

from ..analysis.cost import macs_formula, params_formula
from ..analysis.layers import Layer, Op, shape_text
from ..analysis.parts import drawn_parts, fixed_blocks, switched_off
from ..analysis.trace import Trace
from ..drawing import network
from ..navigation import SOURCE
from . import session
from .cached import cached_trace
from .components import picture
from .headline import section


def selected_layer(trace: Trace, at: str, output: bool = False) -> Layer:
    """The layer that a view's `at` selects; of a block the one that it is known by, or that its `output` is of.

    Where it names nothing in this network, that is in the first block that changes the shape.
    """
    if at in trace.by_name:
        return trace.by_name[at]
    inside = trace.inside(at) if at else ()
    inside = inside or trace.blocks[block_path(min(2, len(trace.config.layers)), 0)]
    return inside[-1] if output else representative(inside)


def representative(layers: tuple[Layer, ...]) -> Layer:
    """A block's 3×3 convolution, else its first layer."""
    return next((layer for layer in layers if layer.op == Op.CONVOLUTION and layer.kernel == 3), layers[0])


def choose_part(trace: Trace, identifier: str) -> None:
    """Select what was clicked: a layer, a block, or a fold to open; or move a switch."""
    if identifier.startswith("switch "):
        flip(trace, identifier.removeprefix("switch "))
        return
    if identifier.startswith("unfold "):
        session.hold(unfolded=session.held().unfolded | {identifier.removeprefix("unfold ")})
        return
    inside = trace.inside(identifier)
    session.choose(at=representative(inside).name if inside else identifier)


def choose_output(trace: Trace, identifier: str) -> None:
    """`choose_part`, but what a part is selected by is its output."""
    if identifier in trace.blocks:
        session.choose(at=identifier)
    else:
        outputs = {part.identifier: part.layers[-1].name for part in drawn_parts(trace)}
        choose_part(trace, outputs.get(identifier, identifier))


def flip(trace: Trace, block: str) -> None:
    """Switch a block off or on again."""
    if reason := fixed_blocks(trace.config).get(block):
        st.toast(f"{block} cannot be switched off: {reason}.")
        return
    session.choose(off=switched_off(set(session.view().off) ^ {block}, trace.config))


def overview(trace: Trace, layer: Layer, switches: bool = False) -> None:
    """The whole network on a line with the selected layer, in a card; with `switches`, blocks can be switched off."""
    off = session.view().off
    unfolded = session.held().unfolded
    with st.container(border=True, key="overview"):
        section("The network, input to output")
        moving = network.Switches(off, fixed_blocks(trace.config)) if switches else None
        drawing = network.overview(trace, layer.name, unfolded, moving)
        name = file_name(trace)
        choose = choose_output if switches else choose_part
        picture(drawing, "overview drawing", name, lambda identifier: choose(trace, identifier))
        kinds = "Height: feature-map size. Arc: shortcut, dashed where it projects. ⊕: addition."
        if trace.config.shortcut == "none":
            kinds = "Height: feature-map size. A plain network has no shortcuts and no additions."
        if switches:
            plain = trace.config.shortcut == "none"
            kinds += " A switch takes its block out: " + (
                "its input goes on, so a block that changes the shape has to stay."
                if plain
                else "the branch is dropped and the shortcut goes on alone."
            )
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.caption(kinds, width="stretch")
            if unfolded & trace.groups.keys():
                st.button("Fold stages", on_click=lambda: session.hold(unfolded=frozenset()), type="tertiary")


def file_name(trace: Trace) -> str:
    """What a file of this network is called, without its ending."""
    return preset_name(trace.config) or "network"


def block_detail(trace: Trace, layer: Layer) -> None:
    """The block, stem or head that holds the selected layer, layer by layer, in a card."""
    with st.container(border=True, height="stretch", key="detail"):
        section(part_title(layer) + (f" `{layer.part}`" if layer.block else ""))
        detail_drawing(trace, layer)
        if words := network.remark(trace, layer.part):
            st.caption(words)


def part_title(layer: Layer) -> str:
    """What the block, stem or head that holds a layer is called."""
    role = layer.role
    return f"Block {role.block} of stage {role.stage}" if layer.block else layer.part.capitalize()


def detail_drawing(trace: Trace, layer: Layer) -> None:
    """The layers of the block, stem or head that holds the selected one."""
    drawing, narrow = (network.detail(trace, layer.part, layer.name, shared) for shared in (False, True))
    picture(
        drawing,
        "detail drawing",
        f"{file_name(trace)}-{layer.part}",
        lambda identifier: choose_part(trace, identifier),
        narrow,
    )


def inspector(trace: Trace, layer: Layer) -> None:
    """Everything about the selected layer, in a card; counts as formulas with their numbers."""
    rows = "".join(f"<dt>{label}</dt><dd>{value}</dd>" for label, value in facts(trace, layer))
    with st.container(border=True, height="stretch", key="inspector"):
        section(f"{layer.role.slot} `{layer.name}`")
        st.html(f'<dl class="facts">{rows}</dl>')
        query = replace(session.view(), at=layer.name).to_query()
        st.page_link(SOURCE.file, label="Its lines in the source", icon=SOURCE.icon, query_params=query)


def facts(trace: Trace, layer: Layer) -> list[tuple[str, str]]:
    """The inspector's rows: what, and the value as HTML; all text is the trace's own."""
    shapes = " and ".join(dict.fromkeys(shape_text(shape) for shape in layer.in_shapes))
    rows = [("Operation", layer.label[0].upper() + layer.label[1:]), ("Reads", ", ".join(trace.sources(layer)))]
    rows.append(("Shape", f"{shapes} → {shape_text(layer.out_shape)}"))
    rows.append(("Parameters", bold_result(params_formula(layer)) or "none"))
    rows.append(("MACs", bold_result(macs_formula(layer)) or "none counted"))
    if layer.params or layer.macs:
        shares = f"{layer.params / trace.params:.1%} of parameters"
        rows.append(("Share", shares + (f", {layer.macs / trace.macs:.1%} of MACs" if trace.macs else "")))
    field = layer.field
    if field.effective_stride:
        rows.append(
            (
                "Receptive field",
                f"<b>{field.size:,} px</b>, effective stride {field.effective_stride}, starts at {field.start:,}".replace(
                    "-", "−"
                ),
            )
        )
    else:
        rows.append(("Receptive field", "the whole image"))
    if field.effective_stride and (words := trace.beyond_windows(layer)):
        rows.append(("", words))
    return rows


def field_remark(trace: Trace) -> str:
    """How far the last stage sees, beside the same stages built of the other block."""
    twin = "bottleneck" if trace.config.block == "basic" else "basic"
    other = cached_trace(trace.config.with_(block=twin)[0], trace.image_size)
    return (
        f"A unit of the last stage sees {trace.field.size:,} px a side. The same stages of {twin} blocks would see "
        f"{other.field.size:,} px: a basic block has two 3×3 convolutions, a bottleneck one. "
        f"The line rises faster the further units are apart. {trace.beyond_windows()}".rstrip()
    )


def bold_result(formula: str) -> str:
    if not formula:
        return ""
    left, equals, result = formula.rpartition(" = ")
    return f"{left}{equals}<b>{result}</b>"
