"""Blocks that copy their input, appended to a network: what a deeper network needs in order not to be worse."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from resnet import ConfigError, ResNetConfig

from ...analysis.trace import Trace
from ...experiments.identity import (
    COUNTS,
    PLAIN,
    PLAIN_IDENTITY,
    RESIDUAL,
    RESIDUAL_ZERO,
    Appended,
    Outcome,
    Place,
    affordable,
    default_place,
    experiment,
    obstacle,
    parse_place,
    together,
)
from ...figures.identity import appended_figure
from ...inference.limits import check_runnable
from ...inference.turns import TooLargeError
from ...sharing.threads import single_thread
from ...units import scientific
from .. import session
from ..cached import computed, device
from ..weights import loaded
from .trained import Setting, choose, name, setting


def panel(trace: Trace) -> None:
    """The experiment for the network that is shown."""
    st.markdown(
        "A deeper network should never be worse: take a shallower one that is trained, let every added layer **copy its "
        "input**, and it computes what it did (He et al. 2015, section 1). So such weights exist. What matters is how far away they "
        "are. Here blocks are appended to a network, residual and plain ones with the very same weights."
    )
    place = asked(trace.config)
    with st.container(horizontal=True, gap="medium"):
        choose("identity network")
        choose_place(trace.config, place)
    chosen = setting(trace.config, trace.image_size)
    try:
        check_runnable(chosen.trace)
        images = affordable(chosen.trace, place, chosen.trained)
    except TooLargeError as error:
        st.info(session.escape_markdown(str(error)), icon=":material/block:")
        return
    found = outcome(chosen, place, images)
    results(chosen, place, found)
    solution(chosen.trace.config, place, found)


def asked(config: ResNetConfig) -> Place:
    """The place in the link; the default, and a sentence, where it has none for this network."""
    try:
        return parse_place(session.view().appended, config)
    except ConfigError as error:
        instead = default_place(config)
        words = f"{error} {instead.blocks} blocks after stage {instead.stage} are appended instead."
        st.warning(session.escape_markdown(words), icon=":material/error:")
        return instead


def choose_place(config: ResNetConfig, now: Place) -> None:
    """After which stage, and how many."""
    session.set_widget("append stage", now.stage)
    session.set_widget("append blocks", now.blocks)
    stage, blocks = Place.options().values()

    def moved() -> None:
        there = Place(st.session_state["append stage"], st.session_state["append blocks"])
        session.choose(appended="" if there == default_place(config) else there.to_text())

    stages = range(1, len(config.layers) + 1)
    st.segmented_control(stage.label, stages, key="append stage", required=True, on_change=moved)
    st.segmented_control(blocks.label, COUNTS, key="append blocks", required=True, on_change=moved)


def outcome(chosen: Setting, place: Place, count: int) -> Appended:
    key = ("identity", chosen.weights, chosen.trace.image_size, place, count, device())

    def compute(move: Callable[[float], None]) -> Appended:
        network = loaded(chosen.weights)
        images, labels = chosen.images(count)
        with single_thread():
            steps = experiment(network, place, images, labels, device(), at_once=together(chosen.trace))
            for number, found in enumerate(steps, start=1):
                if isinstance(found, Appended):
                    break
                move(number / 6)
        assert isinstance(found, Appended)
        return found

    return computed(key, f"Appending blocks to {name(chosen.trace.config)} …", compute)


# -- what came out ------------------------------------------------------------------------


def results(chosen: Setting, place: Place, found: Appended) -> None:
    """Chart and table of all kinds, and what they say."""
    config = chosen.trace.config
    deeper = config.depth + place.blocks * (3 if config.block == "bottleneck" else 2)
    with st.container(border=True, key="appended"):
        st.markdown(
            f"**{session.escape_markdown(name(config))} with {place.blocks} more block{'s' * (place.blocks != 1)} after stage "
            f"{place.stage}: {deeper} layers in place of {config.depth}**"
        )
        left, right = st.columns(2)
        left.plotly_chart(appended_figure(found, chosen.trained), key="appended chart")
        right.dataframe(frame(found, chosen.trained), hide_index=True, key="appended table", width="stretch")
        with right:
            st.markdown(verdict(config, found))
        st.caption(statement(chosen, found))


def frame(found: Appended, trained: bool) -> pd.DataFrame:
    rows = []
    for one in found.outcomes:
        row = {"Appended": one.kind}
        if trained:
            row["Right"] = f"{one.right:.1%}"
        row |= {
            "Same class": f"{one.same:.1%}",
            "Same bits": f"{one.equal} of {found.images}",
            "Largest Δ": scientific(one.difference),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def of(found: Appended, kind: str) -> Outcome:
    return next(one for one in found.outcomes if one.kind == kind)


def verdict(config: ResNetConfig, found: Appended) -> str:
    """Whether the residual blocks are the identity, and if not, why; and what their neighbours do."""
    zero = of(found, RESIDUAL_ZERO)
    if zero.equal == found.images:
        words = (
            f"**To the last bit.** With residual blocks whose branch is zero, all scores of all {found.images} images are "
            f"unchanged: the largest difference is {zero.difference:g}."
        )
        if config.order == "post":
            words += " $y = \\sigma(0 + x) = x$, since ReLU has made $x$ and leaves what is not negative."
        else:
            words += " $y = x + 0$, and nothing follows the addition."
    else:
        words = (
            f"**Not the identity here.** With residual blocks whose branch is zero, {zero.equal} of {found.images} images have "
            f"unchanged scores; the largest difference is {scientific(zero.difference)}. {reason(config, found)}"
        )
    bare, started = of(found, PLAIN), of(found, RESIDUAL)
    return words + (
        f" The shortcut alone does not make a copy: with branches as they are initialised, scores change by up to "
        f"{scientific(started.difference)}, and {started.same:.1%} of the images keep their class; without shortcuts "
        f"{bare.same:.1%} do."
    )


def reason(config: ResNetConfig, found: Appended) -> str:
    """Why residual blocks with an empty branch change the scores."""
    if config.shortcut == "C":
        return "With option C each shortcut is a projection, which at its initialisation is not the identity."
    if config.order == "post" and config.activation != "relu":
        words = config.activation.replace("_", " ")
        changed = (
            f"what is below zero, here {found.below:.0%} of the numbers that the blocks read"
            if config.activation in ("leaky_relu", "elu")
            else "every number but zero"
        )
        return (
            f"Each block applies the activation once more, and {words} of {words} is not {words}: it changes {changed}."
        )
    return "The activations are too large or not numbers."


def statement(chosen: Setting, found: Appended) -> str:
    """What was measured, on what, and what it does not show."""
    text = (
        f"Measured in fp32 and eval mode on {chosen.words(found.images)}; one seed for the new weights. New batch norms have "
        "not seen data yet (mean 0, variance 1), and stochastic depth drops nothing in use. Same bits: images all of whose scores "
        "are unchanged; Δ: change of a score. Blue is residual, brown plain. "
        "What it does not show: whether training finds such weights, which is the degradation experiment."
    )
    return (
        text
        if chosen.trained
        else text + " An untrained network has no accuracy to lose; what is compared is the class it names."
    )


# -- what a plain block would have to learn -----------------------------------------------


def solution(config: ResNetConfig, place: Place, found: Appended) -> None:
    """How far each kind of block is from the identity at its initialisation."""
    with st.container(border=True, key="solution"):
        st.markdown("**What one block has to learn to copy its input**")
        left, right = st.columns(2)
        last = "last batch norm's scale γ" if config.order == "post" and config.norm == "batch" else "last layer"
        zero = found.to_zero
        with left:
            st.markdown(
                f"**Residual: $F(x) = 0$.** The {last} goes to zero and the rest of the branch may be anything. From the "
                f"initialisation {zero.numbers:,} parameters change, a distance of {zero.distance:.1f}"
                + (f" ({zero.deviations:,.0f} standard deviations)" if zero.deviations else "")
                + ". Started at zero (`zero_init_residual`), it is there already."
            )
        with right:
            st.markdown(plain_words(config, place, found))
        st.caption(
            "Distances are Euclidean, over all parameters of one block. They do not say how hard the way is. The weights shown for the plain block are one "
            "solution; scaling its first convolution up and its second down, or renumbering the channels between them, gives others."
        )


def plain_words(config: ResNetConfig, place: Place, found: Appended) -> str:
    """The weights of the identity for a plain block, how far they are, and what they do."""
    if found.to_identity is None:
        return f"**Plain: no such weights.** {obstacle(config, place.stage)}"
    gap, copied = found.to_identity, of(found, PLAIN_IDENTITY)
    undo = (
        " and every batch norm $\\gamma = \\sqrt{v + \\varepsilon}$, $\\beta = m$, which undo its mean $m$ and variance $v$"
        if config.norm == "batch"
        else ""
    )
    words = (
        f"**Plain: $F(x) = x$.** Each convolution becomes a Dirac kernel (`nn.init.dirac_`: one at the centre of its own channel, "
        f"zero elsewhere){undo}. All {gap.numbers:,} parameters have one value to take, a distance of {gap.distance:.1f}. For "
        f"the convolutions that is {gap.deviations:,.0f} standard deviations of their initialisation, and up to {gap.furthest:.1f} for a "
        f"single weight."
    )
    if copied.equal == found.images:
        return words + " With these weights the scores are the same in every bit."
    words += (
        f" With these weights {copied.same:.1%} of the images keep their class, and scores differ by at most "
        f"{scientific(copied.difference)}"
    )
    if config.order == "pre":
        return words + ": its first activation removes what is negative, so it copies the rest only."
    if config.activation != "relu" or found.below:
        return words + ": an activation changes what passes through it."
    return words + ", which is rounding."
