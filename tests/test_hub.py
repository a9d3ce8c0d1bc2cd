"""Downloads into torch.hub's cache: once for all who ask, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision

from helpers import soon
from loopback import Server
from resnet import ResNet, ResNetConfig, preset, servers
from resnet import hub as hub_module
from resnet.checkpoint import WeightsError
from resnet.weights import download, is_cached, load, torchvision_weights

TINY = ResNetConfig(
    layers=(1,), planes=(4,), block="basic", stem="3x3", stem_pool="none", in_channels=1, num_classes=10
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        yield server


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's folder, empty."""
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    torch.hub.set_dir(str(tmp_path / "hub"))
    return tmp_path / "hub"


BODY = bytes(range(256)) * 10_000  # more than two of the pieces in which a file is read
HASH = hashlib.sha256(BODY).hexdigest()
NAME = f"tiny-{HASH[:8]}.pth"


def files(folder: Path) -> list[str]:
    """All but the lists of what was downloaded."""
    return sorted(
        path.name for path in folder.rglob("*") if path.is_file() and not path.name.startswith("resnet-explorer")
    )


def test_a_download_lands_in_the_cache(server: Server, hub: Path) -> None:
    url = server.offer(f"tiny-{HASH[:8]}.pth", BODY)
    calls: list[tuple[int, int]] = []
    assert not is_cached(url)
    path = download(url, lambda done, total: calls.append((done, total)))
    assert path == hub / "checkpoints" / f"tiny-{HASH[:8]}.pth"
    assert path.read_bytes() == BODY
    assert is_cached(url)
    assert files(hub) == [path.name]
    assert calls == sorted(calls)
    assert calls[-1] == (len(BODY), len(BODY))

    assert download(url, lambda done, total: calls.append((0, 0))) == path
    assert len(server.asked) == 1
    assert calls[-1] == (len(BODY), len(BODY))


@pytest.mark.parametrize(("name", "length"), [("plain.pth", None), (f"tiny-{HASH}.pth", 0), ("resnet-18-v2.pth", None)])
def test_a_download_without_hash_or_length(server: Server, hub: Path, name: str, length: int | None) -> None:
    calls: list[tuple[int, int]] = []
    path = download(server.offer(name, BODY, length), lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == BODY
    assert calls[-1] == (len(BODY), len(BODY) if length is None else 0)


def refused(url: str, hub: Path, words: str, *left: str) -> None:
    """A download fails in a sentence, and leaves these files."""
    with pytest.raises(WeightsError) as caught:
        download(url, lambda done, total: None)
    text = str(caught.value)
    assert words in text
    assert Path(url).name in text
    assert text.endswith("need no download.")
    assert "\n" not in text
    assert len(text) < 300
    assert files(hub) == [*left]


def test_another_file_than_the_name_says(server: Server, hub: Path) -> None:
    refused(server.offer(f"tiny-{'0' * 8}.pth", BODY), hub, "is not that file: 2,560,000 bytes")
    refused(server.offer(f"tiny-{HASH[:8]}.pth", BODY[:-1]), hub, "is not that file: 2,559,999 bytes")
    refused(
        server.offer(f"tiny-{HASH[:7]}x.pth".replace("x", "0" if HASH[7] != "0" else "1"), BODY), hub, "is not that"
    )


@pytest.mark.parametrize(("name", "left"), [("plain.pth", []), (NAME, [f"{NAME}.part"])])
def test_a_download_that_stops_half_way(server: Server, hub: Path, name: str, left: list[str]) -> None:
    """What came of a file with a hash is kept: nothing would tell whether the rest of another is of the same file."""
    refused(server.offer(name, BODY[:100_000], len(BODY)), hub, "broke off after 100,000 of 2,560,000 bytes", *left)


def test_a_file_that_is_not_there(server: Server, hub: Path) -> None:
    refused(server.offer("x.pth", b"")[:-5] + "y.pth", hub, "could not be downloaded (it is not there)")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "it asks for a login"),
        (403, "it asks for a login, or is closed to this server"),
        (404, "it is not there"),
        (410, "Gone"),
        (429, "its server is asked too often: try again in some minutes"),
        (503, "its server has a fault, 503"),
    ],
)
def test_what_a_server_answers_in_a_sentence(server: Server, hub: Path, status: int, words: str) -> None:
    url = server.offer("x.pth", b"")
    server.files["/x.pth"].status = status
    refused(url, hub, f"could not be downloaded ({words}); ")


