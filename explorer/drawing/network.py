"""The block diagram: a trace as a drawing in plain SVG, and as a graph for graphviz.

Two drawings share one look. `overview` is the whole network on a line: box height follows
the feature map (square root), arcs are shortcuts (dashed where they project), ⊕ additions.
`detail` is one block, the stem or the head with every layer: branch F(x) on the axis,
shortcut S(x) below it, attention above. Colours that depend on the theme are CSS variables
with a fallback, so that the same text stands in the app and in a downloaded file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from html import escape
from math import sqrt
from typing import NamedTuple

from ..analysis.layers import IMAGE, NORMS, Layer, Op, Shape, beyond_windows, carriers
from ..analysis.parts import Part, drawn_parts
from ..analysis.trace import Trace
from .palette import colour
from .svg import MUTED, PAGE, TEXT, Drawing, box, line, plus, selectable, short_shape, text

BOX, GAP, STAGE_GAP = 36.0, 14.0, 28.0
TALLEST, SHORTEST, AXIS = 112.0, 24.0, 96.0
UNFOLDED = 8
"""Stages with more blocks than this are folded: 0 · 1 · ×33 · 35."""


class Fold(NamedTuple):
    """A run of equal blocks shown as one box."""

    stage: str
    blocks: tuple[Part, ...]


def folded(
    everything: tuple[Part, ...], at: str, unfolded: frozenset[str], off: Collection[str] = ()
) -> list[Part | Fold]:
    """Long stages shortened: first two blocks, the selected one, those that are off and the last stay."""
    shown: list[Part | Fold] = []
    for group in dict.fromkeys(part.group for part in everything):
        members = [part for part in everything if part.group == group]
        if len(members) <= UNFOLDED or group in unfolded or not group.startswith("stage"):
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


# -- overview -----------------------------------------------------------------------------


class Switches(NamedTuple):
    """The blocks that are off, and the reason of each that cannot be switched, by their paths."""

    off: Collection[str]
    fixed: Mapping[str, str]


SWITCH_ROW = 24.0


def overview(
    trace: Trace,
    at: str = "",
    unfolded: frozenset[str] = frozenset(),
    thumbnails: Mapping[str, str] | None = None,
    switches: Switches | None = None,
) -> Drawing:
    """The whole network on one line.

    `at` is the selected layer or block; stages named in `unfolded` ("stage 3") show every
    block. `thumbnails` are image addresses by part identifier, drawn inside the boxes.
    A fold's `data-id` is "unfold stage 3". With `switches` each block has one below it, its
    `data-id` "switch layer3.2", and blocks that are off are hollow.
    """
    selected_part = trace.part_of(at)
    everything = drawn_parts(trace)
    off = switches.off if switches else ()
    items = folded(everything, selected_part, unfolded, off)
    row = SWITCH_ROW if switches else 0.0
    tallest = max(side(part.shape) for part in everything)
    ink, hidden = [], []  # what is drawn, and lines that go behind it
    x, previous = 74.0, ""
    bands: dict[str, list[float]] = {}
    hidden.append(text(64, AXIS + 4, short_shape(trace.image_shape), MUTED, 11, "end"))
    for item in items:
        part = item.blocks[0] if isinstance(item, Fold) else item
        x += STAGE_GAP if previous and part.group != previous else GAP
        hue, tall = colour(part.group), max(SHORTEST, TALLEST * sqrt(side(part.shape) / tallest))
        band = bands.setdefault(part.group, [x, x])
        if part.shortcut:
            ink.append(arc(x, tall, hue, part.shortcut == "projection", 3.0 if part.identifier in off else 1.5))
            ink.append(plus(x + BOX + GAP / 2, AXIS, hue))
        if isinstance(item, Fold):
            ink.append(fold_box(item, x, tall, hue))
        else:
            chosen = part.identifier == selected_part or any(layer.name == at for layer in part.layers)
            picture = (thumbnails or {}).get(part.identifier, "")
            ink.append(part_box(part, x, tall, hue, chosen, picture, part.identifier in off))
            if switches and part.group.startswith("stage"):
                reason = switches.fixed.get(part.identifier, "")
                ink.append(switch(part, x, hue, part.identifier not in off, reason))
        x += BOX
        band[1] = x
        previous = part.group
    hidden.append(line(f"M70 {AXIS}H{x:.1f}", MUTED))
    ink.extend(band_label(trace, group, left, right, row) for group, (left, right) in bands.items())
    return Drawing(x + 24, AXIS + 106 + row, "The network from input to output", "".join(hidden + ink))


def side(shape: Shape) -> float:
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


def part_box(part: Part, x: float, tall: float, hue: str, chosen: bool, picture: str, off: bool = False) -> str:
    name = part_name(part)
    if off:
        inside = hollow(x, AXIS - tall / 2, BOX, tall, hue, chosen, through=part.shortcut is None)
        inside += text(x + BOX / 2, AXIS + 4, part.label, MUTED, 11)
        return selectable(part.identifier, f"{name}, off", inside, chosen)
    inside = box(x, AXIS - tall / 2, BOX, tall, hue, chosen)
    label_y = AXIS + 4.0
    if picture:
        edge = min(BOX, tall) - 4
        inside += (
            f'<image href="{escape(picture)}" x="{x + (BOX - edge) / 2:.1f}" y="{AXIS - edge / 2:.1f}" width="{edge:.1f}" '
            f'height="{edge:.1f}" style="image-rendering:pixelated"/>'
        )
        fits = tall > edge + 28
        label_y = AXIS + tall / 2 + (-6 if fits else 13)
    outside = picture and label_y > AXIS + tall / 2
    inside += text(x + BOX / 2, label_y, part.label, MUTED if outside else "#fff", 11, weight=600)
    return selectable(part.identifier, f"{name}, {short_shape(part.shape)}", inside, chosen)


def hollow(x: float, y: float, width: float, height: float, hue: str, selected: bool, through: bool) -> str:
    """The box of a block that is off; the line goes on `through` it where nothing leads around it."""
    stroke, thick = (TEXT, 2.5) if selected else (hue, 1.2)
    fill = f'fill="{PAGE}" fill-opacity="0"' if through else f'fill="{PAGE}"'
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="4" {fill} '
        f'stroke="{stroke}" stroke-width="{thick}" stroke-dasharray="4 3"/>'
    )


def switch(part: Part, x: float, hue: str, on: bool, reason: str) -> str:
    """A switch below a block; with a `reason` it cannot be moved."""
    middle, y = x + BOX / 2, AXIS + 72
    label = f"{part_name(part)}: " + (f"cannot be switched off, as {reason}" if reason else "on" if on else "off")
    track = (
        f'<rect x="{middle - 11:.1f}" y="{y - 6}" width="22" height="12" rx="6" fill="{hue if on else PAGE}" '
        f'stroke="{hue if on else MUTED}" stroke-width="1.2"/>'
        f'<circle cx="{middle + (5 if on else -5):.1f}" cy="{y}" r="4" fill="{"#fff" if on else MUTED}"/>'
    )
    touched = (
        f'<rect x="{x - 4:.1f}" y="{y - 10}" width="{BOX + 8}" height="20" rx="4" fill="{PAGE}" fill-opacity="0"/>'
    )
    fixed = ' aria-disabled="true" opacity="0.35"' if reason else ""
    return (
        f'<g data-id="switch {escape(part.identifier)}" role="switch" tabindex="-1" aria-label="{escape(label)}" '
        f'aria-checked="{str(on).lower()}"{fixed}><title>{escape(label)}</title>{touched}{track}</g>'
    )


def fold_box(fold: Fold, x: float, tall: float, hue: str) -> str:
    count = len(fold.blocks)
    stacked = "".join(box(x + shift, AXIS - tall / 2 - shift, BOX, tall, hue, False) for shift in (5.0, 2.5, 0.0))
    inside = stacked + text(x + BOX / 2, AXIS + 4, f"×{count}", "#fff", 11, weight=600)
    return selectable(f"unfold {fold.stage}", f"{count} more blocks of {fold.stage}: show them all", inside, False)


def band_label(trace: Trace, group: str, left: float, right: float, row: float = 0.0) -> str:
    shape = trace.groups[group][-1].out_shape
    middle, y = (left + right) / 2, AXIS + 82 + row
    words = short_shape(shape)
    narrow = right - left < 100
    return (
        line(f"M{left:.1f} {y - 16}H{right:.1f}", colour(group), width=3)
        + text(middle, y, group if narrow else f"{group}  {words}", TEXT, 12, weight=600 if narrow else 500)
        + (text(middle, y + 15, words, MUTED, 11) if narrow else "")
    )


# -- detail -------------------------------------------------------------------------------

LANE = {"se": -1, "branch": 0, "shortcut": 1}
WIDE, NARROW, TALL, STEP = 82.0, 40.0, 40.0, 12.0


def lane(layer: Layer) -> int:
    if layer.role.on_shortcut:
        return LANE["shortcut"]
    return LANE["se"] if layer.role.in_attention and layer.op != Op.SCALING else LANE["branch"]


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
    return WIDE if below else max(NARROW, 7.0 * len(title) + 12)


def detail(trace: Trace, part: str, at: str = "") -> Drawing:
    """One block ("layer2.0"), the "stem" or the "head", layer by layer.

    Raises:
        ValueError: for a part that the network does not have.
    """
    layers = trace.parts.get(part, ())
    if not layers:
        raise ValueError(f"the network has no {part}")
    ids = {layer.index for layer in layers}
    centre = {-1: 0.0, 0: 70.0, 1: 158.0}
    has_se = any(lane(layer) < 0 for layer in layers)
    shift = 62.0 if has_se else 0.0
    y_of = {number: y + shift for number, y in centre.items()}
    y_of[-1] = 38.0

    # Lanes fill from the left; a layer stands right of what it reads, a join right of its lanes.
    left: dict[int, float] = {-1: 84.0, 0: 84.0, 1: 84.0}
    places: dict[int, tuple[float, float]] = {}
    for layer in layers:
        fed = [places[i][1] + STEP for i in layer.inputs if i in places]
        start = max([left[lane(layer)], *fed])
        end = start + box_width(layer)
        places[layer.index] = (start, end)
        left[lane(layer)] = end + STEP
    slack = centring(layers, places)
    for layer in layers:
        if layer.role.on_shortcut:
            start, end = places[layer.index]
            places[layer.index] = (start + slack, end + slack)
    end = max(right for _, right in places.values())

    ink, behind = [], []
    entry = 52.0
    for layer in layers:
        for producer in layer.inputs:
            source = places[producer][1] if producer in ids else entry
            from_y = y_of[lane(trace.layers[producer])] if producer in ids else y_of[0]
            behind.append(
                wire(source, from_y, *places[layer.index], y_of[lane(layer)], layer, producer, trace, ids, y_of)
            )
    before = ""
    for layer in layers:
        x0, x1 = places[layer.index]
        y, hue = y_of[lane(layer)], colour(layer.role.group)
        chosen = layer.name == at
        ink.append(layer_box(layer, x0, x1, y, hue, chosen))
        shape = short_shape(layer.out_shape)
        if lane(layer) == 0 and shape != before and layer.op not in (Op.ADDITION, Op.FLATTEN):
            behind.append(text(x1 + STEP / 2, y - TALL / 2 - 8, shape, MUTED, 11))
        before = shape if lane(layer) == 0 else before
    first = layers[0]
    given = trace.image_shape if first.inputs[0] == IMAGE else trace.layers[first.inputs[0]].out_shape
    behind.append(text(8, y_of[0] - 10, short_shape(given), MUTED, 11, "start"))
    behind.append(line(f"M8 {y_of[0]}H{entry + 4}", MUTED))
    height = y_of[1] + 34 if has_shortcut(layers) else y_of[0] + 40
    tail = places[layers[-1].index][1]
    behind.append(line(f"M{tail:.1f} {y_of[0]}h18", MUTED))
    return Drawing(end + 28, height, f"Layers of {part}", "".join(behind + ink))


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
    producer: int,
    trace: Trace,
    ids: set[int],
    y_of: Mapping[int, float],
) -> str:
    """One edge of the graph. Within a lane it is straight; between lanes it turns two rounded corners."""
    hue = colour(layer.role.group)
    identity = layer.op == Op.ADDITION and producer == layer.inputs[1] and lane_of(trace, producer, ids) == 0
    if identity:
        low, middle = y_of[1], (left + right) / 2
        return line(f"M{source:.1f} {from_y}V{low - 8}q0 8 8 8H{middle - 8:.1f}q8 0 8 -8V{to_y + 11}", hue)
    if from_y == to_y:
        return line(f"M{source:.1f} {from_y}H{left:.1f}", MUTED)
    down = 8 if to_y > from_y else -8
    if layer.op in (Op.ADDITION, Op.SCALING):  # comes in from below or above
        middle = (left + right) / 2
        dashed = layer.op == Op.ADDITION
        edge = 11 if dashed else TALL / 2
        stop = to_y - edge if down > 0 else to_y + edge
        return line(f"M{source:.1f} {from_y}H{middle - 8:.1f}q8 0 8 {down}V{stop}", hue, dashed)
    dashed = layer.role.on_shortcut
    return line(f"M{source:.1f} {from_y}h4V{to_y - down}q0 {down} 8 {down}H{left:.1f}", hue, dashed)


def lane_of(trace: Trace, producer: int, ids: set[int]) -> int:
    return lane(trace.layers[producer]) if producer in ids else 0


def layer_box(layer: Layer, left: float, right: float, y: float, hue: str, chosen: bool) -> str:
    middle = (left + right) / 2
    title, below = caption(layer)
    if layer.op == Op.ADDITION:
        ring = f'<circle cx="{middle:.1f}" cy="{y}" r="14" fill="none" stroke="{TEXT}" stroke-width="2.5"/>'
        inside = plus(middle, y, hue, 11) + (ring if chosen else "")
    else:
        solid = bool(below)
        fill = "#fff" if solid else TEXT
        inside = box(left, y - TALL / 2, right - left, TALL, hue, chosen, solid)
        inside += text(middle, y - 3 if below else y + 4, title, fill, 12, weight=600 if solid else 400)
        inside += text(middle, y + 12, below, fill, 11) if below else ""
    return selectable(layer.name, f"{layer.name}: {layer.label}, {short_shape(layer.out_shape)}", inside, chosen)


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
    inside = carriers(layers)
    spread = {name: inside.get(end.index, frozenset()) for name, end in (("F(x)", branch), ("S(x)", shortcut))}
    named = " and ".join(name for name, kinds in spread.items() if kinds)
    return f"{words} {beyond_windows(frozenset().union(*spread.values()), f'Units of {named}')}".rstrip()
