"""The inference page's parts: what the network says, what its layers do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np
import streamlit as st
from PIL import Image
from streamlit.delta_generator import DeltaGenerator

from resnet import ResNet
from resnet.weights import Numbered, Preprocessing, Weights

from ...analysis.layers import Layer, shape_text
from ...analysis.parts import drawn_parts, off_channel, switched_off
from ...analysis.trace import Trace
from ...drawing import rasters
from ...drawing.palette import ACCENT, STEM
from ...drawing.rasters import Scale
from ...figures import inference
from ...inference import predict, preprocess
from ...inference.ablation import without_blocks
from ...inference.device import Device
from ...inference.predict import Prediction
from ...inference.preprocess import Prepared
from ...inference.samples import Sample
from ...link import MAP_OPTIONS
from ...sharing.tidying import LARGE_BYTES, tidy
from .. import session
from ..cached import Key, cached_trace, form, model, shared
from ..components import ContactSheet, Outline, Rectangle, Sheet, contact_sheet, downloads, pixels, plot, tiles
from ..network import selected_layer
from ..weights import loaded
from .images import MAX_SHOWN_SIDE, ChosenImage, credit
from .unit import chosen_unit, unit_text


def choose_inversion(weights: Weights, card: DeltaGenerator) -> bool | None:
    """Whether to invert brightness: asked, in `card`, only where the weights expect bright objects on black."""
    if not weights.data.preprocessing.bright_on_dark:
        return None
    choices = {"by its border": None, "yes": True, "no": False}
    asked = card.segmented_control(
        "Invert the image",
        list(choices),
        default="by its border",
        required=True,
        key="invert",
        persist_state="session",
        help="These weights were trained on bright clothes on black. An image with a bright border is inverted, unless you say otherwise.",
    )
    return choices[asked]


# -- results ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Run:
    """One image through one network; `images` are all that were chosen, this one first, and `layer` the one whose
    output is looked at.

    `network` is in fp32, for gradients; the prediction and the maps are those of its `runner`, the same network in
    the form that the session chose. Both are without the blocks and channels that are `off`.

    A page keeps its run for as long as it is open, so a run holds nothing large: pixels, networks and results are looked
    up by its `key` where they are needed, and made again where they are no longer kept.
    """

    images: tuple[ChosenImage, ...]
    invert: bool | None
    key: Key
    trace: Trace
    layer: Layer

    @property
    def image(self) -> ChosenImage:
        return self.images[0]

    @property
    def weights(self) -> Weights:
        return self.key.weights

    @property
    def headless(self) -> bool:
        """Whether the weights have no classifier, so that what is said of classes would be made of zeros."""
        return self.weights.headless

    @property
    def off(self) -> tuple[str, ...]:
        return self.key.off

    @property
    def device(self) -> Device:
        """The device of `network`."""
        return self.key.form.plain

    @property
    def prepared(self) -> Prepared:
        return prepared(self.image, self.weights, self.key.inverted)

    @property
    def network(self) -> ResNet:
        return network_of(self.key.plain)

    @property
    def runner(self) -> ResNet:
        return network_of(self.key)

    @property
    def prediction(self) -> Prediction:
        return cached_prediction(self.key, self)

    @property
    def whole(self) -> Prediction:
        """What the network says with all of its blocks."""
        return replace(self, key=self.key.whole).prediction

    @property
    def size(self) -> str:
        """Height × width of what the network sees, as a page says it."""
        return shape_text(self.weights.data.preprocessing.size)

    def on(self, image: ChosenImage) -> Run:
        """The same on another image."""
        return run_with((image,), self.weights, self.invert, self.off, self.key.form, self.layer.name)

    def channels(self, layer: str) -> np.ndarray:
        """The numbers of a layer's channels, the strongest first."""
        return cached_channel_order(self.key, layer, self)

    def looked_at(self, at: str) -> Run:
        """The same with the layer that a view's `at` selects."""
        return replace(self, layer=selected_layer(self.trace, at, output=True))

    def maps(self, layer: str) -> np.ndarray:
        """A layer's output, C×H×W."""
        found = self.prediction.outputs.get(layer)
        return cached_activation(self.key, layer, self) if found is None else found


@shared()
def cached_border_brightness(image: str, _image: ChosenImage) -> float:
    """Of an image's border, 0 to 255."""
    return _image.apply(preprocess.border_brightness)


@shared(most=2**24)  # so that many large images, one after the other, push out nothing else
def cached_prepared(image: str, preprocessing: Preprocessing, inverted: bool, _image: ChosenImage) -> Prepared:
    return _image.apply(lambda image: preprocess.prepare(image, preprocessing, inverted))


def is_inverted(image: ChosenImage, weights: Weights, invert: bool | None) -> bool:
    """Whether an image is inverted for these weights: as a person says, else by its border where they expect it dark."""
    if invert is not None:
        return invert
    return weights.data.preprocessing.bright_on_dark and cached_border_brightness(image.digest, image) > 127


def prepared(image: ChosenImage, weights: Weights, invert: bool | None) -> Prepared:
    """An image as the weights take it."""
    inverted = is_inverted(image, weights, invert)
    return cached_prepared(image.digest, weights.data.preprocessing, inverted, image)


