"""The unit of a layer's map that the link names."""

from __future__ import annotations

import re

import streamlit as st

from ...analysis.layers import Layer
from .. import session


def chosen_unit(layer: Layer, usual: tuple[int, int] | None = None, called: str = "middle") -> tuple[int, int]:
    """The unit (row, column) of the link; where there is none the `usual` one, which is `called` so, or the middle one, with a
    sentence where it is none.

    When another layer is selected, the unit that looks at the same place of the image is chosen.
    """
    _, rows, columns = layer.out_shape
    text, usual = session.view().unit, usual or (rows // 2, columns // 2)
    before = session.held().unit
    if text and before and before[0] == text and before[1].field != layer.field:
        row, column = (before[1].field.centre(int(part)) for part in text.split("-"))
        there = unit_text(layer.field.nearest(row, rows), layer.field.nearest(column, columns))
        if there != text:
            session.change_view(unit=there)
        text = there
    if not text:
        return usual
    match = re.fullmatch(r"([0-9]{1,4})-([0-9]{1,4})", text)
    if not match or int(match[1]) >= rows or int(match[2]) >= columns:
        st.warning(
            session.escape_markdown(
                f"unit = {text} is not accepted: row-column from 0-0 to {unit_text(rows - 1, columns - 1)} "
                f"in {layer.name}. The {called} unit is shown instead."
            )
        )
        return usual
    session.hold(unit=(text, layer))
    return int(match[1]), int(match[2])


def unit_text(row: int, column: int) -> str:
    return f"{row}-{column}"
