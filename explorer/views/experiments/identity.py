"""Blocks that copy their input, appended to a network: what a deeper network needs in order not to be worse."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from resnet import ConfigError, ResNetConfig
from resnet.presets import short_title
from resnet.weights import NAMES

from ...analysis.trace import Trace
from ...experiments.identity import (
    BLOCK_COUNTS,
    PLAIN,
    PLAIN_IDENTITY,
    RESIDUAL,
    RESIDUAL_ZERO,
    AppendResult,
    AppendSettings,
    batch_size,
    default_append,
    experiment,
    image_count,
    obstacle,
    parse_append,
)
from ...experiments.shipped import shipped_results
from ...figures.identity import appended_figure
from ...inference.limits import check_runnable
from ...inference.turns import TooLargeError
from ...sharing.threads import single_thread
from ...units import scientific
from .. import session, take
from ..cached import cached_result, device
from ..components import plot
from ..headline import section
from ..weights import loaded
from .trained import ExperimentSetup, choose_networks, chosen_experiment, experiment_setup


def panel(trace: Trace) -> None:
    """The experiment for a pair of networks that ship, or for the one that is shown."""
    st.markdown(
        "A deeper network should never be worse: take a shallower one that is trained, let every added layer **copy its "
        "input**, and it computes what it did (He et al. 2015, section 1). So such weights exist. What matters is how far away they "
        "are. Here blocks are appended to a network, residual and plain ones with the very same weights."
    )
    differs = "is untrained: it has no accuracy to lose, and other activations, norms and shortcuts may change what is copied."
    with st.container(horizontal=True, gap="medium", vertical_alignment="top"):
        with st.container(width="content"):
            shown = choose_networks("identity network", trace, differs)
        settings = link_append(shown[0].config)
        choose_append(shown[0].config, settings)
    for place, each in enumerate(shown):
        chosen = experiment_setup(each.config, each.image_size)
        try:
            check_runnable(chosen.trace)
            images = image_count(chosen.trace, settings, chosen.trained)
        except TooLargeError as error:
            st.info(session.escape_markdown(str(error)), icon=":material/block:")
            return
        result = append_result(chosen, settings, images)
        results(chosen, settings, result, place)
    st.caption(statement(chosen, result))
    solution_card(chosen.trace.config, settings, result)


def link_append(config: ResNetConfig) -> AppendSettings:
    """The place in the link; the default, and a sentence, where it has none for this network."""
    try:
        return parse_append(session.view().appended, config)
    except ConfigError as error:
        instead = default_append(config)
        words = f"{error} {instead.blocks} blocks after stage {instead.stage} are appended instead."
        st.warning(session.escape_markdown(words), icon=":material/error:")
        return instead


def choose_append(config: ResNetConfig, settings: AppendSettings) -> None:
    """After which stage, and how many."""
    session.set_widget("append stage", settings.stage)
    session.set_widget("append blocks", settings.blocks)
    stage, blocks = AppendSettings.options().values()

    def moved() -> None:
        there = AppendSettings(st.session_state["append stage"], st.session_state["append blocks"])
        # Said with it, since a link that names blocks and no networks is about the one that is shown.
        text = "" if there == default_append(config) else there.to_text()
        session.choose(appended=text, experiment=chosen_experiment())

    stages = range(1, len(config.layers) + 1)
    st.segmented_control(stage.label, stages, key="append stage", required=True, on_change=moved)
    st.segmented_control(blocks.label, BLOCK_COUNTS, key="append blocks", required=True, on_change=moved)


def append_result(chosen: ExperimentSetup, settings: AppendSettings, count: int) -> AppendResult:
    config = chosen.trace.config
    if config in NAMES and settings == default_append(config):
        return shipped_results().appended[NAMES[config]]

    key = ("identity", chosen.weights, chosen.trace.image_size, settings, count, device())

    def compute(move: Callable[[float], None]) -> AppendResult:
        network = loaded(chosen.weights)
        images, labels = chosen.images(count)
        with single_thread():
            steps = experiment(network, settings, images, labels, device(), at_once=batch_size(chosen.trace))
            for number, found in enumerate(steps, start=1):
                if isinstance(found, AppendResult):
                    break
                move(number / 6)
        assert isinstance(found, AppendResult)
        return found

    return cached_result(key, f"Appending blocks to {short_title(chosen.trace.config)} …", compute)


# -- what came out ------------------------------------------------------------------------


def results(chosen: ExperimentSetup, settings: AppendSettings, result: AppendResult, place: int) -> None:
    """Chart and table of all kinds, and what they say; `place` tells the networks that are shown apart."""
    config = chosen.trace.config
    deeper = config.depth + settings.blocks * (3 if config.block == "bottleneck" else 2)
    with st.container(border=True, key=f"appended {place}"):
        section(
            f"{session.escape_markdown(short_title(config))} with {settings.blocks} more block{'s' * (settings.blocks != 1)} after stage "
            f"{settings.stage}: {deeper} layers in place of {config.depth}"
        )
        left, right = st.columns(2)
        plot(appended_figure(result, chosen.trained), f"appended chart {place}", left)
        with right:
            take.table(
                outcome_table(result, chosen.trained), f"appended table {place}", "Appended blocks", width="stretch"
            )
            st.markdown(verdict(config, result))


def outcome_table(result: AppendResult, trained: bool) -> pd.DataFrame:
    rows = []
    for one in result.outcomes:
        row = {"Appended": one.kind}
        if trained:
            row["Top-1 accuracy"] = f"{one.accuracy:.1%}"
        row |= {
            "Same class": f"{one.same_class:.1%}",
            "Same bits": f"{one.equal_images} of {result.images}",
            "Largest Δ": scientific(one.difference),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def verdict(config: ResNetConfig, result: AppendResult) -> str:
    """Whether the residual blocks are the identity, and if not, why; and what their neighbours do."""
    zero = result.outcome(RESIDUAL_ZERO)
    if zero.equal_images == result.images:
        words = (
            f"**To the last bit.** With residual blocks whose branch is zero, all scores of all {result.images} images are "
            f"unchanged: the largest difference is {zero.difference:g}."
        )
        if config.order == "post":
            words += " $y = \\sigma(0 + x) = x$, since ReLU has made $x$ and leaves what is not negative."
        else:
            words += " $y = x + 0$, and nothing follows the addition."
    else:
        words = (
            f"**Not the identity here.** With residual blocks whose branch is zero, {zero.equal_images} of {result.images} images have "
            f"unchanged scores; the largest difference is {scientific(zero.difference)}. {reason(config, result)}"
        )
    bare, started = result.outcome(PLAIN), result.outcome(RESIDUAL)
    return words + (
        f" The shortcut alone does not make a copy: with branches as they are initialised, scores change by up to "
        f"{scientific(started.difference)}, and {started.same_class:.1%} of the images keep their class; without shortcuts "
        f"{bare.same_class:.1%} do."
    )


def reason(config: ResNetConfig, result: AppendResult) -> str:
    """Why residual blocks with an empty branch change the scores."""
    if config.shortcut == "C":
        return "With option C each shortcut is a projection, which at its initialisation is not the identity."
    if config.order == "post" and config.activation != "relu":
        words = config.activation.replace("_", " ")
        changed = (
            f"what is below zero, here {result.negative_share:.0%} of the numbers that the blocks read"
            if config.activation in ("leaky_relu", "elu")
            else "every number but zero"
        )
        return (
            f"Each block applies the activation once more, and {words} of {words} is not {words}: it changes {changed}."
        )
    return "The activations are too large or not numbers."


def statement(chosen: ExperimentSetup, result: AppendResult) -> str:
    """What was measured, on what, and what it does not show."""
    text = (
        f"Measured in fp32 and eval mode on {chosen.words(result.images)}; one seed for the new weights. New batch norms have "
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


def solution_card(config: ResNetConfig, settings: AppendSettings, result: AppendResult) -> None:
    """How far each kind of block is from the identity at its initialisation."""
    with st.container(border=True, key="solution"):
        section("What one block has to learn to copy its input")
        left, right = st.columns(2)
        last = "last batch norm's scale γ" if config.order == "post" and config.norm == "batch" else "last layer"
        zero = result.to_zero
        with left:
            st.markdown(
                f"**Residual: $F(x) = 0$.** The {last} goes to zero and the rest of the branch may be anything. From the "
                f"initialisation {zero.changed_parameters:,} parameters change, a distance of {zero.distance:.1f}"
                + (f" ({zero.deviations:,.0f} standard deviations)" if zero.deviations else "")
                + ". Started at zero (`zero_init_residual`), it is there already."
            )
        with right:
            st.markdown(plain_words(config, settings, result))
        st.caption(
            "Distances are Euclidean, over all parameters of one block. They do not say how hard the way is. The weights shown for the plain block are one "
            "solution; scaling its first convolution up and its second down, or renumbering the channels between them, gives others."
        )


def plain_words(config: ResNetConfig, settings: AppendSettings, result: AppendResult) -> str:
    """The weights of the identity for a plain block, how far they are, and what they do."""
    if result.to_identity is None:
        return f"**Plain: no such weights.** {obstacle(config, settings.stage)}"
    gap, copied = result.to_identity, result.outcome(PLAIN_IDENTITY)
    undo = (
        " and every batch norm $\\gamma = \\sqrt{v + \\varepsilon}$, $\\beta = m$, which undo its mean $m$ and variance $v$"
        if config.norm == "batch"
        else ""
    )
    words = (
        f"**Plain: $F(x) = x$.** Each convolution becomes a Dirac kernel (`nn.init.dirac_`: one at the centre of its own channel, "
        f"zero elsewhere){undo}. All {gap.changed_parameters:,} parameters have one value to take, a distance of {gap.distance:.1f}. For "
        f"the convolutions that is {gap.deviations:,.0f} standard deviations of their initialisation, and up to {gap.largest_change:.1f} for a "
        f"single weight."
    )
    if copied.equal_images == result.images:
        return words + " With these weights the scores are the same in every bit."
    words += (
        f" With these weights {copied.same_class:.1%} of the images keep their class, and scores differ by at most "
        f"{scientific(copied.difference)}"
    )
    if config.order == "pre":
        return words + ": its first activation removes what is negative, so it copies the rest only."
    if config.activation != "relu" or result.negative_share:
        return words + ": an activation changes what passes through it."
    return words + ", which is rounding."
