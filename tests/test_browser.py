"""The app as a person uses it, in a real Chromium."""

from __future__ import annotations

import io
import os
import pickle
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qsl, urlencode, urlsplit

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import expect
from torchvision.models import resnext50_32x4d
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from explorer.analysis.compare import activation_bytes
from explorer.analysis.presets import LINES
from explorer.analysis.trace import trace
from explorer.inference.images import open_image
from explorer.inference.samples import samples
from explorer.link import View
from helpers import PHONE, saved
from resnet import ResNetConfig, preset
from resnet.weights import BUNDLED, bundled, load, randomly
from zoo import akamaster, under

pytestmark = pytest.mark.browser


def query(visit) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(visit.page.url).query))


def shoe_photograph() -> bytes:
    """A dark shoe on white, tall, turned by EXIF, as a phone would send it."""
    sneaker = next(sample for sample in samples() if sample.label == "Sneaker")
    shoe = 255 - np.asarray(open_image(sneaker.open()).convert("L").resize((1400, 1400)))
    page = np.full((2200, 1600), 255, np.uint8)
    page[400:1800, 100:1500] = shoe
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(page).rotate(90, expand=True).convert("RGB").save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_the_first_day(visit):
    """ResNet-50, then basic blocks; a shoe uploaded; its activations, layer by layer."""
    visit.open()
    assert visit.metric("Parameters") == "25.56 M"
    assert visit.metric("MACs") == "4.09 G"
    visit.pick("basic")
    assert visit.metric("Parameters") == "21.80 M"
    assert visit.metric("MACs") == "3.66 G"
    assert query(visit) == {"block": "basic"}

    page = visit.page
    page.get_by_role("link", name="Inference").click()
    visit.wait()
    page.locator(".st-key-overview svg").wait_for()
    page.get_by_role("button", name="Use the shipped ResNet-20").click()
    visit.wait()
    page.get_by_text("Upload", exact=True).first.click()
    visit.wait()
    page.get_by_test_id("stFileUploader").locator("input[type=file]").set_input_files(
        {"name": "shoe.jpg", "mimeType": "image/jpeg", "buffer": shoe_photograph()}
    )
    visit.wait()
    assert page.locator(".st-key-verdict-chip strong").inner_text() == "Sneaker"
    assert "28×28, inverted" in page.locator(".st-key-seen").inner_text()
    for block, channels in (("layer1.2", 16), ("layer2.0", 32), ("layer3.1", 64)):
        page.locator(f".st-key-strip [data-id='{block}']").click()
        visit.wait()
        assert f"{block}.act" in page.locator(".st-key-crumbs").inner_text()
        expect(page.locator(".st-key-activations .tiles button")).to_have_count(min(channels, 32))
    expect(page.locator(".st-key-strip svg image")).to_have_count(1 + 9)


