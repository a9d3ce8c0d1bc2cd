"""Visitors without a browser: they speak Streamlit's protocol to a server, and draw nothing.

Ten browsers beside the server would measure their own drawing. A visitor here sends what a browser sends for a click
and reads every answer: it costs the server what a person does, and the machine next to nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from streamlit.proto.Alert_pb2 import Alert
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Block_pb2 import Block
from streamlit.proto.ButtonGroup_pb2 import ButtonGroup
from streamlit.proto.Checkbox_pb2 import Checkbox
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.Common_pb2 import FileUploaderState, FileURLs
from streamlit.proto.Exception_pb2 import Exception as Failure
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.Selectbox_pb2 import Selectbox
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from ..navigation import ARCHITECTURE, EXPERIMENTS

FINISHED = (ForwardMsg.FINISHED_SUCCESSFULLY, ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY)
"""How a run ends that leaves the page idle; one that gives way to another run does not."""
DEPTHS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
"""The presets that a visitor goes through."""
Choice = ButtonGroup | Checkbox | Selectbox


class Visitor:
    """One session on one page: what its browser would remember.

    `widgets` are the elements that have a key, `shown` what those stand at that were seen, `fragments` the fragment
    that each is in, `polls` the seconds after which a fragment is to be run again, `tabs` the labels of the page's tabs,
    `alerts` what the page warns of, `since` the moment (`time.perf_counter`) of what was asked for and is not answered yet.
    """

    def __init__(self, socket: ClientConnection, page: str, query: str = "", address: str = ""):
        self.socket, self.address = socket, address
        self.client = ClientState(page_name=page, query_string=query)
        self.session = ""
        self.alerts: list[str] = []
        self.tabs: list[str] = []
        self.since: float | None = None
        self.widgets: dict[str, Any] = {}
        self.shown: dict[str, str | bool] = {}
        self.fragments: dict[str, str] = {}
        self.polls: dict[str, float] = {}
        self.kept: dict[str, ForwardMsg] = {}

    async def click(self, key: str, value: str | bool = True) -> float:
        """Choose an option, switch a toggle, or press a button; the seconds until the page is idle."""
        element = self.widgets[key]
        state = WidgetState(id=element.id)
        if isinstance(element, ButtonGroup):
            state.string_array_value.data.append(str(value))
        elif isinstance(element, Checkbox | Block.Expandable):
            state.bool_value = bool(value)
        elif isinstance(element, Selectbox):
            state.string_value = str(value)
        else:
            state.trigger_value = True
        self.shown[key] = value
        return await self.run(state, fragment=self.fragments[key])

    async def run(self, *states: WidgetState, fragment: str = "", poll: bool = False) -> float:
        """Let the server run the page, or a fragment of it; the seconds until it is idle.

        Raises:
            RuntimeError: where the page shows an exception.
        """
        start = self.since = time.perf_counter()
        await self.ask(*states, fragment=fragment, poll=poll)
        await self.idle()
        self.since = None
        return time.perf_counter() - start

    async def ask(self, *states: WidgetState, fragment: str = "", poll: bool = False) -> None:
        """`run`, without waiting for an answer."""
        message = BackMsg(rerun_script=self.client)
        message.rerun_script.widget_states.widgets.extend(states)
        message.rerun_script.cached_message_hashes.extend(self.kept)
        message.rerun_script.fragment_id, message.rerun_script.is_auto_rerun = fragment, poll
        await self.socket.send(message.SerializeToString())

    async def idle(self) -> None:
        """Take answers up to the end of a run that leaves the page idle.

        Raises:
            RuntimeError: where the page shows an exception.
        """
        while True:
            answer = await self.answer()
            if answer.WhichOneof("type") == "script_finished" and answer.script_finished in FINISHED:
                return

    async def answer(self) -> ForwardMsg:
        """The server's next message, which is remembered."""
        message = ForwardMsg.FromString(await self.socket.recv(decode=False))
        self.take(message)
        return message

    async def upload(self, key: str, name: str, *parts: bytes) -> float:
        """Bring a file to an uploader; the seconds until the page is idle.

        What the server refuses to take is the first of the `alerts`.

        Raises:
            RuntimeError: where the page shows an exception.
        """
        start = time.perf_counter()
        place, refusal = await self.send_file(name, *parts)
        state = WidgetState(id=self.widgets[key].id, file_uploader_state_value=FileUploaderState())
        if not refusal:
            state.file_uploader_state_value.uploaded_file_info.add(
                name=name, size=sum(map(len, parts)), file_id=place.file_id, file_urls=place
            )
        await self.run(state, fragment=self.fragments[key])
        self.alerts[:0] = [refusal] * bool(refusal)
        return time.perf_counter() - start

    async def send_file(self, name: str, *parts: bytes) -> tuple[FileURLs, str]:
        """Send a file, whose bytes are `parts` one after the other, without telling the page: where it is, and a sentence
        where the server refuses it."""
        place = await self.place(name)
        return place, await put(self.address, place.upload_url, name, parts)

    async def place(self, name: str) -> FileURLs:
        """Where the server takes a file of this session."""
        message = BackMsg()
        message.file_urls_request.request_id, message.file_urls_request.session_id = name, self.session
        message.file_urls_request.file_names.append(name)
        await self.socket.send(message.SerializeToString())
        while (answer := await self.answer()).WhichOneof("type") != "file_urls_response":
            pass
        (place,) = answer.file_urls_response.file_urls
        return place

    async def download(self, key: str, times: int = 1) -> list[str]:
        """Click a button for a file so many times without waiting; of each click the file's path, or the server's words
        where it makes none."""
        message = BackMsg()
        said: list[str] = []
        asked = message.backend_operation_request
        asked.session_id, asked.deferred_file.file_id = self.session, self.widgets[key].deferred_file_id
        for number in range(times):
            asked.request_id = str(number)
            await self.socket.send(message.SerializeToString())
        while len(said) < times:
            answer = await self.answer()
            if answer.WhichOneof("type") == "backend_operation_response":
                made = answer.backend_operation_response
                said.append(made.deferred_file.url or made.error_msg)
        return said

    def take(self, message: ForwardMsg) -> None:
        """Remember what a message says; the server only names a message that was kept."""
        if message.WhichOneof("type") == "ref_hash":
            message = self.kept[message.ref_hash]
        elif message.metadata.cacheable:
            self.kept[message.hash] = message
        kind = message.WhichOneof("type")
        if kind == "new_session":
            self.session, self.alerts = message.new_session.initialize.session_id, []
            if not message.metadata.run.fragment_ids:
                self.widgets, self.fragments, self.polls, self.tabs = {}, {}, {}, []
        elif kind == "navigation":
            self.client.page_script_hash, self.client.page_name = message.navigation.page_script_hash, ""
        elif kind == "page_info_changed":
            self.client.query_string = message.page_info_changed.query_string
        elif kind == "auto_rerun":
            self.polls[message.auto_rerun.fragment_id] = message.auto_rerun.interval
        elif kind == "delta":
            made = message.delta.new_element if message.delta.HasField("new_element") else message.delta.add_block
            name = made.WhichOneof("type")
            element = getattr(made, name) if name else None
            if isinstance(element, Failure):
                raise RuntimeError(f"the page failed for a visitor: {element.type}: {element.message}")
            if isinstance(element, Alert):
                self.alerts.append(element.body)
            if isinstance(element, Block.Tab) and element.label not in self.tabs:
                self.tabs.append(element.label)
            key = getattr(element, "id", "").split("-", 2)[-1]  # $$ID-hash-key
            self.widgets[key], self.fragments[key] = element, message.delta.fragment_id
            if isinstance(element, Choice) and (element.set_value or key not in self.shown):
                self.shown[key] = standing(element)


