"""The block diagram: a trace as a drawing in plain SVG.

Three drawings share one look. `overview` is the whole network on a line: box height follows
the feature map (square root), arcs are shortcuts (dashed where they project), ⊕ additions.
`strip` is the network as a row of maps. Stages are runs, which a narrow page sets on several
lines, as words are. `detail` is one block, the stem or the head with every layer: branch F(x) on the axis, shortcut S(x) below it,
attention above; with `shared`, norm and activation of a step stand in its convolution's box, and attention over the branch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from math import sqrt
from typing import NamedTuple

from resnet import ConfigError

from ..analysis.layers import (
    ACTIVATIONS,
    IMAGE,
    NORMS,
    Layer,
    Op,
    Shape,
    beyond_windows,
    global_dependencies,
    shape_text,
)
from ..analysis.parts import Part, drawn_parts
from ..analysis.trace import Trace
from .palette import colour
from .svg import MUTED, PAGE, SMALLEST, TEXT, Drawing, box, line, plus, selectable, short_shape, text

BOX, GAP, STAGE_GAP = 30.0, 11.0, 24.0
TALLEST, SHORTEST, AXIS = 96.0, 24.0, 64.0
UNFOLDED, FOLDED = 8, 4
"""Stages with more blocks than the first are folded, to as many boxes as the second: 0 · 1 · ×33 · 35."""
MOST = 20
"""Boxes that stand legibly on a line; where a network has more, its longest stages are folded too."""
RUN = 7
"""Boxes that stay beside each other whatever the width."""


class Fold(NamedTuple):
    """A run of equal blocks shown as one box."""

    stage: str
    blocks: tuple[Part, ...]


def long_stages(parts: Sequence[Part]) -> frozenset[str]:
    """The stages that fold: those of more than `UNFOLDED` blocks, and the longest, alike ones together, down to `MOST` boxes."""
    sizes = Counter(part.group for part in parts)
    boxes, found = len(parts), frozenset[str]()
    for size in sorted({size for group, size in sizes.items() if group.startswith("stage")}, reverse=True):
        if size <= FOLDED or (size <= UNFOLDED and boxes <= MOST):
            break
        alike = {group for group, blocks in sizes.items() if blocks == size and group.startswith("stage")}
        boxes, found = boxes - len(alike) * (size - FOLDED), found | alike
    return found


def folded(parts: tuple[Part, ...], at: str, unfolded: frozenset[str], off: Collection[str] = ()) -> list[Part | Fold]:
    """Long stages shortened: first two blocks, the selected one, those that are off and the last stay."""
    folds = long_stages(parts) - unfolded
    shown: list[Part | Fold] = []
    for group in dict.fromkeys(part.group for part in parts):
        members = [part for part in parts if part.group == group]
        if group not in folds:
            shown.extend(members)
            continue
        run: list[Part] = []
        for index, part in enumerate(members):
            stays = index in (0, 1, len(members) - 1) or part.identifier == at or part.identifier in off
            if not stays:
                run.append(part)
                continue
            shown.extend([Fold(group, tuple(run))] if len(run) > 1 else run)
            run = []
            shown.append(part)
    return shown


def facts(layers: Sequence[Layer]) -> str:
    """What layers that stand for one box do: shapes in and out, parameters, MACs and receptive field, a line each."""
    first, last = layers[0], layers[-1]
    field = f"{last.field.size:,} px" if last.field.effective_stride else "the whole image"
    return "\n".join(
        (
            f"{shape_text(first.in_shapes[0])} → {shape_text(last.out_shape)}",
            f"{sum(layer.params for layer in layers):,} parameters",
            f"{sum(layer.macs for layer in layers):,} MACs",
            f"receptive field: {field}",
        )
    )


# -- overview -----------------------------------------------------------------------------


class Switches(NamedTuple):
    """The blocks that are off, and the reason of each that cannot be switched, by their paths."""

    off: Collection[str]
    fixed: Mapping[str, str]


SWITCH_ROW = 24.0


def overview(
    trace: Trace, at: str = "", unfolded: frozenset[str] = frozenset(), switches: Switches | None = None
) -> Drawing:
    """The whole network on one line.

    `at` is the selected layer or block; stages named in `unfolded` ("stage 3") show every
    block. A fold's `data-id` is "unfold stage 3". With `switches` each block has one below it, its
    `data-id` "switch layer3.2", and blocks that are off are hollow.

    A group with `data-run` (left, width, and by how much less than others it reaches up and
    down) may stand on a line of its own; its elements with `data-low` then move up.
    """
    selected_part = trace.part_of(at)
    everything = drawn_parts(trace)
    off = switches.off if switches else ()
    row = SWITCH_ROW if switches else 0.0
    tallest = max(map_side(part.shape) for part in everything)
    given = short_shape(trace.image_shape)
    runs: list[str] = []
    x = 0.0
    for group, items in runs_of(folded(everything, selected_part, unfolded, off)):
        start, lead = x, 0.0 if runs else lead_in(given)
        width = len(items) * (BOX + GAP) - GAP
        spare = max(0.0, band_width(trace, group) - width - STAGE_GAP) / 2
        left = x = start + lead + spare + STAGE_GAP / 2
        ink = []
        for item in items:
            part, hue = first_part(item), colour(group)
            tall = box_height(part, tallest)
            joint = []
            if shortcut := part.shortcut:
                thick = 3.0 if part.identifier in off else 1.5
                joint = [arc(x, tall, hue, shortcut == "projection", thick), plus(x + BOX + GAP / 2, AXIS, hue)]
            if isinstance(item, Fold):
                ink += [fold_box(item, x, tall, hue), *joint]  # the joint stands on the boxes behind
            else:
                ink += joint
                chosen = is_chosen(part, selected_part, at)
                ink.append(part_box(part, x, tall, hue, chosen, part.identifier in off))
                if switches and group.startswith("stage"):
                    reason = switches.fixed.get(part.identifier, "")
                    ink.append(switch(part, x, hue, part.identifier not in off, reason))
            x += BOX + GAP
        right = x - GAP
        x = right + spare + STAGE_GAP / 2
        room = (TALLEST - max(box_height(first_part(item), tallest) for item in items)) / 2
        axis = line(f"M{start + lead:.1f} {AXIS}H{right if group == 'head' else x:.1f}", MUTED)
        words = "" if runs else text(start + lead - 4, AXIS + 4, given, MUTED, SMALLEST, "end")
        band = f'<g data-low="">{band_label(trace, group, left, right, row)}</g>'
        runs.append(f'<g data-run="{start:.1f} {x - start:.1f} {room:.1f}">{words}{axis}{"".join(ink)}{band}</g>')
    return Drawing(x, AXIS + 96 + row, "The network from input to output", "".join(runs))


def still(trace: Trace, part: str = "") -> Drawing:
    """The picture: the whole network on a line, or a part with every layer, and the layer that is selected there."""
    return detail(trace, trace.part_of(part), part) if part else overview(trace)


def check_part(trace: Trace, part: str) -> str:
    """The part or layer, where the network has it, or none.

    Raises:
        ConfigError: for another.
    """
    if part and part not in trace.parts and part not in trace.by_name:
        blocks = trace.config.blocks
        raise ConfigError("part", part, f"stem, a block from {blocks[0]} to {blocks[-1]}, head, or a layer of these")
    return part


def runs_of(items: Sequence[Part | Fold]) -> Iterator[tuple[str, list[Part | Fold]]]:
    """Stem, stages and head with their boxes, a stage of many in pieces of about one length."""
    for group, some in groupby(items, lambda item: item.stage if isinstance(item, Fold) else item.group):
        members = list(some)
        pieces = -(-len(members) // RUN)
        for piece in range(pieces):
            yield group, members[piece * len(members) // pieces : (piece + 1) * len(members) // pieces]


def first_part(item: Part | Fold) -> Part:
    return item.blocks[0] if isinstance(item, Fold) else item


def box_height(part: Part, tallest: float) -> float:
    return max(SHORTEST, TALLEST * sqrt(map_side(part.shape) / tallest))


def lead_in(given: str) -> float:
    """How far the first box stands from the left, behind the input's shape."""
    return 6.0 * len(given) + 8


