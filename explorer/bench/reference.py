"""The reference: every module of `resnet` and `explorer`, a page each, with the names that the two packages hand out on their
own pages. `make docs` writes it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from pkgutil import iter_modules

import pdoc
from pdoc import render

import explorer
import resnet

PROGRAMS = {"explorer.app", "explorer.script", "explorer.__main__", "explorer.bench"}
"""What is run, and not imported."""


def names() -> list[str]:
    """The packages and what is right inside them, in dots; pdoc finds what is further in."""
    found = []
    for package in (resnet, explorer):
        inside = [f"{package.__name__}.{module.name}" for module in iter_modules(package.__path__)]
        found += [package.__name__, *(name for name in inside if name not in PROGRAMS)]
    return found


def write(folder: Path, modules: Sequence[str]) -> None:
    """Write a page for each of the modules and those inside them, and an index with a search.

    Raises:
        UserWarning: where pdoc cannot import a module or resolve a name.
    """
    for package in (resnet, explorer):  # pdoc looks for names among those that are imported already
        vars(package).update({name: getattr(package, name) for name in package.__all__})
    render.configure(docformat="google", show_source=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings(
            "ignore", "Error parsing type annotation"
        )  # of named tuples, which it writes as they stand
        pdoc.pdoc(*modules, output_directory=folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]), names())
