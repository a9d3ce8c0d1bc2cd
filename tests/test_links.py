"""Links open on the same view for good: what stood at each when it was written down (`reference/links.json`) stands there."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from explorer.analysis.presets import LINES
from explorer.bench.visitors import Visitor, visit
from explorer.navigation import ARCHITECTURE, INFERENCE, PAGES, Page
from helpers import alone

LINKS: dict[str, list[list[str]]] = json.loads(
    (Path(__file__).parent / "reference" / "links.json").read_text(encoding="utf-8")
)
"""For each page and query, the headings, figures, warnings and choices that are shown, in order."""

MADE = "Lines that made layers"
LATER = {
    "Zero-padded pool",
    "Norm groups",
    "Measured on",
    "Search the source",
    "Verdict",
    "Published result",
    "Colour range",
    "Batch norms folded",
    "As it is deployed",
}
"""Settings that stand in the sidebar and on the pages since."""
WEIGHTS = "Weights"
"""A list that stands in the sidebar since, and says more of each entry."""
TERMS = {
    "a picture": "an image",
    "A picture": "An image",
    "picture": "image",
    "Picture": "Image",
    "Peak activations;": "Peak activations, Latency;",
}
"""Words of the pages when they were written down, and those of today for them."""


TITLES = {"The post, checked": "Claims checked", "Annotated source": "Source", "Compare": "Choose"}
"""Pages that had other titles."""
OF_NETWORK = {ARCHITECTURE, INFERENCE}
"""Pages whose title was the network's alone."""


def in_terms(words: str) -> str:
    return re.sub("|".join(TERMS), lambda found: TERMS[found[0]], TITLES.get(words, words))


def since(facts: list[list[str]], page: Page, tab: str) -> list[list[str]]:
    """What was written down, as the pages say it today; what edits the network stood before the title of every page."""
    found = []
    if not page.shows_network(tab):
        facts = facts[next(place for place, (kind, *_) in enumerate(facts) if kind == "heading") :]
    for kind, *words in facts:
        if kind == "heading" and page in OF_NETWORK:
            words = [f"{words[0]} · {page.title}"]
        elif kind == "list" and words[0] in ("Preset", "Add a preset"):
            words = [words[0], LINES.get(words[1], words[1])]
        found.append([kind, *map(in_terms, words)])
    return found


class Reader(Visitor):
    """A visitor who writes down what the page says, but for numbers of lines in the source."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.facts: list[list[str]] = []

    def take(self, message: Any) -> None:
        super().take(message)
        if message.WhichOneof("type") == "ref_hash":
            message = self.kept[message.ref_hash]
        if message.WhichOneof("type") == "delta" and message.delta.HasField("new_element"):
            element = message.delta.new_element
            kind, words = said(element)
            if kind and MADE not in words and not LATER.intersection(words):
                self.facts.append([kind, *(re.sub(r"line \d+", "line", word) for word in words)])


def said(element: Any) -> tuple[str, list[str]]:
    """The kind of an element and its words; nothing for one of another kind."""
    match element.WhichOneof("type"):
        case "heading" if element.heading.tag != "h2" or element.heading.divider:  # others were bold text
            return "heading", [element.heading.body]
        case "metric":
            return "figure", [element.metric.label, element.metric.body, element.metric.delta]
        case "alert":
            return "alert", [element.alert.body]
        case "text_input":
            given = element.text_input
            return "text", [given.label, given.value if given.set_value else given.default]
        case "checkbox":
            given = element.checkbox
            return "switch", [given.label, str(given.value if given.set_value else given.default)]
        case "selectbox":
            given = element.selectbox
            return "list", [given.label, given.raw_value if given.set_value else given.options[given.default]]
        case "button_group":
            given = element.button_group
            chosen = given.raw_values if given.set_value else [given.options[place].content for place in given.default]
            return "choice", [given.label, *chosen]
    return "", []


@pytest.mark.parametrize("link", LINKS)
def test_a_link_opens_as_it_did(link: str, address: str) -> None:
    path, _, query = link.partition("?")
    path = path or ARCHITECTURE.name  # where the app's address leads a view
    page = next(page for page in PAGES if path in (page.name, *dict(page.former)))
    tab = dict(parse_qsl(query)).get("tab", "")

    async def look() -> list[list[str]]:
        async with visit(address, page.path, query, Reader) as visitor:
            assert isinstance(visitor, Reader)
            return visitor.facts

    found, expected = alone(look()), since(LINKS[link], page, tab)
    if path != page.name:  # parts of a page that shows more
        expected = [fact for fact in expected if path == "compare" or fact[0] != "heading"]  # it was the network's name
        assert not Counter(map(tuple, expected)) - Counter(map(tuple, found))
        return
    assert [fact for fact in found if WEIGHTS not in fact] == [fact for fact in expected if WEIGHTS not in fact]
    for (*_, shown), (*_, before) in zip(
        *([f for f in facts if WEIGHTS in f] for facts in (found, expected)), strict=True
    ):
        assert shown.startswith(before.partition(" · ")[0])
