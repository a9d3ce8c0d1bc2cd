"""One number, all the way down: how the selected unit's value comes about, and where each of its terms leads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from html import escape
from urllib.parse import urlencode

import numpy as np
import streamlit as st
from PIL import Image

from ...analysis.layers import Layer, shape_text
from ...analysis.parts import drawn_parts
from ...analysis.projective_field import projective, receptive
from ...analysis.trace import Trace
from ...drawing import explain as drawing
from ...drawing import rasters
from ...drawing.explain import number, unit_id
from ...inference import explain
from ...inference.explain import IMAGE_NAME, Explanation, Unit, sizes
from ...link import MAX_TRAIL
from ...navigation import INFERENCE
from .. import session, take
from ..cached import Key, shared
from ..components import Outline, Sheet, markup, picture, pixels
from ..headline import section
from ..network import choose_output, file_name
from .maps import largest_unit, scale_legend
from .picture import picture_columns
from .receptive_field import choose_channel
from .running import Run
from .unit import chosen_unit, unit_text
from .verdict import NO_CLASSIFIER

ALL_BYTES = 3 * 2**26
"""Bytes of all outputs of a network up to which one pass keeps them all; of a larger one each part is a pass of its own."""


def panel(result: Run) -> None:
    """The selected unit as a sum of terms with their numbers, each of which leads to the unit that it came from."""
    layer = result.layer
    if not result.prediction.finite:
        st.error("The activations overflowed, so no number can be explained.")
        return
    if result.headless and layer.name == "fc":
        st.info(f"{NO_CLASSIFIER} `fc` is zeros here: any other layer in the drawing has numbers to explain.")
        return
    trail = known_trail(result.trace)
    left, right = picture_columns()
    with right:
        channel = choose_channel(channels(result, layer))
    unit = Unit(layer.name, channel, *selected_place(result, layer, channel))
    pixel = trail[-1] if trail and trail[-1].layer == IMAGE_NAME else None
    with left:
        with st.container(border=True, key="one number"):
            if len(trail) == MAX_TRAIL:
                st.caption(f"A link holds the last {MAX_TRAIL} steps of a way.")
            way_back(result.trace, [*trail[: -1 if pixel else None], unit, *([pixel] if pixel else [])])
            if pixel:
                pixel_card(result, pixel)
            else:
                unit_card(result, unit, trail)
        with st.container(border=True, key="fields"):
            fields_card(result, pixel or unit)
    with right:
        where(result, layer, unit, pixel)


# -- what is selected ---------------------------------------------------------------------


def channels(result: Run, layer: Layer) -> np.ndarray:
    """The layer's channels, the strongest first; of the classes' scores, the highest first."""
    if layer is result.trace.layers[-1]:
        return np.argsort(-result.maps(layer.name)[:, 0, 0], kind="stable")
    return result.channels(layer.name)


def selected_place(result: Run, layer: Layer, channel: int) -> tuple[int, int]:
    """Row and column of the unit that the link names, the largest of the channel's map where it names none."""
    values = result.maps(layer.name)[channel]
    if values.size == 1:
        return 0, 0
    return chosen_unit(layer, largest_unit(values), "largest")


def known_trail(trace: Trace) -> tuple[Unit, ...]:
    """The units of the link's trail; none, and a sentence, where the network has one of them not."""
    found: list[Unit] = []
    for text in session.view().trail:
        unit = unit_of(text)
        known = trace.by_name.get(unit.layer)
        shape = trace.image_shape if unit.layer == IMAGE_NAME else known.out_shape if known else (0, 0, 0)
        ends = unit.layer == IMAGE_NAME and len(found) < len(session.view().trail) - 1
        if ends or any(at >= size for at, size in zip(unit[1:], sizes(shape), strict=True)):
            st.warning(
                session.escape_markdown(
                    f"trail = {text} is not accepted: a unit of this network as LAYER.CHANNEL.ROW-COLUMN, a pixel of the "
                    "image at its end. The way back is left out."
                )
            )
            return ()
        found.append(unit)
    return tuple(found)


