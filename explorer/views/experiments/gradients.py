"""Signals and gradients by depth, and whether the gradients of neighbouring inputs have anything in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import streamlit as st

from resnet import ResNetConfig
from resnet.presets import short_title
from resnet.weights import BUNDLED

from ...analysis.trace import Trace
from ...experiments.gradients import (
    BLOCK_COUNTS,
    IMAGE_SIDE,
    PLAIN,
    POINT_COUNT,
    POINTS,
    RESIDUAL,
    SEEDS,
    WIDTH,
    Flows,
    Plan,
    Point,
    Twin,
    block_boundaries,
    cosines_by_depth,
    initial_flows,
    main_path,
    plan,
    shattering,
    small_pair,
)
from ...experiments.shipped import BATCH, BATCHES, is_shipped_family, shipped_family, shipped_results, shipped_twins
from ...figures.gradients import Style, cosine_figure, flow_figure, slope_figure
from ...inference.limits import check_runnable
from ...inference.turns import TooLargeError
from ...link import natural_size
from ...navigation import EXPERIMENTS
from ...sharing.threads import single_thread
from ...units import decimals, scientific
from .. import session
from ..cached import cached_result, cached_trace, device
from ..components import plot
from ..headline import section
from .trained import choose_networks, experiment_setup


def panel(trace: Trace) -> None:
    """How large signals and gradients are, for the network that is shown and for the shipped ones."""
    st.markdown(
        "Do gradients vanish in a deep plain network, so that its first layers cannot learn? He et al. 2015 (section 4.1) say that this is "
        "not what makes it hard to train: batch norm keeps signals and gradients alive. Here both are measured, **layer by "
        "layer, with and without shortcuts, with and without normalisation**."
    )
    differs = "has another depth, and maybe other blocks, so its gradients may grow or fall otherwise than those of the networks that ship."
    shown, *_ = choose_networks("gradient network", trace, differs)
    initial_card(shown)
    after_training()


# -- at initialisation --------------------------------------------------------------------


def initial_card(trace: Trace) -> None:
    small = cached_trace(trace.config, experiment_setup(trace.config, trace.image_size).trace.image_size)
    try:
        check_runnable(small)
        planned = plan(small)
    except TooLargeError as error:
        st.info(session.escape_markdown(str(error)), icon=":material/block:")
        return
    with st.container(border=True, key="gradients at start"):
        section(f"{session.escape_markdown(short_title(trace.config))} and its twins at their initialisation")
        found = twin_flows(small, planned)
        charts({label(twin): (spread, style(twin)) for twin, spread in found.items()}, {label(t): small for t in found})
        st.markdown(charts_text(found))
        st.page_link(
            EXPERIMENTS.file,
            label="What else could it be? Shattered gradients",
            icon=":material/arrow_forward:",
            query_params=replace(session.view(), tab="Shattered gradients").to_query(),
        )
        st.caption(statement(small, planned))


def twin_flows(trace: Trace, planned: Plan) -> Mapping[Twin, Flows]:
    if (shipped := shipped_twins(trace.config)) is not None:
        return shipped

    def compute(move: Callable[[float], None]) -> dict[Twin, Flows]:
        with single_thread():
            return initial_flows(trace, planned, device(), move)

    key = ("gradients", trace.config, trace.image_size, planned, device())
    return cached_result(key, f"Gradients of {short_title(trace.config)} and its twins …", compute)


NORMS = {"batch": "batch norm", "group": "group norm", "none": "no norm"}


def label(twin: Twin) -> str:
    return f"{twin.kind.capitalize()}, {NORMS[twin.norm]}"


def style(twin: Twin) -> Style:
    return Style(twin.kind, "solid" if twin.has_norm else "dot")


def charts(flows: Mapping[str, tuple[Flows, Style]], traces: Mapping[str, Trace]) -> None:
    """Signal and gradient side by side."""
    left, right = st.columns(2)
    convolutions = {each: range(1, len(main_path(trace)) + 1) for each, trace in traces.items()}
    key = " and ".join(flows)
    plot(
        flow_figure(
            flows,
            "signal",
            {each: block_boundaries(trace) for each, trace in traces.items()},
            "Signal that blocks read",
            "standard deviation",
        ),
        f"signal of {key}",
        left,
    )
    plot(
        flow_figure(flows, "gradient", convolutions, "Gradient of each convolution", "‖∂loss/∂W‖"),
        f"gradient of {key}",
        right,
    )
    lost = [each for each, (spread, _) in flows.items() if not spread.finite]
    if lost:
        st.caption(f"{'; '.join(lost)}: where lines are missing, numbers are beyond the range of fp32.")


def charts_text(flows: Mapping[Twin, Flows]) -> str:
    """What the charts say, in words that follow the numbers."""
    norm = next(twin.norm for twin in flows if twin.has_norm)
    plain, residual = (flows[Twin(kind, norm)].ends("gradient") for kind in (PLAIN, RESIDUAL))
    bare = flows[Twin(PLAIN, "none")]
    words = [
        f"**With {NORMS[norm]}**, from the last convolution to the first, the plain network's gradient {change_text(plain)}, the residual one's {change_text(residual)}."
    ]
    if plain[0] > 2 * plain[1]:
        words.append(
            "**It does not vanish: toward the image it grows**"
            + (", and far less with shortcuts." if residual[0] / residual[1] < plain[0] / plain[1] / 2 else ".")
        )
    signal, gradient = bare.ends("signal"), bare.ends("gradient")
    if np.isfinite(signal).all():
        words.append(
            f"**Without normalisation**, from the first block to the end, the plain network's signal {change_text(signal[::-1])}."
        )
        if np.isfinite([gradient[0], plain[0]]).all() and plain[0]:
            words.append(
                f"The gradient of its first convolution is {factor_text(gradient[0] / plain[0])} what it is with {NORMS[norm]}"
                + (": there it does vanish." if gradient[0] < plain[0] / 10 else ".")
            )
    summed = flows[Twin(RESIDUAL, "none")].ends("signal")
    if np.isfinite(summed).all():
        words.append(
            f"With shortcuts and no normalisation the signal {change_text(summed[::-1])}: every addition adds to it."
        )
    return " ".join(words)


def change_text(ends: tuple[float, float]) -> str:
    """How the first of two numbers stands to the second: grows 5.2 times, falls to 1/30."""
    first, last = ends
    if not np.isfinite(ends).all():
        return "leaves the range of fp32"
    if not first or not last:
        return "is zero at one end"
    if 0.8 < first / last < 1.25:
        return f"keeps its size ({scientific(first / last)} times)"
    return f"grows {scientific(first / last)} times" if first > last else f"falls to 1/{scientific(last / first)}"


def factor_text(factor: float) -> str:
    """1/180,000 of, 3.4 times."""
    return f"1/{scientific(1 / factor)} of" if 0 < factor < 1 else f"{scientific(factor)} times"


def statement(trace: Trace, planned: Plan) -> str:
    height, width = trace.image_size
    seeds = f"{planned.seeds} seeds, which draw weights and images (line: geometric mean, band: least to greatest)"
    return (
        f"Measured in fp32 and training mode, before any training, on {planned.images} images of Gaussian noise, {height}×{width} "
        f"pixels, with labels by chance; {seeds if planned.seeds > 1 else 'one seed'}. All four networks start with the same weights where they "
        "have the same layer. Signal: standard deviation of each block's input and of the last block's output. Gradient: Euclidean norm over the weights of each "
        "convolution that is not on a shortcut. What it does not show: how large a step may be. Normalisation takes the scale of the weights out of "
        "a layer's output, so a large gradient need not mean a large change."
    )


# -- after training -----------------------------------------------------------------------


def after_training() -> None:
    """The shipped networks where their training ended."""
    with st.container(border=True, key="gradients after"):
        section("After training: the networks that ship")
        found = {short_title(BUNDLED[name]): flows for name, flows in shipped_results().trained.items()}
        shallow = min(config.depth for config in BUNDLED.values())
        lines = {
            short_title(config): (
                found[short_title(config)],
                Style(PLAIN if config.shortcut == "none" else RESIDUAL, "dash" if config.depth == shallow else "solid"),
            )
            for config in BUNDLED.values()
        }
        charts(lines, {short_title(config): cached_trace(config, natural_size(config)) for config in BUNDLED.values()})
        told = "; ".join(f"{each} {change_text(spread.ends('gradient'))}" for each, spread in found.items())
        st.markdown(f"From the last convolution to the first, the gradient of {told}.")
        st.caption(
            f"Measured in fp32 and training mode on the first {BATCH * BATCHES} images of Fashion-MNIST's test set, {BATCHES} batches of {BATCH} (line: "
            "geometric mean, band: least to greatest); one training of each network. What it does not show: the way there. A network that fits "
            "its images has a small loss and with it small gradients, so compare the shapes of the lines and not their heights."
        )


# -- shattered ----------------------------------------------------------------------------


def shattered_panel(trace: Trace) -> None:
    """The cosine between neighbouring inputs' gradients by depth, for networks like those that ship, or like the one shown."""
    st.markdown(
        "A gradient says in which direction to change something. It helps only if it still holds a step away. Balduzzi et al. 2017 "
        "(https://arxiv.org/abs/1702.08591) find that in deep plain networks it does not: the gradients of two inputs that are almost "
        "equal **have nothing in common, like white noise**. Shortcuts keep them alike."
    )
    differs = "lends these small networks its kind of block, with which neighbours may have more or less in common."
    shown, *_ = choose_networks("shattered network", trace, differs, "ResNet-20 and its family, 8 to 110 layers")
    config = shown.config
    with st.container(border=True, key="shattered"):
        section(f"{common_traits(config)}, by depth")
        left, right = st.columns(2)
        place = left.empty()
        points = shattering_points(config, place)
        plot(cosine_figure(points, depths(config)), "cosine chart", place)
        plot(slope_figure(slope_examples(points)), "slope chart", right)
        st.markdown(verdict(points))
        st.caption(method(config))


