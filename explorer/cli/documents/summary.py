"""`summary`: a network's layers and totals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from ...analysis.trace import COLUMNS, Trace
from .base import WIDE, Document, figures, table
from .facts import field_facts, network_facts


@dataclass(frozen=True)
class Summary(Document):
    """The layer table, then the totals."""

    traced: Trace

    def text(self) -> str:
        totals = [f"{name:17} {value}" for name, value in self.traced.figures]
        layers = self.traced.frame().drop(columns="inputs").to_string(index=False)
        return "\n".join([layers, "", self.traced.heading, *totals, *self.traced.notes, ""])

    def table(self) -> RenderableType:
        """In a narrow terminal without the columns that matter least."""
        narrow = Console().width < WIDE
        frame = self.traced.frame().drop(columns=["inputs", *(["part", "effective_stride", "start"] * narrow)])
        layers = table(
            [COLUMNS[name].label for name in frame.columns],
            frame.itertuples(index=False, name=None),
            words=3 if narrow else 4,
        )
        notes = map(Text, self.traced.notes)
        return Group(layers, "", Text(self.traced.heading, style="bold"), figures(self.traced.figures), *notes)

    def facts(self) -> dict[str, Any]:
        return network_facts(self.traced) | {"layers": layer_facts(self.traced)}


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
