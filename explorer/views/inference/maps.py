"""Maps: a layer's channels, strongest first, and one of them over the image."""

from __future__ import annotations

from html import escape

import numpy as np
import streamlit as st
from PIL import Image

from ...analysis.layers import Layer
from ...drawing import rasters
from ...drawing.rasters import Scale
from ...figures import inference
from ...inference import predict
from ...link import MAP_OPTIONS
from .. import session
from ..cached import Key, shared
from ..components import ContactSheet, Outline, Rectangle, Sheet, contact_sheet, downloads, pixels, plot, tiles
from .picture import picture_columns, seen
from .running import Run
from .unit import chosen_unit, unit_text
from .verdict import NO_CLASSIFIER


@shared()
def cached_channel_sheet(key: Key, layer: str, scales: tuple[tuple[int, Scale], ...], _run: Run) -> ContactSheet:
    return contact_sheet(rasters.channel_tiles(_run.maps(layer), dict(scales)))


CHANNELS = (32, 128, 512)


def chosen_channel(order: np.ndarray) -> int:
    """The channel that is selected in all tabs, of all by their strength: the link's, else the strongest.

    It stays with another image or layer, since a convolution, its norm and its activation number their channels alike; a
    layer that has fewer says so, and the channel is there again in one that has it.
    """
    chosen, last = session.view().channel, len(order) - 1
    if chosen is None or chosen <= last:
        return int(order[0]) if chosen is None else chosen
    st.warning(f"channel = {chosen} is not accepted: 0 to {last} in this layer. The strongest is shown instead.")
    return int(order[0])


def panel(result: Run) -> None:
    """The selected layer's channels, strongest first; one of them large over the image; statistics."""
    layer = result.layer
    if result.headless and layer.name == "fc":
        st.info(f"{NO_CLASSIFIER} `fc` is zeros here: any other layer in the drawing shows what it puts out.")
        return
    maps, selected = result.maps(layer.name), None
    left, right = picture_columns()
    with left, st.container(border=True, key="activations"):
        if maps.shape[1] * maps.shape[2] == 1:
            plot(inference.channel_figure(maps[:, 0, 0], layer.name), key="channel chart")
        else:
            selected = channel_grid(result, maps, layer.name)
        statistics_table(maps, result.size)
    with right:
        if selected is None:
            seen(result)
        else:
            channel_over_image(result, maps, *selected)


def channel_over_image(result: Run, maps: np.ndarray, channel: int, scale: Scale) -> None:
    """One channel of the selected layer large over the image, with what its colours stand for."""
    layer, shared = result.layer, session.view().range == "shared"
    place = st.container()
    option = MAP_OPTIONS["blend"]
    session.set_widget("blend", session.view().blend)
    blend = st.slider(
        option.label,
        float(option.low),
        float(option.high),
        key="blend",
        on_change=lambda: session.choose(blend=round(st.session_state["blend"], 2)),
        help=option.help,
    )
    (height, width), (rows, columns), field = result.trace.image_size, maps.shape[1:], layer.field
    row, column = chosen_unit(layer, largest_unit(maps[channel]), "largest")
    words = f"Channel {channel} of {layer.name} over the image"
    cells = rasters.units_on_image(scale.colours(maps[channel]), field, (height, width), (2 * height, 2 * width))

    def draw() -> None:
        pixels(
            (0, 0, width, height),
            [
                Sheet("image", result.seen, (0, 0, width, height)),
                Sheet("map", Image.fromarray(cells), (0, 0, width, height), blend),
            ],
            [Outline("unit", cell_of(layer, (row, column), (height, width)))],
            (round(field.centre(row)), round(field.centre(column))),
            field.effective_stride,
            f"{words}; arrow keys choose another unit",
            "map on image",
            lambda y, x: session.choose(unit=unit_text(field.nearest(y, rows), field.nearest(x, columns))),
        )

    with place:
        seen(result, None, words, scale_legend(scale), draw)
    st.button(
        f"{number_text(float(maps[channel, row, column]))} at row {row}, column {column}: how it comes about",
        icon=":material/calculate:",
        type="tertiary",
        key="explain unit",
        on_click=lambda: session.choose(tab="One number"),
        help="The framed unit, explained in One number. A click on the map frames another.",
    )
    words = "The range that the maps shown share." if shared else "The map's own range."
    st.caption(
        f"{words} Each place shows the unit whose receptive field has its middle nearest; a click frames a unit."
    )


def largest_unit(values: np.ndarray) -> tuple[int, int]:
    """Row and column of the largest value of a map."""
    row, column = np.unravel_index(np.nan_to_num(values).argmax(), values.shape)
    return int(row), int(column)