def common_traits(config: ResNetConfig) -> str:
    """What the networks have in common: basic blocks, post-activation, batch norm, option A."""
    residual = small_pair(config, 1)[RESIDUAL]
    parts = [
        f"{residual.block.capitalize()} blocks",
        f"{residual.order}-activation",
        residual.activation.replace("_", " "),
        NORMS[residual.norm],
        f"option {residual.shortcut}",
    ]
    if residual.attention != "none":
        parts.append(residual.attention.upper())
    if residual.zero_init_residual:
        parts.append("branches that start at zero")
    return ", ".join(parts)


def depths(config: ResNetConfig) -> list[int]:
    return [small_pair(config, count)[RESIDUAL].depth for count in BLOCK_COUNTS]


def shattering_points(config: ResNetConfig, place: st.delta_generator.DeltaGenerator) -> tuple[Point, ...]:
    """All points; `place` shows those that there are so far."""
    if (shipped := shipped_family(config)) is not None:
        return shipped

    def compute(move: Callable[[float], None]) -> tuple[Point, ...]:
        points: list[Point] = []
        with single_thread():
            for point in shattering(config, device()):
                points.append(point)
                move(len(points) / POINT_COUNT)
                if not len(points) % (2 * SEEDS):
                    plot(cosine_figure(points, depths(config)), place=place)
        return tuple(points)

    small = tuple(small_pair(config, 1).values())
    return cached_result(("shattered", small, device()), "Comparing the gradients of neighbouring inputs …", compute)


