"""Networks drawn under each other with the same roles in the same columns, on the elements of `diagram`.

What differs from the first network keeps its colour and carries ≠, what is equal fades, and what a
network lacks is a dashed gap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from itertools import groupby
from math import sqrt
from typing import NamedTuple

from ..analysis.compare import align, alignment_keys, merge_orders, signature
from ..analysis.parts import Part, drawn_parts
from ..analysis.trace import Trace
from .network import (
    AXIS,
    BOX,
    GAP,
    SHORTEST,
    STAGE_GAP,
    STEP,
    TALL,
    UNFOLDED,
    arc,
    band_label,
    box_width,
    layer_box,
    map_side,
    part_box,
    stack,
)
from .palette import colour
from .svg import MUTED, PAGE, TEXT, Drawing, box, line, plus, selectable, short_shape, text

START = 74.0
NAME = 26.0
"""Above each network, for what it is called."""
STRIP = NAME + AXIS + 108
HIGHEST = 78.0
FADED = 0.5


class AlignedColumn(NamedTuple):
    """One place in all networks: each one's part there, or None."""

    identifier: str
    group: str
    parts: tuple[Part | None, ...]

    def differs(self, number: int) -> bool:
        """Whether network `number` has something else here than the first."""
        return part_signature(self.parts[number]) != part_signature(self.parts[0])


def part_signature(part: Part | None) -> tuple[object, ...] | None:
    """What a part is by itself, wherever it stands."""
    return part and tuple((layer.role.slot, *signature(layer)) for layer in part.layers)


def columns(traces: Sequence[Trace]) -> list[AlignedColumn]:
    """The places that any of the networks has, from left to right; each is called as the first that has it."""
    order: dict[str, list[str]] = {}
    found: list[dict[str, Part]] = []
    for trace in traces:
        mine: dict[str, Part] = {}
        for group, some in groupby(drawn_parts(trace), lambda part: part.group):
            members = list(some)
            stage = group.startswith("stage")
            names = (
                [part.identifier for part in members] if stage else alignment_keys([part.layers[0] for part in members])
            )
            order[group] = merge_orders(order.get(group, []), names)
            mine |= zip(names, members, strict=True)
        found.append(mine)
    ranked = sorted(order, key=lambda group: (group == "head", group != "stem", group))
    rows = [(group, tuple(mine.get(name) for mine in found)) for group in ranked for name in order[group]]
    return [AlignedColumn(next(part.identifier for part in row if part), group, row) for group, row in rows]


def column_runs(places: list[AlignedColumn], at: str, unfolded: frozenset[str]) -> list[list[AlignedColumn]]:
    """Columns to draw; in long stages places that are alike in every network are one, behind the first of them."""
    sizes = Counter(column.group for column in places)

    def look(column: AlignedColumn) -> object:
        folds = sizes[column.group] > UNFOLDED and column.group.startswith("stage") and column.group not in unfolded
        return (
            (column.group, *map(part_signature, column.parts))
            if folds and column.identifier != at
            else column.identifier
        )

    result = []
    for _, run in groupby(places, look):
        first, *rest = run
        result += [[first], rest] if len(rest) > 1 else [[column] for column in (first, *rest)]
    return result


def overview(
    traces: Sequence[Trace], names: Sequence[str], at: str = "", unfolded: frozenset[str] = frozenset()
) -> Drawing:
    """The networks under each other, one on a line, aligned by stage and block.

    `at` is the selected block's path, "stem" or "head". A box's `data-id` is its network's number and its
    identifier ("1 layer2.0"), a fold's "unfold stage 3".
    """
    everything = columns(traces)
    shown = column_runs(everything, at, unfolded)
    tallest = max(map_side(part.shape) for column in everything for part in column.parts if part)
    places, x, previous = [], START, ""
    for run in shown:
        x += STAGE_GAP if previous and run[0].group != previous else GAP
        places.append(x)
        x, previous = x + BOX, run[0].group
    strips = []
    for number, (trace, name) in enumerate(zip(traces, names, strict=True)):
        ink, bands = [], dict[str, list[float]]()
        for run, left in zip(shown, places, strict=True):
            part = run[0].parts[number]
            if part is None:
                missing = f"{name} has no {run_name(run)}"
                ink.append(missing_box(left, AXIS - SHORTEST / 2, BOX, SHORTEST, missing))
                continue
            bands.setdefault(part.group, [left, left])[1] = left + BOX
            ink.append(
                cell(
                    run, number, part, left, max(SHORTEST, HIGHEST * sqrt(map_side(part.shape) / tallest)), at, names[0]
                )
            )
        ink += [band_label(trace, group, *span) for group, span in bands.items()]
        behind = line(f"M70 {AXIS}H{x:.1f}", MUTED)
        behind += text(64, AXIS + 4, short_shape(trace.image_shape), MUTED, 11, "end") + text(
            8, 14 - NAME, name, TEXT, 13, "start", 600
        )
        strips.append(f'<g transform="translate(0 {number * STRIP + NAME})">{behind}{"".join(ink)}</g>')
    return Drawing(
        x + 24, len(traces) * STRIP, "The networks under each other, aligned by stage and block", "".join(strips)
    )


