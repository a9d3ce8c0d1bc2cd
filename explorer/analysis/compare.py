"""Two networks side by side: layers aligned by where they stand, and the difference billed to the fields that make it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from math import prod
from typing import NamedTuple

from resnet import OPTIONS, PRESETS, ConfigError, ResNetConfig, title
from resnet.config import stage_and_index
from resnet.options import to_text
from resnet.sizes import can_run, check_image_size, least_side

from .. import notebook
from ..units import amount, macs_text, mebibytes, ratio, signed
from .layers import ACTIVATIONS, FLOAT, NORMS, Layer, Op, Role, shape_text
from .trace import Trace, trace

Size = tuple[int, int]


def compare(a: ResNetConfig, b: ResNetConfig, image_size: int | Size = 224) -> Comparison:
    """Network `b` against network `a`, both at one image size: a side, or (height, width), in pixels.

    Raises:
        ConfigError: for an image size that one of the two cannot take; `common_size` gives one that both can.
    """
    return Comparison(trace(a, image_size), trace(b, image_size))


def common_size(configs: Sequence[ResNetConfig], size: Size) -> Size:
    """The image size (height, width), raised to the least side of a network that cannot run at it."""
    low = max((least_side(config) for config in configs if not can_run(config, size)), default=1)
    return max(size[0], low), max(size[1], low)


def labels(configs: Sequence[ResNetConfig]) -> list[str]:
    """What to call each of several networks, no two alike."""
    names: list[str] = []
    for config in configs:
        name = label(config)
        same = sum(other == name or other.startswith(f"{name} (") for other in names)
        names.append(f"{name} ({same + 1})" if same else name)
    return names


def remarks(traces: Sequence[Trace], names: Sequence[str]) -> list[str]:
    """What the figures of a network alone do not say: that units see more than their windows, that the image is small."""
    return [f"{name}: {words}" for name, traced in zip(names, traces, strict=True) for words in traced.notes]


def label(config: ResNetConfig) -> str:
    """A network's title; without one, what sets it apart from the nearest network that has a name."""
    known = title(config)
    if not known.startswith("Custom"):
        return known
    near = min(PRESETS.values(), key=lambda other: len(differing_options(other, config)))
    apart = differing_options(near, config)
    if len(apart) > 2:
        return known
    return ", ".join([title(near), *(f"{OPTIONS[n].label.lower()} {value_text(getattr(config, n))}" for n in apart)])


def value_text(value: object) -> str:
    """3-4-6-3, 7×7, leaky relu; on or off."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return re.sub(r"(?<=\d)x(?=\d)", "×", to_text(value)).replace("_", " ")


def differing_options(a: ResNetConfig, b: ResNetConfig) -> list[str]:
    """The fields that differ; one that is at its default in both networks follows others and is left out."""
    return [
        name
        for name in OPTIONS
        if getattr(a, name) != getattr(b, name) and not (is_default(a, name) and is_default(b, name))
    ]


def is_default(config: ResNetConfig, name: str) -> bool:
    """Whether an option has the value that it takes where none is given."""
    return getattr(config, name) == config.default(name)


# -- aligned layers -----------------------------------------------------------------------


def output_bytes(layer: Layer) -> int:
    """Bytes of a layer's output for one image in fp32."""
    return prod(layer.out_shape) * FLOAT


def signature(layer: Layer) -> tuple[object, ...]:
    """What a layer is by itself, wherever it stands: operation, window, shapes and counts."""
    return (
        layer.op,
        layer.in_shapes,
        layer.out_shape,
        layer.kernel,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        layer.params,
        layer.macs,
    )


