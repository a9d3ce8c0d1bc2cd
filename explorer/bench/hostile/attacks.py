"""What attackers do: files, links, messages and loads made to hurt.

The files are small or made of zeros, the same on each run, and made before the clock starts.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import socket
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.FileUploader_pb2 import FileUploader
from streamlit.proto.WidgetStates_pb2 import WidgetState

from ...inference.samples import samples
from ...navigation import CLAIMS, EXPERIMENTS, INFERENCE, PAGES
from ..links import SHIPPED, opened, places, random_links
from ..visitors import CHUNK, Visitor, form, head_of_put, refusal, status_of, unescaped, visit, wander
from .checkpoints import CHECKPOINTS, half_precision, one_number_for_all
from .images import PICTURES

Act = Callable[[str, int, Sequence[bytes]], AsyncGenerator[str, None]]
"""What an attacker does to the server at an address: gets a number and the file, yields what the page says each time."""


def said(visitor: Visitor) -> str:
    """The first thing that a page warns of, as text."""
    return unescaped(next(iter(visitor.alerts), "no complaint"))


def uploader(visitor: Visitor, checkpoint: bool) -> str:
    """The key of the uploader for checkpoints, or for images."""
    keys = [key for key, element in visitor.widgets.items() if isinstance(element, FileUploader)]
    return next((key for key in keys if key.startswith("checkpoint") == checkpoint), "uploader")


async def bring_image(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
    """Upload an image, which ends in other bytes each time; a few in a session, which holds some."""
    async with visit(address, INFERENCE.path, SHIPPED) as visitor:
        await visitor.click("source", "Upload")
        for _ in range(8):
            await visitor.upload(uploader(visitor, False), "image", *file, random.randbytes(8))
            yield said(visitor)


async def bring_checkpoint(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
    """Upload a checkpoint again and again."""
    async with visit(address, INFERENCE.path, SHIPPED) as visitor:
        while True:
            await visitor.upload(uploader(visitor, True), "mine.pt", *file)
            yield said(visitor)


async def bring_half_precision(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
    """Upload 376 MiB of one's own, and look at the network that it opens."""
    start, text, zeros = file
    async with visit(address, INFERENCE.path, SHIPPED) as visitor:
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


DROPPED_SECONDS = 5.0
"""Seconds after which a message is taken for one that the server drops."""
REST_SECONDS = 0.5
"""Seconds between two pages that an attacker opens: what is measured is what a link or message does, not a flood of them."""


def open_links(*queries: str) -> Act:
    """Open a page by these links, each in turn."""

    async def act(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
        async with visit(address) as visitor:
            for turn, query in enumerate(itertools.cycle(queries)):
                visitor.client.query_string = f"{query}&turn={turn}"
                try:
                    async with asyncio.timeout(DROPPED_SECONDS):
                        await visitor.run()
                    yield f"{len(visitor.alerts)} alerts: {said(visitor)}"
                except TimeoutError:
                    yield "no answer"
                await asyncio.sleep(REST_SECONDS)

    return act


def unknown_keys(count: int) -> str:
    """A query of so many keys; Streamlit passes on less than a thousand."""
    return urlencode({f"k{number}": "v" for number in range(count)})


async def open_random_links(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
    """Open every page and tab by links of chance."""
    every = await places(address)
    there = itertools.islice(itertools.cycle(every), number, None, 3)
    for query, (page, tab) in zip(random_links(number), there, strict=False):
        yield await opened(address, page, tab, query, DROPPED_SECONDS)
        await asyncio.sleep(REST_SECONDS)


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
            await asyncio.sleep(REST_SECONDS)

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
        await asyncio.sleep(REST_SECONDS * 4)


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
        page = chance.choice([page for page in PAGES if page != CLAIMS])  # which has no widget
        try:
            async with visit(address, page.path, SHIPPED) as visitor:
                for _ in range(8):
                    key = chance.choice([key for key, element in visitor.widgets.items() if getattr(element, "id", "")])
                    state = WidgetState(id=visitor.widgets[key].id, **chance.choice(values))
                    await visitor.run(state)
                    yield "the page still comes"
                    await asyncio.sleep(REST_SECONDS)
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
                await asyncio.sleep(REST_SECONDS)
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
            await asyncio.sleep(REST_SECONDS)
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
                await asyncio.sleep(REST_SECONDS)

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
            await asyncio.sleep(REST_SECONDS)


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
SIXTEEN_MIB = partial(bytes, 16 * 2**20)
SEVERAL = "tab=Several+images&"
INTEGRATED = "preset=resnet152&tab=Attribution&size="

ATTACKS = (
    Attack("image: BMP of runs", bring_image, PICTURES["a BMP of runs of one pixel"]),
    Attack("image: PNG of a million chunks", bring_image, PICTURES["a PNG of a million chunks"]),
    Attack("image: JPEG of a hundred scans", bring_image, PICTURES["a JPEG of a hundred scans"]),
    Attack("image: GIF of a comment in small parts", bring_image, PICTURES["a GIF of a comment in small parts"]),
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
    Attack("pass: several images at 1024 px", look(SEVERAL + "preset=resnet18&size=1024")),
    Attack("pass: several images at 4096 px", look(SEVERAL + SMALL)),
    Attack("pass: several images at 8192 px", look(SEVERAL + ONE_CHANNEL)),
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
    Attack("sessions: uploads left behind", leave_files, SIXTEEN_MIB, once=True),
    Attack("upload: chunks beside a length", untrue(CHUNKED, "Content-Length: 10"), SIXTEEN_MIB),
    Attack("upload: a chunk that says more than it has", untrue(CHUNKED, missing=2**30), SIXTEEN_MIB),
    Attack("upload: more than it says", untrue("Content-Length: 1000"), SIXTEEN_MIB),
    Attack("upload: a byte a second, sixty files", trickle, once=True),
)
"""Every attack, in the order in which they are made."""
