"""Signals and gradients by depth, and whether the gradients of neighbouring inputs have anything in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import streamlit as st
from torch import Tensor

from resnet import ResNetConfig
from resnet.weights import BUNDLED, bundled

from ...analysis.trace import Trace
from ...experiments.gradients import (
    COUNTS,
    PLAIN,
    POINTS,
    RESIDUAL,
    SEEDS,
    SIDE,
    TOTAL,
    WIDTH,
    Plan,
    Point,
    Spread,
    Twin,
    at_start,
    by_depth,
    family,
    main_path,
    places,
    plan,
    shattering,
    trained,
)
from ...figures.gradients import Style, cosine_figure, flow_figure, slope_figure
from ...inference.limits import check_runnable
from ...inference.preprocess import normalised
from ...inference.samples import labelled
from ...inference.turns import TooLargeError
from ...link import natural_size
from ...navigation import EXPERIMENTS
from ...sharing.threads import single_thread
from ...units import scientific
from .. import session
from ..cached import computed, device, traced
from ..weights import loaded
from .trained import choose, name, setting


def panel(trace: Trace) -> None:
    """How large signals and gradients are, for the network that is shown and for the shipped ones."""
    st.markdown(
        "Do gradients vanish in a deep plain network, so that its first layers cannot learn? He et al. 2015 (section 4.1) say that this is "
        "not what makes it hard to train: batch norm keeps signals and gradients alive. Here both are measured, **layer by "
        "layer, with and without shortcuts, with and without normalisation**."
    )
    choose("gradient network")
    untrained(trace)
    after_training()


# -- at initialisation --------------------------------------------------------------------


def untrained(trace: Trace) -> None:
    small = traced(trace.config, setting(trace.config, trace.image_size).trace.image_size)
    try:
        check_runnable(small)
        planned = plan(small)
    except TooLargeError as error:
        st.info(session.escape_markdown(str(error)), icon=":material/block:")
        return
    with st.container(border=True, key="gradients at start"):
        st.markdown(f"**{session.escape_markdown(name(trace.config))} and its twins at their initialisation**")
        found = measured(small, planned)
        charts({label(twin): (spread, style(twin)) for twin, spread in found.items()}, {label(t): small for t in found})
        st.markdown(reading(found))
        st.page_link(
            EXPERIMENTS.file,
            label="What else could it be? Shattered gradients",
            icon=":material/arrow_forward:",
            query_params=replace(session.view(), tab="Shattered gradients").to_query(),
        )
        st.caption(statement(small, planned))


def measured(trace: Trace, planned: Plan) -> dict[Twin, Spread]:
    def compute(move: Callable[[float], None]) -> dict[Twin, Spread]:
        with single_thread():
            return at_start(trace, planned, device(), move)

    key = ("gradients", trace.config, trace.image_size, planned, device())
    return computed(key, f"Gradients of {name(trace.config)} and its twins …", compute)


NORMS = {"batch": "batch norm", "group": "group norm", "none": "no norm"}


def label(twin: Twin) -> str:
    return f"{twin.kind.capitalize()}, {NORMS[twin.norm]}"


def style(twin: Twin) -> Style:
    return Style(twin.kind, "solid" if twin.normed else "dot")


def charts(found: Mapping[str, tuple[Spread, Style]], traces: Mapping[str, Trace]) -> None:
    """Signal and gradient side by side."""
    left, right = st.columns(2)
    convolutions = {each: range(1, len(main_path(trace)) + 1) for each, trace in traces.items()}
    key = " and ".join(found)
    left.plotly_chart(
        flow_figure(
            found,
            "signal",
            {each: places(trace) for each, trace in traces.items()},
            "Signal that blocks read",
            "standard deviation",
        ),
        key=f"signal of {key}",
    )
    right.plotly_chart(
        flow_figure(found, "gradient", convolutions, "Gradient of each convolution", "‖∂loss/∂W‖"),
        key=f"gradient of {key}",
    )
    lost = [each for each, (spread, _) in found.items() if not spread.finite]
    if lost:
        st.caption(f"{'; '.join(lost)}: where lines are missing, numbers are beyond the range of fp32.")


def reading(found: Mapping[Twin, Spread]) -> str:
    """What the charts say, in words that follow the numbers."""
    norm = next(twin.norm for twin in found if twin.normed)
    plain, residual = (found[Twin(kind, norm)].ends("gradient") for kind in (PLAIN, RESIDUAL))
    bare = found[Twin(PLAIN, "none")]
    words = [
        f"**With {NORMS[norm]}**, from the last convolution to the first, the plain network's gradient {change(plain)}, the residual one's {change(residual)}."
    ]
    if plain[0] > 2 * plain[1]:
        words.append(
            "**It does not vanish: toward the image it grows**"
            + (", and far less with shortcuts." if residual[0] / residual[1] < plain[0] / plain[1] / 2 else ".")
        )
    signal, gradient = bare.ends("signal"), bare.ends("gradient")
    if np.isfinite(signal).all():
        words.append(
            f"**Without normalisation**, from the first block to the end, the plain network's signal {change(signal[::-1])}."
        )
        if np.isfinite([gradient[0], plain[0]]).all() and plain[0]:
            words.append(
                f"The gradient of its first convolution is {times(gradient[0] / plain[0])} what it is with {NORMS[norm]}"
                + (": there it does vanish." if gradient[0] < plain[0] / 10 else ".")
            )
    summed = found[Twin(RESIDUAL, "none")].ends("signal")
    if np.isfinite(summed).all():
        words.append(
            f"With shortcuts and no normalisation the signal {change(summed[::-1])}: every addition adds to it."
        )
    return " ".join(words)


def change(ends: tuple[float, float]) -> str:
    """How the first of two numbers stands to the second: grows 5.2 times, falls to 1/30."""
    first, last = ends
    if not np.isfinite(ends).all():
        return "leaves the range of fp32"
    if not first or not last:
        return "is zero at one end"
    if 0.8 < first / last < 1.25:
        return f"keeps its size ({scientific(first / last)} times)"
    return f"grows {scientific(first / last)} times" if first > last else f"falls to 1/{scientific(last / first)}"


def times(factor: float) -> str:
    """1/180,000 of, 3.4 times."""
    return f"1/{scientific(1 / factor)} of" if 0 < factor < 1 else f"{scientific(factor)} times"


def statement(trace: Trace, planned: Plan) -> str:
    height, width = trace.image_size
    seeds = f"{planned.seeds} seeds, which draw weights and images (line: geometric mean, band: least to greatest)"
    return (
        f"Measured in fp32 and training mode, before any training, on {planned.images} images of Gaussian noise, {height}×{width} "
        f"pixels, with labels by chance; {seeds if planned.seeds > 1 else 'one seed'}. All four networks start with the same weights where they "
        "have the same layer. Signal: standard deviation of what each block reads and the last one puts out. Gradient: Euclidean norm over the weights of each "
        "convolution that is not on a shortcut. What it does not show: how large a step may be. Normalisation takes the scale of the weights out of what "
        "a layer puts out, so a large gradient need not mean a large change."
    )


# -- after training -----------------------------------------------------------------------

BATCH, BATCHES = 32, 3


def after_training() -> None:
    """The shipped networks where their training ended."""
    with st.container(border=True, key="gradients after"):
        st.markdown("**After training: the networks that ship**")
        found = {each: batches(config) for each, config in ((name(config), config) for config in BUNDLED.values())}
        shallow = min(config.depth for config in BUNDLED.values())
        lines = {
            name(config): (
                found[name(config)],
                Style(PLAIN if config.shortcut == "none" else RESIDUAL, "dash" if config.depth == shallow else "solid"),
            )
            for config in BUNDLED.values()
        }
        charts(lines, {name(config): traced(config, natural_size(config)) for config in BUNDLED.values()})
        told = "; ".join(f"{each} {change(spread.ends('gradient'))}" for each, spread in found.items())
        st.markdown(f"From the last convolution to the first, the gradient of {told}.")
        st.caption(
            f"Measured in fp32 and training mode on the first {BATCH * BATCHES} images of Fashion-MNIST's test set, {BATCHES} batches of {BATCH} (line: "
            "geometric mean, band: least to greatest); one training of each network. What it does not show: the way there. A network that fits "
            "its images has a small loss and with it small gradients, so compare the shapes of the lines and not their heights."
        )


def batches(config: ResNetConfig) -> Spread:
    """Gradients of a shipped network on test images."""
    weights = bundled(config)[0]

    def compute(move: Callable[[float], None]) -> Spread:
        network, names = loaded(weights), [layer.name for layer in main_path(traced(config, natural_size(config)))]
        images, truth = labelled()
        inputs = normalised(images[: BATCH * BATCHES], weights.data.preprocessing)
        labels = Tensor(truth[: BATCH * BATCHES].tolist()).long()
        with single_thread():
            found = []
            for each in trained(network, names, zip(inputs.split(BATCH), labels.split(BATCH), strict=True), device()):
                found.append(each)
                move(len(found) / BATCHES)
        return Spread(tuple(found))

    return computed(("gradients trained", weights, device()), f"Gradients of {name(config)} …", compute)


# -- shattered ----------------------------------------------------------------------------


def shattered(trace: Trace) -> None:
    """The cosine between neighbouring inputs' gradients by depth, for networks like the one that is shown."""
    st.markdown(
        "A gradient says in which direction to change something. It helps only if it still holds a step away. Balduzzi et al. 2017 "
        "(https://arxiv.org/abs/1702.08591) find that in deep plain networks it does not: the gradients of two inputs that are almost "
        "equal **have nothing in common, like white noise**. Shortcuts keep them alike."
    )
    config = trace.config
    with st.container(border=True, key="shattered"):
        st.markdown(f"**{kin(config)}, by depth**")
        left, right = st.columns(2)
        place = left.empty()
        points = walked(config, place)
        place.plotly_chart(cosine_figure(points, depths(config)), key="cosine chart")
        right.plotly_chart(slope_figure(shown(points)), key="slope chart")
        st.markdown(verdict(points))
        st.caption(method(config))


