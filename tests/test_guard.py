"""What strangers may send to a server of our own: messages, values, addresses, uploads and connections, in any number."""

from __future__ import annotations

import asyncio
import http.client
import io
import itertools
import re
import socket
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import torch
from PIL import Image
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from explorer.bench.browser import server
from explorer.bench.links import Reader, random_links
from explorer.bench.visitors import Visitor, visit
from explorer.link import MAX_PROBLEMS, tolerant
from helpers import APP, alone
from strangers import RERUN, UNSENT

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


# -- messages -----------------------------------------------------------------------------


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


@pytest.mark.parametrize("page", ["", "choose", "kernels", "inference"])
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
    "architecture": ("Layers", "Cost", "MACs and other tools' counts", "graphviz"),
    "inference": ("Maps", "Weights", "Receptive field"),
    "choose": ("", "Latency"),
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
        assert len(problems) <= MAX_PROBLEMS + 1
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


# -- room ---------------------------------------------------------------------------------


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
    """In a link, a typed preset and option, the names of an image, of a checkpoint and of its tensors."""
    visit.page.on("dialog", lambda dialog: visit.errors.append(dialog.message))
    places = ("tab", "at", "weights", "image", "class", SHOWN, "norm")
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
    uploader = page.locator(".st-key-below").get_by_test_id("stFileUploader").locator("input[type=file]").first
    uploader.set_input_files({"name": f"{name}.png", "mimeType": "image/png", "buffer": stream.getvalue()})
    page.locator(".st-key-seen").get_by_text("onerror").wait_for()
    plain(visit.wait())

    stream = io.BytesIO()
    torch.save({SHOWN: torch.ones(3)}, stream)
    visit.weights_card()
    uploader = page.locator(".st-key-own-checkpoint input[type=file]")
    uploader.set_input_files(
        {"name": f"{name}.pt", "mimeType": "application/octet-stream", "buffer": stream.getvalue()}
    )
    page.get_by_test_id("stAlert").filter(has_text="onerror").first.wait_for()
    plain(visit.wait())


@pytest.mark.browser
def test_the_policy_holds(visit) -> None:
    """No script of the page's own text, nothing from elsewhere; what the camera's image and our own scripts come by is open."""
    page = visit.open("/source?tab=note-why-3x3").page
    page.wait_for_function("() => Math.abs(document.getElementById('note-why-3x3')?.getBoundingClientRect().top) < 300")
    assert not visit.errors
    done = page.evaluate(
        """async () => {
            const script = document.createElement('script');
            script.textContent = 'window.ran = 1';
            document.body.append(script);
            const image = new Image();
            const elsewhere = new Promise((done) => { image.onload = () => done('seen'); image.onerror = () => done('blocked'); });
            image.src = 'http://elsewhere.example/x.png';
            let fetched = 'blocked';
            try { await fetch('http://elsewhere.example/'); fetched = 'seen' } catch {}
            return [window.ran ?? 'blocked', await elsewhere, fetched, await (await fetch('data:text/plain,camera')).text()];
        }"""
    )
    assert done == ["blocked"] * 3 + ["camera"]
    assert len(visit.errors) >= 3
    visit.errors.clear()


# -- what is on its way -------------------------------------------------------------------


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
