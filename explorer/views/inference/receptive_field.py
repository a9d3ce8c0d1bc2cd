"""What one unit sees, on the pixels of the image; and the field sizes of all paths to its layer."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import plotly.graph_objects as go
import streamlit as st
import torch
from PIL import Image

from ...analysis.layers import Layer
from ...analysis.receptive_field import Box
from ...drawing import rasters
from ...figures import inference
from ...inference import limits, preprocess, turns
from ...inference.attribution import grad_cam
from ...inference.effective_field import EffectiveField, Width, effective_field, gaussian_width, measured_side, mirrored
from ...inference.samples import samples
from .. import session
from ..cached import Key, cached_result, cached_trace, kept_result, may_compute, shared
from ..components import Outline, Rectangle, Sheet, downloads, pixels, plot
from ..headline import section
from ..paths import all_paths
from .attribution import explained_class, explained_name
from .maps import chosen_channel, scale_legend
from .running import Run
from .unit import chosen_unit, unit_text

BOX, EFFECTIVE, MAP, CAM, BEYOND = "Theoretical field", "Effective field", "Activation", "Grad-CAM", "Beyond the edge"
SHADES = {EFFECTIVE: "#ff9f1c", MAP: "#2ec4b6", CAM: "#ff4d8d"}
"""Bright, so that they show on a dark image, and full, so that they show on a bright one."""

AT_ONCE_MACS = 4e9
"""MACs up to which an effective field is measured without being asked for."""

INPUTS, BUDGET = (4, 12), 1.7e9
"""How many images an effective field is averaged over: as many as cost so many MACs, within bounds."""


def panel(result: Run) -> None:
    """The selected unit's field, gradient, activation and Grad-CAM on one grid of pixels, and all paths to it."""
    layer = result.layer
    if not result.prediction.finite:
        st.error("The activations overflowed, so no unit has a gradient or a map to show.")
        return
    if not layer.field.effective_stride:
        height, width = result.trace.image_size
        st.info(
            f"`{layer.name}` comes after global pooling: its output depends on the whole image, all {height}×{width} "
            "pixels, and has no place on it. Select a layer before the pooling."
        )
        return
    unit = chosen_unit(layer)
    effective = session.show_or_say(layer_effective_field, result, layer)
    with st.container(key="beside"):
        left, right = st.columns(2)
    with left, st.container(border=True, key="map and numbers"):
        channel = map_grid(result, layer, unit)
    with right, st.container(border=True, key="pixel grid"):
        pixel_grid(result, layer, unit, channel, effective)
    with left:
        if effective is not None:
            with st.container(border=True, key="effective field"):
                width_card(result, layer, effective)
        all_paths(result.trace, layer)


# -- the grid -----------------------------------------------------------------------------


def choose_channel(order: np.ndarray) -> int:
    """The channel that is selected, to choose another."""
    session.set_widget("grid channel", chosen_channel(order))

    def chosen() -> None:
        if (channel := st.session_state["grid channel"]) in order:
            session.choose(channel=channel)

    return st.selectbox("Channel, the strongest first", order.tolist(), key="grid channel", on_change=chosen)


def map_grid(result: Run, layer: Layer, unit: tuple[int, int]) -> int:
    """One channel of the layer's map, in which a click chooses the unit, and where its field lies; returns the channel."""
    _, rows, columns = layer.out_shape
    section(f"What unit {unit[0]}, {unit[1]} of `{layer.name}` sees")
    channel, maps = choose_channel(result.channels(layer.name)), result.maps(layer.name)
    scale = rasters.scale_over([rasters.extent(maps[channel])], rasters.has_negative(maps))
    pixels(
        (0, 0, columns, rows),
        [Sheet("map", Image.fromarray(scale.colours(maps[channel])), (0, 0, columns, rows))],
        [Outline("unit", (unit[1], unit[0], 1, 1))],
        unit,
        1,
        f"Channel {channel} of {layer.name}; arrow keys choose another unit",
        "map grid",
        lambda row, column: session.choose(unit=unit_text(row, column)),
    )
    st.html(scale_legend(scale))
    st.caption(f"Channel {channel} of `{layer.name}`, {rows}×{columns} units. A click chooses one.")
    box = layer.field.box(unit)
    field_facts(layer, unit, box, box.clipped(result.trace.image_size))
    return channel


