"""Each block switched off in turn, and what that costs (Veit 2016)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial

import numpy as np
import streamlit as st
from torch import Tensor

from resnet.presets import short_title
from resnet.weights import BUNDLED, Weights, bundled

from ...analysis import parts
from ...figures import inference
from ...inference import preprocess
from ...inference.ablation import Ablation, ablations
from ...inference.device import Device
from ...inference.samples import labelled_images
from ..cached import cached_result, device, may_compute
from ..weights import loaded
from .running import NO_CLASSIFIER, Run

Series = Mapping[str, tuple[Ablation, ...]]

EXPLANATION = (
    "A residual block that is off still hands its input on, so that all paths around it stay whole. A plain block is "
    "part of the only path there is (Veit 2016, https://arxiv.org/abs/1605.06431)."
)


def panel(result: Run) -> None:
    """The ablation chart: of a shipped network and its twin on the shipped test images, of another on this image."""
    with st.container(border=True, key="ablation"):
        st.markdown("**Each block switched off in turn**")
        shipped = result.weights.key == "bundled"
        if not shipped and not result.whole.finite:
            st.error("The activations overflowed, so there is no prediction to change.")
            return
        if result.headless:
            st.info(
                f"{NO_CLASSIFIER} What a block that is off costs is measured by the class; the drawing switches blocks off, "
                "and every layer shows what that changes."
            )
            return
        found = ablations_on_test_images(result.weights) if shipped else ablations_on_image(result)
        if found:
            measures = list(inference.ABLATION_MEASURES)
            label = measures[1]
            if shipped:
                label = st.segmented_control(
                    "Measure", measures, required=True, default=measures[0], key="judged by", persist_state="session"
                )
            images = (
                f"{len(labelled_images().labels)} test images" if shipped else f"on this image at {result.size} pixels"
            )
            st.plotly_chart(inference.ablation_figure(found, label, images), key="ablation chart")
            for name, one in found.items():
                st.markdown(summary(name, one, inference.ABLATION_MEASURES[label]))
        where = (
            f"Measured on the first {len(labelled_images().labels)} images of Fashion-MNIST's test set, in fp32. "
            if shipped
            else "Labelled images come with the shipped networks only; here the class that the whole network names "
            "for this image counts as the right one. "
        )
        st.caption(where + EXPLANATION)


def with_twin(weights: Weights) -> list[Weights]:
    """A shipped network, and the plain one for a residual one of the same depth or the other way round."""
    other, _ = weights.config.with_(shortcut="A" if weights.config.shortcut == "none" else "none")
    return [weights, *(bundled(other) if other in BUNDLED.values() else ())]


def ablations_on_test_images(weights: Weights) -> Series | None:
    """Shipped networks on the labelled images, when asked for."""
    networks = with_twin(weights)
    keys = [("ablation", one, device()) for one in networks]
    if not may_compute(BUTTON, *keys):
        return None
    images, labels = labelled_images()
    return {
        short_title(one.config): ablations_in_turn(
            key, one, device(), partial(preprocess.normalised, images, one.data.preprocessing), labels.tolist()
        )
        for one, key in zip(networks, keys, strict=True)
    }


BUTTON = "Each one in turn"


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


def ablations_in_turn(
    key: Hashable, weights: Weights, on_device: Device, inputs: Callable[[], Tensor], labels: list[int]
) -> tuple[Ablation, ...]:
    off = parts.switchable_blocks(weights.config)

    def compute(move: Callable[[float], None]) -> tuple[Ablation, ...]:
        found = []
        for ablation in ablations(loaded(weights, on_device), inputs(), labels, off, on_device):
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
