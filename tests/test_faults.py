"""Servers that are killed, stopped, or installed with damaged files: what people at them see."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from websockets.exceptions import ConnectionClosed

from explorer.analysis import measured
from explorer.bench import browser, visitors
from explorer.bench.browser import ROOT
from explorer.experiments import degradation, landscape, shipped
from explorer.inference import samples as sample_files
from explorer.inference.samples import labelled_images, samples
from explorer.lessons import source
from explorer.link import View
from helpers import alone, soon, there
from resnet import WeightsError, preset, published
from resnet.shipped import ShippedError
from resnet.weights import BUNDLED


class Server:
    """The app as it is in `folder`, in a process that a test may end in any way and start again."""

    def __init__(self, folder: Path, hub: Path):
        self.folder, self.hub, self.stack = folder, hub, ExitStack()
        self.start()

    def start(self) -> None:
        environment = {"TORCH_HOME": str(self.hub), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(self.folder)}
        self.address, self.process = self.stack.enter_context(
            browser.server(self.folder / "explorer" / "app.py", self.folder, environment)
        )

    def children(self) -> list[int]:
        """The processes that it has started and that run."""
        found = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, encoding="utf-8", check=True
        ).stdout
        pairs = [map(int, line.split()) for line in found.splitlines()]
        return [pid for pid, parent in pairs if parent == self.process.pid and there(pid)]

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(60)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(ROOT, tmp_path_factory.mktemp("hub"))
    with server.stack:
        yield server


@pytest.fixture
def server(standing: Server) -> Server:
    """A server that runs, whatever a test before has done to it."""
    if standing.process.poll() is not None:
        standing.start()
    return standing


class Person(visitors.Visitor):
    """A visitor who comes by a link, "page?query", and reads the page: `said` are its texts, each with its kind."""

    def __init__(self, *given: Any):
        super().__init__(*given)
        self.client.page_name, _, self.client.query_string = self.client.page_name.partition("?")
        self.said: list[tuple[str, str]] = []

    def take(self, message: Any) -> None:
        super().take(message)
        if message.WhichOneof("type") == "ref_hash":
            message = self.kept[message.ref_hash]
        kind = message.WhichOneof("type")
        if kind == "new_session" and not message.metadata.run.fragment_ids:
            self.said = []
        elif kind == "delta" and (name := message.delta.new_element.WhichOneof("type")):
            element = getattr(message.delta.new_element, name)
            words = getattr(element, "body", "") or getattr(element, "text", "")
            self.said.append((name, visitors.unescaped(str(words))))

    @property
    def words(self) -> str:
        return "\n".join(text for _, text in self.said)

    @property
    def view(self) -> tuple[str, dict[str, str | bool], list[str]]:
        """What a person knows a page by: its link, what its widgets stand at, and its words, but for what was measured."""
        words = [re.sub(r"[\d.,]+ m?s\b", "", text) for name, text in self.said if name != "progress"]
        return self.client.query_string, self.shown, words

    async def watch(self, true: Callable[[], object]) -> None:
        """Let the page renew itself, as a browser does, until something is so."""
        end = time.monotonic() + 120
        while not true():
            assert time.monotonic() < end, self.words
            await asyncio.sleep(0.2)
            for fragment in list(self.polls)[:1]:
                await self.run(fragment=fragment, poll=True)


@pytest.fixture(autouse=True)
def _readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever visits is a `Person`."""
    monkeypatch.setattr(visitors, "Visitor", Person)


@asynccontextmanager
async def visit(server: Server, link: str) -> AsyncIterator[Person]:
    async with visitors.visit(server.address, link) as person:
        assert isinstance(person, Person)
        yield person


def read(server: Server, *links: str, kill: bool = False) -> list[Person]:
    """People who have opened these links, all at a time, and left; or the server is killed while they are there."""

    async def everybody() -> list[Person]:
        async with AsyncExitStack() as stack:
            coming = (stack.enter_async_context(visit(server, link)) for link in links)
            people = await asyncio.gather(*coming)
            if kill:
                assert server.end(signal.SIGKILL) == -signal.SIGKILL
                await asyncio.gather(*map(lost, people))
            return people

    async def lost(person: Person) -> None:
        with suppress(ConnectionClosed):
            while True:
                await person.socket.recv()

    return alone(everybody())