def pixel_grid(
    result: Run, layer: Layer, unit: tuple[int, int], channel: int, effective: EffectiveField | None
) -> None:
    """The image with what is laid over it; a click chooses the unit."""
    field, (_, rows, columns) = layer.field, layer.out_shape
    height, width = result.trace.image_size
    box, values = field.box(unit), result.maps(layer.name)[channel]
    inside = box.clipped((height, width))
    place = st.container()
    shown = st.pills(
        "Shown",
        [BOX, *SHADES, BEYOND],
        selection_mode="multi",
        default=[BOX, EFFECTIVE],
        key="grid shown",
        persist_state="session",
        help="Beyond the edge: the padding that the unit's field reaches into, grey.",
    )
    heats = [name for name in SHADES if name in shown]
    opacities = {
        name: column.slider(name, 0.0, 1.0, 0.8, key=f"opacity of {name}", persist_state="session")
        for name, column in zip(heats, st.columns(max(1, len(heats))), strict=False)
    }
    view: Rectangle = (0, 0, width, height)
    if BEYOND in shown:
        x, y = min(box.left, 0), min(box.top, 0)
        view = x, y, max(box.right + 1, width) - x, max(box.bottom + 1, height) - y
    sheets = [Sheet("image", result.seen, (0, 0, width, height))]
    heat = {
        EFFECTIVE: lambda: effective_sheet(effective, box, opacities[EFFECTIVE], view),
        MAP: lambda: map_sheet(MAP, values, layer, (height, width), opacities[MAP]),
        CAM: lambda: (
            None if result.headless else map_sheet(CAM, cam(result, layer), layer, (height, width), opacities[CAM])
        ),
    }
    sheets += [sheet for name in heats if (sheet := heat[name]())]
    outlines = []
    if BOX in shown:
        outlines.append(Outline("field", (inside.left, inside.top, inside.width, inside.height)))
        if BEYOND in shown and box != inside:
            outlines.append(Outline("unclipped", (box.left, box.top, box.width, box.height), dashed=True))
    centre = round(field.centre(unit[0])), round(field.centre(unit[1]))
    with place:
        pixels(
            view,
            sheets,
            outlines,
            centre,
            field.effective_stride,
            "The image; arrow keys choose another unit",
            "image grid",
            lambda row, column: session.choose(
                unit=unit_text(field.nearest(row, rows), field.nearest(column, columns))
            ),
        )
    st.caption(
        f"{legend(result, heats, effective)} {result.trace.beyond_windows(layer)}".rstrip()
        + " A click chooses the unit whose field has its middle nearest."
    )
    measured = {"effective": effective.field} if effective else {}
    downloads(
        "unit",
        None,
        lambda: (
            {"pixels": result.prepared.pixels, "map": result.maps(layer.name)[channel], "box": np.array(box)} | measured
        ),
        4 * result.prepared.input_image.size + values.nbytes + sum(one.nbytes for one in measured.values()),
    )


def effective_sheet(effective: EffectiveField | None, box: Box, opacity: float, view: Rectangle) -> Sheet | None:
    """The effective field at a unit's box, its part in `view`; the square root, so that faint parts show."""
    if effective is None:
        return None
    left, top = box.left + effective.first, box.top + effective.first
    x, y, width, height = map(int, view)
    rows = slice(max(y - top, 0), max(y + height - top, 0))
    columns = slice(max(x - left, 0), max(x + width - left, 0))
    part = np.sqrt(effective.field[rows, columns])
    if not part.size:
        return None
    place = left + columns.start, top + rows.start, part.shape[1], part.shape[0]
    return Sheet(EFFECTIVE, rasters.tinted(part, SHADES[EFFECTIVE]), place, opacity)


def map_sheet(name: str, values: np.ndarray, layer: Layer, size: tuple[int, int], opacity: float) -> Sheet:
    """A map over an image of `size` pixels, two samples a pixel: where a cell ends is a multiple of half a pixel."""
    height, width = size
    cells = np.asarray(rasters.tinted(values, SHADES[name]))
    sheet = rasters.units_on_image(cells, layer.field, size, (2 * height, 2 * width))
    return Sheet(name, Image.fromarray(sheet), (0, 0, width, height), opacity)


def cam(result: Run, layer: Layer) -> np.ndarray:
    """Grad-CAM for the class that is explained.

    Raises:
        TooLargeError: where the gradient takes too much memory.
    """
    limits.check_gradients(result.trace)
    return _cached_cam(result.key.plain, layer.name, explained_class(result), result)


@shared()
def _cached_cam(key: Key, layer: str, target: int, _result: Run) -> np.ndarray:
    return grad_cam(_result.network, _result.prepared.tensor, [layer], target, key.form)[layer]


def legend(result: Run, heats: list[str], effective: EffectiveField | None) -> str:
    words = {
        EFFECTIVE: "orange: the square root of the effective field"
        if effective
        else "the effective field is not measured yet",
        MAP: "green: the activation, each unit's cell around the middle of its field",
        CAM: "no Grad-CAM, as this checkpoint has no classifier"
        if result.headless
        else f"pink: Grad-CAM for {explained_name(result)}",
    }
    said = "; ".join(words[name] for name in heats) or "frame: what the unit can see"
    return session.escape_markdown(said[0].upper() + said[1:] + ".")