def unit_of(text: str) -> Unit:
    """The unit that `unit_id` wrote."""
    layer, channel, place = text.rsplit(".", 2)
    row, column = map(int, place.split("-"))
    return Unit(layer, int(channel), row, column)


def follow(trace: Trace, current: Unit, trail: tuple[Unit, ...], text: str) -> None:
    """Select the unit that a term came from, and keep the one before for the way back; a pixel ends the trail of that one."""
    unit = unit_of(text)
    if unit.layer == IMAGE_NAME:
        select(trace, current, [*trail, unit])
    else:
        select(trace, unit, [*trail, current])


def select(trace: Trace, unit: Unit, trail: Iterable[Unit]) -> None:
    """Select a unit at the end of a trail."""
    text = unit_text(unit.row, unit.column)
    session.hold(unit=(text, trace.by_name[unit.layer]))
    session.choose(at=unit.layer, channel=unit.channel, unit=text, trail=link_trail(trail))


def link_trail(trail: Iterable[Unit]) -> tuple[str, ...]:
    """A trail as a link holds it: its last units where it is too long."""
    return tuple(map(unit_id, trail))[-MAX_TRAIL:]


# -- numbers ------------------------------------------------------------------------------


@shared()
def cached_outputs(key: Key, part: str, _run: Run) -> Mapping[str, np.ndarray]:
    """What the layers of a part put out and what they read, in one pass in fp32; of all layers where `part` is ""."""
    layers = _run.trace.inside(part)
    names = {layer.name for layer in layers}.union(*(explain.sources(_run.trace, layer, key.off) for layer in layers))
    return explain.record(_run.network, _run.prepared.tensor, names, key.form)


def explained(result: Run, unit: Unit) -> tuple[Explanation, ...]:
    """The unit, and what it is made of in the same part while that is one unit."""
    all_bytes = 4 * sum(math.prod(layer.out_shape) for layer in result.trace.layers)
    part = "" if all_bytes <= ALL_BYTES else result.trace.part_of(unit.layer)
    outputs = cached_outputs(result.key.plain, part, result)
    return explain.chain(result.network, result.trace, outputs.__getitem__, unit, result.off)


def unit_card(result: Run, unit: Unit, trail: tuple[Unit, ...]) -> None:
    """A unit's value step by step, down to where several units meet, and these as terms."""
    found = explained(result, unit)
    section(f"{unit_title(result, unit)} is {number(found[0].value)}")
    checks(found)
    for one in found:
        layer = result.trace.by_name[one.unit.layer]
        name = f"**{capital(layer.label)}** `{layer.name}`: "
        for line in one.steps:
            st.markdown(f"{name}${line.tex}$. {line.words}.")
            name = ""
    last = found[-1]
    picture(
        drawing.products(last),
        "terms",
        f"{file_name(result.trace)}-{unit_id(last.unit)}",
        lambda text: follow(result.trace, unit, trail, text),
        drawing.products(last, narrow=True),
    )
    st.caption(reading(last))
    if result.key.form.half:
        st.caption(f"All of this is in fp32. The maps are those of {result.key.form.form}, in which the network runs.")


def unit_title(result: Run, unit: Unit) -> str:
    """What the heading calls a unit."""
    layer = result.trace.by_name[unit.layer]
    if layer is result.trace.layers[-1] and unit.channel < len(result.weights.data.categories):
        return f"The score of {session.escape_markdown(result.weights.data.categories[unit.channel])} in `{unit.layer}`"
    place = "" if sizes(layer.out_shape)[1:] == (1, 1) else f", row {unit.row}, column {unit.column}"
    return f"Channel {unit.channel} of `{unit.layer}`{place}"


def capital(words: str) -> str:
    return words[0].upper() + words[1:]


