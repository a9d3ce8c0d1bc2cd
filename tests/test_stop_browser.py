"""A computation that a person ends, in a real Chromium."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from playwright.sync_api import Locator, expect

pytestmark = pytest.mark.browser

SLOW = {"block": "bottleneck", "attention": "se", "antialias": "blur", "activation": "elu"}
"""Blocks of which the gradients take many times as long as a browser needs for a click, however busy it is."""


def test_what_takes_long_is_stopped_and_asked_for_again(visit):
    """One result that is computed at once, and one that has a button of its own."""
    page = visit.page
    bar, stop = page.get_by_test_id("stProgress"), page.get_by_role("button", name="Stop", exact=True)
    again = page.get_by_role("button", name="Compute it")

    def stopped_twice(ask: Locator) -> None:
        """End what is computed, and once more when `ask` was clicked, which is then there instead."""
        stop.click()
        expect(ask).to_be_visible()
        visit.wait()
        assert not bar.count()
        ask.click()
        expect(bar).to_be_visible()
        stop.click()
        expect(ask).to_be_visible()
        visit.wait()

    page.goto(f"{visit.address}/experiments?{urlencode({'tab': 'Shattered gradients'} | SLOW)}")
    stopped_twice(again)

    visit.open(
        "/inference?" + urlencode({"tab": "Why this class", "preset": "resnet152", "weights": "random", "size": "320"})
    )
    ask = page.get_by_role("button", name="Compute, about")
    ask.click()
    stopped_twice(ask)
    assert not again.count()
