"""What attackers send is what the attack says, the same on each run."""

from __future__ import annotations

import asyncio
import io
import re
import socket
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import aclosing, closing, suppress
from functools import partial
from itertools import islice, repeat
from typing import Any

import pytest
import torch
from streamlit.proto.BackMsg_pb2 import BackMsg

from explorer.bench.hostile import attacks
from explorer.bench.hostile.attacks import ATTACKS, Attack, messages
from explorer.bench.hostile.checkpoints import half_precision
from explorer.bench.links import random_links
from explorer.bench.visitors import Visitor, status_of, visit
from helpers import alone
from resnet.checkpoint import WeightsError, read_state_dict

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
        if attack.file is not half_precision:
            assert attack.file() == attack.file()
    assert list(islice(random_links(3), 50)) == list(islice(random_links(3), 50))
    assert list(islice(random_links(3), 50)) != list(islice(random_links(4), 50))
    kinds = {
        BackMsg.FromString(message).WhichOneof("type")
        for message in messages().values()
        if message[:1] not in (b"\0", b"\x80", b"\xff")
    }
    assert kinds >= {field.name for field in BackMsg.DESCRIPTOR.oneofs[0].fields} - {"clear_cache"}


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

    monkeypatch.setattr(attacks, "visit", partial(visit, kind=Noted))
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
    body = bytes(attacks.CHUNK) + b"rest"
    *_, last, end = whole = list(attacks.chunked(body, 2**30))
    assert (last, end) == (b"40000004\r\nrest\r\n", b"0\r\n\r\n")
    assert b"".join(whole).startswith(b"40000\r\n\0\0")
    assert len(b"".join(whole)) == len(body) + len("40000\r\n\r\n" + "40000004\r\n\r\n" + "0\r\n\r\n")


def test_uploads_trickle(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[bytes, list[bytes], float]] = []

    async def noted(_: str, pieces: Iterable[bytes], pause: float) -> str:
        head, *rest = islice(pieces, 100)
        sent.append((head, rest, pause))
        return "408 Request Timeout"

    monkeypatch.setattr(attacks, "status_of", noted)
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
        with suppress(ConnectionError), closing(writer):
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
