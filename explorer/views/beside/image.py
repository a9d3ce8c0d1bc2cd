"""One image through networks side by side: what each says, and the same block's maps, addition and Grad-CAM in step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import streamlit as st

from ...analysis.layers import Layer
from ...drawing import rasters
from ...inference.limits import check_gradients
from .. import session
from ..headline import section
from ..inference.addition import ALL, addition_maps, cached_addition, cached_contributions, channel_or_rms, ratio_text
from ..inference.attribution import cached_cams
from ..inference.images import ChosenImage
from ..inference.running import Run
from ..inference.verdict import NO_CLASSIFIER, bars
from ..inference.weights import preparation
from .networks import Network, all_blocks, runs

MAPS = 16
"""How many of the strongest channels are shown."""
SEEN_WIDTH = 112
"""How wide the image, and what a network sees of it, are: four and the image fit beside each other."""


def panel(networks: Sequence[Network], images: Sequence[ChosenImage]) -> None:
    """What each network says, and what the same block of each does."""
    if not images:
        st.info("Pick a sample, or upload or take an image, to see what the networks make of it.")
        return
    found = runs(networks, images)
    if not found:
        return
    recipes = {run: recipe(run) for run in found.values()}
    alike = len(set(recipes.values())) == 1
    with st.container(border=True, key="answers"):
        section("What each says")
        given, *columns = st.columns([2, *[3] * len(found)])
        name = images[0].name
        given.image(images[0].preview, caption=session.escape_markdown(name), width=SEEN_WIDTH, alt=name)
        for column, (network, run) in zip(columns, found.items(), strict=True):
            with column:
                st.markdown(f"**{session.escape_markdown(network.label)}**")
                if not alike:
                    seen(run, recipes[run], network.label)
                session.show_or_say(answer, run)
        same = "All get the image alike" if len(found) > 1 else "It gets the image so"
        st.caption(f"{same}: {next(iter(recipes.values()))}." if alike else "Each gets the image by its own recipe.")
    block = choose_block(list(found))
    card(
        f"The strongest maps of `{block}`", found, lambda run: maps(run, block, 8 if len(found) == 2 else 4), MAPS_WORDS
    )
    card(f"Inside the addition of `{block}`", found, lambda run: summands(run, block), ADDITION_WORDS)
    if target := next(filter(None, map(explained, found.values())), ""):
        title = f"Grad-CAM at `{block}`: where it finds what speaks for {session.escape_markdown(target)}"
        card(title, found, lambda run: grad_cam(run, block, target), CAM_WORDS)


def card(title: str, found: dict[Network, Run], draw: Callable[[Run], None], words: str = "") -> None:
    """A heading, and below it each network with what `draw` makes of its run."""
    with st.container(border=True):
        section(title)
        for column, (network, run) in zip(st.columns(len(found)), found.items(), strict=True):
            with column:
                st.markdown(f"**{session.escape_markdown(network.label)}**")
                session.show_or_say(draw, run)
        if words:
            st.caption(words)


def choose_block(networks: Sequence[Network]) -> str:
    """One of all blocks, which the link says by the layer or block that it selects; the last one that all have where it selects
    none.
    """
    blocks, at = all_blocks(networks), session.view().at
    common = [block for block in blocks if all(block in one.blocks for one in networks)]  # layer1.0 at least
    chosen = next((block for block in blocks if at == block or at.startswith(f"{block}.")), common[-1])
    session.set_widget("block", chosen, blocks)
    st.select_slider(
        "Block",
        blocks,
        key="block",
        on_change=lambda: session.choose(at=st.session_state["block"]),
        help="The same block of every network, by its name: layer2.0 is the first of the second stage.",
    )
    return chosen


def recipe(run: Run) -> str:
    """How the image became what a network sees: "input 28 px, crop 1.0, bilinear, in grey, inverted"."""
    channels = run.weights.config.in_channels
    grey = {1: ", in grey", 3: ""}.get(channels, f", in {channels} channels")
    return preparation(run.weights.data.preprocessing) + grey + (", inverted" if run.prepared.inverted else "")


def seen(run: Run, how: str, label: str) -> None:
    """What one network sees, and `how` that came about."""
    pixels = rasters.displayed_pixels(run.prepared.input_image, 2 * SEEN_WIDTH)
    st.image(pixels, caption=how.capitalize(), width=SEEN_WIDTH, alt=f"What {label} sees")


def answer(run: Run) -> None:
    """The three most probable classes as bars, of a network that was trained."""
    if not run.prediction.finite:
        st.error("The activations overflowed, so there is no prediction.")
    elif run.weights.key == "random":
        st.info("Untrained, so its scores mean nothing.")
    elif run.headless:
        st.info(NO_CLASSIFIER)
    else:
        top = run.prediction.top(3)
        names = [run.weights.data.categories[index] for index, _ in top]
        st.html(bars(names, [share for _, share in top]))
        if run.weights.accuracy is not None:
            st.caption(f"{run.weights.accuracy:.1%} of {run.weights.data.name}'s test images right")


def layer_of(run: Run, block: str) -> Layer | None:
    """What the block puts out; None, and a sentence, where the network has no such block."""
    if block in run.trace.blocks:
        return run.trace.blocks[block][-1]
    blocks = run.trace.config.blocks
    st.info(f"It has no `{block}`: its blocks are `{blocks[0]}` to `{blocks[-1]}`.")
    return None


MAPS_WORDS = (
    "What the block puts out: the channels of largest mean magnitude, each in its own range, dark to bright. Channels of two "
    "networks that have one number have nothing to do with each other; what can be compared is what kinds of maps there are."
)


def maps(run: Run, block: str, columns: int) -> None:
    """The strongest channels of a block's output, so many in a row."""
    if layer := layer_of(run, block):
        values, order = run.maps(layer.name), run.channels(layer.name)[:MAPS]
        signed = rasters.has_negative(values)
        scales = {int(one): rasters.scale_over([rasters.extent(values[one])], signed) for one in order}
        tiles = [
            np.pad(tile, ((1, 1), (1, 1), (0, 0)), constant_values=138)
            for tile in rasters.channel_tiles(values, scales)
        ]
        sheet = rasters.sheet(tiles, columns)
        dead = int((np.abs(values).max((1, 2)) == 0).sum())
        shape = "×".join(map(str, values.shape))
        words = f"{len(order)} of {len(values)} channels, {shape}" + (
            f", {dead} of them zero everywhere" if dead else ""
        )
        enlarged = rasters.enlarged(np.asarray(sheet), 3 * sheet.width)
        st.image(enlarged, caption=words, width="stretch", alt=f"The strongest maps of {block}")


