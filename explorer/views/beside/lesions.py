"""Blocks taken out and blocks swapped: error against how much of a network was disturbed (Veit 2016)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from ...experiments.beside import shipped_beside
from ...experiments.lesions import Lesion
from ...figures.beside import lesion_figure
from .. import session
from ..components import plot
from ..headline import section
from ..inference.images import ChosenImage
from .networks import Network

Curves = Mapping[str, tuple[Lesion, ...]]
BETTER = 0.6
"""An error below this is well below that of guessing among ten classes, 0.9."""


def panel(networks: Sequence[Network], images: Sequence[ChosenImage]) -> None:
    """Both curves of the networks that ship, as they were measured."""
    found = {one.label: shipped_beside().curves[one.shipped] for one in networks if one.shipped}
    if left_out := [session.escape_markdown(one.label) for one in networks if not one.shipped]:
        st.info(
            f"{' and '.join(left_out)}: these curves were measured beforehand, for the networks that ship; Inference switches "
            "blocks of any network off by hand."
        )
    if not found:
        return
    st.markdown(
        "Veit, Wilber and Belongie 2016 (https://arxiv.org/abs/1605.06431, figure 5) take more and more blocks out of a trained residual "
        "network, and swap more and more of them: **its error rises smoothly**, as that of an ensemble would that loses "
        "members. Here the same is done to the networks above."
    )
    for swapped, title in ((False, "Blocks taken out, by chance"), (True, "Blocks swapped, by chance")):
        curves = {label: each.swapped if swapped else each.removed for label, each in found.items()}
        with st.container(border=True, key="swapped" if swapped else "removed"):
            section(title)
            plot(lesion_figure(curves, swapped), key="swapped chart" if swapped else "removed chart")
            for label, lesions in curves.items():
                st.markdown(words(label, lesions, swapped))
    shipped = shipped_beside()
    st.caption(
        f"On the first {shipped.disturbed} images of Fashion-MNIST's test set; each point is one of {len(shipped.seeds)} draws by chance, the line "
        "the mean of those alike. Only blocks that keep the shape of what they read are taken out or swapped, the same in plain and residual "
        "networks, and swaps stay within a stage. Kendall's τ is 1 for the blocks' own order; it falls by twice the share of "
        "pairs that stand the other way round, and swaps can undo each other. Nothing was trained again. Ten classes: guessing is wrong 90% of the time."
    )


def words(label: str, lesions: Sequence[Lesion], swapped: bool) -> str:
    """What one network's curve says: whole, after the first disturbance, and how far it stays well below guessing."""
    errors: dict[int, list[float]] = {}
    for one in lesions:
        errors.setdefault(one.times, []).append(one.error)
    means = {times: sum(each) / len(each) for times, each in sorted(errors.items())}
    held = [times for times in means if all(mean < BETTER for other, mean in means.items() if other <= times)]
    end = f"stays below {BETTER:.0%} up to {held[-1]}" if 1 in held else f"is above {BETTER:.0%} already"
    return (
        f"**{session.escape_markdown(label)}** gets {means[0]:.1%} wrong; with {'one swap' if swapped else 'one block out'} "
        f"{means[1]:.1%} in the mean ({min(errors[1]):.1%} to {max(errors[1]):.1%}), and {end}."
    )
