"""What Streamlit does otherwise on our server."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from playwright.sync_api import Browser, WebSocketRoute
from streamlit.proto.BackMsg_pb2 import BackendOperationRequest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.runtime import runtime_util
from streamlit.runtime.backend_operation_handler import DeferredFileHandler
from streamlit.runtime.media_file_storage import MediaFileStorageError
from streamlit.runtime.state.common import WidgetMetadata
from streamlit.runtime.state.session_state import WStates

from explorer.guard.middleware import Guard
from explorer.sharing.holdings import NoRoomError
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
