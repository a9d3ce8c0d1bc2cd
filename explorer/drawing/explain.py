"""One number explained: what a unit reads times its weights, place by place, as products and bars; and fields in every part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..analysis.parts import Part
from ..inference.explain import Explanation, Term, Unit, Window
from .palette import STAGES
from .rasters import data_url, diverging
from .svg import MUTED, TEXT, Drawing, selectable, text

OPEN = 10
"""Rows that are drawn, the largest first; the rest are one."""
MAX_GRID = 256
"""Places of a window up to which it is drawn as a grid, above as rows."""
WRITTEN = 3
"""Side of a window up to which its cells hold their numbers."""
BLUE, RED = "#2a6fd0", "#b2442f"
"""Of bars below zero and above."""
LINE, GAP = 24.0, 9.0


class Row(NamedTuple):
    """A summand with its bar: a label, what a click on it selects, or the window of one channel, `number` in it.

    What is no summand has no value: the unit that a factor came from.
    """

    label: str
    value: float | None
    unit: Unit | None = None
    number: int | None = None
    words: str = ""


def unit_id(unit: Unit) -> str:
    """A unit as a link names it: layer2.0.conv1.5.3-4."""
    return f"{unit.layer}.{unit.channel}.{unit.row}-{unit.column}"


def products(found: Explanation, narrow: bool = False) -> Drawing:
    """The terms of an explanation, the largest open and the rest as one bar with their count and sum.

    A window's are sorted by channel: inputs, weights and products side by side, signed and coloured; `narrow` has its bars below.
    """
    window, rows = found.window, summands(found)
    grid = window is not None and any(row.number is not None for row in rows)
    plan = Plan.of(window if grid else None, narrow)
    limit = max((abs(row.value or 0.0) for row in rows), default=0.0) or 1.0
    limits = [largest(window.inputs), largest(window.weights), largest(window.products)] if window else []
    ink, y = [heads(plan)] if grid else [], 18.0 if grid else 4.0
    for row in rows:
        if window is not None and row.number is not None:
            ink.append(channel_row(window, row, y, plan, limit, limits))
            y += plan.tall + GAP
        else:
            ink.append(single_row(row, y, plan, limit))
            y += LINE
    ink.append(f'<path d="M4 {y + 2:.1f}H{plan.wide - 4:.1f}" stroke="{MUTED}" stroke-opacity="0.6"/>')
    ink.append(text(4, y + 20, "Sum", TEXT, 12, "start", 600))
    ink.append(text(plan.wide - 4, y + 20, number(found.total), TEXT, 12, "end", 600))
    return Drawing(
        plan.wide, y + 28, f"The terms of {found.unit.words}, whose sum is {number(found.total)}", "".join(ink)
    )


def summands(found: Explanation) -> list[Row]:
    """The rows of an explanation: a window's channels, or its places where they are too many to draw, and the constants."""
    rows = [row for term in found.constants for row in constant_rows(term)]
    if (window := found.window) is None:
        return rows
    if window.inputs[0].size > MAX_GRID:
        places = [place for place in np.ndindex(window.inputs.shape) if window.inside[place]]
        every = [place_row(window, place) for place in places]
        return [*opened(every, "inputs"), *rows]
    if window.inputs[0].size == 1:
        every = [
            place_row(window, (number, 0, 0)) for number in range(len(window.inputs)) if window.inside[number, 0, 0]
        ]
        return [*opened(every, "channels"), *rows]
    sums = window.products.sum((1, 2))
    every = [Row(f"channel {window.first + number}", float(sums[number]), None, number) for number in range(len(sums))]
    return [*opened(every, "channels"), *rows]


def opened(rows: list[Row], noun: str) -> list[Row]:
    """The largest rows, and the rest as one."""
    rows = sorted(rows, key=lambda row: -abs(row.value or 0.0))
    rest = rows[OPEN:]
    if len(rest) < 2:
        return rows
    return [*rows[:OPEN], Row(f"{len(rest):,} more {noun}", sum(row.value or 0.0 for row in rest))]


def constant_rows(term: Term) -> list[Row]:
    """A term, and the unit that its factor came from, if it did."""
    words = ""
    if term.factor is not None and term.input is not None and term.factor != 1:
        words = f"{number(term.factor)} × {number(term.input)}"
    rows = [Row(term.kind, term.value, term.unit, None, words)]
    if term.factor_unit and term.factor is not None:
        rows.append(Row(f"its weight is {number(term.factor)}", None, term.factor_unit))
    return rows


