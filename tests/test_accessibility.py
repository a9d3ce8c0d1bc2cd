"""Everybody can use the app: what axe finds on every page and tab, in light and dark, and on a phone; 200 % zoom; the
keyboard; reduced motion.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from explorer.navigation import PAGES
from explorer.navigation import Page as Place
from helpers import ARCHITECTURE_TABS, PHONE, Visitor
from helpers import TABS as INFERENCE_TABS

pytestmark = pytest.mark.browser

AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
TABS = {
    "experiments": ("Degradation", "Gradients", "Shattered gradients", "Paths", "Identity", "Loss landscape"),
    "kernels": ("Kernel stacks", "The block", "The 1×1 convolution"),
    "architecture": ARCHITECTURE_TABS,
    "inference": INFERENCE_TABS,
    "beside": ("On this image", "On several images", "On the test set", "By depth", "Blocks out and swapped"),
}
SMALL = {"preset": "resnet20_fashion"}
"""The network of the shipped weights, whose results are there at once."""
PLACES = [
    *(f"/{page.path}" for page in PAGES if page.name not in TABS),
    *(f"/{page}?{urlencode(SMALL | {'tab': tab})}" for page, tabs in TABS.items() for tab in tabs),
    "/architecture?tour=3&present=1",
    "/choose?with=resnet34&limits=macs-5000000000_ms-12&space=groups%3D1,32",
]
THEIRS = {
    ("scrollable-region-focusable", "pre"): "st.code's text; Chromium and Firefox give the focus to what scrolls",
    ("presentation-role-conflict", "[data-testid=stFileUploaderDropzone]"): "its button is what the keyboard reaches",
}
"""What is Streamlit's own and out of our reach, by axe's rule and the elements' selector, with the reason."""

FOUND = """async ([theirs, rules]) => {
    for (const one of document.getAnimations()) one.cancel(); // colours on their way to the other theme
    const only = rules.length ? { runOnly: rules } : {};
    const { violations } = await axe.run(document, { resultTypes: ["violations"], elementRef: true, ...only });
    const ours = (rule, element) => !theirs.some(([its, selector]) => its === rule && element.matches(selector));
    return violations.flatMap(({ id, impact, nodes }) => nodes.filter(({ element }) => ours(id, element))
        .map(({ html, failureSummary }) => `${id} (${impact}): ${html} ${failureSummary}`));
}"""
SETTLED = """() => document.getAnimations()
    .every((one) => one.effect.getComputedTiming().endTime === Infinity || one.playState !== "running")"""
"""That nothing fades any more: what is half seen has another contrast. Asked again and again, for the promise of an
animation whose element goes is never kept."""
THEMED = "scheme => getComputedStyle(document.querySelector('.stApp')).colorScheme === scheme"


SCHEMES: dict[Literal["light", "dark"], list[str]] = {"light": [], "dark": ["color-contrast"]}
"""The rules that axe runs in each: all that it runs by default, and once more those that look at colours."""


def violations(page: Page) -> list[str]:
    """What axe finds on a page as it stands, in light and in dark."""
    page.evaluate(AXE)
    every = []
    for scheme, rules in SCHEMES.items():
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(THEMED, arg=scheme)
        page.wait_for_function(SETTLED)
        every += [f"{scheme}: {one}" for one in page.evaluate(FOUND, [[*THEIRS], rules])]
    return every


