"""What Streamlit does otherwise on our server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from playwright.sync_api import Browser, WebSocket, WebSocketRoute
from streamlit.proto.BackMsg_pb2 import BackendOperationRequest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.PageNotFound_pb2 import PageNotFound
from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
from streamlit.runtime import runtime_util
from streamlit.runtime.app_session import AppSession, AppSessionState
from streamlit.runtime.backend_operation_handler import DeferredFileHandler
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue
from streamlit.runtime.media_file_storage import MediaFileStorageError
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData
from streamlit.runtime.state.common import WidgetMetadata
from streamlit.runtime.state.session_state import WStates
from streamlit.testing.v1 import AppTest

from explorer.guard.middleware import Guard
from explorer.sharing.holdings import NoRoomError
from explorer.sharing.scheduler import PAGES
from helpers import Visitor, alone
from strangers import never


@pytest.mark.parametrize(
    ("cause", "told"), [(NoRoomError("full"), False), (TimeoutError(), False), (KeyError("a bug"), True), (None, True)]
)
def test_the_log_is_told_of_faults_and_not_of_refusals(
    cause: Exception | None, told: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Streamlit logs a download that fails, with what the maker of its file raised as the cause."""
    Guard(None)  # type: ignore[arg-type]

    def execute(_: str) -> str:
        raise MediaFileStorageError("not made") from cause

    handler = DeferredFileHandler(lambda: SimpleNamespace(execute_deferred=execute))  # type: ignore[arg-type, return-value]
    request = BackendOperationRequest(request_id="1")
    request.deferred_file.file_id = "a"
    monkeypatch.setattr(logging.getLogger(DeferredFileHandler.__module__), "propagate", True)
    with caplog.at_level(logging.ERROR):
        answer = alone(handler.handle(request, "a"))
    assert answer.error_msg == "Failed to generate file for download"
    assert bool(caplog.records) == told


def test_a_message_to_a_browser_may_be_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_util, "_max_message_size_bytes", 10**6)
    Guard(never)
    assert runtime_util.get_max_message_size_bytes() == 50 * 10**6


def test_a_whole_number_is_read_as_a_browser_sends_it() -> None:
    Guard(never)
    states = WStates()
    states.set_widget_from_proto(WidgetState(id="a", int_value=5))
    states.set_widget_metadata(WidgetMetadata("a", lambda value: 1 if value is None else value, float, "double_value"))
    assert states["a"] == 5


class Session:
    """What Streamlit's session has of a run, on a clock of its own: `timers` are what is called at which time."""

    def __init__(self) -> None:
        self.now, self.timers = 0.0, list[tuple[float, Callable[[], object]]]()
        self._state, self._browser_queue = AppSessionState.APP_IS_RUNNING, ForwardMsgQueue()
        self._message_enqueued_callback = lambda: None
        self._event_loop = SimpleNamespace(
            time=lambda: self.now, call_later=lambda wait, call: self.timers.append((self.now + wait, call))
        )

    def say(self, *messages: ForwardMsg) -> None:
        for message in messages:
            self._browser_queue.enqueue(message)

    def flushed(self) -> list[ForwardMsg]:
        """What Streamlit would send now."""
        return AppSession.flush_browser_queue(self)  # type: ignore[arg-type]


def run_of(*fragments: str) -> tuple[ForwardMsg, ForwardMsg, ForwardMsg]:
    """How a run of these fragments, of the whole page where there are none, begins: itself, its state, its first element."""
    begun, state, element = ForwardMsg(), ForwardMsg(), ForwardMsg()
    begun.new_session.page_script_hash = "a page"
    begun.metadata.run.fragment_ids.extend(fragments)
    state.session_status_changed.script_is_running = True
    element.delta.new_element.markdown.body = "drawn"
    return begun, state, element


def ended() -> tuple[ForwardMsg, ForwardMsg]:
    """How a run ends."""
    finished, state = ForwardMsg(script_finished=ForwardMsg.FINISHED_SUCCESSFULLY), ForwardMsg()
    state.session_status_changed.script_is_running = False
    return finished, state


@pytest.mark.parametrize("fragments", [(), ("tabs",)])
def test_what_a_run_draws_waits_for_the_rest_of_it(fragments: tuple[str, ...]) -> None:
    """For a tenth of a second, after which the server is woken, and what comes after that goes as it comes."""
    Guard(never)
    session = Session()
    session.say(*run_of(*fragments))
    assert session.flushed() == []
    session.now = 0.09
    session.say(ForwardMsg(page_not_found=PageNotFound()))
    assert session.flushed() == []
    ((woken, wake),) = session.timers
    assert woken == pytest.approx(0.1, abs=0.002)
    assert wake is session._message_enqueued_callback
    session.now = woken
    assert len(session.flushed()) == 4
    session.say(ForwardMsg(page_not_found=PageNotFound()))
    assert len(session.flushed()) == 1
    session.say(*run_of(*fragments))
    assert session.flushed() == []
    assert [time for time, _ in session.timers] == [woken, pytest.approx(2 * woken)]


