"""What one server computes once for everybody. All of it is immutable or never changed after."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from inspect import signature
from itertools import compress
from typing import Any, NamedTuple, ParamSpec, TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import StopException, get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_run_context import ThreadState

from resnet import ResNet, ResNetConfig, confined
from resnet.confined import Places
from resnet.weights import Weights, load, noise_side

from ..analysis.trace import Trace, trace
from ..inference import turns
from ..inference.device import Device, devices
from ..inference.limits import check_runnable
from ..inference.turns import ONE_AT_A_TIME
from ..sharing.scheduler import PAGES
from ..sharing.store import RESULTS, Progress, StoppedError
from .own_checkpoint import uploaded_tensors
from .session import held, hold

Given = ParamSpec("Given")
Value = TypeVar("Value")


def session() -> str:
    """The name of the session whose script this thread runs; "" outside of one."""
    context = get_script_run_ctx(suppress_warning=True)
    return context.session_id if context else ""


def shared(
    words: str = "", stays: bool = False, most: float = math.inf
) -> Callable[[Callable[Given, Value]], Callable[Given, Value]]:
    """Keep the results of a function of its arguments and nothing else, frozen, for everybody; its name begins `cached_`.

    Arguments are given by place. They tell results from each other, so they are small and hashable; those whose names
    begin with _ follow from the others and tell nothing. Who asks for what somebody is computing waits for it; `words`
    are shown meanwhile. Those of more than `most` bytes are handed on and not kept. Those that `stays` holds for are large
    and slow to make: the last one is kept.
    """

    def decorate(function: Callable[Given, Value]) -> Callable[Given, Value]:
        telling = [not name.startswith("_") for name in signature(function).parameters]

        @wraps(function)
        def call(*args: Given.args, **kwargs: Given.kwargs) -> Value:
            assert not kwargs, "the key is made of what is given by place"
            key, user = (function, *compress(args, telling)), session()
            if (found := RESULTS.get(key, user)) is not None:
                return found
            PAGES.yield_place()
            with st.spinner(words) if words and user else nullcontext():
                return RESULTS.compute(
                    key, lambda _: function(*args, **kwargs), lambda _: give_way(user), user, stays, most
                )

        return call

    return decorate


def give_way(user: str) -> None:
    """End this script's run where the session has asked for another one meanwhile, as any look at its state does."""
    if user:
        _ = "view" in st.session_state


turns.user, turns.waiting = session, lambda: give_way(session())


def end_if_session_ended() -> None:
    """End this script's run where its session has ended; another run that was asked for can wait."""
    if RESULTS.has_ended(session()):
        raise StopException


confined.waiting = end_if_session_ended


@shared()
def cached_trace(config: ResNetConfig, image_size: tuple[int, int]) -> Trace:
    return trace(config, image_size)


@shared()
def cached_devices() -> tuple[Device, ...]:
    return tuple(devices())


def form() -> Device:
    """Where and in which precision and layout this session predicts; the best device in fp32 until it chooses."""
    return held().form or cached_devices()[0]


def device() -> Device:
    """The session's device in fp32, where gradients are taken."""
    return form().plain


class Key(NamedTuple):
    """Everything that the results of an image's way through a network depend on.

    `image` is a sample's name or the digest of an upload's bytes, `off` are the blocks and channels that are switched off, `form`
    is where, in which precision and in which layout it runs.
    """

    image: str
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


BUILDING = Places(2**28)
"""Bytes of weights that are read or initialised at one time, which takes a few times as much."""


def model(weights: Weights, form: Device) -> ResNet:
    """The network with its weights, on a device in its form; those of an upload are this session's.

    It is the same for images of all sizes.

    Raises:
        WeightsError: where they have to be downloaded and cannot be, or this session does not hold them.
        OutOfMemoryError: where the device has no memory for them.
        TooLargeError: where random ones take more work than one image may.
    """
    return _cached_model(weights.source, form, weights)


