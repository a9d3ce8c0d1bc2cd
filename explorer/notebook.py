"""Values as a notebook shows them: HTML that stands on a page of any theme. All text in it is escaped, wherever it is from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

ROWS = 10
"""Of the layers of a network that a notebook shows: the first and the last."""


def heading(words: str) -> str:
    """What is shown, above it."""
    return f"<p><strong>{escape(words)}</strong></p>"


def paragraphs(sentences: Iterable[str]) -> str:
    """Each sentence on lines of its own."""
    return "".join(f"<p>{escape(words)}</p>" for words in sentences)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], most: int | None = None) -> str:
    """Rows under the names of their columns; `most` as in `frame`."""
    import pandas

    return frame(pandas.DataFrame(list(rows), columns=list(columns)), most)


def frame(shown: pandas.DataFrame, most: int | None = None) -> str:
    """A table as pandas writes it, with whole words, and thousands set apart; of more than `most` rows the first and the last."""
    import pandas

    whole = [name for name in shown.columns if pandas.api.types.is_integer_dtype(shown[name])]
    with pandas.option_context("display.max_colwidth", None):
        return shown.to_html(
            index=False,
            max_rows=most,
            show_dimensions=most is not None and len(shown) > most,
            border=0,
            formatters=dict.fromkeys(whole, "{:,}".format),
        )
