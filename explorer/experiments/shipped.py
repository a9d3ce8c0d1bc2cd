"""What the experiments say of the networks that ship: measured beforehand, so that it is there at once.

    python -m explorer experiments    all of it, into experiments.json

It writes into the current folder; `--output explorer/samples/experiments.json` puts the file where it ships.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from resnet import ResNet, ResNetConfig
from resnet.command import writable
from resnet.shipped import BUNDLED, NAMES, bundled_path, intact, read_checkpoint
from resnet.weights import FASHION_MNIST

from ..analysis.parts import switchable_blocks
from ..analysis.paths import path_counts
from ..analysis.trace import trace
from ..inference.ablation import Ablation, ablations
from ..inference.device import Device
from ..inference.preprocess import normalised
from ..inference.samples import labelled_images
from ..sharing.engine import Run, here
from ..sharing.frozen import frozen
from . import gradients, identity, paths
from .gradients import Flows, Point, Twin
from .identity import AppendResult, default_append
from .paths import PathGradients

Value = TypeVar("Value")

RESULTS = Path(__file__).parents[1] / "samples" / "experiments.json"
PAIRS: Mapping[str, tuple[str, str]] = {"shipped-56": ("resnet56", "plain56"), "shipped-20": ("resnet20", "plain20")}
"""The networks that ship, residual and plain of one depth, by what a link calls the two."""
BATCH, BATCHES = 32, 3
"""Test images on which the gradients of trained networks are measured."""
DIGITS = 6
"""Significant digits of the numbers in the file."""


class TwinFlows(NamedTuple):
    """The flows of one of a network's four twins."""

    twin: Twin
    flows: Flows


class Results(NamedTuple):
    """The results by the networks' names in `BUNDLED`, and the command and torch's version that made them.

    `initial` are the residual networks and their twins at their initialisation, `trained` the networks where their training
    ended, `shattered` the family of small networks with their blocks, `paths` the residual networks' gradients by length,
    `ablations` each block off in turn, and `appended` the blocks of `default_append` after the last stage.
    """

    command: str
    torch: str
    initial: Mapping[str, tuple[TwinFlows, ...]]
    trained: Mapping[str, Flows]
    shattered: tuple[Point, ...]
    paths: Mapping[str, PathGradients]
    ablations: Mapping[str, tuple[Ablation, ...]]
    appended: Mapping[str, AppendResult]


@cache
def shipped_results() -> Results:
    """The results that ship.

    Raises:
        ShippedError: where their file is missing or damaged.
    """
    with intact(RESULTS):
        return frozen(from_json(RESULTS.read_text(encoding="utf-8")))


def shipped_twins(config: ResNetConfig) -> dict[Twin, Flows] | None:
    """The twins of a network that ships, which are those of the other one of its pair; None for another network.

    Raises:
        ShippedError: as `shipped_results`.
    """
    pair = next((pair for pair in PAIRS.values() if NAMES.get(config) in pair), None)
    return pair and dict(shipped_results().initial[pair[0]])


def shipped_family(config: ResNetConfig) -> tuple[Point, ...] | None:
    """The small networks with blocks like a configuration's; None where those that ship have others.

    Raises:
        ShippedError: as `shipped_results`.
    """
    return shipped_results().shattered if is_shipped_family(config) else None


def is_shipped_family(config: ResNetConfig) -> bool:
    """Whether a configuration's blocks are those of the networks that ship."""
    return gradients.small_pair(config, 1) == gradients.small_pair(BUNDLED["resnet20"], 1)


# -- measuring ----------------------------------------------------------------------------


def labelled_inputs(count: int) -> tuple[Tensor, Tensor]:
    """The first images of the test set, N×1×28×28 as the networks that ship take them, and their N classes."""
    images, labels = labelled_images()
    return normalised(images[:count], FASHION_MNIST.preprocessing), torch.tensor(labels[:count], dtype=torch.long)


class Measurement(NamedTuple):
    """One result: a field of `Results`, the network's name there (empty for a family), and the value."""

    field: str
    name: str
    value: Any


def measure(device: Device) -> Iterator[Measurement]:
    """Every result, one by one.

    Raises:
        WeightsError: where weights that ship are missing or damaged.
    """
    yield Measurement("shattered", "", tuple(gradients.shattering(BUNDLED["resnet20"], device)))
    for residual, _ in PAIRS.values():
        traced = trace(BUNDLED[residual], FASHION_MNIST.preprocessing.size)
        flows = gradients.initial_flows(traced, gradients.plan(traced), device)
        yield Measurement("initial", residual, tuple(TwinFlows(*each) for each in flows.items()))
        yield Measurement("paths", residual, path_gradients(residual, device))
    for name in BUNDLED:
        yield Measurement("trained", name, trained_flows(name, device))
        yield Measurement("ablations", name, block_ablations(name, device))
        yield Measurement("appended", name, append_result(name, device))


