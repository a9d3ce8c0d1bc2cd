"""`export`: the network in another form."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from resnet.command import write

from .parameters import Network, Output, Size, parse_view

if TYPE_CHECKING:
    from ..analysis.trace import Trace

Kind = Literal["csv", "dot", "json", "py", "svg"]


def table(traced: Trace) -> str:
    """The layer table, as CSV."""
    return traced.frame().to_csv(index=False, lineterminator="\n")


def graph(traced: Trace) -> str:
    """The graph, in DOT."""
    from ..drawing import dot

    return dot.graph(traced).source


def drawing(traced: Trace) -> str:
    """The diagram, as SVG."""
    from ..drawing import network

    return network.overview(traced).svg() + "\n"


EXPORTS: dict[str, Callable[[Trace], str]] = {
    "csv": table,
    "dot": graph,
    "json": lambda traced: traced.config.to_json() + "\n",
    "py": lambda traced: traced.config.to_code(),
    "svg": drawing,
}
"""What can be exported: the layer table, the graph, the configuration, code that builds it, the drawing."""


def export(
    network: Network,
    kind: Annotated[
        Kind,
        typer.Argument(
            metavar="KIND",
            show_default=False,
            help="Layer table, graph, configuration, Python code that builds it, or drawing.",
        ),
    ],
    size: Size = None,
    output: Output = None,
) -> None:
    """Print the network in another form.

    \b
    resnet-explorer export resnet50 dot --output resnet50.dot
    resnet-explorer export resnet18 csv --size 64x96
    resnet-explorer export 'block=basic&layers=2-2-2-2' py
    """
    from ..analysis.trace import trace

    seen = parse_view(network, size)
    write(EXPORTS[kind](trace(seen.config, seen.image_size)), output)
