"""What a channel stands for: the images that excite it most and least, its classes, its kernel, the network without it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil, floor
from typing import NamedTuple

import numpy as np
import streamlit as st
from PIL import Image
from torch import Tensor

from resnet.shipped import NAMES
from resnet.weights import FASHION_MNIST, Weights

from ...analysis.layers import Layer
from ...analysis.receptive_field import Box
from ...drawing import rasters
from ...experiments.channels import STRONGEST, Channels, Gallery, gallery, shipped_channels
from ...figures import channels as figures
from ...inference import channels, predict
from ...inference.ablation import batch_size
from ...inference.channels import Extremes, Silence
from ...inference.device import Device
from ...inference.predict import Prediction
from ...inference.samples import labelled_images
from ...inference.turns import forward_in_turn
from ...sharing.store import Progress
from .. import session
from ..cached import Key, cached_result, cached_trace, device, may_compute, shared
from ..components import plot
from ..headline import section
from ..weights import loaded
from .ablation import knows_test_images, test_inputs, too_large
from .attribution import kernel_slices
from .channel_set import Measured, measured_set
from .maps import chosen_channel, number_text, scale_legend
from .picture import picture_columns, seen
from .running import Run, weights_trace
from .verdict import kinds_off

NO_ASCENT = (
    "No image is made up here by gradient ascent: people tell better what excites a unit from natural images (Borowski 2021, "
    "https://arxiv.org/abs/2010.12606), and on small grey inputs it would be a toy."
)
MEASURE = (
    "How strongly an image excites a channel is the largest value of its map; the frame is the receptive field of the unit "
    "that has it, and of equal images the one that comes first in the set is shown first."
)


def panel(result: Run) -> None:
    """The selected channel of the selected block, or of the stem, on the images of a set."""
    if not result.prediction.finite:
        st.error("The activations overflowed, so no image excites a channel more than another.")
        return
    place, layer = selected_place(result)
    channel = chosen_channel(result.channels(layer.name))
    found = shipped(result.weights)
    left, right = picture_columns()
    with left:
        with st.container(border=True, key="channel"):
            chosen = found[place] if found else None
            with st.container(horizontal=True, vertical_alignment="center", gap="small", key="which channel"):
                section(f"Channel {channel} of `{place}`")
                choose_channel(layer.out_shape[0], channel, selectivities(chosen))
            if layer.name != result.layer.name:
                where = "inside" if result.layer.part == place else "behind"
                st.caption(
                    f"Channels are those at the end of a block or of the stem: `{result.layer.name}` is {where} `{place}`."
                )
            if chosen is None:
                session.show_or_say(brought_images, result, place, layer, channel)
            else:
                test_images(result.weights, layer, channel, chosen)
        with st.container(border=True, key="channel classes"):
            facts(result, place, channel, chosen)
            if chosen is not None and not silent(chosen, channel):
                classes(channel, chosen)
            elif has_labelled_images(result):
                session.show_or_say(silence, result.weights, place, channel)
                st.caption(f"With all blocks on, {silence_words()}")
        with st.container(border=True, key="channel kernel"):
            kernel(result, place, channel)
    with right:
        maps = result.maps(layer.name)
        scale = rasters.scale_over([rasters.extent(maps[channel])], rasters.has_negative(maps))
        overlay = rasters.overlay(maps[channel], result.prepared.input_image, 0.6, layer.field, scale=scale)
        seen(result, overlay, f"Channel {channel} of {layer.name} over the image", scale_legend(scale))


def selected_place(result: Run) -> tuple[str, Layer]:
    """The stem or the block of the selected layer, and its output; the last block where a layer of the head is selected."""
    found = channels.places(result.trace)
    place = result.layer.part if result.layer.part in found else list(found)[-1]
    return place, found[place]


def shipped(weights: Weights) -> dict[str, Channels] | None:
    """What was measured of weights that ship, by their places; None for others."""
    return dict(shipped_channels(NAMES[weights.config])) if weights.key == "bundled" else None


# -- which channel ------------------------------------------------------------------------


def selectivities(chosen: Channels | None) -> np.ndarray | None:
    return None if chosen is None else channels.selectivity(chosen.by_class.means.astype(np.float64))


def choose_channel(count: int, channel: int, selectivity: np.ndarray | None) -> None:
    """The channel before and the one after, and a list of all, the most selective first where that is known."""
    order = list(range(count)) if selectivity is None else np.argsort(-selectivity, kind="stable").tolist()

    def words(one: int) -> str:
        return f"Channel {one}" if selectivity is None else f"Channel {one}, selectivity {selectivity[one]:.2f}"

    def chosen() -> None:
        if (one := st.session_state["listed channel"]) in order:
            session.choose(channel=one)

    session.set_widget("listed channel", channel)
    for label, step in (("Previous", -1), ("Next", 1)):
        st.button(
            label,
            key=f"{label} channel",
            icon=f":material/chevron_{'left' if step < 0 else 'right'}:",
            type="tertiary",
            disabled=not 0 <= channel + step < count,
            on_click=session.choose,
            kwargs={"channel": channel + step},
        )
    st.selectbox(
        "All channels",
        order,
        format_func=words,
        key="listed channel",
        on_change=chosen,
        label_visibility="collapsed",
        help=None if selectivity is None else "The most selective first.",
    )


def facts(result: Run, place: str, channel: int, chosen: Channels | None) -> None:
    """How selective a channel is, for which class, where this image stands among the test images, and what it loses."""
    layer, rows = channels.places(result.trace)[place], {}
    if chosen is not None:
        means, names = chosen.by_class.means[channel].astype(np.float64), FASHION_MNIST.categories
        rest = (means.sum() - means.max()) / (len(means) - 1)
        rows["Selectivity"] = (
            "<b>0</b>: no class excites it"
            if silent(chosen, channel)
            else f"<b>{channels.selectivity(means[None])[0]:.2f}</b>, highest for {escape(names[int(means.argmax())])}: "
            f"mean activation {number_text(means.max())} against {number_text(rest)} over the other classes"
        )
    rows["This image"] = standing(result, layer, channel, chosen)
    if not result.headless and result.weights.key != "random":
        rows["With it at zero"] = unread(result, place, channel) or at_zero(result, layer, channel)
    if chosen is not None:
        rows["Measured on"] = "all 10,000 test images of Fashion-MNIST at 28×28 pixels, with all blocks on"
    st.html('<dl class="facts">' + "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in rows.items()) + "</dl>")


def standing(result: Run, layer: Layer, channel: int, chosen: Channels | None) -> str:
    """The largest value of a channel on this image, and its rank among those of the test images."""
    values = result.maps(layer.name)[channel]
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    words = f"at most <b>{number_text(float(values.max()))}</b>, in row {row}, column {column}"
    if chosen is None:
        return words
    if result.trace.image_size != FASHION_MNIST.preprocessing.size:
        return f"{words}; at {result.size} pixels it is not ranked"
    share = channels.share_below(chosen.responses.quantiles[channel], float(values.max()))
    return f"{words}: above {share:.0%} of the test images" + (
        f", with {kinds_off(result.off)} off" if result.off else ""
    )


def unread(result: Run, place: str, channel: int) -> str:
    """Why nothing after a place reads one of its channels as it is; empty where something does."""
    if place in result.off and result.trace.config.shortcut == "none":
        name = escape(place)
        return f"no change: <code>{name}</code> is off and hands on its input, so nothing reads what its layers put out"
    return "no change: the channel is off" if f"{place}:{channel}" in result.off else ""


def at_zero(result: Run, layer: Layer, channel: int) -> str:
    """What the network says of this image without a channel."""
    without, names = cached_prediction_without(result.key, layer.name, channel, result), result.weights.data.categories
    ((best, before),) = result.prediction.top(1)
    ((other, _),) = without.top(1)
    words = f"{escape(names[best])} {before:.1%} → <b>{float(without.probabilities[best]):.1%}</b> for this image"
    return words if other == best else f"{words}, which is then {escape(names[other])}"


@shared()
def cached_prediction_without(key: Key, layer: str, channel: int, _run: Run) -> Prediction:
    network = channels.without_channel(_run.runner, layer, channel)
    return predict.predict(network, _run.prepared.tensor, key.form)


# -- its images ---------------------------------------------------------------------------


def silent(chosen: Channels, channel: int) -> bool:
    """Whether a channel has the same largest value on all test images, so that none excites it more than another."""
    return bool(chosen.responses.best.values[channel, 0] == chosen.responses.least.values[channel, 0])


class Shown(NamedTuple):
    """An image of a set: its bytes H×W×C, its size (height, width) where the network saw it, what the unit of its largest value
    saw of it there, and words for it.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    box: Box
    label: str
    value: float
    name: str