def band_width(trace: Trace, group: str) -> float:
    """What the words below a stage take at least, where its name and its shape are two lines."""
    return 6.3 * max(len(group), len(short_shape(trace.groups[group][-1].out_shape))) + 6


def map_side(shape: Shape) -> float:
    """The side of a feature map, as a square of the same area; 1 after flattening."""
    return sqrt(shape[1] * shape[2]) if len(shape) == 3 else 1


def arc(x: float, tall: float, hue: str, dashed: bool, width: float = 1.5) -> str:
    """A shortcut over a block, from the joint before it to the addition after it."""
    left, right = x - GAP / 2, x + BOX + GAP / 2
    top = AXIS - (tall / 2 + 14) / 0.75  # a cubic reaches three quarters of its control points' height
    return line(
        f"M{left:.1f} {AXIS}C{left:.1f} {top:.1f} {right:.1f} {top:.1f} {right:.1f} {AXIS - 6}", hue, dashed, width
    )


def part_name(part: Part) -> str:
    return f"block {part.label} of {part.group}" if part.group.startswith("stage") else f"{part.group}: {part.label}"


def is_chosen(part: Part, selected_part: str, at: str) -> bool:
    return part.identifier == selected_part or any(layer.name == at for layer in part.layers)


def part_box(part: Part, x: float, tall: float, hue: str, chosen: bool, off: bool = False) -> str:
    name = part_name(part)
    if off:
        inside = off_box(x, AXIS - tall / 2, BOX, tall, hue, chosen, through=part.shortcut is None)
        inside += text(x + BOX / 2, AXIS + 4, part.label, MUTED, 11)
        return selectable(part.identifier, f"{name}, off", inside, chosen)
    inside = box(x, AXIS - tall / 2, BOX, tall, hue, chosen)
    inside += text(x + BOX / 2, AXIS + 4, part.label, "#fff", 11, weight=600)
    return selectable(part.identifier, f"{name}\n{facts(part.layers)}", inside, chosen)


