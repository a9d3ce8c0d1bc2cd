"""`bench`: our speed beside the peers'."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

Section = StrEnum(
    "Section", ["traces", "captures", "search", "exports", "engine", "clicks", "visitors", "hostile", "links"]
)


def bench(
    only: Annotated[
        list[Section] | None,
        typer.Option(
            show_default=False,
            help="Measure these; hostile, a quarter of an hour, and links, twice as long, only where they are named.",
        ),
    ] = None,
    attacks: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORD", show_default=False, help="Of hostile: the attacks with one of these in their name."
        ),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Leave out the clicks, which need Chromium.")
    ] = False,
    markdown: Annotated[
        bool,
        typer.Option(
            "--markdown", help="Print the README's table, which leaves out visitors; lines go to standard error."
        ),
    ] = False,
) -> None:
    """Measure our speed beside the peers'.

    \b
    resnet-explorer bench
    resnet-explorer bench --only traces captures
    resnet-explorer bench --no-browser
    resnet-explorer bench --markdown
    """
    from ..bench.measure import TABLE, USUAL, run

    names = only or (TABLE if markdown else USUAL)
    run([name for name in names if name != "clicks" or not no_browser], attacks or (), markdown)