def test_images(weights: Weights, layer: Layer, channel: int, chosen: Channels) -> None:
    """The test images that excite a channel most, and least."""
    answers, images = chosen.responses, gallery()
    if silent(chosen, channel):
        value = number_text(float(answers.best.values[channel, 0]))
        st.markdown(f"**No test image excites it**: the largest value of its map is {value} on all 10,000.")
        return
    measured = cached_trace(weights.config, FASHION_MNIST.preprocessing.size).by_name[layer.name]
    st.markdown("**The nine test images that excite it most**")
    st.html(pictures(from_gallery(answers.best, channel, measured, images)))
    st.markdown("**The nine that excite it least**")
    st.html(pictures(from_gallery(answers.least, channel, measured, images)))
    st.caption(f"{MEASURE} {NO_ASCENT}")


def brought_images(result: Run, place: str, layer: Layer, channel: int) -> None:
    """The images of a set that a person brought that excite a channel most, and least."""
    if session.held().image_set is None:
        st.markdown(
            "What ships was measured on the weights that ship. For these, bring images: each goes through the network once, and "
            "the ones that excite each channel most and least are kept."
        )
    found = measured_set(result)
    if found is None:
        return
    answers = found.responses[place]
    value = float(result.maps(layer.name)[channel].max())
    st.markdown(f"**The {len(answers.best.images[channel])} of your images that excite it most**")
    st.html(pictures(from_set(answers.best, channel, layer, result, found)))
    st.markdown("**The ones that excite it least**")
    st.html(pictures(from_set(answers.least, channel, layer, result, found)))
    st.caption(
        f"Of {len(found.names)} images. The image beside this reaches {number_text(value)}, above "
        f"{channels.share_below(answers.quantiles[channel], value):.0%} of them. How it tells classes apart is shown for the "
        f"weights that ship. {MEASURE} {NO_ASCENT}"
    )


