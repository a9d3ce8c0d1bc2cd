"""What every channel of the networks that ship stands for, measured beforehand on Fashion-MNIST's test set.

What each class loses without a channel is counted on the test images that ship. It takes some ten minutes on one core.

    python -m explorer channels --data FOLDER    all of it, into channels.npz

`FOLDER` holds the set's idx files; without it torchvision downloads them. The file is written into the current folder;
`--output explorer/samples/channels.npz` puts it where it ships. Nothing is drawn at random, so there is no seed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from resnet.command import writable
from resnet.shipped import BUNDLED, intact
from resnet.train import fashion_mnist
from resnet.weights import FASHION_MNIST

from ..analysis.layers import Layer
from ..analysis.trace import trace
from ..inference.channels import (
    ByClass,
    Extremes,
    Peaks,
    Responses,
    Silence,
    by_class,
    peaks,
    places,
    responses,
    silence,
    split_after,
)
from ..inference.device import Device
from ..inference.samples import labelled_images
from ..inference.turns import forward_in_turn
from ..sharing.engine import Run, here
from ..sharing.frozen import frozen
from .shipped import labelled_inputs, shipped_network

CHANNELS = Path(__file__).parents[1] / "samples" / "channels.npz"
COMMAND = "python -m explorer channels --data FOLDER"
STRONGEST = 100
"""Images of the test set, of those that excite a channel most, that are counted by their classes: one in a hundred."""
NETWORKS = len(BUNDLED)
BATCH = 40
"""Images that go through a network together."""


class Channels(NamedTuple):
    """What the C channels of a place of a network that ships answer to the whole test set, and by its classes; and what the
    classes of the test images that ship lose without each.
    """

    responses: Responses
    by_class: ByClass
    silence: Silence


class Gallery(NamedTuple):
    """The images of the test set that the channels name: their N numbers there in order, N×28×28 grey bytes, N classes."""

    numbers: np.ndarray
    images: np.ndarray
    labels: np.ndarray

    def place(self, number: int) -> int:
        """Where an image of the test set stands here."""
        return int(np.searchsorted(self.numbers, number))


@cache
def shipped_channels(name: str) -> Mapping[str, Channels]:
    """The channels of a network of `BUNDLED` by their places.

    Raises:
        ShippedError: where their file is missing or damaged.
    """
    with intact(CHANNELS):
        return frozen(_channels(name, _arrays(), places(trace(BUNDLED[name], FASHION_MNIST.preprocessing.size))))


@cache
def gallery() -> Gallery:
    """
    Raises:
        ShippedError: as `shipped_channels`.
    """
    with intact(CHANNELS):
        arrays = _arrays()
        return frozen(Gallery(*(arrays[field] for field in Gallery._fields)))


@cache
def _arrays() -> dict[str, np.ndarray]:
    # numpy leaves a damaged file open that it opened itself
    with CHANNELS.open("rb") as stream, np.load(stream) as file:
        return {name: file[name] for name in file.files}


def _channels(name: str, arrays: Mapping[str, np.ndarray], layers: Mapping[str, Layer]) -> dict[str, Channels]:
    """The channels of a network, place by place, of the arrays in which those of all places follow each other."""
    sizes = [layer.out_shape[0] for layer in layers.values()]
    found, start = {}, 0
    for place, size in zip(layers, sizes, strict=True):

        def part(field: str, rows: slice = slice(start, start + size)) -> np.ndarray:
            return arrays[f"{name} {field}"][rows]

        best, least = (Extremes(*(part(f"{end} {field}") for field in Extremes._fields)) for end in ("best", "least"))
        kept = part("right"), arrays[f"{name} whole"], arrays[f"{name} counts"]
        zeroed = Silence(*(array.astype(int) for array in kept))
        strongest = ByClass(part("strongest"), part("means"))
        found[place] = Channels(Responses(best, least, part("quantiles")), strongest, zeroed)
        start += size
    return found


# -- measuring ----------------------------------------------------------------------------


def measure(name: str, images: Tensor, device: Device) -> dict[str, Peaks]:
    """The peaks of every place of a network of `BUNDLED` on N×1×28×28 normalised images, by the places' names."""
    network, layers = shipped_network(name), places(trace(BUNDLED[name], FASHION_MNIST.preprocessing.size))
    found = {
        place: Peaks(
            *(np.empty((len(images), layer.out_shape[0]), kind) for kind in (np.float32, np.int32, np.float64))
        )
        for place, layer in layers.items()
    }
    for start in range(0, len(images), BATCH):
        rows = slice(start, start + BATCH)
        batch = peaks(network, images[rows], [layer.name for layer in layers.values()], device)
        # Copied: small arrays that stay would lie between the maps of batches, whose memory could not be used again.
        for place, layer in layers.items():
            for whole, part in zip(found[place], batch[layer.name], strict=True):
                whole[rows] = part
    return found


