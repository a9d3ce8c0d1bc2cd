"""Degradation (He 2015, section 1): deeper plain networks train worse, residual ones do not. Small enough to repeat.

Four networks of the paper's CIFAR design (section 4.2), plain and residual, shallow and deep, take turns in training on
Fashion-MNIST at 14×14 pixels. What is compared is the loss on the images that they are trained on: a deeper
network that only overfitted would have a lower one.

    python -m explorer degradation --steps 200 1000 --seeds 0 1 2    the runs that ship, into degradation.json
    python -m explorer degradation --cut FOLDER                      the training images, into fashion-train.npz

Both write into the current folder; `--output explorer/samples/NAME` puts a file where it ships.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from resnet import ConfigError, ResNetConfig, options, preset
from resnet.command import writable
from resnet.model import ResNet
from resnet.options import option
from resnet.shipped import intact
from resnet.train import Recipe, accuracy, fashion_mnist, fit
from resnet.weights import FASHION_MNIST

from ..inference.samples import LabelledImages, labelled_images, read_labelled
from ..sharing.engine import RunEach, each_here
from ..sharing.frozen import frozen

SAMPLES = Path(__file__).parents[1] / "samples"
IMAGES, RUNS = SAMPLES / "fashion-train.npz", SAMPLES / "degradation.json"
IMAGE_COUNT = 5000
"""How many training images ship."""
BATCH = 64
LAST_STEPS = 50
"""The training loss of a network is the mean over this many last steps, or over all where there are fewer."""

# -- settings -----------------------------------------------------------------------------

DEPTHS = (8, 14, 20, 26, 32, 38, 44, 50, 56, 80, 110)
"""6n + 2 layers: a stem, three stages of n blocks with two layers each, and a classifier."""


@dataclass(frozen=True)
class Settings(options.Settings):
    """What a run depends on, all of it; every field carries its label, help and range.

    Raises:
        ConfigError: for a value outside its range, a deep network that is not the deeper one, or a warm-up that
            does not end.
    """

    key = "training"
    example = "seed-3"

    shallow: int = option(20, "Shallow", "Layers of the two shallower networks.", choices=DEPTHS[:-1])
    deep: int = option(56, "Deep", "Layers of the two deeper networks.", choices=DEPTHS[1:])
    width: int = option(
        8, "Width", "Channels of the first stage; the other two have twice and four times as many.", choices=(4, 8, 16)
    )
    shortcut: str = option(
        "A",
        "Shortcut",
        "Where shapes differ, the residual networks pad by zeros (A) or project (B, D); C projects everywhere.",
        choices=("A", "B", "C", "D"),
    )
    rate: float = option(0.05, "Learning rate", "Its peak, from which a cosine leads to zero.", low=0.0001, high=1)
    warmup: int = option(30, "Warm-up", "Steps in which the learning rate rises to its peak.", low=0, high=1000)
    steps: int = option(200, "Steps", f"Batches of {BATCH} images that each network is trained on.", low=10, high=1000)
    seed: int = option(0, "Seed", "Draws the first weights and the order of the images.", low=0, high=999_999)

    def check(self) -> None:
        if self.deep <= self.shallow:
            raise ConfigError("deep", self.deep, f"more layers than the shallow networks' {self.shallow}")
        if self.warmup > self.steps:
            raise ConfigError("warmup", self.warmup, f"at most the {self.steps} steps that a network is trained for")

    @property
    def networks(self) -> tuple[Network, ...]:
        """The four networks in the order of their turns."""
        return tuple(Network(kind, depth) for kind in ("plain", "residual") for depth in (self.shallow, self.deep))

    @property
    def total(self) -> int:
        """Steps of all networks."""
        return self.steps * len(self.networks)


class Network(NamedTuple):
    """One of the four: "plain" or "residual", and its layers with weights."""

    kind: str
    depth: int

    @property
    def name(self) -> str:
        """Plain-56."""
        return f"{self.kind.capitalize()}-{self.depth}"

    def config(self, settings: Settings) -> ResNetConfig:
        """The configuration: three stages of (depth − 2) / 6 basic blocks."""
        blocks, width = (self.depth - 2) // 6, settings.width
        return replace(
            preset("resnet20_fashion"),
            layers=(blocks,) * 3,
            planes=(width, 2 * width, 4 * width),
            stem_width=width,
            shortcut="none" if self.kind == "plain" else settings.shortcut,
        )


# -- images -------------------------------------------------------------------------------


def pool_2x2(images: np.ndarray) -> np.ndarray:
    """Grey bytes N×H×W, each 2×2 square replaced by its rounded mean: N×H/2×W/2."""
    count, height, width = images.shape
    squares = images.reshape(count, height // 2, 2, width // 2, 2).astype(np.uint16)
    return ((squares.sum((2, 4)) + 2) // 4).astype(np.uint8)


@cache
def training_images() -> LabelledImages:
    """The first 5,000 of Fashion-MNIST's training set, pooled: images N×14×14, grey bytes, and their classes.

    Raises:
        ShippedError: where their file is missing or damaged.
    """
    return read_labelled(IMAGES)


def test_images() -> LabelledImages:
    """The shipped test images, pooled in the same way."""
    images, labels = labelled_images()
    return LabelledImages(pool_2x2(images), labels)


def write_training_images(folder: Path | None, path: Path) -> None:
    """Write the training images anew from the whole set, which `folder` holds or torchvision downloads.

    Raises:
        FileNotFoundError, MissingError: as `resnet.train.fashion_mnist`.
        OSError: where `path` cannot be written.
    """
    writable(path)
    images, labels = fashion_mnist(folder, train=True)
    (mean,), (std,) = FASHION_MNIST.preprocessing.mean, FASHION_MNIST.preprocessing.std
    grey = ((images[:IMAGE_COUNT, 0] * std + mean) * 255).round().numpy().astype(np.uint8)
    with path.open("wb") as file:  # numpy would add .npz to another name
        np.savez_compressed(file, images=pool_2x2(grey), labels=labels[:IMAGE_COUNT].numpy().astype(np.uint8))


def to_tensors(data: LabelledImages) -> tuple[Tensor, Tensor]:
    """Normalised images N×1×H×W and classes N."""
    (mean,), (std,) = FASHION_MNIST.preprocessing.mean, FASHION_MNIST.preprocessing.std
    return (torch.tensor(data.images)[:, None] / 255 - mean) / std, torch.tensor(data.labels).long()


# -- training -----------------------------------------------------------------------------


class Step(NamedTuple):
    """One step of one network (its place in `Settings.networks`), with the cross-entropy of the step's batch.

    `seconds` were spent on this network so far; the last step has the test accuracy.
    """

    network: int
    loss: float
    seconds: float
    accuracy: float | None = None


def train(settings: Settings) -> Iterator[Step]:
    """Train the four networks, which take turns step by step; yields after every step.

    The same settings give the same steps where torch computes on one thread of the same kind of processor.
    """
    images, labels = to_tensors(training_images())
    each = [train_one(number, settings, images, labels) for number in range(len(settings.networks))]
    for steps in zip(*each, strict=True):
        yield from steps


def prepare() -> Iterator[None]:
    """What a process does ahead of its first run, so that this begins at once: read the images, and take a step with each
    network, in which torch makes what it makes once.
    """
    for _ in islice(train(Settings()), len(Settings().networks)):
        yield


def train_one(number: int, settings: Settings, images: Tensor, labels: Tensor) -> Iterator[Step]:
    """The steps of the network at a place of `Settings.networks`, on images N×1×H×W and their N classes."""
    recipe = Recipe(
        steps=settings.steps,
        batch=BATCH,
        learning_rate=settings.rate,
        warmup=settings.warmup / settings.steps,
        crop=1,
        seed=settings.seed,
    )
    start = time.perf_counter()
    model = ResNet(settings.networks[number].config(settings))
    model.initialise(torch.Generator().manual_seed(settings.seed))
    seconds = time.perf_counter() - start
    steps = fit(model, images, labels, recipe)
    while True:
        start = time.perf_counter()
        step = next(steps)
        last = step.number == step.total
        score = accuracy(model, *to_tensors(test_images())) if last else None
        seconds += time.perf_counter() - start  # without the time in which nobody asks for the next step
        yield Step(number, step.loss, seconds, score)
        if last:
            return


# -- results ------------------------------------------------------------------------------


class Curve(NamedTuple):
    """What one network did: the cross-entropy of each step's batch, the seconds, and at the end the test accuracy."""

    network: Network
    losses: tuple[float, ...]
    seconds: float
    accuracy: float | None

    @property
    def loss(self) -> float:
        """Mean cross-entropy of the last steps' batches."""
        return float(np.mean(self.losses[-LAST_STEPS:]))


