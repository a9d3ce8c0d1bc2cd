"""Shift consistency: how often a network names the same class for an image wherever it lies by a few pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from resnet import ResNet

from ..sharing.store import Progress
from .device import Device
from .turns import forward_in_turn
from .whatif import shifted

REACH = 2
"""Pixels that an image is moved by at most, up, down, left and right."""


class Consistency(NamedTuple):
    """`same` is the share of pairs of different shifts of an image for which the class is the same, `accuracy` the share of
    images that are named right where they lie, and `shifted` that over all shifts.
    """

    same: float
    accuracy: float
    shifted: float


def consistency(
    model: ResNet,
    images: Tensor,
    labels: Sequence[int],
    fill: float,
    device: Device,
    batch: int,
    progress: Progress = lambda share: None,
    reach: int = REACH,
) -> Consistency:
    """Of N×C×H×W images, normalised, at all (2·reach + 1)² shifts, `fill` coming in at the edges (Zhang 2019,
    https://arxiv.org/abs/1904.11486, section 4.1; there of random pairs of shifts, here of all of them).

    A `batch` of images takes a turn, and `progress` is called after each.

    Raises:
        OutOfMemoryError: where a batch does not fit the device's memory.
    """
    sides = range(-reach, reach + 1)
    shifts = [(down, right) for down in sides for right in sides]
    named = np.empty((len(shifts), len(images)), np.int64)
    for row, (down, right) in enumerate(shifts):
        moved = shifted(images, down, right, fill)
        for start in range(0, len(images), batch):
            scores = forward_in_turn(model, device.tensor(moved[start : start + batch]))
            named[row, start : start + batch] = scores.argmax(1).cpu().numpy()
            progress((row + min(1.0, (start + batch) / len(images))) / len(shifts))
    right_ones = named == np.asarray(labels)
    return Consistency(same_share(named), float(right_ones[shifts.index((0, 0))].mean()), float(right_ones.mean()))


def same_share(named: np.ndarray) -> float:
    """The share of pairs of different rows of S×N classes that agree, over all columns."""
    count = len(named)
    pairs = sum(int((tally * (tally - 1)).sum()) for tally in map(np.bincount, named.T))
    return pairs / (count * (count - 1) * named.shape[1])


def antialiased(model: ResNet) -> ResNet:
    """The network with a blur in front of each of its subsamplings, which its weights were not trained with; they are the
    model's own, shared.

    The blur has no weights, so every weight has its place (Zhang 2019, section 3.3: there the network is trained with it).
    """
    config, _ = model.config.with_(antialias="blur")
    result = ResNet(config).eval()
    result.load_state_dict(model.state_dict(), assign=True)
    device = next(model.parameters()).device
    return result.requires_grad_(False).to(device)
