"""The degradation runs as a person starts, leaves and finds them again, in a real Chromium."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

QUICK = "shallow-8_deep-14_width-4_warmup-5_steps-100"


def longest(visit) -> int:
    """Points of the live chart's curves, all together: how far its lines are drawn, in pixels."""
    return visit.page.evaluate(
        """() => [...document.querySelectorAll('.st-key-training-run .js-line')]
            .reduce((sum, path) => sum + path.getTotalLength(), 0)"""
    )


def test_a_run_is_started_grows_and_is_there_again(visit):
    """Start, watch the curves grow, stop and resume, visit another page, come back, reload: the result is kept."""
    visit.open(f"/experiments?training={QUICK}")
    page, card = visit.page, visit.page.locator(".st-key-training-run")
    card.get_by_role("button", name="Start").click()
    expect(card.locator(".js-line").first).to_be_attached()
    before = longest(visit)
    page.wait_for_function(
        """(before) => [...document.querySelectorAll('.st-key-training-run .js-line')]
            .reduce((sum, path) => sum + path.getTotalLength(), 0) > before""",
        arg=before,
    )
    card.get_by_role("button", name="Stop").click()
    expect(card.get_by_text("Stopped.")).to_be_visible()
    kept = card.get_by_text("steps are done and kept").inner_text()
    page.wait_for_timeout(500)
    assert card.get_by_text("steps are done and kept").inner_text() == kept
    card.get_by_role("button", name="Resume").click()
    expect(card.get_by_role("button", name="Stop")).to_be_visible()

    page.get_by_role("link", name="Kernels and blocks").click()
    visit.wait()
    page.get_by_role("link", name="Why it works").click()
    expect(card.get_by_text("Trained here")).to_be_visible(timeout=60_000)
    assert dict(parse_qsl(urlsplit(page.url).query))["training"] == QUICK
    expect(card.get_by_role("cell", name="Residual-14")).to_be_visible()
    loss = card.get_by_role("row", name="Residual-14").inner_text()
    page.reload()
    visit.wait()
    assert card.get_by_role("row", name="Residual-14").inner_text() == loss


def test_another_seed_draws_all_four_at_once_and_stops_after_a_reload(visit):
    """Its curves come together; the page that was left by the reload does not keep the run going."""
    visit.open("/experiments?training=shallow-8_deep-14_width-4_warmup-5_steps-10_seed-77")
    page, card = visit.page, visit.page.locator(".st-key-training-run")
    card.get_by_role("button", name="Start").click()
    expect(card.get_by_text("Trained here")).to_be_visible(timeout=60_000)
    card.get_by_role("button", name="Another seed").click()
    expect(page).not_to_have_url(re.compile("seed-77"), timeout=30_000)
    expect(card.get_by_text("Trained here")).to_be_visible(timeout=60_000)

    visit.open("/experiments?training=shallow-8_deep-110_warmup-5_steps-1000_seed-78")
    card.get_by_role("button", name="Start").click()
    expect(card.locator(".scatterlayer .js-line")).to_have_count(8, timeout=60_000)
    page.reload()
    visit.wait()
    card.get_by_role("button", name="Stop").click()
    expect(card.get_by_text("Stopped.")).to_be_visible()


def test_each_experiment_opens_on_the_shipped_pair_and_offers_ones_own(visit):
    """A click shows the person's own network with a sentence on it, another the pair again; nothing is replaced."""
    page = visit.open("/experiments?tab=Gradients").page
    for name in ("Gradients", "Shattered gradients", "Paths", "Identity"):
        page.get_by_role("tab", name=name, exact=True).click()
        visit.wait()
        first = page.get_by_role("radiogroup", name="Measured on").get_by_role("radio").first
        expect(first).to_be_checked()
        assert page.locator(".js-plotly-plot").count() > 1
    page.get_by_role("radio", name="Yours: ResNet-50").click()
    expect(page.get_by_text("ResNet-50 is untrained")).to_be_visible(timeout=60_000)
    visit.wait()
    page.get_by_role("radio", name="ResNet-20 and Plain-20").click()
    expect(page.get_by_text("Plain-20 with 8 more blocks")).to_be_visible()
    query = dict(parse_qsl(urlsplit(page.url).query))
    assert query == {"tab": "Identity", "experiment": "shipped-20"}


@pytest.mark.parametrize("visit", [{"viewport": {"width": 390, "height": 844}}], indirect=True, ids=["narrow"])
def test_it_fits_a_phone(visit):
    visit.open("/experiments")
    assert visit.fits()
    expect(visit.page.locator(".st-key-training-shipped .js-plotly-plot")).to_be_visible()
