"""What may import what, how text files are opened, and what cached functions are called: read from the source of every
module."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest


def dotted(path: str) -> str:
    """explorer/views/paths.py is explorer.views.paths, explorer/__init__.py is explorer."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


ROOT = Path(__file__).parents[1]
MODULES = [
    path.relative_to(ROOT).as_posix()
    for folder in ("resnet", "explorer", "pages")
    for path in (ROOT / folder).rglob("*.py")
]
KNOWN = {*map(dotted, MODULES)}
"""Our modules and packages, in dots."""
TESTS = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")]
FLOORS = (
    r"resnet\b",
    r"explorer\.(units|notebook|navigation)\b",
    r"explorer\.analysis\b",
    r"explorer\.link\b",
    r"explorer\.sharing\b",
    r"explorer\.inference\b",
    r"explorer\.experiments\b",
    r"explorer\.drawing\b",
    r"explorer\.figures\b",
    r"explorer\.lessons\b",
    r"explorer\.export\b",
    r"explorer$",
    r"explorer\.views\b",
    r"pages\b",
    r"explorer\.(guard|script|app)\b",
    r"explorer\.bench\b",
    r"explorer\.(cli|__main__)\b",
)
"""From the bottom up. A module imports from its own floor and lower ones, at any place in it and for the type checker too."""
SCREEN = r"explorer\.(views|guard|script|app|bench)\b|pages\b"
"""Where Streamlit stands."""


def floor(name: str) -> int | None:
    """The number of the floor that a module, or something in it, is on; None for what is none of ours."""
    return next((number for number, pattern in enumerate(FLOORS) if re.match(pattern, name)), None)


def imports(path: str, source: str) -> Iterator[str]:
    """Everything that a module imports anywhere in it, in dots: `from a import b` is a.b, and a where that is no module."""
    package = path.split("/")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            named = [f"{base}.{alias.name}" for alias in node.names]
            yield from named
            if not KNOWN.issuperset(named):
                yield base
        elif isinstance(node, ast.Call) and re.fullmatch(
            r"(importlib\.)?import_module|__import__", ast.unparse(node.func)
        ):
            yield from (str(word.value) for word in node.args[:1] if isinstance(word, ast.Constant))


def breaches(path: str, source: str) -> list[str]:
    """What a module imports from a floor above its own, and Streamlit where nothing is shown."""
    module = dotted(path)
    mine = floor(module)
    assert mine is not None, f"{path} is on no floor"
    found = {name for name in imports(path, source) if (there := floor(name)) is not None and there > mine}
    if not re.match(SCREEN, module):
        found |= {name for name in imports(path, source) if re.match(r"streamlit\b", name)}
    return sorted(found)


def circle(sources: dict[str, str]) -> list[str]:
    """The first modules found that import each other, whichever way round, of these by their paths and sources."""
    known = {dotted(path) for path in sources}
    reads = {dotted(path): {name for name in imports(path, text) if name in known} for path, text in sources.items()}
    try:
        TopologicalSorter(reads).prepare()
    except CycleError as error:
        return sorted({*error.args[1]})
    return []


@pytest.mark.parametrize("path", MODULES)
def test_imports_lead_down(path: str) -> None:
    assert breaches(path, (ROOT / path).read_text(encoding="utf-8")) == []


def test_no_modules_import_each_other() -> None:
    """A package counts by what it names itself, since its modules import it only in passing."""
    sources = {path: (ROOT / path).read_text(encoding="utf-8") for path in MODULES if not path.endswith("__init__.py")}
    assert circle(sources) == []


def test_modules_that_import_each_other_are_seen() -> None:
    a, b, c = ("from .link import x", "from .units import y", "if TYPE_CHECKING:\n    from .guard import z")
    paths = ("explorer/guard.py", "explorer/link.py", "explorer/units.py")
    assert circle(dict(zip(paths, (a, b, c), strict=True))) == ["explorer.guard", "explorer.link", "explorer.units"]
    assert circle(dict(zip(paths, (a, b, ""), strict=True))) == []