def link(page: str = "", view: View | None = None, **changes: Any) -> str:
    return f"{page}?{urlencode(replace(view or View(), **changes).to_query())}"


SMALL = View(preset("resnet20"), (32, 32))
FASHION = View(BUNDLED["resnet20"], (28, 28))
LINKS = (
    *(
        link("architecture", View(preset(name)))
        for name in ("resnet18", "resnet34", "plain18", "resnet50_v1", "resnext50_32x4d")
    ),
    *(link("architecture", SMALL, tab=tab) for tab in ("Cost", "Ledger", "Receptive field")),
    link("architecture", SMALL, at="layer2.0"),
    link("architecture", SMALL, pinned=preset("resnet56")),
    link("architecture", View(image_size=(64, 96))),
    *(link("choose", SMALL, others=(preset(name),)) for name in ("plain20", "resnet32")),
    *(link("kernels", tab=tab) for tab in ("The block", "The 1×1 convolution")),
    link("source", SMALL),
    link("source", SMALL, explained="conv1"),
    link("experiments", training="seed-3"),
    link("inference", FASHION),
    link("inference", FASHION, image="0009-sneaker", off=("layer1.1",), tab="Addition"),
)


def test_every_view_is_back_after_the_server_was_killed(server: Server) -> None:
    """Of 20 people on different pages; the links are what their browsers show by then."""
    assert len(set(LINKS)) == 20
    before = read(server, *LINKS, kill=True)
    pages = [link.partition("?")[0] for link in LINKS]
    links = [f"{page}?{one.client.query_string}" for page, one in zip(pages, before, strict=True)]
    assert len(set(links)) == 20
    server.start()
    for one, other in zip(before, read(server, *links), strict=True):
        assert len(one.words) > 200
        assert other.view == one.view


def test_one_thread_parses_at_a_time() -> None:
    """What several people open at once on a fresh server."""
    parse, inside, most = ast.parse, [], []

    def slow(text: str) -> ast.Module:
        inside.append(text)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return parse(text)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(4) as pool:
        patch.setattr(source.ast, "parse", slow)
        list(pool.map(source.definitions.__wrapped__, source.MODULES * 2))
    assert most == [1] * 2 * len(source.MODULES)


QUICK = link("experiments", training="shallow-8_deep-14_width-4_warmup-2_steps-1000")


def test_a_jobs_process_is_killed_then_the_server_is_stopped(server: Server) -> None:
    async def everything() -> int:
        async with visit(server, QUICK) as anna:
            await anna.click("training action")
            await anna.watch(lambda: "Step 2" in anna.words)
            (pid,) = server.children()
            os.kill(pid, signal.SIGKILL)
            await anna.watch(lambda: "the process that computed has ended" in anna.words)
            assert "The steps that were shown are kept, and made again before the run goes on." in anna.words
            assert "training chart" in anna.widgets
            await anna.watch(lambda: server.children() not in ([], [pid]))
            (pid,) = server.children()
            assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)
            return pid

    pid = alone(everything())
    soon(lambda: not there(pid))


# -- damaged installations ----------------------------------------------------------------

AGAIN = "it ships with this app, so install that again"