def kin(config: ResNetConfig) -> str:
    """What the networks have in common: basic blocks, post-activation, batch norm, option A."""
    residual = family(config, 1)[RESIDUAL]
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
    return [family(config, count)[RESIDUAL].depth for count in COUNTS]


def walked(config: ResNetConfig, place: st.delta_generator.DeltaGenerator) -> tuple[Point, ...]:
    """All points; `place` shows those that there are so far."""

    def compute(move: Callable[[float], None]) -> tuple[Point, ...]:
        points: list[Point] = []
        with single_thread():
            for point in shattering(config, device()):
                points.append(point)
                move(len(points) / TOTAL)
                if not len(points) % (2 * SEEDS):
                    place.plotly_chart(cosine_figure(points, depths(config)))
        return tuple(points)

    small = tuple(family(config, 1).values())
    return computed(("shattered", small, device()), "Comparing the gradients of neighbouring inputs …", compute)


def shown(points: tuple[Point, ...]) -> list[Point]:
    """The shallowest plain network, the deepest, and the deepest residual one, of the first seed."""
    first = [point for point in points if point.seed == 0]
    plain, residual = ([point for point in first if point.kind == kind] for kind in (PLAIN, RESIDUAL))
    return [plain[0], plain[-1], residual[-1]]


def verdict(points: tuple[Point, ...]) -> str:
    """How alike neighbours' gradients are in the deepest networks, and from what depth the plain ones are noise."""
    plain, residual = (
        {depth: float(np.mean(cosines)) for depth, cosines in by_depth(points, kind).items()}
        for kind in (PLAIN, RESIDUAL)
    )
    deepest = max(plain)
    words = (
        f"**At {deepest} layers the gradients of neighbouring inputs have a cosine of {plain[deepest]:.2f} in the plain network and of "
        f"{residual[deepest]:.2f} in the residual one.**"
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
    return (
        f"{twin}Untrained networks of three stages with {', '.join(map(str, COUNTS))} blocks each and {WIDTH} channels in the first; block, order, activation, "
        f"normalisation, attention and shortcut are the sidebar's: change them there. Each reads {POINTS} images of {SIDE}×{SIDE} pixels in equal steps on a "
        "straight line from one image of Gaussian noise to another, as one batch in training mode, and gives the gradient of its first score at each. Cosine: mean "
        f"over neighbours, {SEEDS} seeds, which draw weights and images (dots: each seed). On the right the part of the gradient along the line, scaled to a root mean "
        "square of 1, for one seed. What it does not show: trained networks, or whether this is what stops plain networks from "
        "learning. The cosine depends on the length of a step; what counts is the comparison."
    )