def slope_examples(points: tuple[Point, ...]) -> list[Point]:
    """The shallowest plain network, the deepest, and the deepest residual one, of the first seed."""
    first = [point for point in points if point.seed == 0]
    plain, residual = ([point for point in first if point.kind == kind] for kind in (PLAIN, RESIDUAL))
    return [plain[0], plain[-1], residual[-1]]


def verdict(points: tuple[Point, ...]) -> str:
    """How alike neighbours' gradients are in the deepest networks, and from what depth the plain ones are noise."""
    plain, residual = (
        {depth: float(np.mean(cosines)) for depth, cosines in cosines_by_depth(points, kind).items()}
        for kind in (PLAIN, RESIDUAL)
    )
    deepest = max(plain)
    words = (
        f"**At {deepest} layers the gradients of neighbouring inputs have a cosine of {decimals(plain[deepest])} in the plain network and of "
        f"{decimals(residual[deepest])} in the residual one.**"
    )
    noisy = [depth for depth, cosine in plain.items() if cosine < NOISE]
    if noisy:
        words += f" From {min(noisy)} layers on, the plain network's are below {NOISE:g}: the gradient of one input says nothing about the next one's."
    else:
        words += f" No plain network here falls below {NOISE:g}."
    if residual[deepest] < NOISE:
        words += " With these choices the shortcuts do not help at that depth."
    elif residual[deepest] > 0.995:
        words += " Such a residual network begins as a shallow one: its branches add nothing yet."
    return words


NOISE = 0.1
"""A cosine below this is taken for noise."""


def method(config: ResNetConfig) -> str:
    twin = (
        "The network shown is plain; its residual twin has shortcuts of option A. " if config.shortcut == "none" else ""
    )
    whose = "those of the networks that ship" if is_shipped_family(config) else "the sidebar's: change them there"
    return (
        f"{twin}Untrained networks of three stages with {', '.join(map(str, BLOCK_COUNTS))} blocks each and {WIDTH} channels in the first; block, order, activation, "
        f"normalisation, attention and shortcut are {whose}. Each reads {POINTS} images of {IMAGE_SIDE}×{IMAGE_SIDE} pixels in equal steps on a "
        "straight line from one image of Gaussian noise to another, as one batch in training mode, and gives the gradient of its first score at each. Cosine: mean "
        f"over neighbours, {SEEDS} seeds, which draw weights and images (dots: each seed). On the right the part of the gradient along the line, scaled to a root mean "
        "square of 1, for one seed. What it does not show: trained networks, or whether this is what stops plain networks from "
        "learning. The cosine depends on the length of a step; what counts is the comparison."
    )
