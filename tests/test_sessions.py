"""Sessions end as they are left, and there is room for so many."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from streamlit import config
from streamlit.runtime.memory_session_storage import MemorySessionStorage

from explorer.guard.middleware import Guard
from explorer.sharing.store import RESULTS
from helpers import alone
from strangers import RERUN, Runtime, Told, ended, request, said, talk


@pytest.mark.parametrize(("code", "kept"), [(1000, False), (1001, False), (1009, False), (1005, True), (1006, True)])
def test_a_session_is_let_go(code: int, kept: bool, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, or when the time for coming back is over. What only it used is let go as its connection ends."""
    left: list[str] = []
    monkeypatch.setattr(RESULTS, "leave", lambda session, ends=True: left.append(session), raising=False)

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        await talk(receive)
        runtime.active.clear()

    async def act() -> None:
        told = Told({"type": "websocket.connect"}, said(RERUN), ended(code))
        one = Guard(inside)
        await one({"type": "websocket", "subprotocols": []}, told.receive, told.send)
        assert list(one.sessions.kept) == ["a"] * kept
        assert runtime.state["a"] or not kept
        assert (left, runtime.closed) == ((["a"], []) if kept else ([], ["a"]))
        for _ in range(3000):
            if left and runtime.closed and not runtime.fragments["a"]:
                break
            await asyncio.sleep(0.01)
        assert (set(left), runtime.closed, list(one.sessions.kept)) == ({"a"}, ["a"], [])
        assert (runtime.state["a"], runtime.fragments["a"]) == ({}, {})

    alone(act())


def test_a_connection_that_ends_late_takes_nothing_from_the_next(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is connected again when its lost connection is noticed."""
    monkeypatch.setattr(RESULTS, "leave", lambda *_, **__: pytest.fail("it is there"), raising=False)

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        await talk(receive)

    async def act() -> None:
        told = Told({"type": "websocket.connect"}, said(RERUN), ended(1006))
        await Guard(inside)({"type": "websocket", "subprotocols": []}, told.receive, told.send)

    alone(act())


def test_who_came_back_keeps_the_session(runtime: Runtime) -> None:
    """Where the old connection ends after the new one began, and where a timer was running."""

    async def act() -> None:
        one = Guard(None)  # type: ignore[arg-type]
        one.sessions.end("a")
        assert not runtime.closed
        one.sessions.kept["a"] = asyncio.get_running_loop().call_later(60, one.sessions.end, "a")
        one.sessions.resumed("a")
        assert not one.sessions.kept

    alone(act())


def test_a_full_server_says_so(runtime: Runtime) -> None:
    """To a page, in a sentence, and to a connection; the oldest of those who were lost makes room."""

    async def act() -> None:
        async def inside(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "entered"})

        one = Guard(inside)
        one.sessions.open = one.sessions.most
        page, connection, script = Told(), Told(), Told()
        await one(request(accept="text/html,*/*"), page.receive, page.send)
        assert (page.sent[0]["status"], b"there is no room" in page.sent[1]["body"]) == (503, True)
        await one({"type": "websocket", "subprotocols": []}, connection.receive, connection.send)
        assert connection.sent == [{"type": "websocket.close", "code": 1013}]
        await one(request(path="/static/index.js", accept="*/*"), script.receive, script.send)
        assert script.sent == [{"type": "entered"}]

        runtime.active, one.sessions.open = [], one.sessions.most - 2
        for name in ("old", "young"):
            one.sessions.kept[name] = asyncio.get_running_loop().call_later(60, one.sessions.end, name)
        back, fresh = Told(), Told()
        await one({"type": "websocket", "subprotocols": ["streamlit", "x", "young"]}, back.receive, back.send)
        assert (back.sent, runtime.closed) == ([{"type": "entered"}], [])
        await one({"type": "websocket", "subprotocols": []}, fresh.receive, fresh.send)
        assert (fresh.sent, runtime.closed) == ([{"type": "entered"}], ["old"])
        one.sessions.resumed("young")

    alone(act())


def test_no_more_lost_sessions_are_kept_than_streamlit_keeps(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its number Streamlit forgets one without a word: it could not come back, and nothing would end it."""
    room = inspect.signature(MemorySessionStorage).parameters["maxsize"].default
    monkeypatch.setattr(config, "get_option", lambda name: 60)

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        await talk(receive)
        runtime.active.clear()

    async def act() -> None:
        one = Guard(inside)
        for number in range(room + 20):
            runtime.active = [str(number)]
            told = Told({"type": "websocket.connect"}, said(RERUN), ended(1006))
            await one({"type": "websocket", "subprotocols": []}, told.receive, told.send)
        assert len(one.sessions.kept) < room
        assert [*runtime.closed, *one.sessions.kept] == [str(number) for number in range(room + 20)]

    alone(act())
