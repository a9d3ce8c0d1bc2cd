"""The way to the shipped networks from an experiment, and the images that it is made with."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import streamlit as st
import torch
from torch import Tensor

from resnet import ResNetConfig, title
from resnet.weights import BUNDLED, Weights, bundled, random_weights

from ...analysis.trace import Trace
from ...experiments.gradients import noise
from ...inference import preprocess
from ...inference.samples import labelled
from ...link import natural_size
from .. import session
from ..cached import traced

SIDE = 64
"""Untrained networks are measured on images of at most so many pixels a side: noise looks alike at any size."""


def name(config: ResNetConfig) -> str:
    """ResNet-20, without what it was made for."""
    return title(config).partition(" for ")[0]


def choose(key: str) -> None:
    """The shipped networks to choose from; the one that is shown is marked, if it is one of them."""
    networks = {name(config): config for config in BUNDLED.values()}
    now = session.view()
    session.set_widget(key, next((label for label, config in networks.items() if config == now.config), None))

    def take() -> None:
        if label := st.session_state[key]:
            config = networks[label]
            session.show(replace(now, config=config, image_size=natural_size(config), at="", weights="", off=()))

    st.segmented_control("Trained networks", list(networks), key=key, on_change=take)


class Setting(NamedTuple):
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
        if self.trained:
            images, labels = labelled()
            inputs = preprocess.normalised(images[:count], self.weights.data.preprocessing)
            return inputs, torch.tensor(labels[:count], dtype=torch.long)
        return noise(self.trace.config, self.trace.image_size, count)

    def words(self, count: int) -> str:
        """What it is measured on."""
        if self.trained:
            return f"the first {count} images of Fashion-MNIST's test set"
        height, width = self.trace.image_size
        return f"{count} images of Gaussian noise, {height}×{width} pixels, with labels by chance: the network is untrained"


def setting(config: ResNetConfig, image_size: tuple[int, int]) -> Setting:
    """A configuration with its shipped weights, or else at its initialisation on small images."""
    shipped = bundled(config)
    if shipped:
        return Setting(shipped[0], traced(config, natural_size(config)))
    least = max(SIDE, 2 * config.total_stride)
    size = min(image_size[0], least), min(image_size[1], least)
    return Setting(random_weights(config, size), traced(config, size))