def from_set(found: Extremes, channel: int, layer: Layer, result: Run, images: Measured) -> list[Shown]:
    """The images of a set that are the extremes of a channel."""
    size, columns = result.trace.image_size, layer.out_shape[2]
    shown = []
    for number, unit, value in zip(found.images[channel], found.units[channel], found.values[channel], strict=True):
        box = layer.field.box(divmod(int(unit), columns)).clipped(size)
        shown.append(Shown(images.tiles[number], size, box, "", float(value), images.names[number]))
    return shown


def from_gallery(found: Extremes, channel: int, layer: Layer, images: Gallery) -> list[Shown]:
    """The test images that are the extremes of a channel of a layer, which is that of a network at the test images' size."""
    size, columns = FASHION_MNIST.preprocessing.size, layer.out_shape[2]
    shown = []
    for number, unit, value in zip(found.images[channel], found.units[channel], found.values[channel], strict=True):
        place = images.place(int(number))
        box = layer.field.box(divmod(int(unit), columns)).clipped(size)
        label = FASHION_MNIST.categories[int(images.labels[place])]
        shown.append(Shown(images.images[place][..., None], size, box, label, float(value), f"Test image {number}"))
    return shown


def pictures(shown: Sequence[Shown]) -> str:
    """Images in HTML: the part that the unit sees, where that is not all, above the whole with a frame around the part."""
    return f'<div class="excited">{"".join(map(figure, shown))}</div>'


def figure(one: Shown) -> str:
    """An image of `pictures`; its pixels may be fewer than those that the network saw."""
    height, width = one.size
    box, words = one.box, escape(f"{one.name}, {one.label}" if one.label else one.name)
    part = frame = ""
    if (box.height, box.width) != one.size:
        top, left, bottom, right = (
            box.top / height,
            box.left / width,
            (box.bottom + 1) / height,
            (box.right + 1) / width,
        )
        rows, columns = (
            slice(floor(first * count), ceil(last * count))
            for first, last, count in zip((top, left), (bottom, right), one.pixels.shape, strict=False)
        )
        place = f"rows {box.top} to {box.bottom}, columns {box.left} to {box.right}"
        part = f'<img class="part" src="{address(one.pixels[rows, columns])}" alt="{words}: {place}">'
        sides = f"left:{left:.2%};top:{top:.2%};width:{right - left:.2%};height:{bottom - top:.2%}"
        frame = f'<i style="{sides}"></i>'
    whole = f'<span><img src="{address(one.pixels)}" alt="{words}">{frame}</span>'
    caption = f"{escape(one.label or one.name)}<br>{number_text(one.value)}"
    return f'<figure title="{words}, {number_text(one.value)}">{part}{whole}<figcaption>{caption}</figcaption></figure>'


