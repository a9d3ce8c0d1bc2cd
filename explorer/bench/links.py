"""Links that nobody meant, to every page and tab of a server of our own: `python -m explorer bench --only links`."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import numpy as np
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from resnet import OPTIONS, PRESETS
from resnet.options import to_text

from ..navigation import PAGES
from .browser import ROOT, server
from .visitors import Visitor, visit

MARKUP = (
    "<img src=x onerror=alert(1)>", "<script>alert(1)</script>", "**bold**", "$x^2$", ":red[red]", "[words](http://elsewhere.example)",
    "`code`", "http://elsewhere.example", "\x1b[31mred", "\u202egnp.exe", "![](http://elsewhere.example/x.png)", "# Title", "| a | b |",
    ":material/home:", "a\nb\r\n\n# c", "&lt;b&gt;", "~~gone~~", "javascript:alert(1)", "{{7*7}}", "%3Cb%3E",
)  # fmt: skip
"""Texts that would be drawn as something else than themselves."""
EXTREMES = (
    "", " ", "\x00", "\ud800", "\U0010ffff", "9" * 5000, "-1", "1e308", "-1e999", "nan", "inf", "0x10", "1_000", "٣", "²", "true", "None",
    "None" * 300, "1-" * 40, "(" * 300, "'\"" * 30, "%00", "../../etc/passwd", "a=b&c=d", "block=basic," * 50, "=" * 40, ",", "-", "x",
)  # fmt: skip


def random_links(seed: int) -> Iterator[str]:
    """Queries of links without end: accepted values, broken ones, markup and extremes under every key, in any number.

    The same seed gives the same links.
    """
    chance = random.Random(seed)
    sound = {
        "preset": [*PRESETS],
        "size": ["32", "224", "64x96"],
        "pin": ["default", "block=basic"],
        "with": ["resnet18", "resnet18,block=basic"],
        "off": ["layer1.1", "layer2.1,layer3.1"],
        "at": ["layer1.0", "layer2.0.conv1", "fc"],
        "weights": ["random", "IMAGENET1K_V2", "upload"],
        "image": ["chelsea", "upload"],
        "unit": ["3-5"],
        "trail": ["fc.3.0-0,avgpool.5.0-0", "conv1.3.5-5,image.0.4-4"],
        "channel": ["17", "0", "9999"],
        "blend": ["0.25", "1"],
        "range": ["own", "shared"],
        "lab": ["count-2"],
        "training": ["steps-1000"],
        "landscape": ["seed-2"],
        "appended": ["stage-2_blocks-4"],
        "shown": ["pair-2_differing-1"],
        "cost": ["grain-by.layer"],
        "run": ["1000"],
        "networks": ["resnet56_fashion,plain56_fashion", "resnet20_fashion,shown"],
        "start": ["shortcuts-on"],
        "tab": ["Cost", "Speed", "Paths"],
        "class": ["Bag"],
        **{name: [*map(str, option.choices)] or [to_text(option.default)] for name, option in OPTIONS.items()},
    }
    keys = [*sound]

    def value(key: str) -> str:
        kind = chance.random()
        if kind < 0.4 and key in sound:
            return chance.choice(sound[key])
        if kind < 0.5 and key in sound:  # an accepted value with one character changed
            text = chance.choice(sound[key]) or "-"
            place = chance.randrange(len(text))
            return text[:place] + chr(chance.choice((0, 32, 60, 127, 233, 0x202E, 0x1F600))) + text[place + 1 :]
        if kind < 0.75:
            return chance.choice(MARKUP)
        return chance.choice(EXTREMES)

    while True:
        count = chance.choice((1, 1, 1, 2, 2, 3, 5, 8, 100))
        parts = [
            chance.choice(keys) if chance.random() < 0.9 else chance.choice(MARKUP + EXTREMES) for _ in range(count)
        ]
        query = urlencode([(key, value(key)) for key in parts], errors="surrogatepass", quote_via=quote)
        yield query if chance.random() < 0.95 else query.replace("%", "").replace("=", "&")


DRAWN = [text.encode() for text in MARKUP if re.search(r"[^\w%]", text)]
"""Those of the texts that are written in another way where they are to be shown as they are."""
ESCAPED = re.compile(rb"\\[!-/:-@\[-`{-~]")
FETCHED = re.compile(
    rb"""(?i)(?:<(?!a\b)[^<>]*\s(?:src|srcset|href|xlink:href|data|poster)\s*=|\burl\(|@import|!\[[^]]*\]\()[\s"'\\]*(?:https?:)?//[^\s"')>]*"""
)
"""What a browser asks another host for as soon as it draws a page; links are only followed."""


def misdrawn(message: ForwardMsg) -> str:
    """A text of `MARKUP` in a message that would be drawn as something else, or a request to elsewhere; else nothing.

    What is escaped is text, and so are links to pages of the app, which repeat the query.
    """
    element = message.delta.new_element
    links = element.WhichOneof("type") == "page_link" or element.bidi_component.component_name.endswith(".menu")
    if message.WhichOneof("type") != "delta" or links:
        return ""
    shown = ESCAPED.sub(b"", message.delta.SerializeToString())
    found = next((text for text in DRAWN if text in shown), None)
    if found is None and (request := FETCHED.search(shown)):
        found = request[0]
    return (found or b"").decode("utf-8", "replace")


class Reader(Visitor):
    """A visitor who fails where the text of a link would be drawn as something else, or the page asks another host."""

    def take(self, message: ForwardMsg) -> None:
        if found := misdrawn(message):
            raise RuntimeError(f"the page draws {found!r} for a visitor")
        super().take(message)


SHIPPED = "preset=resnet20_fashion"
"""The query of a network whose weights ship, so that every page has all that it can have."""


async def places(address: str) -> list[tuple[str, str]]:
    """Every page, with every tab of those that have some, as the server shows them; without one where it has none."""
    found: list[tuple[str, str]] = []
    for page in PAGES:
        async with visit(address, page.path, SHIPPED) as visitor:
            found += [(page.path, tab) for tab in visitor.tabs or [""]]
    return found


NOTHING_WRONG = "no exception, no markup, no request elsewhere"


async def opened(address: str, page: str, tab: str, query: str, patience: float) -> str:
    """What is wrong with a page that a link opens, on this tab where the link itself names none; or `NOTHING_WRONG`."""
    link = query if not tab or re.search("(^|&)tab=", query) else f"{query}&{urlencode({'tab': tab})}"
    try:
        async with asyncio.timeout(patience), visit(address, page, link, Reader):
            return NOTHING_WRONG
    except TimeoutError:
        return "no answer"
    except RuntimeError as error:
        return f"{error} at {page}?{link}"


LINKS, PAGE_SECONDS = 3000, 300.0
"""Links of chance that `links` opens, three at a time, and seconds that it waits for a page: some measure large networks."""


async def open_many(address: str, count: int) -> list[tuple[float, str]]:
    """Open so many links of chance, over every page and tab; the seconds that each took, and what was wrong."""
    every = await places(address)
    rest = zip(itertools.islice(random_links(0), count), itertools.cycle(every), strict=False)
    found = []

    async def person() -> None:
        for query, (page, tab) in rest:
            start = time.perf_counter()
            words = await opened(address, page, tab, query, PAGE_SECONDS)
            found.append((time.perf_counter() - start, words))

    await asyncio.gather(person(), person(), person())
    return found


def links(count: int = LINKS) -> None:
    """Print what so many links of chance did to the pages of a server."""
    with server(ROOT / "explorer" / "app.py") as (address, _):
        seconds, said = zip(*asyncio.run(open_many(address, count)), strict=True)
    print(
        f"{count:,} links of chance over every page and tab: median {np.median(seconds):.2f} s, slowest {max(seconds):.2f} s"
    )
    for words, times in Counter(said).most_common():
        print(f"{times:6,}× {words[:300]}")