@pytest.mark.parametrize(
    ("path", "source", "named"),
    [
        ("resnet/blocks.py", "from explorer import trace", "explorer"),
        ("resnet/blocks.py", "from ..explorer.analysis.trace import Layer", "explorer.analysis.trace"),
        ("resnet/train.py", "def train():\n    import streamlit as st", "streamlit"),
        (
            "explorer/figures/base.py",
            "def chart():\n    from streamlit.runtime import get_instance",
            "streamlit.runtime",
        ),
        ("explorer/figures/base.py", "if TYPE_CHECKING:\n    import streamlit", "streamlit"),
        ("explorer/__main__.py", "import importlib\nst = importlib.import_module('streamlit')", "streamlit"),
        ("explorer/__init__.py", "from .views.session import view", "explorer.views.session"),
        ("explorer/analysis/trace.py", "from .. import views", "explorer.views"),
        ("explorer/analysis/trace.py", "def traced():\n    from ..views.cached import trace", "explorer.views.cached"),
        (
            "explorer/analysis/cost.py",
            "if TYPE_CHECKING:\n    from ..inference.device import Device",
            "explorer.inference.device",
        ),
        ("explorer/link.py", "from .inference.ablation import without", "explorer.inference.ablation"),
        ("explorer/drawing/network.py", "from ..figures import base", "explorer.figures.base"),
        ("explorer/experiments/paths.py", "from ..lessons.notes import NOTES", "explorer.lessons.notes"),
        ("explorer/lessons/source.py", "from ..export.code import code", "explorer.export.code"),
        ("explorer/views/architecture/table.py", "from pages import architecture", "pages.architecture"),
        ("explorer/views/__init__.py", "import pages.compare", "pages.compare"),
        ("explorer/views/sidebar.py", "from ..bench.browser import server", "explorer.bench.browser"),
    ],
)
def test_an_import_that_leads_up_is_seen(path: str, source: str, named: str) -> None:
    assert named in breaches(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "explorer/views/paths.py",
            "import streamlit as st\nfrom . import session\nfrom ..analysis.trace import trace",
        ),
        ("explorer/views/session.py", "import streamlit as st\nfrom resnet import preset"),
        ("explorer/bench/visitors.py", "from streamlit.proto.BackMsg_pb2 import BackMsg"),
        ("pages/choose.py", "import streamlit as st\nfrom explorer.views import compare, session"),
        ("explorer/analysis/statements.py", "from .viewsheds import x\nfrom . import cost"),
    ],
)
def test_an_import_that_leads_down_is_none_of_them(path: str, source: str) -> None:
    assert breaches(path, source) == []


def test_nothing_but_the_screen_loads_streamlit() -> None:
    """Python's own word for it: every other module is imported, and Streamlit is not there."""
    modules = [dotted(path) for path in MODULES if not re.match(SCREEN, dotted(path))]
    assert len(modules) > 30
    script = f"import sys, importlib\nfor name in {modules}: importlib.import_module(name)\nprint('streamlit' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert ran.stdout == "False\n"


# -- tests ---------------------------------------------------------------------------------


def borrowed(path: str, source: str) -> list[str]:
    """What a test file imports from another, which may run alone, change and go; helpers.py is for what they share."""
    return [name for name in imports(path, source) if re.match(r"(tests\.)?(test_\w+|conftest)\b", name)]


@pytest.mark.parametrize("path", TESTS)
def test_no_test_imports_from_another(path: str) -> None:
    assert borrowed(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("from test_app import click", "test_app.click"),
        ("from conftest import address", "conftest.address"),
        ("def test():\n    import test_app as app", "test_app"),
        ("from tests.test_app import click", "tests.test_app.click"),
        ("from tests import test_app", "tests.test_app"),
        ("from .test_app import click", "tests.test_app.click"),
        ("importlib.import_module('test_app')", "test_app"),
    ],
)
def test_an_import_from_another_test_is_seen(source: str, named: str) -> None:
    assert named in borrowed("tests/test_new.py", source)
    assert borrowed("tests/test_new.py", "from helpers import click\nfrom streamlit.testing.v1 import app_test") == []


# -- text files ---------------------------------------------------------------------------