def checks(found: tuple[Explanation, ...]) -> None:
    """Each sum beside torch's own value."""
    rows = [
        f"<tr><th scope=row>{escape(one.unit.layer)}</th><td>{full(one.total)}</td><td>{full(one.value)}</td>"
        f"<td>{difference(one)}</td></tr>"
        for one in found
    ]
    columns = {
        "Layer": [one.unit.layer for one in found],
        "Sum of its terms": [one.total for one in found],
        "torch's value": [one.value for one in found],
        "Difference": [one.difference for one in found],
    }
    head = "".join(f"<th scope=col>{name}</th>" for name in columns)
    take.ledger([f"<tr>{head}</tr>", *rows], "sums", "Sums and torch", columns, "many checks")


def full(value: float) -> str:
    """Seven figures, as many as single precision has."""
    return f"{value:z.7g}".replace("-", "−")


def difference(one: Explanation) -> str:
    return f"{one.difference:z.1e}".replace("-", "−") if one.difference else "0"


def reading(last: Explanation) -> str:
    """How to read the drawing of the terms, and what the difference is."""
    rounding = "The sums are in double precision; torch rounds to single on the way, which is the difference."
    if not any(term.unit for term in last.constants) and last.window is None:
        return rounding
    grid = "Blue is below zero, red above; grey is padding. " if last.window is not None else ""
    return f"{grid}A click on a term, or Enter, selects the unit that it came from. {rounding}"


def pixel_card(result: Run, pixel: Unit) -> None:
    """Where the way ends: the byte of the picture, and what the network takes for it."""
    prepared = result.prepared
    byte = int(prepared.input_image[pixel.row, pixel.column, pixel.channel])
    mean, std = (float(values[pixel.channel]) for values in (prepared.preprocessing.mean, prepared.preprocessing.std))
    value = float(prepared.tensor[0][pixel[1:]])
    colours = ("red", "green", "blue") if prepared.input_image.shape[2] == 3 else ()
    of = (
        f", {colours[pixel.channel]}"
        if colours
        else f", channel {pixel.channel}"
        if prepared.input_image.shape[2] > 1
        else ""
    )
    section(f"The pixel at row {pixel.row}, column {pixel.column}{of} is {number(value)}")
    st.markdown("Normalised: its byte as a share of 255, less the mean of the training images, over their deviation.")
    st.latex(
        rf"\dfrac{{{byte}/255 {explain.added(-mean)}}}{{{explain.tex(std)}}} = {explain.tex((byte / 255 - mean) / std)}"
    )
    st.caption("This is where the way down ends. The line above leads back.")


# -- the way back -------------------------------------------------------------------------


def way_back(trace: Trace, units: list[Unit]) -> None:
    """The units from the first to the one that is looked at, which is the last; a click goes back to one."""
    if len(units) < 2:
        st.caption("A click on a term leads to the unit it came from, down to a pixel.")
        return

    def go(text: str) -> None:
        if text.isdecimal() and int(text) < len(units) - 1:
            select(trace, units[int(text)], units[: int(text)])

    def crumb(index: int, unit: Unit) -> str:
        there = replace(
            session.view(),
            at=unit.layer,
            channel=unit.channel,
            unit=unit_text(unit.row, unit.column),
            trail=link_trail(units[:index]),
        )
        address = escape(f"{INFERENCE.path}?{urlencode(session.query_to(there))}")
        return f'<a href="{address}" data-id="{index}">{crumb_text(unit, trace)}</a>'

    listed = [crumb(index, unit) for index, unit in enumerate(units[:-1])]
    words = '<span class="to"> › </span>'.join([*listed, f"<b>{crumb_text(units[-1], trace)}</b>"])
    markup(f'<nav class="crumbs" aria-label="The way to this number">{words}</nav>', "way back", go)


def crumb_text(unit: Unit, trace: Trace) -> str:
    """layer2.0.act 5 at 3,4, in HTML; of what is no map, fc 3."""
    layer = trace.by_name.get(unit.layer)
    place = "" if layer and sizes(layer.out_shape)[1:] == (1, 1) else f"&nbsp;at&nbsp;{unit.row},{unit.column}"
    return f"{escape(unit.layer)}&nbsp;{unit.channel}{place}"


