"""What can be read from each block's output: linear probes (Alain and Bengio 2016, https://arxiv.org/abs/1610.01644), and
the network's own classifier where it reads early.

    python -m explorer probes --data FOLDER    all of it, into probes.json

It writes into the current folder; `--output explorer/samples/probes.json` puts the file where it ships.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet import ResNet
from resnet.command import writable
from resnet.shipped import BUNDLED, intact
from resnet.train import fashion_mnist

from ..inference.device import Device
from ..inference.features import block_outputs, early_readers, head, pooled
from ..inference.samples import labelled_images
from ..inference.turns import forward_in_turn
from ..sharing.engine import Run, here
from ..sharing.frozen import frozen
from ..sharing.store import Progress, no_progress
from .shipped import from_json, shipped_network, to_json

RESULTS = Path(__file__).parents[1] / "samples" / "probes.json"
COMMAND = "python -m explorer probes"
SEEDS = (0, 1, 2)
EPOCHS, BATCH, RATE = 5, 500, 0.02
"""Passes over the training images, images in a step, and Adam's rate at first, which falls to zero on a line."""
DIGITS = 4
"""Significant digits of the numbers in the file."""
TOGETHER = 250
"""Images that go through a network at once."""


class Probe(NamedTuple):
    """A linear classifier of a block's pooled output: scores are `weight` · x + `bias`, K×C and K."""

    weight: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]

    def scores(self, features: Tensor) -> Tensor:
        """N×K scores of N×C features."""
        return F.linear(features, torch.tensor(self.weight), torch.tensor(self.bias))


class BlockProbe(NamedTuple):
    """What a block's output tells a probe.

    `accuracies` are the shares of the whole test set that it gets right, of a probe trained with each of the seeds. The first
    of these is the `probe`, and `on_samples` its share of the test images that ship.
    """

    block: str
    accuracies: tuple[float, ...]
    probe: Probe
    on_samples: float

    @property
    def accuracy(self) -> float:
        """The mean over the seeds."""
        return sum(self.accuracies) / len(self.accuracies)


class EarlyReading(NamedTuple):
    """The network's own classifier on a block's output: its share of the whole test set, and of the test images that ship."""

    block: str
    accuracy: float
    on_samples: float


class NetworkProbes(NamedTuple):
    """All of a network's, in order of depth. The last of `early` is the network itself."""

    probes: tuple[BlockProbe, ...]
    early: tuple[EarlyReading, ...]


class Results(NamedTuple):
    """The results by the networks' names in `BUNDLED`; what made them, and on how many images they were trained and tested."""

    command: str
    torch: str
    seeds: tuple[int, ...]
    trained_on: int
    tested_on: int
    networks: Mapping[str, NetworkProbes]


@cache
def shipped_probes() -> Results:
    """The results that ship.

    Raises:
        ShippedError: where their file is missing or damaged.
    """
    with intact(RESULTS):
        return frozen(from_json(RESULTS.read_text(encoding="utf-8"), Results))


# -- measuring ----------------------------------------------------------------------------


class Readings(NamedTuple):
    """What the blocks of a network make of N images: pooled `features` N×C of each, and the scores N×K that its classifier
    gives after each block of the last stage, which after the last one are the network's.
    """

    features: Mapping[str, Tensor]
    early: Mapping[str, Tensor]


def read_blocks(model: ResNet, images: Tensor, device: Device, progress: Progress = no_progress) -> Readings:
    """The readings of normalised images N×C×H×W; `progress` is called after each `TOGETHER` of them.

    Raises:
        OutOfMemoryError: where `TOGETHER` of them do not fit the device's memory.
    """
    features: dict[str, Tensor] = {}
    early: dict[str, Tensor] = {}
    classifier, readers = head(model), early_readers(model)

    def keep(kept: dict[str, Tensor], name: str, first: int, values: Tensor) -> None:
        """Into one tensor from the start: many small ones between the large of a pass would leave holes in memory."""
        if name not in kept:
            kept[name] = torch.empty(len(images), values.shape[1])
        kept[name][first : first + len(values)] = values

    for first in range(0, len(images), TOGETHER):
        for name, maps in block_outputs(model, images[first : first + TOGETHER], device):
            keep(features, name, first, pooled(maps))
            if name in readers:
                keep(early, name, first, forward_in_turn(classifier, maps).float().cpu())
        progress(min(1.0, (first + TOGETHER) / len(images)))
    return Readings(features, early)


