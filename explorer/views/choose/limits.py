"""The budget: a line of fields, and what it leaves of all networks in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from resnet import ConfigError, ResNetConfig

from ...analysis.choose import Budget, Row, alone
from ...analysis.measured import MACHINES
from ...analysis.search import narrower
from ...link import size_text
from ...units import AN_AMOUNT, read_amount
from .. import session, settings
from ..cached import shared
from ..sidebar import size_chosen

UNCHANGED = "The limits are unchanged."
UNITS = (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3))
MEMORY_UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
ABOUT_LATENCY = (
    "The one that the limit is of. "
    + "; ".join(MACHINES.values())
    + ". Measured by timm; at other image sizes scaled by MACs."
)
LIMITS = {"macs": "MACs", "params": "parameters", "memory": "memory", "ms": "latency", "weights": "weights"}
"""What may keep a network out, in a sentence."""
FEW = 3
"""Networks that fit, from which on the nearest of the others are not named."""


def budget() -> Budget:
    """The link's limits at the view's image size; what is wrong with them is left out."""
    view = session.view()
    return replace(Budget.tolerant(view.limits)[0], size=view.image_size)


def fields() -> None:
    """The line of fields, and a sentence where the link's limits hold mistakes."""
    now, problem = Budget.tolerant(session.view().limits)
    if problem:
        st.warning(session.escape_markdown(problem), icon=":material/error:")
    options = Budget.options()
    with st.container(key="limits"):
        columns = iter(st.columns([8, 7, 8, 8, 6, 10, 11], gap="small", vertical_alignment="bottom"))
        with next(columns):
            size_field()
        for name, units in (("macs", UNITS), ("params", UNITS), ("memory", MEMORY_UNITS)):
            with next(columns):
                text_field(f"{options[name].label} ≤", name, short(getattr(now, name), units), partial(amount_of, name))
        with next(columns):
            text_field("ms ≤", "ms", f"{now.ms:g}" if now.ms else "", milliseconds_of)
        for name, help in (("machine", ABOUT_LATENCY), ("weights", options["weights"].help)):
            with next(columns):
                settings.widget(options[name], f"limits {name}", getattr(now, name), partial(change, name), help=help)


def size_field() -> None:
    """The view's image size, which is the sidebar's too."""
    session.set_widget("limits size", session.held().typed.get("limits size", size_text(session.view().image_size)))
    st.text_input(
        "Image H×W",
        key="limits size",
        on_change=size_chosen,
        args=("limits size",),
        help="Pixels: one number for a square, or height × width such as 320x640.",
    )


def text_field(label: str, name: str, text: str, read: Callable[[str], Any]) -> None:
    """A limit as text, which `read` makes a value of; an empty field is no limit."""
    key = f"limits {name}"

    def typed() -> None:
        given = st.session_state[key].strip()
        try:
            value = read(given) if given else Budget.options()[name].default
        except ConfigError as error:
            session.refuse(error, {key: given}, UNCHANGED, Budget.options())
        else:
            change(name, value)

    session.set_widget(key, session.held().typed.get(key, text))
    st.text_input(label, key=key, on_change=typed, placeholder="any", help=Budget.options()[name].help)


def change(name: str, value: Any) -> None:
    """Change a limit in the link, and leave out those that were not accepted there; a value that no widget offers changes nothing."""
    now, _ = Budget.tolerant(session.view().limits)
    try:
        session.choose(limits=replace(now, **{name: value}).to_text())
    except ConfigError as error:
        session.refuse(error, unchanged=UNCHANGED, options=Budget.options())


def amount_of(name: str, text: str) -> int:
    """What is typed for a limit that is a whole number.

    Raises:
        ConfigError: for what is no amount.
    """
    try:
        return read_amount(text)
    except ValueError as error:
        raise ConfigError(name, text, f"{AN_AMOUNT}, or nothing for no limit") from error


def milliseconds_of(text: str) -> float:
    """Milliseconds as typed: 12, 0.5, 12 ms.

    Raises:
        ConfigError: for other text.
    """
    return float(Budget().with_text("ms", text.removesuffix("ms").strip()).ms)


def short(number: int, units: Sequence[tuple[str, int]]) -> str:
    """A number as `read_amount` reads it back, as short as can be; nothing for 0."""
    for unit, size in units:
        text = f"{number / size:g}"
        if number >= size and float(text) * size == number:
            return text + unit
    return str(number) if number else ""


# -- what it leaves -----------------------------------------------------------------------


def verdict(budget: Budget, rows: Sequence[Row]) -> None:
    """How many fit and which is the best of them; where few do, the nearest of the others, and what would let them in."""
    inside = [one for one in rows if one.fits]
    st.markdown(verdict_words(budget, rows, inside))
    if len(inside) < FEW and (outside := nearest(rows)):
        words = (f"**{escaped(one.name)}**: {escaped(nearest_words(budget, one))}" for one in outside)
        st.caption(f"Nearest: {'. '.join(words)}.")


def escaped(words: str) -> str:
    return session.escape_markdown(words)


def verdict_words(budget: Budget, rows: Sequence[Row], inside: Sequence[Row]) -> str:
    """3 of 104 fit at 320×640 px; best top-1: resnet10t, 68.36 % at 176 px."""
    height, width = budget.size
    count = f"**{len(inside)} of {len(rows)}** {'fits' if len(inside) == 1 else 'fit'} at {height}×{width} px"
    best = max(inside, key=lambda one: one.top1, default=None)
    if best and best.result:
        name, found = escaped(best.name), best.result
        count += f"; best top-1: **{name}**, {found.top1:.2%} at {found.size} px ({escaped(found.recipe)})"
    elif inside:
        names = ", ".join(escaped(one.name) for one in inside[:FEW])
        count += f": {names}{', …' if len(inside) > FEW else ''}; no accuracy is published for {'them' if len(inside) > 1 else 'it'}"
    most = max(LIMITS, key=lambda name: alone(rows, name))
    if more := alone(rows, most):
        count += f". Without the limit on {LIMITS[most]} alone, {more} more would"
    return f"{count}."


def nearest(rows: Sequence[Row]) -> list[Row]:
    """The first few that do not fit and can take the image, each network by one of its names."""
    found: dict[ResNetConfig, Row] = {}
    for one in rows:
        if one.candidate and not one.fits:
            found.setdefault(one.config, one)
    return [*found.values()][:FEW]


def nearest_words(budget: Budget, one: Row) -> str:
    """Why a network does not fit, and what it would fit with: a smaller image, fewer planes."""
    if {over.measure for over in one.over} <= {"macs", "params", "memory"}:
        return f"{one.reason}; {cached_narrower(budget, one.config)}"
    return one.reason


@shared()
def cached_narrower(budget: Budget, config: ResNetConfig) -> str:
    return narrower(config, budget).words
