"""Running a network on a picture: preparation, prediction, activations, device, limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from resnet import ResNet
from resnet.weights import Preprocessing

from .trace import Trace

MAX_WEIGHT_BYTES = 2**30
MAX_ACTIVATION_BYTES = 2**30
MAX_MACS = 40e9
"""What one forward pass on a shared server may take."""

ONE_AT_A_TIME = threading.Lock()
"""Hooks belong to a model that several people share, and memory for one pass is what the limits allow."""


class TooLargeError(ValueError):
    """A network that can be explored but not run here, in one sentence with estimate and limit."""


def check_runnable(trace: Trace) -> None:
    """Whether a forward pass fits this server.

    Raises:
        TooLargeError: where weights, activations or arithmetic exceed a limit.
    """
    gib, giga = 2**30, 1e9
    estimates = (
        ("its weights take", trace.params * 4, MAX_WEIGHT_BYTES, gib, "GiB"),
        ("a picture's activations take", trace.inference_memory.bytes, MAX_ACTIVATION_BYTES, gib, "GiB"),
        ("a picture takes", trace.macs, MAX_MACS, giga, "GMACs"),
    )
    for what, estimate, limit, unit, name in estimates:
        if estimate > limit:
            raise TooLargeError(
                f"This network is too large to run here: {what} {estimate / unit:,.1f} {name}, "
                f"and the limit is {limit / unit:,.1f} {name}. Everything but running it works."
            )


# -- device -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Device:
    """Where networks run: torch's name for it, and one for people."""

    torch: str
    name: str


def best_device() -> Device:
    """CUDA if there is one, else MPS, else the CPU."""
    if torch.cuda.is_available():
        return Device("cuda", torch.cuda.get_device_name())
    if torch.backends.mps.is_available():
        return Device("mps", "Apple GPU")
    return Device("cpu", f"CPU, {torch.get_num_threads()} threads")


# -- preparation --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture as a network takes it: `pixels` is H×W×C in 0…1, what the network really sees.

    `inverted` says whether brightness was inverted first.
    """

    pixels: np.ndarray
    inverted: bool
    tensor: Tensor


def prepare(picture: Image.Image, preprocessing: Preprocessing, invert: bool | None = None) -> Prepared:
    """Scale, crop or fit, and normalise an RGB picture to 1×C×H×W.

    `invert` None decides by the border: networks trained on bright objects on black get a
    picture with a bright border inverted.
    """
    grey = len(preprocessing.mean) == 1
    picture = picture.convert("L" if grey else "RGB")
    if invert is None:
        invert = preprocessing.bright_on_dark and border_brightness(picture) > 127
    if invert:
        picture = ImageOps.invert(picture)
    size = preprocessing.crop
    shown = fitted(picture, preprocessing) if preprocessing.fit else cropped(picture, preprocessing)
    pixels = np.asarray(shown, dtype=np.float32).reshape(size, size, -1) / 255
    channels = len(preprocessing.mean)
    if pixels.shape[2] != channels:  # an untrained network of any input depth sees the colours in turn
        pixels = pixels[:, :, [i % pixels.shape[2] for i in range(channels)]]
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    tensor = (torch.from_numpy(pixels.copy()).permute(2, 0, 1) - mean) / std
    return Prepared(pixels, invert, tensor[None])


def fitted(picture: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The whole picture in the middle of a square of background."""
    size, longest = preprocessing.crop, max(picture.size)
    width, height = (max(1, round(side * size / longest)) for side in picture.size)
    background = 0 if preprocessing.bright_on_dark else round(255 * preprocessing.mean[0])
    square = Image.new(picture.mode, (size, size), background if picture.mode == "L" else (background,) * 3)
    square.paste(
        picture.resize((width, height), Image.Resampling.BILINEAR), ((size - width) // 2, (size - height) // 2)
    )
    return square


def cropped(picture: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The middle square after the shorter side became `resize` pixels, as torchvision's ImageClassification.

    Only that square is computed, so that a very long picture takes no more memory than another.
    """
    size, shortest = preprocessing.crop, min(picture.size)
    scaled = [int(preprocessing.resize * side / shortest) for side in picture.size]
    corner = [round((side - size) / 2) for side in scaled]
    steps = [side / after for side, after in zip(picture.size, scaled, strict=True)]
    (left, right), (top, bottom) = (
        (first * step, min((first + size) * step, side))
        for first, step, side in zip(corner, steps, picture.size, strict=True)
    )
    return picture.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, right, bottom))


def border_brightness(picture: Image.Image) -> float:
    """The mean brightness of a picture's outermost pixels, 0 to 255."""
    small = np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.BOX))
    return float(np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]]).mean())


