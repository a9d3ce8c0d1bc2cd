"""All networks under the budget as one table: to sort, to search, to open, and to tick those that are to be compared."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler

from resnet import ResNetConfig, preset_name
from resnet.presets import PRESETS

from ...analysis.choose import FIFTY, Budget, Here, Latency, Point, Row, points, row, rows
from ...analysis.compare import common_size, labels
from ...analysis.measured import MACHINES, ROBUSTNESS, Score
from ...analysis.search import Candidate
from ...export.tables import LINK
from ...link import MAX_OTHERS, Size, View, relative, size_text
from ...units import amount, mebibytes
from .. import session, take
from ..cached import shared
from .designs import Designs

Named = tuple[tuple[str, ResNetConfig], ...]
Measured = tuple[tuple[ResNetConfig, Here], ...]


@shared(f"Tracing {len(PRESETS)} networks …")
def cached_rows(
    budget: Budget, own: Named, key: Hashable = None, _designs: tuple[Candidate, ...] = (), _base: ResNetConfig = FIFTY
) -> tuple[Row, ...]:
    """The designs, and the network that they are around, follow from their `key`."""
    return tuple(rows(budget, own, _designs, _base))


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


def _over(one: Row) -> str:
    return "; ".join(each.brief for each in one.over)


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


HERE = "ms here"


def _here(found: Mapping[ResNetConfig, Here]) -> Column:
    """Of what was measured here at the image size."""
    return Column(
        lambda one: here.ms if (here := found.get(one.config)) else None,
        lambda one: f"{here.ms:.3g} ({here.how})" if (here := found.get(one.config)) else "–",
        "Milliseconds for one image on this server, the median of the network's last measurement at this image size in your session: "
        "tick it beside another, then Measure latency below.",
    )


COLUMNS: Mapping[str, Column] = {
    "Network": Column(lambda one: one.name, lambda one: one.name, "Tick two to six to compare them below."),
    "Top-1": Column(
        lambda one: 100 * one.top1 or None,
        _result,
        "Best published accuracy on ImageNet, and at how many pixels a side",
    ),
    "Over": Column(_over, _over, "The limits that the network is over, and how many times each"),
    "MACs": _cost("macs", amount, "Multiply-adds for one image of the size set"),
    "Parameters": _cost("params", amount, "Trainable numbers"),
    "Recipe": Column(
        lambda one: one.result.recipe if one.result else "",
        lambda one: one.result.recipe if one.result else "–",
        "How the best published result was trained",
    ),
    "Peak": _cost(
        "memory",
        mebibytes,
        "The most bytes at once in a forward pass of one image in evaluation mode in fp32: the image and feature maps. Weights "
        "and what a kernel works in are not counted.",
    ),
    "Training": _cost(
        "training_memory",
        mebibytes,
        "What autograd keeps of one image's forward pass in fp32 for the backward pass. Weights, gradients, the optimiser's states "
        "and the gradients of feature maps come on top: Memory, a tab of Architecture, has the peak of a step with all of them.",
    ),
    "Traffic": _cost(
        "moved",
        mebibytes,
        "Bytes that the operations of one image's forward pass read and write in fp32, weights among them",
    ),
    "Field": _cost("field", lambda pixels: f"{pixels:,} px", "Receptive field of the last stage, in pixels a side"),
    HERE: _here({}),
    **{machine: _latency(machine) for machine in MACHINES},
    **{name: _robust(name) for name in ROBUSTNESS},
}
NUMBERS = tuple(name for name in COLUMNS if name not in ("Network", "Over", "Recipe"))
FAINT = "color: #80868f"
"""Of what is over budget: 3.6:1 on the light page, 4.9:1 on the dark one."""
STRONG = "font-weight: 600"
"""Of the name of what fits. Streamlit draws a pinned column at 60 % of its colour: all names are faint, and more would hide them."""


@shared()
def cached_table(
    budget: Budget, own: Named, here: Measured, key: Hashable, _designs: tuple[Candidate, ...], _base: ResNetConfig
) -> Styler:
    """The table as Streamlit takes it, made once: numbers to sort by, how they are written, and which rows are faint."""
    every, columns = cached_rows(budget, own, key, _designs, _base), {**COLUMNS, HERE: _here(dict(here))}
    frame = pd.DataFrame({name: [column.value(one) for one in every] for name, column in columns.items()})
    frame[list(NUMBERS)] = frame[list(NUMBERS)].astype(float)
    frame.insert(1, "Open", ["Open"] * len(every))
    styler = frame.style.set_uuid("networks")
    for name, column in columns.items():
        texts = [column.text(one) for one in every]
        styler.format(partial(next_of, iter(texts)), subset=[name])
    styler.apply(lambda each: [looks(one, each.name) for one in every], axis=0)
    return laid_out(styler)


def looks(one: Row, column: Hashable) -> str:
    """How a cell is drawn, as CSS: what fits stands out."""
    if column == "Network":
        return STRONG * one.fits
    return FAINT * (not one.fits)


def next_of(texts: Iterator[str], _: Any) -> str:
    """What stands in the next cell of a column, from above, whatever its number."""
    return next(texts)


def laid_out(styler: Styler) -> Styler:
    """A styled table that has its styles computed for good.

    Streamlit calls these two methods of pandas whenever it shows a table. They empty the styles before they fill them, so that
    people could not share one, and to make and fill one of 103 rows anew takes 32 ms at every click, against 8 ms.
    """
    styler._compute()  # type: ignore[attr-defined]
    cells = styler._translate(False, False)  # type: ignore[attr-defined]
    styler._compute = lambda: styler  # type: ignore[attr-defined]
    styler._translate = lambda *_: cells  # type: ignore[attr-defined]
    return styler


# -- what is clicked in it ----------------------------------------------------------------

KEY = "networks"


def show(budget: Budget, own: Named, designs: Designs, height: int) -> None:
    """The table; its ticks are the networks that are compared."""
    every, view, here = cached_rows(budget, own, *designs), session.view(), measured_here(budget)
    session.set_widget(KEY, {"selection": {"rows": ticks(view, every), "columns": [], "cells": []}})
    number = st.column_config.NumberColumn
    take.table(
        cached_table(budget, own, here, *designs),
        KEY,
        "Networks",
        whole=lambda: taken(cached_table(budget, own, here, *designs), every, view.image_size),
        height=height,
        on_select=lambda: selected(every),
        selection_mode="multi-row",
        placeholder="–",
        column_order=order(budget, any(one.over for one in every)),
        column_config={
            **{name: number(help=column.help) for name, column in COLUMNS.items() if name in NUMBERS},
            "Network": st.column_config.TextColumn(
                pinned=True, help=COLUMNS["Network"].help, width=190 if designs.best else None
            ),
            "Open": st.column_config.ButtonColumn(
                "Open", type="tertiary", key="open network", width=60, on_click=lambda: opened(every)
            ),
            "Over": st.column_config.TextColumn(help=COLUMNS["Over"].help),
            "Recipe": st.column_config.TextColumn(help=COLUMNS["Recipe"].help),
        },
    )


def taken(styler: Styler, every: Sequence[Row], size: Size) -> pd.DataFrame:
    """The table without its buttons, whole numbers as such, each row with the link to its own network."""
    frame: pd.DataFrame = styler.data  # type: ignore[attr-defined]
    links = [relative(View(one.config, row_size(one, size))) for one in every]
    return frame.drop(columns="Open").convert_dtypes().assign(**{LINK: links})


def measured_here(budget: Budget) -> Measured:
    """What this session has measured at the image size, by its network."""
    found = session.held().timed_here
    return tuple((config, one) for (config, size), one in found.items() if size == budget.size)


def order(budget: Budget, over: bool) -> list[str]:
    """The columns from left to right: those of what is limited before all other costs; where something is `over` a limit, that too."""
    limited = {"macs": "MACs", "params": "Parameters", "memory": "Peak", "ms": budget.machine}
    first = [
        "Network",
        "Open",
        "Top-1",
        *["Over"] * over,
        *(limited[name] for name in limited if getattr(budget, name)),
    ]
    return list(dict.fromkeys([*first, *(name for name in COLUMNS if name != "Over")]))


def opened(every: Sequence[Row]) -> None:
    """The network whose button was pressed becomes the current one."""
    chosen = st.session_state.get("open network")
    if chosen and 0 <= chosen.row < len(every):
        open_row(every[chosen.row])


def row_size(one: Row, size: Size) -> Size:
    """The image size at which the network of a row is looked at where `size` is set: a design's is its own, and of another network
    it is the next that it takes.
    """
    own = one.candidate.image_size if one.candidate else size
    return common_size((one.config,), own)


def open_row(one: Row) -> None:
    """Look at the network of a row at its size."""
    view = session.view()
    size = row_size(one, view.image_size)
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


def selected(every: Sequence[Row]) -> None:
    """Set the networks of the rows that are ticked beside each other."""
    with suppress(LookupError, TypeError):  # what no browser sends
        tick([every[place].config for place in st.session_state[KEY]["selection"]["rows"] if place >= 0])


def tick(chosen: Sequence[ResNetConfig]) -> None:
    """Set these networks beside each other, as many as are compared."""
    view = session.view()
    first, *others = ticked(compared(view), chosen)
    if len(others) > MAX_OTHERS:
        session.hold(problems=(f"At most {MAX_OTHERS + 1} networks are compared: untick one of them first.",), notes=())
        return
    if first != view.config:
        view = replace(view, config=first, image_size=common_size((first,), view.image_size), weights="", at="")
    session.show(replace(view, others=tuple(others)))