def off_box(x: float, y: float, width: float, height: float, hue: str, selected: bool, through: bool) -> str:
    """The box of a block that is off; the line goes on `through` it where nothing leads around it."""
    stroke, thick = (TEXT, 2.5) if selected else (hue, 1.2)
    fill = f'fill="{PAGE}" fill-opacity="0"' if through else f'fill="{PAGE}"'
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="4" {fill} '
        f'stroke="{stroke}" stroke-width="{thick}" stroke-dasharray="4 3"/>'
    )


def switch(part: Part, x: float, hue: str, on: bool, reason: str) -> str:
    """A switch below a block; with a `reason` it cannot be moved."""
    middle, y = x + BOX / 2, AXIS + TALLEST / 2 + 16
    label = f"{part_name(part)}: " + (f"cannot be switched off, as {reason}" if reason else "on" if on else "off")
    track = (
        f'<rect x="{middle - 11:.1f}" y="{y - 6}" width="22" height="12" rx="6" fill="{hue if on else PAGE}" '
        f'stroke="{hue if on else MUTED}" stroke-width="1.2"/>'
        f'<circle cx="{middle + (5 if on else -5):.1f}" cy="{y}" r="4" fill="{"#fff" if on else MUTED}"/>'
    )
    touched = (
        f'<rect x="{x - 4:.1f}" y="{y - 10}" width="{BOX + 8}" height="20" rx="4" fill="{PAGE}" fill-opacity="0"/>'
    )
    state = "fixed" if reason else "on" if on else "off"
    pale = ' opacity="0.35"' if reason else ""
    return (
        f'<g data-id="switch {escape(part.identifier)}" data-switch="{state}" data-low=""{pale}>'
        f"<title>{escape(label)}</title>{touched}{track}</g>"
    )


def fold_box(fold: Fold, x: float, tall: float, hue: str) -> str:
    count = len(fold.blocks)
    words = f"{count} more blocks of {fold.stage}: show them all"
    return selectable(f"unfold {fold.stage}", words, stack(count, x, tall, hue), False)


