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
from ..components import contacts, downloads, tiles
from .images import Chosen, from_sample
from .running import Run, chosen_channel

TILE = 112
"""How wide a tile is, in pixels."""

KEPT = 2**22
"""Bytes up to which all channels of a layer are kept, so that another one is there at once."""


def panel(result: Run) -> None:
    """The uploads where there are several, else one sample of each kind."""
    images = sorted(result.images, key=lambda image: image.digest) if len(result.images) > 1 else kinds()
    layer = result.layer.name
    channel = chosen_channel(result.channels(layer))
    runs, maps = all_runs(result, images, layer, channel)
    predictions(result, runs)
    one_channel(result, runs, maps, layer, channel)
    if len(result.images) == 1:
        st.caption("One sample of each kind. Upload several images to see them here instead.")


def kinds() -> list[Chosen]:
    """The first sample of each label."""
    first = {sample.label: sample for sample in reversed(samples())}
    return [from_sample(sample) for sample in reversed(first.values())]


def all_runs(result: Run, images: list[Chosen], layer: str, channel: int) -> tuple[list[Run], list[Channel]]:
    """The same weights on each image, and a channel of a layer, with a bar while they run.

    Raises:
        StoppedError: where a person stopped it.
    """
    runs, maps, words = [], [], "Running the images …"
    with stoppable(("several", result.key, *(image.digest for image in images)), words) as bar:
        for number, image in enumerate(images, start=1):
            run = result.on(image)
            tile(run.key, run)
            runs.append(run)
            maps.append(mapped(run.key, layer, channel, run))
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
    if 4 * prod(run.trace.by_name[layer].out_shape) <= KEPT:
        return run.maps(layer)[channel]
    return predict.activation(run.runner, run.prepared.tensor, layer, run.key.form)[channel].copy()


@shared()
def mapped(key: Key, layer: str, channel: int, _run: Run) -> Channel:
    found = channel_map(_run, layer, channel)
    finite = np.nan_to_num(found)
    small = np.asarray(rasters.enlarged(found, TILE))
    return Channel(small, float(found.mean()), float(finite.min()), float(finite.max()))


@shared()
def tile(key: Key, _run: Run) -> np.ndarray:
    """What the network sees, H×W×3 bytes."""
    return np.asarray(rasters.enlarged(rasters.shown(_run.prepared.input_image), TILE))


def predictions(result: Run, runs: list[Run]) -> None:
    names = result.weights.data.categories

    def choose(digest: str) -> None:
        if any(image.digest == digest for image in result.images):
            session.hold(uploaded=digest)
        else:
            session.choose(image=digest)

    with st.container(border=True, key="grid"):
        st.markdown(f"**What it says of each, at {result.size} pixels**")
        labels = {}
        for run in runs:
            ((best, probability),) = run.prediction.top(1)
            labels[run.image.digest] = f"{names[best]} {probability:.0%}" if run.prediction.finite else "overflowed"
        images = [tile(run.key, run) for run in runs]
        tiles(contacts(images), labels, result.image.digest, "several", choose)
        height, width = result.weights.data.preprocessing.size
        downloads(
            "predictions",
            lambda: rasters.sheet(images, 4),
            lambda: {
                "names": np.array([run.image.name for run in runs]),
                "classes": np.array(names),
                "probabilities": np.stack([run.prediction.probabilities for run in runs]),
                "pixels": stacked(lambda run: run.prepared.pixels, runs),
            },
            4 * len(runs) * height * width * result.weights.config.in_channels,
        )


def one_channel(result: Run, runs: list[Run], maps: list[Channel], layer: str, channel: int) -> None:
    """One channel of the selected layer on every image, on one scale."""
    with st.container(border=True, key="across"):
        st.markdown(f"**Channel {channel} of `{layer}` across the images**")
        low, high = min(one.low for one in maps), max(one.high for one in maps)
        images = [rasters.coloured(one.values, low, high) for one in maps]
        labels = {
            run.image.digest: f"mean {one.mean:.2g}".replace("-", "−") for run, one in zip(runs, maps, strict=True)
        }
        tiles(contacts(images), labels, result.image.digest, "across tiles", lambda _: None)
        st.caption(
            f"All on one scale, {low:.2g} to {high:.2g}. The layer is chosen in the drawing, the channel among the activations."
        )
        downloads(
            f"{layer}-channel-{channel}",
            lambda: rasters.sheet(images, 4),
            lambda: {
                "names": np.array([run.image.name for run in runs]),
                "maps": stacked(lambda run: channel_map(run, layer, channel), runs),
            },
            4 * len(runs) * prod(result.trace.by_name[layer].out_shape[1:]),
        )


def stacked(made: Callable[[Run], np.ndarray], runs: list[Run]) -> np.ndarray:
    """An array of each run, made one after the other into one that holds them all."""
    first = made(runs[0])
    result = np.empty((len(runs), *first.shape), first.dtype)
    result[0] = first
    for place, run in enumerate(runs[1:], start=1):
        result[place] = made(run)
    return result
