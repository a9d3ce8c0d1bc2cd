"""The images that come with the project."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from resnet.datasets import FASHION_MNIST
from resnet.shipped import intact

from . import decode
from .images import ImageError

_SAMPLES = Path(__file__).parents[1] / "samples"


@dataclass(frozen=True)
class Sample:
    """An image that comes with the project; `file` is relative to the samples folder."""

    name: str
    file: str
    label: str
    source: str
    licence: str

    def open(self) -> bytes:
        """The file's bytes, as `open_image` takes them.

        Raises:
            ImageError: where the file is missing or cannot be read.
        """
        try:
            return (_SAMPLES / self.file).read_bytes()
        except OSError as error:
            raise ImageError(f"The file {self.file} cannot be read: {error.strerror or error}.") from error

    def image(self) -> Image.Image:
        """The image, decoded in this process, since the file is ours.

        Raises:
            ImageError: where the file is missing, damaged or cannot be read.
        """
        try:
            return decode.decode(self.open())
        except decode.DecodeError as error:
            raise ImageError(
                f"The sample {self.name} is missing or damaged: installing the app again mends it."
            ) from error

    def pixels(self) -> np.ndarray:
        """The same as H×W×3 bytes.

        Raises:
            ImageError: as `image` does.
        """
        return np.asarray(self.image())


@cache
def samples() -> tuple[Sample, ...]:
    """Every sample, in the order of `samples.json`.

    Raises:
        ShippedError: where that file is missing or damaged.
    """
    path = _SAMPLES / "samples.json"
    with intact(path):
        return tuple(Sample(**entry) for entry in json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class LabelledSample(Sample):
    """One of `labelled_images`, by its `index` among them."""

    index: int = 0

    def open(self) -> bytes:
        buffer = io.BytesIO()
        self.image().save(buffer, "PNG")
        return buffer.getvalue()

    def image(self) -> Image.Image:
        return Image.fromarray(labelled_images().images[self.index]).convert("RGB")


TEST = "fashion-test-"
"""How a link names one of `labelled_images`: with its index after this."""


def labelled_name(index: int) -> str:
    return f"{TEST}{index:03}"


def labelled_image(name: str) -> LabelledSample | None:
    """The labelled image of this name; None for another name.

    Raises:
        ShippedError: where their file is missing or damaged.
    """
    if not re.fullmatch(rf"{TEST}[0-9]{{3}}", name) or (index := int(name[-3:])) >= len(labelled_images().labels):
        return None
    label = FASHION_MNIST.categories[labelled_images().labels[index]]
    source = f"{FASHION_MNIST.name}, test image {index}"
    return LabelledSample(name, "fashion-test.npz", label, source, FASHION_MNIST.licence, index)


class LabelledImages(NamedTuple):
    """Images N×28×28, grey bytes, and the number of each one's class."""

    images: np.ndarray
    labels: np.ndarray


@cache
def labelled_images() -> LabelledImages:
    """The first 500 images of Fashion-MNIST's test set, none of which the shipped networks were trained on.

    Raises:
        ShippedError: where their file is missing or damaged.
    """
    return read_labelled(_SAMPLES / "fashion-test.npz")


def read_labelled(path: Path) -> LabelledImages:
    """Labelled images of a file that ships; nobody can write into them.

    Raises:
        ShippedError: where the file is missing or damaged.
    """
    # numpy leaves a damaged file open that it opened itself
    with intact(path), path.open("rb") as stream, np.load(stream) as file:
        found = LabelledImages(file["images"], file["labels"])
    for array in found:
        array.flags.writeable = False
    return found
