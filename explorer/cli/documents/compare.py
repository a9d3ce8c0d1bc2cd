"""`compare`: what differs between networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ...analysis.compare import DELTAS, Comparison, charges, differing_rows, layer_cell, remarks, row_path, total_pairs
from ...link import View, origin, relative
from .base import Tabular, Taken, table
from .facts import network_facts


@dataclass(frozen=True)
class Compared(Tabular):
    """Networks against the first one: their totals, the layers that differ, and the bill; of several, all totals first."""

    found: tuple[Comparison, ...]

    @property
    def totals(self) -> list[tuple[str | int, ...]]:
        """What every network is in total, a row each, in the order of `total_names`."""
        first = self.found[0]
        pairs = [(first.names[0], [one for _, one, _ in total_pairs(first)])]
        pairs += [(found.names[1], [two for _, _, two in total_pairs(found)]) for found in self.found]
        return [(name, *values) for name, values in pairs]

    @property
    def total_names(self) -> tuple[str, ...]:
        """The heads of `totals`."""
        return ("network", *(name for name, _, _ in total_pairs(self.found[0])))

    def text(self) -> str:
        import pandas

        totals = pandas.DataFrame(self.totals, columns=[*self.total_names]).to_string(index=False)
        several = [f"{totals}\n"] if len(self.found) > 1 else []
        return "\n".join([*several, *map(pair_text, self.found)])

    def table(self) -> RenderableType:
        parts: list[RenderableType] = [table(self.total_names, self.totals, words=1)] if len(self.found) > 1 else []
        parts += map(pair_table, self.found)
        return Group(parts[0], *(part for one in parts[1:] for part in ("", one)))

    def taken(self) -> Taken:
        """The layers that differ; of several networks the totals."""
        first = self.found[0]
        if len(self.found) > 1:
            every = (first.a, *(found.b for found in self.found))
            links = (relative(View(one.config, one.image_size)) for one in every)
            return Taken(f"Networks against {first.names[0]}", self.total_names, tuple(self.totals)).linked(links)
        rows = [row for row in first.rows if row.differs]
        columns = {
            "layer": [row_path(row) for row in rows],
            "a": [layer_cell(row.a) for row in rows],
            "b": [layer_cell(row.b) for row in rows],
            "parameters": [row.params for row in rows],
            "macs": [row.macs for row in rows],
            "bytes": [row.memory for row in rows],
            "receptive_field": [row.field for row in rows],
        }
        names = dict(zip(columns, ("Layer", *first.names, *DELTAS), strict=True))
        both = View(first.a.config, first.a.image_size, others=(first.b.config,))
        return Taken.of(columns, first.heading, origin(both), names)

    def facts(self) -> dict[str, Any]:
        first, *others = self.found
        return {
            "image_size": first.a.image_size,
            "a": network_facts(first.a),
            **against_facts(first),
            "others": [against_facts(found) for found in others],
        }


def pair_text(found: Comparison) -> str:
    """What differs between two networks, as text."""
    import pandas

    names = found.names
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


def pair_table(found: Comparison) -> Group:
    """What differs between two networks, for a terminal."""
    names = found.names
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
