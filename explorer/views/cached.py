"""What one server computes once for everybody. All of it is immutable or never changed after."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import streamlit as st
from streamlit.runtime.caching.cache_utils import CachedFunc

from resnet import ResNet, ResNetConfig
from resnet.weights import Weights, load

from ..inference import ONE_AT_A_TIME, Device, devices
from ..store import Progress, Store, frozen
from ..trace import Trace, trace
from . import checkpoint

Given = ParamSpec("Given")
Value = TypeVar("Value")


def _weights_hash(weights: Weights) -> tuple[str, str, str, str]:
    return weights.key, repr(weights.config), repr(weights.data.preprocessing), weights.digest


HASHES: dict[str | type[Any], Callable[[Any], Any]] = {
    ResNetConfig: repr,
    Weights: _weights_hash,
    Device: repr,
    Trace: lambda trace: (repr(trace.config), trace.image_size),
}
"""What tells values of a type apart."""


def shared(size: int, words: str = "") -> Callable[[Callable[Given, Value]], CachedFunc[Given, Value]]:
    """Keep the last `size` results of a function of its arguments and nothing else, frozen, for everybody.

    Who asks for what somebody is computing waits for it; `words` are shown meanwhile.
    """

    def decorate(function: Callable[Given, Value]) -> CachedFunc[Given, Value]:
        @wraps(function)
        def call(*args: Given.args, **kwargs: Given.kwargs) -> Value:
            return frozen(function(*args, **kwargs))

        keep = st.cache_resource(max_entries=size, show_spinner=words or False, hash_funcs=HASHES)
        return keep(call)

    return decorate


@shared(256)
def traced(config: ResNetConfig, image_size: tuple[int, int]) -> Trace:
    return trace(config, image_size)


@shared(1)
def places() -> tuple[Device, ...]:
    return tuple(devices())


def form() -> Device:
    """Where and in which precision and layout this session predicts; the best device in fp32 until it chooses."""
    return st.session_state.get("form", places()[0])


def device() -> Device:
    """The session's device in fp32, where gradients are taken."""
    return form().plain


class Key(NamedTuple):
    """Everything that the results of a picture's way through a network depend on.

    `picture` is a sample's name or the digest of an upload's bytes, `off` are the blocks that are switched off, `form` is where, in which
    precision and in which layout it runs.
    """

    picture: str
    inverted: bool
    weights: Weights
    off: tuple[str, ...]
    form: Device

    @property
    def whole(self) -> Key:
        """The same with all blocks."""
        return self._replace(off=())

    @property
    def plain(self) -> Key:
        """The same in fp32 with channels first, where gradients are taken."""
        return self._replace(form=self.form.plain)


@shared(4, "Preparing the network …")
def model(weights: Weights, form: Device) -> ResNet:
    """The network with its weights, on a device in its form; those of an upload are this session's.

    Raises:
        WeightsError: where they have to be downloaded and cannot be, or this session does not hold them.
        OutOfMemoryError: where the device has no memory for them.
    """
    network = load(weights, state_dict=checkpoint.uploaded_tensors(weights)).requires_grad_(False)
    return ONE_AT_A_TIME.run(lambda: form.network(network))


KEPT = 32
"""Results that take long."""


@st.cache_resource(max_entries=1, show_spinner=False)
def _store() -> Store:
    return Store(KEPT)


def at_hand(key: Hashable) -> Any:
    """The result of `computed` where it is kept, else None."""
    return _store().get(key)


def computed(key: Hashable, words: str, compute: Callable[[Progress], Value]) -> Value:
    """A result that takes long, kept for everybody: `compute` gets a function that moves a progress bar, 0 to 1.

    The key holds everything that the result depends on. Who asks for what somebody is computing sees that bar move,
    and computes it where the other one's run ends before. Streamlit's own caches cannot hold a function that moves a
    bar.
    """
    store = _store()
    if (found := store.get(key)) is not None:
        return found
    bar = st.progress(0.0, words)

    def compute_here(tell: Progress) -> Value:
        def move(share: float) -> None:
            tell(share)
            bar.progress(share, words)

        return compute(move)

    def wait(share: float) -> None:
        bar.progress(share, f"{words} Somebody else asked for the same; this is how far it is.")

    try:
        return store.compute(key, compute_here, wait)
    finally:
        bar.empty()
