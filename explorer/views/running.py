"""The inference page's parts: weights, what the network says, what its layers do."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
import streamlit as st
from PIL import Image
from streamlit.delta_generator import DeltaGenerator

from resnet import ResNet, ResNetConfig, title
from resnet.weights import BUNDLED, Weights, WeightsError, available, download, is_cached

from .. import charts, diagram, inference, state
from ..inference import Device, Prediction, Prepared
from ..palette import ACCENT, STEM
from ..residual import switchable, without
from ..trace import Trace
from . import checkpoint
from .cached import HASHES, device, form, model, traced
from .network import chosen_layer
from .picture import contacts, downloads, tiles
from .pictures import Chosen

# -- weights ------------------------------------------------------------------------------


def choose_weights(config: ResNetConfig, image_size: tuple[int, int]) -> Weights:
    """Which weights to run; nothing is downloaded before a person chooses it."""
    *published, untrained = available(config, image_size)
    offered = (*published, *checkpoint.uploaded_weights(config, image_size), untrained)
    choices = {weights.key: weights for weights in offered}
    asked = state.view().weights
    if asked == "upload" and asked not in choices:
        if checkpoint.held() is None:
            st.warning("A checkpoint stays with the person who uploaded it, so this link does not bring its weights.")
    elif asked and asked not in choices:
        fitting = ", ".join(choices)
        words = f"weights = {asked} do not fit {title(config)}, which can have {fitting}; others are used instead."
        st.warning(state.escape_markdown(words))
    at_hand = [weights for weights in choices.values() if not weights.url or is_cached(weights.url)]
    current = choices.get(asked) or at_hand[0]
    state.set_widget("weights", current.key)
    st.selectbox(
        "Weights", list(choices), key="weights", format_func=lambda key: weights_label(choices[key]),
        on_change=lambda: state.choose(weights=st.session_state.weights),
    )  # fmt: skip
    checkpoint.upload_card(current)
    return current


def weights_label(weights: Weights) -> str:
    parts = [weights.title]
    if weights.accuracy is not None:
        parts.append(f"{weights.accuracy:.1%} right")
    if weights.url:
        parts.append(f"{weights.bytes / 2**20:.0f} MiB")
    return " · ".join(parts)


def offer_trained() -> None:
    """The way to a network that knows something without a download."""

    def take() -> None:
        config = BUNDLED["resnet20"]
        view = state.view()
        state.show(state.View(config, state.natural_size(config), pinned=view.pinned, picture=view.picture))

    st.button("Use the shipped ResNet-20, trained on clothing", on_click=take, icon=":material/checkroom:")


def choose_inversion(weights: Weights, card: DeltaGenerator) -> bool | None:
    """Whether to invert brightness: asked, in `card`, only where the weights expect bright objects on black."""
    if not weights.data.preprocessing.bright_on_dark:
        return None
    choices = {"by its border": None, "yes": True, "no": False}
    asked = card.segmented_control(
        "Invert the picture", list(choices), default="by its border", required=True, key="invert", persist_state="session",
        help="These weights were trained on bright clothes on black. A picture with a bright border is inverted, unless you say otherwise.",
    )  # fmt: skip
    return choices[asked]


def loaded(weights: Weights) -> ResNet:
    """The network on its device; stops the page with a sentence where the weights cannot be had."""
    try:
        if weights.url and not is_cached(weights.url):
            fetch(weights)
        return model(weights, device(), checkpoint.uploaded_tensors(weights))
    except WeightsError as error:
        st.error(state.escape_markdown(str(error)), icon=":material/cloud_off:")
        st.stop()


def fetch(weights: Weights) -> None:
    """Download weights with a progress bar."""
    words = f"Downloading {weights.title}"
    bar = st.progress(0.0, f"{words} …")

    def progress(done: int, total: int) -> None:
        share = min(done / total, 1.0) if total else 0.0
        bar.progress(share, f"{words}: {done / 2**20:.0f} of {(total or weights.bytes) / 2**20:.0f} MiB")

    download(weights.url, progress)
    bar.empty()


# -- results ------------------------------------------------------------------------------


@st.cache_resource(max_entries=64, show_spinner=False, hash_funcs=HASHES)
def predicted(
    digest: str, inverted: bool, weights: Weights, off: tuple[str, ...], how: Device,
    _network: ResNet, _prepared: Prepared, _trace: Trace,
) -> Prediction:  # fmt: skip
    watched = [part.layers[-1].name for part in diagram.parts(_trace)]
    return inference.predict(_network, _prepared.tensor, how, watched)


@st.cache_resource(max_entries=32, show_spinner=False, hash_funcs=HASHES)
def activated(
    digest: str, inverted: bool, weights: Weights, off: tuple[str, ...], layer: str, how: Device,
    _network: ResNet, _prepared: Prepared,
) -> np.ndarray:  # fmt: skip
    return inference.activation(_network, _prepared.tensor, layer, how)


@st.cache_resource(max_entries=4, show_spinner=False, hash_funcs=HASHES)
def lesioned(weights: Weights, how: Device, off: tuple[str, ...], _network: ResNet) -> ResNet:
    return without(_network, off)


class Run(NamedTuple):
    """One picture through one network; `pictures` are all that were chosen, this one first.

    `network` is in fp32, for gradients; the prediction and the maps are those of its `runner`, the same network in
    the form that the session chose. Both are without the blocks that are `off`; `whole` is what the network says
    with all of them.
    """

    pictures: tuple[Chosen, ...]
    invert: bool | None
    prepared: Prepared
    weights: Weights
    network: ResNet
    runner: ResNet
    trace: Trace
    prediction: Prediction
    off: tuple[str, ...]
    whole: Prediction

    @property
    def picture(self) -> Chosen:
        return self.pictures[0]

    @property
    def key(self) -> tuple[str, bool, Weights, tuple[str, ...]]:
        """What the run's results depend on."""
        return self.picture.digest, self.prepared.inverted, self.weights, self.off

    def on(self, picture: Chosen) -> Run:
        """The same on another picture."""
        return run([picture], self.weights, self.invert)

    def maps(self, layer: str) -> np.ndarray:
        """A layer's output, C×H×W."""
        return activated(*self.key, layer, self.prediction.device, self.runner, self.prepared)


