"""Two checks of an explanation: whether it depends on the weights, and whether the pixels it names bear the score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet import ResNet
from resnet.weights import randomly

from ..sharing.store import Progress, no_progress
from .ablation import without_blocks
from .attribution import STEPS, grad_cam, integrated_gradients
from .device import Device
from .turns import forward_in_turn

WHOLE = "trained"
"""The name of the network as it is, the first of a cascade."""
REMOVALS = 20
"""Steps from the image to none of it."""
ORDERS = 5
"""Random orders that a deletion curve is held against."""


# -- the weights --------------------------------------------------------------------------


def groups(model: ResNet) -> dict[str, tuple[str, ...]]:
    """What is made random together, from the top: the head, each stage, the stem; with the modules of each."""
    names = [name for name, _ in model.named_children()]
    stages = [name for name in names if name.startswith("layer")]
    first, last = names.index(stages[0]), names.index(stages[-1])
    return (
        {"head": tuple(names[last + 1 :])} | {name: (name,) for name in stages[::-1]} | {"stem": tuple(names[:first])}
    )


def cascade(model: ResNet, off: Sequence[str] = (), seed: int = 0) -> Iterator[tuple[str, ResNet]]:
    """The network as it is (`WHOLE`), then with one group more of its weights made random each time, from the top down
    (Adebayo 2018, https://arxiv.org/abs/1810.03292, section 4.1, there layer by layer); without what is `off`.

    The last one is the network of `randomly`. The model's own tensors are shared and never written.
    """
    yield WHOLE, model
    state, fresh = dict(model.state_dict()), randomly(model.config, seed).state_dict()
    for name, modules in groups(model).items():
        state |= {key: fresh[key].to(state[key]) for key in state if key.partition(".")[0] in modules}
        result = ResNet(model.config).eval()
        result.load_state_dict(state, assign=True)
        device = next(model.parameters()).device
        yield name, without_blocks(result.requires_grad_(False).to(device), off)


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, of all numbers of two arrays of one shape; ties have their mean rank. Not a number where all of one are
    equal.
    """
    first, second = (ranks(each.ravel()) for each in (one, other))
    spread = first.std() * second.std()
    if not spread:
        return float("nan")
    return float(((first - first.mean()) * (second - second.mean())).mean() / spread)


def ranks(values: np.ndarray) -> np.ndarray:
    """The ranks of N numbers from 0, equal ones at their mean."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[place]


class Randomised(NamedTuple):
    """The explanations of a network whose weights are random from the top down to a group, `name`.

    `cam` is h×w, `pixels` H×W; how like they are to those of the network as it is by rank correlation, `magnitude_rank` that of
    the magnitudes of `pixels`.
    """

    name: str
    cam: np.ndarray
    pixels: np.ndarray
    cam_rank: float
    pixel_rank: float
    magnitude_rank: float


# -- the pixels ---------------------------------------------------------------------------


def removal_order(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """The numbers of H×W pixels, the highest value first; which of equal ones comes first is chance, of this seed."""
    chance = np.random.default_rng(seed).permutation(values.size)
    return np.lexsort((chance, -values.ravel()))


def on_pixels(cam: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map h×w as H×W, bilinear."""
    return F.interpolate(torch.tensor(cam)[None, None], size, mode="bilinear", align_corners=False)[0, 0].numpy()


def deletion(
    model: ResNet,
    image: Tensor,
    order: np.ndarray,
    target: int,
    device: Device,
    batch: int,
    progress: Progress = no_progress,
    steps: int = REMOVALS,
) -> np.ndarray:
    """The probability of class `target` while the pixels of a 1×C×H×W image are removed in an order, at 0, 1/steps, … and all of
    them (Petsiuk 2018, https://arxiv.org/abs/1806.07421, section 3.4). A pixel that is removed has the mean colour, zero
    after normalisation.

    Raises:
        OutOfMemoryError: where a `batch` does not fit the device's memory.
    """
    flat = image.flatten(2)[0]
    found: list[float] = []
    counts = [round(step * len(order) / steps) for step in range(steps + 1)]
    for start in range(0, len(counts), batch):
        some = torch.stack([flat] * len(counts[start : start + batch]))
        for row, count in enumerate(counts[start : start + batch]):
            some[row][:, torch.from_numpy(order[:count].copy())] = 0
        scores = forward_in_turn(model, device.tensor(some.reshape(len(some), *image.shape[1:])))
        found += F.softmax(scores.float(), 1)[:, target].tolist()
        progress(len(found) / len(counts))
    return np.array(found)


def area(curve: np.ndarray) -> float:
    """Under a curve over 0…1, by the trapezoidal rule: the lower, the sooner the score falls."""
    return float((curve[1:] + curve[:-1]).mean() / 2)


# -- both ---------------------------------------------------------------------------------


class Checks(NamedTuple):
    """The cascade, the network as it is first; and the deletion curves by explanation, and of random orders, R×S."""

    cascade: tuple[Randomised, ...]
    curves: Mapping[str, np.ndarray]
    random: np.ndarray


CAM, PIXELS = "Grad-CAM", "Integrated gradients"


def passes(model: ResNet) -> int:
    """Forward passes that `check` takes about as long as; a gradient counts as two."""
    return 3 * (STEPS + 1) * (len(groups(model)) + 1) + (2 + ORDERS) * (REMOVALS + 1)


def check(
    model: ResNet,
    image: Tensor,
    layer: str,
    target: int,
    device: Device,
    off: Sequence[str] = (),
    batch: int = 1,
    gradient_batch: int = 1,
    progress: Progress = no_progress,
) -> Checks:
    """Both checks of Grad-CAM at a `layer` and of integrated gradients, for class `target` on a 1×C×H×W image. `model` is
    already without what is `off`.

    Raises:
        OutOfMemoryError: where a pass does not fit the device's memory.
    """
    whole, done = passes(model), 0

    def part(count: int) -> Progress:
        nonlocal done
        before = done
        done += count
        return lambda share: progress(min(1.0, (before + share * count) / whole))

    found: list[Randomised] = []
    for name, network in cascade(model, off):
        move = part(3 * (STEPS + 1))
        cam = grad_cam(network, image, [layer], target, device)[layer]
        pixels = integrated_gradients(network, image, target, device, move, gradient_batch).pixels
        first = found[0] if found else Randomised(name, cam, pixels, 1, 1, 1)
        found.append(
            Randomised(
                name,
                cam,
                pixels,
                rank_correlation(first.cam, cam),
                rank_correlation(first.pixels, pixels),
                rank_correlation(np.abs(first.pixels), np.abs(pixels)),
            )
        )
    height, width = image.shape[2:]
    values = {CAM: on_pixels(found[0].cam, (height, width)), PIXELS: found[0].pixels}

    def curve(order: np.ndarray) -> np.ndarray:
        return deletion(model, image, order, target, device, batch, part(REMOVALS + 1))

    curves = {name: curve(removal_order(each)) for name, each in values.items()}
    flat = np.zeros((height, width))
    return Checks(tuple(found), curves, np.stack([curve(removal_order(flat, seed)) for seed in range(ORDERS)]))
