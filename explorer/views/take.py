"""What can be taken away from a page: tables in several forms, and the network itself with its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import pandas
import streamlit as st

from ..export.tables import FORMS, Form, Table
from ..link import origin
from . import session
from .components import download, stem

Data = pandas.DataFrame | Mapping[str, Any] | Iterable[Mapping[str, Any]]


def table(
    data: Any,
    key: str,
    title: str,
    labels: Mapping[str, str] | None = None,
    whole: Callable[[], Data] | None = None,
    **more: Any,
) -> None:
    """A table, as `st.dataframe` takes `data` and `more`, and below it the button that offers it in all forms.

    `title` says what it is of, `labels` what people read in place of a column's name. `whole` makes what is taken away where
    that is more than what is shown.
    """
    st.dataframe(data, hide_index=True, key=key, **more)
    offer(key, title, whole or data, labels)


def offer(key: str, title: str, data: Data | Callable[[], Data], labels: Mapping[str, str] | None = None) -> None:
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
    "CSV": "The numbers in full, for a spreadsheet or pandas",
    "JSON": "The numbers in full with their JSON Schema, and the link that opens this view again",
    "Markdown": "As people read it, with the link that opens this view again",
    "LaTeX": "As people read it, for the package booktabs, with the link that opens this view again",
}
