"""What a channel stands for: which images of a set excite it most and least, how it tells classes apart, and what the
network does without it.

How strongly an image excites a channel is the largest value of the channel's map on it, as in Zhou 2015
(https://arxiv.org/abs/1412.6856, section 3.2); what the unit of that value sees is its receptive field.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from resnet import ResNet

from ..analysis.layers import Layer, Op
from ..analysis.trace import Trace
from ..sharing.store import Progress, no_progress
from .ablation import sequential_modules
from .device import Device
from .predict import watching_outputs
from .turns import copy_of, forward_in_turn

KEPT = 9
"""Images that are kept of those that excite a channel most, and as many of those that excite it least."""
SHARES = 100
"""Parts of a set's images, of a hundredth each, at whose ends the quantiles of a channel's largest values are taken."""


def places(trace: Trace) -> dict[str, Layer]:
    """The layers whose channels are looked at, by their parts: what the stem and every block put out."""
    return {part: layers[-1] for part, layers in trace.parts.items() if part != "head"}


# -- what excites it ----------------------------------------------------------------------


class Peaks(NamedTuple):
    """A layer's C channels on N images: the largest `values` of their maps N×C, the `units` that have them, each as
    row · W + column and the first of several, and the `means` N×C of the maps' positive parts.
    """

    values: np.ndarray
    units: np.ndarray
    means: np.ndarray


def peaks(model: ResNet, images: Tensor, layers: Sequence[str], device: Device) -> dict[str, Peaks]:
    """The peaks of the named layers on N×C×H×W images, which go through together, in one turn.

    Raises:
        OutOfMemoryError: where they do not fit the device's memory.
    """
    found: dict[str, Peaks] = {}

    def keep(name: str, output: Tensor) -> None:
        maps = output.float().nan_to_num().flatten(2)
        values, units = maps.max(2)
        found[name] = Peaks(
            values.cpu().numpy(),
            units.int().cpu().numpy(),
            maps.clamp(min=0).mean(2, dtype=torch.float64).cpu().numpy(),
        )

    @torch.inference_mode()
    def run() -> None:
        with watching_outputs(model, layers, keep):
            model(device.tensor(images))

    device.turn(model, images).run(run)
    return found


class Extremes(NamedTuple):
    """The images that excite each of C channels most, or least, the utmost first: their numbers, the units of their largest
    values as row · W + column, and these values, all C×n. Of images that are equal the one with the lower number comes first.
    """

    images: np.ndarray
    units: np.ndarray
    values: np.ndarray


def extremes(peaks: Peaks, first: int = 0, lowest: bool = False) -> Extremes:
    """The most, or `lowest`, of the images whose peaks are given and whose numbers go from `first` on."""
    order = np.argsort(peaks.values if lowest else -peaks.values, axis=0, kind="stable")[:KEPT]
    units, values = (np.take_along_axis(each, order, axis=0).T for each in (peaks.units, peaks.values))
    return Extremes(order.T + first, units, values)


def joined(before: Extremes, after: Extremes, lowest: bool = False) -> Extremes:
    """The extremes of two sets of images, of which the first has the lower numbers."""
    every = Extremes(*(np.concatenate(pair, axis=1) for pair in zip(before, after, strict=True)))
    order = np.argsort(every.values if lowest else -every.values, axis=1, kind="stable")[:, :KEPT]
    return Extremes(*(np.take_along_axis(each, order, axis=1) for each in every))


def quantiles(values: np.ndarray) -> np.ndarray:
    """Of N×C largest values, C×101: the smallest one that at least k hundredths of the images do not exceed, for k from 0 to
    100. Each is the value of an image, so that they say of few images, too, how many are below a value.
    """
    ranks = -(-len(values) * np.arange(SHARES + 1) // SHARES)  # rounded up
    return np.sort(values, axis=0)[np.maximum(ranks - 1, 0)].T.astype(np.float32)


def share_below(quantiles: np.ndarray, value: float) -> float:
    """The share of images, 0 to 1 and rounded down to hundredths, whose largest value is below `value`, by the `quantiles` of
    one channel.
    """
    return max(int(np.searchsorted(quantiles, value)) - 1, 0) / SHARES


class Responses(NamedTuple):
    """What C channels answer to a set of images: the extremes, and the quantiles of the largest values, C×101."""

    best: Extremes
    least: Extremes
    quantiles: np.ndarray


def responses(peaks: Peaks) -> Responses:
    """The answers to images that are numbered from 0."""
    return Responses(extremes(peaks), extremes(peaks, lowest=True), quantiles(peaks.values))


# -- how it tells classes apart -----------------------------------------------------------


class ByClass(NamedTuple):
    """C channels by K classes: how many of each channel's `strongest` images are of each class, and the `means` of its map's
    positive part over each class, both C×K.
    """

    strongest: np.ndarray
    means: np.ndarray


def by_class(peaks: Peaks, labels: np.ndarray, classes: int, strongest: int) -> ByClass:
    """The channels by the classes of N labelled images, counted over so many `strongest` ones."""
    order = np.argsort(-peaks.values, axis=0, kind="stable")[:strongest]
    member = labels == np.arange(classes)[:, None]  # K×N
    counts = np.stack([np.bincount(one, minlength=classes) for one in labels[order].T])
    return ByClass(counts, (member @ peaks.means / member.sum(1, keepdims=True)).T)


def selectivity(means: np.ndarray) -> np.ndarray:
    """(μ_max − μ_rest) / (μ_max + μ_rest) of C×K class means that are not negative, μ_rest the mean over the other classes
    (Morcos 2018, https://arxiv.org/abs/1803.06959, section 2.3): C numbers from 0, alike for all classes, to 1, one class
    alone. Of a channel that is never positive it is 0.
    """
    highest = means.max(1)
    rest = (means.sum(1) - highest) / (means.shape[1] - 1)
    total = highest + rest
    return np.divide(highest - rest, total, out=np.zeros_like(total), where=total > 0)


# -- without it ---------------------------------------------------------------------------


def split_after(model: ResNet, place: str) -> tuple[nn.Sequential, nn.Sequential]:
    """The network up to what a place of `places` puts out, and what comes after that."""
    sequence = sequential_modules(model)
    names = list(sequence)
    end = names.index(model.config.blocks[0]) if place == "stem" else names.index(place) + 1
    modules = list(sequence.values())
    return nn.Sequential(*modules[:end]), nn.Sequential(*modules[end:])


@torch.inference_mode()
def without(output: Tensor, channel: int) -> Tensor:
    """N×C×H×W with one channel at zero."""
    result = output.clone()
    result[:, channel] = 0
    return result


def without_channel(model: ResNet, layer: str, channel: int) -> ResNet:
    """The network with one channel of a layer's output at zero; parameters are the model's own, which itself is left alone."""
    result = copy_of(model)
    result.get_submodule(layer).register_forward_hook(lambda _, __, output: without(output, channel))
    return result


def right_by_class(scores: Tensor, labels: np.ndarray, classes: int) -> np.ndarray:
    """How many of N images are right by their N×K scores, for each of K classes."""
    right = labels[scores.float().cpu().numpy().argmax(1) == labels]
    return np.bincount(right, minlength=classes)


class Silence(NamedTuple):
    """How many labelled images of each of K classes are `right` with each of C channels at zero, C×K, how many with none, and
    how many there are, both K.
    """

    right: np.ndarray
    whole: np.ndarray
    counts: np.ndarray

    def of(self, channel: int) -> Silence:
        """That of one channel, whose `right` is K."""
        return self._replace(right=self.right[channel])


def silence(
    after: nn.Module,
    outputs: Iterable[Tensor],
    channels: Sequence[int],
    labels: np.ndarray,
    classes: int,
    progress: Progress = no_progress,
) -> Silence:
    """What the classes of N labelled images lose without each of some channels of a place: `outputs` are what it puts out on
    them, in batches, and `after` is what comes after it. `progress` is called after each batch.

    Raises:
        OutOfMemoryError, TooLargeError: as `forward_in_turn`.
    """
    right, whole = np.zeros((len(channels), classes), int), np.zeros(classes, int)
    start = 0
    for output in outputs:
        truth = labels[start : start + len(output)]
        start += len(output)
        whole += right_by_class(forward_in_turn(after, output), truth, classes)
        for row, channel in zip(right, channels, strict=True):
            row += right_by_class(forward_in_turn(after, without(output, channel)), truth, classes)
        progress(start / len(labels))
    return Silence(right, whole, np.bincount(labels, minlength=classes))


# -- its kernel ---------------------------------------------------------------------------


def writing_convolution(layers: Sequence[Layer]) -> Layer:
    """The convolution of a part that writes its output: the last one that is not on the shortcut."""
    return next(layer for layer in reversed(layers) if layer.op == Op.CONVOLUTION and not layer.role.on_shortcut)
