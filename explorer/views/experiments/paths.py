"""The paths through the shortcuts: how many there are, what gradient they carry, and the network without one block."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from resnet import ResNetConfig
from resnet.presets import short_title
from resnet.weights import BUNDLED, NAMES

from ... import units
from ...analysis.paths import path_counts
from ...analysis.trace import Trace
from ...experiments.paths import (
    PathGradients,
    Plan,
    collect_gradients,
    effective_paths,
    path_shares,
    plan,
    sample_gradients,
)
from ...experiments.shipped import PAIRS, shipped_results
from ...figures import inference
from ...figures.paths import length_figure, norm_figure
from ...inference.limits import check_runnable
from ...inference.samples import labelled_images
from ...inference.turns import TooLargeError
from ...link import View, natural_size
from ...navigation import INFERENCE
from ...sharing.threads import single_thread
from ...units import scientific
from .. import session
from ..cached import cached_result, cached_trace, device, may_compute, shared
from ..components import plot
from ..headline import section
from ..inference import ablation
from ..paths import all_paths
from ..weights import loaded
from .trained import ExperimentSetup, choose_networks, experiment_setup

LEVEL = 0.95
"""The share of the gradient that the effective paths carry."""


@shared()
def cached_path_counts(config: ResNetConfig, image_size: tuple[int, int]) -> tuple[tuple[int, ...], go.Figure]:
    counts = path_counts(cached_trace(config, image_size))
    return counts, length_figure(counts, None)


def panel(trace: Trace) -> None:
    """The experiment for a pair of networks that ship, or for the one that is shown."""
    st.markdown(
        "A block computes $F(x) + S(x)$, so a signal has two ways through it, and through $n$ blocks $2^n$. [Veit, Wilber "
        "and Belongie 2016](https://arxiv.org/abs/1605.06431) take a residual network for what that makes it: **many "
        "paths side by side, most of them half as long as the network; in theirs, which is trained, only the shorter ones carry gradient**."
    )
    differs = "has no weights that ship, so it is measured untrained and on noise, and its gradient may prefer other lengths than a trained network's."
    shown = choose_networks("path network", trace, differs)
    for each in shown:
        counts, figure = cached_path_counts(each.config, each.image_size)
        if each.config.shortcut == "none":
            one_path(each, counts)
        else:
            gradients(each, counts, figure)
    ablation_card(shown[0].config)
    if shown[0].config.shortcut != "none":
        all_paths(shown[0])


def one_path(trace: Trace, counts: tuple[int, ...]) -> None:
    with st.container(border=True, key="one path"):
        st.markdown(
            f"**One path.** {session.escape_markdown(short_title(trace.config))} is a plain network: the only path runs through "
            f"all {len(counts) - 1} blocks and carries the whole gradient. With shortcuts, as many blocks have "
            f"{units.power(2, len(counts) - 1)} paths."
        )


# -- gradients ----------------------------------------------------------------------------


def gradients(trace: Trace, counts: tuple[int, ...], figure: go.Figure) -> None:
    """The lengths, and once asked for, the gradient that each carries."""
    with st.container(border=True, key="lengths"):
        section("How long the paths are, and what gradient they carry")
        st.markdown(count_words(counts))
        found, planned, measured_on = measured_gradients(trace)
        left, right = st.columns(2)
        plot(figure if found is None else length_figure(counts, found), "lengths chart", left)
        if found is None or planned is None:
            right.caption(method(planned))
            return
        plot(norm_figure(found), "norms chart", right)
        st.markdown(summary(found))
        st.caption(f"{statement(planned, measured_on)} {method(planned)} {limits(found)}")


def count_words(counts: tuple[int, ...]) -> str:
    """How many paths there are, and how long most of them."""
    n, total = len(counts) - 1, sum(counts)
    shares = np.cumsum([count / total for count in counts])
    low, high = (int(np.searchsorted(shares, quantile)) for quantile in (0.025, 0.975))
    exact = f" = {total:,}" if 1 < n < 60 else ""
    if low == high:
        return f"{n} additions make {units.power(2, n)}{exact} paths."
    return (
        f"{n} additions make {units.power(2, n)}{exact} paths, counted in the traced graph: {units.count_text(max(counts))} of "
        f"length {counts.index(max(counts))}, but one each of length 0 and {n}. {shares[high] - (shares[low - 1] if low else 0):.0%} "
        f"of them run through {low} to {high} branches."
    )


def measured_gradients(trace: Trace) -> tuple[PathGradients | None, Plan | None, str]:
    """The gradients by length when asked for, what was sampled, and on what."""
    chosen = experiment_setup(trace.config, trace.image_size)
    try:
        check_runnable(chosen.trace)
        planned = plan(chosen.trace)
    except TooLargeError as error:
        st.info(session.escape_markdown(str(error)), icon=":material/block:")
        return None, None, ""
    if trace.config in NAMES:
        found = shipped_results().paths[NAMES[trace.config]]
    else:
        key = ("paths", chosen.weights, chosen.trace.image_size, planned, device())
        if not may_compute("Measure the gradients", key):
            return None, planned, ""
        found = path_gradients(key, chosen, planned)
    if not found.finite or not any(found.means) or not any(found.whole_norms):
        st.error("The gradients overflowed or vanished altogether, so there is nothing to share out.")
        return None, planned, ""
    return found, planned, chosen.words(planned.draws * planned.images)


def path_gradients(key: tuple[object, ...], chosen: ExperimentSetup, planned: Plan) -> PathGradients:
    network = loaded(chosen.weights)
    images, labels = chosen.images(planned.draws * planned.images)

    def compute(move: Callable[[float], None]) -> PathGradients:
        found, each = [], 1 + len(planned.lengths)
        with single_thread():
            for sample in sample_gradients(network, images, labels, planned, device()):
                found.append(sample)
                if not len(found) % each:
                    move(len(found) / each / planned.draws)
        return collect_gradients(path_counts(chosen.trace), planned.lengths, found)

    return cached_result(key, f"Following the gradient along paths of {short_title(chosen.trace.config)} …", compute)


def summary(gradients: PathGradients) -> str:
    """The effective paths, and how the gradient changes with length."""
    n, run = len(gradients.counts) - 1, effective_paths(gradients.shares, gradients.counts, LEVEL)
    mean = float(np.dot(range(n + 1), gradients.shares))
    usual = float(np.dot(range(n + 1), path_shares(gradients.counts)))
    words = (
        f"**{LEVEL:.0%} of the gradient comes from paths of length {run.low} to {run.high}**, of {n} that are possible; "
        f"{percent(run.paths)} of all paths are that long. On average a unit of gradient has run through {mean:.1f} "
        f"branches, a path through {usual:.1f}."
    )
    first, last = gradients.means[0], gradients.means[-1]
    if first and last:
        more = math.log10(last) - math.log10(first)
        times = f"{magnitude(more)} times" if more >= 0 else f"1/{magnitude(-more)} of"
        words += f" The path through every branch carries {times} what the one through none does."
    if mean < usual - 0.05 * n:
        words += " So the gradient prefers the shorter paths."
    elif mean > usual + 0.05 * n:
        words += " Here the gradient prefers the longer paths, unlike in the paper's network."
    else:
        words += " Here the gradient has no clear preference for shorter paths, unlike in the paper's network."
    return words


def percent(share: float) -> str:
    """98%, 0.45%, 0.0000012%."""
    return f"{share:.2%}" if share > 0.995 else f"{float(f'{100 * share:.2g}')}%"


def magnitude(log10: float) -> str:
    """A number by its logarithm, which may be beyond floating point."""
    return scientific(10**log10) if log10 < 300 else units.power(10, round(log10))


def method(planned: Plan | None) -> str:
    words = (
        "As in the paper's section 4.3: the forward pass is whole; on the way back the gradient goes through the branches of "
        "some blocks, drawn at random, and around all others. Its norm at the image, times the number of paths of that length, is what "
        "the length carries."
    )
    if planned:
        words += (
            f" {planned.draws} draws for each of {len(planned.lengths)} lengths, {planned.images} "
            f"image{'s' * (planned.images != 1)} each, one seed. The paper takes batches in training; here the network is in "
            "eval mode, where images do not mix and the gradients of all paths add up to the true one."
        )
    return words


def statement(planned: Plan, measured_on: str) -> str:
    every = len(planned.lengths) == planned.lengths[-1] + 1
    return f"Measured in fp32 on {measured_on}." + ("" if every else " Lengths in between are interpolated.")


def limits(gradients: PathGradients) -> str:
    """What the figures do not show."""
    return (
        f"What it does not show: norms are added up here, to {magnitude(gradients.excess)} times the norm of the true gradient, "
        "since paths cancel where their gradients point in opposite directions. And each mean is over few paths and leans on the "
        "largest, as the dots show."
    )


# -- blocks off ---------------------------------------------------------------------------


def ablation_card(config: ResNetConfig) -> None:
    """The network without each block in turn: here for a shipped one, else where to see it."""
    with st.container(border=True, key="removed"):
        section("Where it shows: one block switched off")
        shown = config if config in BUNDLED.values() else BUNDLED["resnet56"]
        if shown == config:
            pair = next(pair for pair in PAIRS.values() if NAMES[config] in pair)
            found = {short_title(BUNDLED[name]): shipped_results().ablations[name] for name in pair}
            label = next(iter(inference.ABLATION_MEASURES))
            images = f"{len(labelled_images().labels)} test images"
            plot(inference.ablation_figure(found, label, images), key="ablation chart")
            for network, one in found.items():
                st.markdown(ablation.summary(network, one, inference.ABLATION_MEASURES[label]))
        st.caption(
            "Without one of n blocks, half of the paths are left, and each of them is whole: if many paths do the work, the "
            "network should hardly notice. " + ablation.EXPLANATION
        )
        there = View(shown, natural_size(shown), tab="Blocks off")
        if config == session.view().config:
            there = replace(session.view(), tab="Blocks off", at="", off=())
        st.page_link(
            INFERENCE.file,
            label=f"Switch off blocks of {short_title(shown)} by hand",
            icon=":material/arrow_forward:",
            query_params=session.query_to(there),
        )