READERS: dict[str, Any] = {
    "samples.json": samples,
    "fashion-test.npz": labelled_images,
    "fashion-train.npz": degradation.training_images,
    "degradation.json": degradation.shipped_runs,
    "experiments.json": shipped.shipped_results,
    "landscape.json": landscape.shipped_landscape,
    "published.csv": published.tags,
    "speeds.csv": measured.speeds,
    "robustness.csv": measured.scores,
}


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "noise", "a folder"])
@pytest.mark.parametrize("name", READERS)
def test_a_shipped_file_that_is_damaged_is_a_sentence(
    name: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    for module, place, value in (
        (sample_files, "_SAMPLES", tmp_path),
        (degradation, "IMAGES", path),
        (degradation, "RUNS", path),
        (shipped, "RESULTS", path),
        (landscape, "RESULTS", path),
        (published, "FILE", path),
        (measured, "SPEEDS", path),
        (measured, "SCORES", path),
    ):
        monkeypatch.setattr(module, place, value)
    whole = next(file for folder in ("explorer", "resnet") for file in (ROOT / folder).rglob(name)).read_bytes()
    if damage == "a folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes(
            {"empty": b"", "cut": whole[: len(whole) // 2], "noise": random.Random(0).randbytes(len(whole))}[damage]
        )
    what = {"missing": "is missing", "a folder": r"cannot be read \(.+\)"}.get(damage, "is damaged")
    with pytest.raises((ShippedError, WeightsError), match=rf"^{re.escape(name)} {what}: {AGAIN}\.$"):
        READERS[name].__wrapped__()


def test_runs_that_are_not_complete_are_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "degradation.json"
    monkeypatch.setattr(degradation, "RUNS", path)
    file = json.loads(next((ROOT / "explorer").rglob(path.name)).read_text(encoding="utf-8"))
    cut = [run | {"networks": run["networks"][:3]} for run in file["runs"]]
    for runs in ([], cut):
        path.write_text(json.dumps(file | {"runs": runs}), encoding="utf-8")
        with pytest.raises(ShippedError, match=r"^degradation\.json is damaged"):
            degradation.shipped_runs.__wrapped__()


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app in a folder of its own that nothing may be written into, and in which files are missing or damaged."""
    folder = tmp_path_factory.mktemp("damaged")
    for name in ("explorer", "pages", "resnet"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    checkpoints, shipped = folder / "resnet" / "checkpoints", folder / "explorer" / "samples"
    (checkpoints / "resnet20.safetensors").unlink()
    (checkpoints / "resnet56.safetensors").write_bytes((checkpoints / "plain20.safetensors").read_bytes())
    for path in (
        checkpoints / "plain20.safetensors",
        shipped / "degradation.json",
        folder / "resnet" / "published.csv",
    ):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (shipped / "fashion-test.npz").write_bytes(b"")
    (shipped / "fashion-train.npz").unlink()
    for path in folder.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    server = Server(folder, tmp_path_factory.mktemp("hub"))
    with server.stack:
        yield server


SAID = {
    link("inference", FASHION): [
        f"resnet20.safetensors is missing: {AGAIN}; random weights work without it.",
        "None are published for this network",
    ],
    link("inference", FASHION, weights="bundled", config=BUNDLED["resnet56"]): [
        f"resnet56.safetensors is damaged: {AGAIN}",
        "None are published for this network",
    ],
    link("experiments", FASHION, config=BUNDLED["plain56"], appended="blocks-4", tab="Identity"): [
        f"fashion-test.npz is damaged: {AGAIN}."
    ],
    link("choose", SMALL): [f"published.csv is damaged: {AGAIN}."],
    link("experiments"): [f"degradation.json is damaged: {AGAIN}.", "200 steps each. It goes on"],
    link("experiments", FASHION, tab="Paths"): [f"resnet20.safetensors is missing: {AGAIN}"],
    link("experiments", FASHION, config=BUNDLED["plain20"], tab="Identity"): [
        f"plain20.safetensors is damaged: {AGAIN}"
    ],
    link("claims"): ["published.csv is damaged", "resnet20.safetensors is missing", "cannot be checked."],
}


def test_damaged_files_are_sentences_and_the_rest_of_the_app_is_there(server: Server, damaged: Server) -> None:
    """A visitor raises where a page shows an exception. The server beside it, on the same machine, lacks nothing."""
    before = {path: path.stat().st_mtime_ns for path in damaged.folder.rglob("*")}
    for person, sentences in zip(read(damaged, *SAID), SAID.values(), strict=True):
        for sentence in sentences:
            assert sentence in person.words

    async def train() -> str:
        async with visit(damaged, QUICK) as person:
            await person.click("training action")
            await person.watch(lambda: "The run failed" in person.words)
            return person.words

    assert f"The run failed: fashion-train.npz is missing: {AGAIN}." in alone(train())
    assert {path: path.stat().st_mtime_ns for path in damaged.folder.rglob("*")} == before
    (person,) = read(server, link("inference", FASHION))
    assert AGAIN not in person.words
    assert "These weights know ten things" in person.words
