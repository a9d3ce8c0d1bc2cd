"""Tables to take away: CSV, JSON that holds its own JSON Schema, Markdown, and LaTeX with booktabs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pandas

Cell = str | int | float | bool | None
LINK = "link"
"""What a table says the link that opens it again by, and the column, the last one, of the links of rows that are each of a
network of their own."""


@dataclass(frozen=True, eq=False)
class Table:
    """Rows under columns, and what they are.

    `says` are the texts of `origin`, `labels` what people read in place of a column's name.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    says: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        data: pandas.DataFrame | Mapping[str, Any] | Iterable[Mapping[str, Any]],
        title: str,
        says: Mapping[str, str],
        labels: Mapping[str, str] | None = None,
    ) -> Table:
        """A table of a frame, of columns, or of rows, as `st.dataframe` takes them; the index of a frame is left out."""
        made: Any = data
        frame = made if isinstance(made, pandas.DataFrame) else pandas.DataFrame(made, dtype=object)
        columns = [[cell(value) for value in frame[name].tolist()] for name in frame.columns]
        return cls(title, tuple(map(str, frame.columns)), tuple(zip(*columns, strict=True)), says, dict(labels or {}))

    def column(self, place: int) -> list[Cell]:
        """What stands in a column, without what is missing."""
        return [row[place] for row in self.rows if row[place] is not None]

    def numbers(self, place: int) -> bool:
        """Whether a column has numbers, which are written to the right."""
        values = self.column(place)
        return bool(values) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)

    @property
    def legible(self) -> Table:
        """What people read of it: without the rows' links."""
        shown = [place for place, name in enumerate(self.columns) if name != LINK]
        rows = tuple(tuple(row[place] for place in shown) for row in self.rows)
        return replace(self, columns=tuple(self.columns[place] for place in shown), rows=rows)

    def linked(self, links: Iterable[str]) -> Table:
        """With a link in every row."""
        rows = tuple((*row, link) for row, link in zip(self.rows, links, strict=True))
        return replace(self, columns=(*self.columns, LINK), rows=rows)

    @property
    def heads(self) -> list[str]:
        """What people read above the columns."""
        return [self.labels.get(name, name) for name in self.columns]

    @property
    def origin(self) -> str:
        """What the table is of and the link that opens it again, in a line."""
        parts = filter(None, (self.title, *map(self.says.get, ("network", "weights", LINK))))
        return " ".join(" · ".join(parts).split())


def cell(value: Any) -> Cell:
    """A value as JSON has it; None for what is missing, NaN and infinities, which JSON has not."""
    if value is None or value is pandas.NA or value is pandas.NaT:
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool) else str(value)


# -- forms --------------------------------------------------------------------------------


def csv(table: Table) -> str:
    """CSV as RFC 4180 has it (https://www.rfc-editor.org/rfc/rfc4180), which has no place for where it is from but the rows:
    those of several tables, put together, still say which network each is of.
    """
    if LINK in table.says and LINK not in table.columns:
        table = table.linked([table.says[LINK]] * len(table.rows))
    frame = pandas.DataFrame(table.rows, columns=list(table.columns), dtype=object)
    return frame.to_csv(index=False, lineterminator="\n")


SCHEMA = "https://json-schema.org/draft/2020-12/schema"


def schema(table: Table) -> dict[str, Any]:
    """The JSON Schema of what `to_json` writes of a table with these columns."""
    texts = {name: {"type": "string"} for name in ("title", *table.says)}
    columns = {name: column_schema(table, place) for place, name in enumerate(table.columns)}
    row = {"type": "object", "properties": columns, "required": list(columns), "additionalProperties": False}
    rows = {"type": "array", "items": row}
    return {
        "$schema": SCHEMA,
        "title": table.title,
        "type": "object",
        "properties": {"schema": {"type": "object"}, **texts, "rows": rows},
        "required": ["schema", *texts, "rows"],
        "additionalProperties": False,
    }


def column_schema(table: Table, place: int) -> dict[str, Any]:
    """The types in a column, with what people call it."""
    values = [row[place] for row in table.rows]
    found = {TYPES[type(value)] for value in values}
    if "number" in found:
        found -= {"integer"}
    types = sorted(found) or ["null"]
    return {"title": table.heads[place], "type": types[0] if len(types) == 1 else types}


TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


def to_json(table: Table) -> str:
    """One object: its own JSON Schema, the title, where it is from, and the rows, every number in full."""
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    whole = {"schema": schema(table), "title": table.title, **table.says, "rows": rows}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def written(value: Cell) -> str:
    """A value as people read it: 25,557,032, or 0.0123457."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return (
        f"{value:.6g}"
        if isinstance(value, float)
        else " ".join("".join(filter(str.isprintable, value.replace("\n", " "))).split())
    )


SYNTAX, BEHIND = re.compile(r"([\\|`*<])"), r"\\\1"
"""What Markdown reads as something else inside of a word, and what stands for it."""


def markdown(table: Table) -> str:
    """A table of GitHub's Markdown, and where it is from as a comment."""

    def plain(cells: Iterable[str]) -> list[str]:
        return [SYNTAX.sub(BEHIND, text) for text in cells]

    shown = table.legible
    numbers = [shown.numbers(place) for place in range(len(shown.columns))]
    made = piped(plain(shown.heads), [plain(map(written, row)) for row in shown.rows], numbers)
    return f"{made}\n\n<!-- {table.origin.replace('--', '-%2D')} -->\n"


def piped(heads: Iterable[str], rows: Iterable[Iterable[str]], right: Iterable[bool]) -> str:
    """Markdown as a table (https://github.github.com/gfm/#tables-extension-); `right` says which columns are set to the right."""
    head, *body = (f"| {' | '.join(cells)} |" for cells in (heads, *rows))
    rule = "|".join("--:" if one else ":--" for one in right)
    return "\n".join([head, f"|{rule}|", *body])


def latex(table: Table) -> str:
    """A table for LaTeX with the package booktabs, and where it is from as a comment."""
    shown = table.legible
    rows = [" & ".join(escaped(written(cell)) for cell in row) + r" \\" for row in shown.rows]
    return "\n".join(
        [
            f"% {table.origin}",
            r"% \usepackage{booktabs}",
            rf"\begin{{tabular}}{{{''.join('r' if shown.numbers(place) else 'l' for place in range(len(shown.columns)))}}}",
            r"\toprule",
            " & ".join(map(escaped, shown.heads)) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "×": r"$\times$",
    "·": r"$\cdot$",
    "±": r"$\pm$",
    "→": r"$\to$",
    "−": r"$-$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "≈": r"$\approx$",
    "²": r"$^2$",
    "³": r"$^3$",
    "⁻": r"$^-$",
    "∞": r"$\infty$",
    "⊕": r"$\oplus$",
    "▸": r"$\triangleright$",
    "…": r"\ldots{}",
    "–": "--",
    "—": "---",
    "“": "``",
    "”": "''",
    "’": "'",
    "\N{NO-BREAK SPACE}": "~",
    "\N{THIN SPACE}": r"\,",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
    **{digit: f"$^{place}$" for place, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{digit: f"$_{place}$" for place, digit in enumerate("₀₁₂₃₄₅₆₇₈₉")},
    **{
        letter: rf"$\{name}$"
        for letter, name in zip(
            "ΔΣαβγλμσ", ["Delta", "Sigma", "alpha", "beta", "gamma", "lambda", "mu", "sigma"], strict=True
        )
    },
    "µ": r"$\mu$",
}
"""What LaTeX reads as something else, or has no letter for."""


def escaped(text: str) -> str:
    """A text as LaTeX sets it in a table; what pdfLaTeX has no letter for is a question mark."""
    return "".join(
        SPECIAL.get(one, one if one.isascii() or (one.isalpha() and ord(one) < 256) else "?") for one in text
    )


class Form(NamedTuple):
    """How a table is written, with its name, the ending and the kind of its file."""

    label: str
    ending: str
    kind: str
    write: Callable[[Table], str]


FORMS: dict[str, Form] = {
    "csv": Form("CSV", "csv", "text/csv", csv),
    "json": Form("JSON", "json", "application/json", to_json),
    "markdown": Form("Markdown", "md", "text/markdown", markdown),
    "latex": Form("LaTeX", "tex", "application/x-tex", latex),
}
"""The forms, by the names that the command line has for them."""
