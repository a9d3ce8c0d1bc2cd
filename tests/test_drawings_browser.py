"""The drawings as a browser shows them: whole, legible, and to take away."""

from __future__ import annotations

import base64
import io
from importlib.util import find_spec
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator

from explorer.analysis.trace import trace
from explorer.drawing import network
from explorer.drawing.picture import words
from explorer.export import drawings
from explorer.link import View, origin, parse_network
from helpers import PHONE, Visitor
from resnet import preset

pytestmark = pytest.mark.browser

WINDOWS = ((1920, 1080), (1440, 900), (1366, 768), (1280, 720))
NETWORKS = (
    "resnet18",
    "resnet50",
    "resnet152",
    "resnet56",
    "resnet110",
    "resnet1202",
    "wide_resnet50_2",
    "resnext50_32x4d",
    "resnet50d",
)
MEASURED = """(view) => {
    const frame = view.getBoundingClientRect(), svg = view.querySelector("svg"), box = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map((text) => {
        const { left, right, top, bottom } = text.getBoundingClientRect(), slack = (bottom - top) / 5; // above and below letters
        return { words: text.textContent, left, right, top: top + slack, bottom: bottom - slack,
            size: parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a };
    });
    const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
    return {
        whole: box.left >= frame.left - 1 && box.right <= frame.right + 1 && view.scrollWidth <= view.clientWidth
            && view.scrollHeight <= view.clientHeight,
        texts_inside: texts.every((text) => text.left >= box.left - 1 && text.right <= box.right + 1),
        smallest: Math.min(...texts.map(({ size }) => size)),
        overlaps: texts.flatMap((a, n) => texts.slice(n + 1).filter((b) => meet(a, b)).map((b) => a.words + " | " + b.words)),
        bottom: box.bottom,
    };
}"""
SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"


def card(visit: Visitor, name: str) -> Locator:
    return visit.page.locator(f".st-key-{name} .view")


def place(found: Locator) -> dict[str, float]:
    """Where something stands in the window, in pixels."""
    return found.evaluate("found => found.getBoundingClientRect().toJSON()")


def assert_legible_and_whole(visit: Visitor, name: str) -> dict[str, Any]:
    found = card(visit, name).evaluate(MEASURED)
    assert found["whole"], name
    assert found["texts_inside"], name
    assert found["smallest"] >= 9.99, name
    assert not found["overlaps"], name
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_network_and_block_are_whole_at_first_sight(visit: Visitor, name: str) -> None:
    """In every window nothing has to be scrolled to see the network, and a block with its addition."""
    visit.open(f"/?preset={name}")
    for width, height in WINDOWS:
        visit.page.set_viewport_size({"width": width, "height": height})
        visit.page.evaluate(SETTLED)
        for drawing in ("overview", "detail"):
            found = assert_legible_and_whole(visit, drawing)
            assert found["bottom"] <= height, (drawing, width)
        assert card(visit, "detail").locator("[data-id$='.add'] circle").count()


@pytest.mark.parametrize("visit", [PHONE], indirect=True, ids=["phone"])
@pytest.mark.parametrize("name", [*NETWORKS, "seresnext50_32x4d"])
def test_a_phone_shows_all_of_network_and_block(visit: Visitor, name: str) -> None:
    visit.open(f"/?preset={name}&at=layer3.0.conv1")
    for drawing in ("overview", "detail"):
        assert_legible_and_whole(visit, drawing)
    assert visit.fits()


@pytest.mark.parametrize(
    "visit", [PHONE, {"viewport": {"width": 1280, "height": 720}}], indirect=True, ids=["phone", "wide"]
)
def test_the_network_of_an_image_is_whole(visit: Visitor) -> None:
    """With its maps, and with a switch for each block."""
    visit.open("/inference?preset=resnet20_fashion&tab=Blocks+off")
    for drawing in ("strip", "overview"):
        assert_legible_and_whole(visit, drawing)
    assert visit.page.locator(".st-key-strip svg image").count() > 9


@pytest.mark.parametrize("visit", [{"viewport": {"width": 1280, "height": 720}}], indirect=True, ids=["projector"])
def test_who_presents_sees_the_addition_at_first_sight(visit: Visitor) -> None:
    """In larger type too; the bar lies beside the title and above the buttons."""
    page = visit.open("/architecture?present=1").page
    bar, title = place(page.locator(".st-key-present")), place(page.get_by_role("heading", level=1).locator("span"))
    pin = place(page.get_by_role("button", name="Pin to compare"))
    addition = place(card(visit, "detail").locator("[data-id$='.add'] circle"))
    assert title["right"] < bar["left"]
    assert bar["bottom"] <= pin["top"]
    assert addition["bottom"] < 720


