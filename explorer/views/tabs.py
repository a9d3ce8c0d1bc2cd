"""Tabs and segments, which the link names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from .session import choose, escape_markdown, held, hold, page_state, set_widget, show_or_say, view


def open_tab(names: Sequence[str], field: str = "tab") -> str:
    """Which of these the link's tab, or another field of its view, names; the first, and a sentence, where it names another."""
    asked = getattr(view(), field)
    if asked and asked not in names:
        st.warning(escape_markdown(f"{field} = {asked} is not one of {', '.join(names)}; {names[0]} is open instead."))
    return asked if asked in names else names[0]


def tab_chosen(first: str, key: str, field: str = "tab") -> None:
    chosen = st.session_state[key]
    choose(**{field: "" if chosen == first else chosen})


def tabs(panels: Mapping[str, Callable[..., None]], *arguments: Any, above: Callable[..., None] | None = None) -> None:
    """Panels by the name of their tab, each called with `arguments`; only the open one is made, and the link says which.

    What is clicked in them draws only them again, or the whole page where it changed what shows around them. `above` draws
    what is over the tabs, by itself; it is called with the same.
    """
    hold(drawn_state=page_state())
    names = list(panels)

    def draw() -> None:
        set_widget("tab", open_tab(names))
        made = st.tabs(names, key="tab", on_change=tab_chosen, args=(names[0], "tab"))
        for tab, panel in zip(made, panels.values(), strict=True):
            if tab.open:
                with tab:
                    show_or_say(panel, *arguments)

    if above:
        part("above", above, *arguments)
    part("panels", draw)


def part(key: str, draw: Callable[..., None], *arguments: Any) -> None:
    """What is drawn again by itself, or with the whole page where that shows something else by now."""

    @st.fragment(key=key)
    def drawn() -> None:
        if page_state() != held().drawn_state:
            st.rerun()
        draw(*arguments)

    drawn()


def segments(label: str, names: Sequence[str], key: str, field: str = "tab", **look: Any) -> str:
    """One of `names` to choose, which the link says as it says an open tab, or in another field of its view; `look` is as
    segments take it."""
    chosen = open_tab(names, field)
    set_widget(key, chosen)
    st.segmented_control(
        label, names, key=key, required=True, on_change=tab_chosen, args=(names[0], key, field), **look
    )
    return chosen
