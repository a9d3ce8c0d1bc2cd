"""The view of one session, kept in step with the link and the sidebar.

`open_link` reads the link at the start of a run, widgets change the view through `change`,
and `write_link` puts it back, so that link, sidebar and page agree.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import streamlit as st
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx

from resnet import ConfigError, ResNetConfig
from resnet.checkpoint import WeightsError
from resnet.options import plain, to_text
from resnet.sizes import least_side
from resnet.weights import ShippedError

from ..analysis.compare import common_size
from ..analysis.parts import switchable
from ..inference.decode import ImageError
from ..inference.turns import PassError
from ..link import View, size_text, tolerant
from ..sharing.store import StoppedError

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage


Value = TypeVar("Value")


def open_link() -> None:
    """Take the view from the link where the link is new: opened, or gone back or forward to."""
    state, query = st.session_state, st.query_params.to_dict()
    state.drawn = None
    if state.get("query") != query or "view" not in state:
        view, problems = tolerant(query)
        show(view)
        state.problems, state.query = problems, query


def write_link() -> None:
    """Put the view into the link where it is not there yet."""
    query = view().to_query()
    if query != st.session_state.query:
        st.query_params.from_dict(query)
        st.session_state.query = query


@st.fragment(key="links")
def links(pages: Sequence[StreamlitPage]) -> None:
    """A link to each page, which carries the view, so that it opens elsewhere as it is here; and this page's own link."""
    for page in pages:
        st.page_link(page, query_params=replace(view(), tab="").to_query(), width="stretch")
    write_link()


def view() -> View:
    """What this session is looking at: what its link says where it has forgotten."""
    if "view" not in st.session_state:
        open_link()
    return st.session_state.view


def show(new: View, *notes: str) -> None:
    """Look at something else; `notes` say what had to follow."""
    state = st.session_state
    old: View | None = state.get("view")
    if old is not None and old.config != new.config:
        state.previous = old.config
        kept = tuple(name for name in new.off if name in switchable(new.config))
        if kept != new.off:
            notes += ("Blocks that were off and are not in this network are forgotten.",)
            new = replace(new, off=kept)
    state.view, state.notes, state.problems, state.typed = new, list(notes), [], {}


def settle(**changes: Any) -> None:
    """Change what is chosen on a page, but not the configuration; what was wrong before has been read."""
    state = st.session_state
    state.view, state.notes, state.problems, state.typed = replace(view(), **changes), [], [], {}


def choose(**changes: Any) -> None:
    """`settle` in a widget's callback, and its end where only the tabs show the change: then they alone are drawn again."""
    settle(**changes)
    if around() == st.session_state.drawn:
        st.rerun(["links", "panels"])


def around() -> tuple[Any, ...]:
    """What the rest of a page depends on where it has tabs; `drawn` is what it was drawn with, None where it has none."""
    state = st.session_state
    rest = replace(view(), unit="", lab="", training="", appended="", tab="", explained="")
    return rest, state.problems, state.notes, state.get("uploaded"), state.get("form")


def release(files: Sequence[str]) -> None:
    """Let go of uploaded files, by the numbers that Streamlit gives them: it keeps each one as long as the session."""
    context = get_script_run_ctx()
    if context and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        for file in files:
            context.uploaded_file_mgr.remove_file(context.session_id, file)


def compared() -> ResNetConfig | None:
    """What the headline figures are compared with: the pinned configuration, else the previous one."""
    return view().pinned or st.session_state.get("previous")


def change(name: str, value: Any, typed: str | None = None) -> None:
    """Change one option of the configuration; a value that is not accepted leaves the view as it is.

    `typed` is the text that stood for the value, which then stays to be mended.
    """
    now = view()
    try:
        config, notes = now.config.with_(**{name: value})
    except ConfigError as error:
        refuse(name, to_text(value) if typed is None else typed, error)
        return
    size = common_size((config,), now.image_size)
    if size != now.image_size:
        notes += (
            f"Image size went from {size_text(now.image_size)} to {size_text(size)}: below {least_side(config)} pixels a "
            "map is too small for one of the network's operations.",
        )
    show(replace(now, config=config, image_size=size), *notes)


def refuse(name: str, typed: str, error: ConfigError) -> None:
    """Keep the view, and the text as it was typed beside the reason."""
    st.session_state.typed = {name: typed}
    st.session_state.problems, st.session_state.notes = [f"{error} The network is unchanged."], []


def set_widget(key: str, value: Any, labels: Sequence[str] = ()) -> None:
    """The view decides what a widget shows.

    `labels` are those of a list's options where the same option may be called something else tomorrow. The browser
    keeps a list's choice by its label, and has to be told when that changes.
    """
    state, before = st.session_state, f"labels of {key}"
    if state.get(key) != value or state.get(before, labels) != labels:
        state[key] = value
    if labels:
        state[before] = labels


def show_or_say(panel: Callable[..., Value], *given: Any) -> Value | None:
    """Call a panel; where what it needs cannot be had, the rest of it is the sentence that says so, and it gives None."""
    try:
        return panel(*given)
    except StoppedError:
        pass  # the button to compute it is the panel's end
    except PassError as error:
        st.error(escape_markdown(str(error)), icon=":material/memory:")
    except (ImageError, ShippedError, WeightsError) as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
    return None


def messages() -> None:
    """What was wrong with the last link or edit, and what had to follow from it."""
    for problem in st.session_state.problems:
        st.warning(escape_markdown(problem), icon=":material/error:")
    if st.session_state.notes:
        st.info(escape_markdown(" ".join(st.session_state.notes)), icon=":material/info:")


def escape_markdown(words: str) -> str:
    """Text a person typed, shown as text.

    Addresses become links and -> an arrow even where each character is escaped, so an
    invisible word joiner parts them.
    """
    words = plain(re.sub(r"\s+", " ", words), sys.maxsize)
    words = re.sub(r"(?i)(?<=\bwww)(?=\.)|(?<=\S)(?=@)|(?<=\w)(?=://)|(?<=[-<=~])(?=[-=>])", "\u2060", words)
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|$~:&])", r"\\\1", words)
