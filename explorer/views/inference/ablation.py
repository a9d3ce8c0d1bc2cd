"""Labelled images: how many a person's own network gets right, and what each block that is switched off costs (Veit 2016)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial

import numpy as np
import streamlit as st
from torch import Tensor

from resnet.presets import short_title
from resnet.weights import BUNDLED, FASHION_MNIST, Weights, bundled

from ...analysis import parts
from ...analysis.parts import block_channels, off_channel, switched_off
from ...figures import inference
from ...inference import preprocess
from ...inference.ablation import Ablation, ablations, batch_size
from ...inference.device import Device
from ...inference.limits import MAX_FORWARD_BYTES
from ...inference.samples import labelled_images
from ...link import MAX_OFF_CHANNELS
from .. import session
from ..cached import cached_result, device, may_compute
from ..components import plot
from ..headline import section
from ..network import overview
from ..weights import loaded
from .running import Run, weights_trace
from .verdict import NO_CLASSIFIER, answer

Series = Mapping[str, tuple[Ablation, ...]]

EXPLANATION = (
    "A residual block that is off still hands its input on, so that all paths around it stay whole. A plain block is "
    "part of the only path there is (Veit 2016, https://arxiv.org/abs/1605.06431)."
)


def panel(result: Run) -> None:
    """The network with a switch at each block and the channels of one, what changes, and the ablation chart: on the shipped test images of weights that
    know what they show, of others on this image.
    """
    overview(result.trace, result.layer, switches=True)
    choose_channels(result)
    if result.off and result.prediction.finite and not result.headless and result.weights.key != "random":
        with st.container(border=True, key="answer"):
            answer(result)
    with st.container(border=True, key="ablation"):
        section("Each block switched off in turn")
        if not result.whole.finite:
            st.error("The activations overflowed, so there is no prediction to change.")
            return
        if result.headless:
            st.info(
                f"{NO_CLASSIFIER} What a block that is off costs is measured by the class; the drawing switches blocks off, "
                "and every layer shows what that changes."
            )
            return
        labelled = knows_test_images(result.weights) and not too_large(result.weights)
        found = ablations_on_test_images(result.weights) if labelled else ablations_on_image(result)
        if found:
            measures = list(inference.ABLATION_MEASURES)
            label = measures[1]
            if labelled:
                label = st.segmented_control(
                    "Measure", measures, required=True, default=measures[0], key="judged by", persist_state="session"
                )
            images = (
                f"{len(labelled_images().labels)} test images" if labelled else f"on this image at {result.size} pixels"
            )
            plot(inference.ablation_figure(found, label, images), key="ablation chart")
            for name, one in found.items():
                st.markdown(summary(name, one, inference.ABLATION_MEASURES[label]))
        if labelled:
            where = (
                f"Measured on the first {len(labelled_images().labels)} images of Fashion-MNIST's test set, in fp32. "
            )
        else:
            which = "small networks" if knows_test_images(result.weights) else "networks that know Fashion-MNIST"
            where = (
                f"The labelled images that ship are for {which} only; here the class that the whole network names for this "
                "image counts as the right one. "
            )
        st.caption(where + EXPLANATION)


def choose_channels(result: Run) -> None:
    """Which channels of the selected block's output are off, to choose others; how many of other blocks."""
    block = result.layer.block
    if not block:
        st.caption("The selected layer is in no block: select one in the drawing to switch channels of its output off.")
        return
    before = session.view().off
    mine = [channel[1] for name in before if (channel := off_channel(name)) and channel[0] == block]
    others = sum(":" in name for name in before) - len(mine)
    room = MAX_OFF_CHANNELS - others
    key = f"channels of {block}"
    session.set_widget(key, mine)

    def chosen() -> None:
        kept = [name for name in before if not name.startswith(f"{block}:")]
        asked = [f"{block}:{channel}" for channel in st.session_state[key]]
        session.choose(off=switched_off([*kept, *asked], result.weights.config))

    st.multiselect(
        f"Channels of `{block}` that are off",
        range(block_channels(result.weights.config)[block]),
        key=key,
        on_change=chosen,
        format_func=lambda channel: f"Channel {channel}",
        max_selections=room or None,
        disabled=not room,
        placeholder="All are on",
        help="The block puts out zeros there, and everything after it reads those."
        + (f" {others} of other blocks are off." if others else ""),
    )


# -- on the test images -------------------------------------------------------------------


def knows_test_images(weights: Weights) -> bool:
    """Whether the images that ship with labels are of what the weights were trained on, or are taken to be."""
    data = weights.data
    return (data.categories, data.preprocessing) == (FASHION_MNIST.categories, FASHION_MNIST.preprocessing)