@pytest.fixture(scope="module")
def reader(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """One visitor for many pages, whose browser keeps what they have in common."""
    window: dict[str, Any] = getattr(request, "param", {"viewport": {"width": 1440, "height": 1000}})
    context = browser.new_context(**window)
    visitor = Visitor(context.new_page(), address)
    yield visitor
    context.close()
    assert not visitor.errors, visitor.errors


@pytest.mark.parametrize("path", PLACES)
def test_axe_finds_nothing(reader: Visitor, path: str) -> None:
    assert violations(reader.open(path).page) == []


@pytest.mark.parametrize("reader", [PHONE], indirect=True, ids=["phone"])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_axe_finds_nothing_on_a_phone(reader: Visitor, page: Place) -> None:
    assert violations(reader.open(f"/{page.path}?{urlencode(SMALL)}" if page.path else "/").page) == []


def test_axe_finds_nothing_in_what_opens(visit: Visitor) -> None:
    """A sentence on a link that is not accepted, above an open popover."""
    page = visit.open("/architecture?block=nothing").page
    assert page.get_by_test_id("stAlert").count()
    page.get_by_role("button", name="Share").click()
    visit.wait()
    page.get_by_text("This view as a link").wait_for()
    assert violations(page) == []


def test_axe_finds_nothing_in_the_menu_of_who_presents(visit: Visitor) -> None:
    page = visit.open("/architecture?present=1").page
    page.get_by_role("button", name="Pages").click()
    page.get_by_test_id("stPopoverBody").wait_for()
    assert violations(visit.wait().page) == []


def test_axe_finds_nothing_in_what_the_chips_open(visit: Visitor, tmp_path: Path) -> None:
    """The weights, the link with its code, the verdict, and the images: where one is brought, and where it is changed."""
    page = visit.open(f"/inference?{urlencode(SMALL)}").page
    found = {}
    for chip in ("weights-chip", "share", "verdict-chip"):
        page.locator(f".st-key-{chip}").get_by_role("button").first.click()
        page.get_by_test_id("stPopoverBody").wait_for()
        found[chip] = violations(visit.wait().page)
        page.keyboard.press("Escape")
    for source in ("Camera", "Upload"):
        page.get_by_role("radio", name=source).click()
        found[source] = violations(visit.wait().page)
    file = tmp_path / "grey.png"
    Image.new("L", (28, 28), 99).save(file)
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(file)
    page.get_by_role("button", name="Change").click()
    page.get_by_test_id("stPopoverBody").wait_for()
    found["change"] = violations(visit.wait().page)
    assert found == {state: [] for state in found}


@pytest.mark.parametrize("visit", [{"viewport": {"width": 720, "height": 450}}], indirect=True, ids=["200 %"])
@pytest.mark.parametrize("path", ["/", "/architecture", "/inference", "/choose?with=resnet34"])
def test_a_page_at_200_percent_does_not_scroll_sideways(visit: Visitor, path: str) -> None:
    """A window of 1440×900 has half as many CSS pixels then."""
    page = visit.open(path).page
    assert page.get_by_test_id("stMain").evaluate("main => main.scrollWidth <= main.clientWidth")


@pytest.mark.parametrize("visit", [{"reduced_motion": "reduce"}], indirect=True, ids=["reduced motion"])
def test_nothing_moves_for_who_asks_for_that(visit: Visitor) -> None:
    page = visit.open("/architecture").page
    slow = """() => [...document.querySelectorAll("*")].filter((element) => {
        const { transitionDuration, animationDuration } = getComputedStyle(element);
        return [...transitionDuration.split(","), ...animationDuration.split(",")].some((time) => parseFloat(time) > 0.01);
    }).length"""
    assert page.evaluate(slow) == 0


@pytest.mark.parametrize("visit", [PHONE], indirect=True, ids=["phone"])
def test_no_bar_lies_on_a_charts_title(visit: Visitor) -> None:
    page = visit.open("/architecture?tab=Cost").page
    page.locator(".js-plotly-plot").wait_for()
    page.locator(".js-plotly-plot").hover()
    assert not page.locator(".modebar-btn").first.is_visible()


def test_the_keyboard_stays_in_the_tours_bar(visit: Visitor) -> None:
    """Next has the focus after it was pressed, on another page too."""
    page = visit.open("/experiments?tour=1").page
    page.locator(".st-key-tour").get_by_role("link").first.focus()
    for number in (2, 3):
        page.keyboard.press("Enter")
        visit.wait()
        assert page.locator(".st-key-tour").inner_text().startswith(f"{number} of")
        assert page.evaluate("document.activeElement.closest('.st-key-tour') !== null")
