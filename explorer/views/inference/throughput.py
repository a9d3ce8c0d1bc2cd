"""How many images a second pass through the network here, batch by batch, measured when it is asked for."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas
import streamlit as st

from ...analysis.layers import shape_text
from ...figures.throughput import throughput_figure
from ...inference.latency import spread
from ...inference.throughput import Throughput, throughput
from ...sharing.store import Progress
from .. import session, take
from ..cached import attempt, cached_result, may_compute, offer_again
from ..components import plot
from ..headline import section
from .latency import measurement_stamp
from .running import Run

BUTTON = "Measure throughput"


def panel(result: Run) -> None:
    """The answer, the figure and its numbers; before them a button."""
    with st.container(border=True, key="throughput"):
        section("Throughput against batch")
        session.show_or_say(measured, result)


def measured(result: Run) -> None:
    """The throughput, measured when asked for.

    Raises:
        StoppedError: where a person stopped it.
        PassError: where a single image cannot pass.
    """
    if not may_compute(BUTTON, measurement_key(result)):
        st.caption(
            f"Times batches of 1, 2, 4, … images of {shape_text(result.trace.image_size)} pixels in "
            f"{result.key.form.form}, as long as memory and time allow."
        )
        return
    found, when = cached_result(
        measurement_key(result), "Measuring batches …", lambda progress: measure(result, progress)
    )
    show(result, found, when)
    offer_again(BUTTON, measurement_key(result, 1))


def measurement_key(result: Run, more: int = 0) -> tuple[object, ...]:
    """All that a measurement depends on, and how often it was asked for in this session, or `more` often."""
    how = result.weights, result.off, result.key.form, result.trace.image_size
    return "throughput", *how, attempt(BUTTON) + more


def measure(result: Run, progress: Progress) -> tuple[Throughput, datetime]:
    """What was measured, and when."""
    return throughput(result.runner, result.trace, result.key.form, progress), datetime.now(UTC)


def show(result: Run, found: Throughput, when: datetime) -> None:
    """The batch of most images a second, all of them, and how they were measured."""
    st.markdown(verdict(found))
    plot(throughput_figure(found), key="throughput chart")
    take.table(frame(found), "throughput table", "Throughput by batch", column_config=COLUMNS)
    form = result.key.form
    st.caption(
        f"The median, and the quartiles as a band, of passes of noise of {shape_text(result.trace.image_size)} pixels in "
        f"{form.form}; one that warms up is not counted, nor is reading and preparing images. It ends here: {found.ended}. "
        f"{measurement_stamp(form, when)}"
    )


def verdict(found: Throughput) -> str:
    """Which batch is fastest, and by how much."""
    best, one = found.best, found.points[0]
    rate = best.images_per_second.median
    if best is one:
        return f"**One image at a time is fastest here: {rate:,.1f} images a second.**"
    times = rate / one.images_per_second.median
    return f"**Batches of {best.batch:,} are fastest here: {rate:,.1f} images a second**, {times:.2f} times as many as one at a time."


COLUMNS = {
    name: st.column_config.NumberColumn(format="%.1f")
    for name in ("Images/s", "Lower quartile", "Upper quartile", "ms a batch")
}


def frame(found: Throughput) -> pandas.DataFrame:
    """A row a batch."""
    spreads = [point.images_per_second for point in found.points]
    return pandas.DataFrame(
        {
            "Batch": [point.batch for point in found.points],
            "Images/s": [one.median for one in spreads],
            "Lower quartile": [one.lower for one in spreads],
            "Upper quartile": [one.upper for one in spreads],
            "ms a batch": [1000 * spread(point.seconds).median for point in found.points],
            "Passes": [len(point.seconds) for point in found.points],
        }
    )
