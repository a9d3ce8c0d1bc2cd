"""Uploads: how many at once, how fast, and how much of them may wait to be read."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

MAX_BYTES_OF_ONE, MAX_BYTES_OF_ALL, MIN_FILE_BYTES = 512 * 2**20, 2**30, 2**16
"""Bytes of uploads that are on their way or not read yet, and those that each file counts at least."""
MAX_FILES_OF_ONE = 20
"""Uploads of one session on their way."""
UNREAD_SECONDS = 60.0
"""After which a file that no page has read goes where others need its room."""
GRACE_SECONDS, MIN_BYTES_PER_SECOND = 30.0, 256 * 2**10
"""What an upload has at first, and the bytes that it must bring in each second after that."""


class Uploads:
    """At most `most` uploads at once, of sessions of which `is_there` says whether they have not ended.

    `arriving` are those on their way, each by its session and the bytes that it counts; `since` says when a file came that
    may not be read yet.
    """

    def __init__(self, most: int, is_there: Callable[[str], bool]):
        self.most, self.is_there = most, is_there
        self.arriving: list[tuple[str, int]] = []
        self.since: dict[tuple[str, str], float] = {}

    async def let_in(self, inside: ASGIApp, scope: Scope, size: int, receive: Receive, send: Send) -> None:
        """Hand an upload of `size` bytes on to the app `inside`, where there is room for it, as long as it comes fast enough.

        Raises:
            HTTPException: where there is no room, or it comes too slowly, or is longer than it said.
        """
        session, file = scope["path"].split("/")[-2:]
        upload = session, max(size, MIN_FILE_BYTES)
        if self.full(upload):
            self.forget_unread()
        if refusal := self.full(upload):
            raise refusal
        clock = asyncio.get_running_loop().time
        start, here = clock(), 0

        async def part() -> Message:
            nonlocal here
            try:
                async with asyncio.timeout_at(start + GRACE_SECONDS + here / MIN_BYTES_PER_SECOND):
                    message = await receive()
            except TimeoutError:
                words = f"This upload was ended, as it brought less than {MIN_BYTES_PER_SECOND >> 10} KiB a second."
                raise HTTPException(408, words) from None
            here += len(message.get("body", b""))
            if here > size:
                raise HTTPException(400, "This upload is longer than it said.")
            return message

        self.arriving.append(upload)
        try:
            with suppress(ClientDisconnect):  # nobody is there to be answered
                await inside(scope, part, send)
        finally:
            self.arriving.remove(upload)
            files = manager().file_storage
            self.since = {key: time for key, time in self.since.items() if key[1] in files.get(key[0], ())}
            self.since.setdefault((session, file), clock())
            if not self.is_there(session):  # it ended meanwhile
                manager().remove_session_files(session)

    def full(self, upload: tuple[str, int]) -> HTTPException | None:
        """Why there is no room for an upload, beside those on their way and the files that no page has read."""
        session, size = upload
        taken = unread()
        for one, counted in self.arriving:
            taken[one] += counted
        if sum(one == session for one, _ in self.arriving) >= MAX_FILES_OF_ONE:
            return HTTPException(429, f"At most {MAX_FILES_OF_ONE} files of a person are uploaded at once.")
        if taken[session] + size > MAX_BYTES_OF_ONE:
            return HTTPException(413, f"At most {MAX_BYTES_OF_ONE >> 20} MiB of a person's files can wait to be read.")
        if len(self.arriving) >= self.most or taken.total() + size > MAX_BYTES_OF_ALL:
            return HTTPException(503, "Many files are being uploaded at the moment; try again in a minute.")
        return None

    def forget_unread(self) -> None:
        """Let go of the files that no page has read for long."""
        for key, time in self.since.items():
            if time < asyncio.get_running_loop().time() - UNREAD_SECONDS:
                manager().remove_file(*key)


def manager() -> MemoryUploadedFileManager:
    uploads = runtime.get_instance().uploaded_file_mgr
    assert isinstance(uploads, MemoryUploadedFileManager)
    return uploads


def unread() -> Counter[str]:
    """Bytes of uploads that Streamlit holds for each session: its script has not read them yet."""
    sessions = list(manager().file_storage.items())
    return Counter(
        {
            session: sum(max(len(one.data), MIN_FILE_BYTES) for one in list(files.values()))
            for session, files in sessions
        }
    )


def announced(given: dict[bytes, bytes]) -> int:
    """Bytes that an upload says it has, by its headers; HTTPException where it does not say so.

    With "Transfer-Encoding" the body ends where it says itself, whatever "Content-Length" says beside it.
    """
    length = given.get(b"content-length", b"")
    if b"transfer-encoding" in given or not re.fullmatch(rb"[0-9]{1,12}", length):
        raise HTTPException(411, "An upload has to say how long it is.")
    return int(length)
