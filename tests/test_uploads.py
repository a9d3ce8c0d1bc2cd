"""Uploads have bounds: of length, of time, for one person and for all."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from explorer.guard import uploads
from explorer.guard.middleware import Guard
from helpers import alone
from strangers import Runtime, Told, answered, never, put, request, turns


def test_uploads_have_a_bound_together(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """What arrives and what waits to be read counts, for one person and for all."""
    monkeypatch.setattr(uploads, "MAX_BYTES_OF_ONE", 100)
    monkeypatch.setattr(uploads, "MAX_BYTES_OF_ALL", 150)
    file = SimpleNamespace(file_id="f", data=bytes(30))
    monkeypatch.setattr(uploads, "MIN_FILE_BYTES", 1)
    runtime.uploaded_file_mgr.add_file("a", file)  # type: ignore[arg-type]

    async def act() -> None:
        gate, arrived = asyncio.Event(), []

        async def inside(scope: Any, receive: Any, send: Any) -> None:
            arrived.append(scope["path"])
            await gate.wait()

        one = Guard(inside)

        async def upload(session: str, size: int) -> int:
            told = Told()
            await one(
                request("PUT", f"/_stcore/upload_file/{session}/f", content_length=str(size)), told.receive, told.send
            )
            return told.sent[0]["status"] if told.sent else 200

        first = asyncio.create_task(upload("a", 60))
        await asyncio.sleep(0)
        assert await upload("a", 20) == 413
        assert await upload("b", 70) == 503
        second = asyncio.create_task(upload("b", 60))
        await asyncio.sleep(0)
        gate.set()
        assert [await first, await second] == [200, 200]
        assert not one.uploads.arriving
        assert await upload("a", 70) == 200
        assert len(arrived) == 3

    alone(act())


def test_an_upload_goes_with_its_session(runtime: Runtime) -> None:
    """Also where the session ends while it is on its way; and many small files count as more than they hold."""
    for number in range(100):
        runtime.uploaded_file_mgr.add_file("a", SimpleNamespace(file_id=str(number), data=b""))  # type: ignore[arg-type]
    assert uploads.unread() == {"a": 100 * 2**16}

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        runtime.active.clear()
        runtime.uploaded_file_mgr.add_file("a", SimpleNamespace(file_id="late", data=b"x"))  # type: ignore[arg-type]

    told = Told()
    alone(Guard(inside)(request("PUT", "/_stcore/upload_file/a/f", content_length="9"), told.receive, told.send))
    assert not uploads.unread()


def test_an_upload_that_trickles_is_ended(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "GRACE_SECONDS", 0.05)
    told = Told({"type": "http.request", "body": b"x", "more_body": True})

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        while True:
            await receive()

    one = Guard(inside)
    alone(one(request("PUT", "/_stcore/upload_file/a/f", content_length="1000"), told.receive, told.send))
    assert told.sent[0]["status"] == 408
    assert b"KiB a second" in told.sent[1]["body"]
    assert not one.uploads.arriving


def test_an_upload_has_one_length(runtime: Runtime) -> None:
    """A server reads a chunked body to its own end, whatever number stands beside it."""

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        pass

    headers = {"content-length": "1", "transfer-encoding": "chunked"}
    assert alone(answered(Guard(inside), put(**headers)))[0] == 411


def test_an_upload_ends_where_it_said(runtime: Runtime) -> None:
    heard = []

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(3):
            heard.append(len((await receive())["body"]))

    pieces = [{"type": "http.request", "body": bytes(4), "more_body": True}] * 3
    status, words = alone(answered(Guard(inside), put(content_length="8"), *pieces))
    assert (status, words, heard) == (400, "This upload is longer than it said.", [4, 4])


@pytest.mark.parametrize(("rate", "status"), [(10e6 / 8, 200), (200 * 2**10, 408)])
def test_a_large_upload_over_a_slow_line(rate: float, status: int, runtime: Runtime) -> None:
    """400 MiB arrive over 10 Mbit a second; over less they would take the place of others for too long."""
    piece, heard = bytes(2**20), 0

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        nonlocal heard
        while heard < 400:
            await receive()
            heard += 1

    async def act() -> int:
        loop = asyncio.get_running_loop()
        now = loop.time()
        loop.time = lambda: now  # type: ignore[method-assign]

        async def receive() -> dict[str, Any]:
            nonlocal now
            now += len(piece) / rate
            await asyncio.sleep(0)
            return {"type": "http.request", "body": piece, "more_body": True}

        told = Told()
        await Guard(inside)(put(content_length=str(400 * 2**20)), receive, told.send)
        return told.sent[0]["status"] if told.sent else 200

    assert alone(act()) == status
    assert (heard == 400) == (status == 200)


def test_one_person_leaves_uploads_to_others(runtime: Runtime) -> None:
    async def act() -> None:
        one = Guard(never)
        mine = [asyncio.create_task(answered(one, put(file=str(number), content_length="1"))) for number in range(60)]
        await turns()
        refused = [task.result() for task in mine if task.done()]
        assert len(refused) == 40
        assert set(refused) == {(429, "At most 20 files of a person are uploaded at once.")}
        other = asyncio.create_task(answered(one, put("b", content_length="1")))
        await turns()
        assert not other.done()

    alone(act())


def test_a_small_upload_counts_as_more_than_it_holds(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_BYTES_OF_ONE", 2 * uploads.MIN_FILE_BYTES)

    async def act() -> None:
        one = Guard(never)
        tasks = [asyncio.create_task(answered(one, put(content_length="1"))) for _ in range(3)]
        await turns()
        assert [task.done() for task in tasks] == [False, False, True]
        assert tasks[2].result()[0] == 413

    alone(act())


def test_files_that_no_page_reads_make_room(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, and where others need it; one that comes again is no younger."""
    monkeypatch.setattr(uploads, "MAX_BYTES_OF_ALL", 3 * uploads.MIN_FILE_BYTES)
    runtime.active = ["a", "b"]

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        session, file = scope["path"].split("/")[-2:]
        runtime.uploaded_file_mgr.add_file(session, SimpleNamespace(file_id=file, data=b"x"))  # type: ignore[arg-type]

    async def act() -> None:
        one, loop = Guard(inside), asyncio.get_running_loop()
        late, time = 0.0, loop.time
        loop.time = lambda: time() + late  # type: ignore[method-assign]
        for file in ("first", "second"):
            assert (await answered(one, put("a", file, content_length="1")))[0] == 200
        late = 31.0
        assert (await answered(one, put("a", "second", content_length="1")))[0] == 200
        monkeypatch.setattr(uploads, "MAX_BYTES_OF_ALL", 2 * uploads.MIN_FILE_BYTES)
        assert (await answered(one, put("b", content_length="1")))[0] == 503
        late = 61.0
        assert uploads.unread()["a"] == 2 * uploads.MIN_FILE_BYTES
        assert (await answered(one, put("b", content_length="1")))[0] == 200
        assert +uploads.unread() == {"b": uploads.MIN_FILE_BYTES}
        assert (await answered(one, put("a", "third", content_length="1")))[0] == 200
        assert (await answered(one, put("a", "fourth", content_length="1")))[0] == 503

    alone(act())
