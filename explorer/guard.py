"""What stands between the server and strangers: one ASGI middleware around Streamlit.

It adds the headers that bind a browser, lets only such messages through as a browser of this app sends, ends sessions
as soon as they are left, and bounds connections, addresses and uploads.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config, file_util
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.runtime import get_instance, runtime_util
from streamlit.runtime.backend_operation_handler import DeferredFileHandler
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import ScriptRunner
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData
from streamlit.runtime.state.session_state import Serialized, Value, WStates

from resnet import confined

from .sharing import store
from .sharing.holdings import NoRoomError
from .sharing.scheduler import PAGES
from .sharing.tidying import tidy

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

# -- limits -------------------------------------------------------------------------------

MOST_ADDRESS = 2**15
"""Characters of an address."""
MOST_MESSAGE, MOST_FILES, MOST_WIDGETS = 2**20, 1000, 1000
"""Bytes of a message, and the files and widgets that it may name."""
MOST_OUTGOING = 50_000_000
"""Bytes of a message to a browser."""
PACE, BURST = 0.02, 1.0
"""Seconds from one message of a connection to the next, and the seconds that messages may come ahead of it."""
FIRST_WORD, LAST_RUN = 30.0, 60.0
"""Seconds in which a connection has to ask for a page, and after which a session's last run has ended."""
UPLOADS_OF_ONE, UPLOADS_OF_ALL, LEAST = 512 * 2**20, 2**30, 2**16
"""Bytes of uploads that are on their way or not read yet, and those that each file counts at least."""
AT_ONCE = 20
"""Uploads of one session on their way."""
UNREAD = 60.0
"""Seconds after which a file that no page has read goes where others need its room."""
PATIENCE, SLOWEST = 30.0, 256 * 2**10
"""Seconds that an upload has, and the bytes that it must bring in each second after them; a request waits as long."""
LONGEST_ANSWER = 300.0
"""Seconds that somebody may take to read an answer."""
MOST_KEPT = 100
"""Sessions whose connection was lost: Streamlit keeps 128, and forgets the oldest without a word where more are lost."""
SPARE, OF_SESSION, OF_REQUEST = 96, 4, 2
"""File descriptors of the process itself, of a session (its socket and its event loop) and of a request."""