def unencoded(source: str) -> list[str]:
    """The calls that read or write text and leave the encoding to the machine."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [ast.unparse(call) for call in calls if textual(call) and "encoding" not in {k.arg for k in call.keywords}]


def textual(call: ast.Call) -> bool:
    """Whether a call opens a file or a process for text. An `open` that is none of Python's has no mode to tell it by."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    keywords = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
    modes = [
        value
        for value in (keywords.get("mode"), *(a.value for a in call.args if isinstance(a, ast.Constant)))
        if isinstance(value, str) and re.fullmatch("[rwxabt+]{1,4}", value)
    ]
    if name in ("read_text", "write_text"):
        return True
    if name in ("open", "fdopen"):
        binary = any("b" in mode for mode in modes)
        return not binary and (bool(modes) or "newline" in keywords or isinstance(call.func, ast.Name))
    return keywords.get("text") is True or keywords.get("universal_newlines") is True


@pytest.mark.parametrize("path", [*MODULES, *TESTS])
def test_text_is_utf8_by_name(path: str) -> None:
    assert unencoded((ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "call",
    [
        "path.read_text()",
        "Path('a', 'b').write_text(text)",
        "open(path)",
        "open(path, 'w')",
        "path.open('a')",
        "path.open(newline='')",
        "gzip.open(path, mode='rt')",
        "os.fdopen(1, 'w')",
        "subprocess.run(command, text=True)",
    ],
)
def test_a_call_that_leaves_the_encoding_open_is_seen(call: str) -> None:
    assert unencoded(call) == [call]
    assert unencoded(f"{call[:-1]}, encoding='utf-8')".replace("(, ", "(")) == []


@pytest.mark.parametrize(
    "call",
    [
        "open(path, 'rb')",
        "path.open('wb')",
        "os.fdopen(1, 'wb')",
        "sample.open()",
        "visit.open('/')",
        "Image.open(stream)",
    ],
)
def test_a_call_without_text_is_none_of_them(call: str) -> None:
    assert unencoded(call) == []


# -- names --------------------------------------------------------------------------------


def shared_functions(source: str) -> list[str]:
    """The functions whose results `shared` keeps for everybody."""
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(mark).partition("(")[0] == "shared" for mark in node.decorator_list)
    ]


@pytest.mark.parametrize("path", [path for path in MODULES if path.startswith(("explorer/views/", "pages/"))])
def test_what_is_kept_for_everybody_is_called_cached(path: str) -> None:
    names = shared_functions((ROOT / path).read_text(encoding="utf-8"))
    assert [name for name in names if not name.lstrip("_").startswith("cached_")] == []


def test_functions_whose_results_are_shared_are_seen() -> None:
    assert shared_functions("@shared()\ndef a(): ...\n@shared('words', stays=True)\ndef b(): ...\ndef c(): ...") == [
        "a",
        "b",
    ]


def test_every_table_can_be_taken_away() -> None:
    """Each is shown by the functions that offer it as a file, be it Streamlit's, HTML or Markdown; Start's, whose cells are
    links, has its button above it. What a note of the source counts stands within its sentences.
    """
    takes, start = "explorer/views/take.py", "explorer/views/start.py"
    for path in MODULES:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
        own = [call for call in calls if call.endswith((".dataframe", "st.table"))]
        assert own == (["st.dataframe"] if path == takes else []), path
        if path.startswith(("explorer/views/", "pages/")) and path not in (takes, start):
            assert drawn_tables(tree) == [], path
        assert path != start or "take.offer" in calls


def drawn_tables(tree: ast.AST) -> list[str]:
    """The texts of a module that begin a table of HTML, or rule off the heads of one of Markdown."""
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [text for text in texts if re.search(r"<table|\|\s*:?--+:?\s*\|", text)]


@pytest.mark.parametrize("source", ['x = "<table>"', 'x = f"| {a} |\\n|--:|\\n{b}"', 'x = "|---|:--|"'])
def test_tables_that_are_drawn_are_seen(source: str) -> None:
    assert len(drawn_tables(ast.parse(source))) == 1
