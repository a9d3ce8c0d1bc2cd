"""Nobody sees what another person brought, chose or started: two sessions on one server, at each panel.

What is right is what a session shows alone, on a server that nobody else has used.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, expect
from streamlit.testing.v1 import AppTest

from explorer.experiments.degradation import Settings, Step
from explorer.inference.samples import samples
from explorer.views.experiments import degradation
from helpers import SMALL, TABS, Visitor, click, link, opened, run, said, saved, select, shown, texts
from resnet.weights import randomly

pytestmark = pytest.mark.usefixtures("one_thread")
NAME = "mine.png"


# -- what people bring --------------------------------------------------------------------


def sample(label: str) -> bytes:
    return next(sample for sample in samples() if sample.label == label).open()


def weights(seed: int) -> bytes:
    """A checkpoint of one network, whose numbers depend on the seed."""
    return saved(randomly(SMALL, seed).state_dict())


def bring_images(app: AppTest, *files: tuple[str, bytes]) -> AppTest:
    """Choose "Upload", and bring files."""
    if app.session_state["source"] != "Upload":
        select(app, "source", "Upload")
    (uploader,) = [one for one in app.file_uploader if not str(one.key).startswith("checkpoint")]
    uploader.set_value([(name, data, "image/png") for name, data in files])
    return run(app)


def bring_checkpoint(app: AppTest, data: bytes, name: str = "mine.pt") -> AppTest:
    (uploader,) = [one for one in app.file_uploader if str(one.key).startswith("checkpoint")]
    uploader.set_value((name, data, "application/octet-stream"))
    return run(app)


def inference(**query: str) -> AppTest:
    """The inference page by a link, with the card for checkpoints open."""
    app = opened("architecture", **query)
    app.session_state["own checkpoint"] = True
    return run(app.switch_page("../pages/inference.py"))


def with_image(label: str, name: str = NAME, **query: str) -> AppTest:
    app = bring_images(inference(preset="resnet20_fashion", **query), (name, sample(label)))
    assert f"**{label}**" in " ".join(texts(app))
    return app


def with_checkpoint(seed: int, **query: str) -> AppTest:
    return bring_checkpoint(inference(preset="resnet20_fashion", **query), weights(seed))


def with_choices(channel: int = 0, blend: float = 0.6, off: str = "", explained: str = "", **query: str) -> AppTest:
    """What a person chooses on the inference page, by its link."""
    query |= {"off": off} if off else {}
    query |= {"class": explained} if explained else {}
    query |= {"channel": str(channel), "blend": str(blend)}
    return opened("inference", preset="resnet20_fashion", image="0000-ankle-boot", **query)


# -- the inference page -------------------------------------------------------------------

PAIRS: dict[str, tuple[Callable[..., AppTest], Callable[..., AppTest]]] = {
    "images of one name": (lambda **query: with_image("Trouser", **query), lambda **query: with_image("Bag", **query)),
    "checkpoints of one name": (
        lambda **query: with_checkpoint(1, **query),
        lambda **query: with_checkpoint(2, **query),
    ),
    "blocks off, a class, a channel": (
        lambda **query: with_choices(3, 0.2, "layer1.1", "Coat", **query),
        lambda **query: with_choices(5, **query),
    ),
}
CHOICES = ("Maps", "Blocks off", "Why this class")
"""The tabs that show what is chosen."""


@pytest.mark.parametrize(
    ("what", "tab"), [(what, tab) for what in PAIRS for tab in (CHOICES if "class" in what else TABS)]
)
def test_each_tab_shows_ones_own(what: str, tab: str, fresh: Callable[[], None]) -> None:
    """The second sees what they see alone."""
    first, second = PAIRS[what]
    alone = shown(second(tab=tab))
    fresh()
    assert shown(first(tab=tab)) != alone
    assert shown(second(tab=tab)) == alone


@pytest.mark.parametrize("what", PAIRS)
def test_who_comes_later_changes_nothing(what: str) -> None:
    """For the first, who goes on."""
    first, second = PAIRS[what]
    app = run(run(first(tab="Maps")))  # what the page sets by itself it tells the browser once
    before = shown(app)
    assert shown(second(tab="Maps")) != before
    assert shown(run(app)) == before


def test_one_image_of_two_people_has_two_names() -> None:
    """The same bytes; one of them is removed while the other looks."""
    one, two = (with_image("Bag", "one.png", tab="Several images"), with_image("Bag", "two.png", tab="Several images"))
    before = shown(run(run(two)))
    assert "two" in " ".join(before)
    assert "one" not in re.findall(r"\b(one|two)\\*\.png", " ".join(before))
    click(one, "Remove this image")
    assert said(one.info) == ["Upload or take an image, or pick a sample, to see what the network makes of it."]
    assert shown(run(two)) == before


def test_one_checkpoint_of_two_people_is_forgotten_by_one() -> None:
    one, two = with_checkpoint(1, tab="Weights"), with_checkpoint(1, tab="Weights")
    before = shown(run(run(two)))
    click(one, "Forget it")
    assert link(one).get("weights") != "upload"
    assert shown(run(two)) == before
    assert two.selectbox(key="weights").value == "upload"


def test_a_link_takes_nothing_that_was_brought_along(fresh: Callable[[], None]) -> None:
    """The link of somebody with an image and a checkpoint, opened by another."""
    query = SMALL.to_query() | {"weights": "upload", "image": "upload", "tab": "Weights"}
    alone = shown(inference(**query))
    fresh()
    first = bring_images(with_checkpoint(1, tab="Weights"), (NAME, sample("Bag")))
    assert link(first) == query
    other = inference(**link(first))
    assert shown(other) == alone
    assert "A checkpoint stays with the person who uploaded it" in " ".join(said(other.warning))
    assert not [text for text in shown(other) if NAME in text or "mine" in text]


def test_what_was_refused_is_told_to_one(fresh: Callable[[], None]) -> None:
    """Sentences on files that are no images and no checkpoints."""
    alone = shown(inference(preset="resnet20_fashion"))
    fresh()
    first = bring_checkpoint(inference(preset="resnet20_fashion"), b"nothing", "secret.pt")
    bring_images(first, ("secret.png", b"nothing"))
    assert len(first.error) == 2
    assert shown(inference(preset="resnet20_fashion")) == alone


# -- the other pages ----------------------------------------------------------------------


def architecture() -> AppTest:
    """Something pinned, changed before, and a mistake that is to be mended."""
    app = click(opened(tab="Cost", preset="resnet18"), "Pin to compare")
    run(select(select(app, "option block", "bottleneck"), "cost measure", "Parameters"))  # the tabs are drawn apart
    return select(app, "option layers", "3-4-secret")


def comparison() -> AppTest:
    app = opened("choose")
    return select(app, "ready", app.get_by_key("ready").options[0])  # type: ignore[union-attr]


def settings_typed() -> AppTest:
    return select(opened("experiments"), "training seed", "a secret")


PAGES: dict[str, tuple[Callable[[], AppTest], Callable[[], AppTest]]] = {
    "architecture": (architecture, lambda: opened(tab="Cost")),
    "choose": (comparison, lambda: opened("choose")),
    "choose under limits": (
        lambda: opened("choose", preset="resnet18", tab="Parameters", limits="macs-2000000000"),
        lambda: opened("choose"),
    ),
    "kernels": (lambda: opened("kernels", tab="The block", preset="resnet18"), lambda: opened("kernels")),
    "experiments": (settings_typed, lambda: opened("experiments")),
    "source": (lambda: opened("source", preset="seresnet50"), lambda: opened("source")),
}


@pytest.mark.parametrize("page", PAGES)
def test_each_page_shows_ones_own(page: str) -> None:
    first, second = PAGES[page]
    alone = shown(second())
    assert shown(first()) != alone
    assert shown(second()) == alone


# -- jobs ---------------------------------------------------------------------------------


@dataclass
class Steps:
    """An engine for jobs that does one step, and the next ones when it is let."""

    go: threading.Event

    def run(self, function: object, *settings: Settings) -> Iterator[Step]:
        if settings:  # else it gets ready
            yield Step(0, 2.0, 0.1)
            assert self.go.wait(60)

    keep_running = staticmethod(nullcontext)


@pytest.fixture
def one_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs that stand after a step until the test ends."""
    steps = Steps(threading.Event())
    monkeypatch.setattr(degradation, "ENGINE", steps)
    yield
    steps.go.set()