def place_row(window: Window, place: tuple[int, ...]) -> Row:
    unit = window.unit(*place)
    label = f"channel {window.first + place[0]}" if window.inputs[0].size == 1 else f"row {place[1]}, column {place[2]}"
    factor, given = float(window.weights[place]), float(window.inputs[place])
    return Row(label, factor * given, unit, None, f"{number(factor)} × {number(given)}")


# -- where things stand -------------------------------------------------------------------


class Plan(NamedTuple):
    """Where the parts of a row stand: the left of each grid, the size of a cell, where bars begin and how long they are."""

    lefts: tuple[float, float, float]
    cell: tuple[float, float]
    tall: float
    bar: float
    room: float
    wide: float
    written: bool
    narrow: bool

    @classmethod
    def of(cls, window: Window | None, narrow: bool) -> Plan:
        wide = 352.0 if narrow else 604.0
        if window is None:
            bar = 200.0 if narrow else 300.0
            return cls((0, 0, 0), (0, 0), LINE, bar, wide - bar - 62, wide, False, narrow)
        rows, columns = window.inputs.shape[1:]
        written = max(rows, columns) <= WRITTEN
        side = max(4.0, min(16.0, 100 / max(rows, columns)))
        cell = (35.5, 19.0) if written else (side, side)
        across, down = columns * cell[0], rows * cell[1]
        first = 4.0 if narrow else 74.0
        lefts = first, first + across + 15, first + 2 * across + 30
        bar = 100.0 if narrow else lefts[2] + across + 16
        return cls(lefts, cell, down + (LINE if narrow else 0), bar, wide - bar - 62, wide, written, narrow)


def heads(plan: Plan) -> str:
    across = plan.lefts[1] - plan.lefts[0] - 15
    words = ("input", "weight", "product")
    return "".join(text(left + across / 2, 12, word, MUTED, 11) for left, word in zip(plan.lefts, words, strict=True))


def channel_row(window: Window, row: Row, y: float, plan: Plan, limit: float, limits: list[float]) -> str:
    """One channel of a window: three grids whose cells are one group each, and the channel's sum as a bar."""
    assert row.number is not None
    layers = window.inputs[row.number], window.weights[row.number], window.products[row.number]
    coloured = [diverging(one, limit) for one, limit in zip(layers, limits, strict=True)]
    top = y + (LINE if plan.narrow else 0)
    middle = y + 16 if plan.narrow else y + plan.tall / 2 + 4
    ink = [text(4, middle, row.label, TEXT, 12, "start"), bar(row.value or 0.0, middle - 4, plan, limit)]
    (wide, tall), across = plan.cell, plan.lefts[1] - plan.lefts[0] - 15
    for left, sign in zip(plan.lefts[1:], "×=", strict=True):
        ink.append(text(left - 7.5, top + layers[0].shape[0] * tall / 2 + 4, sign, MUTED, 12))
    for place in np.ndindex(layers[0].shape):
        x = [left + place[1] * wide for left in plan.lefts]
        unit = window.unit(row.number, *place)
        values = [float(one[place]) for one in layers]
        cells = "".join(
            cell(at, top + place[0] * tall, plan, value, colours[place], unit is not None or one == 1)
            for one, (at, value, colours) in enumerate(zip(x, values, coloured, strict=True))
        )
        if unit is None:
            ink.append(f"<g><title>padding</title>{cells}</g>")
        else:
            words = f"{unit.words}: {' × '.join(map(number, values[:2]))} = {number(values[2])}"
            ink.append(selectable(unit_id(unit), words, cells, False))
    frame = f'height="{layers[0].shape[0] * tall:.1f}" fill="none" stroke="{MUTED}" stroke-opacity="0.5" pointer-events="none"/>'
    ink += [f'<rect x="{left:.1f}" y="{top:.1f}" width="{across:.1f}" {frame}' for left in plan.lefts]
    return "".join(ink)


def cell(x: float, y: float, plan: Plan, value: float, colour: np.ndarray, inside: bool) -> str:
    """A coloured place, with its number where there is room."""
    wide, tall = plan.cell
    if not inside:
        return (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}" fill="{MUTED}" fill-opacity="0.22"/>'
        )
    red, green, blue = map(int, colour)
    fill, ink = (
        f"#{red:02x}{green:02x}{blue:02x}",
        "#000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#fff",
    )
    words = text(x + wide / 2, y + tall / 2 + 4, short_number(value), ink, 11) if plan.written else ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}" fill="{fill}"/>{words}'


