"""Links that nobody meant, and what is wrong with a page that one of them opens."""

from __future__ import annotations

import ast
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, nullcontext
from itertools import chain
from typing import Any
from urllib.parse import parse_qsl

import pytest
from streamlit.proto.Delta_pb2 import Delta
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from explorer.bench import links as module
from explorer.bench.browser import ROOT
from explorer.bench.hostile import attacks
from explorer.bench.links import MARKUP, misdrawn
from explorer.bench.visitors import visit
from explorer.navigation import CHOOSE, KERNELS
from explorer.views.session import escape_markdown
from helpers import alone


def shown(**element: Any) -> ForwardMsg:
    return ForwardMsg(delta=Delta(new_element=Element(**element)))


@pytest.mark.parametrize("text", [text for text in MARKUP if text != "%3Cb%3E"])
def test_a_text_is_seen_that_would_be_drawn_as_another(text: str) -> None:
    assert misdrawn(shown(alert={"body": f"tab = {text} is not one of Layers"}))
    assert not misdrawn(shown(alert={"body": f"tab = {escape_markdown(text)} is not one of Layers"}))
    assert not misdrawn(shown(page_link={"query_string": text}))


@pytest.mark.parametrize(
    ("html", "asked"),
    [
        ('<img src="https://else.example/x.png">', True),
        ("<p>\n<image width=3\nxlink:href='//else.example/x'/>", True),
        ("<style>p { background: url(https://else.example/x.png) }</style>", True),
        ("![](https://else.example/x.png)", True),
        ('<a href="https://else.example/">there</a>', False),
        ('<svg xmlns="http://www.w3.org/2000/svg"><image href="data:image/png;base64,AA=="/></svg>', False),
        ('<img src="/media/x.png">', False),
    ],
)
def test_a_request_to_elsewhere_is_seen(html: str, asked: bool) -> None:
    assert bool(misdrawn(shown(html={"body": html}))) == asked


def test_links_of_chance_open_every_tab(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose names are in the source; what is wrong with a page is said."""
    source = ast.parse((ROOT / "pages" / "kernels.py").read_text(encoding="utf-8"))
    (names,) = [
        [ast.literal_eval(key) for key in node.keys if key] for node in ast.walk(source) if isinstance(node, ast.Dict)
    ]
    monkeypatch.setattr(module, "PAGES", (KERNELS, CHOOSE))
    every = [*(("kernels", name) for name in names), ("choose", "")]
    assert len(every) == 4
    assert alone(module.places(address)) == every
    links: list[tuple[str, str]] = []

    def noted(address: str, page: str = "", query: str = "", *kind: Any) -> Any:
        links.append((page, dict(parse_qsl(query)).get("tab", "")))
        return visit(address, page, query, *kind)

    monkeypatch.setattr(module, "visit", noted)
    for one in (module, attacks):
        monkeypatch.setattr(one, "random_links", lambda _: chain(["size=32"] * 4, ["tab=Cost"]))
    assert [words for _, words in alone(module.open_many(address, 5))] == [module.NOTHING_WRONG] * 5
    assert links[2:] == [*every, ("kernels", "Cost")]
    monkeypatch.setattr(module, "misdrawn", lambda _: "<b>")
    monkeypatch.setattr(attacks, "DROPPED_SECONDS", 60.0)

    async def attacked() -> str:
        async with aclosing(attacks.open_random_links(address, 0, [])) as rounds:
            return await anext(rounds)

    assert alone(attacked()) == "the page draws '<b>' for a visitor at kernels?size=32&tab=Kernel+stacks"


def test_what_links_of_chance_did_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def found(address: str, count: int) -> list[tuple[float, str]]:
        return [(0.25, "fine")] * count + [(3.0, "the page failed")]

    monkeypatch.setattr(module, "open_many", found)
    monkeypatch.setattr(module, "server", lambda _: nullcontext(("", None)))
    with ThreadPoolExecutor(1) as pool:  # in this thread a browser's event loop may run
        pool.submit(module.links, 1000).result()
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == "1,000 links of chance over every page and tab: median 0.25 s, slowest 3.00 s"
    assert lines == [" 1,000× fine", "     1× the page failed"]
