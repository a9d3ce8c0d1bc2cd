"""What strangers may send: messages, values, addresses, uploads and connections, each in any number."""

from __future__ import annotations

import asyncio
import errno
import http.client
import inspect
import io
import itertools
import logging
import re
import socket
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import torch
from PIL import Image
from starlette.types import Message, Receive
from streamlit.proto.BackMsg_pb2 import BackendOperationRequest, BackMsg, DeferredFileRequestPayload
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.Common_pb2 import FileURLsRequest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.runtime import runtime_util
from streamlit.runtime.backend_operation_handler import DeferredFileHandler
from streamlit.runtime.media_file_storage import MediaFileStorageError
from streamlit.runtime.memory_session_storage import MemorySessionStorage
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from explorer import guard
from explorer.bench.browser import server
from explorer.bench.hostile import messages
from explorer.bench.visitors import Reader, Visitor, random_links, visit
from explorer.guard import Guard, Line, welcome
from explorer.link import MOST_PROBLEMS, tolerant
from explorer.sharing.store import NoRoomError
from helpers import APP, alone

KEPT = 6
"""Seconds that the server here keeps a session whose connection was lost."""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the server says."""
    return tmp_path_factory.mktemp("server") / "log"


@pytest.fixture(scope="module")
def own(log: Path) -> Iterator[str]:
    """A server that may open 256 files, where the system has such a limit."""
    few = () if sys.platform == "win32" else ("/bin/sh", "-c", 'ulimit -n 256; exec "$@"', "sh")
    with log.open("wb") as file, server(APP, output=file, prefix=few, disconnectedSessionTTL=KEPT) as (address, _):
        yield address


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def get(address: str, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)) as connection:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


async def receiving(socket: ClientConnection) -> AsyncIterator[Any]:
    while True:
        yield await socket.recv()


def stream(address: str) -> str:
    return f"ws://{urlsplit(address).netloc}/_stcore/stream"


# -- sessions -----------------------------------------------------------------------------


async def session_of(socket: ClientConnection) -> str:
    """The id of the session that answers a first message."""
    await socket.send(BackMsg(rerun_script=ClientState()).SerializeToString())
    while True:
        answer = ForwardMsg.FromString(await socket.recv(decode=False))
        if answer.WhichOneof("type") == "new_session":
            return answer.new_session.initialize.session_id


def again(address: str, session: str) -> Any:
    """As a browser comes back to its session."""
    return connect(stream(address), max_size=None, max_queue=None, subprotocols=["streamlit", "PLACEHOLDER", session])  # type: ignore[list-item]


async def reopened(address: str, leave: Callable[[ClientConnection], Any]) -> bool:
    """Whether the same session is there for who leaves and comes back."""
    async with connect(stream(address), max_size=None, max_queue=None) as socket:
        first = await session_of(socket)
        await leave(socket)
    async with again(address, first) as socket:
        return await session_of(socket) == first


async def lose(socket: ClientConnection) -> None:
    socket.transport.abort()


def test_a_lost_connection_finds_its_session_again(own) -> None:
    assert alone(reopened(own, lose))


@pytest.mark.parametrize("code", [1000, 1001])
def test_a_session_ends_with_the_tab(own, code: int) -> None:
    """1001 is what a browser says whose tab is closed, 1000 what a program says."""
    assert not alone(reopened(own, lambda socket: socket.close(code)))


def test_a_visitor_who_is_cut_off_leaves_as_a_browser_does(own) -> None:
    """And not as one whose connection was lost, for whom the server keeps what they brought."""

    async def act() -> bool:
        with suppress(TimeoutError):
            async with visit(own) as visitor:
                raise TimeoutError
        async with again(own, visitor.session) as socket:
            return await session_of(socket) == visitor.session

    assert not alone(act())


class Runtime:
    """Which sessions are connected, and which were closed."""

    def __init__(self) -> None:
        self.active: list[str] = ["a"]
        self.closed: list[str] = []
        self.state = {"a": {"brought": "a picture"}}
        self.fragments = {"a": {"panels": "what draws them"}}
        self.uploaded_file_mgr = guard.MemoryUploadedFileManager("")
        self._session_mgr = SimpleNamespace(
            list_active_sessions=lambda: [self.info(name) for name in self.active], get_session_info=self.info
        )

    def info(self, session: str) -> Any:
        """What Streamlit knows of a session, None where it has ended."""
        if session in self.closed:
            return None
        state, fragments = (kept.setdefault(session, {}) for kept in (self.state, self.fragments))
        return SimpleNamespace(session=SimpleNamespace(id=session, session_state=state, _fragment_storage=fragments))

    def is_active_session(self, session: str) -> bool:
        return session in self.active

    def close_session(self, session: str) -> None:
        self.closed.append(session)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """In the place of Streamlit's."""
    runtime = Runtime()
    monkeypatch.setattr(guard, "get_instance", lambda: runtime)
    monkeypatch.setattr(guard.config, "get_option", lambda name: {"server.disconnectedSessionTTL": 1}[name])
    return runtime


