"""Several pictures at once: what the network says of each, and one channel across all of them.

One picture is in memory at a time: what is kept of each is its class probabilities, a tile, and one channel as a tile.
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
from .pictures import Chosen, from_sample
from .running import Run, chosen_channel

TILE = 112
"""How wide a tile is, in pixels."""

KEPT = 2**22
"""Bytes up to which all channels of a layer are kept, so that another one is there at once."""


def panel(result: Run) -> None:
    """The uploads where there are several, else one sample of each kind."""
    pictures = sorted(result.pictures, key=lambda picture: picture.digest) if len(result.pictures) > 1 else kinds()
    layer = result.layer.name
    channel = chosen_channel(result.channels(layer))
    runs, maps = all_runs(result, pictures, layer, channel)
    predictions(result, runs)
    one_channel(result, runs, maps, layer, channel)
    if len(result.pictures) == 1:
        st.caption("One sample of each kind. Upload several pictures to see them here instead.")


def kinds() -> list[Chosen]:
    """The first sample of each label."""
    first = {sample.label: sample for sample in reversed(samples())}
    return [from_sample(sample) for sample in reversed(first.values())]


def all_runs(result: Run, pictures: list[Chosen], layer: str, channel: int) -> tuple[list[Run], list[Channel]]:
    """The same weights on each picture, and a channel of a layer, with a bar while they run.

    Raises:
        StoppedError: where a person stopped it.
    """
    runs, maps, words = [], [], "Running the pictures …"
    with stoppable(("several", result.key, *(picture.digest for picture in pictures)), words) as bar:
        for number, picture in enumerate(pictures, start=1):
            run = result.on(picture)
            tile(run.key, run)
            runs.append(run)
            maps.append(mapped(run.key, layer, channel, run))
            bar.progress(number / len(pictures), words)
    return runs, maps


class Channel(NamedTuple):
    """One channel of a layer on one picture, as wide as a tile, and the whole map's figures."""

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
    return np.asarray(rasters.enlarged(rasters.shown(_run.prepared.seen), TILE))


def predictions(result: Run, runs: list[Run]) -> None:
    names = result.weights.data.categories

    def choose(digest: str) -> None:
        if any(picture.digest == digest for picture in result.pictures):
            session.hold(uploaded=digest)
        else:
            session.choose(picture=digest)

    with st.container(border=True, key="grid"):
        st.markdown(f"**What it says of each, at {result.size} pixels**")
        labels = {}
        for run in runs:
            ((best, probability),) = run.prediction.top(1)
            labels[run.picture.digest] = f"{names[best]} {probability:.0%}" if run.prediction.finite else "overflowed"
        pictures = [tile(run.key, run) for run in runs]
        tiles(contacts(pictures), labels, result.picture.digest, "several", choose)
        height, width = result.weights.data.preprocessing.size
        downloads(
            "predictions",
            lambda: rasters.sheet(pictures, 4),
            lambda: {
                "names": np.array([run.picture.name for run in runs]),
                "classes": np.array(names),
                "probabilities": np.stack([run.prediction.probabilities for run in runs]),
                "pixels": stacked(lambda run: run.prepared.pixels, runs),
            },
            4 * len(runs) * height * width * result.weights.config.in_channels,
        )


def one_channel(result: Run, runs: list[Run], maps: list[Channel], layer: str, channel: int) -> None:
    """One channel of the selected layer on every picture, on one scale."""
    with st.container(border=True, key="across"):
        st.markdown(f"**Channel {channel} of `{layer}` across the pictures**")
        low, high = min(one.low for one in maps), max(one.high for one in maps)
        pictures = [rasters.coloured(one.values, low, high) for one in maps]
        labels = {
            run.picture.digest: f"mean {one.mean:.2g}".replace("-", "−") for run, one in zip(runs, maps, strict=True)
        }
        tiles(contacts(pictures), labels, result.picture.digest, "across tiles", lambda _: None)
        st.caption(
            f"All on one scale, {low:.2g} to {high:.2g}. The layer is chosen in the drawing, the channel among the activations."
        )
        downloads(
            f"{layer}-channel-{channel}",
            lambda: rasters.sheet(pictures, 4),
            lambda: {
                "names": np.array([run.picture.name for run in runs]),
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
