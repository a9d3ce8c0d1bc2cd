"""Does it fit? What a batch takes in a prediction and in a step of training, and the largest that fits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

import streamlit as st

from ...analysis.demand import GIB, GPUS, NOT_COUNTED, OPTIMIZERS, Demand, Term, Workload, verdict
from ...analysis.trace import Trace
from ...figures.memory import memory_figure
from ...units import mebibytes
from .. import settings
from ..components import plot, scrolling

UNCHANGED = "The figures are unchanged."


def panel(trace: Trace) -> None:
    """The answer, what was asked, and what it is made of."""
    settings.problem(Workload)
    asked = settings.chosen(Workload)
    prediction, training = asked.inference(trace), asked.training(trace)
    takes, fits = verdict(asked, prediction, training)
    st.markdown(f"**{fits}** {takes}")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for name in ("batch", "within"):
            with st.container(width=130):
                settings.setting(Workload, name, UNCHANGED)
        settings.setting(Workload, "precision", UNCHANGED, segmented=True, width="content")
        settings.setting(
            Workload,
            "optimizer",
            UNCHANGED,
            segmented=True,
            width="content",
            format_func=lambda name: OPTIMIZERS[name].label,
        )
    both = {"Prediction": prediction, "Training": training}
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
    st.html(scrolling(table("At the peak", both, rows, total=True), "What takes memory"))
    prediction, training = (demand.peak(batch).when for demand in both.values())
    st.caption(
        f"The peak of a prediction: {prediction}. That of a step of training: {training}; gradients are those of the weights that "
        "exist by then."
    )


def show_batches(both: Mapping[str, Demand], asked: Workload) -> None:
    """The largest batch in what GPUs usually have, and in the memory that was asked for."""
    sizes = sorted({*(gib * GIB for gib in GPUS), asked.memory})
    rows = []
    for size in sizes:
        label = f"{size / GIB:g} GiB"
        batches = [demand.largest_batch(size) for demand in both.values()]
        rows.append((label, [f"<td>{batch:,}</td>" if batch else "<td>none</td>" for batch in batches]))
    st.html(scrolling(table("Largest batch within", both, rows), "The largest batch"))


def cell(size: int) -> str:
    """A size, exact on hover."""
    return f'<td title="{size:,} bytes">{mebibytes(size)}</td>' if size else "<td></td>"


def table(head: str, columns: Iterable[str], rows: Iterable[tuple[str, list[str]]], total: bool = False) -> str:
    """A table of rows, each a label and cells; the last one is their `total`."""
    lines = [f"<tr><th>{escape(label)}</th>{''.join(cells)}</tr>" for label, cells in rows]
    if total:
        lines[-1] = lines[-1].replace("<tr>", '<tr class="total">')
    names = "".join(f"<th>{name}</th>" for name in columns)
    return f'<table class="ledger"><tr><th>{head}</th>{names}</tr>{"".join(lines)}</table>'