def cell_of(layer: Layer, unit: tuple[int, int], size: tuple[int, int]) -> Rectangle:
    """The pixels of an image whose nearest unit is this one, as `rasters.overlay` draws it."""
    (row, column), (_, rows, columns) = unit, layer.out_shape
    (top, bottom), (left, right) = (
        (min(mine), max(mine) + 1)
        if (mine := [at for at, near in enumerate(nearest) if near == place])
        else (place, place + 1)
        for place, nearest in (
            (row, layer.field.nearest_units(rows, size[0], size[0])),
            (column, layer.field.nearest_units(columns, size[1], size[1])),
        )
    )
    return left, top, right - left, bottom - top


def scale_legend(scale: Scale, ends: tuple[str, str] | None = None) -> str:
    """The colours of a scale in HTML, with its lowest and highest value, and zero in the middle of a signed one; `ends` are
    words in place of the two values.
    """
    low, high = ends or (number_text(scale.low), number_text(scale.high))
    marks = [low, "0", high] if scale.signed else [low, high]
    if ends is None and scale.low == scale.high:
        marks = [f"{high} everywhere"]
    words = "".join(f"<span>{escape(mark)}</span>" for mark in marks)
    return f'<div class="scale"><i style="background:{scale.gradient}"></i><div>{words}</div></div>'


def number_text(value: float) -> str:
    """Three figures: 0.123, −4.57."""
    return f"{value:z.3g}".replace("-", "−")


def channel_grid(result: Run, maps: np.ndarray, name: str) -> tuple[int, Scale]:
    """The grid of a layer's channel maps; returns the selected channel and its scale."""
    order = result.channels(name)
    choices = [most for most, fewer in zip(CHANNELS, (0, *CHANNELS), strict=False) if fewer < len(order)]
    most = min(session.held().channels_shown or CHANNELS[0], choices[-1])
    shown = [int(channel) for channel in order[:most]]
    selected = chosen_channel(order)
    extents = {channel: rasters.extent(maps[channel]) for channel in dict.fromkeys((*shown, selected))}
    signed, shared = rasters.has_negative(maps), session.view().range == "shared"
    whole = rasters.scale_over(extents.values(), signed)
    scales = {channel: whole if shared else rasters.scale_over([own], signed) for channel, own in extents.items()}

    with st.container(height=430 if len(shown) > CHANNELS[0] else "content", border=False):
        drawn = tuple((channel, scales[channel]) for channel in shown)
        tiles(
            cached_channel_sheet(result.key, name, drawn, result),
            {str(channel): str(channel) for channel in shown},
            str(selected),
            "channel tiles",
            lambda identifier: session.choose(channel=int(identifier)),
            {
                str(channel): f"Channel {channel}, rank {rank} of {len(order)} by mean magnitude"
                for rank, channel in enumerate(shown, start=1)
            },
            {
                str(channel): f"Channel {channel}: " + " to ".join(map(number_text, extents[channel]))
                for channel in shown
            },
        )
    st.html(scale_legend(whole, None if shared else EACH_OWN[signed]))
    st.caption(
        f"{len(shown)} of {len(order)} channels, the largest mean magnitude first; "
        f"{'all in one range' if shared else 'each in its own range'}, "
        f"{'blue below zero and red above' if signed else 'dark to bright'}."
    )
    with st.container(horizontal=True):
        if len(choices) > 1:
            key = f"shown of {len(order)}"
            session.set_widget(key, most)
            st.segmented_control(
                "Channels shown",
                choices,
                required=True,
                key=key,
                format_func=lambda most: str(min(most, len(order))),
                on_change=lambda: session.hold(channels_shown=st.session_state[key] or most),
            )
        choose_range()
    downloads(
        name,
        lambda: rasters.sheet(rasters.channel_tiles(result.maps(name), dict(drawn)), 8),
        lambda: {"channels": order, "activation": result.maps(name)},
        maps.nbytes,
    )
    return selected, scales[selected]


EACH_OWN = ("lowest of each map", "highest of each map"), ("−largest of each map", "largest of each map")
"""The ends of the scale where each map has its own: of maps that are never negative, and of signed ones."""


def choose_range() -> None:
    """Whether each map is coloured in its own range, or all in one."""
    option = MAP_OPTIONS["range"]
    session.set_widget("range", session.view().range)
    st.segmented_control(
        option.label,
        option.choices,
        required=True,
        key="range",
        on_change=lambda: session.choose(range=st.session_state["range"]),
        help=option.help,
    )


def statistics_table(maps: np.ndarray, size: str) -> None:
    found = predict.statistics(maps)
    shape = "×".join(map(str, maps.shape if maps.shape[1] * maps.shape[2] > 1 else maps.shape[:1]))
    rows = {
        "Image": f"{size} px",
        "Shape": shape,
        "Mean": number_text(found.mean),
        "Deviation": number_text(found.std),
        "Range": f"{number_text(found.low)} to {number_text(found.high)}",
        "Exact zeros": f"{found.zeros:.1%}",
    }
    st.html('<dl class="facts">' + "".join(f"<dt>{k}</dt><dd>{v}</dd>" for k, v in rows.items()) + "</dl>")
