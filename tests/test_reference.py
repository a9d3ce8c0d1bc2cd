"""What the two packages hand out says what it is and what it raises, and the reference shows it."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import explorer
import resnet
from explorer.bench import reference
from resnet import preset
from resnet.sizes import check_image_size

PACKAGES = (resnet, explorer)
NAMES = [(package, name) for package in PACKAGES for name in package.__all__]


def functions(value: Any) -> Iterator[FunctionType]:
    """A function, or of a class its public methods and properties that are written in it."""
    if isinstance(value, FunctionType):
        yield value
    elif inspect.isclass(value):
        for name, member in vars(value).items():
            found = (
                getattr(member, "fget", None) or getattr(member, "func", None) or getattr(member, "__func__", member)
            )
            if (
                not name.startswith("_")
                and name == getattr(found, "__name__", "")
                and isinstance(found, FunctionType)
                and found.__module__ == value.__module__
            ):
                yield found


PUBLIC = {
    f"{function.__module__}.{function.__qualname__}": function
    for package, name in NAMES
    for function in functions(getattr(package, name))
}


def named(docstring: str | None) -> set[str]:
    """The errors that a docstring names under Raises."""
    _, _, section = inspect.cleandoc(docstring or "").partition("Raises:\n")
    lines = re.findall(r"^ {4}(\w[\w, ]*):", section, re.MULTILINE)
    return {error for line in lines for error in line.split(", ")} - {"Exception"}  # of a block that sees all of them


def raised(function: Callable[..., Any]) -> set[str]:
    """The errors that a function raises itself, and those that what it calls says that it raises, where nothing catches them."""
    known = inspect.getclosurevars(function)
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    body = tree.body[0]
    caught = {
        id(inside)
        for block in ast.walk(body)
        if (isinstance(block, ast.Try) and block.handlers)
        or (isinstance(block, ast.With) and re.match(r"(suppress|reading)\(", ast.unparse(block.items[0])))
        for statement in block.body
        for inside in ast.walk(statement)
    }
    found: set[str] = set()
    for node in ast.walk(body):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found.add(ast.unparse(node.exc.func))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and id(node) not in caught:
            called = known.globals.get(node.func.id)
            if inspect.isfunction(called) and called.__module__.partition(".")[0] in ("resnet", "explorer"):
                found |= named(called.__doc__)
    return found


@pytest.mark.parametrize(("package", "name"), NAMES, ids=lambda value: getattr(value, "__name__", value))
def test_every_public_name_says_what_it_is(package: Any, name: str) -> None:
    value = getattr(package, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        said = value.__doc__ or ""
        assert not said.startswith(f"{name}("), "a dataclass's own signature"
    else:  # a constant is described below it
        module = inspect.getmodule(getattr(resnet, "ResNetConfig" if name == "OPTIONS" else "preset"))
        assert module
        tree = ast.parse(inspect.getsource(module)).body
        said = next(
            after.value.value
            for before, after in pairwise(tree)
            if isinstance(before, ast.AnnAssign)
            and ast.unparse(before.target) == name
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        )
    assert len(said.split()) > 4


@pytest.mark.parametrize("name", [name for name in PUBLIC if not name.endswith(".forward")])
def test_every_public_function_says_what_it_does_and_raises(name: str) -> None:
    assert PUBLIC[name].__doc__
    assert raised(PUBLIC[name]) - named(PUBLIC[name].__doc__) == set()


def test_what_a_docstring_leaves_out_is_seen() -> None:
    def careless() -> None:
        """Do it."""
        preset("x")
        try:
            check_image_size(resnet.preset("resnet18"), 0)
        except resnet.ConfigError:
            raise KeyError("x") from None

    def careful() -> None:
        """Do it.

        Raises:
            KeyError, OSError: always.
            ConfigError: for a name.
        """

    def catching() -> None:
        """Nothing."""
        with suppress(resnet.ConfigError):
            preset("x")

    assert named(careful.__doc__) == {"KeyError", "OSError", "ConfigError"}
    assert raised(careless) == {"KeyError", "ConfigError"}
    assert raised(careful) == raised(catching) == set()
    assert named(resnet.preset.__doc__) == {"ConfigError"}


# -- the reference ------------------------------------------------------------------------


def test_the_reference_is_of_every_module_that_is_imported() -> None:
    modules = reference.names()
    assert {"resnet", "resnet.config", "explorer", "explorer.link", "explorer.analysis"} <= {*modules}
    assert not {*modules} & {"explorer.script", "explorer.app"}
    files = {path.stem for package in PACKAGES for path in Path(str(package.__file__)).parent.glob("*.py")}
    assert files - {name.rpartition(".")[2] for name in modules} == {"__init__", "__main__", "app", "script"}


def test_a_page_has_every_public_name(tmp_path: Path) -> None:
    """And pdoc warns of nothing."""
    reference.write(tmp_path, ["resnet", "explorer", "explorer.drawing.widget"])
    for package in PACKAGES:
        page = (tmp_path / f"{package.__name__}.html").read_text(encoding="utf-8")
        assert [name for name in package.__all__ if f'id="{name}"' not in page] == []
    widget = (tmp_path / "explorer" / "drawing" / "widget.html").read_text(encoding="utf-8")
    for words in (
        "Public constructor",
        "A trait for",
        "An instance of a Python",
    ):  # of the libraries, where we say nothing
        assert words not in widget
    assert not (tmp_path / "explorer" / "link.html").exists()


def test_a_warning_of_pdoc_is_an_error(tmp_path: Path) -> None:
    with pytest.raises((UserWarning, RuntimeError)):
        reference.write(tmp_path, ["explorer.no_such_module"])
