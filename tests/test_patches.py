"""What Streamlit does otherwise on our server."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from streamlit.proto.BackMsg_pb2 import BackendOperationRequest
from streamlit.runtime import runtime_util
from streamlit.runtime.backend_operation_handler import DeferredFileHandler
from streamlit.runtime.media_file_storage import MediaFileStorageError

from explorer.guard.middleware import Guard
from explorer.sharing.holdings import NoRoomError
from helpers import alone
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