@pytest.mark.parametrize("visit", [PHONE | {"has_touch": True, "is_mobile": True}], indirect=True, ids=["phone"])
def test_a_tables_tools_lie_on_nothing_where_they_always_show(visit: Visitor) -> None:
    page = visit.open("/architecture?tab=Layers").page
    tabs, tools = place(page.get_by_role("tablist")), place(page.get_by_test_id("stElementToolbar"))
    assert tabs["bottom"] <= tools["top"]


def test_an_unfolded_stage_goes_on_lines(visit: Visitor) -> None:
    visit.open("/?preset=resnet152")
    visit.page.locator("[data-id='unfold stage 3']").click()
    visit.wait()
    found = card(visit, "overview").evaluate(MEASURED)
    assert found["smallest"] >= 9.99
    assert not found["overlaps"]
    assert card(visit, "overview").evaluate("view => view.scrollWidth <= view.clientWidth")


@pytest.mark.parametrize("visit", [PHONE], indirect=True, ids=["phone"])
def test_fit_shows_what_else_would_scroll(visit: Visitor) -> None:
    visit.open("/?preset=seresnextaa101d_32x8d")
    sideways = "view => view.scrollWidth > view.clientWidth"
    assert card(visit, "detail").evaluate(sideways)
    visit.page.locator(".st-key-detail").get_by_role("button", name="fit").click()
    assert not card(visit, "detail").evaluate(sideways)


@pytest.mark.parametrize("colour", ["light", "dark"])
def test_the_keyboard_is_seen_on_every_colour(visit: Visitor, colour: Literal["light", "dark"]) -> None:
    """A ring in the text's colour stands around what has the focus, on stem, stages and head; a choice keeps it."""
    visit.page.emulate_media(color_scheme=colour)
    visit.open("/?at=conv1")
    drawing = card(visit, "overview")
    ring = "item => { const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(item.querySelector('rect')); return [outlineStyle, outlineWidth, outlineColor]; }"
    ink = drawing.locator("text").last.evaluate("text => getComputedStyle(text).fill")
    items = drawing.locator("[data-id]")
    items.first.press("Home")
    for number in range(items.count()):
        assert items.nth(number).evaluate(ring) == ["solid", "3px", ink]
        assert items.nth((number + 1) % items.count()).evaluate(ring)[0] == "none"
        visit.page.keyboard.press("ArrowRight")
    visit.page.keyboard.press("Enter")
    visit.wait()
    assert drawing.locator("[data-id='fc']").evaluate(ring) == ["solid", "3px", ink]


def test_a_drawing_is_taken_away(visit: Visitor) -> None:
    """As the SVG that Python made, as a PNG of twice its size on white, which a browser drew from it as an image, and as a
    PDF; each with the link that opens the network again, and in the light theme's colours.
    """
    visit.page.emulate_media(color_scheme="dark")
    visit.open("/?preset=resnet50d")
    traced = trace(preset("resnet50d"), 224)
    drawn = network.overview(traced, "layer2.0.conv2")
    files = {}
    for kind in ("SVG", "PNG", *(["PDF"] if find_spec("typst") else [])):
        with visit.page.expect_download() as waiting:
            visit.page.locator(".st-key-overview").get_by_role("button", name=f"download {kind}").click()
        assert waiting.value.suggested_filename == f"resnet50d.{kind.lower()}"
        files[kind] = waiting.value.path().read_bytes()
    says = origin(View(preset("resnet50d")))
    assert files["SVG"].decode() == drawings.svg(drawn, says)
    image = Image.open(io.BytesIO(files["PNG"]))
    image.load()
    assert image.text == {"Description": words(says)}  # type: ignore[attr-defined]
    picture = image.convert("RGB")
    assert picture.size == (2 * round(drawn.width), 2 * round(drawn.height))
    colours = set(map(tuple, np.asarray(picture).reshape(-1, 3).tolist()))
    assert picture.getpixel((1, 1)) == (255, 255, 255)
    assert {(0x2A, 0x6F, 0xD0), (0x17, 0x83, 0x5F), (0xB8, 0x66, 0x0F), (0x7C, 0x4D, 0xC4)} <= colours
    assert files.get("PDF", b"%PDF").startswith(b"%PDF")