def measure_silence(name: str, place: str, images: Tensor, labels: Tensor, device: Device) -> Silence:
    """What the classes of N×1×28×28 normalised images with N labels lose without each channel of a place of a network of
    `BUNDLED`.
    """
    network = device.network(shipped_network(name))
    before, after = split_after(network, place)
    outputs = (forward_in_turn(before, device.tensor(batch)) for batch in images.split(BATCH))
    channels = range(places(trace(BUNDLED[name], FASHION_MNIST.preprocessing.size))[place].out_shape[0])
    return silence(after, outputs, channels, labels.numpy(), len(FASHION_MNIST.categories))


# -- the file -----------------------------------------------------------------------------


def record(path: Path, data: Path | None, run: Run = here) -> Iterator[str]:
    """Measure every network on one thread of where `run` has it done, and write `path` at the end; gives each one's name.

    `data` holds the idx files of Fashion-MNIST, or torchvision downloads them.

    Raises:
        FileNotFoundError, MissingError: as `resnet.train.fashion_mnist`.
        WeightsError: where weights that ship are missing or damaged.
        OSError: where `path` cannot be written.
    """
    writable(path)
    return _record(path, *fashion_mnist(data, train=False), run)


def _record(path: Path, images: Tensor, labels: Tensor, run: Run) -> Iterator[str]:
    arrays: dict[str, np.ndarray] = {}
    for name, found in run(measure_all, images, labels):
        arrays |= found
        yield name
    write(path, arrays, images, labels)


def measure_all(images: Tensor, labels: Tensor) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """The name of each network of `BUNDLED`, and what the file holds of it."""
    device = Device("cpu", "CPU")
    for name in BUNDLED:
        found = measure(name, images, device)
        yield name, to_arrays(name, found.values(), labels.numpy()) | silence_arrays(name, device)


def to_arrays(name: str, found: Collection[Peaks], labels: np.ndarray) -> dict[str, np.ndarray]:
    """What the file holds of a network, of the peaks of its places in their order."""
    arrays: dict[str, np.ndarray] = {}
    answers = [responses(one) for one in found]
    for end in ("best", "least"):
        for field, kind in zip(Extremes._fields, (np.uint16, np.uint16, np.float32), strict=True):
            every = [getattr(getattr(one, end), field) for one in answers]
            arrays[f"{name} {end} {field}"] = np.concatenate(every).astype(kind)
    classed = [by_class(one, labels, len(FASHION_MNIST.categories), STRONGEST) for one in found]
    arrays[f"{name} quantiles"] = np.concatenate([one.quantiles for one in answers]).astype(np.float16)
    arrays[f"{name} strongest"] = np.concatenate([one.strongest for one in classed]).astype(np.uint8)
    arrays[f"{name} means"] = np.concatenate([one.means for one in classed]).astype(np.float16)
    return arrays


def silence_arrays(name: str, device: Device) -> dict[str, np.ndarray]:
    """What the file holds of a network without each of its channels, of the places in their order, on all labelled images."""
    images, labels = labelled_inputs(len(labelled_images().labels))
    layers = places(trace(BUNDLED[name], FASHION_MNIST.preprocessing.size))
    found = [measure_silence(name, place, images, labels, device) for place in layers]
    whole = found[0]._replace(right=np.concatenate([one.right for one in found]))
    return {f"{name} {field}": array.astype(np.int16) for field, array in whole._asdict().items()}


def write(path: Path, arrays: Mapping[str, np.ndarray], images: Tensor, labels: Tensor) -> None:
    """Write the arrays of all networks, the test images that they name, and what made the file."""
    numbers = np.unique(np.concatenate([one.ravel() for name, one in arrays.items() if name.endswith(" images")]))
    (mean,), (std,) = FASHION_MNIST.preprocessing.mean, FASHION_MNIST.preprocessing.std
    rows = numbers.astype(int)
    grey = ((images[rows, 0] * std + mean) * 255).round().numpy().astype(np.uint8)
    shown = Gallery(numbers, grey, labels.numpy()[rows].astype(np.uint8))
    made = {"command": np.array(COMMAND), "torch": np.array(torch.__version__)}
    with path.open("wb") as file:  # numpy would add .npz to another name
        np.savez_compressed(file, **made, **arrays, **shown._asdict())  # type: ignore[arg-type]
