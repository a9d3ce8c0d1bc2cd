"""The table of pages, and that nothing else says where a page is or what it is called."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from streamlit.testing.v1 import AppTest

from explorer.bench.browser import ROOT
from explorer.navigation import PAGES, PAPER, START, Page
from helpers import menu_of, opened

APART = ("explorer/navigation.py", "explorer/__main__.py", "explorer/__init__.py")
"""The table, and the command line and the library, which have a `compare` of their own."""
MODULES = [
    module
    for folder in ("explorer", "pages")
    for path in (ROOT / folder).rglob("*.py")
    if (module := path.relative_to(ROOT).as_posix()) not in APART
]
NAMED = [page for page in PAGES if page not in (START, PAPER)]
"""Those whose name stands for nothing else; where a text begins is called start, too, and a recipe of training paper."""
NAMES, TITLES = {page.name for page in NAMED}, {page.title for page in NAMED}
PLACE = re.compile(rf"\bpages/|(^|/)({'|'.join(NAMES)})(\.py)?(\?|$)")
"""A page's script, or a link to a page, in a text or a part of one."""
LEVELS = ("title", "header", "subheader")


def test_every_script_is_in_the_table() -> None:
    assert sorted(page.name for page in PAGES) == sorted(path.stem for path in (ROOT / "pages").glob("*.py"))
    assert len({page.title for page in PAGES}) == len(PAGES)
    assert all((ROOT / "explorer" / page.file).exists() for page in PAGES)


def test_the_menu_is_the_table() -> None:
    app = AppTest.from_file(str(ROOT / "explorer" / "script.py"), default_timeout=120).run()
    assert not app.exception, app.exception
    menu = ElementTree.fromstring(menu_of(app).html_content)
    links = [
        (link.get("data-path"), link[0].tail, f":material/{link[0].text}:", group.get("aria-labelledby"))
        for group in menu.iter("ul")
        for link in group.iter("a")
    ]
    assert links == [(page.path, page.title, page.icon, page.group) for page in PAGES]
    groups = [(heading.get("id"), heading.text) for heading in menu.iter("p")]
    assert groups == [(group, group) for group in ("Learn", "Explore", "Decide")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_says_what_it_is_and_what_it_is_for(page: Page) -> None:
    app = opened(page.name, preset="resnet18")
    (heading,) = [title.value for title in app.title]
    assert page.title in heading or page == START
    assert any(page.purpose in text.value for text in [*app.caption, *app.markdown])
    assert len({other.purpose for other in PAGES}) == len(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_headings_skip_no_level(page: Page) -> None:
    kinds = [node.type for node in opened(page.name).main]
    levels = [LEVELS.index(kind) for kind in kinds if kind in LEVELS]
    assert levels[0] == 0
    assert all(after <= before + 1 for before, after in pairwise(levels))


def pages_named(source: str) -> Iterator[str]:
    """Where a module says a page's place or title itself; what names a widget or a column is none of them."""
    tree = ast.parse(source)
    own = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            own |= {*node.keys}
        elif isinstance(node, ast.Subscript):
            own.add(node.slice)
        elif isinstance(node, ast.keyword) and node.arg == "key":
            own.add(node.value)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            (".click", ".set_widget", "session_state.get")
        ):
            own |= {*node.args}
    texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and node not in own)
    words = [text.value for text in texts if isinstance(text.value, str)]
    yield from (word for word in words if word in TITLES or PLACE.search(word))


@pytest.mark.parametrize("path", MODULES)
def test_nothing_else_says_where_a_page_is(path: str) -> None:
    assert list(pages_named((ROOT / path).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("st.page_link('../pages/source.py')", "../pages/source.py"),
        ("st.page_link(f'../pages/{page}.py')", "../pages/"),
        ("Try('kernels', 'See it')", "kernels"),
        ("picture=('choose', 'both', view)", "choose"),
        ("link.page == 'source'", "source"),
        ("f'{address}/inference?{query}'", "/inference?"),
        ("st.title('Why it works')", "Why it works"),
    ],
)
def test_a_page_that_is_named_is_seen(source: str, named: str) -> None:
    assert list(pages_named(source)) == [named]


@pytest.mark.parametrize(
    "source",
    [
        "{'Source': link}",
        "state['source']",
        "pills(key='claims')",
        "visitor.click('source', 'Upload')",
        "'compare them'",
    ],
)
def test_another_word_is_none_of_them(source: str) -> None:
    assert list(pages_named(source)) == []