def stack(count: int, x: float, tall: float, hue: str) -> str:
    """Boxes behind each other, for so many."""
    boxes = "".join(
        f'<rect x="{x + shift:.1f}" y="{AXIS - tall / 2 - shift:.1f}" width="{BOX:g}" height="{tall:.1f}" rx="4" fill="{hue}" '
        f'stroke="{PAGE}"/>'
        for shift in (5.0, 2.5, 0.0)
    )
    return boxes + text(x + BOX / 2, AXIS + 4, f"×{count}", "#fff", SMALLEST, weight=600)


def band_label(trace: Trace, group: str, left: float, right: float, row: float = 0.0) -> str:
    shape = trace.groups[group][-1].out_shape
    middle, y = (left + right) / 2, AXIS + TALLEST / 2 + 26 + row
    words = short_shape(shape)
    narrow = right - left < 6.3 * len(f"{group}  {words}")
    return (
        line(f"M{left:.1f} {y - 16}H{right:.1f}", colour(group), width=3)
        + text(middle, y, group if narrow else f"{group}  {words}", TEXT, 12, weight=600 if narrow else 500)
        + (text(middle, y + 15, words, MUTED, 11) if narrow else "")
    )


# -- strip --------------------------------------------------------------------------------

TILE, TILE_GAP, TILE_TOP = 36.0, 4.0, 4.0


def strip(
    trace: Trace,
    at: str = "",
    unfolded: frozenset[str] = frozenset(),
    thumbnails: Mapping[str, str] | None = None,
    off: Collection[str] = (),
) -> Drawing:
    """The network as a row of maps: of each part what it puts out.

    `thumbnails` are image addresses by part identifier; a part without one is a box with its label. All else is as in
    `overview`.
    """
    selected_part = trace.part_of(at)
    runs: list[str] = []
    x = 0.0
    for group, items in runs_of(folded(drawn_parts(trace), selected_part, unfolded, off)):
        start, hue = x, colour(group)
        width = len(items) * (TILE + TILE_GAP) - TILE_GAP
        words = f"{group}  {short_shape(trace.groups[group][-1].out_shape)}"
        spare = max(0.0, 6.3 * len(words) - width) / 2
        left = x = start + spare + 2 * TILE_GAP
        ink = []
        for item in items:
            if isinstance(item, Fold):
                ink.append(fold_tile(item, x, hue))
            else:
                picture = (thumbnails or {}).get(item.identifier, "")
                ink.append(tile(item, x, hue, is_chosen(item, selected_part, at), picture, item.identifier in off))
            x += TILE + TILE_GAP
        right = x - TILE_GAP
        x = right + spare + 2 * TILE_GAP
        band = line(f"M{left:.1f} {TILE_TOP + TILE + 17}H{right:.1f}", hue, width=3)
        band += text((left + right) / 2, TILE_TOP + TILE + 32, words)
        runs.append(f'<g data-run="{start:.1f} {x - start:.1f} 0">{"".join(ink)}{band}</g>')
    return Drawing(x, TILE_TOP + TILE + 38, "The network as what its parts put out", "".join(runs))


def tile(part: Part, x: float, hue: str, chosen: bool, picture: str, off: bool) -> str:
    """What a part puts out, with its label below."""
    if picture:
        edge = TILE - 4
        inside = box(x, TILE_TOP, TILE, TILE, hue, chosen) + (
            f'<image href="{escape(picture)}" x="{x + 2:.1f}" y="{TILE_TOP + 2:.1f}" width="{edge:g}" height="{edge:g}" '
            'image-rendering="pixelated"/>'
        )
        inside += text(x + TILE / 2, TILE_TOP + TILE + 12, part.label, TEXT if chosen else MUTED, SMALLEST)
    else:
        inside = box(x, TILE_TOP, TILE, TILE, hue, chosen)
        inside += text(x + TILE / 2, TILE_TOP + TILE / 2 + 4, part.label, "#fff", SMALLEST, weight=600)
    if off:
        inside += off_box(x, TILE_TOP, TILE, TILE, hue, chosen, through=True)
    words = f"{part_name(part)}, off" if off else f"{part_name(part)}\n{facts(part.layers)}"
    return selectable(part.identifier, words, inside, chosen)