# -- where it is --------------------------------------------------------------------------


def where(result: Run, layer: Layer, unit: Unit, pixel: Unit | None) -> None:
    """The unit's field on the image and its place in its map, in each of which a click chooses another unit."""
    height, width = result.trace.image_size
    field, (_, rows, columns) = layer.field, sizes(layer.out_shape)
    outlines, centre, step = [], (unit.row, unit.column), 1
    if pixel:
        outlines, centre = [Outline("pixel", (pixel.column, pixel.row, 1, 1))], (pixel.row, pixel.column)
    elif field.effective_stride:
        box = field.box((unit.row, unit.column)).clipped((height, width))
        outlines = [Outline("field", (box.left, box.top, box.width, box.height))]
        centre, step = (round(field.centre(unit.row)), round(field.centre(unit.column))), field.effective_stride

    def choose(row: int, column: int) -> None:
        if pixel:
            before = session.view().trail[:-1]
            session.choose(trail=(*before, unit_id(Unit(IMAGE_NAME, pixel.channel, row, column))))
        elif field.effective_stride:
            session.choose(unit=unit_text(field.nearest(row, rows), field.nearest(column, columns)))

    label = "The image; arrow keys choose another pixel" if pixel else "The image; arrow keys choose another unit"
    values = result.maps(layer.name)[unit.channel]
    on_image, in_map = st.columns(2) if values.size > 1 else (st.container(), None)
    with on_image:
        sheet = Sheet("image", result.seen, (0, 0, width, height))
        pixels((0, 0, width, height), [sheet], outlines, centre, step, label, "number on image", choose)
        framed = f"what the unit can see, {field.size:,} px a side. {result.trace.beyond_windows(layer)}"
        seen_words = f"On the image, framed: {framed}" if outlines else "The unit sees the whole image."
        st.caption("On the image, framed: the pixel." if pixel else seen_words)
    if in_map is None:
        return
    scale = rasters.scale_over([rasters.extent(values)], rasters.has_negative(result.maps(layer.name)))
    with in_map:
        pixels(
            (0, 0, columns, rows),
            [Sheet("map", Image.fromarray(scale.colours(values)), (0, 0, columns, rows))],
            [Outline("unit", (unit.column, unit.row, 1, 1))],
            (unit.row, unit.column),
            1,
            f"Channel {unit.channel} of {layer.name}; arrow keys choose another unit",
            "number in map",
            lambda row, column: session.choose(unit=unit_text(row, column)),
        )
        st.html(scale_legend(scale))
        st.caption(f"In the map of channel {unit.channel}, {shape_text((rows, columns))}.")
    st.caption("A click in either chooses another " + ("pixel, or unit." if pixel else "unit."))


def fields_card(result: Run, unit: Unit) -> None:
    """What the unit reads in every part before it, and what it can reach in every part after."""
    trace = result.trace
    of_pixel = unit.layer == IMAGE_NAME
    section("What this pixel can reach" if of_pixel else "What it reads and reaches")
    read = {} if of_pixel else receptive(trace, unit.layer, unit.row, unit.column)
    reached = projective(trace, unit.layer, unit.row, unit.column)
    picture(
        drawing.fields(drawn_parts(trace), read, reached, unit.layer, of_pixel),
        "field tiles",
        f"{file_name(trace)}-fields",
        lambda part: choose_output(trace, part),
    )
    words = "Orange: the places of each part's output that this pixel can change."
    if not of_pixel:
        words = (
            "Blue: the places of each part's output that the unit reads, its receptive field there. "
            "Orange: those that it can change, its projective field."
        )
    st.caption(
        f"{words} Counted place by place along the windows, whatever the weights are{', with all blocks on' * bool(result.off)}."
    )