def too_large(weights: Weights) -> bool:
    """Whether all test images together take more memory than a pass may, since a layer's outputs for all of them are held."""
    return len(labelled_images().labels) * weights_trace(weights).working_memory > MAX_FORWARD_BYTES


def test_inputs(weights: Weights) -> Tensor:
    """The test images as the weights take them, N×1×28×28."""
    return preprocess.normalised(labelled_images().images, weights.data.preprocessing)


AT_ONCE_MACS = 2e10
"""MACs of all test images together up to which they are counted without being asked for."""


def right_on_test_images(result: Run) -> None:
    """How many of the test images a network that does not ship gets right, in a sentence, where it knows what they show."""
    weights, labels = result.weights, labelled_images().labels.tolist()
    if weights.key == "bundled" or not knows_test_images(weights) or not result.whole.finite:
        return
    on_device, trace = device(), weights_trace(weights)
    key, count = ("right on test images", weights, on_device), len(labels)
    if not may_compute(f"Count on {count} test images", key, at_once=count * trace.macs <= AT_ONCE_MACS):
        return

    def compute(move: Callable[[float], None]) -> int:
        right, step = 0, batch_size(trace)
        for start, inputs in zip(range(0, count, step), test_inputs(weights).split(step), strict=True):
            (whole,) = ablations(loaded(weights, on_device), inputs, labels[start : start + step], (), on_device, step)
            right += round((1 - whole.error) * len(inputs))
            move((start + len(inputs)) / count)
        return right

    right = cached_result(key, "Counting on the test images …", compute)
    subject = "The whole network is right" if result.off else "Right"
    st.markdown(
        f"{subject} on **{right} of {count}** Fashion-MNIST test images: **{right / count:.1%}**",
        help="Counted on the first images of Fashion-MNIST's test set, which ship with this app, in fp32.",
    )


def with_twin(weights: Weights) -> list[Weights]:
    """A shipped network, and the plain one for a residual one of the same depth or the other way round; another alone."""
    other, _ = weights.config.with_(shortcut="A" if weights.config.shortcut == "none" else "none")
    return [weights, *(bundled(other) if weights.key == "bundled" and other in BUNDLED.values() else ())]


def ablations_on_test_images(weights: Weights) -> Series | None:
    """Networks on the labelled images, when asked for."""
    networks = with_twin(weights)
    keys = [("ablation", one, device()) for one in networks]
    if not may_compute(BUTTON, *keys):
        return None
    labels = labelled_images().labels.tolist()
    return {
        short_title(one.config): ablations_in_turn(key, one, device(), partial(test_inputs, one), labels)
        for one, key in zip(networks, keys, strict=True)
    }


BUTTON = "Each one in turn"


# -- on an image --------------------------------------------------------------------------


def ablations_on_image(result: Run) -> Series | None:
    """Any network on this image, when asked for."""
    best = result.whole.top(1)[0][0]
    key = ("ablation", result.weights, result.device, result.image.digest, result.prepared.inverted, best)
    if not may_compute(BUTTON, key):
        return None
    return {
        short_title(result.weights.config): ablations_in_turn(
            key, result.weights, result.device, lambda: result.prepared.tensor, [best]
        )
    }


# -- both ---------------------------------------------------------------------------------


def ablations_in_turn(
    key: Hashable, weights: Weights, on_device: Device, inputs: Callable[[], Tensor], labels: list[int]
) -> tuple[Ablation, ...]:
    off, batch = parts.switchable_blocks(weights.config), batch_size(weights_trace(weights))

    def compute(move: Callable[[float], None]) -> tuple[Ablation, ...]:
        found = []
        for ablation in ablations(loaded(weights, on_device), inputs(), labels, off, on_device, batch):
            found.append(ablation)
            # Early blocks have more of the network behind them, and so take longer.
            left = 1 - len(found) / (len(off) + 1)
            move(1 - left**2)
        return tuple(found)

    return cached_result(key, f"Switching off the blocks of {short_title(weights.config)} …", compute)


def summary(name: str, ablations: tuple[Ablation, ...], key: str) -> str:
    """The whole network's figure, the median over the blocks, and the block that matters most."""
    values = {ablation.block: getattr(ablation, key) for ablation in ablations}
    whole = values.pop("")
    what = "gets {:.1%} wrong" if key == "error" else "gives the right class {:.1%}"
    worst = (max if key == "error" else min)(values, key=lambda block: values[block])
    return (
        f"**{name}** {what.format(whole)}, and {float(np.median(list(values.values()))):.1%} at the median with one "
        f"block off. `{worst}` matters most: {values[worst]:.1%} without it."
    )
