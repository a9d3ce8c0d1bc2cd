"""One number in a browser: from a cell of a map down to a pixel, and back."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from helpers import Visitor

pytestmark = pytest.mark.browser

LARGEST = """(root) => { const value = (item) => Math.abs(parseFloat(
    item.getAttribute("aria-label").replaceAll("−", "-").split(/[ ,]/).at(-1)));
    const items = [...root.querySelectorAll("[data-id]")];
    items.sort((a, b) => value(b) - value(a))[0].setAttribute("data-largest", ""); }"""
"""Marks the term of the largest magnitude."""


def sums(visit: Visitor) -> list[tuple[float, float]]:
    """Each sum on the page, with torch's value beside it."""
    rows = visit.page.locator("table.checks tr").all()[1:]
    texts = [row.locator("td").all_inner_texts() for row in rows]
    return [(float(total.replace("−", "-")), float(value.replace("−", "-"))) for total, value, _ in texts]


@pytest.mark.parametrize("visit", [{"viewport": {"width": 1440, "height": 900}}], indirect=True, ids=["1440×900"])
def test_from_a_cell_of_a_map_down_to_a_pixel_and_back(visit: Visitor) -> None:
    """By the largest term each time; every sum is torch's value; the link opens on the same."""
    page = visit.open("/inference?preset=resnet20_fashion&at=layer1.0").page
    cells = page.locator(".st-key-seen .pixels svg")
    box = cells.bounding_box()
    assert box
    cells.click(position={"x": box["width"] * 20.5 / 28, "y": box["height"] * 12.5 / 28})
    visit.wait()
    assert dict(parse_qsl(urlsplit(page.url).query))["unit"] == "12-20"
    page.get_by_role("button", name="how it comes about").click()
    visit.wait()
    heading = page.locator(".st-key-one-number h2")
    assert "layer1.0.act" in heading.inner_text()
    shown = heading.inner_text()
    for step in range(8):
        for total, value in sums(visit):
            assert abs(total - value) <= 1e-4 * abs(value)
        drawing = page.locator(".st-key-terms svg")
        drawing.evaluate(LARGEST)
        if step % 2:  # by keyboard
            drawing.locator("[data-largest]").focus()
            page.keyboard.press("Enter")
        else:
            drawing.locator("[data-largest] rect").first.click()
        visit.wait()
        if "The pixel" in heading.inner_text():
            break
    assert "The pixel at row" in heading.inner_text()
    assert page.locator(".st-key-fields [data-id]").count() > 9
    link, text = page.url, page.locator(".st-key-one-number").inner_text()
    page.locator(".crumbs a").first.click()
    visit.wait()
    assert heading.inner_text() == shown
    visit.page.goto("about:blank")
    visit.page.goto(link)
    visit.wait()
    assert page.locator(".st-key-one-number").inner_text() == text
