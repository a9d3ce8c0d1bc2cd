"""Weights that a page waits for: progress, Stop and Resume, and what an owner forbids."""

from __future__ import annotations

import hashlib
import io
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, expect
from safetensors.torch import load, save
from streamlit.testing.v1 import AppTest

from explorer.bench.browser import CONFIGURATION, ROOT, server
from explorer.guard.middleware import Guard
from explorer.sharing.store import RESULTS
from explorer.views import weights
from explorer.views.cached import short_key
from helpers import APP, CPU, Visitor, alone, click, hold, opened, page_text, run, said, select
from loopback import Hub
from resnet import ConfigError, WeightsError, build, owner, preset
from resnet.command import MissingError
from resnet.hub_cache import cache_folder
from resnet.huggingface import look_up
from resnet.sources import torch_source
from strangers import Runtime, answered, put

ID = "somebody/resnet-18"
PAGE = """
import streamlit as st
from explorer.views import session, weights

st.session_state.setdefault("view", None)
if st.toggle("Something else"):
    st.write("other weights")
else:
    session.show_or_say(lambda: st.write(weights.on_hub("somebody/resnet-18").weights.data.categories[1]))
"""
"""A page that waits for a model of the hub, and a widget above it."""


@pytest.fixture(scope="module")
def body() -> bytes:
    torch.manual_seed(3)
    return save(dict(build(preset("resnet18")).state_dict()))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes) -> Iterator[Hub]:
    """A hub on loopback, and empty caches."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "huggingface"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.add_model(ID, {"model.safetensors": body, "config.json": b"{}"})
        yield hub


@pytest.mark.browser
def test_a_download_is_seen_stopped_and_resumed(browser: Browser, hub: Hub, tmp_path: Path) -> None:
    script = tmp_path / "page.py"
    script.write_text(PAGE, encoding="utf-8")
    shutil.copytree(CONFIGURATION, tmp_path / ".streamlit")
    hub.second_half.clear()
    with server(script, environment={"PYTHONPATH": str(ROOT)}) as (address, _):
        context = browser.new_context()
        page = context.new_page()
        visitor = Visitor(page, address)
        page.goto(address)
        bar, stop = page.get_by_test_id("stProgress"), page.get_by_role("button", name="Stop", exact=True)
        resume = page.get_by_role("button", name="Resume the download")
        expect(bar).to_contain_text("Downloading somebody/resnet-18: 22 of 45 MiB")
        stop.click()
        expect(resume).to_be_visible()
        expect(page.get_by_text("Stopped at 22 of 45 MiB.")).to_be_visible()
        visitor.wait()
        assert not bar.count()
        page.get_by_text("Something else").click()
        expect(page.get_by_text("other weights")).to_be_visible()
        page.get_by_text("Something else").click()
        expect(resume).to_be_visible()
        resume.click()
        expect(bar).to_contain_text("22 of 45 MiB")
        hub.second_half.set()
        expect(page.get_by_text("goldfish")).to_be_visible()
        assert not page.get_by_text("Stopped at").count()
        context.close()
        assert not visitor.errors


def test_a_model_of_the_hub_stands_on_a_page(hub: Hub) -> None:
    app = run(AppTest.from_string(PAGE, default_timeout=60))
    assert [markdown.value for markdown in app.markdown] == ["goldfish"]
    asked = len(hub.asked)
    run(app)
    assert len(hub.asked) == asked


def test_a_download_that_fails_is_tried_again(hub: Hub) -> None:
    (path,) = hub.elsewhere.files
    hub.elsewhere.files[path].status = 503
    app = run(AppTest.from_string(PAGE, default_timeout=60))
    (words,) = said(app.error)
    assert words.startswith(
        "model.safetensors of somebody/resnet-18 could not be downloaded (its server has a fault, 503);"
    )
    hub.elsewhere.files[path].status = 200
    run(app)
    assert [markdown.value for markdown in app.markdown] == ["goldfish"]


def test_damaged_weights_are_fetched_again(hub: Hub, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the network is opened, and where it runs: there, too, with a bar and a button before a place is taken."""
    run(AppTest.from_string(PAGE, default_timeout=60))
    (blob,) = {path.resolve() for path in cache_folder().rglob("model.safetensors")}
    blob.write_bytes(body[: 2**20])
    RESULTS.clear()
    app = run(AppTest.from_string(PAGE, default_timeout=60))
    assert [markdown.value for markdown in app.markdown] == ["goldfish"]
    assert blob.read_bytes() == body
    fetched: list[str] = []
    monkeypatch.setattr(weights, "fetch", lambda one: fetched.append(one.hub))
    monkeypatch.setattr(weights, "model", lambda *_: None)
    opened_here = weights.on_hub(ID).weights
    weights.loaded(opened_here, CPU)
    assert not fetched
    blob.write_bytes(body[: 2**20])
    weights.loaded(opened_here, CPU)
    assert fetched == [ID]