class Row(NamedTuple):
    """Layers that stand in one place of two networks; None where a network has none there.

    Differences are b minus a, a missing layer counting nothing.
    """

    a: Layer | None
    b: Layer | None

    @property
    def role(self) -> Role:
        """Where a's layer stands, or b's where a has none."""
        return (self.a or self.b).role  # type: ignore[union-attr]

    @property
    def name(self) -> str:
        """The layers' path; both where they differ: "conv1 / conv1.6"."""
        return " / ".join(dict.fromkeys(layer.name for layer in (self.a, self.b) if layer))

    def _minus(self, count: Callable[[Layer], int]) -> int:
        return (count(self.b) if self.b else 0) - (count(self.a) if self.a else 0)

    @property
    def params(self) -> int:
        """Trainable numbers."""
        return self._minus(lambda layer: layer.params)

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and linear layers for one image."""
        return self._minus(lambda layer: layer.macs)

    @property
    def memory(self) -> int:
        """Bytes of the layers' outputs for one image in fp32."""
        return self._minus(output_bytes)

    @property
    def field(self) -> int | None:
        """Pixels of receptive field a side; None where either layer is missing."""
        return self.b.field.size - self.a.field.size if self.a and self.b else None

    @property
    def changed(self) -> bool:
        """Whether the layer itself is another one, whatever it sees."""
        return not (self.a and self.b) or signature(self.a) != signature(self.b)

    @property
    def differs(self) -> bool:
        """Whether anything is different: the layer, or what its units see."""
        return self.changed or (self.a is not None and self.b is not None and self.a.field != self.b.field)


Aligned = list[tuple[Layer | None, ...]]

POOLINGS = frozenset({Op.MAX_POOLING, Op.AVERAGE_POOLING, Op.BLUR})


def layer_kind(layer: Layer) -> str:
    """What a layer is for: norms are one kind whichever they are, and so are activations, and poolings with blurs."""
    if layer.op in NORMS:
        return "norm"
    if layer.op in ACTIVATIONS:
        return "activation"
    return "pooling" if layer.op in POOLINGS else layer.op


def alignment_keys(layers: Sequence[Layer]) -> list[str]:
    """Where each layer of one block, of the stem or of the head stands; layers of several networks meet in a place.

    A place is a slot without its number, the layer's kind, and how many of that kind are still to come in that
    slot. Numbers in a slot only count what is there: of a deep stem's `conv1.0` to `conv1.6` the last convolution,
    which puts out the stem's channels, stands beside the 7×7, the others by themselves; the projection of a
    shortcut D (`downsample.1`) stands beside that of B (`downsample.0`), and the averaging before it by itself.
    """
    found: list[str] = []
    after = Counter[str]()
    for layer in reversed(layers):
        place = f"{re.sub(r'[.][0-9]+$', '', layer.role.slot)} {layer_kind(layer)}"
        found.append(f"{place} {after[place]}")
        after[place] += 1
    return found[::-1]


def align(traces: Sequence[Trace]) -> Aligned:
    """Every place that one of the networks has, in order, with each network's layer there or None.

    Stages and blocks meet by number, layers within them by `alignment_keys`. What only a later network has stands after
    what it follows there.
    """
    order: dict[str, list[str]] = {}
    found: list[dict[tuple[str, str], Layer]] = []
    for traced in traces:
        mine: dict[tuple[str, str], Layer] = {}
        for part, layers in traced.parts.items():
            names = alignment_keys(layers)
            order[part] = merge_orders(order.get(part, []), names)
            mine |= {(part, name): layer for name, layer in zip(names, layers, strict=True)}
        found.append(mine)
    blocks = sorted(order.keys() - {"stem", "head"}, key=stage_and_index)
    return [
        tuple(mine.get((part, name)) for mine in found) for part in ("stem", *blocks, "head") for name in order[part]
    ]


def merge_orders(first: list[str], second: list[str]) -> list[str]:
    """Both lists' names in one order: `first`'s, with each other name of `second` after the one before it."""
    names, at = list(first), 0
    for name in second:
        if name in names:
            at = names.index(name) + 1
        else:
            names.insert(at, name)
            at += 1
    return names