BORDER, CHUNK = "a-border-that-no-file-holds", 2**18


async def put(address: str, path: str, name: str, parts: Sequence[bytes]) -> str:
    """Send a file as a browser's form does, without a copy of it; a sentence where the server refuses it, else nothing."""
    body = form(name, parts)
    head = head_of_put(address, path, f"Content-Length: {sum(map(len, body))}")
    pieces = (memoryview(part)[at : at + CHUNK] for part in body for at in range(0, len(part), CHUNK))
    return refusal(await status_of(address, itertools.chain([head], pieces)))


def form(name: str, parts: Sequence[bytes]) -> tuple[bytes, ...]:
    """The body of a request that brings a file: its parts, between the form's own."""
    head = (
        f'--{BORDER}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return (head.encode(), *parts, f"\r\n--{BORDER}--\r\n".encode())


def head_of_put(address: str, path: str, *headers: str) -> bytes:
    """The head of a request that brings a file; `headers` are those that say how long it is."""
    token = "2|00000000|00000000000000000000000000000000|0"
    lines = (
        f"PUT {path} HTTP/1.1",
        f"Host: {urlsplit(address).netloc}",
        "Connection: close",
        *headers,
        f"Content-Type: multipart/form-data; boundary={BORDER}",
        f"X-Xsrftoken: {token}",
        f"Cookie: _streamlit_xsrf={token}",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


async def status_of(address: str, pieces: Iterable[bytes | memoryview], pause: float = 0.0) -> str:
    """Send a request piece by piece, `pause` seconds apart, up to its end or the server's answer; the status and its words,
    empty where none comes."""
    reader, writer = await asyncio.open_connection(urlsplit(address).hostname, urlsplit(address).port)
    line = asyncio.create_task(reader.readline())
    try:
        with suppress(ConnectionError):  # a server that refuses a file does not wait for its end
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                if pause:
                    await asyncio.wait([line], timeout=pause)
                if line.done():
                    break
        return (await line).decode("latin-1").partition(" ")[2].strip()
    except ConnectionError:
        return ""
    finally:
        line.cancel()
        writer.close()


def refusal(status: str) -> str:
    """A sentence on the status of an upload that the server refuses, else nothing."""
    return "" if status.startswith("2") else f"The upload is refused: {status or 'no answer'}."


def options(element: Choice) -> list[str | bool]:
    """What a widget can be set to."""
    if isinstance(element, Checkbox):
        return [False, True]
    return [option.content for option in element.options] if isinstance(element, ButtonGroup) else list(element.options)


def standing(element: Choice) -> str | bool:
    """What the server says that a widget stands at; an empty text where nothing is chosen."""
    if isinstance(element, Checkbox):
        return element.value if element.set_value else element.default
    if isinstance(element, Selectbox):
        chosen = (
            element.raw_value if element.set_value else element.HasField("default") and element.options[element.default]
        )
        return chosen or ""
    chosen = element.raw_values if element.set_value else [element.options[place].content for place in element.default]
    return chosen[0] if chosen else ""


def next_click(visitor: Visitor, chance: random.Random) -> tuple[str, str | bool]:
    """Another value of one of the sidebar's widgets: its key, and the value."""
    keys = [
        key
        for key, element in visitor.widgets.items()
        if isinstance(element, Choice) and key.startswith(("preset", "option ")) and not element.disabled
    ]
    key = chance.choice(keys)
    offered = DEPTHS if key == "preset" else options(visitor.widgets[key])
    return key, chance.choice([value for value in offered if value != visitor.shown[key]])


def unescaped(markdown: str) -> str:
    """Escaped words as they read on the page, without its invisible joiners."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown).replace("\u2060", "")


@asynccontextmanager
async def visit(
    address: str, page: str = ARCHITECTURE.path, query: str = "", kind: type[Visitor] | None = None
) -> AsyncIterator[Visitor]:
    """Someone of a kind who has opened a page of the app at `address`, by a link with this query, and sees it.

    However it ends, they leave as a browser does whose page is closed.

    Raises:
        RuntimeError: where the server ends the session.
    """
    try:
        # With a queue that fills, nobody reads the server's answer to a goodbye in the middle of a page.
        async with connect(f"ws://{urlsplit(address).netloc}/_stcore/stream", max_size=None, max_queue=None) as socket:
            try:
                visitor = (kind or Visitor)(socket, page, query, address)
                await visitor.run()
                yield visitor
            finally:  # else one who is cut off speaks of an error, as a connection does that was lost
                await socket.close(CloseCode.GOING_AWAY)
    except ConnectionClosed as error:
        raise RuntimeError(f"the server ended a visitor's session: {error}") from error


async def wander(
    visitor: Visitor, chance: random.Random, pause: float, until: Callable[[], bool]
) -> AsyncIterator[float]:
    """Click through the sidebar, `pause` seconds after the page is idle on average; yields the seconds of each click."""
    await asyncio.sleep(chance.uniform(0, pause))
    while not until():
        yield await visitor.click(*next_click(visitor, chance))
        await asyncio.sleep(pause * chance.uniform(0.5, 1.5))


async def crowd(address: str, count: int, pause: float, until: Callable[[], bool]) -> list[list[float]]:
    """The seconds of every click that each of `count` visitors of the architecture page makes.

    They click `pause` seconds after the page is idle, on average. Each has a seed of its own, so that a crowd makes
    the same clicks on every fresh server.
    """

    async def times(seed: int) -> list[float]:
        async with visit(address) as visitor:
            return [seconds async for seconds in wander(visitor, random.Random(seed), pause, until)]

    return await asyncio.gather(*map(times, range(count)))


async def degradation_run(address: str, limit: float) -> float:
    """Start a degradation run on its page and watch it to its end; the seconds from the click, infinite over `limit`."""
    async with visit(address, EXPERIMENTS.path) as visitor:
        start = time.perf_counter()
        await visitor.click("training action")
        while visitor.polls:
            if time.perf_counter() - start > limit:
                return math.inf
            (fragment, interval), *_ = visitor.polls.items()
            await asyncio.sleep(interval)
            await visitor.run(fragment=fragment, poll=True)
        return time.perf_counter() - start
