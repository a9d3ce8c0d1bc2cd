"""The image changed before a network sees it, and how far the change reaches into the network."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet import ResNet
from resnet.options import Settings, option
from resnet.weights import Preprocessing

from ..analysis.parts import Part, drawn_parts
from ..analysis.trace import Trace
from .device import Device
from .limits import MAX_GRADIENT_BYTES, Need, check_needs
from .predict import watching_outputs
from .preprocess import Prepared
from .turns import in_turn

# -- settings -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Change(Settings):
    """What is done to the image, in this order, at the size that the network sees and before it is normalised.

    Raises:
        ConfigError: for a value outside its range.
    """

    key = "change"
    example = "right-4_rotate--10"

    right: int = option(0, "Shift right", "In whole pixels; to the left below zero.", low=-64, high=64)
    down: int = option(0, "Shift down", "In whole pixels; up below zero.", low=-64, high=64)
    rotate: int = option(0, "Rotate", "In degrees, counter-clockwise around the middle; bilinear.", low=-180, high=180)
    blur: float = option(0.0, "Blur σ", "Of a Gaussian, in pixels.", high=8)
    contrast: float = option(
        1.0, "Contrast", "How far each value is from the image's mean, times as far as it was.", high=4
    )
    noise: int = option(0, "Noise σ", "Of Gaussian noise on each value, which goes from 0 to 255.", high=128)
    seed: int = option(0, "Noise seed", "The noise of one seed is always the same.", high=999_999)
    patch: int = option(
        0, "Patch side", "Of a square in the mean colour that hides pixels; none where it is 0.", high=512
    )
    place: tuple[int, ...] = option(
        (0, 0), "Patch row and column", "Of the pixel in the patch's middle.", high=9999, least=2, most=2
    )
    epsilon: float = option(
        0.0,
        "FGSM step ε",
        "Each value, which goes from 0 to 255, moves by ε in the direction that makes the class less likely "
        "(Goodfellow 2015).",
        high=64,
    )

    @property
    def active(self) -> bool:
        """Whether anything is done: a seed without noise or a place without a patch is nothing."""
        return bool(self.given().keys() - {"seed", "place"})


# -- the image ----------------------------------------------------------------------------


def pixels_of(prepared: Prepared) -> Tensor:
    """C×H×W in 0…255."""
    return torch.from_numpy(np.ascontiguousarray(prepared.input_image.transpose(2, 0, 1), dtype=np.float32))


def network_input(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """C×H×W in 0…255 as the 1×C×H×W that a network takes."""
    mean, std = (torch.tensor(each)[:, None, None] for each in (preprocessing.mean, preprocessing.std))
    return pixels.div(255).sub(mean).div(std)[None]


def changed(pixels: Tensor, change: Change, preprocessing: Preprocessing) -> Tensor:
    """C×H×W in 0…255 with everything done to it but the step of FGSM, which takes a network.

    What comes in at an edge is black where the weights know bright objects on black, else the mean colour of their training
    images; so is what a patch hides, on any weights.

    Raises:
        OutOfMemoryError: as `in_turn`, for a large image.
    """
    mean = 255 * torch.tensor(preprocessing.mean)[:, None, None]
    edge = torch.zeros_like(mean) if preprocessing.bright_on_dark else mean

    def make() -> Tensor:
        x = pixels
        if change.right or change.down:
            x = shifted(x, change.down, change.right, edge)
        if change.rotate:
            x = rotated(x, change.rotate, edge)
        if change.blur:
            x = blurred(x, change.blur)
        if change.contrast != 1:
            x = contrasted(x, change.contrast)
        if change.noise:
            x = noisy(x, change.noise, change.seed)
        if change.patch:
            x = occluded(x, change.place[0], change.place[1], change.patch, mean)
        return x

    return in_turn(pixels.numel(), make)


def shifted(x: Tensor, down: int, right: int, fill: Tensor | float) -> Tensor:
    """…×H×W moved by whole pixels; what comes in is `fill`, and what goes beyond an edge is lost."""
    height, width = x.shape[-2:]
    result = torch.zeros_like(x) + fill
    rows, columns = max(0, height - abs(down)), max(0, width - abs(right))
    top, left = max(0, down), max(0, right)
    above, before = max(0, -down), max(0, -right)
    if rows and columns:
        result[..., top : top + rows, left : left + columns] = x[..., above : above + rows, before : before + columns]
    return result


def rotated(x: Tensor, degrees: float, fill: Tensor | float) -> Tensor:
    """C×H×W turned counter-clockwise around its middle, bilinear; what comes in is `fill`."""
    height, width = x.shape[-2:]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # `affine_grid` counts in halves of a side, which differ between the axes of a rectangle.
    back = torch.tensor([[[cosine, -sine * height / width, 0], [sine * width / height, cosine, 0]]])
    grid = F.affine_grid(back, [1, *x.shape], align_corners=False)
    return F.grid_sample((x - fill)[None], grid, align_corners=False)[0] + fill


def blurred(x: Tensor, sigma: float) -> Tensor:
    """C×H×W under a Gaussian that is cut off at 3σ; beyond an edge its pixels go on."""
    reach = math.ceil(3 * sigma)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * max(sigma, 1e-3) ** 2))
    kernel = (kernel / kernel.sum()).expand(len(x), 1, 1, -1)
    padded = F.pad(x[None], [reach] * 4, mode="replicate")
    across = F.conv2d(padded, kernel, groups=len(x))
    return F.conv2d(across, kernel.transpose(2, 3), groups=len(x))[0]


def contrasted(x: Tensor, factor: float) -> Tensor:
    """C×H×W with each value `factor` times as far from the mean of all, cut off at 0 and 255."""
    mean = x.mean()
    return (mean + factor * (x - mean)).clamp(0, 255)


def noisy(x: Tensor, sigma: float, seed: int) -> Tensor:
    """C×H×W with Gaussian noise on each value, cut off at 0 and 255. One seed's noise is the same at every σ."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return (x + sigma * noise).clamp(0, 255)


