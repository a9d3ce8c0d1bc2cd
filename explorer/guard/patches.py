"""Streamlit's own code, where this server needs it otherwise: pages are drawn in turn and sent at once, no click is lost,
values are told until a browser has them, and what comes in and the log bounded."""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime import runtime_util
from streamlit.runtime.app_session import AppSession, AppSessionState
from streamlit.runtime.backend_operation_handler import DeferredFileHandler
from streamlit.runtime.scriptrunner import ScriptRunner
from streamlit.runtime.scriptrunner_utils.exceptions import ScriptControlException
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData
from streamlit.runtime.state.common import RegisterWidgetResult, WidgetMetadata
from streamlit.runtime.state.safe_session_state import SafeSessionState
from streamlit.runtime.state.session_state import Serialized, SessionState, Value, WStates

from resnet import confined

from ..sharing.holdings import NoRoomError
from ..sharing.scheduler import PAGES

MAX_OUTGOING_BYTES = 50_000_000
"""Of a message to a browser."""


def install() -> None:
    """Put what is below in the place of Streamlit's own."""
    WStates.__getitem__ = read_or_default  # type: ignore[method-assign]
    SessionState.register_widget = register_and_tell  # type: ignore[method-assign, assignment]
    ScriptRunner._run_script = run_in_turn  # type: ignore[method-assign, assignment]
    ScriptRunner._maybe_handle_execution_control_request = handle_requests_and_yield  # type: ignore[method-assign, assignment]
    SafeSessionState.on_script_will_rerun = take_in_whole  # type: ignore[method-assign, assignment]
    AppSession.flush_browser_queue = flush_at_once  # type: ignore[method-assign, assignment]
    confined.aside = PAGES.aside
    logging.getLogger(DeferredFileHandler.__module__).addFilter(is_fault)
    # Streamlit has one limit for both directions; the server has taken the option's small one for what comes in.
    runtime_util._max_message_size_bytes = MAX_OUTGOING_BYTES


NUMBERS = {"int_value", "double_value"}
"""Kinds of a number field's value: Streamlit registers the second, and a browser sends the first of a field for whole ones."""
_read = WStates.__getitem__


def read_or_default(states: WStates, widget: str) -> Any:
    """A widget's value; one that no browser sends counts as none, which is the widget's default.

    Streamlit reads whatever came, and the page would end in the traceback of what it met. None of our lists that start
    with a choice can be emptied.
    """
    state, metadata = states.states.get(widget), states.widget_metadata.get(widget)
    if not isinstance(state, Serialized) or metadata is None:
        return _read(states, widget)
    kind = state.value.WhichOneof("value")
    if kind in (None, metadata.value_type) or {kind, metadata.value_type} == NUMBERS:
        with suppress(Exception):
            value = _read(states, widget)
            if value is not None:
                return value
    states.states[widget] = Value(metadata.deserializer(None))
    return _read(states, widget)


_register = SessionState.register_widget


def register_and_tell(
    state: SessionState, metadata: WidgetMetadata[Any], user_key: str | None
) -> RegisterWidgetResult[Any]:
    """A widget's value, which the browser is told as long as it has not said one.

    Streamlit tells it in the run that sets it. Where the next run begins before that one's messages have left, they are
    dropped; the browser then shows the widget's default, an empty field or a list's first choice, and says it with the next
    click, as if a person had chosen it.
    """
    is_said = metadata.id in state._new_widget_state
    found = _register(state, metadata, user_key)
    if is_said or found.value == metadata.deserializer(None):
        return found
    return replace(found, value_changed=True)


_run, _look = ScriptRunner._run_script, ScriptRunner._maybe_handle_execution_control_request


def run_in_turn(runner: ScriptRunner, request: RerunData) -> None:
    """Draw a page, or a part of it, when the scheduler says so."""
    PAGES.throttle(runner._session_id)
    with PAGES.place(runner._session_id):
        _run(runner, request)


def handle_requests_and_yield(runner: ScriptRunner) -> None:
    """What Streamlit does wherever a script can be interrupted, where it can wait for others, too.

    A run that ends for a request looks for no other one while it clears up: that would take the place of the first.
    """
    if not getattr(_taking, "goes_on", False) and not isinstance(sys.exception(), ScriptControlException):
        _look(runner)
    PAGES.yield_place()


_take_in, _taking = SafeSessionState.on_script_will_rerun, threading.local()


def take_in_whole(state: SafeSessionState, *values: Any, **how: Any) -> None:
    """Take in what a browser says, and answer it by the widgets' callbacks, before another request ends this run.

    A browser says only once what was clicked. Streamlit looks for another request before it takes this one in, and in each
    callback: where one is there, which may say no more than that a drawing has been drawn, the click is lost.
    """
    _taking.goes_on = True
    try:
        _take_in(state, *values, **how)
    finally:
        _taking.goes_on = False


HELD_SECONDS = 0.1
"""Seconds that what a run draws waits for the rest of it, at most."""
_flush = AppSession.flush_browser_queue
_held_since: WeakKeyDictionary[AppSession, float] = WeakKeyDictionary()
"""When a session began to hold its messages."""


def flush_at_once(session: AppSession) -> list[ForwardMsg]:
    """The messages that go to a browser; of a run at first none, until it ends or `HELD_SECONDS` have passed.

    A browser draws the page anew for each batch that comes, which takes it as long as the server takes for a click: so
    what a click changes comes in one. One that is told that a run goes on marks all that it draws as old, and draws that
    before it draws what changed: so where the run has ended it is told only after that, and of fragments not at all. After a
    person's Rerun, which is of the whole page, it waits to be told.
    """
    loop, running = session._event_loop, session._state == AppSessionState.APP_IS_RUNNING
    runs = [message.metadata.run for message in session._browser_queue._queue if message.HasField("new_session")]
    if running and runs:
        if session not in _held_since:
            _held_since[session] = loop.time()
            if wake := session._message_enqueued_callback:
                loop.call_later(HELD_SECONDS + 0.001, wake)  # no sooner, as a loop's clock may be a little early
        if loop.time() < _held_since[session] + HELD_SECONDS:
            return []
    _held_since.pop(session, None)
    messages = _flush(session)
    if running or not runs:
        return messages
    if all(run.fragment_ids for run in runs):
        return [message for message in messages if not message.session_status_changed.script_is_running]
    return sorted(messages, key=lambda message: message.HasField("session_status_changed"))


def is_fault(record: logging.LogRecord) -> bool:
    """Whether the log is told of an error: not of a download that finds no room, whose traceback takes longer to write
    than others wait for a click."""
    error = record.exc_info[1] if record.exc_info else None
    while error:
        if isinstance(error, NoRoomError | TimeoutError):
            return False
        error = error.__cause__ or error.__context__
    return True