def address(pixels: np.ndarray) -> str:
    return rasters.data_url(Image.fromarray(rasters.as_rgb(pixels)))


# -- its classes --------------------------------------------------------------------------


def classes(channel: int, chosen: Channels) -> None:
    """The classes of the strongest images, and what each class loses without the channel."""
    names = FASHION_MNIST.categories
    left, right = st.columns(2)
    counts = chosen.by_class.strongest[channel]
    strongest = figures.strongest_figure(counts, chosen.by_class.means[channel], names, channel)
    plot(strongest, "strongest chart", left)
    plot(figures.silence_figure(*chosen.silence.of(channel), names, channel), "silence chart", right)
    st.caption(
        "Selectivity is (μ_max − μ_rest) / (μ_max + μ_rest) of the mean activation by class, 0 to 1 (Morcos 2018, "
        "https://arxiv.org/abs/1803.06959); the list above goes from the most selective channel to the least. "
        f"Left: the {STRONGEST} of 10,000 test images that excite the channel most. Right: {silence_words()}"
    )


def silence_words() -> str:
    """What the chart of a channel at zero shows, and what it does not, from within a sentence on."""
    return (
        f"the share of the first {len(labelled_images().labels)} test images, about 50 a class, that the whole network gets "
        "right, and the change where this channel of the block's output is set to zero; one image is 2 points. Other channels "
        "may do the same work, so that nothing changes need not mean that it is not used."
    )


def has_labelled_images(result: Run) -> bool:
    """Whether a network's classes can be counted on the labelled images that ship."""
    weights = result.weights
    return knows_test_images(weights) and not (result.headless or weights.key == "random" or too_large(weights))


def silence(weights: Weights, place: str, channel: int) -> None:
    """What each class of the test images loses where a channel is at zero."""
    key, names = ("silence", weights, place, channel, device()), weights.data.categories
    count, macs = len(labelled_images().labels), weights_trace(weights).macs
    if not may_compute("Set it to zero", key, at_once=count * macs <= SILENCE_MACS):
        return
    found: Silence = cached_result(
        key, f"Channel {channel} at zero …", lambda move: measured_silence(weights, place, channel, device(), move)
    )
    plot(figures.silence_figure(*found, names, channel), "silence chart")


SILENCE_MACS = 6e10
"""MACs of all test images together up to which a channel is set to zero without being asked for."""


def measured_silence(weights: Weights, place: str, channel: int, on_device: Device, move: Progress) -> Silence:
    """The network from a place on, on all test images in batches, with and without a channel of the place's output."""
    _, after = channels.split_after(loaded(weights, on_device), place)
    outputs, labels = cached_outputs(weights, on_device, place), labelled_images().labels
    return channels.silence(after, outputs, [channel], labels, weights.config.num_classes, move).of(0)


@shared(most=2**26)  # so that the next channel of the place takes only what comes after it
def cached_outputs(weights: Weights, on_device: Device, place: str) -> tuple[Tensor, ...]:
    """What a place puts out on the test images, in batches."""
    before, _ = channels.split_after(loaded(weights, on_device), place)
    batches = test_inputs(weights).split(batch_size(weights_trace(weights)))
    return tuple(forward_in_turn(before, on_device.tensor(batch)) for batch in batches)


# -- its kernel ---------------------------------------------------------------------------


def kernel(result: Run, place: str, channel: int) -> None:
    """The kernel that writes a channel, a slice for each channel that it reads, and the way to all others."""
    convolution = channels.writing_convolution(result.trace.parts[place])
    section(f"Its kernel in `{convolution.name}`")
    kernel_slices(result, convolution, channel, "channel kernel tiles")
    words = (
        "" if place == "stem" or result.trace.config.shortcut == "none" else " The shortcut is added to what it writes."
    )
    st.caption(f"The last convolution of the part; its norm scales and shifts the sum.{words}")
    st.button(
        "All kernels, in Weights",
        key="to kernels",
        icon=":material/grid_view:",
        type="tertiary",
        on_click=session.choose,
        kwargs={"tab": "Weights", "at": convolution.name, "channel": channel},
    )
