"""Several images at once: what the network says of each, and one channel across all of them.

One image is in memory at a time: what is kept of each is its class probabilities, a tile, and one channel as a tile.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import numpy as np
import streamlit as st

from ...drawing import rasters
from ...inference import predict
from ...inference.samples import samples
from .. import session
from ..cached import Key, shared, stoppable
from ..components import contact_sheet, downloads, tiles
from ..headline import section
from .images import ChosenImage, from_sample
from .maps import chosen_channel, scale_legend
from .running import Run
from .verdict import NO_CLASSIFIER

TILE_WIDTH = 112
"""How wide a tile is, in pixels."""

MAX_KEPT_BYTES = 2**22
"""Bytes up to which all channels of a layer are kept, so that another one is there at once."""


def panel(result: Run) -> None:
    """The uploads where there are several, else one sample of each kind."""
    images = sorted(result.images, key=lambda image: image.digest) if len(result.images) > 1 else sample_of_each_label()
    layer = result.layer.name
    channel = chosen_channel(result.channels(layer))
    runs, maps = all_runs(result, images, layer, channel)
    predictions(result, runs)
    if result.headless and layer == "fc":
        st.info(f"{NO_CLASSIFIER} `fc` is zeros here: another layer in the drawing can be looked at across the images.")
    else:
        one_channel(result, runs, maps, layer, channel)
    if len(result.images) == 1:
        st.caption("One sample of each kind. Upload several images to see them here instead.")


def sample_of_each_label() -> list[ChosenImage]:
    """The first sample of each label."""
    first = {sample.label: sample for sample in reversed(samples())}
    return [from_sample(sample) for sample in reversed(first.values())]


def all_runs(result: Run, images: list[ChosenImage], layer: str, channel: int) -> tuple[list[Run], list[Channel]]:
    """The same weights on each image, and a channel of a layer, with a bar while they run.

    Raises:
        StoppedError: where a person stopped it.
    """
    runs, maps, words = [], [], "Running the images …"
    with stoppable(("several", result.key, *(image.digest for image in images)), words) as bar:
        for number, image in enumerate(images, start=1):
            run = result.on(image)
            cached_tile(run.key, run)
            runs.append(run)
            maps.append(cached_channel(run.key, layer, channel, run))
            bar.progress(number / len(images), words)
    return runs, maps


class Channel(NamedTuple):
    """One channel of a layer on one image, as wide as a tile, and the whole map's figures."""

    values: np.ndarray
    mean: float
    low: float
    high: float


def channel_map(run: Run, layer: str, channel: int) -> np.ndarray:
    """One channel of a layer, H×W."""
    if 4 * prod(run.trace.by_name[layer].out_shape) <= MAX_KEPT_BYTES:
        return run.maps(layer)[channel]
    return predict.activation(run.runner, run.prepared.tensor, layer, run.key.form)[channel].copy()


@shared()
def cached_channel(key: Key, layer: str, channel: int, _run: Run) -> Channel:
    found = channel_map(_run, layer, channel)
    finite = np.nan_to_num(found)
    small = np.asarray(rasters.enlarged(found, TILE_WIDTH))
    return Channel(small, float(found.mean()), float(finite.min()), float(finite.max()))


@shared()
def cached_tile(key: Key, _run: Run) -> np.ndarray:
    """What the network sees, H×W×3 bytes."""
    return np.asarray(rasters.enlarged(rasters.as_rgb(_run.prepared.input_image), TILE_WIDTH))


def predictions(result: Run, runs: list[Run]) -> None:
    def choose(digest: str) -> None:
        if any(image.digest == digest for image in result.images):
            session.hold(selected_upload=digest)
        else:
            session.choose(image=digest)

    with st.container(border=True, key="grid"):
        what = "What the network sees of" if result.headless else "The prediction for"
        section(f"{what} each image, at {result.size} pixels")
        labels = {run.image.digest: said(run) for run in runs}
        images = [cached_tile(run.key, run) for run in runs]
        tiles(contact_sheet(images), labels, result.image.digest, "several", choose)
        height, width = result.weights.data.preprocessing.size
        downloads(
            "predictions",
            lambda: rasters.sheet(images, 4),
            lambda: {
                "names": np.array([run.image.name for run in runs]),
                **({} if result.headless else classes(result, runs)),
                "pixels": stacked(lambda run: run.prepared.pixels, runs),
            },
            4 * len(runs) * height * width * result.weights.config.in_channels,
        )
        if result.headless:
            st.caption(NO_CLASSIFIER)


def said(run: Run) -> str:
    """The best class of an image; the image's own name where the network has no classifier."""
    if not run.prediction.finite:
        return "overflowed"
    if run.headless:
        return run.image.name
    ((best, probability),) = run.prediction.top(1)
    return f"{run.weights.data.categories[best]} {probability:.0%}"


def classes(result: Run, runs: list[Run]) -> dict[str, np.ndarray]:
    """The names of the classes, and their probabilities on each image."""
    return {
        "classes": np.array(result.weights.data.categories),
        "probabilities": np.stack([run.prediction.probabilities for run in runs]),
    }


def one_channel(result: Run, runs: list[Run], maps: list[Channel], layer: str, channel: int) -> None:
    """One channel of the selected layer on every image, on one scale."""
    with st.container(border=True, key="across"):
        section(f"Channel {channel} of `{layer}` across the images")
        scale = rasters.scale_over([(one.low, one.high) for one in maps], any(one.low < 0 for one in maps))
        images = [scale.colours(one.values) for one in maps]
        labels = {
            run.image.digest: f"mean {one.mean:.2g}".replace("-", "−") for run, one in zip(runs, maps, strict=True)
        }
        tiles(contact_sheet(images), labels, result.image.digest, "across tiles", lambda _: None)
        st.html(scale_legend(scale))
        st.caption("All on one scale. The layer is chosen in the drawing, the channel among the activations.")
        downloads(
            f"{layer}-channel-{channel}",
            lambda: rasters.sheet(images, 4),
            lambda: {
                "names": np.array([run.image.name for run in runs]),
                "maps": stacked(lambda run: channel_map(run, layer, channel), runs),
            },
            4 * len(runs) * prod(result.trace.by_name[layer].out_shape[1:]),
        )


def stacked(make: Callable[[Run], np.ndarray], runs: list[Run]) -> np.ndarray:
    """An array of each run, made one after the other into one that holds them all."""
    first = make(runs[0])
    result = np.empty((len(runs), *first.shape), first.dtype)
    result[0] = first
    for place, run in enumerate(runs[1:], start=1):
        result[place] = make(run)
    return result