@dataclass(frozen=True)
class TrainingRun:
    """One seed's four networks, or as far as they have come."""

    settings: Settings
    curves: tuple[Curve, ...]

    @property
    def done(self) -> int:
        """Steps so far, of all networks."""
        return sum(len(curve.losses) for curve in self.curves)

    @property
    def complete(self) -> bool:
        """Whether all networks have taken all steps."""
        return self.done == self.settings.total

    @property
    def seconds(self) -> float:
        """Seconds spent on all networks so far."""
        return sum(curve.seconds for curve in self.curves)

    @property
    def seconds_left(self) -> float | None:
        """What is left at the pace so far, a step taking as long as its network is deep; None before it can be told."""
        cost = sum(len(curve.losses) * curve.network.depth for curve in self.curves)
        whole = self.settings.steps * sum(network.depth for network in self.settings.networks)
        return self.seconds * (whole - cost) / cost if cost else None


def collect_run(settings: Settings, steps: Iterable[Step]) -> TrainingRun:
    """A run of the steps that `train` has yielded."""
    parts: dict[int, list[Step]] = {}
    for step in steps:
        parts.setdefault(step.network, []).append(step)
    return TrainingRun(
        settings,
        tuple(
            Curve(settings.networks[number], tuple(s.loss for s in part), part[-1].seconds, part[-1].accuracy)
            for number, part in parts.items()
        ),
    )