def training(seed: int) -> AppTest:
    return opened("experiments", training=f"seed-{seed}")


def bars(app: AppTest) -> list[str]:
    return [bar.proto.text for bar in app.get("progress")]


@pytest.mark.usefixtures("one_step")
def test_a_run_is_seen_by_who_asks_for_the_same() -> None:
    """Others are told that the server is busy, and no more; who watches the same run cannot stop it."""
    alone = shown(training(12))
    first = click(training(11), "Start")
    end = time.monotonic() + 60
    while not any("Step 1 of 200" in text for text in bars(run(first))):
        assert time.monotonic() < end
    other = training(12)
    busy = " The server trains one run at a time, and another one is on: yours will wait in the queue."
    assert [text.replace(busy, "") for text in shown(other)] == alone
    assert busy in " ".join(texts(other))
    watcher = training(11)
    (stop,) = [button for button in watcher.button if button.key == "training action"]
    assert (stop.label, stop.disabled) == ("Stop", True)
    assert "Step 1 of 200" in bars(watcher)[0]


# -- in a browser -------------------------------------------------------------------------


@pytest.mark.browser
def test_two_people_with_an_image_each(browser: Browser, address: str) -> None:
    """The same name, other bytes; the link of one in front of the other; one leaves."""
    people = [Visitor(browser.new_context().new_page(), address) for _ in range(2)]
    verdicts = []
    for person, label in zip(people, ("Trouser", "Bag"), strict=True):
        person.open("/inference?preset=resnet20_fashion")
        person.page.get_by_text("Upload", exact=True).first.click()
        person.wait()
        person.page.get_by_test_id("stFileUploader").locator("input[type=file]").first.set_input_files(
            {"name": NAME, "mimeType": "image/png", "buffer": sample(label)}
        )
        person.wait()
        verdicts.append(person.page.locator(".st-key-verdict-chip"))
        expect(verdicts[-1].locator("strong").first).to_have_text(label)
    images = [person.page.locator(".st-key-seen img").last.get_attribute("src") for person in people]
    assert images[0] != images[1]
    guest = Visitor(browser.new_context().new_page(), address)
    guest.page.goto(people[0].page.url)
    guest.wait()
    assert NAME not in guest.page.content()
    people[0].page.context.close()
    people[1].page.get_by_role("tab", name="Weights").click()
    people[1].wait()
    expect(verdicts[1].locator("strong").first).to_have_text("Bag")
    assert people[1].page.locator(".st-key-seen img").last.get_attribute("src") == images[1]
    for person in (people[1], guest):
        assert not person.errors
        person.page.context.close()
