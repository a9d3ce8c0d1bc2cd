"""What a person is looking at, as one value that lives in the link.

`View` is everything a link holds. `open_link` reads it at the start of a run, widgets change
it through `change`, and `write_link` puts it back, so that link, sidebar and page agree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

import streamlit as st

from resnet import OPTIONS, PRESETS, ConfigError, Option, ResNetConfig, preset, preset_name
from resnet.options import from_text, to_text
from resnet.weights import BUNDLED, FASHION_MNIST

Size = tuple[int, int]


def natural_size(config: ResNetConfig) -> Size:
    """The image size a network is usually shown: what its shipped weights take, 32 pixels for CIFAR-like ones, else 224."""
    if config in BUNDLED.values():
        return (FASHION_MNIST.preprocessing.crop,) * 2
    return (32, 32) if config.stem == "3x3" and config.total_stride <= 8 else (224, 224)


@dataclass(frozen=True)
class View:
    """A configuration, the image size (height, width) in pixels, and what is chosen on the pages.

    `at` is the selected layer or block, `pinned` a configuration to compare with, `weights`
    and `picture` the chosen weights and sample of the inference page.
    """

    config: ResNetConfig = field(default_factory=ResNetConfig)
    image_size: Size = (224, 224)
    at: str = ""
    pinned: ResNetConfig | None = None
    weights: str = ""
    picture: str = ""

    def to_query(self) -> dict[str, str]:
        """The view as a link's query; what is at its default is left out."""
        query = self.config.to_query()
        if self.image_size != natural_size(self.config):
            query["size"] = size_text(self.image_size)
        if self.pinned is not None:
            query["pin"] = urlencode(self.pinned.to_query()) or "default"
        return query | {name: value for name in _PLAIN if (value := getattr(self, name))}

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> View:
        """The inverse of `to_query`. `preset` may name a network for the rest to start from.

        Raises:
            ConfigError: for anything in the query that is not accepted.
        """
        own = {"size", "pin", "preset", *_PLAIN}
        options = {name: text for name, text in query.items() if name not in own}
        base = preset(query["preset"]) if "preset" in query else None
        config = ResNetConfig.from_query(options, base)
        size = parse_size(query["size"]) if "size" in query else natural_size(config)
        pinned = None
        if "pin" in query:
            given = [] if query["pin"] == "default" else parse_qsl(query["pin"], keep_blank_values=True)
            try:
                pinned = ResNetConfig.from_query(dict(given))
            except ConfigError as error:
                raise ConfigError("pin", query["pin"], f"{error.field} in it takes {error.accepted}") from error
        plain = {name: query.get(name, "")[:100] for name in _PLAIN}
        return cls(config, config.check_image_size(size), pinned=pinned, **plain)


_PLAIN = ("at", "weights", "picture")


def parse_size(text: str) -> Size:
    """(height, width) from "224" or "224x320".

    Raises:
        ConfigError: for other text.
    """
    match = re.fullmatch(r"\s*([0-9]{1,6})\s*(?:[x×,]\s*([0-9]{1,6}))?\s*", text)
    if not match:
        raise ConfigError("size", text, "one number of pixels such as 224, or height × width such as 224x320")
    height = int(match[1])
    return height, int(match[2]) if match[2] else height


def size_text(size: Size) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def tolerant(query: Mapping[str, str]) -> tuple[View, list[str]]:
    """The view of a link that may hold mistakes, and a sentence for each of them.

    What is wrong is left out and the rest kept; where the rest does not fit together, the
    default network is shown.
    """
    rest = dict(query)
    problems: list[str] = []
    while True:
        try:
            return View.from_query(rest), problems
        except ConfigError as error:
            name = {"image_size": "size", "option": str(error.value)}.get(error.field, error.field)
            if name not in rest:
                return View(), [*problems, f"{error} The default network is shown instead."]
            del rest[name]
            problems.append(f"{error} {instead(name)}")