def fold_tile(fold: Fold, x: float, hue: str) -> str:
    count = len(fold.blocks)
    boxes = "".join(
        f'<rect x="{x + shift:.1f}" y="{TILE_TOP + 2 - shift:.1f}" width="{TILE - 4:g}" height="{TILE - 2:g}" rx="4" fill="{hue}" '
        f'stroke="{PAGE}"/>'
        for shift in (4.0, 2.0, 0.0)
    )
    inside = boxes + text(x + TILE / 2, TILE_TOP + TILE / 2 + 4, f"×{count}", "#fff", SMALLEST, weight=600)
    return selectable(f"unfold {fold.stage}", f"{count} more blocks of {fold.stage}: show them all", inside, False)


# -- detail -------------------------------------------------------------------------------

LANE = {"se": -1, "branch": 0, "shortcut": 1}
WIDE, NARROW, TALL, STEP = 56.0, 38.0, 40.0, 10.0
STRIP = 19.0
"""How far norm and activation reach out of the box that they share with a convolution."""
LANES = 68.0
ENTRY = 12.0
"""Where the shortcut leaves, left of the first box."""


def lane(layer: Layer, over: bool = False) -> int:
    """The lane that a layer is drawn in. Attention scales the branch in its lane, or, where it stands `over` it, in its own."""
    if layer.role.on_shortcut:
        return LANE["shortcut"]
    return LANE["se"] if layer.role.in_attention and (over or layer.op != Op.SCALING) else LANE["branch"]


def caption(layer: Layer) -> tuple[str, str]:
    """A layer's two lines in the detail: ("conv2", "3×3, 128, s2"), ("bn1", "")."""
    slot = layer.role.slot
    if layer.op == Op.CONVOLUTION:
        title = "projection" if layer.role.on_shortcut else slot.removeprefix("se.")
        extras = [f"{layer.kernel}×{layer.kernel}", str(layer.out_shape[0])]
        extras += [f"s{layer.stride}"] if layer.stride > 1 else []
        extras += [f"d{layer.dilation}"] if layer.dilation > 1 else []
        extras += [f"g{layer.groups}"] if layer.groups > 1 else []
        return title, ", ".join(extras)
    if layer.op in NORMS:
        kind = "bn" if layer.op == Op.BATCH_NORM else "gn"
        number = slot[-1] if slot.startswith("bn") else ""
        return kind + number, ""
    if layer.op == Op.LINEAR:
        return "fc", f"{layer.in_shapes[0][0]} → {layer.out_shape[0]}"
    short = {
        Op.CHANNEL_CONVOLUTION: "conv1d",
        Op.ZERO_PADDING: "zero pad",
        Op.MAX_POOLING: "max pool",
        Op.SCALING: "scale",
        Op.AVERAGE_POOLING: "avg pool",
        Op.GLOBAL_AVERAGE_POOLING: "avg",
        Op.STOCHASTIC_DEPTH: "drop",
        Op.LEAKY_RELU: "leaky",
    }
    return short.get(layer.op, layer.op), ""


def box_width(layer: Layer) -> float:
    if layer.op == Op.ADDITION:
        return 22.0
    title, below = caption(layer)
    return max(WIDE, 5.2 * len(below) + 6, 6.0 * len(title) + 6) if below else max(NARROW, 6.0 * len(title) + 8)


SOLID = frozenset({Op.CONVOLUTION, Op.CHANNEL_CONVOLUTION})
THIN = NORMS | ACTIVATIONS | {Op.SIGMOID}
"""What shares a box, and with what."""
Step = tuple[Layer, ...]
"""Layers that share a box, a convolution among them; or one layer."""


def steps(trace: Trace, layers: Sequence[Layer], shared: bool) -> list[Step]:
    """Layers as they are drawn in boxes: each in its own, or a convolution with the norm and activation of its step."""
    readers = Counter(producer for layer in layers for producer in layer.inputs)
    result: list[Step] = []
    for layer in layers:
        before = result[-1] if result else ()
        alone = before and layer.inputs == (before[-1].index,) and readers[before[-1].index] == 1
        if shared and alone and lane(before[-1]) == lane(layer) and fits_step(before, layer, trace.config.order):
            result[-1] = (*before, layer)
        else:
            result.append((layer,))
    return result


