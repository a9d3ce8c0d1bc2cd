"""What the networks that ship are beside each other: measured beforehand, so that it is there at once.

    python -m explorer beside --draws 10 --images 500    all of it, into beside.json

It writes into the current folder; `--output explorer/samples/beside.json` puts the file where it ships.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from resnet import ConfigError, ResNet
from resnet.command import writable
from resnet.shipped import BUNDLED, intact
from resnet.weights import FASHION_MNIST

from ..inference.ablation import BATCH_SIZE
from ..inference.consistency import Consistency, antialiased, consistency
from ..inference.device import Device
from ..inference.features import block_outputs
from ..inference.samples import labelled_images
from ..sharing.engine import Run, here
from ..sharing.frozen import frozen
from .lesions import Curves, draw, joined
from .shipped import from_json, labelled_inputs, shipped_network, to_json
from .similarity import cka, gram

RESULTS = Path(__file__).parents[1] / "samples" / "beside.json"
COMMAND = "python -m explorer beside"
DRAWS, DISTURBED = 10, 500
"""Orders in which blocks are taken out and swapped, by the seeds from 0 on, and the first of the test images that ship, on
which disturbed networks are judged.
"""
MAX_DRAWS = 100
DIGITS = 4
"""Significant digits of the numbers in the file."""


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


def shifts(name: str, device: Device, images: int) -> Shifts:
    """A network that ships on the first so many test images, moved; black comes in at their edges."""
    model, (inputs, labels), normal = shipped_network(name), labelled_inputs(images), FASHION_MNIST.preprocessing
    black = -normal.mean[0] / normal.std[0]
    given = inputs, labels.tolist(), black, device, BATCH_SIZE
    return Shifts(consistency(model, *given), consistency(antialiased(model), *given))


def record(path: Path, draws: int = DRAWS, disturbed: int = DISTURBED, run: Run = here) -> Iterator[str]:
    """Measure everything on one thread of where `run` has it done, and write `path` at the end; says after each draw of each network what
    was measured.

    Raises:
        ConfigError: for numbers of draws or images that are not accepted.
        WeightsError: where weights that ship are missing or damaged.
        OSError: where `path` cannot be written.
    """
    whole = len(labelled_images().labels)
    if not 1 <= draws <= MAX_DRAWS:
        raise ConfigError("draws", draws, f"a number from 1 to {MAX_DRAWS}")
    if not 1 <= disturbed <= whole:
        raise ConfigError("images", disturbed, f"a number from 1 to {whole}")
    return _record(writable(path), draws, disturbed, run)


def _record(path: Path, draws: int, disturbed: int, run: Run) -> Iterator[str]:
    for one in run(measure, draws, disturbed):
        if isinstance(one, str):
            yield one
        else:
            path.write_text(to_json(one, DIGITS) + "\n", encoding="utf-8", newline="\n")


def measure(draws: int, disturbed: int) -> Iterator[str | Results]:
    """What was measured last, and at the end all of it."""
    device, grams, found, moved = Device("cpu", "CPU"), [], {}, {}
    images, labels = labelled_inputs(len(labelled_images().labels))
    for name in BUNDLED:
        model, each = shipped_network(name), []
        grams += block_grams(model, images, device)
        for seed in range(draws):
            each.append(draw(model, seed, images[:disturbed], labels[:disturbed], device))
            yield f"{name}, draw {seed + 1}"
        found[name] = joined(each)
        moved[name] = shifts(name, device, len(images))
    similarity = tuple(map(tuple, cka(grams).tolist()))
    command = f"{COMMAND} --draws {draws} --images {disturbed}"
    yield Results(command, torch.__version__, len(images), disturbed, tuple(range(draws)), similarity, found, moved)