def instead(name: str) -> str:
    """What a link's mistake is replaced by, in a sentence."""
    if name == "size":
        return "The network's usual image size is used instead."
    if name == "pin":
        return "Nothing is pinned instead."
    if name in OPTIONS and (default := OPTIONS[name].default) not in ((), 0):
        return f"{to_text(default)} is used instead."
    return "It is left out."


# -- one session --------------------------------------------------------------------------


def open_link() -> None:
    """Take the view from the link where the link is new: opened, or gone back or forward to."""
    state, query = st.session_state, st.query_params.to_dict()
    if state.get("query") != query:
        view, problems = tolerant(query)
        show(view)
        state.problems, state.query = problems, query


def write_link() -> None:
    """Put the view into the link, unless a mistake in it is still to be read there."""
    query = view().to_query()
    if query != st.session_state.query:
        st.query_params.from_dict(query)
        st.session_state.query = query


def view() -> View:
    """What this session is looking at."""
    return st.session_state.view


def show(new: View, *notes: str) -> None:
    """Look at something else; `notes` say what had to follow."""
    state = st.session_state
    old: View | None = state.get("view")
    if old is not None and old.config != new.config:
        state.previous = old.config
    state.view, state.notes, state.problems, state.typed = new, list(notes), [], {}


def choose(**changes: Any) -> None:
    """Change what is chosen on a page, but not the configuration."""
    st.session_state.view = replace(view(), **changes)


def compared() -> ResNetConfig | None:
    """What the headline figures are compared with: the pinned configuration, else the previous one."""
    return view().pinned or st.session_state.get("previous")


def change(name: str, value: Any) -> None:
    """Change one option of the configuration; a value that is not accepted leaves the view as it is."""
    now = view()
    try:
        config, notes = now.config.with_(**{name: value})
    except ConfigError as error:
        refuse(name, value, error)
        return
    size, low = now.image_size, config.total_stride
    if min(size) < low:
        size = (max(size[0], low), max(size[1], low))
        notes += (
            f"Image size went from {size_text(now.image_size)} to {size_text(size)}: the network strides by {low}.",
        )
    show(replace(now, config=config, image_size=size), *notes)


def refuse(name: str, value: Any, error: ConfigError) -> None:
    """Keep the view, and the text as it was typed beside the reason."""
    st.session_state.typed = {name: value if isinstance(value, str) else to_text(value)}
    st.session_state.problems, st.session_state.notes = [f"{error} The network is unchanged."], []


# -- sidebar ------------------------------------------------------------------------------

CUSTOM = "custom"
SEGMENTS = 5
"""Options with more choices than this, or long ones, are a list."""


def sidebar() -> None:
    """The configuration, grouped; every widget changes the view before the page is drawn."""
    now = view()
    set_widget("preset", preset_name(now.config) or CUSTOM)
    names = list(PRESETS) if preset_name(now.config) else [CUSTOM, *PRESETS]
    st.selectbox(
        "Preset", names, key="preset", on_change=preset_chosen,
        help="A network of the paper, torchvision or timm to start from.",
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


def set_widget(key: str, value: Any) -> None:
    """The view decides what a widget shows."""
    if st.session_state.get(key) != value:
        st.session_state[key] = value


def preset_chosen() -> None:
    name = st.session_state.preset
    if name != CUSTOM:
        config = preset(name)
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
    if isinstance(value, str) and not option.choices:
        text = re.sub(r"[\s,;·]+", "-", value.strip()) if isinstance(option.default, tuple) else value.strip()
        try:
            value = from_text(name, option, text)
        except ConfigError as error:
            refuse(name, value, error)
            return
    change(name, value)


def messages() -> None:
    """What was wrong with the last link or edit, and what had to follow from it."""
    for problem in st.session_state.problems:
        st.warning(escape_markdown(problem), icon=":material/error:")
    if st.session_state.notes:
        st.info(escape_markdown(" ".join(st.session_state.notes)), icon=":material/info:")


def escape_markdown(words: str) -> str:
    """Text a person typed, shown as text."""
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|$~:])", r"\\\1", words)