def most_sessions_and_requests() -> tuple[int, int]:
    """How many sessions, and how many requests and uploads at once, the process has file descriptors for.

    At most 200 and 100; where the system lets it, the process takes as many descriptors as these need.
    """
    sessions, requests = 200, 100
    if resource is None:
        return sessions, requests
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = SPARE + sessions * OF_SESSION + 2 * requests * OF_REQUEST
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
        free = soft - SPARE
        requests = max(8, min(requests, free // 8 // OF_REQUEST))
        sessions = max(8, min(sessions, (free - 2 * requests * OF_REQUEST) // OF_SESSION))
    return sessions, requests


# -- headers ------------------------------------------------------------------------------


def headers(page: str) -> list[tuple[bytes, bytes]]:
    """What is sent with every answer; `page` is Streamlit's HTML, whose own scripts are allowed by what they are.

    A component's script arrives as text, which the page loads from a blob. graphviz is WebAssembly. A camera's picture is
    fetched from an address that holds it. The styles of Streamlit, plotly and our SVG are written into the page.
    """
    own = (
        b64encode(sha256(script.encode()).digest()).decode()
        for script in re.findall(r"(?s)<script>(.*?)</script>", page)
    )
    policy = {
        "default-src": "'none'",
        "script-src": " ".join(["'self'", "blob:", "'wasm-unsafe-eval'", *(f"'sha256-{one}'" for one in own)]),
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": "'self' data:",
        "frame-ancestors": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    sent = {
        "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
    }
    return [(name.lower().encode(), value.encode()) for name, value in sent.items()]


# -- messages -----------------------------------------------------------------------------

OPERATIONS = {"deferred_file", "dataframe_chunk"}


def welcome(message: BackMsg) -> bool:
    """Whether a browser of this app sends such a message."""
    kind = message.WhichOneof("type")
    if kind == "rerun_script":
        asked = message.rerun_script
        return len(asked.query_string) <= MOST_ADDRESS and len(asked.widget_states.widgets) <= MOST_WIDGETS
    if kind == "file_urls_request":
        return len(message.file_urls_request.file_names) <= MOST_FILES
    if kind == "backend_operation_request":
        return message.backend_operation_request.WhichOneof("payload") in OPERATIONS
    return kind in ("stop_script", "app_heartbeat")


_read = WStates.__getitem__


def read_or_default(states: WStates, widget: str) -> Any:
    """A widget's value; one that no browser sends counts as none, which is the widget's default.

    Streamlit reads whatever came, and the page would end in the traceback of what it met. None of our lists that start
    with a choice can be emptied.
    """
    state, metadata = states.states.get(widget), states.widget_metadata.get(widget)
    if not isinstance(state, Serialized) or metadata is None:
        return _read(states, widget)
    if state.value.WhichOneof("value") in (None, metadata.value_type):
        with suppress(Exception):
            value = _read(states, widget)
            if value is not None:
                return value
    states.states[widget] = Value(metadata.deserializer(None))
    return _read(states, widget)


# -- the middleware -----------------------------------------------------------------------

ROUTES = ("health", "host-config", "upload_file/")
"""What of Streamlit's own a browser asks for."""
LOST = {1005, 1006, 1011}
"""How a connection closes that nobody meant to close: without a word, or because nothing answered."""
PROTOCOL_ERROR, NO_TEXT, REFUSED, TOO_LARGE, COME_BACK = 1002, 1003, 1008, 1009, 1013


_run, _look = ScriptRunner._run_script, ScriptRunner._maybe_handle_execution_control_request


def run_in_turn(runner: ScriptRunner, asked: RerunData) -> None:
    """Draw a page, or a part of it, when the scheduler says so."""
    PAGES.rest(runner._session_id)
    with PAGES.place(runner._session_id):
        _run(runner, asked)


def look_and_breathe(runner: ScriptRunner) -> None:
    """What Streamlit does wherever a script can be interrupted, where it can wait for others, too."""
    _look(runner)
    PAGES.breathe()


def is_a_fault(record: logging.LogRecord) -> bool:
    """Whether the log is told of an error: not of a download that finds no room, whose traceback takes longer to write
    than others wait for a click."""
    error = record.exc_info[1] if record.exc_info else None
    while error:
        if isinstance(error, NoRoomError | TimeoutError):
            return False
        error = error.__cause__ or error.__context__
    return True


class Guard:
    """The app `inside`, and what is kept from it.

    `open` counts the connections, `requests` bounds what is answered at once and `most_uploads` what arrives; `kept` are
    the sessions whose connection was lost, oldest first, each with the timer that ends it; `arriving` are the uploads on
    their way, each by its session and the bytes that it counts; `since` says when a file came that may not be read yet.
    """

    def __init__(self, inside: ASGIApp):
        WStates.__getitem__ = read_or_default  # type: ignore[method-assign]
        ScriptRunner._run_script = run_in_turn  # type: ignore[method-assign, assignment]
        ScriptRunner._maybe_handle_execution_control_request = look_and_breathe  # type: ignore[method-assign, assignment]
        confined.aside = PAGES.aside
        logging.getLogger(DeferredFileHandler.__module__).addFilter(is_a_fault)
        # Streamlit has one limit for both directions; the server has taken the option's small one for what comes in.
        runtime_util._max_message_size_bytes = MOST_OUTGOING
        self.inside = inside
        self.headers = headers(Path(file_util.get_static_dir(), "index.html").read_text(encoding="utf-8"))
        self.most_sessions, self.most_uploads = most_sessions_and_requests()
        self.requests = asyncio.Semaphore(self.most_uploads)
        self.open = 0
        self.kept: dict[str, asyncio.TimerHandle] = {}
        self.arriving: list[tuple[str, int]] = []
        self.since: dict[tuple[str, str], float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self.connection(scope, receive, send)
        else:
            asyncio.get_running_loop().set_exception_handler(once_a_minute())
            await self.inside(scope, receive, send)

    # -- requests -------------------------------------------------------------------------

    async def request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or say in a sentence why not."""
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message.get("headers", ()), *self.headers]}
            else:
                place.close()  # who reads slowly takes no place from others
            await send(message)

        with ExitStack() as place:
            try:
                await self.let_in(scope, receive, answer, place)
            except HTTPException as refusal:
                await PlainTextResponse(refusal.detail, refusal.status_code)(scope, receive, answer)
            except Exception:
                if not started:  # Starlette's own answer would lack our headers
                    await PlainTextResponse("Something went wrong in the server.", 500)(scope, receive, answer)
                raise

    async def let_in(self, scope: Scope, receive: Receive, send: Send, place: ExitStack) -> None:
        """Hand a request on, once there is a place for it, which `place` gives back; or raise HTTPException."""
        given = dict(scope["headers"])
        route = scope["path"].partition("/_stcore/")[2]
        if len(scope["path"]) + len(scope["query_string"]) > MOST_ADDRESS:
            raise HTTPException(414, f"This address is longer than the {MOST_ADDRESS:,} characters that the app takes.")
        if route and not route.startswith(ROUTES):
            raise HTTPException(404, "There is nothing here.")
        if b"text/html" in given.get(b"accept", b"") and not self.room():
            raise HTTPException(503, "So many people are here that there is no room; try again in a minute.")
        if scope["method"] == "PUT" and route.startswith("upload_file/"):
            await self.upload(scope, announced(given), receive, send)
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await self.requests.acquire()
        except TimeoutError:
            raise HTTPException(
                503, "The server has too much to answer at the moment; try again in a minute."
            ) from None
        place.callback(self.requests.release)
        with suppress(TimeoutError):  # who reads so slowly gets no more
            async with asyncio.timeout(LONGEST_ANSWER):
                await self.inside(scope, receive, send)

    async def upload(self, scope: Scope, size: int, receive: Receive, send: Send) -> None:
        """Let an upload in where there is room for all of it, as long as it comes fast enough."""
        session, file = scope["path"].split("/")[-2:]
        upload = session, max(size, LEAST)
        if self.full(upload):
            self.forget_unread()
        if refusal := self.full(upload):
            raise refusal
        clock = asyncio.get_running_loop().time
        start, here = clock(), 0

        async def part() -> Message:
            nonlocal here
            try:
                async with asyncio.timeout_at(start + PATIENCE + here / SLOWEST):
                    message = await receive()
            except TimeoutError:
                words = f"This upload was ended, as it brought less than {SLOWEST >> 10} KiB a second."
                raise HTTPException(408, words) from None
            here += len(message.get("body", b""))
            if here > size:
                raise HTTPException(400, "This upload is longer than it said.")
            return message

        self.arriving.append(upload)
        try:
            with suppress(ClientDisconnect):  # nobody is there to be answered
                await self.inside(scope, part, send)
        finally:
            self.arriving.remove(upload)
            files = manager().file_storage
            self.since = {key: time for key, time in self.since.items() if key[1] in files.get(key[0], ())}
            self.since.setdefault((session, file), clock())
            if session not in self.kept and not get_instance().is_active_session(session):  # it ended meanwhile
                manager().remove_session_files(session)

    def full(self, upload: tuple[str, int]) -> HTTPException | None:
        """Why there is no room for an upload, beside those on their way and the files that no page has read."""
        session, size = upload
        taken = unread()
        for one, counted in self.arriving:
            taken[one] += counted
        if sum(one == session for one, _ in self.arriving) >= AT_ONCE:
            return HTTPException(429, f"At most {AT_ONCE} files of a person are uploaded at once.")
        if taken[session] + size > UPLOADS_OF_ONE:
            return HTTPException(413, f"At most {UPLOADS_OF_ONE >> 20} MiB of a person's files can wait to be read.")
        if len(self.arriving) >= self.most_uploads or taken.total() + size > UPLOADS_OF_ALL:
            return HTTPException(503, "Many files are being uploaded at the moment; try again in a minute.")
        return None

    def forget_unread(self) -> None:
        """Let go of the files that no page has read for long."""
        for key, time in self.since.items():
            if time < asyncio.get_running_loop().time() - UNREAD:
                manager().remove_file(*key)

    # -- connections ----------------------------------------------------------------------

    def room(self) -> bool:
        """Whether there is room for one more session; of those whose connection was lost the oldest makes some."""
        if self.open + len(self.kept) >= self.most_sessions and self.kept:
            self.end(next(iter(self.kept)))
        return self.open + len(self.kept) < self.most_sessions

    async def connection(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one browser talk to Streamlit; its session ends with it, or some time after its connection was lost.

        Meanwhile it holds what the person brought, and little of what was made of that.
        """
        if self.kept.keys().isdisjoint(scope["subprotocols"]) and not self.room():
            await send({"type": "websocket.close", "code": COME_BACK})
            return
        line = Line(receive, send, self.resumed)
        self.open += 1
        try:
            await self.inside(scope, line.receive, line.send)
        finally:
            self.open -= 1
            if line.session:
                self.resumed(line.session)
                if line.code in LOST:
                    if not get_instance().is_active_session(line.session):
                        store.RESULTS.leave(line.session, ends=False)  # should it come back, they are made again
                    # Streamlit looks for what is too old only when the next session is lost: so a second earlier.
                    delay = max(0, config.get_option("server.disconnectedSessionTTL") - 1)
                    self.kept[line.session] = asyncio.get_running_loop().call_later(delay, self.end, line.session)
                    if len(self.kept) > MOST_KEPT:
                        self.end(next(iter(self.kept)))
                else:
                    self.end(line.session)

    def resumed(self, session: str) -> None:
        """A session has a connection, so that no timer ends it."""
        if timer := self.kept.pop(session, None):
            timer.cancel()

    def end(self, session: str) -> None:
        """Let go of a session and of what only it used, where it has no connection."""
        self.resumed(session)
        if get_instance().is_active_session(session):
            return
        known = get_instance()._session_mgr.get_session_info(session)
        get_instance().close_session(session)

        def let_go() -> None:
            store.RESULTS.leave(session)
            if known:  # else what the person brought stays until Python finds that the session is garbage
                known.session.session_state.clear()
                known.session._fragment_storage.clear()

        loop = asyncio.get_running_loop()
        for delay in (0, LAST_RUN):  # a run of its script may be under way
            loop.call_later(delay, let_go)
        tidy()


class Line:
    """A connection as Streamlit sees it: only what a browser of this app says comes through.

    `session` is the session that it belongs to, empty before there is one, `code` says how it was closed.
    """

    def __init__(self, receive: Receive, send: Send, resumed: Callable[[str], None]):
        self._receive, self._send, self._resumed = receive, send, resumed
        self._asked = self._accepted = False
        self._due = 0.0
        self.session, self.code = "", 1000

    async def send(self, message: Message) -> None:
        if message["type"] == "websocket.close":
            self.code = message.get("code", self.code)
        await self._send(message)

    async def close(self, code: int) -> Message:
        await self.send({"type": "websocket.close", "code": code})
        return {"type": "websocket.disconnect", "code": code}

    async def receive(self) -> Message:
        """What the browser says next. Other messages are left out; what breaks the protocol ends the connection."""
        if not self._accepted:  # Streamlit makes the session before it listens for a second time
            self._accepted = True
            return await self._receive()
        if not self.session:
            # Streamlit tells the id only to the browser, and only when the first run starts.
            self.session = get_instance()._session_mgr.list_active_sessions()[-1].session.id
            self._resumed(self.session)
        while True:
            try:
                async with asyncio.timeout(None if self._asked else FIRST_WORD):
                    message = await self._receive()
            except TimeoutError:
                return await self.close(REFUSED)
            if message["type"] == "websocket.disconnect":
                self.code = message["code"]
                return message
            data = message.get("bytes")
            if data is None:
                return await self.close(NO_TEXT)
            if len(data) > MOST_MESSAGE:
                return await self.close(TOO_LARGE)
            try:
                said = BackMsg.FromString(data)
            except DecodeError:
                return await self.close(PROTOCOL_ERROR)
            await self._pace()
            if welcome(said):
                self._asked = True
                return message

    async def _pace(self) -> None:
        """Wait where messages come faster than a person clicks."""
        now = asyncio.get_running_loop().time()
        self._due = max(self._due, now) + PACE
        await asyncio.sleep(max(0.0, self._due - now - BURST))


def manager() -> MemoryUploadedFileManager:
    uploads = get_instance().uploaded_file_mgr
    assert isinstance(uploads, MemoryUploadedFileManager)
    return uploads


def unread() -> Counter[str]:
    """Bytes of uploads that Streamlit holds for each session: its script has not read them yet."""
    sessions = list(manager().file_storage.items())
    return Counter(
        {session: sum(max(len(one.data), LEAST) for one in list(files.values())) for session, files in sessions}
    )


def announced(given: dict[bytes, bytes]) -> int:
    """Bytes that an upload says it has, by its headers; HTTPException where it does not say so.

    With "Transfer-Encoding" the body ends where it says itself, whatever "Content-Length" says beside it.
    """
    length = given.get(b"content-length", b"")
    if b"transfer-encoding" in given or not re.fullmatch(rb"[0-9]{1,12}", length):
        raise HTTPException(411, "An upload has to say how long it is.")
    return int(length)


def once_a_minute() -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """A handler of the event loop's errors, which would say thousands of times a second that no file can be opened."""
    last = -math.inf

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal last
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            if loop.time() < last + 60:
                return
            last = loop.time()
        loop.default_exception_handler(context)

    return handle