def path_gradients(name: str, device: Device) -> PathGradients:
    """The gradient by length of a residual network's paths, as often as the plan of `paths` allows."""
    traced = trace(BUNDLED[name], FASHION_MNIST.preprocessing.size)
    plan = paths.plan(traced)
    samples = paths.sample_gradients(shipped_network(name), *labelled_inputs(plan.draws * plan.images), plan, device)
    return paths.collect_gradients(path_counts(traced), plan.lengths, samples)


def trained_flows(name: str, device: Device, batches: int = BATCHES) -> Flows:
    """Signal and gradient of a network where its training ended, by batches of test images."""
    traced = trace(BUNDLED[name], FASHION_MNIST.preprocessing.size)
    images, labels = labelled_inputs(BATCH * batches)
    convolutions = [layer.name for layer in gradients.main_path(traced)]
    pairs = zip(images.split(BATCH), labels.split(BATCH), strict=True)
    return Flows(tuple(gradients.flows_by_batch(shipped_network(name), convolutions, pairs, device)))


def block_ablations(name: str, device: Device) -> tuple[Ablation, ...]:
    """A network without each of its blocks, on all labelled images."""
    images, labels = labelled_inputs(len(labelled_images().labels))
    off = switchable_blocks(BUNDLED[name])
    return tuple(ablations(shipped_network(name), images, labels.tolist(), off, device))


def append_result(name: str, device: Device) -> AppendResult:
    """A network with the blocks of `default_append`, on all labelled images."""
    inputs = labelled_inputs(identity.MAX_IMAGES)
    *_, result = identity.experiment(shipped_network(name), default_append(BUNDLED[name]), *inputs, device)
    assert isinstance(result, AppendResult)
    return result


def shipped_network(name: str) -> ResNet:
    """A network of `BUNDLED` with its weights, in eval mode.

    Raises:
        WeightsError: where these are missing or damaged.
    """
    return read_checkpoint(bundled_path(name))[0].requires_grad_(False)


# -- the file -----------------------------------------------------------------------------


COMMAND = "python -m explorer experiments"
MEASUREMENTS = 1 + 2 * len(PAIRS) + 3 * len(BUNDLED)
"""How many there are."""


def record(path: Path, run: Run = here) -> Iterator[Measurement]:
    """Measure everything on one thread of where `run` has it done, and write `path` at the end.

    Raises:
        WeightsError: as `measure`.
        OSError: where `path` cannot be written.
    """
    return _record(writable(path), run)


def _record(path: Path, run: Run) -> Iterator[Measurement]:
    found: dict[str, Any] = {"command": COMMAND, "torch": torch.__version__}
    for one in run(measure, Device("cpu", "CPU")):
        if one.name:
            found.setdefault(one.field, {})[one.name] = one.value
        else:
            found[one.field] = one.value
        yield one
    path.write_text(to_json(Results(**found)) + "\n", encoding="utf-8", newline="\n")


def to_json(results: Any, digits: int = DIGITS) -> str:
    """A named tuple as an object, those in it as lists, numbers to so many digits; a network's results on a line of their own."""
    text = json.dumps(_rounded(results._asdict(), digits), separators=(",", ":"))
    return re.sub(r'(?<=[{,])(?="\w+":[\[{"])', "\n", text)


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item, digits) for key, item in value.items()}
    return [_rounded(item, digits) for item in value] if isinstance(value, tuple) else value


def from_json(text: str, kind: type[Value] = Results) -> Value:  # type: ignore[assignment]
    """The inverse of `to_json` for a named tuple of a `kind`, but for the digits that it leaves out.

    Raises:
        ValueError, TypeError, KeyError: for text that is no such file.
    """
    given = json.loads(text)
    return kind(**{name: _revived(its, given[name]) for name, its in get_type_hints(kind).items()})


def _revived(kind: Any, value: Any) -> Any:
    """What JSON made of a value that is annotated so."""
    if get_origin(kind) is Mapping:
        return {key: _revived(get_args(kind)[1], item) for key, item in value.items()}
    if get_origin(kind) is tuple:
        return tuple(_revived(get_args(kind)[0], item) for item in value)
    if get_origin(kind) is UnionType:  # such a value, or None
        return value if value is None else _revived(get_args(kind)[0], value)
    if hasattr(kind, "_fields"):
        hints = get_type_hints(kind)
        return kind(*(_revived(hints[name], item) for name, item in zip(kind._fields, value, strict=True)))
    return value