@pytest.mark.parametrize(
    ("runs", "told"),
    [([("tabs",)], False), ([("menu", "tabs")], False), ([()], True), ([("tabs",), ()], True), ([], True)],
)
def test_a_run_that_has_ended_is_not_said_to_go_on(runs: list[tuple[str, ...]], told: bool) -> None:
    """But one of the whole page is, after all that it draws: a browser waits for that after a person's Rerun. And so is one
    that goes on.
    """
    Guard(never)
    session = Session()
    begun = [message for fragments in runs for message in run_of(*fragments)] or [*run_of()[1:]]
    for place, message in enumerate(begun):
        message.metadata.delta_path.append(place)  # else the second element would take the first one's
    session.say(*begun, *ended())
    session._state = AppSessionState.APP_NOT_RUNNING
    sent = session.flushed()
    states = [message for message in sent if message.HasField("session_status_changed")]
    assert any(state.session_status_changed.script_is_running for state in states) == told
    if runs:
        assert sent[-len(states) :] == states
    assert [message for message in sent if message not in states] == [
        message for message in (*begun, *ended()) if not message.HasField("session_status_changed")
    ]
    assert states[-1] == ended()[-1]
    session._state = AppSessionState.APP_IS_RUNNING
    session.say(*run_of("tabs"))
    session.flushed()
    session.now = 1.0
    assert any(message.session_status_changed.script_is_running for message in session.flushed())


@pytest.mark.browser
def test_a_click_in_a_tab_is_one_run_of_the_tabs_and_the_links(browser: Browser, address: str) -> None:
    """And the link says what was clicked, the menu's links carry it, and the next click finds what it drew."""
    runs: list[list[str]] = []

    def listen(socket: WebSocket) -> None:
        socket.on("framereceived", received)

    def received(data: bytes | str) -> None:
        said = ForwardMsg.FromString(data) if isinstance(data, bytes) else ForwardMsg()
        if said.HasField("new_session"):
            runs.append(list(said.metadata.run.fragment_ids))

    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.on("websocket", listen)
    visitor = Visitor(page, address).open("/inference?preset=resnet20_fashion")
    menu = page.locator(".st-key-menu a[href*=architecture]")
    for block, output in (("layer3.1", "layer3.1.act"), ("layer1.2", "layer1.2.act")):
        runs.clear()
        page.locator(f".st-key-strip [data-id='{block}']").click()
        visitor.wait()
        assert len(runs) == 1
        assert all(runs)
        assert page.locator(".st-key-crumbs code").inner_text() == output
        for link in (page.url, menu.get_attribute("href")):
            assert f"at={block}" in (link or "")
    context.close()
    assert not visitor.errors


@pytest.mark.browser
def test_a_page_whose_first_run_was_lost_says_what_its_link_says(browser: Browser, address: str) -> None:
    """As where a browser asks again before the first answer has left: its fields are not empty, nor its lists at their
    first choice, at the next click, which nobody would have chosen.
    """
    asked: list[str | bytes] = []
    runs: list[ForwardMsg] = []

    def lose_the_first_run(page: WebSocketRoute) -> None:
        server = page.connect_to_server()

        def to_server(message: str | bytes) -> None:
            asked.append(message)
            server.send(message)

        def to_page(message: str | bytes) -> None:
            said = ForwardMsg.FromString(message)
            if said.HasField("new_session"):
                runs.append(said)
            if len(runs) != 1 or said.HasField("new_session"):
                page.send(message)
            elif said.HasField("script_finished"):
                server.send(asked[0])

        page.on_message(to_server)
        server.on_message(to_page)

    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.route_web_socket("**/_stcore/stream", lose_the_first_run)
    visitor = Visitor(context.new_page(), address)
    visitor.open("/?preset=resnet50&num_classes=10&drop_path=0.1&attention=se")
    assert len(runs) == 2
    visitor.pick("pre")
    assert not visitor.page.get_by_test_id("stAlert").count()
    assert visitor.page.url.partition("?")[2] == "order=pre&attention=se&drop_path=0.1&num_classes=10"
    assert visitor.sidebar.get_by_label("Preset", exact=True).input_value() == "custom"
    context.close()
    assert not visitor.errors


def counting() -> None:
    """A page with a button that counts its clicks, and something that is drawn meanwhile. What a session calls at each point
    is nothing at first."""
    import streamlit as st

    state = st.session_state
    for name, value in {"clicks": 0, "in_callback": list, "while_drawn": list, "at_the_end": list}.items():
        state.setdefault(name, value)

    def count() -> None:
        state.in_callback()
        state.clicks += 1

    st.button("Count", key="count", on_click=count)
    try:
        state.while_drawn()
        st.text("Drawn")
    finally:
        state.at_the_end()
        st.text("Gone")


def ask(*clicked: str) -> None:
    """Ask for the page as a browser does, which names what was clicked, or nothing where a drawing has a new value."""
    context = get_script_run_ctx()
    assert context
    assert context.script_requests
    states = WidgetStates(widgets=[WidgetState(id=widget, trigger_value=True) for widget in clicked])
    context.script_requests.request_rerun(RerunData(widget_states=states, page_script_hash=context.page_script_hash))


@pytest.mark.parametrize("place", ["waits for its turn", "is answered", "ends another run"])
def test_a_click_that_is_overtaken_counts(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Guard(never)
    page = AppTest.from_function(counting).run()
    button = page.button(key="count")

    def once(*clicked: str) -> Callable[[], None]:
        """What asks at its first call."""
        left = [clicked]
        return lambda: ask(*left.pop()) if left else None

    if place == "ends another run":
        page.session_state["while_drawn"], page.session_state["at_the_end"] = once(button.proto.id), once()
    else:
        button.click()
    if place == "is answered":
        page.session_state["in_callback"] = once()
    if place == "waits for its turn":
        overtake = once()
        monkeypatch.setattr(PAGES, "throttle", lambda user: overtake())
    page.run()
    assert not page.exception
    assert page.session_state["clicks"] == 1
