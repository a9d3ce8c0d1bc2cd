"""The fixtures that several test files share: a server of the app, a browser, what is forgotten between tests."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit
import torch
from playwright.sync_api import Browser, BrowserContext, expect
from streamlit import config
from streamlit.components.v2 import manifest_scanner

from explorer.analysis.trace import Trace
from explorer.bench.browser import ROOT, chromium, server
from explorer.sharing.store import RESULTS
from loopback import Hub
from strangers import Runtime

pytest.register_assert_rewrite("helpers")
from helpers import APP, SCRIPT, Visitor  # noqa: E402 - its assertions then say what they compared, as a test's do

expect.set_options(timeout=30_000)

# AppTests run with the configuration that lies beside the app, as the server does.
config._main_script_path = str(SCRIPT)
config.get_config_options(force_reparse=True)

# Each run of an AppTest looks for components in the metadata of every installed package: a quarter of its time.
manifest_scanner.scan_component_manifests = functools.cache(manifest_scanner.scan_component_manifests)


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """The app on a free port of this machine."""
    with server(APP) as (address, _):
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
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hugging Face hub on loopback without models, and empty caches."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "huggingface"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


@pytest.fixture
def nothing_loaded() -> Iterator[None]:
    """What other tests computed by networks is forgotten, and what this one does by the others."""
    RESULTS.clear(lambda value: not isinstance(value, Trace))
    yield
    RESULTS.clear(lambda value: not isinstance(value, Trace))


@pytest.fixture
def fresh() -> Iterator[Callable[[], None]]:
    """Forgets what this server knows, now and whenever it is called."""
    RESULTS.clear()
    yield RESULTS.clear
    RESULTS.clear()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def windows(browser: Browser) -> Iterator[Callable[[dict[str, Any]], BrowserContext]]:
    """The browser's context of each kind, which keeps the app's scripts from one visit to the next."""
    contexts: dict[str, BrowserContext] = {}

    def window(wanted: dict[str, Any]) -> BrowserContext:
        key = repr(wanted)
        if key not in contexts:
            contexts[key] = browser.new_context(**wanted)
        return contexts[key]

    yield window
    for context in contexts.values():
        context.close()


@pytest.fixture
def visit(
    windows: Callable[[dict[str, Any]], BrowserContext], address: str, request: pytest.FixtureRequest
) -> Iterator[Visitor]:
    """A new visitor; `@pytest.mark.parametrize("visit", [{…}], indirect=True)` sets the browser's context."""
    context = windows({"viewport": {"width": 1440, "height": 1000}} | getattr(request, "param", {}))
    visitor = Visitor(context.new_page(), address)
    yield visitor
    if visitor.page.url.startswith(address):
        visitor.page.evaluate("localStorage.clear()")  # else the next visitor finds this one's theme
    for page in context.pages:
        page.close()
    context.clear_cookies()
    assert not visitor.errors, visitor.errors
