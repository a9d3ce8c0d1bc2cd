"""What an experiment is made with: a pair of networks that ship, or the network that is shown."""

from __future__ import annotations

from typing import NamedTuple

import streamlit as st
from torch import Tensor

from resnet import ResNetConfig
from resnet.presets import short_title
from resnet.weights import BUNDLED, Weights, bundled, random_weights

from ...analysis.trace import Trace
from ...experiments.gradients import noise
from ...experiments.shipped import COMMAND, PAIRS, labelled_inputs
from ...link import natural_size
from .. import session
from ..cached import cached_trace

SIDE = 64
"""Untrained networks are measured on images of at most so many pixels a side: noise looks alike at any size."""
OWN = "own"
"""What a link calls the network that is shown, beside the names of `PAIRS`."""


def chosen_experiment() -> str:
    """One of `PAIRS`, or `OWN`: what the link says, else a pair where it names no network of its own."""
    now = session.view()
    untouched = now.config == ResNetConfig() and not now.appended
    usual = next(iter(PAIRS)) if untouched else OWN
    names = (*PAIRS, OWN)
    if now.experiment and now.experiment not in names:
        words = f"experiment = {now.experiment} is not one of {', '.join(names)}; {usual} is shown instead."
        st.warning(session.escape_markdown(words), icon=":material/error:")
    return now.experiment if now.experiment in names else usual


def choose_networks(key: str, own: Trace, differs: str, family: str = "", command: str = COMMAND) -> tuple[Trace, ...]:
    """The traces of what is chosen: a pair that ships, the residual network first, or the network that is shown.

    `differs` says of the latter why what comes out may be something else. Where all pairs are one `family`, that is the choice. The
    `command` is what measured the pairs.
    """
    chosen, first = chosen_experiment(), next(iter(PAIRS))
    if family and chosen in PAIRS:
        chosen = first
    pairs = {first: family} if family else {name: pair_title(name) for name in PAIRS}
    labels = pairs | {OWN: f"Yours: {short_title(own.config)}"}
    session.set_widget(key, chosen, list(labels.values()))
    st.segmented_control(
        "Measured on",
        list(labels),
        key=key,
        format_func=labels.__getitem__,
        required=True,
        help=f"What the networks that ship show is measured beforehand, by `{command}`.",
        on_change=lambda: session.choose(experiment=st.session_state[key]),
    )
    if chosen == OWN:
        if own.config not in BUNDLED.values():
            st.caption(session.escape_markdown(f"{short_title(own.config)} {differs}"))
        return (own,)
    return tuple(cached_trace(BUNDLED[name], natural_size(BUNDLED[name])) for name in PAIRS[chosen])


def pair_title(name: str) -> str:
    """ResNet-56 and Plain-56."""
    return " and ".join(short_title(BUNDLED[each]) for each in PAIRS[name])


class ExperimentSetup(NamedTuple):
    """What an experiment runs: weights, trained or not, and the network's trace at the size of its images."""

    weights: Weights
    trace: Trace

    @property
    def trained(self) -> bool:
        return self.weights.key == "bundled"

    def images(self, count: int) -> tuple[Tensor, Tensor]:
        """N×C×H×W as the network takes them, and N labels.

        The first images of the test set for a trained network; for another, noise with labels by chance.
        """
        return labelled_inputs(count) if self.trained else noise(self.trace.config, self.trace.image_size, count)

    def words(self, count: int) -> str:
        """What it is measured on."""
        if self.trained:
            return f"the first {count} images of Fashion-MNIST's test set"
        height, width = self.trace.image_size
        return f"{count} images of Gaussian noise, {height}×{width} pixels, with labels by chance: the network is untrained"


def experiment_setup(config: ResNetConfig, image_size: tuple[int, int]) -> ExperimentSetup:
    """A configuration with its shipped weights, or else at its initialisation on small images."""
    shipped = bundled(config)
    if shipped:
        return ExperimentSetup(shipped[0], cached_trace(config, natural_size(config)))
    least = max(SIDE, 2 * config.total_stride)
    size = min(image_size[0], least), min(image_size[1], least)
    return ExperimentSetup(random_weights(config, size), cached_trace(config, size))