# -- the comparison -----------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Comparison:
    """Network b against network a at one image size. Differences are b minus a."""

    a: Trace
    b: Trace

    @property
    def params(self) -> int:
        """Trainable numbers."""
        return self.b.params - self.a.params

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and linear layers for one image."""
        return self.b.macs - self.a.macs

    @property
    def memory(self) -> int:
        """Bytes of all layers' outputs for one image in fp32."""
        return activation_bytes(self.b) - activation_bytes(self.a)

    @property
    def field(self) -> int:
        """Pixels a side that a unit of the last stage sees."""
        return self.b.field.size - self.a.field.size

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The aligned layers; each difference sums to the total."""
        return tuple(Row(*layers) for layers in align((self.a, self.b)))

    @cached_property
    def bill(self) -> tuple[Charge, ...]:
        """What each changed field costs when the fields are applied one at a time, from a to b, in this order.

        The charges sum to the totals exactly. A charge depends on what was applied before it, so another
        order may share the same total out differently. At each step the first field in the order of
        `OPTIONS` is applied that gives a network which can be built and can take the image; where no single
        field does, the fewest together.
        """
        size = self.a.image_size
        steps = list(changes(self.a.config, self.b.config, size))
        traces = [self.a, *(trace(config, size) for _, config in steps[:-1]), self.b]
        return tuple(
            Charge(fields, before.config, after.config, *(totals(after)[i] - totals(before)[i] for i in range(4)))
            for (fields, _), (before, after) in zip(steps, pairwise(traces), strict=False)
        )

    @property
    def names(self) -> tuple[str, str]:
        """The titles of a and b."""
        return title(self.a.config), title(self.b.config)

    @property
    def heading(self) -> str:
        """ResNet-50 against ResNet-34 at 224×224."""
        height, width = self.a.image_size
        return f"{self.names[1]} against {self.names[0]} at {height}×{width}"

    @property
    def differing(self) -> str:
        """160 of 201 layers differ."""
        return f"{sum(row.differs for row in self.rows)} of {len(self.rows)} layers differ"

    def __repr__(self) -> str:
        """The two networks and their differences in a line."""
        forms = (amount, macs_text, mebibytes, lambda value: f"{value:,.0f} px")
        differences = (self.params, self.macs, self.memory, self.field)
        params, macs, memory, field = (signed(value, form) for value, form in zip(differences, forms, strict=True))
        return f"Comparison({self.heading}: {params} parameters, {macs}, {memory} of outputs, field {field})"

    def _repr_html_(self) -> str:
        """In a notebook: the totals, the bill, and the first and last of the layers that differ."""

        def deltas(rows: Iterable[tuple[str | int, ...]], words: int) -> list[list[str]]:
            return [[*map(str, row[:words]), *map(_delta, row[words:])] for row in rows]

        totals = [(name, f"{a:,}", f"{b:,}", _delta(b - a), ratio(b, a)) for name, a, b in total_pairs(self)]
        layers = deltas(differing_rows(self), 3)
        return (
            notebook.heading(self.heading)
            + notebook.table(("Total", *self.names, "Difference", "Ratio"), totals)
            + notebook.paragraphs(remarks((self.a, self.b), self.names))
            + notebook.table(("Applied in this order", *DELTAS), deltas(charges(self), 1))
            + notebook.heading(self.differing)
            + (notebook.table(("Layer", *self.names, *DELTAS), layers, notebook.ROWS) if layers else "")
        )


def _delta(value: str | int) -> str:
    """+1,024, ±0, or a word as it is."""
    return value if isinstance(value, str) else signed(value, "{:,}".format) or ""


def total_pairs(compared: Comparison) -> list[tuple[str, int, int]]:
    """The totals of two networks, each with its name."""
    a, b = compared.a, compared.b
    return [
        ("parameters", a.params, b.params),
        ("MACs", a.macs, b.macs),
        ("peak activations", a.inference_memory.bytes, b.inference_memory.bytes),
        ("receptive field", a.field.size, b.field.size),
    ]


def layer_cell(layer: Layer | None) -> str | None:
    """A layer in few words: "3×3 convolution → 64×56×56"; None where there is none."""
    return f"{layer.label} → {shape_text(layer.out_shape)}" if layer else None


def row_path(row: Row) -> str:
    """The path of the layers in a row, a's where they differ."""
    return (row.a or row.b).name  # type: ignore[union-attr]


