"""What can be taken away from a page: tables in several forms, and the network itself with its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

import pandas
import streamlit as st

from ..export.tables import FORMS, Form, Table, piped
from ..link import origin
from . import session
from .components import download, stem

Data = pandas.DataFrame | Mapping[str, Any] | Iterable[Mapping[str, Any]]
Making = Callable[[], Data]


def table(
    data: Any, key: str, title: str, labels: Mapping[str, str] | None = None, whole: Making | None = None, **more: Any
) -> None:
    """A table, as `st.dataframe` takes `data` and `more`, and below it the button that offers it in all forms.

    `title` says what it is of, `labels` what people read in place of a column's name. `whole` makes what is taken away where
    that is more than what is shown.
    """
    st.dataframe(data, hide_index=True, key=key, **more)
    offer(key, title, whole or data, labels)


def ledger(rows: Iterable[str], key: str, title: str, data: Data | Making, kind: str = "") -> None:
    """Rows in HTML, the first one the heads, as a table of that `kind` in the style sheet, which scrolls sideways by itself, by
    the keyboard too; and the button, which offers `data`.
    """
    table = f'<table class="{f"ledger {kind}".rstrip()}">{"".join(rows)}</table>'
    st.html(f'<div class="wide" tabindex="0" role="region" aria-label="{escape(title)}">{table}</div>')
    offer(key, title, data)


def texts(
    rows: Sequence[Mapping[str, str]], key: str, title: str, data: Data | Making | None = None, words: int = 1
) -> None:
    """Rows in Markdown as a table, its first columns `words` and the others numbers; and the button, which offers `data` where
    that is more than the texts.
    """
    right = [place >= words for place in range(len(rows[0]))]
    st.markdown(piped(rows[0], [row.values() for row in rows], right))
    offer(key, title, rows if data is None else data)


def offer(key: str, title: str, data: Data | Making, labels: Mapping[str, str] | None = None) -> None:
    """The button that offers a table, or what makes it, in all forms; `key` is one of the page's own."""
    says = origin(session.view())

    def make() -> Table:
        return Table.of(data() if callable(data) else data, title, says, labels)

    place = st.popover("Take away", icon=":material/download:", type="tertiary", key=f"take {key}", on_change="rerun")
    if place.open:
        place.caption(f"{title}, as")
        with place, st.container(horizontal=True):
            for form in FORMS.values():
                name = f"{stem(title)}.{form.ending}"
                download(form.label, partial(encoded, form, make), name, form.kind, WORDS[form.label])


def encoded(form: Form, make: Callable[[], Table]) -> bytes:
    """The file of a table."""
    return form.write(make()).encode()


WORDS = {
    "CSV": "The numbers in full, for a spreadsheet or pandas; each row with the link that opens it",
    "JSON": "The numbers in full with their JSON Schema, and the link that opens this view again",
    "Markdown": "As people read it, with the link that opens this view again",
    "LaTeX": "As people read it, for the package booktabs, with the link that opens this view again",
}