class Told:
    """A server that says what it was told, and the sessions that the store was told to leave."""

    def __init__(self, *messages: Message):
        self.messages, self.sent = list(messages), list[Message]()

    async def receive(self) -> Message:
        if not self.messages:
            await asyncio.Event().wait()
        return self.messages.pop(0)

    async def send(self, message: Message) -> None:
        self.sent.append(message)


def said(message: BackMsg) -> dict[str, Any]:
    return {"type": "websocket.receive", "bytes": message.SerializeToString()}


RERUN = BackMsg(rerun_script=ClientState())


def ended(code: int) -> dict[str, Any]:
    return {"type": "websocket.disconnect", "code": code}


async def talk(receive: Receive) -> list[Message]:
    """What Streamlit hears of a connection until it ends."""
    heard: list[Message] = []
    while not heard or heard[-1]["type"] != "websocket.disconnect":
        heard.append(await receive())
    return heard


@pytest.mark.parametrize(("code", "kept"), [(1000, False), (1001, False), (1009, False), (1005, True), (1006, True)])
def test_a_session_is_let_go(code: int, kept: bool, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, or when the time for coming back is over. What only it used is let go as its connection ends."""
    left: list[str] = []
    monkeypatch.setattr(guard.store.RESULTS, "leave", lambda session, ends=True: left.append(session), raising=False)

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        await talk(receive)
        runtime.active.clear()

    async def act() -> None:
        told = Told({"type": "websocket.connect"}, said(RERUN), ended(code))
        one = Guard(inside)
        await one({"type": "websocket", "subprotocols": []}, told.receive, told.send)
        assert list(one.kept) == ["a"] * kept
        assert runtime.state["a"] or not kept
        assert (left, runtime.closed) == ((["a"], []) if kept else ([], ["a"]))
        for _ in range(3000):
            if left and runtime.closed and not runtime.fragments["a"]:
                break
            await asyncio.sleep(0.01)
        assert (set(left), runtime.closed, list(one.kept)) == ({"a"}, ["a"], [])
        assert (runtime.state["a"], runtime.fragments["a"]) == ({}, {})

    alone(act())


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


def test_a_connection_that_ends_late_takes_nothing_from_the_next(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is connected again when its lost connection is noticed."""
    monkeypatch.setattr(guard.store.RESULTS, "leave", lambda *_, **__: pytest.fail("it is there"), raising=False)

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
        one.end("a")
        assert not runtime.closed
        one.kept["a"] = asyncio.get_running_loop().call_later(60, one.end, "a")
        one.resumed("a")
        assert not one.kept

    alone(act())


# -- messages -----------------------------------------------------------------------------

NAMES = (
    "set_run_on_save",
    "load_git_info",
    "nothing",
    "debug_disconnect_websocket",
    "debug_shutdown_runtime",
    "install_skills",
    "dismiss_skills_nudge",
    "file names",
    "a query",
)
UNSENT = (BackMsg(clear_cache=True), *map(BackMsg.FromString, itemgetter(*NAMES)(messages())))


def test_what_no_browser_sends_is_left_out(own) -> None:
    """Nothing is answered, nothing forgotten, and the connection lasts."""

    async def act() -> None:
        async with visit(own) as visitor:
            await visitor.click("option block", "basic")
            for message in UNSENT:
                await visitor.socket.send(message.SerializeToString())
            await visitor.click("option shortcut", "C")
            assert dict(parse_qsl(visitor.client.query_string)) == {"block": "basic", "shortcut": "C"}
            await visitor.socket.send(BackMsg(app_heartbeat=True).SerializeToString())
            rest = ""
            while rest != "heartbeat_ack":
                rest = ForwardMsg.FromString(await visitor.socket.recv(decode=False)).WhichOneof("type") or ""
                assert rest in ("session_status_changed", "heartbeat_ack")

    alone(act())


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


@pytest.mark.parametrize(("frame", "code"), [("text", 1003), (b"\xff\xff", 1002), (b"\0" * 2**21, 1009)])
def test_what_breaks_the_protocol_ends_the_connection(own, frame: str | bytes, code: int) -> None:
    async def act() -> None:
        async with connect(stream(own), max_size=None) as socket:
            await session_of(socket)
            await socket.send(frame)
            with pytest.raises(ConnectionClosed) as closed:
                [message async for message in receiving(socket)]
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == code

    alone(act())


def test_who_says_nothing_is_sent_away(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "FIRST_WORD", 0.01)

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

    monkeypatch.setattr(guard.asyncio, "sleep", waited)

    async def act() -> None:
        told = Told({"type": "websocket.connect"}, *[said(RERUN)] * 200, ended(1000))
        line = Line(told.receive, told.send, lambda _: None)
        assert len(await talk(line.receive)) == 202

    alone(act())
    assert waits[:40] == [0] * 40  # as many as a page sends at once
    assert waits[-1] > 2


# -- values -------------------------------------------------------------------------------

SELECTIONS = (
    '{"selection": {"points": [{"customdata": null}]}}',
    '{"selection": {"rows": [99999]}}',
    '{"selection": {"rows": ["x"], "points": 5}}',
    '{"selection": 5}',
    "[]",
    '{"chosen": {"a": 1}}',
    '{"chosen": ["a"]}',
    '{"chosen": 5}',
    '{"chosen": [1e999, null]}',
    '{"chosen": "<b>"}',
    "{",
)
VALUES: dict[str, tuple[dict[str, Any], ...]] = {
    "Selectbox": tuple({"string_value": text} for text in ("", "<b>", "\0\u202e", "1e308")),
    "TextInput": tuple({"string_value": text} for text in ("", "<b>", "9" * 5000, "nan")),
    "ButtonGroup": tuple({"string_array_value": {"data": texts}} for texts in ([], ["<b>"], ["a"] * 300)),
    "Slider": tuple({"double_array_value": {"data": numbers}} for numbers in ([], [float("nan")], [1e308])),
    "NumberInput": tuple({"double_value": number} for number in (float("nan"), 1e308, -1)),
    "FileUploader": ({"file_uploader_state_value": {"uploaded_file_info": [{"file_id": "x", "name": "<b>"}]}},),
    "Dataframe": tuple({"string_value": text} for text in SELECTIONS),
    "PlotlyChart": tuple({"string_value": text} for text in SELECTIONS),
    "BidiComponent": tuple({"json_value": text} for text in SELECTIONS),
}
"""Of the kind that a widget takes, by the name of its element."""


@pytest.mark.parametrize("page", ["", "accuracy", "kernels", "inference"])
def test_a_value_that_no_browser_sends(own, page: str) -> None:
    """All widgets of a kind get each value of their own kind at once, then all of the page one of another, and none.

    The page is drawn, without an exception.
    """

    async def act() -> None:
        async with connect(stream(own), max_size=None) as socket:
            visitor = Visitor(socket, page)
            visitor.client.query_string = "preset=resnet20_fashion"
            await visitor.run()
            kinds: dict[str, list[str]] = defaultdict(list)
            for key, one in visitor.widgets.items():
                if getattr(one, "id", "") and not (page and key.startswith(("option ", "preset", "size"))):
                    kinds[type(one).__name__].append(one.id)
            every = list(itertools.chain(*kinds.values()))
            assert len(every) >= 3
            rounds = [
                (ids, value) for name, ids in kinds.items() for value in VALUES.get(name, ({"trigger_value": True},))
            ]
            for ids, value in [*rounds, (every, {"int_value": -1}), (every, {})]:
                await visitor.run(*(WidgetState(id=one, **value) for one in ids))

    alone(act())


# -- links --------------------------------------------------------------------------------

PAGES = {
    "": ("Layers", "Cost", "Ledger", "graphviz"),
    "inference": ("Activations", "Weights", "Receptive field"),
    "compare": ("",),
    "accuracy": ("",),
    "kernels": ("The block", "The 1×1 convolution"),
    "source": ("",),
    "experiments": ("Paths", "Degradation"),
}


def test_links_that_nobody_meant_open(own) -> None:
    """On every page, and on tabs where the link names none; and what they say is shown as text."""
    places = [(page, tab) for page, tabs in PAGES.items() for tab in tabs]

    async def act() -> None:
        for link, (page, tab) in zip(random_links(15), places, strict=False):
            async with connect(stream(own), max_size=None) as socket:
                visitor = Reader(socket, page)
                visitor.client.query_string = link if "tab=" in link or not tab else f"{link}&{urlencode({'tab': tab})}"
                await visitor.run()

    alone(act())


def test_a_link_that_nobody_meant_is_read_in_bounds() -> None:
    """A few short sentences, and a view that reads back."""
    for link in itertools.islice(random_links(5), 500):
        view, problems = tolerant(dict(parse_qsl(link, keep_blank_values=True)))
        assert len(problems) <= MOST_PROBLEMS + 1
        assert max(map(len, problems), default=0) < 1000, link
        assert tolerant(view.to_query()) == (view, [])


# -- requests -----------------------------------------------------------------------------


def test_every_answer_binds_the_browser(own) -> None:
    for path in ("/", "/inference", "/_stcore/health", "/_stcore/metrics", "/static/nothing.js", "/?" + "a" * 40_000):
        answer = get(own, path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "'unsafe-eval'" not in policy
        assert "'unsafe-inline'" not in re.findall(r"script-src [^;]*", policy)[0]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "camera=(self)" in answer.headers["Permissions-Policy"]


def test_what_no_browser_asks_for_is_not_there(own) -> None:
    for path in (
        "/_stcore/metrics",
        "/_stcore/agent/openapi.json",
        "/_stcore/agent/interact",
        "/_stcore/script-health-check",
    ):
        assert get(own, path).status == 404, path


def test_an_endless_address_gets_a_sentence(own) -> None:
    answer = get(own, "/?at=" + "a" * 40_000)
    assert (answer.status, "longer than the 32,768 characters" in answer.body.decode()) == (414, True)


def test_an_upload_says_how_long_it_is_and_whose_it_is(own) -> None:
    """Before a byte of it is read: none is sent here."""
    health = get(own, "/_stcore/health")
    token = re.search(r"_streamlit_xsrf=([^;]+)", health.headers["Set-Cookie"])
    assert token
    ours = {"Content-Type": "multipart/form-data; boundary=x", "Cookie": token[0], "X-Xsrftoken": token[1]}
    path = "/_stcore/upload_file/nobody/file"
    assert get(own, path, "PUT", ours | {"Transfer-Encoding": "chunked"}).status == 411
    assert get(own, path, "PUT", ours | {"Content-Length": "300000000"}).status == 400
    assert get(own, path, "PUT", ours | {"Content-Length": str(2**30)}).status == 413


def request(method: str = "GET", path: str = "/", **headers: str) -> dict[str, Any]:
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": path, "query_string": b"", "headers": given}


def test_uploads_have_a_bound_together(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """What arrives and what waits to be read counts, for one person and for all."""
    monkeypatch.setattr(guard, "UPLOADS_OF_ONE", 100)
    monkeypatch.setattr(guard, "UPLOADS_OF_ALL", 150)
    file = SimpleNamespace(file_id="f", data=bytes(30))
    monkeypatch.setattr(guard, "LEAST", 1)
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
        assert not one.arriving
        assert await upload("a", 70) == 200
        assert len(arrived) == 3

    alone(act())


def test_an_upload_goes_with_its_session(runtime: Runtime) -> None:
    """Also where the session ends while it is on its way; and many small files count as more than they hold."""
    for number in range(100):
        runtime.uploaded_file_mgr.add_file("a", SimpleNamespace(file_id=str(number), data=b""))  # type: ignore[arg-type]
    assert guard.unread() == {"a": 100 * 2**16}

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        runtime.active.clear()
        runtime.uploaded_file_mgr.add_file("a", SimpleNamespace(file_id="late", data=b"x"))  # type: ignore[arg-type]

    told = Told()
    alone(Guard(inside)(request("PUT", "/_stcore/upload_file/a/f", content_length="9"), told.receive, told.send))
    assert not guard.unread()


def test_an_upload_that_trickles_is_ended(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PATIENCE", 0.05)
    told = Told({"type": "http.request", "body": b"x", "more_body": True})

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        while True:
            await receive()

    one = Guard(inside)
    alone(one(request("PUT", "/_stcore/upload_file/a/f", content_length="1000"), told.receive, told.send))
    assert told.sent[0]["status"] == 408
    assert b"KiB a second" in told.sent[1]["body"]
    assert not one.arriving


# -- room ---------------------------------------------------------------------------------


def test_a_full_server_says_so(runtime: Runtime) -> None:
    """To a page, in a sentence, and to a connection; the oldest of those who were lost makes room."""

    async def act() -> None:
        async def inside(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "entered"})

        one = Guard(inside)
        one.open = one.most_sessions
        page, connection, script = Told(), Told(), Told()
        await one(request(accept="text/html,*/*"), page.receive, page.send)
        assert (page.sent[0]["status"], b"there is no room" in page.sent[1]["body"]) == (503, True)
        await one({"type": "websocket", "subprotocols": []}, connection.receive, connection.send)
        assert connection.sent == [{"type": "websocket.close", "code": 1013}]
        await one(request(path="/static/index.js", accept="*/*"), script.receive, script.send)
        assert script.sent == [{"type": "entered"}]

        runtime.active, one.open = [], one.most_sessions - 2
        for name in ("old", "young"):
            one.kept[name] = asyncio.get_running_loop().call_later(60, one.end, name)
        back, fresh = Told(), Told()
        await one({"type": "websocket", "subprotocols": ["streamlit", "x", "young"]}, back.receive, back.send)
        assert (back.sent, runtime.closed) == ([{"type": "entered"}], [])
        await one({"type": "websocket", "subprotocols": []}, fresh.receive, fresh.send)
        assert (fresh.sent, runtime.closed) == ([{"type": "entered"}], ["old"])
        one.resumed("young")

    alone(act())


def test_no_files_left_is_said_once_a_minute() -> None:
    class Loop:
        now, said = 100.0, 0

        def time(self) -> float:
            return self.now

        def default_exception_handler(self, context: dict[str, Any]) -> None:
            self.said += 1

    loop, handle = Loop(), guard.once_a_minute()
    for now, error, count in (
        (100, errno.EMFILE, 1),
        (130, errno.EMFILE, 1),
        (131, errno.EPERM, 2),
        (161, errno.ENFILE, 3),
    ):
        loop.now = now
        handle(loop, {"exception": OSError(error, "")})  # type: ignore[arg-type]
        assert loop.said == count


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of open files there")
def test_few_files_and_many_visitors(own, log: Path) -> None:
    """Some of 300 connections are refused, the log stays short, and then the server answers as before."""

    async def act() -> int:
        refused, sockets = 0, []
        for _ in range(300):
            try:
                sockets.append(await connect(stream(own), max_size=None))
                await sockets[-1].send(RERUN.SerializeToString())
            except InvalidStatus:
                refused += 1
        silent = []
        for _ in range(300):
            with suppress(OSError):
                silent.append(socket.create_connection(("127.0.0.1", urlsplit(own).port or 0), timeout=5))
        await asyncio.sleep(2)
        for one in silent:
            one.close()
        for connection in sockets:
            connection.transport.abort()
        return refused

    assert alone(act()) > 200

    async def afterwards() -> None:
        async with visit(own) as visitor:
            assert await visitor.click("option block", "basic")

    alone(afterwards())
    assert log.stat().st_size < 1e6


# -- in a browser -------------------------------------------------------------------------

SHOWN = "<img src=x onerror=alert(1)> **b** $x^2$ :red[r] [a](b.example) `c` <b>d</b>"
DRAWN = (
    "img[src='x'], .katex, a[href$='b.example'], span[class*='colored'], "
    "[data-testid=stAlert] :is(strong, em, code, b), [data-testid=stCaptionContainer] :is(strong, b), .tiles :is(img, b)"
)
"""What the same text would become if it were drawn."""


def plain(visitor: Any, text: str = "<img src=x onerror=alert(1)>") -> None:
    """The page shows the text, and nothing that it would become."""
    assert text in visitor.page.locator("body").inner_text().replace("\u2060", "")
    assert not visitor.page.locator(DRAWN).count()
    assert not visitor.page.evaluate("document.querySelectorAll('[onerror], script:not([src]):not(:empty)').length > 1")


@pytest.mark.browser
def test_what_others_wrote_is_shown_as_text(visit, tmp_path: Path) -> None:
    """In a link, a typed preset and option, the names of a picture, of a checkpoint and of its tensors."""
    visit.page.on("dialog", lambda dialog: visit.errors.append(dialog.message))
    places = ("tab", "at", "weights", "picture", "class", SHOWN, "norm")
    query = {"preset": "resnet20_fashion"} | dict.fromkeys(places, SHOWN)
    for page in ("/", "/inference"):
        visit.open(f"{page}?{urlencode(query)}")
        plain(visit)
    visit.type("Blocks per stage", SHOWN)
    plain(visit)
    preset = visit.sidebar.get_by_role("combobox", name="Preset")
    preset.fill(SHOWN)
    preset.press("Enter")
    visit.wait()
    plain(visit)
    assert preset.input_value() == SHOWN

    visit.open("/inference?preset=resnet20_fashion").pick("basic")
    page = visit.page
    page.get_by_role("radio", name="Upload").click()
    visit.wait()
    name = SHOWN.replace("/", "")  # which no file name has
    stream = io.BytesIO()
    Image.new("RGB", (40, 40), "red").save(stream, "PNG")
    uploader = page.locator(".st-key-picture").get_by_test_id("stFileUploader").locator("input[type=file]").first
    uploader.set_input_files({"name": f"{name}.png", "mimeType": "image/png", "buffer": stream.getvalue()})
    page.get_by_test_id("stImageCaption").filter(has_text="onerror").wait_for()
    plain(visit.wait())

    stream = io.BytesIO()
    torch.save({SHOWN: torch.ones(3)}, stream)
    page.locator(".st-key-own-checkpoint summary").click()
    visit.wait()
    uploader = page.locator(".st-key-own-checkpoint input[type=file]")
    uploader.set_input_files(
        {"name": f"{name}.pt", "mimeType": "application/octet-stream", "buffer": stream.getvalue()}
    )
    page.get_by_test_id("stAlert").filter(has_text="onerror").first.wait_for()
    plain(visit.wait())


@pytest.mark.browser
def test_the_policy_holds(visit) -> None:
    """No script of the page's own text, nothing from elsewhere; what the camera's picture and our own scripts come by is open."""
    page = visit.open("/source?tab=note-why-3x3").page
    page.wait_for_function("() => Math.abs(document.getElementById('note-why-3x3')?.getBoundingClientRect().top) < 300")
    assert not visit.errors
    done = page.evaluate(
        """async () => {
            const script = document.createElement('script');
            script.textContent = 'window.ran = 1';
            document.body.append(script);
            const picture = new Image();
            const elsewhere = new Promise((done) => { picture.onload = () => done('seen'); picture.onerror = () => done('blocked'); });
            picture.src = 'http://elsewhere.example/x.png';
            let fetched = 'blocked';
            try { await fetch('http://elsewhere.example/'); fetched = 'seen' } catch {}
            return [window.ran ?? 'blocked', await elsewhere, fetched, await (await fetch('data:text/plain,camera')).text()];
        }"""
    )
    assert done == ["blocked"] * 3 + ["camera"]
    assert len(visit.errors) >= 3
    visit.errors.clear()


# -- what is on its way -------------------------------------------------------------------


def put(session: str = "a", file: str = "f", **headers: str) -> dict[str, Any]:
    return request("PUT", f"/_stcore/upload_file/{session}/{file}", **headers)


async def answered(one: Guard, scope: dict[str, Any], *messages: dict[str, Any]) -> tuple[int, str]:
    """The status and the text that a request is answered with; 200 where the app inside said nothing."""
    told = Told(*messages)
    await one(scope, told.receive, told.send)
    return (told.sent[0]["status"], told.sent[1]["body"].decode()) if told.sent else (200, "")


async def never(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


async def turns() -> None:
    """Whatever can go on does so."""
    for _ in range(20):
        await asyncio.sleep(0)


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
    monkeypatch.setattr(guard, "UPLOADS_OF_ONE", 2 * guard.LEAST)

    async def act() -> None:
        one = Guard(never)
        tasks = [asyncio.create_task(answered(one, put(content_length="1"))) for _ in range(3)]
        await turns()
        assert [task.done() for task in tasks] == [False, False, True]
        assert tasks[2].result()[0] == 413

    alone(act())


def test_files_that_no_page_reads_make_room(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, and where others need it; one that comes again is no younger."""
    monkeypatch.setattr(guard, "UPLOADS_OF_ALL", 3 * guard.LEAST)
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
        monkeypatch.setattr(guard, "UPLOADS_OF_ALL", 2 * guard.LEAST)
        assert (await answered(one, put("b", content_length="1")))[0] == 503
        late = 61.0
        assert guard.unread()["a"] == 2 * guard.LEAST
        assert (await answered(one, put("b", content_length="1")))[0] == 200
        assert +guard.unread() == {"b": guard.LEAST}
        assert (await answered(one, put("a", "third", content_length="1")))[0] == 200
        assert (await answered(one, put("a", "fourth", content_length="1")))[0] == 503

    alone(act())


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
    monkeypatch.setattr(guard, "PATIENCE", 0.05)

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


def test_no_more_lost_sessions_are_kept_than_streamlit_keeps(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its number Streamlit forgets one without a word: it could not come back, and nothing would end it."""
    room = inspect.signature(MemorySessionStorage).parameters["maxsize"].default
    monkeypatch.setattr(guard.config, "get_option", lambda name: 60)

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        await talk(receive)
        runtime.active.clear()

    async def act() -> None:
        one = Guard(inside)
        for number in range(room + 20):
            runtime.active = [str(number)]
            told = Told({"type": "websocket.connect"}, said(RERUN), ended(1006))
            await one({"type": "websocket", "subprotocols": []}, told.receive, told.send)
        assert len(one.kept) < room
        assert [*runtime.closed, *one.kept] == [str(number) for number in range(room + 20)]

    alone(act())


def test_a_message_is_refused_before_it_is_there(own) -> None:
    """By the length that its first bytes announce; what goes out may have more."""

    async def act() -> int | None:
        async with connect(stream(own), max_size=None) as socket:
            await session_of(socket)
            socket.transport.write(b"\x82" + bytes([0x80 | 127]) + (48_000_000).to_bytes(8, "big") + bytes(4))
            with pytest.raises(ConnectionClosed) as closed:
                async with asyncio.timeout(30):
                    [message async for message in receiving(socket)]
            return closed.value.rcvd.code if closed.value.rcvd else None

    assert alone(act()) == 1009


def test_a_message_to_a_browser_may_be_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_util, "_max_message_size_bytes", 10**6)
    Guard(never)
    assert runtime_util.get_max_message_size_bytes() == 50 * 10**6