def test_a_figure_is_taken_away(visit: Visitor) -> None:
    """On white in the dark theme too, its text dark, as SVG and as PNG of twice its size; each with the link."""
    visit.page.emulate_media(color_scheme="dark")
    visit.open("/?preset=resnet50d&tab=Cost")
    files = {}
    for kind in ("SVG", "PNG"):
        with visit.page.expect_download() as waiting:
            visit.page.get_by_role("button", name=f"download the figure as {kind}").click()
        assert waiting.value.suggested_filename == f"resnet50d-macs-by-stage.{kind.lower()}"
        files[kind] = waiting.value.path().read_bytes()
    root = ElementTree.fromstring(files["SVG"])
    said = [text.strip() for text in root.itertext()]
    assert said[0] == "MACs by stage: stem, stage 1, stage 2, stage 3, stage 4, head"
    assert parse_network(said[1].rpartition(" · ")[2]).config == preset("resnet50d")
    assert {"stage 1", "stage 4", "multiply-adds for one image"} <= {*said}
    image = Image.open(io.BytesIO(files["PNG"]))
    image.load()
    assert image.text == {"Description": said[1]}  # type: ignore[attr-defined]
    assert image.size == (2 * int(root.attrib["width"]), 2 * int(root.attrib["height"]))
    found = image.convert("RGB").getcolors(1 << 24)
    assert found
    assert max(found)[1] == (255, 255, 255)
    assert {(0x2A, 0x6F, 0xD0), (49, 51, 63)} <= {colour for _, colour in found}
    assert (0x14, 0x18, 0x1F) not in {colour for _, colour in found}


def test_a_surface_is_taken_away(visit: Visitor) -> None:
    """What WebGL draws stands in the SVG, of twice its size and with dark letters in the dark theme too; the page's stays."""
    visit.page.emulate_media(color_scheme="dark")
    visit.open("/experiments?tab=Loss+landscape")
    canvas = visit.page.locator(".st-key-surface-of-resnet56 canvas")
    canvas.scroll_into_view_if_needed()
    seen, files = canvas.screenshot(), {}
    for kind in ("SVG", "PNG"):
        with visit.page.expect_download() as waiting:
            visit.page.locator(".st-key-surface-of-resnet56-files").get_by_role("button", name=f"as {kind}").click()
        files[kind] = waiting.value.path().read_bytes()
    root = ElementTree.fromstring(files["SVG"])
    (drawn,) = root.iter("{http://www.w3.org/2000/svg}image")
    inside = Image.open(io.BytesIO(base64.b64decode(drawn.attrib["href"].partition(",")[2])))
    assert inside.size == tuple(round(2 * float(drawn.attrib[side])) for side in ("width", "height"))
    assert inside.getpixel((0, 0))[3] == 0  # type: ignore[index]
    letters = {colour: count for count, colour in inside.getcolors(1 << 24) or []}[49, 51, 63, 255]
    assert letters > 20
    image = Image.open(io.BytesIO(files["PNG"])).convert("RGB")
    assert image.size == (2 * int(root.attrib["width"]), 2 * int(root.attrib["height"]))
    counts = image.getcolors(1 << 24) or []
    assert max(counts)[1] == (255, 255, 255)
    assert len(counts) > 5_000  # the surface's shades
    canvas.scroll_into_view_if_needed()
    assert canvas.screenshot() == seen


def test_what_opens_below_a_table_is_whole(visit: Visitor) -> None:
    """Where the table ends near the foot of the window too, with room for an empty menu: it goes up there."""
    visit.open("/architecture?preset=resnet18&tab=Memory")
    opening = visit.page.get_by_role("button", name="Take away").first
    opening.evaluate("button => button.scrollIntoView(false)")
    visit.page.get_by_test_id("stMain").evaluate("main => main.scrollBy(0, 70)")
    opening.click()
    last = visit.page.get_by_role("button", name="LaTeX")
    last.wait_for()
    visit.wait()
    menu = visit.page.get_by_test_id("stPopoverBody")
    assert menu.evaluate("menu => menu.scrollHeight <= menu.clientHeight")
    box, tall = menu.bounding_box(), visit.page.viewport_size
    assert box
    assert tall
    assert box["y"] + box["height"] <= tall["height"]
