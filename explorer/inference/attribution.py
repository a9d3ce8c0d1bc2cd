"""Which places of an image speak for a class, and what the weights that read it look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet import ResNet

from ..analysis.cost import work_macs
from ..analysis.trace import Trace
from ..sharing.store import Progress, no_progress
from .device import Device
from .limits import MAX_GRADIENT_BYTES


def grad_cam(model: ResNet, image: Tensor, layers: Sequence[str], target: int, device: Device) -> dict[str, np.ndarray]:
    """ReLU(Σ_c α_c · A_c) of each named layer, H×W of its map, α_c the mean gradient of class `target`'s score
    over the positions of channel c, all in one pass of a 1×C×H×W image (Selvaraju 2017,
    https://arxiv.org/abs/1610.02391, equations 1 and 2). Zero in a branch that is switched off.

    Raises:
        OutOfMemoryError: where the pass does not fit the device's memory.
    """
    outputs: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        return lambda module, args, output: outputs.update({name: output.requires_grad_()})

    def run() -> dict[str, np.ndarray]:
        with ExitStack() as hooks:
            for name in layers:
                hooks.callback(model.get_submodule(name).register_forward_hook(watch(name)).remove)
            score = model(image.to(device.torch))[0, target]
        gradients = torch.autograd.grad(score, list(outputs.values()), materialize_grads=True)
        maps = {
            name: F.relu((gradient.mean((2, 3), keepdim=True) * output.detach()).sum(1))[0]
            for (name, output), gradient in zip(outputs.items(), gradients, strict=True)
        }
        return {name: map.detach().float().cpu().numpy() for name, map in maps.items()}

    return device.turn(model, image).run(run)


class Attribution(NamedTuple):
    """Integrated gradients: `pixels` H×W, summed over the image's channels, and how complete they are.

    `difference` is the class score of the image less that of the baseline, which the pixels
    add up to in the limit of many steps.
    """

    pixels: np.ndarray
    difference: float

    @property
    def total(self) -> float:
        """What all pixels add together, to hold against `difference`."""
        return float(self.pixels.sum())


STEPS, BATCH = 32, 4
STEP_WORK = 150e9
"""Multiply-adds, forward, of the images that go through together: about a second forward and back on two cores."""


def batch_size(trace: Trace) -> int:
    """How many of the `STEPS` go through a network at once."""
    fitting = min(STEP_WORK // work_macs(trace), MAX_GRADIENT_BYTES // trace.gradient_memory)
    return int(max(1, min(BATCH, fitting)))


def integrated_gradients(
    model: ResNet, image: Tensor, target: int, device: Device, progress: Progress = no_progress, batch: int = BATCH
) -> Attribution:
    """What each pixel adds to the score of class `target` on the straight way from the mean image (zeros after
    normalisation) to a 1×C×H×W image, by captum (Sundararajan 2017, https://arxiv.org/abs/1703.01365).

    Each `batch` of steps takes a turn, and `progress` is called after it.

    Raises:
        OutOfMemoryError: where a batch does not fit the device's memory.
    """
    from captum.attr import IntegratedGradients

    done, turn = 0, device.turn(model, image)
    method = IntegratedGradients(model)
    gradients = method.gradient_func

    def in_turn(*given: Any, **named: Any) -> tuple[Tensor, ...]:
        nonlocal done
        found = turn.run(lambda: gradients(*given, **named))
        done += len(found[0])
        progress(min(1.0, done / STEPS))
        return found

    method.gradient_func = in_turn
    given = image.to(device.torch)
    with torch.enable_grad():
        found = method.attribute(given, target=target, n_steps=STEPS, internal_batch_size=batch)

    @torch.inference_mode()
    def scores() -> list[float]:
        return model(torch.cat([given, torch.zeros_like(given)]))[:, target].tolist()

    here, nowhere = turn.run(scores)
    return Attribution(found[0].detach().sum(0).float().cpu().numpy(), here - nowhere)


# -- weights ------------------------------------------------------------------------------


def first_convolution(model: ResNet) -> tuple[str, np.ndarray]:
    """The path of the convolution that reads the image, and its kernels, C_out×C_in×k×k."""
    name, module = next((name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d))
    return name, module.weight.detach().float().cpu().numpy()


def kernel_images(kernels: np.ndarray) -> list[np.ndarray]:
    """C_out×C×k×k kernels as k×k×3 bytes on one scale, grey being zero; three channels are red, green and blue.

    Of another number of channels the mean is shown.
    """
    shown = kernels if kernels.shape[1] == 3 else kernels.mean(1, keepdims=True).repeat(3, 1)
    largest = float(np.abs(np.nan_to_num(shown)).max()) or 1.0
    scaled = 127.5 + 127.5 * np.nan_to_num(shown) / largest
    return list(scaled.round().astype(np.uint8).transpose(0, 2, 3, 1))


class Slices(NamedTuple):
    """One kernel of a convolution, C×k×k: a slice for each channel that it reads, of which the `first` is that of its group;
    `order` are the slices' places in `values`, the largest by Euclidean norm first.
    """

    values: np.ndarray
    first: int
    order: np.ndarray


def slices(model: ResNet, name: str, channel: int) -> Slices:
    """The kernel that writes a channel of a convolution's output."""
    module = model.get_submodule(name)
    assert isinstance(module, nn.Conv2d)
    values = np.nan_to_num(module.weight.detach()[channel].float().cpu().numpy())
    first = channel // (module.out_channels // module.groups) * len(values)
    return Slices(values, first, np.argsort(-np.linalg.norm(values, axis=(1, 2)), kind="stable"))


def initial_deviation(module: nn.Module) -> float | None:
    """The standard deviation that a convolution's weights started with: √(2 / (k² · C_out)) (He 2015,
    https://arxiv.org/abs/1502.01852, section 2.2, backward case); None for other layers.
    """
    if not isinstance(module, nn.Conv2d):
        return None
    return (2 / (module.kernel_size[0] * module.kernel_size[1] * module.out_channels)) ** 0.5
