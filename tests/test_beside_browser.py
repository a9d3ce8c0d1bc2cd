"""Two networks side by side in a real Chromium."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from explorer.experiments.probes import shipped_probes

pytestmark = pytest.mark.browser


def test_where_in_depth_two_networks_part_on_one_image(visit):
    """ResNet-56 beside Plain-56: the block from which on one is ahead, a probe's accuracy at each block, and on the image."""
    visit.open("/beside?image=0026-shirt")
    page = visit.page
    expect(page.get_by_role("heading", name="Side by side")).to_be_visible()
    answers = page.locator(".st-key-answers")
    expect(answers.get_by_text("ResNet-56")).to_be_visible()
    expect(answers.get_by_text("Plain-56")).to_be_visible()
    page.get_by_role("tab", name="By depth").click()
    visit.wait()
    card = page.locator(".st-key-depth")
    expect(card.get_by_text(re.compile("a probe of ResNet-56 stays ahead of one of Plain-56"))).to_be_visible()
    image = page.locator(".st-key-depth-on-image")
    expect(image.get_by_text(re.compile("how sure a probe is of Shirt"))).to_be_visible()
    expect(image.locator(".scatterlayer .js-line")).to_have_count(2)
    page.get_by_text("The numbers", exact=True).click()
    probes = {name: shipped_probes().networks[name].probes for name in ("resnet56", "plain56")}
    for number, block in enumerate(one.block for one in probes["resnet56"]):
        row = page.get_by_role("row", name=re.compile(rf"^{re.escape(block)}\s"))
        for each in probes.values():
            expect(row).to_contain_text(f"{each[number].accuracy:.1%}")