def field_facts(layer: Layer, unit: tuple[int, int], box: Box, inside: Box) -> None:
    """Where the field lies, by the arithmetic."""
    field = layer.field
    rows = {
        "First row": f"{field.start} + {unit[0]}·{field.effective_stride} = <b>{box.top}</b>",
        "First column": f"{field.start} + {unit[1]}·{field.effective_stride} = <b>{box.left}</b>",
        "Last row, column": f"<b>{box.bottom}</b>, <b>{box.right}</b>",
        "Theoretical field": f"{box.height}×{box.width} px",
        "In the image": f"{inside.height}×{inside.width} px",
    }
    if inside != box:
        rows["In the padding"] = f"{1 - inside.height * inside.width / (box.height * box.width):.0%} of it"
    listed = "".join(f"<dt>{label}</dt><dd>{value}</dd>" for label, value in rows.items())
    st.html(f'<dl class="facts">{listed}</dl>'.replace("-", "−"))


# -- the effective field ------------------------------------------------------------------


def effective_field_key(result: Run, layer: Layer) -> Hashable:
    """What the layer's effective field depends on."""
    return "effective", result.weights, result.off, result.device, layer.name


def layer_effective_field(result: Run, layer: Layer) -> EffectiveField | None:
    """The layer's effective field, at once for a small network, else when it is asked for."""
    config, key = result.weights.config, effective_field_key(result, layer)
    if (found := kept_result(key)) is not None:
        return found
    side = measured_side(layer, result.trace, lambda side: cached_trace(config, (side, side)))
    macs = sum(before.macs for before in cached_trace(config, (side, side)).layers[: layer.index + 1])
    low, high = INPUTS
    count = int(min(max(BUDGET / max(macs, 1), low), high))
    try:
        limits.check_gradients(cached_trace(config, (side, side)))
    except turns.TooLargeError as error:
        st.info(session.escape_markdown(str(error)), icon=":material/block:")
        return None
    seconds = 3 * count * result.prediction.seconds * macs / result.trace.macs
    words = f"Measure the effective field of {layer.name}, about {max(1, seconds):.0f} s by the first pass"
    if not may_compute(words, key, at_once=macs * count <= AT_ONCE_MACS):
        return None
    return cached_result(
        key,
        f"Averaging the gradient of {layer.name} …",
        lambda progress: effective_field(
            result.network, layer, sample_inputs(result, count, side), result.device, progress
        ),
    )


def sample_inputs(result: Run, count: int, side: int) -> list[torch.Tensor]:
    """Shipped samples, of what the weights know where there are any, as the network takes them, `side` pixels wide."""
    data = result.weights.data
    known = [sample for sample in samples() if sample.label in data.categories] or samples()
    return [
        mirrored(preprocess.prepare(sample.image(), data.preprocessing).tensor[0], side) for sample in known[:count]
    ]


def width_card(result: Run, layer: Layer, effective: EffectiveField) -> None:
    """The effective field's Gaussian width against the theoretical field."""
    if not effective.inside_share:
        st.markdown(f"The middle unit of `{layer.name}` has a gradient of zero on all images that were measured.")
        return
    chart, words = st.columns([8, 5])
    width, size = gaussian_width(effective.field), layer.field.size
    figure = cached_width_chart(layer.name, size, effective_field_key(result, layer), width, effective)
    plot(figure, "width chart", chart)
    with words:
        if np.isfinite(width.sigma):
            st.metric("4σ against the theoretical field", f"{width.share_of(size):.0%}", border=False)
            said = f"The Gaussian that fits has 4σ = **{4 * width.sigma:.1f} px** of {size:,} px a side: ±2σ hold 95 % of it."
        else:
            said = f"The gradient is spread evenly over the {len(effective.field)} px measured: no Gaussian fits."
        st.markdown(
            f"{said} A unit can see its whole theoretical field, but counts mostly on its middle, "
            "since many more paths lead there (Luo 2016)."
        )
        st.markdown(
            f"**{effective.inside_share:.1%}** of the gradient falls inside the box. {result.trace.beyond_windows(layer)}"
        )
        st.caption(
            f"|∂ȳ/∂x|, ȳ the mean of the middle unit's channels, averaged over {effective.image_count} images of "
            f"{effective.image_side}×{effective.image_side} px with these weights in eval mode; smaller images are continued by reflection."
        )


@shared()
def cached_width_chart(name: str, size: int, measured: Hashable, width: Width, _effective: EffectiveField) -> go.Figure:
    profile = (_effective.field.sum(0) + _effective.field.sum(1)) / 2
    return inference.width_figure(profile, _effective.first, size, width, name)
