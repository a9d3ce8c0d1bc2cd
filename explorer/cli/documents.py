"""What `summary` and `compare` say, as text and as JSON."""

from __future__ import annotations

import json
from typing import Any

from resnet import preset_name, title

from ..analysis.compare import Comparison, Row, remarks
from ..analysis.layers import Layer
from ..analysis.receptive_field import Field
from ..analysis.trace import Trace

SCHEMA = 1
"""Of the JSON; another number where a key changes its meaning or goes."""

# -- text ---------------------------------------------------------------------------------


def heading(traced: Trace) -> str:
    """ResNet-50 at 224×224, depth 50."""
    height, width = traced.image_size
    name = title(traced.config)
    return f"{name} at {height}×{width}" + ("" if "depth" in name else f", depth {traced.config.depth}")


def figures(traced: Trace) -> list[tuple[str, str]]:
    """The totals of a network, each with its name."""
    field, memory = traced.field, traced.inference_memory
    return [
        ("parameters", f"{traced.params:,}"),
        ("MACs", f"{traced.macs:,}"),
        ("peak activations", f"{memory.bytes:,} bytes at {memory.layer.name}"),
        ("  at the least", f"{traced.least_memory.bytes:,} bytes, if each output is let go of after its last reader"),
        ("kept for training", f"{traced.training_memory:,} bytes"),
        ("receptive field", f"{field.size:,} px, effective stride {field.effective_stride}, start {field.start:,}"),
    ]


def notes(traced: Trace) -> list[str]:
    """What the figures alone do not say, in sentences."""
    return [words for words in (traced.beyond_windows(), traced.too_small) if words]


def summary(traced: Trace) -> str:
    """The layer table and the totals, as text."""
    totals = [f"{name:17} {value}" for name, value in figures(traced)]
    table = traced.frame().drop(columns="inputs").to_string(index=False)
    return "\n".join([table, "", heading(traced), *totals, *notes(traced), ""])


def pairs(found: Comparison) -> list[tuple[str, int, int]]:
    """The totals of two networks, each with its name."""
    a, b = found.a, found.b
    return [
        ("parameters", a.params, b.params),
        ("MACs", a.macs, b.macs),
        ("peak activations", a.inference_memory.bytes, b.inference_memory.bytes),
        ("receptive field", a.field.size, b.field.size),
    ]


def cell(layer: Layer | None) -> str:
    """A layer in few words: "3×3 convolution, 64×56×56"."""
    return f"{layer.label}, {'×'.join(map(str, layer.out_shape))}" if layer else "–"


def place(row: Row) -> str:
    """The path of the layers in a row, a's where they differ."""
    return (row.a or row.b).name  # type: ignore[union-attr]


DELTAS = ("Δparams", "ΔMACs", "Δbytes", "Δfield")


def differing(found: Comparison) -> list[tuple[str, str, str, int, int, int, int | str]]:
    """The layers that differ: path, a's, b's, and the differences in the order of `DELTAS`."""
    return [
        (
            place(row),
            cell(row.a),
            cell(row.b),
            row.params,
            row.macs,
            row.memory,
            "–" if row.field is None else row.field,
        )
        for row in found.rows
        if row.differs
    ]


def charges(found: Comparison) -> list[tuple[str, int, int, int, int]]:
    """The bill and its total: what was changed, and the differences in the order of `DELTAS`."""
    lines = [(charge.words, charge.params, charge.macs, charge.memory, charge.reach) for charge in found.bill]
    return [*lines, ("total", found.params, found.macs, found.memory, found.field)]


def comparison(found: Comparison) -> str:
    """The totals of two networks, the layers that differ, and the bill, as text."""
    import pandas

    names = [title(traced.config) for traced in (found.a, found.b)]
    paths, rows = [row[0] for row in differing(found)], [row[1:] for row in differing(found)]
    layers = pandas.DataFrame(rows, paths, [f"a: {names[0]}", f"b: {names[1]}", *DELTAS]).to_string() if rows else ""
    bill = pandas.DataFrame(charges(found), columns=["applied in this order", *DELTAS]).to_string(index=False)
    height, width = found.a.image_size
    return "\n".join(
        [
            f"{names[1]} against {names[0]} at {height}×{width}",
            *(
                f"{name:16}  {one:>16,}  {two:>16,}  {two - one:>+16,}  ×{two / one:.3g}"
                for name, one, two in pairs(found)
            ),
            *remarks((found.a, found.b), names),
            "",
            f"{len(rows)} of {len(found.rows)} layers differ",
            *([layers] if rows else []),
            "",
            bill,
            "",
        ]
    )


# -- JSON ---------------------------------------------------------------------------------


def to_json(facts: dict[str, Any]) -> str:
    """An object as JSON that people can read, after the number of its schema."""
    return json.dumps({"schema": SCHEMA} | facts, indent=2, ensure_ascii=False) + "\n"


def network_facts(traced: Trace) -> dict[str, Any]:
    """A network and its totals. Sizes are (height, width), memory is in bytes for one image in fp32."""
    memory = traced.inference_memory
    return {
        "title": title(traced.config),
        "preset": preset_name(traced.config),
        "config": json.loads(traced.config.to_json()),
        "image_size": traced.image_size,
        "depth": traced.config.depth,
        "parameters": traced.params,
        "macs": traced.macs,
        "memory": {
            "peak": memory.bytes,
            "peak_at": memory.layer.name,
            "least": traced.least_memory.bytes,
            "training": traced.training_memory,
        },
        "receptive_field": field_facts(traced.field),
        "remarks": notes(traced),
    }


def field_facts(field: Field) -> dict[str, int]:
    """Pixels a side, between neighbouring units, and of the first unit's first pixel."""
    return {"size": field.size, "effective_stride": field.effective_stride, "start": field.start}


def layer_facts(traced: Trace) -> list[dict[str, Any]]:
    """The layers in order of execution. Shapes are C×H×W of one image, or C after flattening."""
    return [
        {
            "name": layer.name,
            "operation": layer.op,
            "part": layer.role.group,
            "inputs": traced.sources(layer),
            "output": layer.out_shape,
            "kernel": layer.kernel,
            "stride": layer.stride,
            "padding": layer.padding,
            "dilation": layer.dilation,
            "groups": layer.groups,
            "parameters": layer.params,
            "macs": layer.macs,
            "receptive_field": field_facts(layer.field),
        }
        for layer in traced.layers
    ]


def differences(parameters: int, macs: int, size: int, field: int | None) -> dict[str, int | None]:
    """Differences, b minus a: `size` in bytes of outputs, `field` in pixels a side."""
    return {"parameters": parameters, "macs": macs, "bytes": size, "receptive_field": field}


def comparison_facts(found: Comparison) -> dict[str, Any]:
    """Two networks, and what differs between them."""
    return {
        "image_size": found.a.image_size,
        "a": network_facts(found.a),
        "b": network_facts(found.b),
        "difference": differences(found.params, found.macs, found.memory, found.field),
        "layers": [
            {
                "name": place(row),
                "a": row.a and row.a.label,
                "b": row.b and row.b.label,
                "output_a": row.a and row.a.out_shape,
                "output_b": row.b and row.b.out_shape,
                **differences(row.params, row.macs, row.memory, row.field),
            }
            for row in found.rows
            if row.differs
        ],
        "bill": [
            {"options": charge.fields, "change": charge.words}
            | differences(charge.params, charge.macs, charge.memory, charge.reach)
            for charge in found.bill
        ],
    }