@shared("Preparing the network …", stays=True)
def _cached_model(source: Hashable, form: Device, _weights: Weights) -> ResNet:
    if _weights.key == "random":  # the noise that calibrates them may be larger than the image that was asked about
        side = noise_side(_weights.config)
        check_runnable(cached_trace(_weights.config, (side, side)))
    bytes_ = 4 * cached_trace(_weights.config, _weights.data.preprocessing.size).params
    with PAGES.aside(), BUILDING.place(size=bytes_, waiting=turns.waiting):
        network = load(_weights, state_dict=uploaded_tensors(_weights)).requires_grad_(False)
    return ONE_AT_A_TIME.run(lambda: form.network(network))


# -- what takes long ----------------------------------------------------------------------

NOTHING_KEPT = "Ends the computation at its next step. Nothing of it is kept."


def kept_result(key: Hashable) -> Any:
    """The result of `cached_result` where it is kept, else None."""
    return RESULTS.get(key, session())


def may_compute(label: str, *keys: Hashable, at_once: bool = False) -> bool:
    """Whether to go on to `cached_result` results: where all are at hand, where they come `at_once` and nobody stopped them, or
    in the run that a click on the button called `label` starts, which is then not drawn.
    """
    if all(kept_result(key) is not None for key in keys):
        return True
    names = frozenset(map(short_key, keys))
    if held().requested == names:
        hold(requested=frozenset())
        return True
    if at_once and not names & held().stopped:
        return True

    def ask() -> None:
        hold(requested=names, stopped=held().stopped - names)

    st.button(label, icon=":material/play_arrow:", key=f"compute {min(names)}", on_click=ask)
    return False


def attempt(name: str) -> int:
    """How often this session asked for what the button of this name measures anew: a part of the measurement's key."""
    return held().attempts.get(name, 0)


def offer_again(name: str, key: Hashable) -> None:
    """A button to measure anew what the button of this name measures: `key` is that of the next attempt."""

    def ask() -> None:
        hold(attempts={**held().attempts, name: attempt(name) + 1}, requested=frozenset({short_key(key)}))

    label = f"{name} again"
    st.button(label, key=label, icon=":material/refresh:", on_click=ask)


def cached_result(key: Hashable, words: str, compute: Callable[[Progress], Value], means: str = NOTHING_KEPT) -> Value:
    """A result that takes long, kept for everybody: `compute` gets a function that moves a progress bar, 0 to 1.

    The key holds everything that the result depends on. Who asks for what somebody is computing sees that bar move,
    and computes it where the other one's run ends before. A button beside the bar stops it: the computation ends at
    its next step, nothing of it is kept unless `means`, the button's help, says so, and a button to compute it takes its place.

    Raises:
        StoppedError: where it was stopped and is not asked for again.
    """
    if (found := kept_result(key)) is not None:
        return found
    with stoppable(key, words, means=means) as bar:

        def compute_here(tell: Progress) -> Value:
            def move(share: float) -> None:
                tell(share)
                bar.progress(share, words)

            return compute(move)

        def wait(share: float) -> None:
            bar.progress(share, f"{words} Somebody else asked for the same; this is how far it is.")

        return RESULTS.compute(key, compute_here, wait, session())


@contextmanager
def stoppable(
    key: Hashable, words: str, again: str = "Compute it", means: str = NOTHING_KEPT
) -> Iterator[DeltaGenerator]:
    """Inside, there is a progress bar, which is given, and beside it a button that stops what is computed, as its help says.

    Raises:
        StoppedError: where it was stopped and is not asked for again; a button to ask, called `again`, takes its place.
    """
    if not may_compute(again, key, at_once=True):
        raise StoppedError
    place = st.empty()
    with place.container(horizontal=True, vertical_alignment="center"):
        bar = st.progress(0.0, words)
        stop_button(key, means)
    try:
        yield bar
    finally:
        place.empty()


def stop_button(key: Hashable, means: str = NOTHING_KEPT) -> None:
    """A button that ends a computation, whose help says what it means.

    A click inside a fragment waits for the run that goes on, one outside of it ends that run: so the button is drawn as
    no part of the fragment.
    """
    name = short_key(key)
    with ThreadState.scoped(fragment_id=None) if session() else nullcontext():
        st.button(
            "Stop",
            key=f"stop {name}",
            icon=":material/stop:",
            on_click=lambda: hold(stopped=held().stopped | {name}),
            help=means,
        )


def short_key(key: Hashable) -> str:
    """A name for a result in this session."""
    return hashlib.blake2b(repr(key).encode(), digest_size=8).hexdigest()
