"""How much a unit really depends on the pixels that it can see: the effective receptive field.

Luo 2016, https://arxiv.org/abs/1701.04128: the gradient of a unit with respect to the image, averaged over
images, is nearly Gaussian and takes up a part of the theoretical field only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from resnet import ResNet
from resnet.sizes import least_side

from ..analysis.cost import work_macs
from ..analysis.layers import Layer
from ..analysis.trace import Trace
from ..sharing.store import Progress, no_progress
from .device import Device
from .limits import MAX_FORWARD_BYTES, MAX_WORK_MACS


class EffectiveField(NamedTuple):
    """The averaged gradient of one layer's units, in a unit's own box of pixels.

    `field` is n×n with sum 1 (0 without any gradient); its first pixel is pixel `first` of the box, in both
    directions. n is below the box's side where the whole box was too large to measure. `inside_share` is the share of
    the whole image's gradient that fell into the box (0 without any), `image_count` the number of images, `image_side`
    theirs in pixels.
    """

    field: np.ndarray
    first: int
    inside_share: float
    image_count: int
    image_side: int


def measured_side(layer: Layer, trace: Trace, traced: Callable[[int], Trace]) -> int:
    """The side of square images on which to measure a layer's effective field.

    A unit in the middle has its whole box inside and a unit's width around it, but the image is no larger than
    three times the trace's, nor than what one pass may take here; `traced(side)` is the network at a side.
    """
    low = max(trace.config.total_stride, least_side(trace.config))
    side = max(low, min(layer.field.size + 2 * layer.field.effective_stride, 3 * max(trace.image_size)))
    while side > low and not fits_one_pass(traced(side)):
        side = max(low, side * 7 // 8)
    return side


def fits_one_pass(trace: Trace) -> bool:
    """Whether one pass that keeps activations for its gradient stays within the limits."""
    return trace.gradient_memory <= MAX_FORWARD_BYTES and work_macs(trace) <= MAX_WORK_MACS


def mirrored(image: Tensor, side: int) -> Tensor:
    """A C×H×W image as C×side×side: its middle, continued over its edges by reflection where it is smaller."""
    for axis in (1, 2):
        length = image.shape[axis]
        places = (torch.arange(side) - (side - length) // 2) % (2 * length)
        image = image.index_select(axis, torch.minimum(places, 2 * length - 1 - places))
    return image


class _ReachedError(Exception):
    """The layer has its output, and nothing after it is needed."""


def effective_field(
    model: ResNet, layer: Layer, images: Sequence[Tensor], device: Device, progress: Progress = no_progress
) -> EffectiveField:
    """The mean of |∂ȳ/∂x| over `images` (each C×S×S, normalised), summed over the image's channels.

    ȳ is the mean over channels of the layer's middle unit. The model is in eval mode, so that batch norm is a
    fixed scaling: in training mode its statistics carry gradient from outside the box.

    Raises:
        OutOfMemoryError: where a pass does not fit the device's memory.
    """
    side = images[0].shape[-1]
    kept: list[Tensor] = []

    def reached(module: object, args: object, output: Tensor) -> None:
        kept.append(output)
        raise _ReachedError

    def run(image: Tensor) -> tuple[int, np.ndarray]:
        given = image[None].to(device.torch, copy=True).requires_grad_()
        handle = model.get_submodule(layer.name).register_forward_hook(reached)
        try:
            with suppress(_ReachedError):
                model(given)
        finally:
            handle.remove()
        output = kept.pop()
        unit = layer.field.nearest((side - 1) / 2, output.shape[2])
        (found,) = torch.autograd.grad(output[0, :, unit, unit].mean(), given)
        return unit, found[0].float().abs().sum(0).cpu().numpy()

    gradient, unit = np.zeros((side, side)), 0
    for done, image in enumerate(images, start=1):
        unit, found = device.turn(model, image[None]).run(partial(run, image))
        gradient += np.nan_to_num(found)  # the widest range still adds up
        progress(done / len(images))
    total = float(gradient.sum())
    box = layer.field.box((unit, unit))
    inner = box.clipped((side, side))
    field = gradient[inner.top : inner.bottom + 1, inner.left : inner.right + 1]
    inside = float(field.sum())
    return EffectiveField(
        field / inside if inside else field, inner.top - box.top, inside / total if total else 0.0, len(images), side
    )


class Width(NamedTuple):
    """The Gaussian that fits an effective field: its standard deviation, in pixels, and its middle, along the rows."""

    sigma: float
    middle: float

    def share_of(self, size: int) -> float:
        """4σ, which hold 95 % of a Gaussian, against a theoretical field of so many pixels."""
        return 4 * self.sigma / size


def gaussian_width(field: np.ndarray) -> Width:
    """The Gaussian that spreads over the n×n pixels of `field` as its mass does, in the mean of both axes.

    σ solves variance(exp(−x²/2σ²), on these n pixels) = variance(field), so that a part of a Gaussian gives the
    σ of the whole. σ is infinite for mass that is spread as evenly as no Gaussian is.
    """
    places = np.arange(len(field))
    middles, variances = [], []
    for axis in (0, 1):
        profile = field.sum(axis)
        middles.append(float((profile * places).sum() / profile.sum()))
        variances.append(float((profile * (places - middles[-1]) ** 2).sum() / profile.sum()))
    middle, variance = float(np.mean(middles)), float(np.mean(variances))

    def spread(sigma: float) -> float:
        weight = np.exp(-((places - middle) ** 2) / (2 * sigma**2))
        return float((weight * (places - middle) ** 2).sum() / weight.sum())

    low, high = 1e-3, 1e3 * len(field)
    if variance >= spread(high):
        return Width(float("inf"), middle)
    for _ in range(60):
        sigma = (low * high) ** 0.5
        low, high = (sigma, high) if spread(sigma) < variance else (low, sigma)
    return Width(low, middle)
