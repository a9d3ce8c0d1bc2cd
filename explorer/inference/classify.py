"""The most probable classes of images from outside, each by itself."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from resnet.options import plain
from resnet.weights import Preprocessing

from .device import Device
from .images import ImageError, open_image
from .predict import predict
from .preprocess import Prepared, prepare
from .weights import Chosen

TOP = 5
"""Classes of an image that are named."""


class Class(NamedTuple):
    """A class by its number and its name, and its probability."""

    number: int
    name: str
    probability: float


class Classified(NamedTuple):
    """An image by its path and its most probable classes, the best first; whether its brightness was inverted first, as
    networks ask for that were trained on bright objects on black. Where it has none, `problem` says why, in a sentence."""

    image: str
    classes: tuple[Class, ...] = ()
    inverted: bool = False
    problem: str = ""


def classified(image: str, chosen: Chosen, device: Device) -> Classified:
    """The classes of the image at a path, by a network on a device and its weights' own preprocessing.

    Raises:
        PassError: where the pass takes too much.
    """
    data = chosen.weights.data
    try:
        prepared = prepared_file(image, data.preprocessing)
    except ImageError as error:
        return Classified(image, problem=str(error))
    found = predict(chosen.network, prepared.tensor, device)
    if not found.finite:
        return Classified(image, problem="Its scores overflow: other weights or another size are accepted.")
    best = tuple(Class(number, data.categories[number], probability) for number, probability in found.top(TOP))
    return Classified(image, best, prepared.inverted)


def prepared_file(image: str, preprocessing: Preprocessing) -> Prepared:
    """The image at a path as a network takes it.

    Raises:
        ImageError: where it cannot be read.
    """
    try:
        return prepare(open_image(Path(image).read_bytes()), preprocessing)
    except ImageError:
        raise
    except (OSError, ValueError) as error:  # the latter for a path that no system takes
        raise ImageError(f"It cannot be read ({unreadable(error)}): a file is accepted.") from error


def unreadable(error: Exception) -> str:
    return plain((isinstance(error, OSError) and error.strerror) or error, 80)
