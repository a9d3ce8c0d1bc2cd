"""Running a network on an image: its prediction, and the activations on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet import ResNet

from .device import Device, synchronise


@dataclass(frozen=True, eq=False)
class Prediction:
    """Class probabilities, the seconds that the forward pass took, and the strongest map of each watched layer.

    A map is H×W, at most 32 pixels on the longer side, of the channel with the largest mean magnitude. `outputs` are those of the
    watched layers, as `activation` has them, where all together take no more than `KEPT_BYTES`; else it is empty.
    """

    probabilities: np.ndarray
    seconds: float
    device: Device
    strongest: dict[str, np.ndarray]
    outputs: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def finite(self) -> bool:
        """False where activations overflowed, so that the probabilities mean nothing."""
        return bool(np.isfinite(self.probabilities).all())

    def top(self, count: int) -> list[tuple[int, float]]:
        """The most probable classes with their probabilities, the best first."""
        best = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(int(index), float(self.probabilities[index])) for index in best]


HELD_BYTES = 2**28
"""What a pass may hold of watched outputs before it makes them small."""
KEPT_BYTES = 2**21
"""Up to which the outputs are a part of the prediction, so that who looks at them waits for no other pass."""


def predict(model: ResNet, image: Tensor, device: Device, watched: Sequence[str] = ()) -> Prediction:
    """Run a 1×C×H×W image once, through a network in the device's form, with an eye on the `watched` layers.

    The time is that of this pass, from the image on the device to the scores: outputs are held while it runs, and
    looked at after. Only where they exceed `HELD_BYTES` does looking count.

    Raises:
        OutOfMemoryError: where the pass does not fit the device's memory.
    """
    kept: dict[str, Tensor] = {}
    strongest: dict[str, np.ndarray] = {}
    outputs: dict[str, np.ndarray] = {}
    held = total = 0

    def look() -> None:
        nonlocal held
        strongest.update({name: strongest_map(output[0]) for name, output in kept.items()})
        kept.clear()
        held = 0

    def keep(name: str, output: Tensor) -> None:
        nonlocal held, total
        kept[name] = output
        held += output.nbytes
        total += output.nbytes
        if held > HELD_BYTES:
            look()

    @torch.inference_mode()
    def run() -> Prediction:
        with watching_outputs(model, watched, keep):
            given = device.tensor(image)
            synchronise(device)
            start = time.perf_counter()
            scores = model(given)
            synchronise(device)
            seconds = time.perf_counter() - start
        if total <= KEPT_BYTES:
            outputs.update({name: as_maps(output) for name, output in kept.items()})
        look()
        return Prediction(F.softmax(scores[0].float(), dim=0).cpu().numpy(), seconds, device, strongest, outputs)

    return device.turn(model, image).run(run)


@contextmanager
def watching_outputs(model: ResNet, names: Sequence[str], keep: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Inside, each forward pass gives the named layers' outputs to `keep`, in order of execution."""
    with ExitStack() as hooks:
        for name in names:
            handle = model.get_submodule(name).register_forward_hook(
                lambda _, __, output, name=name: keep(name, output)
            )
            hooks.callback(handle.remove)
        yield


def strongest_map(output: Tensor) -> np.ndarray:
    """The map of the strongest channel of C×H×W (or of C values), at most 32 pixels on the longer side."""
    maps = output.float() if output.ndim == 3 else output.float().reshape(-1, 1, 1)
    chosen = maps[maps.abs().mean((1, 2)).nan_to_num().argmax()]
    if (longest := max(chosen.shape)) > 32:
        height, width = (max(1, round(32 * side / longest)) for side in chosen.shape)
        chosen = F.adaptive_avg_pool2d(chosen[None], (height, width))[0]
    return chosen.cpu().numpy().copy()  # of the whole output nothing is kept


def activation(model: ResNet, image: Tensor, layer: str, device: Device) -> np.ndarray:
    """The output of one layer on a 1×C×H×W image: C×H×W, or C×1×1 where it is no map but C values.

    Raises:
        OutOfMemoryError: where the pass does not fit the device's memory.
    """
    kept: dict[str, Tensor] = {}

    @torch.inference_mode()
    def run() -> np.ndarray:
        with watching_outputs(model, [layer], kept.__setitem__):
            model(device.tensor(image))
        return as_maps(kept[layer])

    return device.turn(model, image).run(run)


def as_maps(output: Tensor) -> np.ndarray:
    """A layer's output on one image, 1×C×H×W or 1×C, as C×H×W or C×1×1 in fp32."""
    values = output[0].float()
    return (values if values.ndim == 3 else values.reshape(-1, 1, 1)).cpu().numpy()


def by_strength(maps: np.ndarray) -> np.ndarray:
    """Channel numbers of C×H×W by mean magnitude, the strongest first."""
    with np.errstate(over="ignore", invalid="ignore"):  # activations of a network that overflows are shown as such
        return np.argsort(-np.nan_to_num(np.abs(maps).mean((1, 2))), kind="stable")


class Statistics(NamedTuple):
    """An activation in five numbers; `zeros` is the share of exact zeros."""

    mean: float
    std: float
    low: float
    high: float
    zeros: float


def statistics(maps: np.ndarray) -> Statistics:
    """The statistics of C×H×W maps over all channels and positions."""
    with np.errstate(over="ignore", invalid="ignore"):
        return Statistics(
            float(maps.mean()), float(maps.std()), float(maps.min()), float(maps.max()), float((maps == 0).mean())
        )
