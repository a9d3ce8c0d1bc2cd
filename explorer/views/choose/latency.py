"""Networks beside each other timed here: at the true image size, batch, threads and precision, in turn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

import pandas
import streamlit as st
import torch

from resnet import ResNetConfig

from ...analysis.choose import Here
from ...analysis.compare import labels
from ...analysis.layers import shape_text
from ...analysis.trace import Trace
from ...export.tables import LINK
from ...figures.latency import compared_figure
from ...inference import latency
from ...inference.device import Device
from ...inference.latency import Machine, Timed, spread
from ...inference.limits import check_batches
from ...link import View, relative
from ...sharing.store import Progress
from ...units import seconds_text
from .. import session, take
from ..cached import attempt, cached_devices, cached_result, cached_trace, may_compute, offer_again
from ..components import plot
from ..headline import section

MAX_BATCH, MAX_PASSES = 256, 50
BUTTON = "Measure latency"


class How(NamedTuple):
    """How networks are timed: images at once, torch's threads on a CPU, where and in which form, and in how many rounds;
    `attempt` counts how often that was measured before in this session."""

    batch: int
    threads: int | None
    device: Device
    rounds: int
    attempt: int = 0


def latency_panel(configs: Sequence[ResNetConfig], image_size: tuple[int, int]) -> None:
    """Two to six networks timed in turn at (height, width) pixels, when asked for: a sentence, a chart and a table."""
    with st.container(border=True, key="measured latency"):
        section("Latency here")
        how = choose_how()
        session.show_or_say(measured, [cached_trace(config, image_size) for config in configs], how)


def choose_how() -> How:
    """Batch, threads, precision, passes, and the device where there are several."""
    known = {place.name: place for place in cached_devices()}
    columns = st.columns(4 if len(known) == 1 else 5)
    if len(known) > 1:
        name = columns.pop().selectbox("Device", list(known), key="compared device", persist_state="session")
    else:
        (name,) = known
    place, cores = known[name], os.cpu_count() or 1
    batch = columns[0].number_input("Batch", 1, MAX_BATCH, 1, key="compared batch", persist_state="session")
    threads = columns[1].number_input(
        "Threads",
        1,
        cores,
        min(cores, torch.get_num_threads()),
        key="compared threads",
        persist_state="session",
        disabled=place.torch != "cpu",
        help="Of torch's, on a CPU.",
    )
    half = replace(place, half=True).form
    precision = columns[2].segmented_control(
        "Precision", ["fp32", half], default="fp32", required=True, key="compared precision", persist_state="session"
    )
    rounds = columns[3].number_input("Passes", 2, MAX_PASSES, 10, key="compared passes", persist_state="session")
    used = threads if place.torch == "cpu" else None
    return How(batch, used, replace(place, half=precision != "fp32"), rounds, attempt(BUTTON))


def measured(traces: Sequence[Trace], how: How) -> None:
    """The times of networks at one image size, measured when asked for.

    Raises:
        TooLargeError: for what one pass on a shared server may not take.
        StoppedError: where a person stopped it.
    """
    if how.device.torch == "cpu":
        check_batches(traces, how.batch)
    key = ("latency", tuple((trace.config, trace.image_size) for trace in traces), how)
    if not may_compute(BUTTON, key):
        st.caption(
            f"Times {how.rounds} passes of each network over a batch of {how.batch} at "
            f"{shape_text(traces[0].image_size)} pixels, one network after the other in every round."
        )
        return
    names = labels([trace.config for trace in traces])

    def compute(move: Progress) -> tuple[tuple[tuple[float, ...], ...], Machine, datetime]:
        timed, where = latency.time_networks(
            list(zip(names, traces, strict=True)), how.device, how.batch, how.rounds, how.threads, move
        )
        return tuple(one.seconds for one in timed), where, datetime.now(UTC)

    seconds, where, when = cached_result(key, "Measuring …", compute)
    timed = [Timed(*each) for each in zip(names, traces, seconds, strict=True)]
    keep(timed, how, where)
    st.markdown(sentence(timed))
    images = "one image" if how.batch == 1 else f"{how.batch} images"
    title = f"Passes over {images} at {shape_text(traces[0].image_size)} pixels, in {where.form}"
    plot(compared_figure(timed, title), key="compared latency")
    table = frame(timed, how.batch)
    links = [relative(View(trace.config, trace.image_size)) for trace in traces]
    take.table(
        table,
        "compared latency table",
        "Latency measured here",
        whole=lambda: table.assign(**{LINK: links}),
        column_config=COLUMNS,
    )
    threads = f"{where.threads} of torch's threads on {where.cores} cores" if how.threads else "no threads of torch's"
    st.caption(
        f"{how.rounds} passes of each network, with random weights, on {where.device.partition(',')[0]}, {threads}, torch "
        f"{where.torch}, at {when:%H:%M:%S} UTC. The networks took turns, in one order and then in the other, and are compared "
        "round by round. Whatever else the server did meanwhile slowed some passes: the quartiles show how much."
    )
    offer_again(BUTTON, (*key[:2], how._replace(attempt=how.attempt + 1)))


def keep(timed: Sequence[Timed], how: How, where: Machine) -> None:
    """Hold each network's median for the table of all, which is above and drawn anew where it does not show that yet."""
    place = f"{where.threads} thread{'s' * (where.threads > 1)}" if how.threads else where.device.partition(",")[0]
    words = ", ".join([where.form, place, *[f"batch of {how.batch}"] * (how.batch > 1)])
    before = session.held().timed_here
    now = {
        (one.traced.config, one.traced.image_size): Here(1000 * spread(one.seconds).median / how.batch, words)
        for one in timed
    }
    if before != (after := {**before, **now}):
        session.hold(timed_here=after)
        st.rerun()


def sentence(timed: Sequence[Timed]) -> str:
    """Which network is the fastest, and by how much; or that none is, within the spread."""
    order = sorted(timed, key=lambda one: spread(one.seconds).median)
    first, second = order[:2]
    ratio = second.against(first)
    name, other = (session.escape_markdown(one.name) for one in (first, second))
    if ratio.lower <= 1:
        return f"**{name}** and **{other}** are equally fast here, within the spread of the passes."
    return (
        f"**{name}** is the fastest here, with {seconds_text(spread(first.seconds).median)} at the median; **{other}** "
        f"takes {ratio.median:.2f} times as long (quartiles {ratio.lower:.2f} to {ratio.upper:.2f})."
    )


COLUMNS = {
    "MACs": st.column_config.NumberColumn(format="localized"),
    **{
        name: st.column_config.NumberColumn(format="%.2f")
        for name in ("Median ms", "Lower quartile", "Upper quartile", "Least ms", "Of the first")
    },
    "Images/s": st.column_config.NumberColumn(format="%.1f"),
}


def frame(timed: Sequence[Timed], batch: int) -> pandas.DataFrame:
    """A row a network; its times are those of a batch."""
    times = [spread([1000 * seconds for seconds in one.seconds]) for one in timed]
    ratios = [one.against(timed[0]) for one in timed]
    return pandas.DataFrame(
        {
            "Network": [one.name for one in timed],
            "MACs": [one.traced.macs for one in timed],
            "Median ms": [one.median for one in times],
            "Lower quartile": [one.lower for one in times],
            "Upper quartile": [one.upper for one in times],
            "Least ms": [one.least for one in times],
            "Images/s": [1000 * batch / one.median for one in times],
            "Of the first": [one.median for one in ratios],
            "Its quartiles": [f"{one.lower:.2f} to {one.upper:.2f}" for one in ratios],
        }
    )
