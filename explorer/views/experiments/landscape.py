"""The loss around trained networks, in planes and along lines through their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from resnet.presets import short_title
from resnet.weights import BUNDLED

from ...analysis.trace import Trace
from ...experiments.landscape import (
    BATCH,
    COMMAND,
    PAIR,
    RUNNING,
    SLICE,
    Results,
    Settings,
    Surroundings,
    directions,
    image_count,
    shipped_landscape,
    slice_losses,
)
from ...export.tables import LINK
from ...figures.landscape import common_range, contour_figure, profile_figure, slice_figure, surface_figure
from ...inference.limits import check_runnable
from ...inference.turns import TooLargeError
from ...link import View, natural_size, relative
from ...sharing.threads import single_thread
from ...units import decimals, scientific
from .. import session, settings, take
from ..cached import cached_result, device, may_compute, shared
from ..components import plot
from ..headline import section
from ..weights import loaded
from .trained import ExperimentSetup, choose_networks, experiment_setup

STATISTICS = {BATCH: "the images' own statistics", RUNNING: "running statistics"}
TITLES = {name: short_title(BUNDLED[name]) for name in PAIR}
"""The two networks whose surfaces ship, the residual one first."""
PLAIN = (TITLES[PAIR[1]],)


def panel(trace: Trace) -> None:
    """The experiment for the pair that ships, or slices of the network that is shown."""
    settings.problem(Settings)
    st.markdown(
        "A network's loss is a function of all its weights. Li et al. 2018 (https://arxiv.org/abs/1712.09913) cut it by planes "
        "through the trained network, and see **a chaotic surface around a deep plain network, and a smooth one with shortcuts**. "
        "Here is what such planes show of the networks that ship, and how much of it hangs on one choice: what batch norm does with weights that are moved."
    )
    differs = "has no surfaces that ship; a slice of its loss is computed here, untrained and on noise where no weights ship with it."
    with st.container(horizontal=True, gap="medium", vertical_alignment="top"):
        with st.container(width="content"):
            shown = choose_networks("landscape network", trace, differs, " and ".join(TITLES.values()), COMMAND)
        unchanged = "The settings are unchanged."
        settings.setting(
            Settings, "statistics", unchanged, segmented=True, width="content", format_func=STATISTICS.__getitem__
        )
        settings.setting(Settings, "seed", unchanged, segmented=True, width="content")
    chosen = settings.chosen(Settings)
    if len(shown) > 1:
        surfaces_card(shipped_landscape(), chosen)
    slice_card(shown, chosen)


# -- the surfaces that ship ---------------------------------------------------------------


@shared()
def cached_contour_figure(network: str, statistics: str) -> go.Figure:
    found = shipped_landscape()
    shades = common_range(one for name in PAIR for one in found.of(name, statistics))
    return contour_figure(found.of(network, statistics), shades, f"{TITLES[network]}: loss around it")


@shared()
def cached_surface_figure(network: str, statistics: str, seed: int) -> go.Figure:
    found = shipped_landscape()
    shades = common_range(one for name in PAIR for one in found.of(name, statistics))
    (one,) = (one for one in found.of(network, statistics) if one.seed == seed)
    return surface_figure(one, shades, f"{TITLES[network]}, seed {seed}")


@shared()
def cached_profile_figure(statistics: str) -> go.Figure:
    found = shipped_landscape()
    every = {TITLES[name]: found.of(name, statistics) for name in PAIR}
    return profile_figure(every, PLAIN, "Median loss by distance, range of seeds")


def surfaces_card(found: Results, chosen: Settings) -> None:
    """Contours of every seed, the surface of the chosen one, the loss by distance, and what they say."""
    with st.container(border=True, key="landscape surfaces"):
        section(f"Planes through {' and '.join(TITLES.values())}, {STATISTICS[chosen.statistics]}")
        st.markdown(summary(found, chosen.statistics))
        for name, place in zip(PAIR, st.columns(2), strict=True):
            plot(cached_contour_figure(name, chosen.statistics), f"contours of {name}", place)
            plot(cached_surface_figure(name, chosen.statistics, chosen.seed), f"surface of {name}", place)
        left, right = st.columns(2)
        plot(cached_profile_figure(chosen.statistics), "landscape profile", left)
        with right:
            data = partial(table_data, found, chosen.statistics)
            take.texts(table(found, chosen.statistics), "landscape rows", "Loss around two networks", data)
            st.caption(
                "From the least to the greatest of the seeds. Not convex: points inside the grid at which the plane's own curvature has a "
                "negative part of more than a tenth of its largest."
            )
        st.caption(f"{method(found, chosen.statistics)} {LIMITS}")
    with st.container(border=True, key="landscape sharpness"):
        section("The largest eigenvalue, on ever more images")
        st.markdown(sharpness_summary(found))
        data = partial(sharpness_data, found)
        take.texts(sharpness_table(found), "sharpness rows", "Largest eigenvalues", data, words=0)
        st.caption(sharpness_words(found))


def summary(found: Results, statistics: str) -> str:
    """Which of the two is the rougher one, and which lies higher, in how many seeds."""
    residual, plain = (found.of(name, statistics) for name in PAIR)
    seeds, rougher = len(residual), found.rougher(statistics)
    higher = sum(one.by_distance[1.0] < other.by_distance[1.0] for one, other in zip(residual, plain, strict=True))
    smooth, plain_name = TITLES[PAIR[0]], TITLES[PAIR[1]]
    seen = "as in the paper" if rougher == seeds else "against the paper" if not rougher else "which decides nothing"
    return (
        f"**The surface around {plain_name} is not convex at more points than that around {smooth} in {rougher} of {seeds} seeds**, {seen}; at the "
        f"edge, where filters have moved by their own length, its loss is the higher one in {higher} of {seeds}."
    )


def table(found: Results, statistics: str) -> list[dict[str, str]]:
    """The loss at the centre and at the edge, and the part that is not convex, of both networks."""
    rows = []
    for name in PAIR:
        every = found.of(name, statistics)
        edges, curved = [one.by_distance[1.0] for one in every], [one.nonconvex for one in every]
        rows.append(
            {
                "Network": TITLES[name],
                "Loss at the centre": decimals(every[0].by_distance[0.0]),
                "at the edge": f"{scientific(min(edges))} to {scientific(max(edges))}",
                "Not convex": f"{min(curved):.0%} to {max(curved):.0%}",
            }
        )
    return rows


def table_data(found: Results, statistics: str) -> list[dict[str, Any]]:
    """The same of every seed, in full."""
    return [
        {
            "Network": TITLES[name],
            "Seed": one.seed,
            "Loss at the centre": one.by_distance[0.0],
            "Loss at the edge": one.by_distance[1.0],
            "Not convex": one.nonconvex,
            LINK: own_link(name),
        }
        for name in PAIR
        for one in found.of(name, statistics)
    ]


def own_link(name: str) -> str:
    """The link to one of the networks that ship, whose weights come with it."""
    return relative(View(BUNDLED[name], natural_size(BUNDLED[name])))


def sharpness_summary(found: Results) -> str:
    """Whose largest eigenvalue is the larger one, on ever more images, and whether that order stands."""
    (largest, plain_first, _), *fewer = reversed(found.sharper)
    winner, other = (TITLES[name] for name in (PAIR[::-1] if plain_first else PAIR))
    values = {TITLES[name]: found.sharpness[name][-1].eigenvalues[0] for name in PAIR}
    counts = [(size, count if plain_first else sets - count, sets) for size, count, sets in fewer]
    stands = all(count == sets for _, count, sets in counts)
    seen = " and ".join(f"in {count} of {sets} sets of {size}" for size, count, sets in counts)
    return (
        f"**On {largest} images the largest eigenvalue of the loss's Hessian, λ, is the larger one for {winner}**: {values[winner]:.1f} against "
        f"{values[other]:.1f} for {other}; {seen}. "
        + (
            "So the order stands on any of them."
            if stands
            else "So the order hangs on which images are taken, and how many, and decides nothing."
        )
    )


def sharpness_table(found: Results) -> list[dict[str, str]]:
    """λ of both networks on sets of ever more images."""
    rows = []
    for each in zip(*(found.sharpness[name] for name in PAIR), strict=True):
        row = {"Images": str(each[0].images), "Sets": str(len(each[0].sets))}
        for name, one in zip(PAIR, each, strict=True):
            low, high = min(one.eigenvalues), max(one.eigenvalues)
            row[f"λ, {TITLES[name]}"] = (
                f"{low:.1f}" if len(one.sets) == 1 else f"{np.mean(one.eigenvalues):.1f} ({low:.1f} to {high:.1f})"
            )
        rows.append(row)
    return rows


def sharpness_data(found: Results) -> list[dict[str, Any]]:
    """The same of every set, in full."""
    return [
        {"Network": TITLES[name], "Images": one.images, "Set": place, "λ": value, LINK: own_link(name)}
        for name in PAIR
        for one in found.sharpness[name]
        for place, value in enumerate(one.eigenvalues)
    ]


def sharpness_words(found: Results) -> str:
    """What λ is, and how far it is known."""
    every = [one for each in found.sharpness.values() for curvature in each for one in curvature.sets]
    together = found.sharper[0][0]
    return (
        "The mean over sets of the first images of the test set that have none in common, and the least to the greatest of them. λ is the eigenvalue of the Hessian "
        "that is largest in magnitude, at the trained weights, over all parameters. The loss is the mean over batches of "
        f"{together} images, each of which batch norm normalises by its own mean and variance, as in training. By Lanczos' method with exact products, up to "
        f"{max(one.products for one in every)} of them, until the residual is at most {max(one.residual for one in every):.1%} of λ. It depends on how large "
        "the weights are, which batch norm makes arbitrary, so it compares two networks of one recipe at best."
    )


def method(found: Results, statistics: str) -> str:
    """How the surfaces were made, and on what."""
    side = len(found.surfaces[0].losses)
    own = (
        "Batch norm takes the mean and variance of the images at hand, as in training: this is the loss that training "
        "minimised, and scaling a filter does not change it."
        if statistics == BATCH
        else "Batch norm takes the running statistics, as in use and in the paper's code: a moved layer is normalised by what it put "
        "out before it was moved, and the mismatches multiply from layer to layer. Part of what is seen here is that."
    )
    return (
        f"Loss L(w + a·u + b·v) at {side}×{side} points, on a logarithmic scale of colours and heights that both networks share. u and v are random, each filter of "
        "them as long as the network's own, and zero for biases and for the parameters of batch norm; each seed draws another pair. "
        f"The cross is the trained network. {own} Mean cross-entropy in fp32 and eval mode on the first {found.images} images of Fashion-MNIST's test set, "
        f"none of which it was trained on. Made by `{found.command}`."
    )


LIMITS = (
    "What it does not show: a plane is two directions out of 850,000. A surface can look convex in every plane that is drawn at random and "
    "have steep directions that none of them meets, as λ shows; and it says nothing of the way that training took."
)


# -- slices -------------------------------------------------------------------------------


def slice_card(shown: Sequence[Trace], chosen: Settings) -> None:
    """The loss along the seed's first direction, computed here when it is asked for."""
    with st.container(border=True, key="landscape slice"):
        section(f"A slice, computed here: seed {chosen.seed}, {STATISTICS[chosen.statistics]}")
        setups = [experiment_setup(each.config, each.image_size) for each in shown]
        try:
            for each in setups:
                check_runnable(each.trace)
            counts = [image_count(each.trace) for each in setups]
        except TooLargeError as error:
            st.info(session.escape_markdown(str(error)), icon=":material/block:")
            return
        keys = [slice_key(each, chosen, count) for each, count in zip(setups, counts, strict=True)]
        if may_compute("Compute the slice", *keys):
            found = {
                short_title(each.trace.config): slice_of(key, each, chosen, count)
                for key, each, count in zip(keys, setups, counts, strict=True)
            }
            plain = [short_title(each.config) for each in shown if each.config.shortcut == "none"]
            plot(slice_figure(found, SLICE, plain, "Loss along u"), "slice chart")
        st.caption(
            f"{len(SLICE)} points w + a·u with a from {SLICE[0]:g} to {SLICE[-1]:g}, in fp32, on {setups[0].words(min(counts))}; u is the first of the "
            "two directions of the seed. What it does not show: what lies in any other direction."
        )


def slice_key(each: ExperimentSetup, chosen: Settings, count: int) -> tuple[object, ...]:
    return ("landscape", each.weights, each.trace.image_size, chosen, count, device())


def slice_of(key: tuple[object, ...], each: ExperimentSetup, chosen: Settings, count: int) -> tuple[float, ...]:
    """The losses along the seed's first direction, on so many images; its key holds what they depend on."""
    network = loaded(each.weights)
    images, labels = each.images(count)

    def compute(move: Callable[[float], None]) -> tuple[float, ...]:
        found = []
        with single_thread():
            around = Surroundings(network, images, labels, chosen.statistics, device())
            along, _ = directions(around.network, chosen.seed)
            for loss in slice_losses(around, along):
                found.append(loss)
                move(len(found) / len(SLICE))
        return tuple(found)

    return cached_result(key, f"The loss around {short_title(each.trace.config)} …", compute)