def test_a_server_that_is_not_there(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    refused(f"http://127.0.0.1:{port}/x.pth", hub, "could not be downloaded (")


def test_a_cache_that_cannot_be_written(server: Server, hub: Path) -> None:
    hub.write_text("not a folder", encoding="utf-8")
    with pytest.raises(WeightsError, match=r"^x\.pth could not be downloaded \(.*need no download\.$"):
        download(server.offer("x.pth", BODY), lambda done, total: None)


class Person(threading.Thread):
    """Somebody who waits for a download, until it has ended or they leave."""

    def __init__(self, url: str):
        super().__init__(daemon=True)
        self.url, self.far, self.leaves = url, threading.Event(), threading.Event()
        self.result: Path | BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = download(self.url, self.progress)
        except BaseException as error:
            self.result = error

    def progress(self, done: int, total: int) -> None:
        if done:
            self.far.set()
        if self.leaves.is_set():
            raise Left

    def leave(self) -> None:
        self.leaves.set()
        self.join(60)
        assert isinstance(self.result, Left)


class Left(BaseException):
    """What Streamlit raises in the script of a person who clicks elsewhere."""


def test_four_people_download_a_file_once(server: Server, hub: Path) -> None:
    server.second_half.clear()
    url = server.offer("x.pth", BODY)
    people = [Person(url) for _ in range(4)]
    for person in people:
        assert person.far.wait(60)  # each sees how far the one download is
    people[0].leave()
    server.second_half.set()
    for person in people[1:]:
        person.join(60)
        assert person.result == hub / "checkpoints" / "x.pth"
    assert server.asked == ["/x.pth"]
    assert files(hub) == ["x.pth"]
    assert download(url, lambda done, total: pytest.fail("it is there")).read_bytes() == BODY


def test_a_download_that_everybody_leaves(server: Server, hub: Path) -> None:
    server.second_half.clear()
    url = server.offer("x.pth", BODY)
    first, second = Person(url), Person(url)
    assert first.far.wait(60)
    first.leave()
    second.leave()
    server.second_half.set()
    soon(lambda: files(hub) == [])
    assert download(url, lambda done, total: None).read_bytes() == BODY
    assert server.asked == ["/x.pth"] * 2


# -- what is resumed ------------------------------------------------------------------------


def stopped_half_way(server: Server, hub: Path) -> str:
    """The address of a file of which half has arrived when the last one who waits for it leaves."""
    server.second_half.clear()
    url = server.offer(NAME, BODY)
    person = Person(url)
    assert person.far.wait(60)
    soon(lambda: hub_module.bytes_so_far(hub_module.torch_source(url))[0] == len(BODY) // 2)
    person.leave()
    server.second_half.set()
    soon(lambda: files(hub) == [f"{NAME}.part"] and not hub_module._DOWNLOADS)
    server.asked.clear()
    return url


def test_a_download_goes_on_where_it_was_left(server: Server, hub: Path) -> None:
    url = stopped_half_way(server, hub)
    far = len((hub / "checkpoints" / f"{NAME}.part").read_bytes())
    assert len(BODY) // 2 <= far
    assert hub_module.bytes_so_far(hub_module.torch_source(url)) == (far, 0)
    assert not is_cached(url)
    calls: list[tuple[int, int]] = []
    path = download(url, lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == BODY
    assert server.ranges == [f"bytes={far}-"]
    assert calls[-1] == (len(BODY), len(BODY))
    assert files(hub) == [NAME]


def test_who_comes_back_before_it_has_ended_goes_on(server: Server, hub: Path) -> None:
    server.second_half.clear()
    url = server.offer(NAME, BODY)
    first = Person(url)
    assert first.far.wait(60)
    first.leave()
    second = Person(url)
    assert second.far.wait(60)
    server.second_half.set()
    second.join(60)
    assert second.result == hub / "checkpoints" / NAME
    assert server.asked == [f"/{NAME}"]


def test_a_server_that_sends_all_again(server: Server, hub: Path) -> None:
    url = stopped_half_way(server, hub)
    server.files[f"/{NAME}"].ranges = False
    assert download(url, lambda done, total: None).read_bytes() == BODY
    assert len(server.asked) == 1


@pytest.mark.parametrize("part", [b"of another file", BODY[:-1] + b"x", BODY + b"more"], ids=["begin", "end", "longer"])
def test_a_part_of_another_file_is_never_taken_for_one_of_this(server: Server, hub: Path, part: bytes) -> None:
    (hub / "checkpoints").mkdir(parents=True)
    (hub / "checkpoints" / f"{NAME}.part").write_bytes(part)
    assert download(server.offer(NAME, BODY), lambda done, total: None).read_bytes() == BODY
    assert files(hub) == [NAME]
    assert len(server.asked) == 2


def test_a_page_in_place_of_the_rest_leaves_the_part(server: Server, hub: Path) -> None:
    url = stopped_half_way(server, hub)
    server.offer(NAME, b"<html>Please log in", kind="text/html")
    server.files[f"/{NAME}"].ranges = False
    refused(url, hub, "the server sent a page", f"{NAME}.part")
    server.offer(NAME, BODY)
    server.ranges.clear()
    assert download(url, lambda done, total: None).read_bytes() == BODY
    assert server.ranges


def test_what_a_killed_server_left_is_gone_on_with(server: Server, hub: Path) -> None:
    part = hub / "checkpoints" / f"{NAME}.a1.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(BODY[:1000])
    os.utime(part, (time.time() - 7200,) * 2)
    assert download(server.offer(NAME, BODY), lambda done, total: None).read_bytes() == BODY
    assert server.ranges == ["bytes=1000-"]
    assert files(hub) == [NAME]


# -- what bounds them -----------------------------------------------------------------------


def test_what_was_downloaded_has_a_bound_together(server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others have in the same folder does not count, nor what is gone."""
    monkeypatch.setattr(hub_module.owner, "cache_bytes", lambda: 2 * len(BODY))
    (hub / "checkpoints").mkdir(parents=True)
    (hub / "checkpoints" / "theirs.pth").write_bytes(BODY)
    for name in ("a.pth", "b.pth"):
        download(server.offer(name, BODY), lambda done, total: None)
    for length in (None, 0):
        with pytest.raises(
            WeightsError, match=r"^There is no room for c\.pth on this server: .* RESNET_EXPLORER_CACHE_GIB"
        ) as told:
            download(server.offer("c.pth", BODY, length), lambda done, total: None)
        assert "\n" not in str(told.value)
    assert files(hub) == ["a.pth", "b.pth", "theirs.pth"]
    (hub / "checkpoints" / "a.pth").unlink()
    download(server.offer("c.pth", BODY), lambda done, total: None)


def test_a_disk_keeps_something_free(server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=hub_module.RESERVE_BYTES + len(BODY) - 1)
    monkeypatch.setattr(hub_module.shutil, "disk_usage", lambda path: usage)
    refused(server.offer("x.pth", BODY), hub, "on this server: 1 GiB of its disk stays free")
    usage.free += 1
    download(server.offer("x.pth", BODY), lambda done, total: None)


@pytest.mark.parametrize("bound", ["disk", "cache"])
def test_downloads_that_begin_together_have_no_more_room_than_one_after_the_other(
    server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """Though nobody knows beforehand how large they are."""

    def free(_: object) -> SimpleNamespace:
        used = sum(path.stat().st_size for path in hub.rglob("*.p*th*"))
        return SimpleNamespace(free=hub_module.RESERVE_BYTES + int(1.5 * len(BODY)) - used)

    if bound == "disk":
        monkeypatch.setattr(hub_module.shutil, "disk_usage", free)
    else:
        monkeypatch.setattr(hub_module.owner, "cache_bytes", lambda: int(1.5 * len(BODY)))
    server.second_half.clear()
    first = Person(server.offer("a.pth", BODY))
    assert first.far.wait(60)
    others = [Person(server.offer(name, BODY)) for name in ("b.pth", "c.pth")]
    for other in others:
        other.join(60)
        assert isinstance(other.result, WeightsError)
        assert "There is no room for " in str(other.result)
    server.second_half.set()
    first.join(60)
    assert first.result == hub / "checkpoints" / "a.pth"
    assert files(hub) == ["a.pth"]


def test_a_disk_that_others_fill_meanwhile(server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=2 * hub_module.RESERVE_BYTES)
    monkeypatch.setattr(hub_module.shutil, "disk_usage", lambda path: usage)
    server.second_half.clear()
    person = Person(server.offer("x.pth", BODY))
    assert person.far.wait(60)
    usage.free = hub_module.RESERVE_BYTES
    server.second_half.set()
    person.join(60)
    assert "on this server: 1 GiB of its disk stays free" in str(person.result)
    assert files(hub) == []


def test_what_people_typed_takes_half_of_the_room(server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is published finds room then."""
    monkeypatch.setattr(hub_module.owner, "cache_bytes", lambda: 3 * len(BODY))

    def typed(name: str) -> Path:
        source = hub_module.torch_source(server.offer(name, BODY))
        return hub_module.fetch(replace(source, by_id=True), lambda done, total: None)

    typed("a.pth")
    with pytest.raises(
        WeightsError, match=r"^There is no room for b\.pth on this server: the models whose names people typed"
    ):
        typed("b.pth")
    for name in ("c.pth", "d.pth"):
        download(server.offer(name, BODY), lambda done, total: None)
    with pytest.raises(
        WeightsError, match=r"^There is no room for e\.pth on this server: what it has downloaded may take"
    ):
        download(server.offer("e.pth", BODY), lambda done, total: None)


def test_a_part_that_a_killed_server_left_takes_room(
    server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module.owner, "cache_bytes", lambda: 2 * len(BODY))
    path = download(server.offer("a.pth", BODY), lambda done, total: None)
    path.rename(path.with_name("a.pth.0a1b.part"))
    download(server.offer("b.pth", BODY), lambda done, total: None)
    refused(server.offer("c.pth", BODY), hub, "There is no room for ", "a.pth.0a1b.part", "b.pth")


def test_a_part_that_goes_while_the_cache_is_looked_through_hides_no_other(
    server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module.owner, "cache_bytes", lambda: 2 * len(BODY))
    for name in "ab":
        download(server.offer(f"{name}.pth", BODY), lambda done, total: None)
    look = os.scandir

    @contextmanager
    def scandir(folder: str) -> Iterator[list[os.DirEntry[str]]]:
        part = Path(folder, "a.pth.part")
        part.touch()
        entries = sorted(look(folder), key=lambda entry: entry.name != part.name)
        part.unlink()
        yield entries

    monkeypatch.setattr(hub_module.os, "scandir", scandir)
    refused(server.offer("c.pth", BODY), hub, "There is no room for ", "a.pth", "b.pth")


def test_a_record_that_cannot_be_read_lets_nothing_be_fetched(server: Server, hub: Path) -> None:
    """As nobody can say what there is; what is damaged in it is nobody's file."""
    record = hub / "resnet-explorer.txt"
    record.parent.mkdir()
    record.write_bytes(b"\xff\n\0\n")
    download(server.offer("a.pth", BODY), lambda done, total: None)
    record.unlink()
    record.mkdir()
    refused(server.offer("b.pth", BODY), hub, "could not be downloaded (Is a directory)", "a.pth")


def test_the_record_is_read_where_it_has_changed(server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = download(server.offer("a.pth", BODY), lambda done, total: None)
    assert hub_module.recorded(by_id=False) == {str(path)}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("it has not changed"))
        assert hub_module.recorded(by_id=False) == {str(path)}
    other = download(server.offer("b.pth", BODY), lambda done, total: None)
    assert hub_module.recorded(by_id=False) == {str(path), str(other)}


def test_downloads_wait_for_a_place(server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "PLACES", hub_module.confined.Places(1))
    server.second_half.clear()
    first = Person(server.offer("a.pth", BODY))
    assert first.far.wait(60)
    second, third = Person(server.offer("b.pth", BODY)), Person(server.offer("c.pth", BODY))
    third.leave()  # who waits can leave, too
    server.second_half.set()
    second.join(60)
    assert second.result == hub / "checkpoints" / "b.pth"
    assert server.asked == ["/a.pth", "/b.pth"]


def test_an_owner_may_forbid_downloads(server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is here is still used."""
    url = server.offer("x.pth", BODY)
    download(url, lambda done, total: None)
    monkeypatch.setenv("RESNET_EXPLORER_DOWNLOADS", "off")
    assert download(url, lambda done, total: None).read_bytes() == BODY
    refused(server.offer("y.pth", BODY), hub, "its owner has switched downloads off", "x.pth")
    assert server.asked == ["/x.pth"]


# -- faults ---------------------------------------------------------------------------------


def test_a_failure_is_everybodys_who_waits(server: Server, hub: Path) -> None:
    server.second_half.clear()
    people = [Person(server.offer(f"x-{'0' * 8}.pth", BODY)) for _ in range(3)]
    for person in people:
        assert person.far.wait(60)
    server.second_half.set()
    for person in people:
        person.join(60)
        assert isinstance(person.result, WeightsError)
        assert "is not that file" in str(person.result)
    assert len(server.asked) == 1
    assert files(hub) == []


def test_a_download_that_trickles_has_an_end(server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many bytes as arrive at 15 KiB/s, and a clock that runs as far as that takes."""
    server.second_half.clear()
    url = server.offer("x.pth", bytes(2 * 30 * 15 * 2**10))
    clock = threading.Event()
    monkeypatch.setattr(hub_module.time, "monotonic", lambda: 31.0 * clock.is_set())
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        seen.append(done)
        if done == total // 2:
            clock.set()

    with pytest.raises(
        WeightsError, match=r"x\.pth could not be downloaded \(less than 16 KiB a second arrived over 30 s\)"
    ):
        download(url, progress)
    assert seen[-1] == 30 * 15 * 2**10
    server.second_half.set()
    soon(lambda: files(hub) == [])


def test_a_download_is_as_long_as_its_rate_is_enough(
    server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.first_half.clear()
    server.second_half.clear()
    url = server.offer("x.pth", bytes(2 * 30 * 17 * 2**10))
    clock = threading.Event()
    monkeypatch.setattr(hub_module.time, "monotonic", lambda: 31.0 * clock.is_set())

    def progress(done: int, total: int) -> None:
        server.first_half.set()
        if clock.is_set():
            server.second_half.set()
        elif done == total // 2:
            clock.set()

    assert download(url, progress).stat().st_size == 2 * 30 * 17 * 2**10


def test_a_server_that_sends_headers_for_ever(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(hub_module, "PATIENCE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        refused(f"http://127.0.0.1:{listening.getsockname()[1]}/x.pth", hub, "less than 16 KiB a second arrived")


@pytest.mark.parametrize("length", [None, 0], ids=["announced", "not announced"])
def test_a_file_that_is_too_large(
    server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch, length: int | None
) -> None:
    monkeypatch.setattr(hub_module, "MAX_DOWNLOAD_BYTES", len(BODY) - 1)
    refused(server.offer("x.pth", BODY, length), hub, "it has more than ")


@pytest.mark.parametrize("size", [0, 20])
def test_a_file_takes_no_more_than_it_is_said_to_have(server: Server, hub: Path, size: int) -> None:
    """Though its server does not say how much it sends, and sends for ever."""
    source = hub_module.torch_source(server.offer(NAME, BODY, length=0))
    seen: list[int] = []
    with pytest.raises(WeightsError, match=rf"should have {size} bytes and its server sends more\)"):
        hub_module.fetch(replace(source, bytes=size), lambda done, total: seen.append(done))
    assert max(seen, default=0) <= size
    assert files(hub) == []


def test_a_file_that_is_known_to_be_empty(server: Server, hub: Path) -> None:
    source = replace(hub_module.torch_source(server.offer("x.txt", b"")), bytes=0)
    assert hub_module.fetch(source, lambda done, total: None).read_bytes() == b""
    source.path.write_bytes(b"damaged")
    assert not hub_module.is_whole(source)


def test_a_page_instead_of_the_file(server: Server, hub: Path) -> None:
    refused(
        server.offer("x.pth", b"<html>Please log in", kind="text/html; charset=utf-8"), hub, "the server sent a page"
    )


@pytest.mark.parametrize(
    ("of", "to", "follows"),
    [
        ("https://a.example/x", "https://b.example/y", True),
        ("http://127.0.0.1/x", "https://b.example/y", True),
        ("http://127.0.0.1/x", "http://127.0.0.1:1/y", True),
        ("https://a.example/x", "http://a.example/y", False),
        ("https://a.example/x", "ftp://a.example/y", False),
    ],
)
def test_where_a_server_may_lead_on_to(of: str, to: str, follows: bool) -> None:
    """Never from an encrypted connection to one that anybody could write into."""
    request = urllib.request.Request(of)
    request.add_unredirected_header("Authorization", "Bearer x")
    with nullcontext() if follows else pytest.raises(ConnectionError, match="leads on to an address that is not https"):
        new = servers._Redirects().redirect_request(request, io.BytesIO(), 302, "", Message(), to)
        assert new is not None
        assert new.full_url == to
        assert not new.has_header("Authorization")


def test_a_server_that_leads_on_to_another_kind_of_one(server: Server, hub: Path) -> None:
    url = server.offer("x.pth", b"")
    server.files["/x.pth"].status = 302
    server.files["/x.pth"].headers = {"Location": "ftp://127.0.0.1/x.pth"}
    refused(url, hub, "could not be downloaded (it leads on to an address that is not https);")


def test_a_full_disk(server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, _: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    plain = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, mode="r", *rest, **named: (
            Full(path, mode) if path.suffix == ".part" else plain(path, mode, *rest, **named)
        ),
    )
    refused(server.offer("x.pth", BODY), hub, "could not be downloaded (No space left on device)")


def test_a_part_of_a_killed_server_goes_and_another_servers_stays(server: Server, hub: Path) -> None:
    old, new = hub / "checkpoints" / "x.pth.a1.part", hub / "checkpoints" / "x.pth.b2.part"
    old.parent.mkdir(parents=True)
    for path in (old, new):
        path.write_bytes(b"so far")
    os.utime(old, (time.time() - 7200,) * 2)
    download(server.offer("x.pth", BODY), lambda done, total: None)
    assert files(hub) == ["x.pth", new.name]


@pytest.mark.parametrize("damage", ["cut", "a byte", "empty"])
def test_a_damaged_file_in_the_cache_is_downloaded_again(server: Server, hub: Path, damage: str) -> None:
    path = hub / "checkpoints" / f"tiny-{HASH[:8]}.pth"
    url = server.offer(path.name, BODY)
    download(url, lambda done, total: None)
    assert is_cached(url)
    path.write_bytes({"cut": BODY[:-1], "a byte": b"x" + BODY[1:], "empty": b""}[damage])
    assert not is_cached(url)
    assert download(url, lambda done, total: None).read_bytes() == BODY
    assert is_cached(url)
    assert len(server.asked) == 2
    assert files(hub) == [path.name]


def test_a_whole_file_is_read_once(server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.offer(f"tiny-{HASH[:8]}.pth", BODY)
    download(url, lambda done, total: None)
    assert is_cached(url)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("it has not changed"))
    assert is_cached(url)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_torchvision_weights_end_to_end(server: Server, hub: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    theirs = torchvision.models.resnet18().to(dtype)
    stream = io.BytesIO()
    torch.save(theirs.state_dict(), stream)
    theirs = theirs.float().eval()
    body = stream.getvalue()
    (weights,) = torchvision_weights(preset("resnet18"))
    url = server.offer(f"resnet18-{hashlib.sha256(body).hexdigest()[:8]}.pth", body)
    calls: list[tuple[int, int]] = []
    ours = load(replace(weights, url=url), lambda done, total: calls.append((done, total)))
    assert calls[-1] == (len(body), len(body))
    assert not ours.training
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert ours(image).dtype == torch.float32
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-5, atol=1e-5)


def test_a_download_that_fails_stops_loading(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr(servers, "_open", fail)
    (weights,) = torchvision_weights(preset("resnet18"))
    with pytest.raises(WeightsError, match=r"^resnet18-f37072fd\.pth could not be downloaded \(timed out\); "):
        load(weights)
    assert files(hub) == []


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut", pickle.dumps([], 2)])
def test_a_file_without_a_hash_that_is_damaged_is_downloaded_again(server: Server, hub: Path, content: bytes) -> None:
    stream = io.BytesIO()
    torch.save(ResNet(preset("resnet18")).state_dict(), stream)
    weights = replace(torchvision_weights(preset("resnet18"))[0], url=server.offer("served.pth", stream.getvalue()))
    path = hub / "checkpoints" / "served.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert not load(weights).training
    assert path.read_bytes() == stream.getvalue()
    server.offer("served.pth", content or b"x")
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"^served\.pth in torch\.hub's cache holds no weights of this network; "):
        load(weights)
    assert len(server.asked) == 2


def test_a_stranger_who_writes_into_the_cache_has_nothing_run(server: Server, hub: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    weights = torchvision_weights(preset("resnet18"))[0]

    class Bad:
        def __reduce__(self) -> Any:
            return Path.touch, (mark,)

    stream = io.BytesIO()
    torch.save({"conv1.weight": Bad()}, stream)
    with pytest.raises(WeightsError):
        load(replace(weights, url=server.offer("served.pth", stream.getvalue())))
    assert not mark.exists()


# -- what is read and kept nowhere ------------------------------------------------------------


def read(url: str, progress: Any = lambda done, total: None) -> bytes:
    return servers.read(url, "The list", 2**20, progress=progress)


def test_who_waits_for_a_list_can_leave(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its place is free again once its server has said something; who leaves before has never asked."""
    monkeypatch.setattr(servers, "SHORT_PLACES", hub_module.confined.Places(1))
    server.first_half.clear()
    url = server.offer("list.json", bytes(2**16))

    def leave(done: int, total: int) -> None:
        raise Left

    def leave_once_asked(done: int, total: int) -> None:
        if server.asked:
            raise Left

    for progress in (leave_once_asked, leave):
        with pytest.raises(Left):
            read(url, progress)
    server.first_half.set()
    assert read(url) == bytes(2**16)
    assert server.asked == ["/list.json"] * 2


def test_small_files_and_lists_wait_for_no_place_among_large_ones(
    server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "PLACES", hub_module.confined.Places(1))
    server.second_half.clear()
    large = Person(server.offer("a.pth", BODY))
    assert large.far.wait(60)
    small = hub_module.torch_source(server.offer("b.json", b"{}"))
    assert hub_module.fetch(replace(small, bytes=2), lambda done, total: None).read_bytes() == b"{}"
    assert read(small.url) == b"{}"
    assert large.is_alive()
    large.leave()


# -- what a page does not wait for, and what is looked through once ---------------------------------


def test_others_have_their_turn_while_a_file_is_read_for_its_digest(
    server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without a digest is not read at all."""
    url, plain = server.offer(NAME, BODY), server.offer("plain.pth", BODY)
    for one in (url, plain):
        hub_module.torch_source(one).path.parent.mkdir(parents=True, exist_ok=True)
        hub_module.torch_source(one).path.write_bytes(BODY)
    turns: list[str] = []

    @contextmanager
    def aside() -> Iterator[None]:
        turns.append("aside")
        yield
        turns.append("back")

    plain_digest = hashlib.file_digest

    def file_digest(*args: Any) -> Any:
        turns.append("read")
        return plain_digest(*args)

    monkeypatch.setattr(hub_module.confined, "aside", aside)
    monkeypatch.setattr(hashlib, "file_digest", file_digest)
    assert is_cached(plain)
    assert not turns
    assert is_cached(url)
    assert turns == ["aside", "read", "back"]


def test_the_caches_are_looked_through_a_few_times_for_a_file_of_unknown_length(
    server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[bool] = []
    plain_taken = hub_module._taken

    def taken(*args: Any) -> int:
        looks.append(args[0])
        return plain_taken(*args)

    monkeypatch.setattr(hub_module, "_taken", taken)
    body = bytes(5 * hub_module.CLAIM_BYTES // 2)
    monkeypatch.setattr(hub_module, "MAX_DOWNLOAD_BYTES", len(body))
    assert download(server.offer("x.pth", body, length=0), lambda done, total: None).stat().st_size == len(body)
    assert len(looks) <= 2 * 4


def test_a_fault_of_the_programs_own_is_logged(
    server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.offer("x.pth", BODY)
    server.files["/x.pth"].status = 503
    refused(url, hub, "x.pth could not be downloaded (its server has a fault, 503)")
    assert not caplog.text

    def bug(*_: object) -> None:
        raise KeyError

    monkeypatch.setattr(hub_module, "_receive", bug)
    refused(url, hub, "x.pth could not be downloaded (by a fault of this app, which its log names)")
    assert "KeyError" in caplog.text