def fits_step(before: Step, layer: Layer, order: str) -> bool:
    """Whether a layer goes on a step: norm and activation after a convolution, or before it in a pre-activation block."""
    if order == "pre" and layer.block and not layer.role.in_attention:
        return all(one.op in THIN for one in before) and layer.op in THIN | SOLID
    return before[0].op in SOLID and layer.op in THIN


def step_width(step: Step) -> float:
    """The widest box, or norm and activation side by side at a convolution's edge."""
    solid = [layer for layer in step if layer.op in SOLID] or step
    beside = [6.0 * len(caption(layer)[0]) + 6 for layer in step if layer not in solid]
    return max(sum(beside), *(box_width(layer) for layer in solid))


def detail(trace: Trace, part: str, at: str = "", shared: bool = False) -> Drawing:
    """One block ("layer2.0"), the "stem" or the "head", layer by layer; with `shared`, a step in one box, and attention,
    which else stands behind what it reads, over the branch.

    Raises:
        ValueError: for a part that the network does not have.
    """
    layers = trace.parts.get(part, ())
    if not layers:
        raise ValueError(f"the network has no {part}")
    lanes = {layer.index: lane(layer, shared) for layer in layers}
    cells = steps(trace, layers, shared)
    step_of = {layer.index: step for step in cells for layer in step}
    above = any(strip_is_above(step) for step in cells) * STRIP
    first = layers[0]
    given = trace.image_shape if first.inputs[0] == IMAGE else trace.layers[first.inputs[0]].out_shape
    attention = min(lanes.values()) < 0
    axis = 40.0 + above + (LANES + STRIP) * attention
    y_of = {-1: 28.0, 0: axis, 1: axis + LANES}
    lead = max(24.0, 6.0 * len(short_shape(given)) - 12)
    labels = shape_labels(cells, short_shape(given))

    def rises(producer: int, layer: Layer) -> bool:
        """Whether an edge leads from the branch to the attention over it."""
        return shared and lanes[layer.index] < 0 <= lanes.get(producer, 0)

    # Lanes fill from the left; a step stands right of what it reads, but for what is over it, a join right of its lanes.
    left: dict[int, float] = dict.fromkeys(y_of, lead)
    places: dict[int, tuple[float, float]] = {}
    beyond: dict[int, float] = {}
    for step in cells:
        number = lanes[step[0].index]
        read = [i for i in step[0].inputs if i in beyond and not rises(i, step[0])]
        start = max([left[number], *(beyond[i] + STEP for i in read)])
        end = start + step_width(step)
        words = labels.get(step[0].index, "") if number == LANE["shortcut"] else ""  # there it stands in the gap
        for layer in step:
            places[layer.index] = (start, end)
            beyond[layer.index] = end + 6.0 * len(words)
        left[number] = beyond[step[0].index] + STEP
    slack = centring(layers, places)
    for layer in layers:
        if layer.role.on_shortcut:
            start, end = places[layer.index]
            places[layer.index] = (start + slack, end + slack)
    end = max(right for _, right in places.values())

    ink, behind = [], []
    entry = lead - ENTRY
    crossing = axis - TALL / 2 - above - 23  # between attention and the shapes
    for layer in layers:
        for producer in layer.inputs:
            if producer in step_of and step_of[producer] is step_of[layer.index]:
                continue
            source = places[producer][1] if producer in places else entry
            ends = (source, y_of[lanes.get(producer, 0)], *places[layer.index], y_of[lanes[layer.index]])
            if rises(producer, layer):
                behind.append(rising_wire(*ends, layer, crossing))
                continue
            behind.append(wire(*ends, layer, is_identity(layer, producer, lanes), y_of))
            if is_identity(layer, producer, lanes):
                words = short_shape(trace.layers[producer].out_shape if producer >= 0 else trace.image_shape)
                behind.append(text((source + sum(places[layer.index]) / 2) / 2, y_of[1] - 7, words, MUTED, SMALLEST))
    for step in cells:
        x0, x1 = places[step[0].index]
        y = y_of[lanes[step[0].index]]
        ink.extend(step_boxes(step, x0, x1, y, at))
        words = labels.get(step[0].index, "")
        if words and lanes[step[0].index] != LANE["branch"]:
            behind.append(text(x1 + 5, y - 6, words, MUTED, SMALLEST, "start"))
        elif words:
            behind.append(text(x1 + STEP / 2, y - TALL / 2 - 8 - above, words, MUTED, SMALLEST))
    behind.append(text(2, y_of[0] - TALL / 2 - 8 - above, short_shape(given), MUTED, SMALLEST, "start"))
    behind.append(line(f"M2 {y_of[0]}H{entry + 4}", MUTED))
    lowest = max(y_of[lanes[step[0].index]] + TALL / 2 + STRIP * strip_is_below(step) for step in cells)
    height = max(lowest, y_of[1] if has_shortcut(layers) else 0.0) + 8
    last = layers[-1].index
    behind.append(line(f"M{places[last][1]:.1f} {y_of[lanes[last]]}h10", MUTED))
    return Drawing(end + 12, height, f"Layers of {part}", "".join(behind + ink))


