"""What all documents share: the three forms, where they go, and tables that fit a terminal."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

from resnet.command import write

SCHEMA = 1
"""Of the JSON; another number where a key changes its meaning or goes."""
WIDE = 110
"""Characters of a line from which on a wide table stands in it with all of its columns."""


class Document(ABC):
    """What a command found, in three forms."""

    @abstractmethod
    def text(self) -> str:
        """Lines, the last one ended too."""

    @abstractmethod
    def table(self) -> RenderableType:
        """The same for a terminal, with columns that fit its width."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """An object of JSON, every number in full."""

    def write(self, as_json: bool, output: Path | None) -> None:
        """Write it to a file or, without one, to standard output; where that is a terminal, as tables.

        Raises:
            OSError: where it cannot be written.
        """
        if as_json:
            write(to_json(self.facts()), output)
        elif output is None and sys.stdout.isatty():
            print(rendered(self.table()), end="")
        else:
            write(self.text(), output)


def to_json(facts: dict[str, Any]) -> str:
    """An object as JSON that people can read, after the number of its schema."""
    return json.dumps({"schema": SCHEMA} | facts, indent=2, ensure_ascii=False) + "\n"


def rendered(content: RenderableType) -> str:
    """What a terminal shows, with its colours and in its width. The text in it is text, whatever is in it."""
    console = Console(markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        console.print(content)
    return capture.get()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], words: int, name: str = "") -> Table:
    """Rows whose first `words` columns are text and whose others are numbers; the last row is set apart if `name` is its
    first word."""
    made = Table(*columns, box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for place, column in enumerate(made.columns):
        column.justify = "left" if place < words else "right"
        column.no_wrap = place >= words or place == 0
    for row in rows:
        cells = [f"{value:,}" if isinstance(value, int) else str(value) for value in row]
        made.add_row(*cells, style="bold" if name and row[0] == name else None)
    return made


def folding(made: Table, column: int = 0) -> Table:
    """A table whose column of long words folds where it is too narrow for them."""
    made.columns[column].no_wrap = False
    made.columns[column].overflow = "fold"
    return made


def figures(rows: Iterable[Sequence[object]]) -> Table:
    """Names and what they are, without a head."""
    made = table(("", ""), rows, words=2)
    made.show_header = False
    return made
