"""What the networks that ship are beside each other: measured beforehand, so that it is there at once.

    python -m explorer beside    all of it, into beside.json

It writes into the current folder; `--output explorer/samples/beside.json` puts the file where it ships.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from resnet import ResNet
from resnet.command import writable
from resnet.shipped import BUNDLED, intact
from resnet.weights import FASHION_MNIST

from ..inference.ablation import BATCH_SIZE
from ..inference.consistency import Consistency, antialiased, consistency
from ..inference.device import Device
from ..inference.features import block_outputs
from ..inference.samples import labelled_images
from ..sharing.frozen import frozen
from .lesions import Lesion, lesions, movable_blocks, removals, swaps
from .shipped import from_json, labelled_inputs, shipped_network, to_json
from .similarity import cka, gram

RESULTS = Path(__file__).parents[1] / "samples" / "beside.json"
COMMAND = "python -m explorer beside"
SEEDS = (0, 1, 2, 3, 4)
"""Of the orders in which blocks are taken out and swapped."""
SWAPS = (1, 2, 4, 8)
REMOVALS = 4
"""Numbers of blocks taken out that are measured beside a single one, at most, evenly up to all that can be."""
DISTURBED = 200
"""Of the test images that ship, the first so many are those on which disturbed networks are judged."""
DIGITS = 4
"""Significant digits of the numbers in the file."""


class Curves(NamedTuple):
    """A network with blocks taken out, and with blocks swapped: the whole network first, then every number of them by every
    seed.
    """

    removed: tuple[Lesion, ...]
    swapped: tuple[Lesion, ...]


class Shifts(NamedTuple):
    """How often a network names the same class wherever an image lies: as it is, and with a blur put in at its strides."""

    whole: Consistency
    blurred: Consistency


class Results(NamedTuple):
    """The results, what made them, on how many images of the test set, and with which seeds; `disturbed` are the images that the
    curves are on.

    `similarity` is the linear CKA between all blocks of all networks of `BUNDLED`, in their order, K×K; `curves`, and `shifts`,
    which are on all `images` and at all shifts, are by their names.
    """

    command: str
    torch: str
    images: int
    disturbed: int
    seeds: tuple[int, ...]
    similarity: tuple[tuple[float, ...], ...]
    curves: Mapping[str, Curves]
    shifts: Mapping[str, Shifts]


@cache
def shipped_beside() -> Results:
    """The results that ship.

    Raises:
        ShippedError: where their file is missing or damaged.
    """
    with intact(RESULTS):
        return frozen(from_json(RESULTS.read_text(encoding="utf-8"), Results))


def shipped_blocks() -> list[tuple[str, str]]:
    """The network and the block of each row of `Results.similarity`."""
    return [(name, block) for name, config in BUNDLED.items() for block in config.blocks]


# -- measuring ----------------------------------------------------------------------------


def block_grams(model: ResNet, images: Tensor, device: Device) -> list[Tensor]:
    """The Gram matrix of each block's whole maps, in order of depth. Pooled ones would call blocks alike that place the same
    channels elsewhere.

    Raises:
        OutOfMemoryError: where the images do not fit the device's memory together.
    """
    return [gram(maps) for _, maps in block_outputs(model, images, device)]


def removal_counts(movable: int) -> tuple[int, ...]:
    """How many blocks are taken out: one, and at most `REMOVALS` numbers evenly up to all."""
    steps = min(REMOVALS, movable)
    return tuple(sorted({1, *(round(movable * step / steps) for step in range(1, steps + 1))}))


def curves(name: str, device: Device, seeds: tuple[int, ...] = SEEDS) -> Curves:
    """A network that ships, disturbed more and more."""
    model, config, inputs = shipped_network(name), BUNDLED[name], labelled_inputs(DISTURBED)
    counts = removal_counts(len(movable_blocks(config)))
    out = [pair for seed in seeds for pair in zip(counts, removals(config, counts, seed), strict=True)]
    moved = [pair for seed in seeds for pair in zip(SWAPS, swaps(config, SWAPS, seed), strict=True)]
    whole = lesions(model, [(0, config.blocks)], *inputs, device)
    return Curves(*((*whole, *lesions(model, orders, *inputs, device)) for orders in (out, moved)))


def shifts(name: str, device: Device, images: int) -> Shifts:
    """A network that ships on the first so many test images, moved; black comes in at their edges."""
    model, (inputs, labels), normal = shipped_network(name), labelled_inputs(images), FASHION_MNIST.preprocessing
    black = -normal.mean[0] / normal.std[0]
    given = inputs, labels.tolist(), black, device, BATCH_SIZE
    return Shifts(consistency(model, *given), consistency(antialiased(model), *given))


def record(path: Path) -> Iterator[str]:
    """Measure everything on one thread of this processor, and write `path` at the end; yields what was measured.

    Raises:
        WeightsError: where weights that ship are missing or damaged.
        OSError: where `path` cannot be written.
    """
    return _record(writable(path))


def _record(path: Path) -> Iterator[str]:
    torch.set_num_threads(1)
    device, grams, found, moved = Device("cpu", "CPU"), [], {}, {}
    images, _ = labelled_inputs(len(labelled_images().labels))
    for name in BUNDLED:
        grams += block_grams(shipped_network(name), images, device)
        found[name] = curves(name, device)
        moved[name] = shifts(name, device, len(images))
        yield name
    similarity = tuple(map(tuple, cka(grams).tolist()))
    results = Results(COMMAND, torch.__version__, len(images), DISTURBED, SEEDS, similarity, found, moved)
    path.write_text(to_json(results, DIGITS) + "\n", encoding="utf-8", newline="\n")
