"""Inside the addition: what a block's branch adds to its shortcut, and how much every block adds."""

from __future__ import annotations

import math

import numpy as np
import streamlit as st

from ...drawing import rasters
from ...figures import inference
from ...inference import addition
from ...inference.addition import Addition, Contribution
from ..cached import Key, shared
from ..components import downloads, plot
from ..headline import section
from .picture import picture_columns, seen
from .running import Run

ALL = -1
"""Stands for all channels together."""


def panel(result: Run) -> None:
    """The addition of the selected block as images on one scale, and branch against shortcut over the depth."""
    if not result.prediction.finite:
        st.error("The activations overflowed, so there is nothing to compare.")
        return
    if result.trace.config.shortcut == "none":
        st.info("A plain network has no shortcuts and adds nothing: y = σ(F(x)). A residual one has, such as option B.")
        return
    found = cached_contributions(result.key, result)
    by_block = {one.block: one for one in found}
    block = result.layer.block
    left, right = picture_columns()
    with left, st.container(border=True, key="addition"):
        addition_card(result, by_block.get(block, found[0]))
        if block not in by_block:
            st.caption("The first block, as the selected layer is in none: a click in the drawing selects another.")
    with right:
        addition_picture(result, by_block.get(block, found[0]).block)
    with left, st.container(border=True, key="contributions"):
        figure = inference.contribution_figure(found, block, result.off)
        plot(figure, key="contribution chart")
        st.caption(words(found, result.off, result.size))


@shared()
def cached_contributions(key: Key, _result: Run) -> tuple[Contribution, ...]:
    return addition.contributions(_result.runner, _result.prepared.tensor, key.form)


@shared()
def cached_addition(key: Key, block: str, _result: Run) -> Addition:
    return addition.addition(_result.runner, _result.prepared.tensor, block, key.form)


def addition_card(result: Run, contribution: Contribution) -> None:
    """Shortcut, branch, their sum and the activation: one channel or all together, on one colour scale."""
    summands = cached_addition(result.key, contribution.block, result)
    title, choice = st.columns([3, 1], vertical_alignment="center")
    with title:
        off = ", which is off" if contribution.block in result.off else ""
        section(f"Inside the addition of `{contribution.block}`{off}")
    strength = np.abs(summands.branch).mean((1, 2))
    order = [int(channel) for channel in np.argsort(-np.nan_to_num(strength), kind="stable")]
    channel = choice.selectbox(
        "Channel",
        [ALL, *order],
        key=f"channel of {contribution.block}",
        persist_state="session",
        format_func=lambda channel: "All, root mean square" if channel == ALL else f"Channel {channel}",
        help="The channels with the strongest branch come first.",
    )
    channel = channel if channel in order else ALL
    maps = addition_maps(summands, contribution.block in result.off)
    shown = {name: channel_or_rms(values, channel) for name, values in maps.items()}
    limit = max(float(np.abs(values).max()) for values in shown.values())
    images = [rasters.enlarged(rasters.diverging(values, limit), 336) for values in shown.values()]
    with st.container(key="parts"):
        columns = st.columns(len(shown))
    for column, name, image in zip(columns, shown, images, strict=True):
        words = name[0].upper() + name[1:]
        column.image(image, caption=words, width="stretch", alt=f"{words} of {contribution.block}")
    scale = f"One scale for all: blue {-limit:.3g}, white 0, red {limit:.3g}.".replace("-", "−")
    if summands.activation is None:
        scale += " A pre-activation block ends with the sum."
    st.caption(
        f"{scale} ‖F(x)‖ = {contribution.branch:.4g}, ‖S(x)‖ = {contribution.shortcut:.4g}: the branch is **{ratio_text(contribution)}** as large as "
        f"the shortcut. The sum measures {contribution.total:.4g}."
    )
    downloads(
        f"{contribution.block}-addition",
        lambda: rasters.sheet([np.asarray(image) for image in images], len(images)),
        lambda: {
            name.partition(" ")[0]: values
            for name, values in addition_maps(
                cached_addition(result.key, contribution.block, result), contribution.block in result.off
            ).items()
        },
        sum(values.nbytes for values in maps.values()),
    )


def addition_picture(result: Run, block: str) -> None:
    """What comes of a block's addition over the image, all channels together."""
    summands = cached_addition(result.key, block, result)
    last = result.trace.blocks[block][-1]
    strength = channel_or_rms(summands.total, ALL)
    picture = rasters.overlay(strength, result.prepared.input_image, 0.6, last.field)
    seen(result, picture, f"How large the sum of {block} is over the image, root mean square of its channels")


def addition_maps(summands: Addition, off: bool) -> dict[str, np.ndarray]:
    """What is added in a block, which may be off, and what comes of it, each C×H×W."""
    maps = {
        "shortcut S(x)": summands.shortcut,
        "branch F(x)": summands.branch,
        "sum S(x)" if off else "sum F(x) + S(x)": summands.total,
    }
    if summands.activation is not None:
        maps["activation σ(sum)"] = summands.activation
    return maps


def channel_or_rms(values: np.ndarray, channel: int) -> np.ndarray:
    """One channel of C×H×W, or the root mean square over all."""
    return np.sqrt((values.astype(np.float64) ** 2).mean(0)) if channel == ALL else values[channel]


def ratio_text(contribution: Contribution) -> str:
    return f"{contribution.ratio:.2f} times" if math.isfinite(contribution.ratio) else "infinitely many times"


def words(contributions: tuple[Contribution, ...], off: tuple[str, ...], size: str) -> str:
    """What the chart says, in numbers."""
    ratios = [one.ratio for one in contributions if math.isfinite(one.ratio)]
    if not ratios:
        return "Every shortcut is zero on this image."
    least, most = (pick(contributions, key=lambda one: one.ratio) for pick in (min, max))
    said = (
        f"Euclidean norms over all channels and positions of one pass at {size} pixels. The ratio goes from "
        f"{least.ratio:.2f} in `{least.block}` to {most.ratio:.2f} in `{most.block}`, with median {float(np.median(ratios)):.2f}. "
        "A small ratio means that the block changes its input little."
    )
    return said + (" Hollow bars are what blocks that are off would add." if off else "")
