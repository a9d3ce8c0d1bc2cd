"""The sidebar: the configuration as widgets."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from resnet import OPTIONS, PRESETS, ConfigError, Option, ResNetConfig, preset, preset_name
from resnet.options import from_text
from resnet.sizes import check_image_size

from ..analysis.presets import LINES
from ..link import natural_size, parse_size, size_text
from . import settings
from .session import change, held, refuse, set_widget, show, view

CUSTOM = "custom"
SEGMENTS = 5
"""Options with more choices than this, or long ones, are a list."""


def sidebar() -> None:
    """The configuration, grouped; every widget changes the view before the page is drawn."""
    now = view()
    set_widget("preset", held().typed.get("preset", preset_name(now.config) or CUSTOM))
    names = list(PRESETS) if preset_name(now.config) else [CUSTOM, *PRESETS]
    st.selectbox(
        "Preset",
        names,
        key="preset",
        on_change=preset_chosen,
        format_func=preset_line,
        accept_new_options=True,
        help="A network of the paper, torchvision or timm to start from, with its parameters and MACs; a name can be typed "
        "too, such as 50 or ResNet-50.",
    )
    groups = dict.fromkeys(option.group for option in OPTIONS.values())
    for group in groups:
        if group == "More":
            set_widget("size", held().typed.get("size", size_text(now.image_size)))
            st.text_input(
                "Image size",
                key="size",
                on_change=size_chosen,
                help="Pixels a side, such as 224, or height × width such as 224x320.",
            )
        with st.expander("More") if group == "More" else st.container(gap="small"):
            for name, option in OPTIONS.items():
                if option.group == group:
                    widget(now.config, name, option)


def preset_line(name: str) -> str:
    """What the list says of a preset; of what is typed instead, that."""
    return LINES.get(name, name)


def widget(config: ResNetConfig, name: str, option: Option) -> None:
    """The widget of one option."""
    reason = option.unless(config)
    settings.widget(
        option,
        f"option {name}",
        getattr(config, name),
        partial(option_chosen, name),
        segmented=len(option.choices) <= SEGMENTS and sum(len(str(choice)) for choice in option.choices) <= 20,
        help=f"{option.help} It does not apply here: {reason}." if reason else option.help,
        disabled=bool(reason),
    )


def preset_chosen() -> None:
    name = st.session_state.preset
    if name in (None, CUSTOM):
        return
    try:
        config = preset(name)
    except ConfigError as error:
        refuse(error, {"preset": name})
        return
    show(replace(view(), config=config, image_size=natural_size(config), at="", weights=""))


def size_chosen(key: str = "size") -> None:
    """Take the image size from the text field of this key."""
    text = st.session_state[key]
    try:
        size = check_image_size(view().config, parse_size(text))
    except ConfigError as error:
        refuse(error, {key: text})
        return
    show(replace(view(), image_size=size))


def option_chosen(name: str, value: Any) -> None:
    option = OPTIONS[name]
    if option.choices or not isinstance(value, str):
        change(name, value)
        return
    text = re.sub(r"[\s,;·]+", "-", value.strip()) if isinstance(option.default, tuple) else value.strip()
    try:
        change(name, from_text(name, option, text), value)
    except ConfigError as error:
        refuse(error, {f"option {name}": value})
