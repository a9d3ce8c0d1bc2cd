"""What a browser may say, and how often."""

from __future__ import annotations

import asyncio

import pytest
from streamlit.proto.BackMsg_pb2 import BackendOperationRequest, BackMsg, DeferredFileRequestPayload
from streamlit.proto.Common_pb2 import FileURLsRequest

from explorer.guard import connection
from explorer.guard.connection import Line, welcome
from helpers import alone
from strangers import RERUN, UNSENT, Runtime, Told, ended, said, talk


def test_every_kind_of_message_is_let_in_or_left_out() -> None:
    kinds = {field.name for field in BackMsg.DESCRIPTOR.oneofs_by_name["type"].fields}
    assert kinds == {message.WhichOneof("type") for message in UNSENT if message.WhichOneof("type")} | {
        "stop_script",
        "app_heartbeat",
    }
    assert not any(map(welcome, UNSENT))
    assert welcome(
        BackMsg(backend_operation_request=BackendOperationRequest(deferred_file=DeferredFileRequestPayload()))
    )
    assert welcome(BackMsg(file_urls_request=FileURLsRequest(file_names=["x"])))


def test_who_says_nothing_is_sent_away(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_WORD_SECONDS", 0.01)

    async def act() -> None:
        told = Told({"type": "websocket.connect"})
        line = Line(told.receive, told.send, lambda _: None)
        heard = await talk(line.receive)
        assert heard[-1] == ended(1008)
        assert told.sent == [{"type": "websocket.close", "code": 1008}]

    alone(act())


def test_messages_come_no_faster_than_a_person_clicks(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def waited(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", waited)

    async def act() -> None:
        told = Told({"type": "websocket.connect"}, *[said(RERUN)] * 200, ended(1000))
        line = Line(told.receive, told.send, lambda _: None)
        assert len(await talk(line.receive)) == 202

    alone(act())
    assert waits[:40] == [0] * 40  # as many as a page sends at once
    assert waits[-1] > 2
