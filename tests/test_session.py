"""What a session holds: one frozen value under one key, whose parts are let go of at once."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest
from streamlit.runtime.state.common import is_element_id
from streamlit.testing.v1 import AppTest

from explorer.navigation import EXPERIMENTS, INFERENCE, KERNELS, SOURCE
from explorer.views.session import SessionState
from helpers import click, held, look_at, opened, run, select


def own_keys(app: AppTest) -> set[str]:
    """The keys of a session's state that are no widget's."""
    state = app.session_state._state._state
    known = {*state._old_state, *state._new_session_state}
    return {key for key in known if not is_element_id(key) and key[0] != "$" and key not in state._key_id_mapper}


def test_a_session_has_two_keys_of_its_own() -> None:
    app = opened("inference", preset="resnet20_fashion")
    for tab in ("Receptive field", "Several images", "Speed"):
        look_at(app, tab=tab)
    click(app, "Measure precision and layout")
    select(app, "size", "28")
    assert own_keys(app) == {"view", "hand"}
    for page in (SOURCE, KERNELS, EXPERIMENTS, INFERENCE):
        run(app.switch_page(str(page.file)))
        drawn = {key for key in own_keys(app) if not key.startswith("line ")}  # a widget of lines that made layers
        assert drawn == {"view", "hand"}


def test_what_a_session_holds_is_replaced_and_not_changed() -> None:
    app = opened(block="basic")
    before = held(app)
    with pytest.raises(FrozenInstanceError):
        before.channels_shown = 1  # type: ignore[misc]
    select(app, "option shortcut", "C")
    assert before.previous_config is None
    assert held(app).previous_config is not None
    assert {one.name for one in fields(SessionState) if getattr(before, one.name) != getattr(held(app), one.name)} == {
        "query",
        "previous_config",
        "drawn_state",
    }


def test_what_is_let_go_is_gone_in_the_same_run() -> None:
    """Streamlit's state has the last value of a key until the run ends: a checkpoint would stay beside the next one."""

    def script() -> None:
        import weakref

        import streamlit as st

        from explorer.views import session

        class Large:
            pass

        if session.held().checkpoint is None:
            session.hold(checkpoint=Large())
        else:
            large = weakref.ref(session.held().checkpoint)
            session.hold(checkpoint=None)
            st.markdown(f"gone: {large() is None}")

    app = run(run(AppTest.from_function(script)))
    assert [said.value for said in app.markdown] == ["gone: True"]
