"""Each block switched off in turn, and what that costs (Veit 2016)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial

import numpy as np
import streamlit as st
from torch import Tensor

from resnet import title
from resnet.weights import BUNDLED, Weights, bundled

from ...analysis import parts
from ...figures import inference
from ...inference import preprocess
from ...inference.ablation import Ablation
from ...inference.ablation import ablation as without_each
from ...inference.device import Device
from ...inference.samples import labelled
from ..cached import computed, device, wanted
from ..weights import loaded
from .running import Run

Series = Mapping[str, tuple[Ablation, ...]]

EXPLAINED = (
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
        found = tested(result.weights) if shipped else on_image(result)
        if found:
            measures = list(inference.JUDGED)
            label = measures[1]
            if shipped:
                label = st.segmented_control(
                    "Measure", measures, required=True, default=measures[0], key="judged by", persist_state="session"
                )
            images = f"{len(labelled().labels)} test images" if shipped else f"on this image at {result.size} pixels"
            st.plotly_chart(inference.ablation_figure(found, label, images), key="ablation chart")
            for name, one in found.items():
                st.markdown(summary(name, one, inference.JUDGED[label]))
        where = (
            f"Measured on the first {len(labelled().labels)} images of Fashion-MNIST's test set, in fp32. "
            if shipped
            else "Labelled images come with the shipped networks only; here the class that the whole network names "
            "for this image counts as the right one. "
        )
        st.caption(where + EXPLAINED)


def twin(weights: Weights) -> list[Weights]:
    """A shipped network, and the plain one for a residual one of the same depth or the other way round."""
    other, _ = weights.config.with_(shortcut="A" if weights.config.shortcut == "none" else "none")
    return [weights, *(bundled(other) if other in BUNDLED.values() else ())]


def tested(weights: Weights) -> Series | None:
    """Shipped networks on the labelled images, when asked for."""
    networks = twin(weights)
    keys = [("ablation", one, device()) for one in networks]
    if not wanted(ASK, *keys):
        return None
    images, labels = labelled()
    return {
        named(one): in_turn(
            key, one, device(), partial(preprocess.normalised, images, one.data.preprocessing), labels.tolist()
        )
        for one, key in zip(networks, keys, strict=True)
    }


ASK = "Each one in turn"


def named(weights: Weights) -> str:
    """ResNet-20, without what it was made for."""
    return title(weights.config).partition(" for ")[0]


def on_image(result: Run) -> Series | None:
    """Any network on this image, when asked for."""
    best = result.whole.top(1)[0][0]
    key = ("ablation", result.weights, result.device, result.image.digest, result.prepared.inverted, best)
    if not wanted(ASK, key):
        return None
    return {named(result.weights): in_turn(key, result.weights, result.device, lambda: result.prepared.tensor, [best])}


def in_turn(
    key: Hashable, weights: Weights, how: Device, inputs: Callable[[], Tensor], labels: list[int]
) -> tuple[Ablation, ...]:
    off = parts.switchable(weights.config)

    def compute(move: Callable[[float], None]) -> tuple[Ablation, ...]:
        found = []
        for ablation in without_each(loaded(weights, how), inputs(), labels, off, how):
            found.append(ablation)
            # Early blocks have more of the network behind them, and so take longer.
            left = 1 - len(found) / (len(off) + 1)
            move(1 - left**2)
        return tuple(found)

    return computed(key, f"Switching off the blocks of {named(weights)} …", compute)


def summary(name: str, found: tuple[Ablation, ...], key: str) -> str:
    """The whole network's figure, the median over the blocks, and the block that matters most."""
    values = {ablation.block: getattr(ablation, key) for ablation in found}
    whole = values.pop("")
    what = "gets {:.1%} wrong" if key == "error" else "gives the right class {:.1%}"
    worst = (max if key == "error" else min)(values, key=lambda block: values[block])
    return (
        f"**{name}** {what.format(whole)}, and {float(np.median(list(values.values()))):.1%} at the median with one "
        f"block off. `{worst}` matters most: {values[worst]:.1%} without it."
    )