def single_row(row: Row, y: float, plan: Plan, limit: float) -> str:
    """A summand on one line; all of it is one thing to click where it came from a unit."""
    ink = text(4, y + 16, row.label, TEXT, 12, "start")
    if row.words:
        ink += text(plan.bar - 8, y + 16, row.words, MUTED, 11, "end")
    if row.value is not None:
        ink += bar(row.value, y + 12, plan, limit)
    if row.unit is None:
        return ink
    words = f"{row.unit.words}: {row.label}" + ("" if row.value is None else f", {number(row.value)}")
    back = f'<rect x="0" y="{y:.1f}" width="{plan.wide:.1f}" height="{LINE - 1:.1f}" rx="4" fill="{MUTED}" fill-opacity="0.1"/>'
    return selectable(unit_id(row.unit), words, back + ink, False)


def bar(value: float, middle: float, plan: Plan, limit: float) -> str:
    """A value from zero in the middle of the bars' room, and its number at the right end."""
    zero, length = plan.bar + plan.room / 2, abs(value) / limit * plan.room / 2
    left = zero if value >= 0 else zero - length
    return (
        f'<path d="M{zero:.1f} {middle - 8:.1f}v16" stroke="{MUTED}" stroke-opacity="0.6"/>'
        f'<rect x="{left:.1f}" y="{middle - 5:.1f}" width="{max(length, 0.5):.1f}" height="10" fill="{RED if value >= 0 else BLUE}"/>'
        + text(plan.wide - 4, middle + 4, number(value), TEXT, 12, "end")
    )


# -- numbers ------------------------------------------------------------------


def largest(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0))


def number(value: float) -> str:
    """Four figures."""
    return f"{value:z.4g}".replace("-", "−")


def short_number(value: float) -> str:
    """At most six characters."""
    size = abs(value)
    if size and (size < 0.0005 or size >= 9999.5):
        mantissa, _, exponent = f"{value:.0e}".partition("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    places = 3 if size < 0.0995 else 2 if size < 9.995 else 1 if size < 99.95 else 0
    return "0" if not size else f"{value:.{places}f}".replace("-", "−")


# -- fields -------------------------------------------------------------------------------

TILE, PITCH = 52.0, 74.0
READS, REACHES = STAGES[0], STAGES[2]


def fields(
    parts: Iterable[Part], read: Mapping[str, np.ndarray], reached: Mapping[str, np.ndarray], here: str, image: bool
) -> Drawing:
    """What a unit of the layer `here` reads in the image and every part before it, and reaches in those after, as tiles.

    The values of both are places H×W by the layer's name.
    """
    layers = {part.identifier: part.layers[-1].name for part in parts}
    ink: list[str] = []
    tiles = [("image", "image"), *layers.items()]
    own = here in {name for _, name in tiles}
    for identifier, name in tiles:
        mask, words, hue = None, "reaches none", REACHES
        if name in read:
            mask, hue = read[name], READS
            words = f"{mask.sum():,} of {mask.size:,}"
        if name in reached:
            mask, hue = reached[name], REACHES
            words = f"{mask.sum():,} of {mask.size:,}"
        if name == here and own:
            hue, words = TEXT, "here"
        ink.append(tile(len(ink) * PITCH + 4, identifier, words, hue, mask, identifier != "image"))
    verb = "reaches" if image else "reads and reaches"
    return Drawing(len(ink) * PITCH + 8, TILE + 50, f"What {here} {verb} in each part of the network", "".join(ink))


def tile(x: float, identifier: str, words: str, hue: str, mask: np.ndarray | None, choosable: bool) -> str:
    """A map as a square with the places of a field in it; on a line of its own where there is no room (`data-run`)."""
    label = identifier.removeprefix("layer")
    back = (
        f'<rect x="{x + 11:.1f}" y="4" width="{TILE:g}" height="{TILE:g}" fill="{MUTED}" fill-opacity="0.16" '
        f'stroke="{hue}" stroke-width="{2 if hue == TEXT else 1}"/>'
    )
    if mask is not None:
        back += f'<image href="{places_url(mask, hue)}" x="{x + 11:.1f}" y="4" width="{TILE:g}" height="{TILE:g}" preserveAspectRatio="none" image-rendering="pixelated"/>'
    middle = x + 11 + TILE / 2
    back += text(middle, TILE + 20, label, TEXT, 12) + text(middle, TILE + 36, words, MUTED, 11)
    whole = selectable(identifier, f"{identifier}: {words}", back, False) if choosable else f"<g>{back}</g>"
    return f'<g data-run="{x:.1f} {PITCH:g} 0">{whole}</g>'


def places_url(mask: np.ndarray, hue: str) -> str:
    """Places as a picture of one colour, transparent elsewhere."""
    picture = np.zeros((*mask.shape, 4), np.uint8)
    picture[mask] = [*(int(hue[at : at + 2], 16) for at in (1, 3, 5)), 255]
    return data_url(Image.fromarray(picture))
