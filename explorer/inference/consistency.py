"""Shift consistency: how often a network names the same class for an image wherever it lies by a few pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from resnet import ResNet, ResNetConfig
from resnet.sizes import can_run

from ..sharing.store import Progress, no_progress
from .device import Device
from .turns import forward_in_turn
from .whatif import shifted

REACH = 2
"""Pixels that an image is moved by at most, up, down, left and right."""


class Consistency(NamedTuple):
    """`same` is the share of pairs of different shifts of an image for which the class is the same, `error` its standard error over
    the images, `accuracy` the share of images that are named right where they lie, and `shifted` that over all shifts.
    """

    same: float
    error: float
    accuracy: float
    shifted: float


def consistency(
    model: ResNet,
    images: Tensor,
    labels: Sequence[int],
    fill: float,
    device: Device,
    batch: int,
    progress: Progress = no_progress,
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
    right_ones, same = named == np.asarray(labels), same_shares(named)
    return Consistency(
        float(same.mean()),
        float(same.std() / np.sqrt(len(same))),
        float(right_ones[shifts.index((0, 0))].mean()),
        float(right_ones.mean()),
    )


def same_shares(named: np.ndarray) -> np.ndarray:
    """The share of pairs of different rows of S×N classes that agree, for each of the N columns."""
    count = len(named)
    pairs = [int((tally * (tally - 1)).sum()) for tally in map(np.bincount, named.T)]
    return np.array(pairs) / (count * (count - 1))


def takes_blur(config: ResNetConfig, size: tuple[int, int]) -> bool:
    """Whether `antialiased` is another network, and one that images of (height, width) pixels get through."""
    return config.antialias == "none" and can_run(config.with_(antialias="blur")[0], size)


def antialiased(model: ResNet) -> ResNet:
    """The network with a blur that subsamples in place of each stride of its branches and its stem's pooling (Zhang 2019, section
    3.3: there the network is trained with it); shortcuts keep their strides. The weights are the model's own, shared.
    """
    config, _ = model.config.with_(antialias="blur")
    result = ResNet(config).eval()
    # The blur has no weights: all others follow each other as before, if by other names where it stands in a sequence.
    state = dict(zip(result.state_dict(), model.state_dict().values(), strict=True))
    result.load_state_dict(state, assign=True)
    device = next(model.parameters()).device
    return result.requires_grad_(False).to(device)
