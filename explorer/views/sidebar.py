"""The sidebar: the configuration as widgets."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import streamlit as st

from resnet import OPTIONS, PRESETS, ConfigError, Option, ResNetConfig, preset, preset_name
from resnet.options import from_text, to_text
from resnet.sizes import check_image_size

from ..link import natural_size, parse_size, size_text
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
        accept_new_options=True,
        help="A network of the paper, torchvision or timm to start from; a name can be typed too, such as ResNet-50.",
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


def widget(config: ResNetConfig, name: str, option: Option) -> None:
    """The widget of one option, by its kind."""
    reason = option.unless(config)
    shared: dict[str, Any] = {
        "key": f"option {name}",
        "on_change": option_chosen,
        "args": (name,),
        "disabled": bool(reason),
        "help": f"{option.help} It does not apply here: {reason}." if reason else option.help,
    }
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
        set_widget(f"option {name}", held().typed.get(name, to_text(value)))
        st.text_input(option.label, **shared)


def choice_text(choice: str | int) -> str:
    """7×7 for 7x7, leaky relu for leaky_relu."""
    return re.sub(r"(?<=\d)x(?=\d)", "×", str(choice)).replace("_", " ")


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
        size = check_image_size(view().config, parse_size(text))
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
