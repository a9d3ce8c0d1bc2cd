"""Blocks taken out and blocks swapped: error against how much of a network was disturbed (Veit 2016)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import streamlit as st
import torch

from ...experiments.beside import shipped_beside
from ...experiments.lesions import LEVELS, Curves, Lesion, draw, joined, live_images
from ...figures.beside import grouped, lesion_figure
from ...inference.samples import labelled_images
from ...inference.turns import TooLargeError
from ...sharing.threads import single_thread
from .. import session
from ..cached import cached_result, device, may_compute
from ..components import plot
from ..headline import section
from ..inference.ablation import test_inputs
from ..inference.images import ChosenImage
from ..inference.running import weights_trace
from ..weights import loaded
from .networks import Network, knowing

BETTER = 0.6
"""An error below this is well below that of guessing among ten classes, 0.9."""
LIVE_SEEDS, LIVE_LEVELS = (0, 1, 2), 8
"""Draws of a network that does not ship, and at how many numbers of blocks and of swaps each is measured."""


def panel(networks: Sequence[Network], images: Sequence[ChosenImage]) -> None:
    """Both curves: of the networks that ship as they were measured beforehand, of others by fewer draws when asked for."""
    st.markdown(
        "Veit, Wilber and Belongie 2016 (https://arxiv.org/abs/1605.06431, figure 5) take more and more blocks out of a trained residual "
        "network, and swap more and more of them: **its error rises smoothly**, as that of an ensemble would that loses "
        "members. Here the same is done to the networks above, up to all blocks that can be taken out or swapped."
    )
    found = {one.label: shipped_beside().curves[one.shipped] for one in networks if one.shipped}
    live = live_curves([one for one in networks if not one.shipped])
    found |= {label: one.curves for label, one in live.items()}
    if not found:
        return
    for swapped, title in ((False, "Blocks taken out, by chance"), (True, "Blocks swapped, by chance")):
        curves = {label: each.swapped if swapped else each.removed for label, each in found.items()}
        with st.container(border=True, key="swapped" if swapped else "removed"):
            section(title)
            plot(lesion_figure(curves, swapped), key="swapped chart" if swapped else "removed chart")
            for label, lesions in curves.items():
                st.markdown(words(label, lesions, swapped))
    shipped = shipped_beside()
    fewer = "".join(
        f" {session.escape_markdown(label)}: {len(LIVE_SEEDS)} draws on the first {one.images} images, at most {LIVE_LEVELS} numbers of blocks "
        "and of swaps in each."
        for label, one in live.items()
    )
    st.caption(
        f"On the first {shipped.disturbed} images of Fashion-MNIST's test set, in {len(shipped.seeds)} draws by chance, at every number of blocks and at most {LEVELS} "
        f"numbers of swaps in each; the line is the mean of those alike, the band from the least to the greatest.{fewer} Only blocks that keep the shape of what they read are "
        "taken out or swapped, the same in plain and residual networks. A swap is of two blocks of a stage that still stand in their own order, until every stage runs "
        "backwards; Veit's can undo each other, and end before. Kendall's τ is 1 for the blocks' own order and falls by twice the share of pairs that stand the other way "
        f"round. Nothing was trained again. Ten classes: guessing is wrong 90% of the time. Made by `{shipped.command}`."
    )


def words(label: str, lesions: Sequence[Lesion], swapped: bool) -> str:
    """What one network's curve says: whole, after the first disturbance, how far it stays well below guessing, where it rises
    most at once, and where it ends.
    """
    errors: dict[int, list[float]] = {}
    for one in lesions:
        errors.setdefault(one.times, []).append(one.error)
    name = f"**{session.escape_markdown(label)}** gets {np.mean(errors[0]):.1%} wrong"
    if len(errors) == 1:
        return f"{name}; it has no {'two blocks in a stage' if swapped else 'block'} that can be {'swapped' if swapped else 'taken out'}."
    groups = grouped(lesions, swapped)
    means = [float(np.mean([one.error for one in group])) for group in groups]
    places = [f"τ = {np.mean([one.tau for one in group]):.2f}" if swapped else str(group[0].times) for group in groups]
    held = next((number for number, mean in enumerate(means) if mean >= BETTER), len(means)) - 1
    if held < 1:
        end = f"is above {BETTER:.0%} at once" if held == 0 else f"is above {BETTER:.0%} as it is"
    elif held == len(means) - 1:
        end = f"stays below {BETTER:.0%} to the end"
    else:
        end = f"stays below {BETTER:.0%} {'down to' if swapped else 'up to'} {places[held]}"
    steps = np.diff(means)
    steepest = int(steps.argmax())
    last = "with every stage backwards" if swapped else f"with all {groups[-1][0].times} out"
    return (
        f"{name}; with {'one swap' if swapped else 'one block out'} {np.mean(errors[1]):.1%} in the mean ({min(errors[1]):.1%} to {max(errors[1]):.1%}), and {end}. "
        f"Its steepest rise is {100 * steps[steepest]:.0f} points, from {places[steepest]} to {places[steepest + 1]}; {last} it is {means[-1]:.1%}."
    )


# -- networks that do not ship ------------------------------------------------------------


class Live(NamedTuple):
    """Curves that were computed here, and on how many of the test images."""

    curves: Curves
    images: int


def live_curves(networks: Sequence[Network]) -> dict[str, Live]:
    """Those of networks that know the test images, by their labels, where they were asked for."""
    counts: dict[Network, int] = {}
    for one in knowing(networks):
        try:
            counts[one] = live_images(
                weights_trace(one.weights), len(LIVE_SEEDS), LIVE_LEVELS, len(labelled_images().labels)
            )
        except TooLargeError as error:
            st.info(session.escape_markdown(f"{one.label}: {error}"), icon=":material/block:")
    if not counts or not may_compute("Take blocks out, and swap them", *(live_key(*each) for each in counts.items())):
        return {}
    return {one.label: Live(curves_of(one, count), count) for one, count in counts.items()}


def live_key(network: Network, count: int) -> tuple[object, ...]:
    return ("lesions", network.weights, count, LIVE_SEEDS, LIVE_LEVELS, device())


def curves_of(network: Network, count: int) -> Curves:
    """The curves of one network on so many images; its key holds what they depend on."""

    def compute(move: Callable[[float], None]) -> Curves:
        model, draws = loaded(network.weights), []
        images = test_inputs(network.weights)[:count]
        labels = torch.tensor(labelled_images().labels[:count], dtype=torch.long)
        with single_thread():
            for done, seed in enumerate(LIVE_SEEDS):

                def step(share: float, done: int = done) -> None:
                    move((done + share) / len(LIVE_SEEDS))

                draws.append(draw(model, seed, images, labels, device(), LIVE_LEVELS, step))
        return joined(draws)

    return cached_result(live_key(network, count), f"{network.label} without more and more blocks …", compute)
