"""`compare`: what differs between networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ...analysis.compare import DELTAS, Comparison, charges, differing_rows, remarks, row_path, total_pairs
from .base import Document, table
from .facts import network_facts


@dataclass(frozen=True)
class Compared(Document):
    """Two networks: their totals, the layers that differ, and the bill."""

    found: Comparison

    def text(self) -> str:
        import pandas

        found, names = self.found, self.found.names
        paths, rows = [row[0] for row in differing_rows(found)], [row[1:] for row in differing_rows(found)]
        columns = [f"a: {names[0]}", f"b: {names[1]}", *DELTAS]
        layers = pandas.DataFrame(rows, paths, columns).to_string() if rows else ""
        bill = pandas.DataFrame(charges(found), columns=["applied in this order", *DELTAS]).to_string(index=False)
        return "\n".join(
            [
                found.heading,
                *(
                    f"{name:16}  {one:>16,}  {two:>16,}  {two - one:>+16,}  ×{two / one:.3g}"
                    for name, one, two in total_pairs(found)
                ),
                *remarks((found.a, found.b), names),
                "",
                found.differing,
                *([layers] if rows else []),
                "",
                bill,
                "",
            ]
        )

    def table(self) -> RenderableType:
        found, names = self.found, self.found.names
        totals = [(name, one, two, f"{two - one:+,}", f"×{two / one:.3g}") for name, one, two in total_pairs(found)]
        rows = differing_rows(found)
        return Group(
            Text(found.heading, style="bold"),
            table(("", *names, "difference", "ratio"), totals, words=1),
            *map(Text, remarks((found.a, found.b), names)),
            "",
            Text(found.differing, style="bold"),
            *([table(("layer", *names, *DELTAS), rows, words=3)] if rows else []),
            "",
            table(("applied in this order", *DELTAS), charges(found), words=1, name="total"),
        )

    def facts(self) -> dict[str, Any]:
        found = self.found
        return {"image_size": found.a.image_size, "a": network_facts(found.a), **against_facts(found)}


def against_facts(found: Comparison) -> dict[str, Any]:
    """Network b, and what differs between it and a."""
    return {
        "b": network_facts(found.b),
        "difference": differences(found.params, found.macs, found.memory, found.field),
        "layers": [
            {
                "name": row_path(row),
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
            {"options": charge.options, "change": charge.words}
            | differences(charge.params, charge.macs, charge.memory, charge.field)
            for charge in found.bill
        ],
    }


def differences(parameters: int, macs: int, size: int, field: int | None) -> dict[str, int | None]:
    """Differences, b minus a: `size` in bytes of outputs, `field` in pixels a side."""
    return {"parameters": parameters, "macs": macs, "bytes": size, "receptive_field": field}
