"""The layer table, in step with the diagram."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import streamlit as st

from ...analysis.layers import Layer
from ...analysis.trace import COLUMNS, Trace
from .. import session, take


def layers(trace: Trace, layer: Layer) -> None:
    """Every layer in a table that sorts and searches, `layer` selected; choosing a row selects another one everywhere."""
    frame = trace.frame()
    key = "layer table"
    selection: Any = {"selection": {"rows": [layer.index], "columns": [], "cells": []}}

    def row_chosen() -> None:
        chosen = None
        with suppress(LookupError, TypeError):  # no row, or one that no browser sends
            chosen = trace.layers[st.session_state[key]["selection"]["rows"][0]]
        if chosen:
            session.choose(at=chosen.name)

    config = {
        name: st.column_config.NumberColumn(column.label, help=column.help, format=column.format, step=1)
        if column.format
        else st.column_config.TextColumn(column.label, help=column.help)
        for name, column in COLUMNS.items()
    }
    if key in st.session_state and st.session_state[key]["selection"]["rows"] != [layer.index]:
        st.session_state[key] = selection
    take.table(
        frame,
        key,
        "Layers",
        {name: column.label for name, column in COLUMNS.items()},
        selection_default=selection,
        on_select=row_chosen,
        selection_mode="single-row",
        column_config=config,
        height=min(460, 36 * len(frame) + 40),
        placeholder="–",
    )
    if words := trace.beyond_windows():
        st.caption(f"Field counts windows alone. {words}")
