"""What one server computes once for everybody. All of it is immutable or never changed after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from resnet import ResNet, ResNetConfig
from resnet.weights import Weights, load

from ..inference import Device, best_device
from ..trace import Trace, trace


def _weights_hash(weights: Weights) -> tuple[str, str, int]:
    return weights.key, repr(weights.config), weights.data.preprocessing.crop


HASHES: dict[str | type[Any], Callable[[Any], Any]] = {ResNetConfig: repr, Weights: _weights_hash}


@st.cache_resource(max_entries=256, show_spinner=False, hash_funcs=HASHES)
def traced(config: ResNetConfig, image_size: tuple[int, int]) -> Trace:
    return trace(config, image_size)


@st.cache_resource(max_entries=1, show_spinner=False)
def device() -> Device:
    return best_device()


@st.cache_resource(max_entries=3, show_spinner="Preparing the network …", hash_funcs=HASHES)
def model(weights: Weights) -> ResNet:
    """The network with its weights, on the device.

    Raises:
        WeightsError: where they have to be downloaded and cannot be.
    """
    return load(weights).requires_grad_(False).to(device().torch)
