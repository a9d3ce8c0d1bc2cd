"""What one server computes once for everybody. All of it is immutable or never changed after."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import streamlit as st
from torch import Tensor

from resnet import ResNet, ResNetConfig
from resnet.weights import Weights, load

from ..inference import ONE_AT_A_TIME, Device, devices
from ..trace import Trace, trace


def _weights_hash(weights: Weights) -> tuple[str, str, tuple[int, int], str]:
    return weights.key, repr(weights.config), weights.data.preprocessing.size, weights.digest


HASHES: dict[str | type[Any], Callable[[Any], Any]] = {ResNetConfig: repr, Weights: _weights_hash, Device: repr}


@st.cache_resource(max_entries=256, show_spinner=False, hash_funcs=HASHES)
def traced(config: ResNetConfig, image_size: tuple[int, int]) -> Trace:
    return trace(config, image_size)


@st.cache_resource(max_entries=1, show_spinner=False)
def places() -> list[Device]:
    return devices()


def form() -> Device:
    """Where and in which precision and layout this session predicts; the best device in fp32 until it chooses."""
    return st.session_state.get("form", places()[0])


def device() -> Device:
    """The session's device in fp32, where gradients are taken."""
    return form().plain


@st.cache_resource(max_entries=4, show_spinner="Preparing the network …", hash_funcs=HASHES)
def model(weights: Weights, form: Device, _state_dict: Mapping[str, Tensor] | None = None) -> ResNet:
    """The network with its weights, on a device in its form; an upload's tensors come along, told apart by digest.

    Raises:
        WeightsError: where they have to be downloaded and cannot be.
        OutOfMemoryError: where the device has no memory for them.
    """
    network = load(weights, state_dict=_state_dict).requires_grad_(False)
    with ONE_AT_A_TIME:
        return form.network(network)


Value = TypeVar("Value")
_KEPT = 32


@st.cache_resource(max_entries=1, show_spinner=False)
def _store() -> tuple[OrderedDict[Hashable, Any], threading.Lock]:
    return OrderedDict(), threading.Lock()


def is_kept(key: Hashable) -> bool:
    """Whether `computed` has this result at hand."""
    return key in _store()[0]


def computed(key: Hashable, words: str, compute: Callable[[Callable[[float], None]], Value]) -> Value:
    """A result that takes long, kept for everybody: `compute` gets a function that moves a progress bar, 0 to 1.

    Streamlit's own caches cannot hold a function that moves a bar.
    """
    kept, lock = _store()
    value = kept.get(key)
    if value is None:
        bar = st.progress(0.0, words)

        def move(share: float) -> None:
            bar.progress(share, words)

        try:
            value = compute(move)
        finally:
            bar.empty()
        with lock:
            kept[key] = value
            while len(kept) > _KEPT:
                kept.popitem(last=False)
    return value
