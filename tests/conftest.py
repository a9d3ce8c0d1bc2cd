"""What several test files share: a server of the app, and a browser."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
import streamlit
import torch
from playwright.sync_api import Browser, Page, WebSocket, expect
from strangers import Runtime
from streamlit import config
from streamlit.components.v2 import manifest_scanner
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from explorer.analysis.trace import Trace
from explorer.bench.browser import IDLE, ROOT, chromium, server
from explorer.bench.visitors import FINISHED
from explorer.sharing.store import RESULTS

expect.set_options(timeout=30_000)

# AppTests run with the configuration that lies beside the app, as the server does.
config._main_script_path = str(ROOT / "explorer" / "script.py")
config.get_config_options(force_reparse=True)

# Each run of an AppTest looks for components in the metadata of every installed package: a quarter of its time.
manifest_scanner.scan_component_manifests = functools.cache(manifest_scanner.scan_component_manifests)


Value = TypeVar("Value")


def alone(work: Coroutine[Any, Any, Value]) -> Value:
    """What a coroutine returns, run in a thread of its own, where no browser's event loop runs."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def soon(true: Callable[[], object]) -> None:
    """Wait until something is so, which another thread or process does."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """The app on a free port of this machine."""
    with server(ROOT / "explorer" / "app.py") as (address, _):
        yield address


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """In the place of Streamlit's."""
    runtime = Runtime()
    monkeypatch.setattr(streamlit.runtime, "get_instance", lambda: runtime)
    monkeypatch.setattr(config, "get_option", lambda name: {"server.disconnectedSessionTTL": 1}[name])
    return runtime


@pytest.fixture
def package() -> Callable[[], dict[Path, tuple[int, int]]]:
    """Every file that is installed, with its size and the moment of its last change."""

    def files() -> dict[Path, tuple[int, int]]:
        found = [path for name in ("resnet", "explorer", "pages") for path in (ROOT / name).rglob("*")]
        stats = {path: path.stat() for path in found if path.is_file() and "__pycache__" not in path.parts}
        return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}

    return files


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums in one order, so that two passes give the same digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def nothing_loaded() -> Iterator[None]:
    """What other tests computed by networks is forgotten, and what this one does by the others."""
    RESULTS.clear(lambda value: not isinstance(value, Trace))
    yield
    RESULTS.clear(lambda value: not isinstance(value, Trace))


class Visitor:
    """A person at the app: waits for an idle page after everything they do.

    `errors` are those of scripts, what the page's policy forbade, and requests to another host; `waits` is whether a run
    that was asked for is not over.
    """

    def __init__(self, page: Page, address: str):
        self.page, self.address = page, address
        self.errors: list[str] = []
        self.waits = False
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: "Content Security Policy" in said.text and self.errors.append(said.text))
        page.on("request", lambda request: self.asks(request.url))
        page.on("websocket", self.listen)

    def listen(self, socket: WebSocket) -> None:
        self.asks(socket.url)
        socket.on("framesent", self.sent)
        socket.on("framereceived", self.received)

    def sent(self, data: bytes | str) -> None:
        if isinstance(data, bytes) and BackMsg.FromString(data).HasField("rerun_script"):
            self.waits = True

    def received(self, data: bytes | str) -> None:
        if isinstance(data, bytes) and len(data) < 1000:  # what says that a run is over is short
            message = ForwardMsg.FromString(data)
            if message.HasField("script_finished") and message.script_finished in FINISHED:
                self.waits = False

    def asks(self, url: str) -> None:
        host = urlsplit(url).netloc
        if host and host != urlsplit(self.address).netloc:  # data and blobs have none
            self.errors.append(f"a request to {url}")

    def open(self, path: str = "/") -> Visitor:
        self.page.goto(self.address + path)
        return self.wait()

    def wait(self) -> Visitor:
        """Until the script has run and the page has not changed for a moment."""
        self.page.wait_for_timeout(250)
        end = time.monotonic() + 60
        while self.waits:
            assert time.monotonic() < end
            self.page.wait_for_timeout(20)
        self.page.wait_for_selector(IDLE)
        self.page.wait_for_function(
            """() => new Promise((done) => {
                let timer = setTimeout(() => done(true), 400);
                new MutationObserver((_, observer) => {
                    clearTimeout(timer);
                    timer = setTimeout(() => { observer.disconnect(); done(true); }, 400);
                }).observe(document.body, { subtree: true, childList: true, characterData: true });
            })"""
        )
        self.page.wait_for_selector(IDLE)
        assert not self.page.get_by_test_id("stException").count(), self.page.get_by_test_id("stException").inner_text()
        return self

    @property
    def sidebar(self):
        return self.page.get_by_test_id("stSidebar")

    def metric(self, label: str) -> str:
        """The figure under a label: "25.56 M"."""
        metric = self.page.get_by_test_id("stMetric").filter(has_text=label)
        return metric.get_by_test_id("stMetricValue").inner_text()

    def pick(self, choice: str) -> Visitor:
        """Click a segment in the sidebar."""
        self.sidebar.get_by_role("radio", name=choice, exact=True).or_(
            self.sidebar.get_by_role("button", name=choice, exact=True)
        ).first.click()
        return self.wait()

    def type(self, label: str, text: str) -> Visitor:
        """Fill a text field of the sidebar and press Enter."""
        field = self.sidebar.get_by_label(label, exact=True)
        field.fill(text)
        field.press("Enter")
        return self.wait()

    def fits(self) -> bool:
        """Whether nothing makes the page itself scroll sideways."""
        return self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """A new visitor; `@pytest.mark.parametrize("visit", [{…}], indirect=True)` sets the browser's context."""
    wanted = {"viewport": {"width": 1440, "height": 1000}} | getattr(request, "param", {})
    context = browser.new_context(**wanted)
    visitor = Visitor(context.new_page(), address)
    yield visitor
    context.close()
    assert not visitor.errors, visitor.errors
