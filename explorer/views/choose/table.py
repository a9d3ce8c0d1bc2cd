"""All networks under the budget as one table: to sort, to search, to open, and to tick those that are to be compared."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler

from resnet import ResNetConfig, preset_name
from resnet.presets import PRESETS

from ...analysis.choose import Budget, Latency, Point, Row, points, row, rows
from ...analysis.compare import common_size, labels
from ...analysis.measured import MACHINES, ROBUSTNESS, Score
from ...analysis.search import Candidate
from ...link import MAX_OTHERS, View, size_text
from ...units import amount, mebibytes
from .. import session
from ..cached import shared
from .designs import Designs

Named = tuple[tuple[str, ResNetConfig], ...]


@shared(f"Tracing {len(PRESETS)} networks …")
def cached_rows(
    budget: Budget, own: Named, key: Hashable = None, _designs: tuple[Candidate, ...] = ()
) -> tuple[Row, ...]:
    """The designs follow from their `key`."""
    return tuple(rows(budget, own, _designs))


@shared("Tracing the published networks …")
def cached_points(budget: Budget) -> tuple[Point, ...]:
    return points(budget)


@shared()
def cached_row(budget: Budget, config: ResNetConfig) -> Row:
    """The row of one network by itself, named as timm does where it can be."""
    return row(budget, preset_name(config) or "", config)


def own_networks(view: View) -> Named:
    """The current network, those beside it and the pinned one, as far as they are no presets."""
    every = dict.fromkeys((view.config, *view.others, *filter(None, [view.pinned])))
    own = [config for config in every if not preset_name(config)]
    return tuple(zip(labels(own), own, strict=True))


# -- what it says -------------------------------------------------------------------------


class Column(NamedTuple):
    """A column: what it holds of a row to sort by, how that is written, and what it means."""

    value: Callable[[Row], Any]
    text: Callable[[Row], str]
    help: str


def _cost(name: str, written: Callable[[float], str], help: str) -> Column:
    def value(one: Row) -> int | None:
        found = getattr(one.candidate, name, None)
        return found.size if name == "field" and found else found

    return Column(value, lambda one: written(value(one) or 0) if one.candidate else "–", help)


def _result(one: Row) -> str:
    return f"{one.result.top1:.2%} at {one.result.size}" if one.result else "–"


def _latency(machine: str) -> Column:
    def found(one: Row) -> Latency | None:
        return dict(one.latencies).get(machine)

    def text(one: Row) -> str:
        here = found(one)
        if here is None:
            return "–"
        measured = f"{here.measured.milliseconds:.3g} at {here.measured.size}"
        return f"≈ {here.ms:.3g} ({measured})" if here.scaled else f"{here.ms:.3g}"

    return Column(
        lambda one: here.ms if (here := found(one)) else None,
        text,
        f"Milliseconds for one image: {MACHINES[machine]}; measured by timm. What was measured at another image size, in "
        "brackets with its side in pixels, is scaled by MACs (≈), an estimate.",
    )


def _robust(name: str) -> Column:
    def found(one: Row) -> Score | None:
        return dict(one.scores).get(name)

    return Column(
        lambda one: 100 * here.top1 if (here := found(one)) else None,
        lambda one: f"{here.top1:.1%} at {here.size}" if (here := found(one)) else "–",
        f"Top-1 with the same weights at so many pixels. {ROBUSTNESS[name]}",
    )


COLUMNS: Mapping[str, Column] = {
    "Network": Column(lambda one: one.name, lambda one: one.name, "Tick two to six to compare them below."),
    "Top-1": Column(
        lambda one: 100 * one.top1 or None,
        _result,
        "Best published accuracy on ImageNet, and at how many pixels a side",
    ),
    "Over": Column(lambda one: one.reason, lambda one: one.reason, "Which limits the network is over, and by how much"),
    "MACs": _cost("macs", amount, "Multiply-adds for one image of the size set"),
    "Parameters": _cost("params", amount, "Trainable numbers"),
    "Recipe": Column(
        lambda one: one.result.recipe if one.result else "",
        lambda one: one.result.recipe if one.result else "–",
        "How the best published result was trained",
    ),
    "Peak": _cost(
        "memory", mebibytes, "The most feature maps at once in a forward pass of one image in fp32, weights not counted"
    ),
    "Training": _cost("training_memory", mebibytes, "What training keeps of one image for the backward pass in fp32"),
    "Traffic": _cost(
        "moved",
        mebibytes,
        "Bytes that the operations of one image's forward pass read and write in fp32, weights among them",
    ),
    "Field": _cost("field", lambda pixels: f"{pixels:,} px", "Receptive field of the last stage, in pixels a side"),
    **{machine: _latency(machine) for machine in MACHINES},
    **{name: _robust(name) for name in ROBUSTNESS},
}
NUMBERS = tuple(name for name in COLUMNS if name not in ("Network", "Over", "Recipe"))
FAINT = "color: #80868f"
"""Of what is over budget: 3.6:1 on the light page, 4.9:1 on the dark one."""


@shared()
def cached_table(budget: Budget, own: Named, key: Hashable, _designs: tuple[Candidate, ...]) -> Styler:
    """The table as Streamlit takes it, made once: numbers to sort by, how they are written, and which rows are faint."""
    every = cached_rows(budget, own, key, _designs)
    frame = pd.DataFrame({name: [column.value(one) for one in every] for name, column in COLUMNS.items()})
    frame[list(NUMBERS)] = frame[list(NUMBERS)].astype(float)
    frame.insert(1, "Open", ["Open"] * len(every))
    styler = frame.style.set_uuid("networks")
    for name, column in COLUMNS.items():
        texts = [column.text(one) for one in every]
        styler.format(partial(next_of, iter(texts)), subset=[name])
    styler.apply(lambda each: [FAINT * (not one.fits) for one in every], axis=0)
    return laid_out(styler)


def next_of(texts: Iterator[str], _: Any) -> str:
    """What stands in the next cell of a column, from above, whatever its number."""
    return next(texts)


def laid_out(styler: Styler) -> Styler:
    """A styled table that has its styles computed for good: Streamlit asks it to, every time that it shows it, and that takes longer
    than all else on the page."""
    styler._compute()  # type: ignore[attr-defined]
    cells = styler._translate(False, False)  # type: ignore[attr-defined]
    styler._compute = lambda: styler  # type: ignore[attr-defined]
    styler._translate = lambda *_: cells  # type: ignore[attr-defined]
    return styler


# -- what is clicked in it ----------------------------------------------------------------

KEY = "networks"


def show(budget: Budget, own: Named, designs: Designs, height: int) -> None:
    """The table; its ticks are the networks that are compared."""
    every, view = cached_rows(budget, own, *designs), session.view()
    session.set_widget(KEY, {"selection": {"rows": ticks(view, every), "columns": [], "cells": []}})
    number, over = st.column_config.NumberColumn, any(one.over for one in every)
    st.dataframe(
        cached_table(budget, own, *designs),
        key=KEY,
        hide_index=True,
        height=height,
        on_select=lambda: tick(every, st.session_state[KEY]["selection"]["rows"]),
        selection_mode="multi-row",
        placeholder="–",
        column_order=[name for name in cached_table(budget, own, *designs).columns if name != "Over" or over],
        column_config={
            **{name: number(help=column.help) for name, column in COLUMNS.items() if name in NUMBERS},
            "Network": st.column_config.TextColumn(pinned=True, help=COLUMNS["Network"].help, width=120),
            "Open": st.column_config.ButtonColumn(
                "", type="tertiary", key="open network", width=60, on_click=lambda: opened(every)
            ),
            "Over": st.column_config.TextColumn(help=COLUMNS["Over"].help, width=150),
            "Recipe": st.column_config.TextColumn(help=COLUMNS["Recipe"].help),
        },
    )


def opened(every: Sequence[Row]) -> None:
    """The network whose button was pressed becomes the current one."""
    chosen = st.session_state.get("open network")
    if chosen and 0 <= chosen.row < len(every):
        open_row(every[chosen.row])


def open_row(one: Row) -> None:
    """Look at the network of a row at the size that is set; a design of a searched space at its own."""
    view = session.view()
    asked = one.candidate.image_size if one.candidate and one.index is not None else view.image_size
    size = common_size((one.config,), asked)
    notes = [f"Image size went from {size_text(view.image_size)} to {size_text(size)}."] * (size != view.image_size)
    session.show(replace(view, config=one.config, image_size=size, at="", weights=""), *notes)


def compared(view: View) -> tuple[ResNetConfig, ...]:
    """The networks that are beside each other, each once, the current one first."""
    return tuple(dict.fromkeys((view.config, *view.others)))


def ticks(view: View, every: Sequence[Row]) -> list[int]:
    """The rows of the networks that are beside each other; of several rows of one network the first."""
    places: dict[ResNetConfig, int] = {}
    for place, one in enumerate(every):
        places.setdefault(one.config, place)
    return sorted(places[config] for config in compared(view) if config in places)


def ticked(before: Sequence[ResNetConfig], configs: Iterable[ResNetConfig]) -> tuple[ResNetConfig, ...]:
    """The networks beside each other once these rows are ticked: those of before in their order, then the new ones. The current
    one stays where no other is left."""
    chosen = dict.fromkeys(configs)
    kept = [config for config in before if config in chosen]
    return tuple(dict.fromkeys((*kept, *chosen))) or tuple(before[:1])


def tick(every: Sequence[Row], selected: Sequence[int]) -> None:
    """Set the networks of these rows beside each other."""
    view = session.view()
    chosen = [every[place].config for place in selected if 0 <= place < len(every)]
    first, *others = ticked(compared(view), chosen)
    if len(others) > MAX_OTHERS:
        session.hold(problems=(f"At most {MAX_OTHERS + 1} networks are compared: untick one of them first.",), notes=())
        return
    if first != view.config:
        view = replace(view, config=first, image_size=common_size((first,), view.image_size), weights="", at="")
    session.show(replace(view, others=tuple(others)))