def test_a_layer_is_selected_everywhere(visit):
    """A click in the overview, the detail or the table moves inspector, link and drawing together."""
    visit.open("/architecture")
    page = visit.page
    page.locator("[data-id='layer3.0']").click()
    visit.wait()
    expect(page.locator(".st-key-detail svg [data-id='layer3.0.downsample.0']")).to_have_count(1)
    page.locator(".st-key-detail [data-id='layer3.0.conv3']").click()
    visit.wait()
    facts = page.locator(".st-key-inspector").inner_text()
    assert "256·1024 = 262,144" in facts
    assert "51,380,224" in facts
    assert query(visit) == {"at": "layer3.0.conv3"}
    expect(page.locator(".st-key-detail [aria-pressed='true']")).to_have_attribute("data-id", "layer3.0.conv3")

    rows = page.get_by_test_id("stDataFrame").locator("canvas").first
    rows.click(position={"x": 20, "y": 35 + 35 // 2}, force=True)  # the checkbox of the first row
    visit.wait()
    assert query(visit) == {"at": "conv1"}


@pytest.mark.parametrize(
    "target",
    [".st-key-strip [data-id='layer2.0']", ".st-key-overview [data-id='switch layer2.0']", ".tiles button >> nth=1"],
)
def test_a_click_is_seen_before_the_answer(visit, target):
    visit.open("/inference?preset=resnet20_fashion&tab=Blocks+off")
    moving = """(target) => {
        target.dispatchEvent(new MouseEvent("click", { bubbles: true }));
        return target.getAnimations().length;
    }"""
    assert visit.page.locator(target).first.evaluate(moving) == 1
    visit.wait()


def test_keyboard(visit):
    """The drawing is one tab stop; arrows move in it and Enter selects, with the focus kept."""
    visit.open("/?at=layer1.0.conv2")
    page = visit.page
    drawing = page.locator(".st-key-overview svg")
    expect(drawing.locator("[tabindex='0']")).to_have_count(1)
    drawing.locator("[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    visit.wait()
    assert query(visit) == {"at": "layer1.2.conv2"}
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    visit.wait()
    assert query(visit) == {"at": "fc"}


def test_zoom_and_fit(visit):
    visit.open()
    page = visit.page
    page.locator(".st-key-overview svg").wait_for()
    width = lambda: page.locator(".st-key-overview svg").bounding_box()["width"]  # noqa: E731
    fitted = width()
    page.locator(".st-key-overview").get_by_role("button", name="zoom in").click()
    assert width() == pytest.approx(1.25 * fitted, rel=0.02)
    page.locator(".st-key-overview").get_by_role("button", name="fit").click()
    assert width() == pytest.approx(fitted, rel=0.01)


def test_back_and_forward(visit):
    visit.open()
    visit.pick("basic").type("Blocks per stage", "2 2 2 2")
    assert visit.metric("Parameters") == "11.69 M"
    visit.page.go_back()
    visit.wait()
    assert visit.metric("Parameters") == "21.80 M"
    assert visit.sidebar.get_by_label("Blocks per stage", exact=True).input_value() == "3-4-6-3"
    visit.page.go_back()
    visit.wait()
    assert visit.metric("Parameters") == "25.56 M"
    visit.page.go_forward()
    visit.wait()
    assert visit.metric("Parameters") == "21.80 M"


def test_the_link_opens_elsewhere(visit, address):
    """A second person gets the same page, configuration, image size and selection."""
    visit.open("/?preset=seresnet50&size=160x320&at=layer4.1.conv3")
    shown = [visit.metric(label) for label in ("Parameters", "MACs", "Peak activations", "Receptive field")]
    assert shown[0] == "28.09 M"
    link = visit.page.url
    assert ResNetConfig.from_query({k: v for k, v in query(visit).items() if k not in ("at", "size")}) == preset(
        "seresnet50"
    )
    visit.page.goto("about:blank")
    visit.page.context.clear_cookies()
    visit.page.goto(link)
    visit.wait()
    assert visit.page.url == link
    assert [visit.metric(label) for label in ("Parameters", "MACs", "Peak activations", "Receptive field")] == shown
    assert "layer4.1.conv3" in visit.page.locator(".st-key-inspector").inner_text()
    visit.page.get_by_role("link", name="Inference").click()
    visit.wait()
    assert "seresnet50" in visit.page.get_by_role("heading", level=1).inner_text()


def test_a_wrong_link_says_so(visit):
    visit.open("/?layers=3-8-36-3&shortcut=Q")
    warning = visit.page.get_by_test_id("stAlert").inner_text()
    assert "shortcut = Q is not accepted: one of none, A, B, C, D. B is used instead." in warning
    assert visit.metric("Parameters") == "60.19 M"


@pytest.mark.parametrize("typed", ["www.example.com", "a@b.org", "https://example.com", "[x](http://example.com)"])
def test_a_wrong_link_is_shown_as_text(visit, typed):
    """What somebody put into a link that they send around is no link on our page."""
    visit.open("/inference?" + urlencode({"weights": typed}))
    alert = visit.page.get_by_test_id("stAlert").first
    assert typed in alert.inner_text().replace("\u2060", "")
    assert not alert.locator("a").count()


def test_a_wrong_edit_keeps_the_view(visit):
    visit.open().type("Blocks per stage", "3-4-many")
    assert "Blocks per stage = 3-4-many is not accepted" in visit.page.get_by_test_id("stAlert").inner_text()
    assert visit.metric("Parameters") == "25.56 M"
    assert visit.sidebar.get_by_label("Blocks per stage", exact=True).input_value() == "3-4-many"
    visit.type("Blocks per stage", "2-2-2-2")
    assert not visit.page.get_by_test_id("stAlert").count()


def test_pinned_network_is_compared_with(visit):
    visit.open("/?preset=resnet34")
    visit.page.get_by_role("button", name="Pin to compare").click()
    visit.wait()
    visit.pick("bottleneck")
    metric = visit.page.get_by_test_id("stMetric").filter(has_text="Parameters").inner_text()
    assert "3.76 M" in metric
    assert "against ResNet-34" in metric
    assert "pin" in query(visit)


@pytest.mark.parametrize("name", ["resnet152", "resnet1202"])
def test_deep_networks_fold(visit, name):
    """Long stages fold to a few boxes, and a click unfolds them."""
    visit.open(f"/?preset={name}")
    page = visit.page
    page.locator("[data-id='unfold stage 3']").wait_for()
    assert page.locator(".st-key-overview [data-id]").count() < 30
    page.locator("[data-id='unfold stage 3']").click()
    visit.wait()
    expect(page.locator(".st-key-overview [data-id^='layer3.']")).to_have_count(preset(name).layers[2])


@pytest.mark.parametrize("tab", ["Cost", "Receptive field", "torchinfo", "graphviz"])
def test_every_tab_shows_something(visit, tab):
    visit.open("/?preset=resnet18")
    visit.page.get_by_role("tab", name=tab).click()
    visit.wait()
    shown = {"torchinfo": "code", "graphviz": "[data-testid=stGraphVizChart] svg"}.get(tab, ".js-plotly-plot")
    visit.page.locator(shown).last.wait_for()


@pytest.mark.parametrize("name", ["empty.jpg", "text.jpg", "cut.png"])
def test_bad_uploads_get_one_sentence(visit, name):
    data = {"empty.jpg": b"", "text.jpg": b"not an image at all", "cut.png": samples()[-1].open()[:200]}[name]
    link = "/inference?" + "&".join(f"{k}={v}" for k, v in BUNDLED["resnet20"].to_query().items())
    visit.open(link)
    visit.page.get_by_text("Upload", exact=True).first.click()
    visit.wait()
    visit.page.get_by_test_id("stFileUploader").locator("input[type=file]").set_input_files(
        {"name": name, "mimeType": "image/png", "buffer": data}
    )
    visit.wait()
    alert = visit.page.get_by_test_id("stAlert").filter(has_text=name)
    assert alert.inner_text().count(".") >= 2
    assert "Traceback" not in visit.page.content()


WIDE_DARK = {"viewport": {"width": 1440, "height": 1000}, "color_scheme": "dark"}


@pytest.mark.parametrize("path", ["/", "/architecture", "/?preset=resnet152", "/inference?preset=resnet20_fashion"])
@pytest.mark.parametrize("visit", [PHONE, WIDE_DARK], indirect=True, ids=["narrow", "wide"])
def test_nothing_overflows(visit, path):
    visit.open(path)
    assert visit.fits()


@pytest.mark.parametrize(
    "visit", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True, ids=["light", "dark"]
)
def test_the_drawing_follows_the_theme(visit):
    """Text that stands on the page contrasts with it, on both themes."""
    visit.open()
    ink = visit.page.locator(".st-key-overview svg text").last.evaluate("e => getComputedStyle(e).fill")
    name = visit.page.locator(".st-key-overview svg text[font-weight='500']").first.evaluate(
        "e => getComputedStyle(e).fill"
    )
    paper = visit.page.get_by_test_id("stApp").evaluate("e => getComputedStyle(e).backgroundColor")
    brightness = lambda colour: sum(map(int, re.findall(r"\d+", colour)[:3])) / 3  # noqa: E731
    assert abs(brightness(name) - brightness(paper)) > 150
    assert abs(brightness(ink) - brightness(paper)) > 80


def test_a_preset_is_chosen_by_typing_its_name(visit):
    visit.open("/architecture")
    field = visit.sidebar.get_by_role("combobox").first
    for typed, name in (
        ("ResNet-34", "resnet34"),
        ("timm/resnet50d.ra2_in1k", "resnet50d"),
        ("wide-resnet50-2", "wide_resnet50_2"),
    ):
        field.click()
        field.fill(typed)
        field.press("Enter")
        visit.wait()
        assert field.input_value() == LINES[name]
        assert View.from_query(query(visit)).config == preset(name)


def test_a_unit_sees_its_box(visit):
    """A click in the map or on the image chooses a unit, whose frame is start + unit·effective stride and size pixels a side."""
    visit.open("/inference?" + urlencode({"preset": "resnet20_fashion"}))
    page = visit.page
    page.locator(".tiles button", has_text="Coat").first.click()
    visit.wait()
    page.locator(".st-key-strip svg [data-id='layer3.0']").click()
    visit.wait()
    page.get_by_role("tab", name="Receptive field").click()
    visit.wait()
    page.locator(".st-key-grid-shown").get_by_text("Beyond the edge").click()
    visit.wait()
    field = trace(BUNDLED["resnet20"], 28).blocks[query(visit)["at"]][-1].field
    unit_map, image = (page.locator(f".st-key-{key} .pixels svg") for key in ("map-and-numbers", "pixel-grid"))

    def corners(name: str) -> list[float]:
        frame = image.locator(f".line[data-id='{name}']")
        return [float(frame.get_attribute(side)) for side in ("x", "y", "width", "height")]

    def expect_unit(row: int, column: int) -> None:
        visit.wait()
        assert query(visit)["unit"] == f"{row}-{column}"
        left, top = field.start + column * field.effective_stride, field.start + row * field.effective_stride
        assert corners("unclipped") == [left, top, field.size, field.size]
        right, bottom = min(left + field.size, 28), min(top + field.size, 28)
        left, top = max(left, 0), max(top, 0)
        assert corners("field") == [left, top, right - left, bottom - top]

    cell = unit_map.bounding_box()["width"] / 7
    unit_map.click(position={"x": 5.5 * cell, "y": 1.5 * cell})
    expect_unit(1, 5)
    page.keyboard.press("ArrowDown")
    expect_unit(2, 5)

    x, y, width, _ = map(float, image.get_attribute("viewBox").split())
    scale = image.bounding_box()["width"] / width
    pixel = field.centre(4)
    image.click(position={"x": (pixel + 0.5 - x) * scale, "y": (pixel + 0.5 - y) * scale})
    expect_unit(4, 4)
    page.keyboard.press("ArrowLeft")
    expect_unit(4, 3)
    assert visit.fits()

    for name in ("Source", "Inference"):
        visit.sidebar.get_by_role("link", name=name).click()
        visit.wait()
        assert query(visit)["unit"] == "4-3"


def test_a_photograph_at_a_size_that_is_no_square(visit):
    """12 megapixels as a telephone writes them, lying on their side: red above blue once they are upright."""
    upright = Image.new("RGB", (3000, 4000), "red")
    upright.paste("blue", (0, 2000, 3000, 4000))
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    upright.rotate(90, expand=True).save(buffer, "JPEG", exif=exif)

    visit.open("/inference?" + urlencode({"preset": "resnet18", "size": "320x640", "weights": "random"}))
    page, network = visit.page, trace(preset("resnet18"), (320, 640))
    page.get_by_text("Upload", exact=True).first.click()
    visit.wait()
    page.get_by_test_id("stFileUploader").locator("input[type=file]").last.set_input_files(
        {"name": "photograph.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()}
    )
    visit.wait()
    page.locator(".st-key-blend").get_by_role("slider").press("Home")  # the image alone
    visit.wait()
    seen = page.locator(".st-key-seen .pixels svg")
    assert "What the network sees: 320×640" in page.locator(".st-key-seen").inner_text()
    assert seen.evaluate("svg => svg.viewBox.baseVal.width / svg.viewBox.baseVal.height") == 2
    shot = np.asarray(Image.open(io.BytesIO(seen.screenshot())).convert("RGB"))
    (red, _, blue), (red_below, _, blue_below) = (
        shot[int(len(shot) * share), shot.shape[1] // 2] for share in (0.25, 0.75)
    )
    assert red > 200 > 55 > blue
    assert blue_below > 200 > 55 > red_below
    assert f"{network.macs / 1e6:,.0f} M MACs at 320×640 pixels" in page.locator(".st-key-below").inner_text()

    page.locator(".st-key-strip svg [data-id='layer1.0']").click()
    visit.wait()
    page.get_by_role("tab", name="Receptive field").click()
    visit.wait()
    assert query(visit)["at"] == "layer1.0"
    layer = network.blocks["layer1.0"][-1]
    assert layer.out_shape == (64, 80, 160)
    unit_map, image = (page.locator(f".st-key-{key} .pixels svg") for key in ("map-and-numbers", "pixel-grid"))
    _, _, width, height = map(float, unit_map.get_attribute("viewBox").split())
    assert width == 2 * height
    cell = unit_map.bounding_box()["width"] / 160
    unit_map.click(position={"x": 120.5 * cell, "y": 40.5 * cell})
    visit.wait()
    assert query(visit)["unit"] == "40-120"
    frame = image.locator(".line[data-id='field']")
    field = layer.field
    left, top = (field.start + place * field.effective_stride for place in (120, 40))
    assert [float(frame.get_attribute(side)) for side in ("x", "y", "width", "height")] == [
        left,
        top,
        field.size,
        field.size,
    ]
    assert visit.fits()


@pytest.mark.parametrize(
    "visit",
    [{"viewport": {"width": width, "height": height}} for width, height in ((1280, 720), (1440, 900))],
    indirect=True,
    ids=["1280", "1440"],
)
def test_a_click_on_a_block_changes_maps_that_are_seen(visit):
    """Without a scroll: its output, then one of its layers; and what stays on top where the panel is scrolled."""
    visit.open("/inference?preset=resnet20_fashion")
    page = visit.page
    tile = page.locator(".st-key-activations .tiles button").first
    sheet = lambda: tile.locator("span").evaluate("tile => tile.style.backgroundImage")  # noqa: E731
    maps = [sheet()]

    def click(target, at):
        target.click()
        visit.wait()
        assert query(visit)["at"] == at
        maps.append(sheet())
        place = tile.bounding_box()
        assert 0 < place["y"] < place["y"] + place["height"] < page.viewport_size["height"]

    strip = page.locator(".st-key-strip")
    click(strip.locator("[data-id='layer3.1']"), "layer3.1")
    click(page.get_by_role("button", name="Its layers"), "layer3.1.act")
    click(strip.locator("[data-id='layer3.1.conv1']"), "layer3.1.conv1")
    click(page.get_by_role("button", name="ResNet-20"), "layer3.1")
    first, block, output, convolution, again = maps
    assert block == output == again
    assert len({first, block, convolution}) == 3
    page.mouse.move(600, 600)
    page.mouse.wheel(0, 2000)
    page.wait_for_timeout(500)
    tops = {key: page.locator(f".st-key-{key}").bounding_box()["y"] for key in ("band", "strip")}
    assert 0 <= tops["band"] < tops["strip"] < 100
    assert tile.bounding_box()["y"] < tops["strip"] + 160  # it was scrolled


@pytest.mark.parametrize("visit", [{"viewport": {"width": 390, "height": 844}}], indirect=True, ids=["phone"])
def test_on_a_phone_the_maps_begin_near_the_top_and_the_open_tab_is_seen(visit):
    visit.open("/inference?preset=resnet20_fashion&tab=Speed")
    assert visit.page.locator(".st-key-strip svg image").first.bounding_box()["y"] < 320
    assert visit.fits()
    tab = visit.page.get_by_role("tab", name="Speed").bounding_box()
    assert tab["x"] > 0
    assert tab["x"] + tab["width"] < 390


def test_what_is_clicked_in_a_tab_shows_around_it(visit):
    """A layer that is chosen there is selected in the drawing, and its channel among the maps; what is not accepted there is
    said above.
    """
    visit.open("/inference?" + urlencode({"preset": "resnet20_fashion", "tab": "Weights", "at": "layer2.0.conv2"}))
    visit.page.locator(".st-key-kernels .tiles button").nth(3).click()
    visit.wait()
    assert query(visit)["at"] == "conv1"
    assert "Stem" in visit.page.locator(".st-key-crumbs").inner_text()
    assert query(visit)["channel"] == "3"
    visit.page.get_by_role("tab").first.click()
    visit.wait()
    name = re.compile(r"^Channel 3, rank \d+ of 16 by mean magnitude$")
    tile = visit.page.locator(".st-key-activations").get_by_role("button", name=name)
    expect(tile).to_have_attribute("aria-pressed", "true")
    expect(tile).to_have_text("3")
    assert re.match(r"Channel 3: −[\d.]+ to [\d.]+$", tile.get_attribute("title"))

    visit.open("/kernels")
    field = visit.page.get_by_label("Channels in", exact=True)
    field.fill("-3")
    field.press("Enter")
    visit.wait()
    expect(visit.page.get_by_test_id("stAlert")).to_contain_text("Channels in = -3 is not accepted")
    assert field.input_value() == "-3"


def test_a_comparison_link(visit):
    """Opened from a link; filtered to what differs; the bill sums to the total, on the page as it is read."""
    visit.open("/choose?stride_in=1x1&groups=2&with=resnet50,resnet101")
    page = visit.page
    page.get_by_role("radio", name="ResNet-101").or_(
        page.get_by_role("button", name="ResNet-101", exact=True)
    ).first.click()
    visit.wait()
    page.get_by_text("Only what differs").click()
    visit.wait()
    assert query(visit)["shown"] == "pair-2_differing-1"
    visit.open(visit.page.url.removeprefix(visit.address))  # as a colleague opens it
    expect(page.get_by_text("What makes the difference")).to_contain_text("to ResNet-101")
    expect(page.get_by_role("switch", name="Only what differs")).to_be_checked()
    words = page.get_by_text("layers differ").inner_text()
    assert re.search(r"of (\d+) layers differ", words)
    expect(page.get_by_test_id("stDataFrame").locator("canvas").first).to_be_visible()

    cells = page.locator(".st-key-bill td")
    amounts = [
        int(re.sub(r"[^\d−]", "", text).replace("−", "-"))
        for text in cells.evaluate_all("tds => tds.map(td => td.title)")
    ]
    rows = [amounts[at : at + 4] for at in range(0, len(amounts), 4)]
    fields = page.locator(".st-key-bill th").all_inner_texts()
    assert [text.split(":")[0] for text in fields[5:]] == ["Blocks per stage", "Stride in", "Groups", "Total"]
    assert [sum(column) for column in zip(*rows[:-1], strict=True)] == rows[-1]
    a, b = trace(ResNetConfig(stride_in="1x1", groups=2)), trace(preset("resnet101"))
    assert rows[-1] == [
        b.params - a.params,
        b.macs - a.macs,
        activation_bytes(b) - activation_bytes(a),
        b.field.size - a.field.size,
    ]
    assert f"{b.params - a.params:+,} parameters".replace("-", "−") in words

    page.get_by_text("v1 or v1.5", exact=True).click()
    visit.wait()
    page.get_by_role("button", name="Replace").click()  # as the first network is one's own
    visit.wait()
    assert query(visit) == {"stride_in": "1x1", "with": "resnet50", "shown": "differing-1"}
    assert "483 against 427 pixels" in page.locator(".st-key-remark").inner_text()
    page.locator(".st-key-aligned [data-id='1 layer3.0']").click()
    visit.wait()
    expect(page.locator(".st-key-slots [data-id='0 layer3.0.conv1']")).to_have_count(1)
    expect(page.locator(".st-key-slots svg text", has_text="≠")).to_have_count(4)
    page.get_by_role("button", name="Remove").click()
    visit.wait()
    assert "with" not in query(visit)


def test_a_checkpoint_of_torchvision_opens_as_its_network(visit):
    """100 MB of resnext50_32x4d, uploaded beside ResNet-18; then a pickle that would run a command."""
    torch.manual_seed(0)
    stream = io.BytesIO()
    torch.save({"state_dict": resnext50_32x4d().state_dict()}, stream)
    visit.open("/inference?preset=resnet18&weights=random")
    page = visit.page
    visit.weights_card()
    uploader = page.locator(".st-key-own-checkpoint").locator("input[type=file]").first
    with TemporaryDirectory() as folder:  # Playwright hands over at most 50 MB without a file
        path = Path(folder, "mine.pth")
        path.write_bytes(stream.getvalue())
        uploader.set_input_files(path)
        page.get_by_role("heading", name="resnext50_32x4d").wait_for()
        visit.wait()
    expected = preset("resnext50_32x4d").to_query() | {"weights": "upload"}
    assert query(visit) == expected
    assert "mine.pth was understood by its tensors" in page.get_by_test_id("stAlert").first.inner_text()
    card = page.locator(".st-key-own-checkpoint").inner_text()
    assert "320 tensors, 25.10 M numbers" in card
    assert "Activation" in card
    page.locator(".st-key-verdict-chip strong").first.wait_for()
    assert visit.fits()

    with TemporaryDirectory() as folder:
        target = Path(folder, "ran")
        uploader.set_input_files(
            {"name": "evil.pt", "mimeType": "application/octet-stream", "buffer": pickle.dumps(Command(target))}
        )
        visit.wait()
        alert = page.locator(".st-key-own-checkpoint").get_by_test_id("stAlert").inner_text()
        assert "system" in alert
        assert "not opened" in alert
        assert not target.exists()
    assert query(visit) == expected


def test_the_backbone_of_a_detector_is_looked_into(visit):
    """A Faster R-CNN of torchvision's as a training script saves it, 160 MB, uploaded beside a network for clothing."""
    torch.manual_seed(0)
    detector = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    visit.open("/inference?preset=resnet20_fashion")
    page = visit.page
    visit.weights_card()
    card = page.locator(".st-key-own-checkpoint")
    with TemporaryDirectory() as folder:
        path = Path(folder, "fasterrcnn.pth.tar")
        torch.save({"model": detector.state_dict(), "epoch": 3, "lr": 0.02}, path)
        card.locator("input[type=file]").set_input_files(path)
        page.get_by_role("heading", name="ResNet-50").wait_for()
        visit.wait()
    assert query(visit) == preset("resnet50").to_query() | {"weights": "upload"}
    assert "backbone.fpn, rpn, roi_heads left out." in card.inner_text()
    verdict = visit.verdict()
    assert "No classifier, so no scores" in verdict.inner_text()
    assert not verdict.locator("dl").count()
    page.keyboard.press("Escape")
    expect(page.locator(".st-key-strip svg image")).to_have_count(1 + 1 + sum(preset("resnet50").layers))
    for block, channels in (("layer1.0", 256), ("layer4.2", 2048)):
        page.locator(f".st-key-strip [data-id='{block}']").click()
        visit.wait()
        shown = page.locator(".st-key-activations")
        assert f"{block}.act" in page.locator(".st-key-crumbs").inner_text()
        assert f"32 of {channels} channels" in shown.inner_text()
        expect(shown.locator(".tiles button")).to_have_count(32)
    assert not page.get_by_test_id("stAlert").filter(has_text="overflow").count()
    assert visit.fits()


def test_zeros_on_both_sides_are_right_as_often_as_in_the_original(visit):
    """The shipped ResNet-20 as akamaster's code has it, and what becomes of it by the other answer."""
    theirs = under("module.", akamaster(load(bundled(BUNDLED["resnet20"])[0]).state_dict()))
    visit.open("/inference?preset=resnet18&weights=random")
    page = visit.page
    visit.weights_card()
    card = page.locator(".st-key-own-checkpoint")
    card.locator("input[type=file]").set_input_files(
        {"name": "resnet20.th", "mimeType": "", "buffer": saved({"state_dict": theirs, "best_prec1": 91.7})}
    )
    counted = page.locator(".st-key-below").get_by_text("Fashion-MNIST test images")
    counted.wait_for()
    visit.wait()
    assert query(visit) == BUNDLED["resnet20"].to_query() | {"weights": "upload"}
    assert "pad the channels on both sides" in card.inner_text()
    box = card.get_by_role("combobox", name="Zeros of option A")
    assert box.input_value() == "on both sides"
    right = "Right on 476 of 500 Fashion-MNIST test images: 95.2%"
    assert counted.inner_text().strip() == right
    for answer, words in (("after the channels", "36 of 500"), ("on both sides", "476 of 500")):
        box.click()
        page.get_by_role("option", name=answer).click()
        expect(counted).to_contain_text(words)
        visit.wait()
        assert ("7.2%" if answer == "after the channels" else "95.2%") in counted.inner_text()
    assert counted.inner_text().strip() == right
    assert visit.fits()


def test_uploads_stay_while_another_page_is_looked_at(visit):
    """Three images at once, one without an extension and one whose name is Markup; then a checkpoint."""
    visit.open("/inference?" + urlencode({"preset": "resnet20_fashion"}))
    page = visit.page
    page.get_by_text("Upload", exact=True).first.click()
    visit.wait()
    labels = {"Trouser": "IMG_0001", "Bag": "<b>**bag**</b>.heic", "Dress": "dress.PNG"}
    known = {sample.label: sample for sample in samples()}
    page.locator(".st-key-below").get_by_test_id("stFileUploader").locator("input[type=file]").set_input_files(
        [{"name": name, "mimeType": "", "buffer": known[label].open()} for label, name in labels.items()]
    )
    visit.wait()
    tiles = page.locator(".st-key-images .tiles button")
    expect(tiles).to_have_count(3)
    assert [tile.get_attribute("title") for tile in tiles.all()] == list(labels.values())
    tiles.nth(1).click()
    visit.wait()
    answer = page.locator(".st-key-verdict-chip strong").first
    assert answer.inner_text() == "Bag"
    share = visit.verdict().locator("dd").first.inner_text()
    assert labels["Bag"] in page.locator(".st-key-seen").inner_text()

    def elsewhere() -> None:
        for name in ("Choose", "Inference"):
            visit.sidebar.get_by_role("link", name=name).click()
            visit.wait()

    elsewhere()
    expect(tiles).to_have_count(3)
    assert answer.inner_text() == "Bag"
    assert visit.verdict().locator("dd").first.inner_text() == share
    page.keyboard.press("Escape")
    page.locator(".st-key-change-images button").click()
    page.get_by_role("button", name="Remove this image").click()
    visit.wait()
    assert [tile.get_attribute("title") for tile in tiles.all()] == [labels["Trouser"], labels["Dress"]]

    visit.weights_card()
    stream = io.BytesIO()
    torch.save(load(bundled(BUNDLED["plain20"])[0]).state_dict(), stream)
    page.locator(".st-key-own-checkpoint input[type=file]").set_input_files(
        {"name": "mine.pth", "mimeType": "", "buffer": stream.getvalue()}
    )
    visit.wait()
    assert query(visit)["weights"] == "upload"
    share = visit.verdict().locator("dd").first.inner_text()
    elsewhere()
    assert query(visit)["weights"] == "upload"
    assert "mine.pth" in page.locator(".st-key-below").inner_text()
    assert visit.verdict().locator("dd").first.inner_text() == share
    assert visit.fits()

    assert query(visit)["image"] == "upload"
    page.reload()
    visit.wait()
    card = page.locator(".st-key-below")
    expect(card).to_contain_text("The uploaded image is gone: it stays with the person who uploaded it")
    expect(card).to_contain_text("A checkpoint stays with the person who uploaded it")
    expect(page.locator(".st-key-seen")).to_contain_text("Sneaker")


class Command:
    """What runs a command when it is unpickled without care."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_two_blocks_are_switched_off_in_the_drawing(visit):
    """By click and by keyboard; the verdict, the link and the drawing follow, and all come back."""
    visit.open("/inference?" + urlencode({"preset": "resnet20_fashion", "tab": "Blocks off"}))
    page = visit.page
    answer = page.locator(".st-key-verdict-chip strong").first
    switch = lambda block: page.locator(f".st-key-overview [data-id='switch {block}']")  # noqa: E731
    assert answer.inner_text() == "Sneaker"
    switch("layer1.0").click()
    visit.wait()
    expect(switch("layer1.0")).to_have_attribute("aria-checked", "false")
    assert query(visit)["off"] == "layer1.0"
    assert "The whole network says Sneaker" in page.locator(".st-key-answer").inner_text()
    for _ in range(2 * 5):  # block and switch of five blocks on
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    visit.wait()
    assert query(visit)["off"] == "layer1.0,layer2.2"
    assert answer.inner_text() == "Bag"
    assert "2 blocks are off" in page.locator(".st-key-answer").inner_text()
    expect(page.locator(".st-key-overview [role=switch][aria-checked=false]")).to_have_count(2)
    expect(page.locator(".st-key-strip svg image")).to_have_count(1 + 9)
    page.keyboard.press("Enter")  # the focus stays on the switch
    visit.wait()
    assert query(visit)["off"] == "layer1.0"
    page.get_by_role("button", name="All blocks on").click()
    visit.wait()
    assert answer.inner_text() == "Sneaker"
    assert "off" not in query(visit)


def test_the_verdicts_class_is_explained(visit):
    """Through samples of several classes, with all blocks and with one off: maps and box follow what the network says."""
    visit.open("/inference?" + urlencode({"preset": "resnet20_fashion", "tab": "Why this class"}))
    page, verdicts = visit.page, []
    image = page.locator(".st-key-images .tiles button")
    said = lambda: page.locator(".st-key-verdict-chip strong").first.inner_text()  # noqa: E731

    def through(numbers, *places):
        for number in numbers:
            image.nth(number).click()
            visit.wait()
            verdicts.append(said())
            for place, words in places:
                assert page.locator(place).first.inner_text().rstrip(".").endswith(words.format(said()))

    box = page.get_by_role("combobox", name=re.compile("Class"))
    grad_cam = (".st-key-grad-cam h2", "Grad-CAM: where each depth finds what speaks for {}")
    integrated = (".st-key-integrated-gradients h2", "each pixel adds to the score of {}")
    through((5, 11, 17), grad_cam, integrated)
    assert len(set(verdicts)) == 3
    page.get_by_role("tab", name="Blocks off").click()
    visit.wait()
    page.locator(".st-key-overview [data-id='switch layer1.0']").click()
    visit.wait()
    page.get_by_role("tab", name="Why this class").click()
    visit.wait()
    through((5, 20, 21), grad_cam, integrated)
    assert len(set(verdicts[-3:])) > 1
    assert box.input_value() == "The prediction"

    page.get_by_role("tab", name="Receptive field").click()
    visit.wait()
    page.locator(".st-key-grid-shown").get_by_text("Grad-CAM").click()
    visit.wait()
    legend = (
        ".st-key-pixel-grid p:has-text('pink')",
        "pink: Grad-CAM for {}. A click chooses the unit whose field has its middle nearest",
    )
    through((5, 14), legend)
    assert verdicts[-1] != verdicts[-2]


def test_a_class_that_was_chosen_stays(visit):
    """Chosen by hand: on the next image, in the link, on another page and back; and the prediction by hand again."""
    visit.open("/inference?" + urlencode({"preset": "resnet20_fashion", "tab": "Why this class"}))
    page = visit.page
    box = page.get_by_role("combobox", name=re.compile("Class"))

    def choose(name):
        box.click()
        box.fill(name)
        expect(page.get_by_role("option")).to_have_text(name)
        box.press("Enter")
        visit.wait()

    def explained():
        return page.locator(".st-key-grad-cam h2").first.inner_text().rpartition(" for ")[2]

    choose("Coat")
    for number in (3, 8, 1):
        page.locator(".st-key-images .tiles button").nth(number).click()
        visit.wait()
        assert (explained(), box.input_value(), query(visit)["class"]) == ("Coat", "Coat", "Coat")
    visit.sidebar.get_by_role("link", name="Source").click()
    visit.wait()
    visit.sidebar.get_by_role("link", name="Inference").click()
    visit.wait()
    page.get_by_role("tab", name="Why this class").click()
    visit.wait()
    assert (explained(), box.input_value()) == ("Coat", "Coat")
    choose("The prediction")
    assert "class" not in query(visit)
    assert explained() == page.locator(".st-key-verdict-chip strong").first.inner_text()


def test_the_box_names_the_weights_that_run(visit):
    """Two uploads for a network with published weights, then a click elsewhere: the second one is shown and runs."""
    visit.open("/inference?" + urlencode({"preset": "resnet20_fashion"}))
    page = visit.page
    visit.weights_card()
    uploader = page.locator(".st-key-own-checkpoint").locator("input[type=file]")
    stream = io.BytesIO()
    torch.save(randomly(BUNDLED["resnet20"]).state_dict(), stream)
    box = page.get_by_role("combobox", name="Weights")
    for name in ("first.pth", "second.pth"):
        uploader.set_input_files({"name": name, "mimeType": "application/octet-stream", "buffer": stream.getvalue()})
        visit.wait()
        page.locator(".st-key-images .tiles button").nth(2).click()
        visit.wait()
        assert box.input_value() == f"Your checkpoint {name}"
        assert query(visit)["weights"] == "upload"
        assert not page.get_by_test_id("stAlert").filter(has_text="do not fit").count()