def run_name(run: list[AlignedColumn]) -> str:
    first, last = run[0], run[-1]
    if not first.group.startswith("stage"):
        return first.identifier
    numbers = [column.identifier.rpartition(".")[2] for column in (first, last)]
    return (
        f"block {numbers[0]} of {first.group}"
        if len(run) == 1
        else f"blocks {numbers[0]} to {numbers[1]} of {first.group}"
    )


def cell(run: list[AlignedColumn], number: int, part: Part, left: float, tall: float, at: str, base: str) -> str:
    """One network's part in a column, with its shortcut; a run of alike ones as a stack."""
    hue, differs = colour(part.group), run[0].differs(number)
    inside = ""
    if part.shortcut:
        inside += arc(left, tall, hue, part.shortcut == "projection") + plus(left + BOX + GAP / 2, AXIS, hue)
    if len(run) > 1:
        words = f"{run_name(run)}: show them all"
        inside += selectable(f"unfold {part.group}", words, stack(len(run), left, tall, hue), False)
    else:
        chosen = at in (part.identifier, part.group)
        inside += part_box(part._replace(identifier=f"{number} {part.identifier}"), left, tall, hue, chosen)
    if not differs:
        behind = box(left, AXIS - tall / 2, BOX, tall, PAGE, False)  # else the axis shows through
        return inside if number == 0 else f'{behind}<g opacity="{FADED}">{inside}</g>'
    return inside + difference_mark(left + BOX / 2, AXIS + tall / 2 + 13, f"differs from {base}")


def missing_box(left: float, top: float, width: float, height: float, words: str) -> str:
    return (
        f'<g><title>{escape(words)}</title><rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="4" fill="none" stroke="{MUTED}" stroke-width="1.2" stroke-dasharray="3 3"/></g>'
    )


def difference_mark(x: float, y: float, words: str) -> str:
    return f"<g><title>{escape(words)}</title>{text(x, y, '≠', TEXT, 13, weight=700)}</g>"


# -- one block ----------------------------------------------------------------------------

LANE_STEP = 66.0


def detail(traces: Sequence[Trace], names: Sequence[str], part: str, at: str = "") -> Drawing:
    """One block ("layer2.0"), the "stem" or the "head" of each network, slot under slot; the shortcut's layers below.

    A layer's `data-id` is its network's number and its name ("1 layer2.0.conv1").

    Raises:
        ValueError: for a part that none of the networks has.
    """
    rows = [layers for layers in align(traces) if part == next(layer.part for layer in layers if layer)]
    if not rows:
        raise ValueError(f"no network has {part}")
    with_shortcut = any(layer.role.on_shortcut for layers in rows for layer in layers if layer)
    start = 56.0 if with_shortcut else 14.0
    lanes = {False: start, True: start}
    places = []
    for layers in rows:
        some = next(layer for layer in layers if layer)
        below = some.role.on_shortcut
        width = max(box_width(layer) for layer in layers if layer)
        places.append((lanes[below], width, below))
        lanes[below] += width + STEP
    tall = 100.0 + LANE_STEP * with_shortcut
    width = max(lanes.values())
    strips = []
    for number, name in enumerate(names):
        ink = [text(8, 14, name, TEXT, 13, "start", 600)]
        if with_shortcut:
            ink += [text(14, 50, "F(x)", MUTED, 12, "start"), text(14, 50 + LANE_STEP, "S(x)", MUTED, 12, "start")]
        for layers, (left, wide, below) in zip(rows, places, strict=True):
            y = 46.0 + LANE_STEP * below
            layer = layers[number]
            if layer is None:
                ink.append(missing_box(left, y - TALL / 2, wide, TALL, f"{name} has no such layer"))
                continue
            boxed = layer_box(layer, left, left + wide, y, colour(layer.role.group), layer.name == at)
            boxed = boxed.replace(f'data-id="{escape(layer.name)}"', f'data-id="{number} {escape(layer.name)}"')
            equal = layers[0] is not None and signature(layer) == signature(layers[0])
            ink.append(f'<g opacity="{FADED}">{boxed}</g>' if equal and number else boxed)
            ink += [] if equal else [difference_mark(left + wide / 2, y + TALL / 2 + 13, f"differs from {names[0]}")]
        strips.append(f'<g transform="translate(0 {number * tall})">{"".join(ink)}</g>')
    return Drawing(width + 8, len(traces) * tall, f"Layers of {part} under each other, slot by slot", "".join(strips))
