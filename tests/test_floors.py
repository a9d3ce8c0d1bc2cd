"""What may import what, and how text files are opened: read from the source of every module."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = [
    path.relative_to(ROOT).as_posix() for folder in ("resnet", "explorer", "pages") for path in (ROOT / folder).rglob("*.py")
]  # fmt: skip
TESTS = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")]
SCREEN = r"explorer\.(views|state|app|script|guard)\b"
"""Modules that show something in Streamlit."""
BENCH = r"explorer\.(bench|clients|hostile|hostile_files)\b"


def dotted(path: str) -> str:
    """explorer/views/paths.py is explorer.views.paths, explorer/__init__.py is explorer."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(path: str, source: str) -> Iterator[str]:
    """Everything that a module imports anywhere in it, in dots: `from a import b` is a, and a.b which may be a module."""
    package = path.split("/")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and re.fullmatch(
            r"(importlib\.)?import_module|__import__", ast.unparse(node.func)
        ):
            yield from (str(word.value) for word in node.args[:1] if isinstance(word, ast.Constant))


def breaches(path: str, source: str) -> list[str]:
    """What a module imports from a floor above it: `resnet` ← `explorer` ← `pages`, and Streamlit only on the screen's."""
    module = dotted(path)
    above = [r"pages\b"]
    if module.startswith("resnet"):
        above += [r"explorer\b", r"streamlit\b"]
    elif not re.match(rf"{SCREEN}|{BENCH}|pages\b", module):
        above += [SCREEN, r"streamlit\b"]
    return sorted({name for name in imports(path, source) if any(re.match(pattern, name) for pattern in above)})


@pytest.mark.parametrize("path", MODULES)
def test_imports_lead_down(path: str) -> None:
    assert breaches(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source", "named"),
    [
        ("resnet/blocks.py", "from explorer import trace", "explorer.trace"),
        ("resnet/blocks.py", "from ..explorer.trace import Layer", "explorer.trace"),
        ("resnet/train.py", "def train():\n    import streamlit as st", "streamlit"),
        ("explorer/charts.py", "def chart():\n    from streamlit.runtime import get_instance", "streamlit.runtime"),
        ("explorer/charts.py", "if TYPE_CHECKING:\n    import streamlit", "streamlit"),
        ("explorer/__main__.py", "import importlib\nst = importlib.import_module('streamlit')", "streamlit"),
        ("explorer/__init__.py", "from .state import view", "explorer.state"),
        ("explorer/trace.py", "from . import views", "explorer.views"),
        ("explorer/trace.py", "def traced():\n    from .views.cached import trace", "explorer.views.cached"),
        ("explorer/views/paths.py", "from pages import architecture", "pages"),
        ("explorer/views/__init__.py", "import pages.compare", "pages.compare"),
        ("pages/compare.py", "from pages.architecture import page", "pages.architecture"),
    ],
)
def test_an_import_that_leads_up_is_seen(path: str, source: str, named: str) -> None:
    assert named in breaches(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("explorer/views/paths.py", "import streamlit as st\nfrom .. import state\nfrom ..trace import trace"),
        ("explorer/state.py", "import streamlit as st\nfrom resnet import preset"),
        ("explorer/clients.py", "from streamlit.proto.BackMsg_pb2 import BackMsg"),
        ("pages/compare.py", "import streamlit as st\nfrom explorer import state\nfrom explorer.views import compare"),
        ("explorer/statements.py", "from .viewsheds import x\nfrom . import view"),
    ],
)
def test_an_import_that_leads_down_is_none_of_them(path: str, source: str) -> None:
    assert breaches(path, source) == []


def test_nothing_but_the_screen_loads_streamlit() -> None:
    """Python's own word for it: every other module is imported, and Streamlit is not there."""
    modules = [dotted(path) for path in MODULES if not re.match(rf"{SCREEN}|{BENCH}|pages\b", dotted(path))]
    assert len(modules) > 30
    script = f"import sys, importlib\nfor name in {modules}: importlib.import_module(name)\nprint('streamlit' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert ran.stdout == "False\n"


# -- text files ---------------------------------------------------------------------------


def unencoded(source: str) -> list[str]:
    """The calls that read or write text and leave the encoding to the machine."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [ast.unparse(call) for call in calls if textual(call) and "encoding" not in {k.arg for k in call.keywords}]


def textual(call: ast.Call) -> bool:
    """Whether a call opens a file or a process for text. An `open` that is none of Python's has no mode to tell it by."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    keywords = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
    modes = [value for value in (keywords.get("mode"), *(a.value for a in call.args if isinstance(a, ast.Constant)))
             if isinstance(value, str) and re.fullmatch("[rwxabt+]{1,4}", value)]  # fmt: skip
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
        "path.read_text()", "Path('a', 'b').write_text(text)", "open(path)", "open(path, 'w')", "path.open('a')",
        "path.open(newline='')", "gzip.open(path, mode='rt')", "os.fdopen(1, 'w')", "subprocess.run(command, text=True)",
    ],
)  # fmt: skip
def test_a_call_that_leaves_the_encoding_open_is_seen(call: str) -> None:
    assert unencoded(call) == [call]
    assert unencoded(f"{call[:-1]}, encoding='utf-8')".replace("(, ", "(")) == []


@pytest.mark.parametrize("call", ["open(path, 'rb')", "path.open('wb')", "os.fdopen(1, 'wb')", "sample.open()", "visit.open('/')", "Image.open(stream)"])  # fmt: skip
def test_a_call_without_text_is_none_of_them(call: str) -> None:
    assert unencoded(call) == []
