"""The tour over the pages, and the pages for a projector."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from explorer.lessons.tour import STOPS
from explorer.link import TOUR_STOPS, View, parse_network, tolerant
from explorer.navigation import START
from helpers import click, link, menu_of, opened, page_text, run, said
from resnet import ConfigError


@pytest.mark.parametrize("number", range(1, TOUR_STOPS + 1))
def test_a_stop_shows_what_it_speaks_of(number: int) -> None:
    stop = STOPS[number - 1]
    query = {"tour": str(number)} if stop.page == START else stop.view.to_query() | {"tour": str(number)}
    app = opened(stop.page.name, **query)
    assert not app.warning
    assert f"{number} of {TOUR_STOPS}: {stop.title}.** {stop.words}" in page_text(app)
    assert link(app) == query


def test_the_tour_is_left_where_one_is() -> None:
    app = click(opened("architecture", preset="resnet34", tour="2", at="fc"), "Leave the tour")
    assert link(app) == {"block": "basic", "at": "fc"}
    assert "2 of 7" not in page_text(app)


@pytest.mark.parametrize(
    ("query", "words"),
    [({"tour": "8"}, "tour = 8 is not accepted"), ({"tour": "x"}, "tour = x"), ({"present": "yes"}, "present = yes")],
)
def test_a_link_to_no_stop_says_which_there_are(query: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError):
        View.from_query(query)
    view, (problem,) = tolerant(query | {"preset": "resnet18"})
    assert (view.tour, view.present, words in problem) == (0, False, True)
    (warning,) = said(opened("start", **query).warning)
    assert words in warning


def test_presenting_takes_the_sidebar_away_and_is_kept_on_every_page() -> None:
    app = opened("architecture", preset="resnet18", present="1")
    assert not app.sidebar.selectbox
    menu = json.loads(menu_of(app).json)
    assert menu["here"] == "architecture"
    assert dict(parse_qsl(menu["query"])) == link(app)
    assert menu["queries"] == {"": "present=1"}
    run(app.switch_page("../pages/start.py"))
    assert link(app) == {"present": "1"}
    click(app, "End presenting")
    assert link(app) == {}
    assert json.loads(menu_of(app.sidebar).json) == {
        "here": "",
        "query": "layers=2-2-2-2&block=basic",
        "queries": {"": ""},
    }


def test_links_inside_a_page_keep_the_way() -> None:
    app = opened("claims", present="1", tour="7")
    queries = [one.proto.query_string for one in app.get("page_link") if one.proto.label.startswith("See it")]
    assert queries
    assert all("present=1" in query and "tour=7" in query for query in queries)


@pytest.mark.browser
@pytest.mark.parametrize("visit", [{"viewport": {"width": 1280, "height": 720}}], indirect=True)
def test_the_tour_is_walked_to_its_end_and_back(visit) -> None:
    page = visit.open("/").page
    page.get_by_role("link", name="I am reading the paper").click()
    visit.wait()
    for number, stop in enumerate(STOPS, start=1):
        assert urlsplit(page.url).path == f"/{stop.page.path}"
        assert parse_network(page.url).tour == number
        assert stop.words in page.locator(".st-key-tour").inner_text()
        page.locator(".st-key-tour").get_by_role("link").first.click()
        visit.wait()
    assert urlsplit(page.url)[2:4] == ("/", "")
    assert not page.locator(".st-key-tour").count()


@pytest.mark.browser
@pytest.mark.parametrize("visit", [{"color_scheme": "light"}], indirect=True)
def test_a_projector_is_darkened_and_stays_where_it_is(visit) -> None:
    query = urlencode({"block": "basic", "present": "1"})
    page = visit.open(f"/architecture?{query}").page
    assert not page.get_by_test_id("stSidebar").count()
    large = page.evaluate("getComputedStyle(document.documentElement).fontSize")
    assert large == "19px"
    page.get_by_role("button", name="Dark").click()
    page.get_by_role("button", name="Light", exact=True).wait_for()
    visit.wait()
    assert page.get_by_test_id("stApp").evaluate("app => getComputedStyle(app).colorScheme") == "dark"
    assert urlsplit(page.url).query == query
