"""The ways between pages: the menu, and over a page the tour's stop with those back and on, or what a projector needs in the
sidebar's place.
"""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from ..lessons.tour import STOPS, Stop
from ..link import View
from ..navigation import PAGES, START
from . import session
from .components import menu, theme_switch


@st.fragment(key="links")
def links() -> None:
    """A link to each page, which carries the view, so that it opens elsewhere as it is here; and this page's own link."""
    now, here = session.view(), session.held().page or START
    menu(here, replace(now, tab="", find="").to_query(), {START: now.way()})
    session.write_link()


def bar() -> None:
    """Nothing, or the tour, or what a projector needs, or both."""
    now = session.view()
    if now.present:
        with st.container(key="present", horizontal=True, vertical_alignment="center"):
            with st.popover("Pages", icon=":material/menu:"):
                links()
            theme_switch([page.path for page in PAGES])
            st.button(
                "End presenting",
                icon=":material/close:",
                on_click=session.change_view,
                kwargs={"present": False},
                type="tertiary",
            )
    if now.tour:
        with st.container(key="tour", border=True):
            stop_bar(now.tour)


def stop_bar(number: int) -> None:
    """One stop: where it stands, what to look at, back and next."""
    stop = STOPS[number - 1]
    st.markdown(f"**{number} of {len(STOPS)}: {stop.title}.** {stop.words}")
    with st.container(horizontal=True, vertical_alignment="center"):
        # Next comes first: it has the same place at each stop, and so keeps the focus of a keyboard.
        if number < len(STOPS):
            stop_link(number + 1, f"Next: {STOPS[number].title}", ":material/arrow_forward:")
        else:
            way = replace(session.view(), tour=0).way()
            st.page_link(START.file, label="To the start", icon=START.icon, query_params=way)
        if number > 1:
            stop_link(number - 1, "Back", ":material/arrow_back:")
        st.button(
            "Leave the tour", icon=":material/close:", on_click=session.change_view, kwargs={"tour": 0}, type="tertiary"
        )


def stop_link(number: int, label: str, icon: str) -> None:
    stop = STOPS[number - 1]
    st.page_link(stop.page.file, label=label, icon=icon, query_params=stop_query(stop, number, session.view()))


def stop_query(stop: Stop, number: int, now: View) -> dict[str, str]:
    """A stop's link, which presents where this page does, and keeps Start as it is."""
    there = replace(stop.view, tour=number, present=now.present, start=now.start)
    return there.way() if stop.page == START else there.to_query()