def train_probe(features: Tensor, labels: Tensor, classes: int, seed: int, epochs: int = EPOCHS) -> Probe:
    """Multinomial logistic regression from N×C features to N labels by Adam, from zero, on standardised features; the seed
    draws the order of the images. The loss is convex, so that with another seed it comes near the same place.
    """
    mean, deviation = features.mean(0), features.std(0).clamp_min(1e-6)
    inputs = (features - mean) / deviation
    weight = torch.zeros(classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.Adam([weight, bias], lr=RATE)
    generator, total = torch.Generator().manual_seed(seed), epochs * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / total)
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels), generator=generator).split(BATCH):
            optimiser.zero_grad()
            F.cross_entropy(F.linear(inputs[chosen], weight, bias), labels[chosen]).backward()
            optimiser.step()
            schedule.step()
    folded = (weight / deviation).detach()
    return Probe(tuple(map(tuple, folded.tolist())), tuple((bias - folded @ mean).tolist()))


def right(scores: Tensor, labels: Tensor) -> float:
    """The share of N×K scores whose highest is the label's."""
    return float((scores.argmax(1) == labels).double().mean())


class Images(NamedTuple):
    """Normalised images N×1×28×28 and their N classes."""

    images: Tensor
    labels: Tensor


def probe_block(
    block: str, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], seeds: Sequence[int]
) -> BlockProbe:
    """Probes of a block's features and labels for training, on those for testing, of which those that ship come first."""
    classes = int(train[1].max()) + 1
    probes = [train_probe(*train, classes, seed) for seed in seeds]
    scores = [probe.scores(test[0]) for probe in probes]
    first = len(labelled_images().labels)
    accuracies = tuple(right(one, test[1]) for one in scores)
    return BlockProbe(block, accuracies, probes[0], right(scores[0][:first], test[1][:first]))


def probe_network(
    name: str, train: Images, test: Images, device: Device, seeds: Sequence[int] = SEEDS
) -> NetworkProbes:
    """The probes of a network that ships, and its early readings."""
    model = shipped_network(name)
    seen, unseen = (read_blocks(model, images, device) for images, _ in (train, test))
    first = len(labelled_images().labels)
    return NetworkProbes(
        tuple(
            probe_block(block, (features, train.labels), (unseen.features[block], test.labels), seeds)
            for block, features in seen.features.items()
        ),
        tuple(
            EarlyReading(block, *(right(scores[:count], test.labels[:count]) for count in (len(scores), first)))
            for block, scores in unseen.early.items()
        ),
    )


# -- the file -----------------------------------------------------------------------------


def record(folder: Path | None, path: Path, run: Run = here) -> Iterator[str]:
    """Probe every network that ships on one thread of where `run` has it done, and write `path` at the end; yields their names.

    `folder` holds Fashion-MNIST's four idx files; without one they are downloaded.

    Raises:
        WeightsError: where weights that ship are missing or damaged.
        MissingError, OSError: where the images cannot be had, or `path` cannot be written.
    """
    return _record(folder, writable(path), run)


def _record(folder: Path | None, path: Path, run: Run) -> Iterator[str]:
    train, test = (Images(*fashion_mnist(folder, part)) for part in (True, False))
    found = {}
    for name, found[name] in run(probe_all, train, test):
        yield name
    results = Results(COMMAND, torch.__version__, SEEDS, len(train.labels), len(test.labels), found)
    path.write_text(to_json(results, DIGITS) + "\n", encoding="utf-8", newline="\n")


def probe_all(train: Images, test: Images) -> Iterator[tuple[str, NetworkProbes]]:
    """The name of each network of `BUNDLED`, and its probes."""
    for name in BUNDLED:
        yield name, probe_network(name, train, test, Device("cpu", "CPU"))
