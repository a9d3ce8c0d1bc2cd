"""An image as a network takes it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from resnet.weights import Preprocessing

from .turns import in_turn


def normalised(images: np.ndarray, preprocessing: Preprocessing) -> Tensor:
    """N×H×W grey bytes as the N×1×H×W that a network of this preprocessing takes, size unchanged."""
    return ((torch.tensor(images, dtype=torch.float32) / 255 - preprocessing.mean[0]) / preprocessing.std[0])[:, None]


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image as a network takes it: `input_image` are the bytes H×W×C that it really sees, of which pixels and tensor are made
    where they are needed, since they take four times as much.

    `inverted` says whether brightness was inverted first.
    """

    input_image: np.ndarray
    inverted: bool
    preprocessing: Preprocessing

    @property
    def pixels(self) -> np.ndarray:
        """H×W×C in 0…1."""
        return self.input_image.astype(np.float32) / 255

    @property
    def tensor(self) -> Tensor:
        """1×C×H×W, normalised."""
        mean, std = (torch.tensor(each)[:, None, None] for each in (self.preprocessing.mean, self.preprocessing.std))

        def make() -> Tensor:
            # One copy and no more: a large image is hundreds of MB.
            channels_first = np.ascontiguousarray(self.input_image.transpose(2, 0, 1), dtype=np.float32)
            return torch.from_numpy(channels_first).div_(255).sub_(mean).div_(std)[None]

        return in_turn(self.input_image.size, make)


def prepare(image: Image.Image, preprocessing: Preprocessing, invert: bool | None = None) -> Prepared:
    """Scale, crop or fit, and normalise an RGB image to 1×C×H×W.

    `invert` None decides by the border: networks trained on bright objects on black get a
    image with a bright border inverted.
    """
    most = max(math.prod(image.size), math.prod(preprocessing.size))
    return in_turn(3 * most, lambda: _prepare(image, preprocessing, invert))


def _prepare(image: Image.Image, preprocessing: Preprocessing, invert: bool | None) -> Prepared:
    grey = len(preprocessing.mean) == 1
    image = image.convert("L" if grey else "RGB")
    if invert is None:
        invert = preprocessing.bright_on_dark and border_brightness(image) > 127
    if invert:
        image = ImageOps.invert(image)
    shown = fitted(image, preprocessing) if preprocessing.fit else cropped(image, preprocessing)
    seen = np.asarray(shown).reshape(*preprocessing.size, -1)
    channels = len(preprocessing.mean)
    if seen.shape[2] != channels:  # an untrained network of any input depth sees the colours in turn
        seen = seen[:, :, [i % seen.shape[2] for i in range(channels)]]
    return Prepared(seen, invert, preprocessing)


def fitted(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The whole image in the middle of the background."""
    crop = preprocessing.size[::-1]  # width, height, as images have it
    target, side = min(zip(crop, image.size, strict=True), key=lambda pair: pair[0] / pair[1])
    scaled = [max(1, round(length * target / side)) for length in image.size]
    background = 0 if preprocessing.bright_on_dark else round(255 * preprocessing.mean[0])
    whole = Image.new(image.mode, crop, background if image.mode == "L" else (background,) * 3)
    corner = [(outer - inner) // 2 for outer, inner in zip(crop, scaled, strict=True)]
    whole.paste(image.resize((scaled[0], scaled[1]), resampling(preprocessing)), (corner[0], corner[1]))
    return whole


def cropped(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The middle of the image, scaled as `Preprocessing` says: of a square, as torchvision's ImageClassification.

    Where more is kept than is scaled, the rest is black. Of a very long image only that middle is computed, so that it takes
    no more memory than another; a byte may then differ by one, or rarely two, where box edges are rounded.
    """
    crop = preprocessing.size[::-1]  # width, height, as images have it
    tight, shortest = max(zip(crop, image.size, strict=True), key=lambda pair: pair[0] / pair[1])
    target = round(preprocessing.resize * tight / min(crop))
    width, height = scaled = [target * side // shortest for side in image.size]
    left, top = first = [round((after - size) / 2) for after, size in zip(scaled, crop, strict=True)]
    if width * height <= MAX_SCALED * math.prod(crop):
        whole = image.resize((width, height), resampling(preprocessing))
        return whole.crop((left, top, left + crop[0], top + crop[1]))
    along = 1 if scaled[1] * crop[0] > scaled[0] * crop[1] else 0
    start, stop = max(0, first[along]), min(first[along] + crop[along], scaled[along])
    middle = resized_part(image, (width, height), along, start, stop, resampling(preprocessing))
    corner = [-left, -top]
    corner[along] += start
    kept = Image.new(image.mode, crop)
    kept.paste(middle, (corner[0], corner[1]))
    return kept


MAX_SCALED = 8
"""How many times as large as what is kept of it a scaled image may be."""


def resized_part(
    image: Image.Image, scaled: tuple[int, int], along: int, start: int, stop: int, filter_: Image.Resampling
) -> Image.Image:
    """What lies from `start` up to `stop` along an axis, 0 for x and 1 for y, of an image after it was scaled.

    Pillow scales one axis after the other, with bytes between, where bicubic overshoots are lost, and takes the order from
    the sizes that it is given: here it is that of the whole image.
    """
    step = image.size[along] / scaled[along]
    low, high = start * step, min(stop * step, image.size[along])
    reach = math.ceil(2 * max(step, 1)) + 1  # pixels that the widest kernel takes from beyond an edge, and one
    outer = [0, 0, *image.size]
    outer[along], outer[along + 2] = max(0, int(low) - reach), min(image.size[along], math.ceil(high) + reach)
    part = image.crop((outer[0], outer[1], outer[2], outer[3]))
    narrower, lower = (before - after for before, after in zip(image.size, scaled, strict=True))
    for axis in (1, 0) if lower > max(0, 2 * narrower) else (0, 1):
        size, box = [*part.size], [0.0, 0.0, *part.size]
        size[axis] = scaled[axis]
        if axis == along:
            size[axis], box[axis], box[axis + 2] = stop - start, low - outer[axis], high - outer[axis]
        part = part.resize((size[0], size[1]), filter_, (box[0], box[1], box[2], box[3]))
    return part


def resampling(preprocessing: Preprocessing) -> Image.Resampling:
    """Pillow's name for how an image is scaled."""
    return Image.Resampling[preprocessing.interpolation.upper()]


def border_brightness(image: Image.Image) -> float:
    """The mean brightness of an image's outermost pixels, 0 to 255."""
    small = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX))
    return float(np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]]).mean())