# -- prediction and activations -----------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Prediction:
    """Class probabilities, the seconds that a bare forward pass took, and the strongest map of each watched layer.

    A map is H×W, at most 32 pixels a side, of the channel with the largest mean magnitude.
    """

    probabilities: np.ndarray
    seconds: float
    device: Device
    strongest: dict[str, np.ndarray]

    @property
    def finite(self) -> bool:
        """False where activations overflowed, so that the probabilities mean nothing."""
        return bool(np.isfinite(self.probabilities).all())

    def top(self, count: int) -> list[tuple[int, float]]:
        """The most probable classes with their probabilities, the best first."""
        best = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(int(index), float(self.probabilities[index])) for index in best]


def predict(model: ResNet, picture: Tensor, device: Device, watched: Sequence[str] = ()) -> Prediction:
    """Run a 1×C×H×W picture: once bare, for the time, and once with an eye on the `watched` layers."""
    found: dict[str, np.ndarray] = {}
    with ONE_AT_A_TIME, torch.inference_mode():
        picture = picture.to(device.torch)
        synchronise(device)
        start = time.perf_counter()
        scores = model(picture)
        synchronise(device)
        seconds = time.perf_counter() - start
        with ExitStack() as hooks:
            for name in watched:
                handle = model.get_submodule(name).register_forward_hook(
                    lambda _, __, output, name=name: found.update({name: strongest_map(output[0])})
                )
                hooks.callback(handle.remove)
            if watched:
                model(picture)
        probabilities = F.softmax(scores[0].float(), dim=0).cpu().numpy()
    return Prediction(probabilities, seconds, device, found)


def synchronise(device: Device) -> None:
    """Wait for queued work, so that a clock reads what was done."""
    if device.torch == "cuda":
        torch.cuda.synchronize()
    elif device.torch == "mps":
        torch.mps.synchronize()


def strongest_map(output: Tensor) -> np.ndarray:
    """The map of the strongest channel of C×H×W (or of C), at most 32 pixels a side."""
    maps = output.float().reshape(len(output), 1, -1) if output.ndim == 1 else output.float()
    chosen = maps[maps.abs().mean((1, 2)).nan_to_num().argmax()]
    if max(chosen.shape) > 32:
        chosen = F.adaptive_avg_pool2d(chosen[None], (min(32, len(chosen)), min(32, chosen.shape[1])))[0]
    return chosen.cpu().numpy()


def activation(model: ResNet, picture: Tensor, layer: str, device: Device) -> np.ndarray:
    """The output of one layer on a 1×C×H×W picture: C×H×W, or C×1×1 after flattening."""
    kept: list[Tensor] = []
    with ONE_AT_A_TIME, torch.inference_mode():
        handle = model.get_submodule(layer).register_forward_hook(lambda _, __, output: kept.append(output))
        try:
            model(picture.to(device.torch))
        finally:
            handle.remove()
        output = kept[0][0].float()
        return output.reshape(*output.shape, *[1] * (3 - output.ndim)).cpu().numpy()


def by_strength(maps: np.ndarray) -> np.ndarray:
    """Channel numbers of C×H×W by mean magnitude, the strongest first."""
    return np.argsort(-np.nan_to_num(np.abs(maps).mean((1, 2))), kind="stable")


class Statistics(NamedTuple):
    """An activation in five numbers; `zeros` is the share of exact zeros."""

    mean: float
    std: float
    low: float
    high: float
    zeros: float


def statistics(maps: np.ndarray) -> Statistics:
    return Statistics(
        float(maps.mean()), float(maps.std()), float(maps.min()), float(maps.max()), float((maps == 0).mean())
    )