DELTAS = ("Δparams", "ΔMACs", "Δbytes", "Δfield")
"""What differs of a layer, or by a changed option: trainable numbers, multiply-adds, bytes of outputs, pixels of field."""


def differing_rows(compared: Comparison) -> list[tuple[str, str, str, int, int, int, int | str]]:
    """The layers that differ: path, a's, b's, and the differences in the order of `DELTAS`."""
    return [
        (
            row_path(row),
            layer_cell(row.a) or "–",
            layer_cell(row.b) or "–",
            row.params,
            row.macs,
            row.memory,
            "–" if row.field is None else row.field,
        )
        for row in compared.rows
        if row.differs
    ]


def charges(compared: Comparison) -> list[tuple[str, int, int, int, int]]:
    """The bill and its total: what was changed, and the differences in the order of `DELTAS`."""
    lines = [(charge.words, charge.params, charge.macs, charge.memory, charge.field) for charge in compared.bill]
    return [*lines, ("total", compared.params, compared.macs, compared.memory, compared.field)]


def activation_bytes(traced: Trace) -> int:
    """Bytes of all layers' outputs for one image in fp32."""
    return sum(map(output_bytes, traced.layers))


def totals(traced: Trace) -> tuple[int, int, int, int]:
    """Parameters, MACs, bytes of all outputs, and pixels a side that the last stage sees."""
    return traced.params, traced.macs, activation_bytes(traced), traced.field.size


class Charge(NamedTuple):
    """One line of a bill: the options changed in this step, the networks before and after, and the differences."""

    options: tuple[str, ...]
    before: ResNetConfig
    after: ResNetConfig
    params: int
    macs: int
    memory: int
    field: int
    """Pixels of receptive field a side, of the last stage."""

    @property
    def name(self) -> str:
        """The option's name; several that only go together are joined: "layers + planes"."""
        return " + ".join(self.options)

    @property
    def title(self) -> str:
        """The option as the sidebar calls it."""
        return " and ".join(OPTIONS[name].label for name in self.options)

    @property
    def following_options(self) -> tuple[str, ...]:
        """Options that were not set but whose default follows the changed ones."""
        return tuple(
            name
            for name in OPTIONS
            if name not in self.options and getattr(self.before, name) != getattr(self.after, name)
        )

    @property
    def words(self) -> str:
        """Shortcut: A → B."""

        def change(name: str) -> str:
            before, after = value_text(getattr(self.before, name)), value_text(getattr(self.after, name))
            return f"{OPTIONS[name].label}: {before} → {after}"

        follows = "".join(f"; {change(name)} follows" for name in self.following_options)
        return " and ".join(map(change, self.options)) + follows


def changes(a: ResNetConfig, b: ResNetConfig, size: Size) -> Iterator[tuple[tuple[str, ...], ResNetConfig]]:
    """From `a` to `b` in as many steps as can be built: the fields of each, and the network after it.

    A field that is at its default in both networks follows the others, as it does in the sidebar.
    """
    kept = [name for name in OPTIONS if not (is_default(a, name) and is_default(b, name))]
    values, left = {name: getattr(a, name) for name in kept}, differing_options(a, b)
    while left:
        for fields in (some for count in range(1, len(left) + 1) for some in combinations(left, count)):
            tried = values | {name: getattr(b, name) for name in fields}
            try:
                config = ResNetConfig(**tried)
                check_image_size(config, size)
            except ConfigError:
                continue
            yield fields, config
            values, left = tried, [name for name in left if name not in fields]
            break
