"""Does it fit? What a batch takes in a prediction and in a step of training, and the largest that fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

import streamlit as st

from resnet import ResNetConfig

from ...analysis.demand import (
    GIB,
    GPUS,
    NOT_COUNTED,
    OPTIMIZERS,
    Demand,
    Term,
    Workload,
    inference_demand,
    training_demand,
    verdict,
)
from ...analysis.forms import Form
from ...analysis.trace import Trace
from ...figures.memory import memory_figure
from ...units import mebibytes
from .. import settings, take
from ..cached import cached_trace, shared
from ..components import plot

UNCHANGED = "The figures are unchanged."


@shared()
def cached_demands(config: ResNetConfig, image_size: tuple[int, int], form: Form, optimizer: str) -> dict[str, Demand]:
    """What a prediction and a step of training take, whatever the batch."""
    trace = cached_trace(config, image_size)
    return {
        "Prediction": inference_demand(trace, form),
        "Training": training_demand(trace, form, OPTIMIZERS[optimizer]),
    }


def panel(trace: Trace) -> None:
    """The answer, what was asked, and what it is made of."""
    settings.problem(Workload)
    asked = settings.chosen(Workload)
    both = cached_demands(trace.config, trace.image_size, asked.form, asked.optimizer)
    takes, fits = verdict(asked, *both.values())
    st.markdown(f"**{fits}** {takes}")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for name in ("batch", "within"):
            with st.container(width=130):
                settings.setting(Workload, name, UNCHANGED)
        settings.setting(Workload, "precision", UNCHANGED, segmented=True, width="content")
        settings.setting(Workload, "optimizer", UNCHANGED, width=220, format_func=lambda name: OPTIMIZERS[name].label)
    plot(memory_figure({name: demand.terms(asked.batch) for name, demand in both.items()}), key="memory chart")
    left, right = st.columns(2)
    with left:
        show_terms(both, asked.batch)
    with right:
        show_batches(both, asked)
    st.caption(NOT_COUNTED)


def show_terms(both: Mapping[str, Demand], batch: int) -> None:
    """The bytes of each term at the peak, exact on hover, and when the peak is."""
    terms = [demand.terms(batch) for demand in both.values()]
    rows = [
        (term.capitalize(), [each.get(term, 0) for each in terms])
        for term in Term
        if any(term in each for each in terms)
    ]
    rows.append(("At once", [demand.bytes(batch) for demand in both.values()]))
    table("Memory at the peak", "At the peak", list(both), rows, size_cell, bold=len(rows) - 1, unit=", bytes")
    prediction, training = (demand.peak(batch).when for demand in both.values())
    st.caption(
        f"The peak of a prediction: {prediction}. That of a step of training: {training}; gradients are those of the weights that "
        "exist by then."
    )


def show_batches(both: Mapping[str, Demand], asked: Workload) -> None:
    """The largest batch in the memory that was asked for, and in what GPUs usually have."""
    sizes = sorted({*(gib * GIB for gib in GPUS), asked.memory})
    rows = [(f"{size / GIB:g} GiB", [demand.largest_batch(size) for demand in both.values()]) for size in sizes]
    table("Largest batch", "Largest batch within", list(both), rows, batch_cell, bold=sizes.index(asked.memory))


def size_cell(size: int) -> str:
    """A size, exact on hover."""
    return f'<td title="{size:,} bytes">{mebibytes(size)}</td>' if size else "<td></td>"


def batch_cell(batch: int) -> str:
    return f"<td>{batch:,}</td>" if batch else "<td>none</td>"


def table(
    title: str,
    head: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[int]]],
    written: Callable[[int], str],
    bold: int,
    unit: str = "",
) -> None:
    """A table of rows, each a label and numbers, which are `written` as cells; the one of index `bold` stands out. `unit` follows
    the names of the columns where it is taken away.
    """
    lines = [f"<tr><th>{escape(label)}</th>{''.join(map(written, numbers))}</tr>" for label, numbers in rows]
    lines[bold] = lines[bold].replace("<tr>", '<tr class="total">')
    names = "".join(f"<th>{name}</th>" for name in columns)
    data = [
        {head: label, **{f"{c}{unit}": n for c, n in zip(columns, numbers, strict=True)}} for label, numbers in rows
    ]
    take.ledger([f"<tr><th>{head}</th>{names}</tr>", *lines], title.lower(), title, data)
