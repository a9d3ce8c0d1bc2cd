"""The view of one session, kept in step with the link and the sidebar.

`open_link` reads the link at the start of a run, widgets change the view through `change`,
and `write_link` puts it back, so that link, sidebar and page agree.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import streamlit as st
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx

from resnet import OPTIONS, PRESETS, ConfigError, Option, ResNetConfig, preset, preset_name
from resnet.options import from_text, plain, to_text
from resnet.weights import ShippedError, WeightsError

from .compare import common_size
from .images import ImageError
from .inference import PassError
from .residual import switchable
from .store import StoppedError
from .view import View, natural_size, parse_size, size_text, tolerant

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage

Value = TypeVar("Value")

# -- one session --------------------------------------------------------------------------


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
            f"Image size went from {size_text(now.image_size)} to {size_text(size)}: below {config.least_side} pixels a "
            "map is too small for one of the network's operations.",
        )
    show(replace(now, config=config, image_size=size), *notes)


def refuse(name: str, typed: str, error: ConfigError) -> None:
    """Keep the view, and the text as it was typed beside the reason."""
    st.session_state.typed = {name: typed}
    st.session_state.problems, st.session_state.notes = [f"{error} The network is unchanged."], []


# -- sidebar ------------------------------------------------------------------------------

CUSTOM = "custom"
SEGMENTS = 5
"""Options with more choices than this, or long ones, are a list."""


def sidebar() -> None:
    """The configuration, grouped; every widget changes the view before the page is drawn."""
    now = view()
    set_widget("preset", st.session_state.typed.get("preset", preset_name(now.config) or CUSTOM))
    names = list(PRESETS) if preset_name(now.config) else [CUSTOM, *PRESETS]
    st.selectbox(
        "Preset", names, key="preset", on_change=preset_chosen, accept_new_options=True,
        help="A network of the paper, torchvision or timm to start from; a name can be typed too, such as ResNet-50.",
    )  # fmt: skip
    groups = dict.fromkeys(option.group for option in OPTIONS.values())
    for group in groups:
        if group == "More":
            set_widget("size", st.session_state.typed.get("size", size_text(now.image_size)))
            st.text_input(
                "Image size", key="size", on_change=size_chosen,
                help="Pixels a side, such as 224, or height × width such as 224x320.",
            )  # fmt: skip
        with st.expander("More") if group == "More" else st.container(gap="small"):
            for name, option in OPTIONS.items():
                if option.group == group:
                    widget(now.config, name, option)


def widget(config: ResNetConfig, name: str, option: Option) -> None:
    """The widget of one option, by its kind."""
    reason = option.unless(config)
    shared: dict[str, Any] = {
        "key": f"option {name}", "on_change": option_chosen, "args": (name,), "disabled": bool(reason),
        "help": f"{option.help} It does not apply here: {reason}." if reason else option.help,
    }  # fmt: skip
    value = getattr(config, name)
    if option.choices:
        set_widget(f"option {name}", value)
        segmented = len(option.choices) <= SEGMENTS and sum(len(str(choice)) for choice in option.choices) <= 20
        if segmented:
            st.segmented_control(
                option.label, option.choices, required=True, format_func=choice_text, width="stretch", **shared
            )
        else:
            st.selectbox(option.label, option.choices, format_func=choice_text, **shared)
    elif isinstance(option.default, bool):
        set_widget(f"option {name}", value)
        st.toggle(option.label, **shared)
    else:  # as text, so that a mistake gets a sentence instead of being clipped
        set_widget(f"option {name}", st.session_state.typed.get(name, to_text(value)))
        st.text_input(option.label, **shared)


def choice_text(choice: str | int) -> str:
    """7×7 for 7x7, leaky relu for leaky_relu."""
    return re.sub(r"(?<=\d)x(?=\d)", "×", str(choice)).replace("_", " ")


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


def preset_chosen() -> None:
    name = st.session_state.preset
    if name in (None, CUSTOM):
        return
    try:
        config = preset(name)
    except ConfigError as error:
        refuse("preset", name, error)
        return
    show(replace(view(), config=config, image_size=natural_size(config), at="", weights=""))


def size_chosen() -> None:
    text = st.session_state.size
    try:
        size = view().config.check_image_size(parse_size(text))
    except ConfigError as error:
        refuse("size", text, error)
        return
    show(replace(view(), image_size=size))


def option_chosen(name: str) -> None:
    value, option = st.session_state[f"option {name}"], OPTIONS[name]
    if option.choices or not isinstance(value, str):
        change(name, value)
        return
    text = re.sub(r"[\s,;·]+", "-", value.strip()) if isinstance(option.default, tuple) else value.strip()
    try:
        change(name, from_text(name, option, text), value)
    except ConfigError as error:
        refuse(name, value, error)


def open_tab(names: Sequence[str]) -> str:
    """Which of these the link's tab names; the first, and a sentence, where it names another."""
    asked = view().tab
    if asked and asked not in names:
        st.warning(escape_markdown(f"tab = {asked} is not one of {', '.join(names)}; {names[0]} is open instead."))
    return asked if asked in names else names[0]


def tab_chosen(first: str, key: str) -> None:
    chosen = st.session_state[key]
    choose(tab="" if chosen == first else chosen)


def tabs(panels: Mapping[str, Callable[..., None]], *given: Any) -> None:
    """Panels by the name of their tab, each called with `given`; only the open one is made, and the link says which.

    What is clicked in them draws only them again, or the whole page where it changed what shows around them.
    """
    st.session_state.drawn = around()
    names = list(panels)

    @st.fragment(key="panels")
    def draw() -> None:
        if around() != st.session_state.drawn:
            st.rerun()
        set_widget("tab", open_tab(names))
        made = st.tabs(names, key="tab", on_change=tab_chosen, args=(names[0], "tab"))
        for tab, panel in zip(made, panels.values(), strict=True):
            if tab.open:
                with tab:
                    show_or_say(panel, *given)

    draw()


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


def segments(label: str, names: Sequence[str], key: str) -> str:
    """One of `names` to choose, which the link says as it says an open tab."""
    chosen = open_tab(names)
    set_widget(key, chosen)
    st.segmented_control(label, names, key=key, required=True, on_change=tab_chosen, args=(names[0], key))
    return chosen


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