ADDITION_WORDS = (
    "Root mean square over the channels; one scale for the three, of each network for itself. The ratio is that of the norms "
    "of branch and shortcut over all channels and positions: a small one means that the block changes its input little."
)


def summands(run: Run, block: str) -> None:
    """Shortcut, branch and sum of a block, and how large the branch is beside the shortcut."""
    if layer_of(run, block) is None:
        return
    if run.trace.config.shortcut == "none":
        st.markdown("A plain network adds nothing: y = σ(F(x)).")
        return
    if not run.prediction.finite:
        st.error("The activations overflowed, so there is nothing to compare.")
        return
    shown = addition_maps(cached_addition(run.key, block, run), off=False)
    shown = {name: channel_or_rms(values, ALL) for name, values in list(shown.items())[:3]}
    limit = max(float(np.abs(values).max()) for values in shown.values())
    with st.container(horizontal=True):
        for name, values in shown.items():
            picture = rasters.enlarged(rasters.viridis(values, 0.0, limit), 224)
            st.image(picture, caption=name, width=112, alt=f"{name} of {block}")
    one = next(each for each in cached_contributions(run.key, run) if each.block == block)
    st.markdown(f"‖F(x)‖ is **{ratio_text(one)}** ‖S(x)‖.")


def explained(run: Run) -> str:
    """The class that a network names, which is explained in all of them; "" where it names none."""
    if run.headless or run.weights.key == "random" or not run.prediction.finite:
        return ""
    return run.weights.data.categories[run.prediction.top(1)[0][0]]


CAM_WORDS = (
    "The block's maps, each weighed by how much the class's score rises with it, added, and negative sums cut off (Selvaraju 2017); "
    "each in its own range, so that it says where and not how much. The class is the one that the first network names; one that "
    "does not know it explains its own answer."
)


def grad_cam(run: Run, block: str, name: str) -> None:
    """Grad-CAM of a class at a block, over the image."""
    layer = layer_of(run, block)
    if layer is None:
        return
    if run.headless:
        st.info(NO_CLASSIFIER)
        return
    if not run.prediction.finite:
        st.error("The activations overflowed, so no class has a score to explain.")
        return
    check_gradients(run.trace)
    target = run.prediction.top(1)[0][0]
    if name in run.weights.data.categories:
        target = list(run.weights.data.categories).index(name)
    cam = cached_cams(run.key.plain, (layer.name,), target, run)[layer.name]
    if not cam.any():
        st.caption("Nothing here speaks for it: every sum is negative or zero.")
    picture = rasters.overlay(cam, run.prepared.input_image, 0.55, layer.field, 224)
    what = run.weights.data.categories[target]
    st.image(picture, width=280, alt=f"Grad-CAM of {what} at {block} over the image")
    sure = f"{run.prediction.probabilities[target]:.1%} sure of"
    if what == name:
        st.caption(f"{sure} it")
    else:
        st.caption(
            f"It knows no class {session.escape_markdown(name)}, so this is for its own answer, {session.escape_markdown(what)}: "
            f"{sure} that"
        )