def shape_labels(cells: Sequence[Step], given: str) -> dict[int, str]:
    """The shapes that are written behind steps, by their first layers: where branch and shortcut change theirs.

    What attention reads is labelled behind its scaling, wherever that stands, since a line leads up from it.
    """
    read_above = {producer for step in cells if lane(step[0]) < 0 for producer in step[0].inputs}
    before = {LANE["branch"]: given, LANE["shortcut"]: ""}
    found = {}
    for step in cells:
        number, shape = lane(step[0]), short_shape(step[-1].out_shape)
        if number < 0 or step[-1].op in (Op.ADDITION, Op.FLATTEN) or step[-1].index in read_above:
            continue
        if shape != before[number]:
            found[step[0].index] = shape
        before[number] = shape
    return found


def strip_is_below(step: Step) -> bool:
    """Whether norm and activation come after the convolution that they share a box with."""
    return len(step) > 1 and step[0].op in SOLID


def strip_is_above(step: Step) -> bool:
    """Whether norm and activation come before the convolution that they share a box with."""
    return len(step) > 1 and step[-1].op in SOLID


def step_boxes(step: Step, left: float, right: float, y: float, at: str) -> list[str]:
    """A box for each layer of a step: norm and activation side by side at the convolution's edge, or over each other."""
    hue = colour(step[0].role.group)
    thin = [layer for layer in step if layer.op in THIN] if len(step) > 1 else []
    found = []
    for layer in step:
        place = (left, right, y, TALL)
        if layer in thin and len(thin) == len(step):
            tall = TALL / len(thin)
            place = (left, right, y + (thin.index(layer) - (len(thin) - 1) / 2) * tall, tall - 2)
        elif layer in thin:
            wide = (right - left + 2) / len(thin)
            start = left + thin.index(layer) * wide
            middle = y + (TALL + STRIP + 2) / 2 * (-1 if strip_is_above(step) else 1)
            place = (start, start + wide - 2, middle, STRIP - 2)
        found.append(layer_box(layer, *place[:3], hue, layer.name == at, place[3]))
    return found


def centring(layers: tuple[Layer, ...], places: Mapping[int, tuple[float, float]]) -> float:
    """How far the shortcut's layers move right to stand in the middle of their lane."""
    rights = [places[layer.index][1] for layer in layers if layer.role.on_shortcut]
    joint = next((places[layer.index][0] for layer in layers if layer.op == Op.ADDITION), 0.0)
    return max(0.0, (joint - max(rights)) / 2 - STEP) if rights else 0.0


def has_shortcut(layers: tuple[Layer, ...]) -> bool:
    return any(layer.op == Op.ADDITION for layer in layers)


