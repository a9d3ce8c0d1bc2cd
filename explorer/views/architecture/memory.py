"""Does it fit? What a batch takes in a prediction and in a step of training, and the largest that fits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
from .. import settings
from ..cached import cached_trace, shared
from ..components import plot, scrolling

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
        (term.capitalize(), [cell(each.get(term, 0)) for each in terms])
        for term in Term
        if any(term in each for each in terms)
    ]
    rows.append(("At once", [cell(demand.bytes(batch)) for demand in both.values()]))
    st.html(scrolling(table("At the peak", both, rows, bold=-1), "What takes memory"))
    prediction, training = (demand.peak(batch).when for demand in both.values())
    st.caption(
        f"The peak of a prediction: {prediction}. That of a step of training: {training}; gradients are those of the weights that "
        "exist by then."
    )


def show_batches(both: Mapping[str, Demand], asked: Workload) -> None:
    """The largest batch in the memory that was asked for, and in what GPUs usually have."""
    sizes = sorted({*(gib * GIB for gib in GPUS), asked.memory})
    rows = []
    for size in sizes:
        batches = [demand.largest_batch(size) for demand in both.values()]
        rows.append((f"{size / GIB:g} GiB", [f"<td>{batch:,}</td>" if batch else "<td>none</td>" for batch in batches]))
    found = table("Largest batch within", both, rows, bold=sizes.index(asked.memory))
    st.html(scrolling(found, "The largest batch"))


def cell(size: int) -> str:
    """A size, exact on hover."""
    return f'<td title="{size:,} bytes">{mebibytes(size)}</td>' if size else "<td></td>"


def table(head: str, columns: Iterable[str], rows: Iterable[tuple[str, list[str]]], bold: int) -> str:
    """A table of rows, each a label and cells; the one of index `bold` stands out."""
    lines = [f"<tr><th>{escape(label)}</th>{''.join(cells)}</tr>" for label, cells in rows]
    lines[bold] = lines[bold].replace("<tr>", '<tr class="total">')
    names = "".join(f"<th>{name}</th>" for name in columns)
    return f'<table class="ledger"><tr><th>{head}</th>{names}</tr>{"".join(lines)}</table>'