def patch_box(row: int, column: int, side: int) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a square around a pixel, the last two beyond it; an even side reaches further up and left."""
    top, left = row - side // 2, column - side // 2
    return top, left, top + side, left + side


def occluded(x: Tensor, row: int, column: int, side: int, fill: Tensor | float) -> Tensor:
    """C×H×W with a square around a pixel filled, as far as it lies inside (Zeiler 2014, https://arxiv.org/abs/1311.2901,
    section 4.2).
    """
    top, left, bottom, right = (max(0, edge) for edge in patch_box(row, column, side))
    result = x.clone()
    result[..., top:bottom, left:right] = fill
    return result


def fgsm(
    model: ResNet, pixels: Tensor, target: int, epsilon: float, preprocessing: Preprocessing, device: Device
) -> Tensor:
    """x + ε · sign(∂J/∂x), J the cross-entropy of class `target`, of C×H×W in 0…255, and cut off there: one step of the fast
    gradient sign method (Goodfellow 2015, https://arxiv.org/abs/1412.6572, section 4).

    Raises:
        OutOfMemoryError: where the pass does not fit the device's memory.
    """

    def run() -> Tensor:
        x = pixels.clone().requires_grad_()
        scores = model(network_input(x, preprocessing).to(device.torch))
        (gradient,) = torch.autograd.grad(F.cross_entropy(scores, torch.tensor([target], device=scores.device)), x)
        return (pixels + epsilon * gradient.sign()).clamp(0, 255)

    return device.turn(model, pixels[None]).run(run)


# -- the network --------------------------------------------------------------------------


class Effect(NamedTuple):
    """What a change of the image does: the class probabilities with it, and ‖a′ − a‖ / ‖a‖ of what the network takes and of
    each layer's output a, in order of execution; infinite where a is zero and a′ is not.
    """

    probabilities: np.ndarray
    image: float
    distances: Mapping[str, float]


def effect(model: ResNet, before: Tensor, after: Tensor, layers: Sequence[str], device: Device) -> Effect:
    """Both 1×C×H×W images through a network in one pass; of each layer's output only two norms are kept.

    Raises:
        OutOfMemoryError: where the pass does not fit the device's memory.
    """
    distances: dict[str, float] = {}
    both = torch.cat([before, after])

    def keep(name: str, output: Tensor) -> None:
        distances[name] = distance(output[0], output[1])

    @torch.inference_mode()
    def run() -> Effect:
        with watching_outputs(model, layers, keep):
            scores = model(device.tensor(both))
        probabilities = F.softmax(scores[1].float(), dim=0).cpu().numpy()
        return Effect(probabilities, distance(before, after), distances)

    return device.turn(model, both).run(run)


def distance(before: Tensor, after: Tensor) -> float:
    """‖a′ − a‖ / ‖a‖, Euclidean; 0 where both are zero."""
    before, after = before.cpu().double(), after.cpu().double()  # Apple's GPUs have no such numbers
    whole, difference = float(before.norm()), float((after - before).norm())
    if not whole:
        return math.inf if difference else 0.0
    return difference / whole


def check_effect(trace: Trace) -> None:
    """Whether two images at once fit this server.

    Raises:
        TooLargeError: where they do not.
    """
    check_needs(
        "A changed image is too large to compare here",
        "A smaller image works, or a smaller network",
        Need("it and the image as it is take", 2 * trace.working_memory, MAX_GRADIENT_BYTES, "GiB"),
    )


class Step(NamedTuple):
    """A part of the network that multiplies the difference between two images: by `factor`, from what it reads to what it puts
    out.
    """

    name: str
    before: float
    after: float

    @property
    def factor(self) -> float:
        return self.after / self.before


def parts_in_use(trace: Trace, off: Collection[str] = (), headless: bool = False) -> list[Part]:
    """The drawn parts whose outputs go on: those of a plain block that is off do not, and a `headless` network's classifier is
    zeros.
    """
    plain = trace.config.shortcut == "none"
    return [
        part
        for part in drawn_parts(trace)
        if not (plain and part.identifier in off) and not (headless and part.identifier == "fc")
    ]


def steps(found: Effect, outputs: Mapping[str, str]) -> list[Step]:
    """The parts of a network on its way from image to scores, each by the layer that its output is of; those that a factor
    can be told of.
    """
    values = [found.image, *(found.distances[layer] for layer in outputs.values())]
    pairs = zip(outputs, values, values[1:], strict=False)
    return [Step(*one) for one in pairs if 0 < one[1] < math.inf and math.isfinite(one[2])]