@shared()
def cached_prediction(key: Key, _run: Run) -> Prediction:
    watched = [part.layers[-1].name for part in drawn_parts(_run.trace)]
    if _run.trace.inference_memory.bytes > LARGE_BYTES:
        tidy()  # a moment later, when the pass is over
    return predict.predict(_run.runner, _run.prepared.tensor, key.form, watched)


@shared()
def cached_activation(key: Key, layer: str, _run: Run) -> np.ndarray:
    return predict.activation(_run.runner, _run.prepared.tensor, layer, key.form)


@shared()
def cached_channel_order(key: Key, layer: str, _run: Run) -> np.ndarray:
    return predict.by_strength(_run.maps(layer))


@shared()
def cached_channel_sheet(key: Key, layer: str, scales: tuple[tuple[int, Scale], ...], _run: Run) -> ContactSheet:
    return contact_sheet(rasters.channel_tiles(_run.maps(layer), dict(scales)))


@shared(stays=True)
def cached_ablated_network(weights: Weights, form: Device, off: tuple[str, ...]) -> ResNet:
    return without_blocks(model(weights, form), off)


def weights_trace(weights: Weights) -> Trace:
    """The network at the image size that the weights take."""
    return cached_trace(weights.config, weights.data.preprocessing.size)


def run(images: Sequence[ChosenImage], weights: Weights, invert: bool | None) -> Run:
    """Prepare the first image as the weights want it, and predict, with the layer selected and the blocks off that the view names."""
    view = session.view()
    off = switched_off(view.off, weights.config)
    result = run_with(images, weights, invert, off, form(), view.at)
    session.hold(shown=view)
    return result


def run_with(
    images: Sequence[ChosenImage],
    weights: Weights,
    invert: bool | None,
    off: tuple[str, ...],
    form: Device,
    at: str = "",
) -> Run:
    """`run` with its choices named; what the network says is known before it returns."""
    image, trace = images[0], weights_trace(weights)
    key = Key(image.digest, is_inverted(image, weights, invert), weights, off, form)
    result = Run(tuple(images), invert, key, trace, selected_layer(trace, at, output=True))
    _ = result.whole, result.prediction
    return result


def network_of(key: Key) -> ResNet:
    """The network of a run, without the blocks and channels that are off."""
    network = loaded(key.weights, key.form)
    return cached_ablated_network(key.weights, key.form, key.off) if key.off else network


NO_CLASSIFIER = "This checkpoint has no classifier that reads the last stage, so it names no classes."


def took(result: Run) -> str:
    """On what device the pass was, and how fast: once, unlike the medians of Speed."""
    prediction = result.prediction
    return (
        f"First pass: {prediction.seconds * 1000:.0f} ms on {prediction.device.name} in {prediction.device.form}, "
        f"{result.trace.macs / 1e6:,.0f} M MACs at {result.size} pixels"
    )


def verdict(result: Run) -> None:
    """The most probable class as a chip, which opens on `details`; nothing of a network that has no verdict (`no_verdict`)."""
    if not result.prediction.finite or result.weights.key == "random":
        return
    if result.headless:
        words = "No classifier"
    else:
        ((best, probability),) = result.prediction.top(1)
        words = f"**{session.escape_markdown(result.weights.data.categories[best])}** {probability:.1%}"
        if result.off:
            words += f", {len(result.off)} off"
    with st.popover(words, key="verdict chip"), st.container(key="verdict"):
        details(result)


def no_verdict(result: Run) -> None:
    """Why there is none, in a line: of an untrained network, or where numbers overflowed."""
    if not result.prediction.finite:
        st.error("The activations overflowed, so there is no prediction; normalisation keeps deep networks finite.")
    elif result.weights.key == "random":
        st.caption(f"Untrained, so no verdict: its scores mean nothing. {took(result)}")


def details(result: Run) -> None:
    """The five most probable classes, on what device and how fast, and what the weights know.

    With blocks off, beside the probabilities of the whole network, and what changed. Of a network without its classifier only
    the device and the time are left.
    """
    data = result.weights.data
    if result.headless:
        st.markdown(f"**No classifier**, so no scores\n\n{NO_CLASSIFIER} What its layers make of the image is below.")
        st.caption(took(result))
        return
    answer(result)
    if not result.off:
        st.caption(took(result))
    if result.weights.key == "bundled":
        known = ", ".join(data.categories)
        st.caption(
            f"These weights know ten things: {known}. An image of anything else gets one of these names too, "
            "often with high confidence."
        )
    elif isinstance(data.categories, Numbered) and data.name not in ("unknown", "nothing"):
        st.caption(f"This network has {len(data.categories):,} classes, which have numbers here and no names.")


