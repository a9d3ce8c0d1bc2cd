"""Files, links and loads made to hurt, sent to a server of our own while other people click.

`python -m explorer bench --only hostile` prints for each of `ATTACKS` what it did to the server and to the others. The
files are small or made of zeros, the same on each run, and made before the clock starts.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import random
import re
import socket
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import numpy as np
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.FileUploader_pb2 import FileUploader
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.exceptions import WebSocketException

from resnet import ResNetConfig
from resnet.command import MissingError
from resnet.model import build

from ..inference.samples import samples
from ..navigation import EXPERIMENTS, INFERENCE, PAGES
from .browser import ROOT, server
from .hostile_files import CHECKPOINTS, PICTURES, checkpoint, half_precision, one_number_for_all
from .visitors import (
    CHUNK,
    Reader,
    Visitor,
    form,
    head_of_put,
    random_links,
    refusal,
    status_of,
    unescaped,
    visit,
    wander,
)

# -- what attackers do --------------------------------------------------------------------

SHIPPED = "preset=resnet20_fashion"

Act = Callable[[str, int, Sequence[bytes]], AsyncGenerator[str, None]]
"""What an attacker does to the server at an address: gets a number and the file, yields what the page says each time."""


def said(visitor: Visitor) -> str:
    """The first thing that a page warns of, as text."""
    return unescaped(next(iter(visitor.alerts), "no complaint"))


def uploader(visitor: Visitor, checkpoint: bool) -> str:
    """The key of the uploader for checkpoints, or for pictures."""
    keys = [key for key, element in visitor.widgets.items() if isinstance(element, FileUploader)]
    return next((key for key in keys if key.startswith("checkpoint") == checkpoint), "uploader")


async def bring_picture(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
    """Upload a picture, which ends in other bytes each time; a few in a session, which holds some."""
    async with visit(address, INFERENCE.path, SHIPPED) as visitor:
        await visitor.click("source", "Upload")
        for _ in range(8):
            await visitor.upload(uploader(visitor, False), "picture", *file, random.randbytes(8))
            yield said(visitor)


async def bring_checkpoint(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
    """Upload a checkpoint again and again."""
    async with visit(address, INFERENCE.path, SHIPPED) as visitor:
        await visitor.click("own checkpoint")
        while True:
            await visitor.upload(uploader(visitor, True), "mine.pt", *file)
            yield said(visitor)


async def bring_half_precision(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
    """Upload 376 MiB of one's own, and look at the network that it opens."""
    start, text, zeros = file
    async with visit(address, INFERENCE.path, SHIPPED) as visitor:
        await visitor.click("own checkpoint")
        mine = (start, text.replace(b'"   0"', b'"%4d"' % number), zeros)
        await visitor.upload(uploader(visitor, True), "mine.safetensors", *mine)
        yield said(visitor)


