"""How many images a second pass through the network here, batch by batch, measured when it is asked for."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas
import streamlit as st

from ...analysis.layers import shape_text
from ...figures.throughput import throughput_figure
from ...inference.throughput import Throughput, throughput
from ...sharing.store import Progress
from ..cached import cached_result, may_compute
from ..components import plot
from ..headline import section
from .running import Run


def panel(result: Run) -> None:
    """The answer, the figure and its numbers; before them a button."""
    with st.container(border=True, key="throughput"):
        section("Throughput against batch")
        key = ("throughput", result.weights, result.off, result.key.form, result.trace.image_size)
        if may_compute("Measure throughput", key):
            found, when = cached_result(key, "Measuring batches …", lambda progress: measure(result, progress))
            show(result, found, when)
        else:
            st.caption(
                f"Times batches of 1, 2, 4, … images of {shape_text(result.trace.image_size)} pixels in "
                f"{result.key.form.form}, as long as memory and time allow."
            )


def measure(result: Run, progress: Progress) -> tuple[Throughput, datetime]:
    """What was measured, and when."""
    return throughput(result.runner, result.trace, result.key.form, progress), datetime.now(UTC)


def show(result: Run, found: Throughput, when: datetime) -> None:
    """The batch of most images a second, all of them, and how they were measured."""
    st.markdown(verdict(found))
    plot(throughput_figure(found), key="throughput chart")
    st.dataframe(frame(found), hide_index=True, key="throughput table")
    form = result.key.form
    st.caption(
        f"The median, and the quartiles as a band, of passes of noise of {shape_text(result.trace.image_size)} pixels in {form.form}; one that "
        f"warms up is not counted. It ends here: "
        f"{found.ended}. Measured on this server, {form.name}, at {when:%H:%M:%S} UTC, with whatever else it did at the time; "
        "reading images and preparing them is not part of it."
    )


def verdict(found: Throughput) -> str:
    """Which batch is fastest, and by how much."""
    best, one = found.best, found.points[0]
    rate = best.images_per_second.median
    if best is one:
        return f"**One image at a time is fastest here: {rate:,.1f} images a second.**"
    times = rate / one.images_per_second.median
    return f"**Batches of {best.batch:,} are fastest here: {rate:,.1f} images a second**, {times:.2f} times as many as one at a time."


def frame(found: Throughput) -> pandas.DataFrame:
    """A row a batch."""
    spreads = [point.images_per_second for point in found.points]
    return pandas.DataFrame(
        {
            "Batch": [point.batch for point in found.points],
            "Images/s": [f"{one.median:,.1f}" for one in spreads],
            "Quartiles": [f"{one.lower:,.1f} to {one.upper:,.1f}" for one in spreads],
            "ms a batch": [
                f"{1000 * point.batch / one.median:,.1f}" for one, point in zip(spreads, found.points, strict=True)
            ],
            "Passes": [len(point.seconds) for point in found.points],
        }
    )
