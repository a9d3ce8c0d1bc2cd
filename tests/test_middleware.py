"""Requests are answered, or refused in a sentence."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest
from starlette.types import Message

from explorer.guard import middleware
from explorer.guard.middleware import Guard
from helpers import alone
from strangers import Runtime, Told, answered, never, request, turns


def test_no_files_left_is_said_once_a_minute() -> None:
    class Loop:
        now, said = 100.0, 0

        def time(self) -> float:
            return self.now

        def default_exception_handler(self, context: dict[str, Any]) -> None:
            self.said += 1

    loop, handle = Loop(), middleware.once_a_minute()
    for now, error, count in (
        (100, errno.EMFILE, 1),
        (130, errno.EMFILE, 1),
        (131, errno.EPERM, 2),
        (161, errno.ENFILE, 3),
    ):
        loop.now = now
        handle(loop, {"exception": OSError(error, "")})  # type: ignore[arg-type]
        assert loop.said == count


def test_who_does_not_read_keeps_nobody_waiting(runtime: Runtime) -> None:
    """Of any number who take no byte of their answer, none is in the place of who asks next."""

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x"})

    async def unread(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def act() -> None:
        one = Guard(inside)
        slow = [asyncio.create_task(one(request(), Told().receive, unread)) for _ in range(300)]
        await turns()
        last = asyncio.create_task(answered(one, request()))
        await turns()
        assert last.done()
        assert last.result() == (200, "x")
        assert not any(task.done() for task in slow)

    alone(act())


def test_a_server_with_too_much_to_answer_says_so(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "MAX_WAIT_SECONDS", 0.05)

    async def act() -> None:
        one = Guard(never)
        free = one.requests._value
        busy = [asyncio.create_task(one(request(), Told().receive, Told().send)) for _ in range(free)]
        await turns()
        last = asyncio.create_task(answered(one, request()))
        await asyncio.wait([last], timeout=30)
        assert last.done()
        assert last.result()[0] == 503
        assert "too much to answer" in last.result()[1]
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        assert one.requests._value == free

    alone(act())


def test_a_mistake_of_the_server_binds_the_browser_too(runtime: Runtime) -> None:
    """In an answer that says nothing of it; the server's log has it."""

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("secret")

    told = Told()
    with pytest.raises(ValueError, match="secret"):
        alone(Guard(inside)(request(), told.receive, told.send))
    assert told.sent[0]["status"] == 500
    assert b"content-security-policy" in dict(told.sent[0]["headers"])
    assert told.sent[1]["body"] == b"Something went wrong in the server."