def look(query: str, press: str = "") -> Act:
    """Open the inference page at another sample each time, and press a button there."""

    async def act(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
        names = [sample.name for sample in samples()]
        for turn in itertools.count(number * 7):
            link = f"{query}&weights=random&picture={names[turn % len(names)]}"
            async with visit(address, INFERENCE.path, link) as visitor:
                if press and press in visitor.widgets:
                    await visitor.click(press)
                yield said(visitor)

    return act


DROPPED = 5.0
"""Seconds after which a message is taken for one that the server drops."""
REST = 0.5
"""Seconds between two pages that an attacker opens: what is measured is what a link or message does, not a flood of them."""


def open_links(*queries: str) -> Act:
    """Open a page by these links, each in turn."""

    async def act(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
        async with visit(address) as visitor:
            for turn, query in enumerate(itertools.cycle(queries)):
                visitor.client.query_string = f"{query}&turn={turn}"
                try:
                    async with asyncio.timeout(DROPPED):
                        await visitor.run()
                    yield f"{len(visitor.alerts)} alerts: {said(visitor)}"
                except TimeoutError:
                    yield "no answer"
                await asyncio.sleep(REST)

    return act


def unknown_keys(count: int) -> str:
    """A query of so many keys; Streamlit passes on less than a thousand."""
    return urlencode({f"k{number}": "v" for number in range(count)})


async def places(address: str) -> list[tuple[str, str]]:
    """Every page, with every tab of those that have some, as the server shows them; without one where it has none."""
    found: list[tuple[str, str]] = []
    for page in PAGES:
        async with visit(address, page.path, SHIPPED) as visitor:
            found += [(page.path, tab) for tab in visitor.tabs or [""]]
    return found


NOTHING_WRONG = "no exception, no markup, no request elsewhere"


async def opened(address: str, page: str, tab: str, query: str, patience: float) -> str:
    """What is wrong with a page that a link opens, on this tab where the link itself names none; or `NOTHING_WRONG`."""
    link = query if not tab or re.search("(^|&)tab=", query) else f"{query}&{urlencode({'tab': tab})}"
    try:
        async with asyncio.timeout(patience), visit(address, page, link, Reader):
            return NOTHING_WRONG
    except TimeoutError:
        return "no answer"
    except RuntimeError as error:
        return f"{error} at {page}?{link}"


async def open_random_links(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
    """Open every page and tab by links of chance."""
    every = await places(address)
    there = itertools.islice(itertools.cycle(every), number, None, 3)
    for query, (page, tab) in zip(random_links(number), there, strict=False):
        yield await opened(address, page, tab, query, DROPPED)
        await asyncio.sleep(REST)


def messages() -> dict[str, bytes]:
    """Messages that a browser of this app does not send, by what they are."""
    every = {
        "load_git_info": BackMsg(load_git_info=True),
        "set_run_on_save": BackMsg(set_run_on_save=True),
        "debug_disconnect_websocket": BackMsg(debug_disconnect_websocket=True),
        "debug_shutdown_runtime": BackMsg(debug_shutdown_runtime=True),
        "stop_script": BackMsg(stop_script=True),
        "heartbeat": BackMsg(app_heartbeat=True),
        "nothing": BackMsg(),
    }
    files = BackMsg()
    files.file_urls_request.request_id, files.file_urls_request.session_id = "\0" * 1000, "../../etc"
    files.file_urls_request.file_names.extend(["../../etc/passwd"] * 10_000)
    operations = {
        name: BackMsg() for name in ("deferred_file", "install_skills", "dismiss_skills_nudge", "dataframe_chunk")
    }
    for name, message in operations.items():
        message.backend_operation_request.request_id = "\x1b[31m"
        getattr(message.backend_operation_request, name).SetInParent()
    page, fragment, hashes = BackMsg(), BackMsg(), BackMsg()
    page.rerun_script.page_script_hash, page.rerun_script.page_name = "\0" * 9, "../../../etc/passwd"
    fragment.rerun_script.fragment_id, fragment.rerun_script.is_auto_rerun = "x" * 100_000, True
    hashes.rerun_script.cached_message_hashes.extend(map(str, range(100_000)))
    query = BackMsg()
    query.rerun_script.query_string = "&".join(f"k{number}=v" for number in range(100_000))
    every |= {
        "file names": files,
        **operations,
        "a page": page,
        "a fragment": fragment,
        "hashes": hashes,
        "a query": query,
    }
    return {name: message.SerializeToString() for name, message in every.items()} | {
        "no message": b"\xff" * 1000,
        "an endless number": b"\x80" * 1000,
        "32 MiB": bytes(2**25),
    }


def send(*names: str) -> Act:
    """Send these of `messages`, all others, or both, and look whether one's own page still comes."""

    async def act(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
        every = messages()
        for name in itertools.islice(itertools.cycle(names or every), number, None):
            try:
                async with visit(address) as visitor:
                    await visitor.socket.send(every[name])
                    await visitor.run()
                    yield "the page still comes"
            except RuntimeError as error:
                yield f"{name}: {error}"
            await asyncio.sleep(REST)

    return act


async def send_without_end(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
    """Send messages of 48 MB in parts of which the last never comes, over four connections at once."""

    async def parts() -> AsyncGenerator[bytes, None]:
        for _ in range(48):
            yield bytes(10**6)
        await asyncio.Event().wait()

    async def message() -> str:
        try:
            async with visit(address) as visitor:
                await visitor.socket.send(parts())
        except RuntimeError as error:
            return str(error)
        return "the message is taken"

    while True:
        for words in await asyncio.gather(*(message() for _ in range(4))):
            yield words
        await asyncio.sleep(REST * 4)


async def ask_without_waiting(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
    """Ask for thirty pages in a row, each at another image size, then wait for the last of them."""
    async with visit(address) as visitor:
        for turn in itertools.count():
            sizes = [str(200 + 30 * (turn % 2) + place) for place in range(30)]
            for size in sizes:
                visitor.client.query_string = urlencode({"size": size})
                await visitor.ask()
            await visitor.idle()
            while visitor.widgets["size"].value != sizes[-1]:
                await visitor.idle()
            yield "the last page comes"


async def wrong_values(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
    """Set widgets to values of other kinds than theirs."""
    chance = random.Random(number)
    values = (
        {"trigger_value": True},
        {"bool_value": True},
        {"double_value": float("nan")},
        {"int_value": -(2**63)},
        {"string_value": "<script>" * 1000},
        {"json_value": "[" * 5000},
        {"bytes_value": bytes(1000)},
        {"json_trigger_value": "{"},
    )
    while True:
        page = chance.choice(PAGES)
        try:
            async with visit(address, page.path, SHIPPED) as visitor:
                for _ in range(8):
                    key = chance.choice([key for key, element in visitor.widgets.items() if getattr(element, "id", "")])
                    state = WidgetState(id=visitor.widgets[key].id, **chance.choice(values))
                    await visitor.run(state)
                    yield "the page still comes"
                    await asyncio.sleep(REST)
        except RuntimeError as error:
            yield f"{page.name}: {error}"


async def clear_beside_training(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
    """The first trains networks and watches; the others send "clear cache"."""
    if number:
        async with visit(address) as visitor:
            while True:
                await visitor.socket.send(BackMsg(clear_cache=True).SerializeToString())
                await visitor.run()
                yield "the page still comes"
                await asyncio.sleep(REST)
    async with visit(address, EXPERIMENTS.path) as visitor:
        await visitor.click("training action")
        try:
            while visitor.polls:
                (part, seconds), *_ = visitor.polls.items()
                await asyncio.sleep(seconds)
                await visitor.run(fragment=part, poll=True)
                yield (
                    "the training goes on"
                    if visitor.widgets["training action"].label == "Stop"
                    else "the training is gone"
                )
            yield "the training is gone"
        finally:
            await visitor.run()  # whoever is cut off may have half a page
            if visitor.widgets["training action"].label == "Stop":
                await visitor.click("training action")


async def open_sessions(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
    """Open a third of a hundred pages, then leave them all."""
    async with AsyncExitStack() as stack:
        for _ in range(34):
            await stack.enter_async_context(visit(address))
            await asyncio.sleep(REST)
        yield "34 pages are open"


async def click_without_pause(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
    """Click as fast as the page comes."""
    async with visit(address) as visitor:
        async for _ in wander(visitor, random.Random(number), 0.0, lambda: False):
            yield "the page still comes"


async def leave_files(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
    """Send files that no page is told of, and leave."""
    async with visit(address) as visitor:
        for _ in range(10):
            _, refusal = await visitor.send_file("left", *file)
            yield refusal or "a file is taken"


CHUNKED = "Transfer-Encoding: chunked"


def chunked(body: bytes, missing: int) -> Iterator[bytes]:
    """A body in chunks, the last of which says that it has so many bytes more than come."""
    for at in range(0, len(body), CHUNK):
        part = body[at : at + CHUNK]
        yield b"%x\r\n%b\r\n" % (len(part) + missing * (at + CHUNK >= len(body)), part)
    yield b"0\r\n\r\n"


def untrue(*lengths: str, missing: int = 0) -> Act:
    """Send files whose length is another than these headers say, or in chunks of which `missing` bytes do not come."""

    async def act(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
        async with visit(address) as visitor:
            while True:
                place, body = await visitor.place("mine"), b"".join(form("mine", file))
                pieces = chunked(body, missing) if CHUNKED in lengths else [body]
                head = head_of_put(address, place.upload_url, *lengths)
                yield refusal(await status_of(address, itertools.chain([head], pieces))) or "a file is taken"
                await asyncio.sleep(REST)

    return act


async def trickle(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
    """Send twenty files, a byte a second of each."""
    async with visit(address) as visitor:
        start, _ = form("slow", [])
        heads = [
            head_of_put(address, (await visitor.place(str(name))).upload_url, f"Content-Length: {2**20}")
            for name in range(20)
        ]
        slow = [status_of(address, itertools.chain([head + start], itertools.repeat(b"0")), 1.0) for head in heads]
        for status in await asyncio.gather(*slow):
            yield refusal(status) or "a file is taken"


async def download_at_once(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
    """Click six times on the button for a layer's numbers, without waiting, and fetch what is made."""
    async with visit(address, INFERENCE.path, "preset=resnet18&weights=random&at=conv1") as visitor:
        key = next(key for key in visitor.widgets if key.endswith(".npz"))
        while True:
            for said in await visitor.download(key, 6):
                if not said.startswith("/"):
                    yield said
                    continue
                with await asyncio.to_thread(urlopen, address + said) as answer:
                    data = await asyncio.to_thread(answer.read)
                yield f"a file of {len(data) / 2**20:.1f} MiB"
            await asyncio.sleep(REST)


async def read_slowly(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
    """Ask for the page's script a third of a hundred times, and take four bytes a second of each answer."""
    script = await asyncio.to_thread(script_of, address)
    host, port = urlsplit(address).hostname, urlsplit(address).port
    async with AsyncExitStack() as stack:
        readers = []
        for _ in range(34):
            line = socket.socket()
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the least that the system has
            line.setblocking(False)
            await asyncio.get_running_loop().sock_connect(line, (host, port))
            reader, writer = await asyncio.open_connection(sock=line, limit=4)
            stack.callback(writer.close)
            writer.write(f"GET {script} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
            readers.append(reader)
        while True:
            parts = await asyncio.gather(*(reader.read(4) for reader in readers))
            yield f"{sum(map(bool, parts))} answers go on"
            await asyncio.sleep(1)


def script_of(address: str) -> str:
    """The path of the script of Streamlit's page."""
    with urlopen(address) as page:
        found = re.search(r'src="\.(/static/js/[^"]+)"', page.read().decode())
    assert found
    return found[1]


@dataclass(frozen=True)
class Attack:
    """What so many `people` do to a server, again and again or `once`, with the parts of a file that is made before.

    `readable` is whether the file may be opened: no page says so of a file that has no bytes behind its tensors.
    """

    name: str
    act: Act
    file: Callable[[], bytes | list[bytes]] = list
    people: int = 3
    once: bool = False
    readable: bool = True


ONE_CHANNEL = "block=basic&layers=1&planes=1&stem=3x3&stem_width=1&stem_pool=none&in_channels=1&norm=none&size=8192"
SMALL = "block=basic&layers=1-1&planes=8-16&size=4096"
LARGE = partial(bytes, 16 * 2**20)
SEVERAL = "tab=Several+pictures&"
INTEGRATED = "preset=resnet152&tab=Attribution&size="

ATTACKS = (
    Attack("picture: BMP of runs", bring_picture, PICTURES["a BMP of runs of one pixel"]),
    Attack("picture: PNG of a million chunks", bring_picture, PICTURES["a PNG of a million chunks"]),
    Attack("picture: JPEG of a hundred scans", bring_picture, PICTURES["a JPEG of a hundred scans"]),
    Attack("picture: GIF of a comment in small parts", bring_picture, PICTURES["a GIF of a comment in small parts"]),
    Attack("checkpoint: 300,000 nested tuples", bring_checkpoint, CHECKPOINTS["tuples 300,000 deep as a key, zip"]),
    Attack("checkpoint: pairs 40 deep", bring_checkpoint, CHECKPOINTS["pairs 40 deep as a key, zip"]),
    Attack("checkpoint: 8 million containers", bring_checkpoint, CHECKPOINTS["eight million containers, zip"]),
    Attack("checkpoint: 100,000 tensors", bring_checkpoint, CHECKPOINTS["100,000 tensors in few bytes"]),
    Attack("checkpoint: stride 0, six people", bring_checkpoint, one_number_for_all, people=6),
    Attack("checkpoint: no data", bring_checkpoint, CHECKPOINTS["no data"], readable=False),
    Attack(
        "checkpoint: a storage made by a call",
        bring_checkpoint,
        CHECKPOINTS["a typed storage by a call, zip"],
        readable=False,
    ),
    Attack("checkpoint: a storage that grows", bring_checkpoint, CHECKPOINTS["a storage that grows"], readable=False),
    Attack("checkpoint: 376 MiB of fp16", bring_half_precision, half_precision, once=True),
    Attack("pass: integrated gradients, 224 px", look(INTEGRATED + "224", "integrate")),
    Attack("pass: integrated gradients, 416 px", look(INTEGRATED + "416", "integrate")),
    Attack("pass: ten people at 416 px", look("preset=resnet152&size=416"), people=10),
    Attack("pass: one channel at 8192 px", look(ONE_CHANNEL)),
    Attack("pass: several pictures at 1024 px", look(SEVERAL + "preset=resnet18&size=1024")),
    Attack("pass: several pictures at 4096 px", look(SEVERAL + SMALL)),
    Attack("pass: several pictures at 8192 px", look(SEVERAL + ONE_CHANNEL)),
    Attack("link: a size of 15,900 characters", open_links("size=" + "9" * 15_900)),
    Attack("link: a size of 100,000 characters", open_links("size=" + "9" * 100_000)),
    Attack("link: 8,000 unknown keys, and 900", open_links(unknown_keys(8000), unknown_keys(900))),
    Attack("link: random ones, every page and tab", open_random_links),
    Attack("protocol: clear cache beside a training", clear_beside_training, people=4),
    Attack("protocol: set run on save", send("set_run_on_save")),
    Attack("protocol: every other message", send()),
    Attack("protocol: messages of 48 MB without an end", send_without_end),
    Attack("protocol: widgets set to other kinds", wrong_values),
    Attack("sessions: a hundred opened and left", open_sessions, once=True),
    Attack("sessions: three click without pause", click_without_pause),
    Attack("sessions: thirty pages asked for in a row", ask_without_waiting),
    Attack("sessions: sixty downloads at once", download_at_once, people=10),
    Attack("sessions: a hundred read a few bytes a second", read_slowly),
    Attack("sessions: uploads left behind", leave_files, LARGE, once=True),
    Attack("upload: chunks beside a length", untrue(CHUNKED, "Content-Length: 10"), LARGE),
    Attack("upload: a chunk that says more than it has", untrue(CHUNKED, missing=2**30), LARGE),
    Attack("upload: more than it says", untrue("Content-Length: 1000"), LARGE),
    Attack("upload: a byte a second, sixty files", trickle, once=True),
)
"""Every attack, in the order in which they are made."""

# -- what is measured ---------------------------------------------------------------------

VISITORS, PAUSE = 20, 3.0
"""How many people click, and the mean seconds from an idle page to somebody's next click."""
SECONDS, PATIENCE, LEFT = 15.0, 60.0, 10.0
"""How long an attack goes on, how long one is waited for that is made once, and how long the server is left alone after."""
P95, BACK = 0.5, 1.1
"""What the app promises on two cores: seconds of the others' clicks, and memory over what it was before."""
MOST_BYTES = 8 * 2**30
"""A server that takes more is ended here, before the system does it to others."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0


class Click(NamedTuple):
    """When somebody clicked, and after how many seconds the page was idle, or how long it has not been."""

    start: float
    seconds: float


@dataclass(frozen=True)
class Result:
    """What an attack did: the processes that ended and that were left, the seconds of the others' clicks and of the
    small pictures, bytes before, at most and after (None where the system does not say), and how often what was said."""

    name: str
    ended: int
    left: int
    clicks: Sequence[float]
    pictures: Sequence[float]
    memory: tuple[int, int, int] | None
    said: Counter[str]
    failures: Sequence[str] = ()
    readable: bool = True

    @property
    def p95(self) -> float:
        return float(np.quantile(self.clicks, 0.95)) if self.clicks else 0.0

    def over(self) -> list[str]:
        """The limits that it broke, in words."""
        before, _, after = self.memory or (0, 0, 0)
        broken = {
            "a process ended": self.ended > 0,
            "a process was left": self.left > 0,
            f"p95 {self.p95:.2f} s (limit {P95} s)": self.p95 >= P95,
            f"memory ×{after / max(before, 1):.2f} (limit ×{BACK})": after > BACK * before,
            "a page failed": any(map(FAILED.search, self.said)),
            "a file without data was read": not self.readable and any(map(READ.search, self.said)),
            f"others saw: {next(iter(self.failures), '')[:80]}": bool(self.failures),
        }
        return [words for words, true in broken.items() if true]

    def line(self) -> str:
        """The measurements in the columns of `TITLE`."""
        times = (*np.quantile(self.clicks, (0.5, 0.95)), max(self.clicks)) if self.clicks else (math.nan,) * 3
        times = (*times, max(self.pictures, default=math.nan))
        clicks = "".join(f"{'–':>9}" if math.isnan(seconds) else f"{seconds:7.2f} s" for seconds in times)
        memory = f"{'not measured':>28}"
        if self.memory:
            before, _, after = self.memory
            memory = "".join(f"{size / 2**20:8,.0f}" for size in self.memory) + f" ×{after / max(before, 1):.2f}"
        words, count = max(self.said.items(), key=self._weight, default=("nothing", 0))
        processes = f"{self.ended or 'no'} ended, {self.left or 'none'} left"
        return f"{self.name:42}{processes:22}{clicks}{memory}   {count}× {words[:90]}"

    def _weight(self, said: tuple[str, int]) -> tuple[bool, bool, int]:
        """What is worth telling: failures before all else, and what a page said before what did not come."""
        words, count = said
        return bool(re.search("failed|ended|is gone", words)), words != LATE, count


LATE = "(left before the page came)"
READ = re.compile("could be read|was understood|says which network")
"""What the page says of a checkpoint whose tensors it has."""
FAILED = re.compile("the page (failed|draws)")
"""What is said of a page that shows an exception, or a text as something else."""
TITLE = (
    f"{'attack':42}{'processes':22}{'median':>9}{'p95':>9}{'slowest':>9}{'picture':>9}{'before':>8}{'most':>8}{'after':>8} MiB    "
    "what attackers saw"
)
"""`picture` is the longest wait of somebody who looks at small pictures; the others' clicks are before it."""


def processes(root: int) -> dict[int, int]:
    """The resident bytes of a process and of all that it started, by their numbers; empty where the system has no /proc."""
    parents: dict[int, tuple[int, int, bytes]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            command = (path / "cmdline").read_bytes()
        except OSError:  # it has ended since
            continue
        if fields[0] != "Z":
            parents[int(path.name)] = int(fields[1]), int(fields[21]) * PAGE_BYTES, command
    found, wanted = {}, [root] * (root in parents)
    while wanted:
        number = wanted.pop()
        parent, size, command = parents[number]
        # Before it runs a program of its own, a process shows the memory of its parent.
        found[number] = 0 if number != root and parents[parent][2] == command else size
        wanted += [child for child, (parent, *_) in parents.items() if parent == number]
    return found


class Scene:
    """A server, and visitors who come back to it whatever happens to it. Times are those of `time.perf_counter`."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.clicks: list[Click] = []
        self.pictures: list[Click] = []
        self.failures: list[tuple[float, str]] = []
        self.memory: list[tuple[float, int]] = []
        self.restarts: list[float] = []
        self.people: dict[str, Visitor] = {}
        self.stack = ExitStack()

    async def __aenter__(self) -> Scene:
        await self.start_server()
        self.tasks = [
            asyncio.create_task(self.watch()),
            asyncio.create_task(self.stay("picture", self.look_at_pictures)),
        ]
        self.tasks += [
            asyncio.create_task(self.stay(f"click {seed}", partial(self.click, random.Random(seed))))
            for seed in range(self.count)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.to_thread(self.stack.close)

    async def start_server(self) -> None:
        self.address, self.process = await asyncio.to_thread(
            self.stack.enter_context, server(ROOT / "explorer" / "app.py")
        )

    async def watch(self) -> None:
        """Note the memory, and start the server again where it has ended."""
        while True:
            if self.process.poll() is not None:
                self.restarts.append(time.perf_counter())
                await self.start_server()
            self.memory.append((time.perf_counter(), sum(processes(self.process.pid).values())))
            if self.memory[-1][1] > MOST_BYTES:
                self.process.kill()
                self.process.wait()
            await asyncio.sleep(0.25)

    async def stay(self, name: str, act: Callable[[str], Awaitable[None]]) -> None:
        """Come back each time one is cut off."""
        while True:
            try:
                await act(name)
            except (RuntimeError, OSError, WebSocketException) as error:
                self.failures.append((time.perf_counter(), str(error)))
                await asyncio.sleep(1)

    async def click(self, chance: random.Random, name: str) -> None:
        async with visit(self.address) as visitor:
            self.people[name] = visitor
            async for seconds in wander(visitor, chance, PAUSE, lambda: False):
                self.clicks.append(Click(time.perf_counter() - seconds, seconds))

    async def look_at_pictures(self, name: str) -> None:
        """A pass through a small network for each look."""
        async with visit(self.address, INFERENCE.path, SHIPPED) as visitor:
            self.people[name] = visitor
            for size, sample in itertools.product(range(32, 64), samples()):
                visitor.client.query_string = f"preset=resnet20&weights=random&size={size}&picture={sample.name}"
                seconds = await visitor.run()
                self.pictures.append(Click(time.perf_counter() - seconds, seconds))
                await asyncio.sleep(PAUSE)

    def pending(self, kind: str) -> list[Click]:
        """What is not answered yet."""
        now = time.perf_counter()
        people = [visitor for name, visitor in self.people.items() if name.startswith(kind)]
        return [Click(visitor.since, now - visitor.since) for visitor in people if visitor.since is not None]

    async def suffer(self, attack: Attack, file: Sequence[bytes], seconds: float, left: float) -> Result:
        """Measure one attack, and the time after it."""
        before, start = processes(self.process.pid), time.perf_counter()
        end = start + seconds
        saw: Counter[str] = Counter()
        await asyncio.gather(*(self.attack(attack, number, file, end, saw) for number in range(attack.people)))
        if not attack.people:
            await asyncio.sleep(seconds)
        gone = time.perf_counter()
        await asyncio.sleep(left)
        after = processes(self.process.pid)

        def during(clicks: Iterable[Click]) -> list[float]:
            return [click.seconds for click in clicks if click.start < gone and click.start + click.seconds > start]

        return Result(
            attack.name,
            ended=len(set(before) - set(after)),
            left=len(set(after) - set(before)) if self.process.pid in before else 0,
            clicks=during([*self.clicks, *self.pending("click")]),
            pictures=during([*self.pictures, *self.pending("picture")]),
            memory=self.held(start, before, after),
            said=saw,
            failures=[words for at, words in self.failures if at > start],
            readable=attack.readable,
        )

    def held(self, start: float, before: dict[int, int], after: dict[int, int]) -> tuple[int, int, int] | None:
        """Bytes before an attack that began at `start`, at most since, and after; None where they are not known."""
        most = max((size for at, size in self.memory if at > start), default=0)
        return (sum(before.values()), most, sum(after.values())) if before else None

    async def attack(self, attack: Attack, number: int, file: Sequence[bytes], end: float, saw: Counter[str]) -> None:
        """One attacker, until the attack is over."""
        while True:
            try:
                async with asyncio.timeout(PATIENCE if attack.once else max(0.1, end - time.perf_counter())):
                    async with aclosing(attack.act(self.address, number, file)) as rounds:
                        async for words in rounds:
                            saw[words] += 1
            except TimeoutError:
                saw[LATE] += 1
            except (RuntimeError, OSError, WebSocketException) as error:
                saw[str(error)] += 1
                await asyncio.sleep(0.2)
            except KeyError as error:
                saw[f"the page has no {error}"] += 1
                await asyncio.sleep(0.2)
            if attack.once or time.perf_counter() > end:
                return


async def warm(address: str) -> None:
    """Look at everything once, as others have on a server that has been there for a while."""
    picture, weights = samples()[0].open(), checkpoint(build(ResNetConfig(layers=(1,), planes=(8,))).state_dict())
    async with visit(address, INFERENCE.path, SHIPPED) as visitor:
        await visitor.click("source", "Upload")
        await visitor.upload(uploader(visitor, False), "picture", picture)
        await visitor.click("own checkpoint")
        await visitor.upload(uploader(visitor, True), "mine.pt", weights)
    for tab in ("Attribution", "Several pictures", "Receptive field"):
        async with visit(address, INFERENCE.path, f"{SHIPPED}&{urlencode({'tab': tab})}"):
            pass
    for page in PAGES:
        async with visit(address, page.path):
            pass


NOBODY = Attack("nobody attacks", open_sessions, people=0)


async def siege(attacks: Sequence[Attack], seconds: float, left: float, visitors: int) -> AsyncGenerator[Result, None]:
    """Each attack on one server, the first of them by nobody."""
    files = {attack: attack.file() for attack in attacks}
    parts = {attack: [file] if isinstance(file, bytes) else file for attack, file in files.items()}
    async with Scene(visitors) as scene:
        await warm(scene.address)
        await asyncio.sleep(left)
        for attack in (NOBODY, *attacks):
            yield await scene.suffer(attack, parts.get(attack, []), seconds, left)


def hostile(words: Sequence[str] = (), seconds: float = SECONDS, left: float = LEFT, visitors: int = VISITORS) -> None:
    """Print what each attack did whose name holds one of `words`, or each of them all.

    Raises:
        MissingError: where there is no such attack.
    """
    attacks = [attack for attack in ATTACKS if not words or any(word in attack.name for word in words)]
    if not attacks:
        raise MissingError(
            f"no attack is called {', '.join(words)}: one of {', '.join(attack.name for attack in ATTACKS)}."
        )

    async def results() -> list[Result]:
        found = []
        async with aclosing(siege(attacks, seconds, left, visitors)) as every:
            async for result in every:
                print(result.line(), flush=True)
                found.append(result)
        return found

    print(f"{visitors} visitors, a click every {PAUSE:.0f} s, beside")
    print(TITLE)
    start = time.perf_counter()
    found = asyncio.run(results())
    print(f"The clients took {time.process_time() / (time.perf_counter() - start):.0%} of a core.")
    print("\n".join(summary(found)))


LINKS, LONGEST = 3000, 300.0
"""Links of chance that `links` opens, three at a time, and seconds that it waits for a page: some measure large networks."""


async def open_many(address: str, count: int) -> list[tuple[float, str]]:
    """Open so many links of chance, over every page and tab; the seconds that each took, and what was wrong."""
    every = await places(address)
    rest = zip(itertools.islice(random_links(0), count), itertools.cycle(every), strict=False)
    found = []

    async def person() -> None:
        for query, (page, tab) in rest:
            start = time.perf_counter()
            words = await opened(address, page, tab, query, LONGEST)
            found.append((time.perf_counter() - start, words))

    await asyncio.gather(person(), person(), person())
    return found


def links(count: int = LINKS) -> None:
    """Print what so many links of chance did to the pages of a server."""
    with server(ROOT / "explorer" / "app.py") as (address, _):
        seconds, said = zip(*asyncio.run(open_many(address, count)), strict=True)
    print(
        f"{count:,} links of chance over every page and tab: median {np.median(seconds):.2f} s, slowest {max(seconds):.2f} s"
    )
    for words, times in Counter(said).most_common():
        print(f"{times:6,}× {words[:300]}")


def summary(results: Sequence[Result]) -> Iterator[str]:
    """Lines on the limits that were broken; of the first result, by nobody, only whether the machine had time."""
    alone, *attacks = results
    broken = [(result.name, words) for result in attacks for words in result.over()]
    if alone.p95 >= P95 / 2:
        yield f"The machine has no time to tell: clicks take {alone.p95:.2f} s at p95 where nobody attacks."
    limits = (
        f"no process ends or is left, p95 under {P95} s, memory back within {BACK - 1:.0%}, no page fails, "
        "no file without data is read"
    )
    yield f"{'over the limit' if broken else 'within the limits'}: {limits}"
    yield from (f"  {name}: {words}" for name, words in broken)
