"""One image through one network: what is chosen, what comes of it, and what is kept of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from streamlit.delta_generator import DeltaGenerator

from resnet import ResNet
from resnet.weights import Preprocessing, Weights

from ...analysis.layers import Layer, shape_text
from ...analysis.parts import drawn_parts, switched_off
from ...analysis.trace import Trace
from ...drawing.rasters import data_url, displayed_pixels
from ...inference import predict, preprocess
from ...inference.ablation import without_blocks
from ...inference.device import Device
from ...inference.predict import Prediction
from ...inference.preprocess import Prepared
from ...sharing.tidying import LARGE_BYTES, tidy
from .. import session
from ..cached import Key, cached_trace, form, model, shared
from ..network import selected_layer
from ..weights import loaded
from .images import MAX_SHOWN_SIDE, ChosenImage


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


@dataclass(frozen=True, eq=False)
class Run:
    """One image through one network; `images` are all that were chosen, this one first.

    `network` is in fp32, for gradients; the prediction and the maps are those of its `runner`, the same network in
    the form that the session chose. Both are without the blocks and channels that are `off`.

    A page keeps its run for as long as it is open, so a run holds nothing large: pixels, networks and results are looked
    up by its `key` where they are needed, and made again where they are no longer kept.
    """

    images: tuple[ChosenImage, ...]
    invert: bool | None
    key: Key
    trace: Trace

    @property
    def layer(self) -> Layer:
        """The one whose output the view looks at."""
        return selected_layer(self.trace, session.view().at, output=True)

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
    def seen(self) -> str:
        """What the network sees, as the address of a picture that a page has room for."""
        return cached_seen(self.key.image, self.weights.data.preprocessing, self.key.inverted, self)

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
        return run_with((image,), self.weights, self.invert, self.off, self.key.form)

    def channels(self, layer: str) -> np.ndarray:
        """The numbers of a layer's channels, the strongest first."""
        return cached_channel_order(self.key, layer, self)

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


@shared(most=2**24)
def cached_seen(image: str, preprocessing: Preprocessing, inverted: bool, _run: Run) -> str:
    return data_url(Image.fromarray(displayed_pixels(_run.prepared.input_image, MAX_SHOWN_SIDE)))


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


@shared(stays=True)
def cached_ablated_network(weights: Weights, form: Device, off: tuple[str, ...]) -> ResNet:
    return without_blocks(model(weights, form), off)


def weights_trace(weights: Weights) -> Trace:
    """The network at the image size that the weights take."""
    return cached_trace(weights.config, weights.data.preprocessing.size)


def run(images: Sequence[ChosenImage], weights: Weights, invert: bool | None) -> Run:
    """Prepare the first image as the weights want it, and predict, with the blocks off that the view names."""
    view = session.view()
    off = switched_off(view.off, weights.config)
    result = run_with(images, weights, invert, off, form())
    session.hold(shown=view)
    return result


def run_with(
    images: Sequence[ChosenImage], weights: Weights, invert: bool | None, off: tuple[str, ...], form: Device
) -> Run:
    """`run` with its choices named; what the network says is known before it returns."""
    image, trace = images[0], weights_trace(weights)
    key = Key(image.digest, is_inverted(image, weights, invert), weights, off, form)
    result = Run(tuple(images), invert, key, trace)
    _ = result.whole, result.prediction
    return result


def network_of(key: Key) -> ResNet:
    """The network of a run, without the blocks and channels that are off."""
    network = loaded(key.weights, key.form)
    return cached_ablated_network(key.weights, key.form, key.off) if key.off else network