def trace_of(weights: Weights) -> Trace:
    """The network at the image size that the weights take."""
    return traced(weights.config, (weights.data.preprocessing.crop,) * 2)


def run(pictures: Sequence[Chosen], weights: Weights, invert: bool | None) -> Run:
    """Prepare the first picture as the weights want it, and predict, with the blocks off that the view names."""
    picture = pictures[0]
    network = loaded(weights)
    trace = trace_of(weights)
    prepared = inference.prepare(picture.image, weights.data.preprocessing, invert)
    runner = model(weights, form(), checkpoint.uploaded_tensors(weights))
    off = tuple(name for name in state.view().off if name in switchable(weights.config))
    key = picture.digest, prepared.inverted, weights
    prediction = whole = predicted(*key, (), form(), runner, prepared, trace)
    if off:
        network, runner = lesioned(weights, device(), off, network), lesioned(weights, form(), off, runner)
        prediction = predicted(*key, off, form(), runner, prepared, trace)
    return Run(tuple(pictures), invert, prepared, weights, network, runner, trace, prediction, off, whole)


def thumbnails(result: Run) -> dict[str, str]:
    """The strongest map of each part of the network, as picture addresses."""
    found = result.prediction.strongest
    return {
        part.identifier: charts.data_url(Image.fromarray(charts.coloured(found[part.layers[-1].name])))
        for part in diagram.parts(result.trace)
        if part.layers[-1].name in found and len(part.shape) == 3 and part.shape[1] > 1
    }


def verdict(result: Run) -> None:
    """The five most probable classes, on what device and how fast, and what the weights know.

    With blocks off, beside the probabilities of the whole network, and what changed.
    """
    prediction, data = result.prediction, result.weights.data
    if not prediction.finite:
        st.error("The activations overflowed, so there is no prediction; normalisation keeps deep networks finite.")
        return
    top = prediction.top(5)
    if result.off and (best := result.whole.top(1)[0][0]) not in dict(top):
        top = [*top[:-1], (best, float(prediction.probabilities[best]))]
    names = [data.categories[index] for index, _ in top]
    if result.weights.key == "random":
        st.markdown("**Untrained: the names mean nothing yet**")
    else:
        st.markdown(f"**{names[0]}**, {top[0][1]:.1%}", help="The class of the highest score, by softmax.")
    if result.off:
        st.markdown(change(result))
    whole = [float(result.whole.probabilities[index]) for index, _ in top] if result.off else None
    st.html(bars(names, [probability for _, probability in top], whole))
    if not result.off:
        st.caption(
            f"{prediction.seconds * 1000:.0f} ms on {prediction.device.name} in {prediction.device.form}, {result.trace.macs / 1e6:,.0f} M MACs"
        )
    if result.weights.key == "bundled":
        known = ", ".join(data.categories)
        st.caption(
            f"These weights know ten things: {known}. A picture of anything else gets one of these names too, "
            "often with high confidence."
        )


def bars(names: Sequence[str], probabilities: Sequence[float], whole: Sequence[float] | None = None) -> str:
    """Probabilities as bars in HTML; with blocks off, over those of the `whole` network.

    A Plotly chart would take the browser longer than the prediction takes the server.
    """
    series = {"with blocks off": (probabilities, ACCENT)}
    if whole is not None:
        series["whole network"] = (whole, STEM)

    def bar(share: float, shade: str) -> str:
        return f'<div title="{share:.2%}"><i style="width:{share:.2%};background:{shade}"></i>{share:.1%}</div>'

    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{''.join(bar(values[row], shade) for values, shade in series.values())}</dd>"
        for row, name in enumerate(names)
    )
    legend = "".join(f'<span><i style="background:{shade}"></i>{words}</span>' for words, (_, shade) in series.items())
    return f'<dl class="bars">{rows}</dl>' + (f'<div class="legend">{legend}</div>' if whole is not None else "")


