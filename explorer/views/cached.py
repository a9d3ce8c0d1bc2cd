"""What one server computes once for everybody. All of it is immutable or never changed after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from resnet import ResNet, ResNetConfig
from resnet.weights import Weights, load

from ..inference import Device, best_device
from ..trace import Trace, trace


def _weights_hash(weights: Weights) -> tuple[str, str]:
    return weights.key, repr(weights.config)


_HASHES: dict[str | type[Any], Callable[[Any], Any]] = {ResNetConfig: repr, Weights: _weights_hash}


@st.cache_resource(max_entries=256, show_spinner=False, hash_funcs=_HASHES)
def traced(config: ResNetConfig, image_size: tuple[int, int]) -> Trace:
    return trace(config, image_size)


@st.cache_resource(max_entries=1, show_spinner=False)
def device() -> Device:
    return best_device()


@st.cache_resource(max_entries=4, show_spinner=False, hash_funcs=_HASHES)
def model(weights: Weights) -> ResNet:
    """The network with its weights on the device, with a progress bar where they are downloaded.

    Raises:
        WeightsError: where they cannot be had.
    """
    words = f"Downloading {weights.title}"
    bar = st.progress(0.0, f"{words} …") if weights.url else None

    def progress(done: int, total: int) -> None:
        if bar is not None:
            share = done / total if total else 0.0
            bar.progress(min(share, 1.0), f"{words}: {done / 2**20:.0f} of {total / 2**20:.0f} MiB")

    network = load(weights, progress).to(device().torch)
    if bar is not None:
        bar.empty()
    return network