def answer(result: Run) -> None:
    """The five most probable classes as bars, and with blocks off what changed."""
    prediction, data = result.prediction, result.weights.data
    top = prediction.top(5)
    if result.off and (best := result.whole.top(1)[0][0]) not in dict(top):
        top = [*top[:-1], (best, float(prediction.probabilities[best]))]
    names = [data.categories[index] for index, _ in top]
    st.markdown(
        f"**{session.escape_markdown(names[0])}**, {top[0][1]:.1%}", help="The class of the highest score, by softmax."
    )
    if result.off:
        st.markdown(change_sentence(result))
    whole = [float(result.whole.probabilities[index]) for index, _ in top] if result.off else None
    labels = f"with {kinds_off(result.off)} off", "whole network"
    st.html(bars(names, [probability for _, probability in top], whole, labels))


def bars(
    names: Sequence[str],
    probabilities: Sequence[float],
    whole: Sequence[float] | None = None,
    labels: tuple[str, str] = ("with blocks off", "whole network"),
) -> str:
    """Probabilities as bars in HTML; with blocks off, over those of the `whole` network, or of two others by their `labels`.

    A Plotly chart would take the browser longer than the prediction takes the server.
    """
    series = {labels[0]: (probabilities, ACCENT)}
    if whole is not None:
        series[labels[1]] = (whole, STEM)

    def bar(share: float, shade: str) -> str:
        return f'<div title="{share:.2%}"><i style="width:{share:.2%};background:{shade}"></i>{share:.1%}</div>'

    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{''.join(bar(values[row], shade) for values, shade in series.values())}</dd>"
        for row, name in enumerate(names)
    )
    legend = "".join(f'<span><i style="background:{shade}"></i>{words}</span>' for words, (_, shade) in series.items())
    return f'<dl class="bars">{rows}</dl>' + (f'<div class="legend">{legend}</div>' if whole is not None else "")


def kinds_off(off: tuple[str, ...]) -> str:
    """What kinds are off: blocks, channels, or blocks and channels."""
    return " and ".join(sorted({"channels" if ":" in name else "blocks" for name in off}))


def off_words(off: tuple[str, ...]) -> str:
    """What is off, with its verb: a block or a channel by its name, several by their number."""
    if len(off) == 1:
        channel = off_channel(off[0])
        return f"Channel {channel[1]} of `{channel[0]}` is" if channel else f"`{off[0]}` is"
    channels = sum(":" in name for name in off)
    counts = {"block": len(off) - channels, "channel": channels}
    named = [f"{count} {noun}{'s' * (count > 1)}" for noun, count in counts.items() if count]
    return f"{' and '.join(named)} are"


def change_sentence(result: Run) -> str:
    """What the prediction does when blocks or channels are switched off, in a sentence."""
    names, whole = result.weights.data.categories, result.whole
    count = off_words(result.off)
    if not whole.finite:
        return f"{count} off. The activations of the whole network overflow."
    best, before = whole.top(1)[0]
    after = float(result.prediction.probabilities[best])
    same = result.prediction.top(1)[0][0] == best
    return (
        f"{count} off. The whole network says **{session.escape_markdown(names[best])}**{' too' if same else ''}, {before:.1%}: "
        f"that class went {'down' if after < before else 'up'} by {abs(after - before) * 100:.1f} points to {after:.1%}."
    )


def seen(
    result: Run,
    picture: Image.Image | None = None,
    words: str = "",
    legend: str = "",
    draw: Callable[[], None] | None = None,
) -> None:
    """What the network really sees, with what lies on it as a `picture` of the same pixels, which `words` name and a `legend`
    in HTML explains; and the image that it was made of. Where there is a `draw`, it shows the picture.
    """
    sees = f"What the network sees: {result.size}" + (", inverted" if result.prepared.inverted else "")
    caption = ". ".join(filter(None, (words, sees)))
    if draw:
        draw()
        st.caption(caption)
    else:
        shown = picture or rasters.displayed_pixels(result.prepared.input_image, MAX_SHOWN_SIDE)
        st.image(shown, caption=caption, width="stretch", alt=words or sees)
    if legend:
        st.html(legend)
    origin(result)


def origin(result: Run) -> None:
    """The image that what the network sees was made of, small, with whose it is."""
    image = result.image
    given, said = st.columns([2, 3], vertical_alignment="center")
    given.image(image.preview, width="stretch", alt=image.name)
    said.caption(credit(image.source) if isinstance(image.source, Sample) else session.escape_markdown(image.name))


def beside(panel: Callable[[Run], None]) -> Callable[[Run], None]:
    """A panel on the left, and on the right the picture, which stays in view."""

    def draw(result: Run) -> None:
        left, right = picture_columns()
        with left:
            session.show_or_say(panel, result)
        with right:
            seen(result)

    return draw


def picture_columns() -> tuple[DeltaGenerator, DeltaGenerator]:
    """The place of a panel, and beside it that of the picture."""
    with st.container(key="beside"):
        left, right = st.columns([13, 7])
    return left, right.container(border=True, key="seen")


# -- activations --------------------------------------------------------------------------

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


def activations(result: Run) -> None:
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
    image = rasters.displayed_pixels(result.prepared.input_image, MAX_SHOWN_SIDE)
    cells = rasters.units_on_image(scale.colours(maps[channel]), field, (height, width), (2 * height, 2 * width))

    def draw() -> None:
        pixels(
            (0, 0, width, height),
            [
                Sheet("image", Image.fromarray(image), (0, 0, width, height)),
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
