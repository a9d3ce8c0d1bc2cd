"""Settings as widgets, and the settings that a link holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import streamlit as st

from resnet import ConfigError, Option
from resnet.options import Settings, to_text

from ..units import choice_text
from . import session

Kind = TypeVar("Kind", bound=Settings)


def widget(
    option: Option,
    key: str,
    value: Any,
    take: Callable[[Any], None],
    *,
    segmented: bool = False,
    help: str | None = None,
    disabled: bool = False,
    **look: Any,
) -> None:
    """The widget of one setting: where it has choices a list, or segments; for a truth value a switch; else text, so that
    a mistake gets a sentence instead of being clipped.

    `take` is called with what was chosen or typed; `look` is how a list or segments look, where it is not as usual.
    """
    shared: dict[str, Any] = {
        "key": key,
        "on_change": lambda: take(st.session_state[key]),
        "help": help,
        "disabled": disabled,
    }
    if option.choices or isinstance(option.default, bool):
        session.set_widget(key, value)
    else:
        session.set_widget(key, session.held().typed.get(key, to_text(value, option.joint)))
    look = {"format_func": choice_text, "width": "stretch", **look}
    if option.choices and segmented:
        st.segmented_control(option.label, option.choices, required=True, **shared, **look)
    elif option.choices:
        st.selectbox(option.label, option.choices, **shared, **look)
    elif isinstance(option.default, bool):
        st.toggle(option.label, **shared)
    else:
        st.text_input(option.label, **shared)


# -- in the link --------------------------------------------------------------------------


def chosen(kind: type[Kind]) -> Kind:
    """The settings of this kind in the link; the defaults where it holds others, which `problem` says."""
    try:
        return kind.from_text(getattr(session.view(), kind.key))
    except ConfigError:
        return kind()


def problem(kind: type[Settings]) -> None:
    """A sentence where the link's settings are not accepted."""
    try:
        kind.from_text(getattr(session.view(), kind.key))
    except ConfigError as error:
        st.warning(session.escape_markdown(f"{error} The defaults are shown instead."), icon=":material/error:")


def choose(new: Settings) -> None:
    """Put settings into the link."""
    session.choose(**{new.key: new.to_text()})


def change(kind: type[Settings], unchanged: str, **changes: Any) -> None:
    """Change settings in the link; what is not accepted leaves them as they are, with a sentence that ends `unchanged`."""
    try:
        choose(replace(chosen(kind), **changes))
    except ConfigError as error:
        session.refuse(error, unchanged=unchanged, options=kind.options())


def setting(
    kind: type[Settings], name: str, unchanged: str, *, segmented: bool = False, help: str | None = None, **look: Any
) -> None:
    """The widget of one of the link's settings; `change` says what `unchanged` is, and `widget` what `look` is."""
    key, option = f"{kind.key} {name}", kind.options()[name]

    def take(value: Any) -> None:
        try:
            choose(chosen(kind).with_text(name, str(value)))
        except ConfigError as error:
            session.refuse(error, {key: str(value)}, unchanged, kind.options())

    widget(
        option,
        key,
        getattr(chosen(kind), name),
        take,
        segmented=segmented,
        help=option.help or None if help is None else help,
        **look,
    )