def wire(
    source: float,
    from_y: float,
    left: float,
    right: float,
    to_y: float,
    layer: Layer,
    identity: bool,
    y_of: Mapping[int, float],
) -> str:
    """One edge of the graph. Within a lane it is straight; between lanes it turns two rounded corners."""
    hue = colour(layer.role.group)
    if identity:
        low, middle = y_of[1], (left + right) / 2
        return line(f"M{source:.1f} {from_y}V{low - 8}q0 8 8 8H{middle - 8:.1f}q8 0 8 -8V{to_y + 11}", hue)
    if from_y == to_y:
        return line(f"M{source:.1f} {from_y}H{left:.1f}", MUTED)
    down = 6 if to_y > from_y else -6
    if layer.op in (Op.ADDITION, Op.SCALING):  # comes in from below or above
        middle = (left + right) / 2
        dashed = layer.op == Op.ADDITION and down < 0  # from the shortcut
        edge = 11 if layer.op == Op.ADDITION else TALL / 2
        stop = to_y - edge if down > 0 else to_y + edge
        return line(f"M{source:.1f} {from_y}H{middle - 6:.1f}q6 0 6 {down}V{stop}", hue, dashed)
    dashed = layer.role.on_shortcut
    turn = source + 3 if from_y == y_of[0] else left - 7  # beside the branch, whose boxes are behind it or before it
    return line(f"M{source:.1f} {from_y}H{turn:.1f}V{to_y - down}q0 {down} 6 {down}H{left:.1f}", hue, dashed)


def rising_wire(
    source: float, from_y: float, left: float, right: float, to_y: float, layer: Layer, crossing: float
) -> str:
    """An edge from the branch to the attention over it: up behind its box, at one height to where it is read, and up."""
    if layer.op == Op.SCALING:
        end = f"H{(left + right) / 2:.1f}V{to_y + TALL / 2}"
    else:
        end = f"H{left - STEP / 2:.1f}V{to_y}H{left:.1f}"
    return line(f"M{source:.1f} {from_y}h{STEP / 2:g}V{crossing:.1f}{end}", colour(layer.role.group))


def is_identity(layer: Layer, producer: int, lanes: Mapping[int, int]) -> bool:
    """Whether an edge is a shortcut without layers; `lanes` are those of the part's layers."""
    return layer.op == Op.ADDITION and producer == layer.inputs[1] and lanes.get(producer, 0) == 0


def layer_box(layer: Layer, left: float, right: float, y: float, hue: str, chosen: bool, tall: float = TALL) -> str:
    middle = (left + right) / 2
    title, below = caption(layer)
    if layer.op == Op.ADDITION:
        ring = f'<circle cx="{middle:.1f}" cy="{y}" r="14" fill="none" stroke="{TEXT}" stroke-width="2.5"/>'
        inside = plus(middle, y, hue, 11) + (ring if chosen else "")
    else:
        solid = bool(below)
        fill = "#fff" if solid else TEXT
        inside = box(left, y - tall / 2, right - left, tall, hue, chosen, solid)
        size = 12 if tall == TALL else SMALLEST
        inside += text(middle, y - 3 if below else y + 4, title, fill, size, weight=600 if solid else 400)
        inside += text(middle, y + 12, below, fill, SMALLEST) if below else ""
    return selectable(layer.name, f"{layer.name}: {layer.label}\n{facts((layer,))}", inside, chosen)


def remark(trace: Trace, part: str) -> str:
    """A sentence on a block: how far branch and shortcut see, and what the shortcut costs. Empty without an addition."""
    layers = trace.parts.get(part, ())
    addition = next((layer for layer in layers if layer.op == Op.ADDITION), None)
    if addition is None:
        return ""
    branch, shortcut = (trace.layers[i] for i in addition.inputs)
    start = trace.layers[layers[0].inputs[0]].field
    weights = sum(layer.params for layer in layers if layer.role.on_shortcut)
    projects = shortcut in layers and shortcut.role.on_shortcut
    kind = f"option {trace.config.shortcut}" if projects else "the identity"
    cost = f"{weights:,} parameters" if weights else "no parameters"
    f_sees, s_sees = ((end.field.size - start.size) // start.effective_stride + 1 for end in (branch, shortcut))
    words = f"F(x) sees {f_sees}×{f_sees} of its input. S(x) is {kind}: {cost}, sees {s_sees}×{s_sees}."
    inside = global_dependencies(layers)
    spread = {name: inside.get(end.index, frozenset()) for name, end in (("F(x)", branch), ("S(x)", shortcut))}
    named = " and ".join(name for name, kinds in spread.items() if kinds)
    return f"{words} {beyond_windows(frozenset().union(*spread.values()), f'Units of {named}')}".rstrip()