def change(result: Run) -> str:
    """What the prediction does when blocks are switched off, in a sentence."""
    names, whole = result.weights.data.categories, result.whole
    count = f"{len(result.off)} blocks are" if len(result.off) > 1 else f"`{result.off[0]}` is"
    if not whole.finite:
        return f"{count} off. The activations of the whole network overflow."
    best, before = whole.top(1)[0]
    after = float(result.prediction.probabilities[best])
    same = result.prediction.top(1)[0][0] == best
    return (
        f"{count} off. The whole network says **{names[best]}**{' too' if same else ''}, {before:.1%}: "
        f"that class went {'down' if after < before else 'up'} by {abs(after - before) * 100:.1f} points to {after:.1%}."
    )


def seen(result: Run) -> None:
    """What the network really saw, beside the picture."""
    size = result.weights.data.preprocessing.crop
    left, right = st.columns(2)
    left.image(result.picture.image, caption=state.escape_markdown(result.picture.name), width="stretch")
    pixels = (result.prepared.pixels * 255).astype(np.uint8)
    pixels = pixels[:, :, 0] if pixels.shape[2] != 3 else pixels
    scale = max(1, 224 // size)
    words = f"What the network sees: {size}×{size}" + (", inverted" if result.prepared.inverted else "")
    right.image(pixels.repeat(scale, 0).repeat(scale, 1), caption=words, width="stretch")


# -- activations --------------------------------------------------------------------------

SHOWN = (32, 128, 512)


def activations(result: Run) -> None:
    """The selected layer's channels, strongest first; one of them large over the picture; statistics."""
    layer = chosen_layer(result.trace)
    maps = result.maps(layer.name)
    grid, one = st.columns([8, 5])
    with grid, st.container(border=True, key="activations"):
        st.markdown(f"**What `{layer.name}` puts out**")
        if maps.shape[1] * maps.shape[2] == 1:
            st.plotly_chart(charts.channel_figure(maps[:, 0, 0], layer.name), key="channel chart")
            channel = None
        else:
            channel = channel_grid(maps, layer.name)
    with one, st.container(border=True, key="one channel"):
        if channel is not None:
            st.markdown(f"**Channel {channel} over the picture**")
            blend = st.slider(
                "Blend",
                0.0,
                1.0,
                0.6,
                key="blend",
                persist_state="session",
                help="0 shows the picture alone, 1 the map alone.",
            )
            st.image(charts.overlay(maps[channel], result.prepared.pixels, blend), width="stretch")
        else:
            st.markdown("**In numbers**")
        numbers(maps)


def channel_grid(maps: np.ndarray, name: str) -> int:
    """The grid of channel maps; returns the selected channel."""
    order = inference.by_strength(maps)
    counts = [count for count in SHOWN if count < len(order)] + [min(len(order), SHOWN[-1])]
    most = counts[0]
    if len(counts) > 1:
        most = st.segmented_control(
            "Channels shown",
            sorted(set(counts)),
            default=counts[0],
            required=True,
            key=f"shown of {len(order)}",
            persist_state="session",
        )
    shown = [int(channel) for channel in order[:most]]
    selected = st.session_state.get("channel", shown[0])
    selected = selected if selected in shown else shown[0]

    def select(identifier: str) -> None:
        st.session_state.channel = int(identifier)

    with st.container(height=430 if len(shown) > SHOWN[0] else "content", border=False):
        labels = {str(channel): str(channel) for channel in shown}
        pictures = charts.channel_tiles(maps, shown)
        tiles(contacts(pictures), labels, str(selected), "channel tiles", select)
    st.caption(
        f"{len(shown)} of {len(order)} channels, the largest mean magnitude first; each in its own range, dark to bright."
    )
    downloads(name, lambda: charts.sheet(pictures, 8), lambda: {"channels": order, "activation": maps})
    return selected


def numbers(maps: np.ndarray) -> None:
    found = inference.statistics(maps)
    shape = "×".join(map(str, maps.shape if maps.shape[1] * maps.shape[2] > 1 else maps.shape[:1]))
    rows = {
        "Shape": shape, "Mean": f"{found.mean:.3g}", "Deviation": f"{found.std:.3g}",
        "Range": f"{found.low:.3g} to {found.high:.3g}", "Exact zeros": f"{found.zeros:.1%}",
    }  # fmt: skip
    st.html('<dl class="facts">' + "".join(f"<dt>{k}</dt><dd>{v}</dd>" for k, v in rows.items()) + "</dl>")
