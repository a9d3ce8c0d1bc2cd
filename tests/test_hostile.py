"""The attacks of `bench --only hostile`: their files are what they say, and what is measured is what happened."""

from __future__ import annotations

import ast
import asyncio
import io
import os
import pickle
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, nullcontext, suppress
from dataclasses import replace
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image, ImageSequence
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Delta_pb2 import Delta
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from explorer.bench import hostile, visitors
from explorer.bench import hostile_files as files
from explorer.bench.browser import ROOT
from explorer.bench.hostile import ATTACKS, Attack, Result, Scene, processes
from explorer.bench.visitors import MARKUP, Visitor, misdrawn, random_links, status_of, visit
from explorer.cli import main
from explorer.navigation import ACCURACY, KERNELS
from explorer.views.session import escape_markdown
from helpers import alone
from resnet import ResNetConfig
from resnet.checkpoint import WeightsError, read_state_dict

LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")


# -- files --------------------------------------------------------------------------------


def opened(data: bytes) -> Image.Image:
    """What Pillow makes of a picture."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def test_pictures_are_pictures_of_many_parts() -> None:
    runs = opened(files.bmp_rle(8, 8, (b"\1\7" * 8 + b"\0\0") * 8 + b"\0\1"))
    assert (runs.size, set(np.asarray(runs).ravel())) == ((8, 8), {7})
    png = files.png(1, 1, b"\0\7", files.chunk(b"teSt", b"") * 50)
    assert (opened(png).size, png.count(b"teSt")) == ((1, 1), 50)
    jpeg = files.scans(64, 20)
    assert (opened(jpeg).size, opened(jpeg).info["progressive"]) == ((64, 64), 1)
    assert jpeg.count(b"\xff\xda") == files.scans(64, 0).count(b"\xff\xda") + 20
    gif = opened(files.commented_gif(b"!\xfe" + b"\2cc" * 100 + b"\0"))
    assert (gif.size, gif.info["comment"]) == ((4, 4), b"c" * 200)
    assert len(list(ImageSequence.Iterator(gif))) == 1


def test_checkpoints_are_checkpoints() -> None:
    assert pickle.loads(files.key(files.DEEPER * 3)) == {((((),),),): "fc.weight"}
    assert pickle.loads(files.key(files.TWICE * 2)) == {(((), ()), ((), ())): "fc.weight"}
    one = torch.load(io.BytesIO(files.one_number_for_all()), weights_only=True)
    assert {(tensor.dtype, tensor.untyped_storage().nbytes()) for tensor in one.values()} == {(torch.float16, 2)}
    assert sum(tensor.numel() for tensor in one.values()) * 4 > 0.7 * 2**30


def test_half_precision_is_one_network_for_each_person() -> None:
    config = ResNetConfig(block="basic", layers=(1,), planes=(8,), num_classes=10)
    first, second = (b"".join(files.half_precision(number, config)) for number in (0, 1))
    tensors = safetensors.torch.load(first)
    assert {name: tensor.shape for name, tensor in tensors.items()} == files.shapes(config)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert first != second
    assert len(first) == len(second)


SECRETS = [attack for attack in ATTACKS if not attack.readable]


@pytest.mark.parametrize("attack", SECRETS, ids=lambda attack: attack.name)
def test_a_file_without_bytes_is_refused(attack: Attack) -> None:
    with pytest.raises(WeightsError):
        read_state_dict(attack.file(), "mine.pt")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("attack", SECRETS, ids=lambda attack: attack.name)
def test_torch_itself_reads_a_file_without_bytes(attack: Attack) -> None:
    """What it shows is what lay in memory."""
    assert torch.load(io.BytesIO(attack.file()), weights_only=True)["fc.weight"].shape == (4096,)  # type: ignore[arg-type]


def test_files_links_and_messages_are_the_same_on_each_run() -> None:
    for attack in ATTACKS:
        if attack.file is not files.half_precision:
            assert attack.file() == attack.file()
    assert list(islice(random_links(3), 50)) == list(islice(random_links(3), 50))
    assert list(islice(random_links(3), 50)) != list(islice(random_links(4), 50))
    kinds = {
        BackMsg.FromString(message).WhichOneof("type")
        for message in hostile.messages().values()
        if message[:1] not in (b"\0", b"\x80", b"\xff")
    }
    assert kinds >= {field.name for field in BackMsg.DESCRIPTOR.oneofs[0].fields} - {"clear_cache"}


# -- measurements -------------------------------------------------------------------------


@LINUX
def test_processes_are_counted_with_their_children() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; x = bytearray(range(256)) * 2**18; print(1, flush=True); time.sleep(60)'])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            found = processes(process.pid)
            assert len(found) == 2
            assert process.pid in found
            assert max(found.values()) > 2**25
            assert set(found) < set(processes(os.getpid()))
        finally:
            os.killpg(process.pid, 9)
    assert processes(process.pid) == {}


FINE = Result("fine", 0, 0, (0.1,) * 99 + (3.0,), (0.2,), (1000, 5000, 1050), Counter({"refused": 3}))
BROKEN: dict[str, Result] = {
    "a process ended": replace(FINE, ended=1),
    "a process was left": replace(FINE, left=1),
    "p95 3.00 s (limit 0.5 s)": replace(FINE, clicks=(0.1, 3.0, 3.0)),
    "memory ×1.20 (limit ×1.1)": replace(FINE, memory=(1000, 5000, 1200)),
    "a page failed": replace(FINE, said=Counter({"compare: the page failed for a visitor: KeyError: x": 1})),
    "a file without data was read": replace(
        FINE, readable=False, said=Counter({"mine.pt was understood by its tensors": 1})
    ),
    "others saw: an exception": replace(FINE, failures=("an exception",)),
}


def test_what_is_over_the_limit_is_said() -> None:
    (fine,) = hostile.summary([FINE, FINE])
    assert fine.startswith("within the limits: ")
    for words, result in BROKEN.items():
        title, line = hostile.summary([FINE, result])
        assert title.startswith("over the limit: ")
        assert line == f"  fine: {words}"
    busy, *_ = hostile.summary([replace(FINE, clicks=(0.4, 0.4)), FINE])
    assert busy == "The machine has no time to tell: clicks take 0.40 s at p95 where nobody attacks."


def test_a_line_has_what_was_measured() -> None:
    result = replace(FINE, memory=(2**30, 2**31, 2**30), said=Counter({hostile.LATE: 9, "it is damaged.": 2}))
    assert result.line().split() == [
        "fine",
        "no",
        "ended,",
        "none",
        "left",
        "0.10",
        "s",
        "0.10",
        "s",
        "3.00",
        "s",
        "0.20",
        "s",
        "1,024",
        "2,048",
        "1,024",
        "×1.00",
        "2×",
        "it",
        "is",
        "damaged.",
    ]
    assert "not measured" in replace(FINE, memory=None).line()
    assert "0× nothing" in replace(FINE, clicks=(), pictures=(), said=Counter()).line()


def test_an_attack_that_is_none_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--only", "hostile", "--attacks", "nothing like it"]) == 2
    assert "no attack is called nothing like it: one of picture: BMP of runs, " in capsys.readouterr().err


# -- on a server --------------------------------------------------------------------------


async def come_back(scene: Scene) -> None:
    """Wait until somebody clicks who was cut off."""
    seen, end = len(scene.clicks), time.monotonic() + 120
    while len(scene.clicks) == seen:
        assert time.monotonic() < end
        await asyncio.sleep(0.2)


def brief(words: str) -> Attack:
    """The first round of an attack, however long it takes."""
    attack = next(attack for attack in ATTACKS if words in attack.name)

    async def act(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
        async with aclosing(attack.act(address, number, file)) as rounds:
            yield await anext(rounds)

    return replace(attack, act=act, once=True)


async def attacked() -> list[Result]:
    """Some attacks, on one server with two visitors; the last one ends it."""
    results = []
    async with Scene(2) as scene:

        async def kill(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
            scene.process.kill()
            yield "it is gone"

        await come_back(scene)
        last = Attack("kill", kill, people=1, once=True)
        for attack in (brief("no data"), brief("size of 15,900"), brief("uploads left"), last):
            file = attack.file()
            parts = [file[:100_000]] if isinstance(file, bytes) else file
            results.append(await scene.suffer(attack, parts, 0.0, 0.5))
        await come_back(scene)
        assert len(scene.restarts) == 1
        assert scene.failures
    return results


def test_a_server_is_attacked_and_comes_back() -> None:
    damaged, link, left, killed = alone(attacked())
    (words,) = damaged.said
    assert words.startswith("mine.pt is damaged")
    (words,) = link.said
    assert words.startswith("2 alerts: option = turn is not accepted")  # and the size
    assert left.said == {"a file is taken": 3}
    for result in (damaged, link, left):
        assert not result.ended
        assert not result.failures
    if killed.memory:
        assert killed.ended
        assert min(link.memory) > 100 * 2**20  # type: ignore[arg-type]


# -- what is sent -------------------------------------------------------------------------


def rounds(address: str, words: str, count: int, file: bytes = b"") -> list[str]:
    """What the first attacker sees in so many rounds of an attack."""
    attack = next(attack for attack in ATTACKS if words in attack.name)

    async def act() -> list[str]:
        async with asyncio.timeout(60), aclosing(attack.act(address, 0, [file])) as every:
            return [await anext(every) for _ in range(count)]

    return alone(act())


def test_thirty_pages_are_asked_for_before_one_is_awaited(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Noted(Visitor):
        async def ask(self, *states: Any, **given: Any) -> None:
            done.append(self.client.query_string)
            await super().ask(*states, **given)

        async def idle(self) -> None:
            done.append("idle")
            await super().idle()

    monkeypatch.setattr(hostile, "visit", partial(visit, kind=Noted))
    assert rounds(address, "in a row", 2) == ["the last page comes"] * 2
    asked = [f"size={size}" for size in range(200, 260)]
    waits = [number for number, what in enumerate(done) if what == "idle"]
    assert [what for what in done[2:] if what != "idle"] == asked
    assert min(waits[1:]) == 32
    assert done[max(waits[1:]) - 1] in ("idle", asked[-1])


def test_a_message_without_an_end_ends_the_connection(address: str) -> None:
    """At its first million bytes, in several connections at once; the word does not always arrive."""
    seen = rounds(address, "without an end", 4)
    assert all(re.search("received 1009|no close frame", words) for words in seen)
    assert any("exceeds limit of 1000000 bytes" in words for words in seen)


@pytest.mark.parametrize(
    ("words", "refused"), [("beside a length", "411"), ("says more than it has", "411"), ("more than it says", "400")]
)
def test_an_upload_that_lies_is_refused(address: str, words: str, refused: str) -> None:
    """Before its end, so that the word does not always arrive."""
    seen = Counter(sentence.split()[4] for sentence in rounds(address, words, 3, b"x" * 2000))
    assert refused in seen
    assert set(seen) <= {refused, "no"}


def test_chunks_say_what_they_are_told_to() -> None:
    body = bytes(hostile.CHUNK) + b"rest"
    *_, last, end = whole = list(hostile.chunked(body, 2**30))
    assert (last, end) == (b"40000004\r\nrest\r\n", b"0\r\n\r\n")
    assert b"".join(whole).startswith(b"40000\r\n\0\0")
    assert len(b"".join(whole)) == len(body) + len("40000\r\n\r\n" + "40000004\r\n\r\n" + "0\r\n\r\n")


def test_uploads_trickle(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[bytes, list[bytes], float]] = []

    async def noted(_: str, pieces: Iterable[bytes], pause: float) -> str:
        head, *rest = islice(pieces, 100)
        sent.append((head, rest, pause))
        return "408 Request Timeout"

    monkeypatch.setattr(hostile, "status_of", noted)
    assert rounds(address, "a byte a second", 20) == ["The upload is refused: 408 Request Timeout."] * 20
    assert len({head for head, _, _ in sent}) == 20
    for head, rest, pause in sent:
        assert head.startswith(b"PUT /_stcore/upload_file/")
        assert b"Content-Length: 1048576\r\n" in head
        assert (set(map(len, rest)), pause) == ({1}, 1.0)


def test_pieces_of_a_request_come_apart_until_it_is_answered() -> None:
    """By what arrives at a server of the test's own."""
    arrived: list[tuple[float, bytes]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(arrived) < 3:
            data = await reader.read(100)
            arrived.append((time.monotonic(), data))
        writer.write(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        await writer.drain()
        while await reader.read(100):
            pass
        writer.close()

    async def act() -> str:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with asyncio.timeout(10):
                return await status_of(address, repeat(b"0"), 0.1)

    assert alone(act()) == "408 Request Timeout"
    assert [data for _, data in arrived] == [b"0"] * 3
    assert arrived[2][0] - arrived[0][0] > 0.15


def test_downloads_are_asked_for_at_once(address: str) -> None:
    """One is made for a session, which the server's words say of the others."""
    seen = Counter(rounds(address, "sixty downloads", 6))
    (made,) = [words for words in seen if words.startswith("a file of")]
    assert float(made.split()[3]) > 1
    assert seen == {made: seen[made], "Failed to generate file for download": 6 - seen[made]}
    assert seen[made] < 6


def test_answers_are_read_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of the test's own, whose system holds little for it, keeps nearly all."""
    sent: Counter[str] = Counter()
    taken: list[int] = []
    read = asyncio.StreamReader.read

    async def noted(self: asyncio.StreamReader, size: int = -1) -> bytes:
        data = await read(self, size)
        taken.append(len(data))
        return data

    monkeypatch.setattr(asyncio.StreamReader, "read", noted)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        if path == "/":
            writer.write(b'<script type="module" src="./static/js/index.x.js"></script>')
            writer.close()
            return
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        writer.transport.set_write_buffer_limits(0)
        sent["answers"] += path == "/static/js/index.x.js"
        with suppress(ConnectionError):
            while True:
                writer.write(bytes(1000))
                await writer.drain()
                sent["bytes"] += 1000

    async def act() -> list[str]:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            return await asyncio.to_thread(rounds, address, "a few bytes", 2)

    start = time.monotonic()
    assert alone(act()) == ["34 answers go on"] * 2
    assert time.monotonic() - start > 0.9
    assert (sent["answers"], taken) == (34, [4] * 68)
    assert sent["bytes"] < 34 * 50_000


# -- links of chance ----------------------------------------------------------------------


def shown(**element: Any) -> ForwardMsg:
    return ForwardMsg(delta=Delta(new_element=Element(**element)))


@pytest.mark.parametrize("text", [text for text in MARKUP if text != "%3Cb%3E"])
def test_a_text_is_seen_that_would_be_drawn_as_another(text: str) -> None:
    assert misdrawn(shown(alert={"body": f"tab = {text} is not one of Layers"}))
    assert not misdrawn(shown(alert={"body": f"tab = {escape_markdown(text)} is not one of Layers"}))
    assert not misdrawn(shown(page_link={"query_string": text}))


@pytest.mark.parametrize(
    ("html", "asked"),
    [
        ('<img src="https://else.example/x.png">', True),
        ("<p>\n<image width=3\nxlink:href='//else.example/x'/>", True),
        ("<style>p { background: url(https://else.example/x.png) }</style>", True),
        ("![](https://else.example/x.png)", True),
        ('<a href="https://else.example/">there</a>', False),
        ('<svg xmlns="http://www.w3.org/2000/svg"><image href="data:image/png;base64,AA=="/></svg>', False),
        ('<img src="/media/x.png">', False),
    ],
)
def test_a_request_to_elsewhere_is_seen(html: str, asked: bool) -> None:
    assert bool(misdrawn(shown(html={"body": html}))) == asked


def test_links_of_chance_open_every_tab(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose names are in the source; what is wrong with a page is said."""
    source = ast.parse((ROOT / "pages" / "kernels.py").read_text(encoding="utf-8"))
    (names,) = [
        [ast.literal_eval(key) for key in node.keys if key] for node in ast.walk(source) if isinstance(node, ast.Dict)
    ]
    monkeypatch.setattr(hostile, "PAGES", (KERNELS, ACCURACY))
    every = [*(("kernels", name) for name in names), ("accuracy", "")]
    assert len(every) == 4
    assert alone(hostile.places(address)) == every
    links: list[tuple[str, str]] = []

    def noted(address: str, page: str = "", query: str = "", *kind: Any) -> Any:
        links.append((page, dict(parse_qsl(query)).get("tab", "")))
        return visit(address, page, query, *kind)

    monkeypatch.setattr(hostile, "visit", noted)
    monkeypatch.setattr(hostile, "random_links", lambda _: chain(["size=32"] * 4, ["tab=Cost"]))
    assert [words for _, words in alone(hostile.open_many(address, 5))] == [hostile.NOTHING_WRONG] * 5
    assert links[2:] == [*every, ("kernels", "Cost")]
    monkeypatch.setattr(visitors, "misdrawn", lambda _: "<b>")
    monkeypatch.setattr(hostile, "DROPPED", 60.0)
    (words,) = rounds(address, "link: random", 1)
    assert words == "the page draws '<b>' for a visitor at kernels?size=32&tab=Kernel+stacks"


def test_what_links_of_chance_did_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def found(address: str, count: int) -> list[tuple[float, str]]:
        return [(0.25, "fine")] * count + [(3.0, "the page failed")]

    monkeypatch.setattr(hostile, "open_many", found)
    monkeypatch.setattr(hostile, "server", lambda _: nullcontext(("", None)))
    with ThreadPoolExecutor(1) as pool:  # in this thread a browser's event loop may run
        pool.submit(hostile.links, 1000).result()
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == "1,000 links of chance over every page and tab: median 0.25 s, slowest 3.00 s"
    assert lines == [" 1,000× fine", "     1× the page failed"]