def running_mean(losses: Sequence[float], window: int = 20) -> np.ndarray:
    """The mean of each loss and those up to `window` steps back."""
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    ends = np.arange(1, len(losses) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def parting_step(run: TrainingRun, kind: str) -> int | None:
    """The first step from which the deep network of a kind, "plain" or "residual", has a higher loss than the shallow one
    up to where the run has come, by their running means; None where it is not above there.
    """
    means = {curve.network.depth: running_mean(curve.losses) for curve in run.curves if curve.network.kind == kind}
    if len(means) < 2:
        return None
    shared = min(map(len, means.values()))
    above = means[run.settings.deep][:shared] > means[run.settings.shallow][:shared]
    start = shared - int(np.argmin(np.append(above[::-1], False)))
    return start + 1 if start < shared else None


class Spread(NamedTuple):
    """Mean, least and greatest over the seeds."""

    mean: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Mean, least and greatest of the values of several seeds."""
    return Spread(float(np.mean(values)), float(np.min(values)), float(np.max(values)))


class NetworkSummary(NamedTuple):
    """One network over all seeds: training loss, test accuracy, seconds."""

    network: Network
    loss: Spread
    accuracy: Spread
    seconds: Spread


class Summary(NamedTuple):
    """Complete runs that differ in their seed only, with what degradation is about: the orders.

    `deeper_is_worse` counts, for each kind, the seeds whose deep network has the higher training loss;
    `gap` is the mean of deep minus shallow; `residual_wins` counts the seeds whose deep residual network has a
    training loss below the deep plain one's.
    """

    seeds: tuple[int, ...]
    rows: tuple[NetworkSummary, ...]
    deeper_is_worse: dict[str, int]
    gap: dict[str, float]
    residual_wins: int

    def row(self, kind: str, deep: bool) -> NetworkSummary:
        """The row of the deep or the shallow network of a kind, "plain" or "residual"."""
        return [row for row in self.rows if row.network.kind == kind][deep]


def summarise(runs: Sequence[TrainingRun]) -> Summary:
    """Runs of one setting put together.

    Raises:
        ValueError: for none, for runs that are not complete, or that differ in more than their seed.
    """
    if not runs or not all(run.complete for run in runs) or len({without_seed(run.settings) for run in runs}) > 1:
        raise ValueError("complete runs that differ in their seed only are needed")
    networks = runs[0].settings.networks
    losses = {n: [run.curves[i].loss for run in runs] for i, n in enumerate(networks)}
    rows = tuple(
        NetworkSummary(
            network,
            spread(losses[network]),
            spread([run.curves[i].accuracy or 0.0 for run in runs]),
            spread([run.curves[i].seconds for run in runs]),
        )
        for i, network in enumerate(networks)
    )
    shallow, deep = runs[0].settings.shallow, runs[0].settings.deep
    pairs = {kind: (losses[Network(kind, deep)], losses[Network(kind, shallow)]) for kind in ("plain", "residual")}
    return Summary(
        tuple(run.settings.seed for run in runs),
        rows,
        {kind: sum(map(float.__gt__, *pair)) for kind, pair in pairs.items()},
        {kind: float(np.mean(pair[0]) - np.mean(pair[1])) for kind, pair in pairs.items()},
        sum(map(float.__lt__, pairs["residual"][0], pairs["plain"][0])),
    )


def without_seed(settings: Settings) -> Settings:
    """The settings without their seed: runs that share these can be put together."""
    return replace(settings, seed=0)


# -- files --------------------------------------------------------------------------------


class RecordedRuns(NamedTuple):
    """Runs of a file, grouped by their settings without the seed, and the command that made it."""

    command: str
    groups: dict[Settings, tuple[TrainingRun, ...]]


def to_json(runs: Sequence[TrainingRun], command: str = "") -> str:
    """Runs with what they were made by and on; losses to four decimals."""
    head = {
        "command": command,
        "torch": torch.__version__,
        "threads": 1,
        "batch": BATCH,
        "training images": IMAGE_COUNT,
        "test images": len(labelled_images().labels),
    }
    entries = [
        {
            "settings": asdict(run.settings),
            "networks": [
                {
                    "kind": curve.network.kind,
                    "depth": curve.network.depth,
                    "accuracy": curve.accuracy,
                    "seconds": round(curve.seconds, 2),
                    "losses": [round(loss, 4) for loss in curve.losses],
                }
                for curve in run.curves
            ],
        }
        for run in runs
    ]
    return json.dumps(head | {"runs": entries}, indent=None, separators=(",", ":")).replace(
        '{"settings"', '\n{"settings"'
    )


def from_json(text: str) -> RecordedRuns:
    """The inverse of `to_json`.

    Raises:
        ConfigError: for settings that are not accepted.
        ValueError: for text that is no such file.
    """
    try:
        found = json.loads(text)
        runs = [run_from_entry(entry) for entry in found["runs"]]
        command = found["command"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is no file of degradation runs: {error} is missing or of another kind") from error
    groups: dict[Settings, tuple[TrainingRun, ...]] = {}
    for run in runs:
        groups[without_seed(run.settings)] = (*groups.get(without_seed(run.settings), ()), run)
    return RecordedRuns(command, groups)


def run_from_entry(entry: Mapping[str, Any]) -> TrainingRun:
    """A run as `to_json` writes it, its networks in the order of their turns."""
    settings = Settings(**entry["settings"])
    curves = [
        Curve(Network(one["kind"], one["depth"]), tuple(one["losses"]), one["seconds"], one["accuracy"])
        for one in entry["networks"]
    ]
    return TrainingRun(settings, tuple(sorted(curves, key=lambda curve: settings.networks.index(curve.network))))


@cache
def shipped_runs() -> RecordedRuns:
    """The runs that ship.

    Raises:
        ShippedError: where their file is missing or damaged.
    """
    with intact(RUNS):
        found = from_json(RUNS.read_text(encoding="utf-8"))
        for runs in found.groups.values() or [()]:
            summarise(runs)
        return frozen(found)


def record(
    steps: Sequence[int], seeds: Sequence[int], path: Path, base: Settings | None = None, run: RunEach = each_here
) -> Iterator[tuple[Settings, Step]]:
    """Run every seed at every number of steps, the rest as in `base`, each on one thread of where `run` has it done; `path`
    grows run by run, and holds them in this order.

    Raises:
        ConfigError: for steps or seeds that are not accepted.
        OSError: where `path` cannot be written.
    """
    base = base or Settings()
    words = base.to_text()
    command = f"python -m explorer degradation --steps {' '.join(map(str, steps))} --seeds {' '.join(map(str, seeds))}"
    command += f" --settings {words}" if words else ""
    asked = [replace(base, steps=count, seed=seed) for count in steps for seed in seeds]
    return _record(asked, command, writable(path), run)


def _record(every: Sequence[Settings], command: str, path: Path, run: RunEach) -> Iterator[tuple[Settings, Step]]:
    taken: list[list[Step]] = [[] for _ in every]
    for number, step in run(train, [(settings,) for settings in every]):
        taken[number].append(step)
        yield every[number], step
        if len(taken[number]) == every[number].total:
            runs = [collect_run(*each) for each in zip(every, taken, strict=True)]
            done = to_json([one for one in runs if one.complete], command)
            path.write_text(done + "\n", encoding="utf-8", newline="\n")