def test_an_answer_that_a_model_does_not_need(hub: Hub) -> None:
    run(AppTest.from_string(PAGE, default_timeout=60))
    with pytest.raises(WeightsError, match=r"does not need the answer option_a: leave it out\.$"):
        weights.on_hub(f"{ID}?option_a=both")


@pytest.mark.parametrize(
    ("done", "total", "words"),
    [(0, 20 * 2**10, "0 of 20 KiB"), (30 * 2**20, 98 * 2**20, "30 of 98 MiB"), (0, 0, "0 of 0 KiB")],
)
def test_how_far_a_download_is(done: int, total: int, words: str) -> None:
    assert weights._amount(done, total) == words


LOADED = """
import os
from dataclasses import replace
import streamlit as st
from explorer.views import session, weights
from resnet import preset
from resnet.weights import torchvision_weights

st.session_state.setdefault("view", None)
(chosen,) = torchvision_weights(preset("resnet18"))
session.show_or_say(lambda: st.write(type(weights.loaded(replace(chosen, url=os.environ["WEIGHTS"]))).__name__))
"""
"""A page that waits for weights at an address."""


def test_a_stopped_download_stays_stopped_until_it_is_resumed(
    hub: Hub, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part on the disk says how far it is."""
    stream = io.BytesIO()
    torch.save(load(body), stream)
    digest = hashlib.sha256(stream.getvalue()).hexdigest()
    url = hub.offer(f"resnet18-{digest[:8]}.pth", stream.getvalue())
    monkeypatch.setenv("WEIGHTS", url)
    part = torch_source(url).part
    part.parent.mkdir(parents=True)
    part.write_bytes(stream.getvalue()[: 30 * 2**20])
    app = AppTest.from_string(LOADED, default_timeout=60)
    hold(app, stopped=frozenset({short_key(("download", url))}))
    run(app)
    assert said(app.info) == ["torchvision V1, ImageNet-1k: stopped at 30 of 45 MiB."]
    assert not app.markdown
    assert not hub.asked
    click(app, "Resume the download")
    assert [markdown.value for markdown in app.markdown] == ["ResNet"]
    assert not app.info
    assert hub.ranges == [f"bytes={30 * 2**20}-"]


# -- what an owner forbids --------------------------------------------------------------------


def test_where_downloads_are_forbidden_what_is_here_works(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_EXPLORER_DOWNLOADS", "off")
    app = run(AppTest.from_string(PAGE, default_timeout=60))
    (words,) = said(app.error)
    assert words.startswith("somebody/resnet-18 is not on this server, and its owner has switched downloads off; ")
    monkeypatch.setenv("RESNET_EXPLORER_DOWNLOADS", "on")
    run(app)
    monkeypatch.setenv("RESNET_EXPLORER_DOWNLOADS", "off")
    RESULTS.clear()
    run(app)
    assert [markdown.value for markdown in app.markdown] == ["goldfish"]


def test_where_uploads_are_forbidden_a_sentence_stands_for_the_widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_EXPLORER_UPLOADS", "off")
    app = opened("inference", preset="resnet20_fashion")
    for page in (app, opened("inference", preset="resnet18")):
        assert said(page.caption).count(owner.NO_UPLOADS) == 1
        assert "Your own checkpoint" not in [expander.label for expander in page.expander]
        assert not page.get("file_uploader")
    assert "source" not in app.session_state
    assert "Sneaker" in page_text(app)
    monkeypatch.setenv("RESNET_EXPLORER_UPLOADS", "on")
    select(run(app), "source", "Upload")
    assert app.get("file_uploader")


def test_where_uploads_are_forbidden_the_server_takes_none(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    async def inside(*_: object) -> None:
        pass

    assert alone(answered(Guard(inside), put(content_length="1"))) == (200, "")
    monkeypatch.setenv("RESNET_EXPLORER_UPLOADS", "off")
    assert alone(answered(Guard(inside), put(content_length="1"))) == (403, owner.NO_UPLOADS)


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("RESNET_EXPLORER_DOWNLOADS", "maybe", "on or off"),
        ("RESNET_EXPLORER_UPLOADS", "2", "on or off"),
        ("RESNET_EXPLORER_CACHE_GIB", "20GB", "a whole number of GiB, 1 or more"),
        ("RESNET_EXPLORER_CACHE_GIB", "0", "a whole number of GiB, 1 or more"),
        ("HF_HUB_OFFLINE", "maybe", "on or off"),
        ("HF_ENDPOINT", "file:///etc/passwd", "an address such as https://huggingface.co"),
    ],
)
def test_a_setting_that_cannot_be(monkeypatch: pytest.MonkeyPatch, name: str, value: str, accepted: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as told:
        owner.check()
    assert str(told.value) == f"{name} = {value} is not accepted: {accepted}."


@pytest.mark.parametrize(
    ("name", "value"), [("RESNET_EXPLORER_UPLOADS_MIB", "x"), ("RESNET_EXPLORER_RESULTS_MIB", "-5")]
)
def test_a_start_ends_in_a_sentence_where_memory_is_none(tmp_path: Path, name: str, value: str) -> None:
    log = tmp_path / "log.txt"
    with log.open("wb") as output, pytest.raises(MissingError):  # noqa: SIM117
        with server(APP, tmp_path, output=output, environment={name: value}):
            pass
    said_by_it = log.read_text(encoding="utf-8")
    assert f"{name} = {value} is not accepted: a whole number of MiB, 16 or more." in said_by_it.splitlines()
    assert "Traceback" not in said_by_it


@pytest.mark.parametrize("value", ["hf_SECRET1\nhf_SECRET2", "hf_SECRET 1", "hf_SECRETö", "hf_SECRET\x7f"])
def test_a_token_that_no_header_can_hold_is_never_repeated(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """Neither at the start nor to whoever asks for a model."""
    monkeypatch.setenv("HF_TOKEN", value)
    for act in (owner.check, lambda: look_up(ID)):
        with pytest.raises(ConfigError, match=r"^HF_TOKEN = \(not shown\) is not accepted: one line of ASCII") as told:
            act()
        assert "SECRET" not in str(told.value)
    assert not hub.asked


@pytest.mark.parametrize(
    ("secret", "status", "words"),
    [
        ("RESNET_EXPLORER_UPLOADS = false\n", 403, ""),
        ('RESNET_EXPLORER_UPLOADS = "no"\n', 0, "RESNET_EXPLORER_UPLOADS = no is not accepted: on or off."),
        ("RESNET_EXPLORER_UPLOADS = off\n", 0, "The settings in Streamlit's secrets are not accepted (Error parsing"),
        ('RESNET_EXPLORER_UPLOADS = "öff"\n', 0, "The settings in Streamlit's secrets are not accepted ('utf-8' codec"),
    ],
)
def test_settings_in_streamlits_secrets(tmp_path: Path, secret: str, status: int, words: str) -> None:
    """They are read at the start, which ends in one sentence where they cannot be."""
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "secrets.toml").write_bytes(secret.encode("latin-1"))
    log = tmp_path / "log.txt"
    with log.open("wb") as output, nullcontext() if status else pytest.raises(MissingError):  # noqa: SIM117
        with server(APP, tmp_path, output=output) as (address, _):
            upload = urllib.request.Request(f"{address}/_stcore/upload_file/a/f", b"x", method="PUT")
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(upload)
            with refused.value:
                assert refused.value.code == status
    said_by_it = log.read_text(encoding="utf-8")
    assert [line for line in said_by_it.splitlines() if line.startswith(words)]
    assert "Traceback" not in said_by_it
