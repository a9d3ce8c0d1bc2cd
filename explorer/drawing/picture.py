"""A drawing that a person can click into: what its page is made of, in the app and in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from .svg import LEGIBLE, PAGE, THEMED, Drawing

ASSETS = Path(__file__).parents[1] / "assets"


def asset(name: str) -> str:
    """A file of the pages that are drawn in a browser."""
    return (ASSETS / name).read_text(encoding="utf-8")


FILES_CSS, FILES_JS = (asset(f"files.{kind}") for kind in ("css", "js"))
"""Of the buttons for files, and how a browser makes these."""
HTML, CSS, JS = asset("picture.html"), FILES_CSS + asset("picture.css"), FILES_JS + asset("picture.js")
"""The markup, its style, and the script, whose function `picture` draws into it; a host adds how that is called."""


def words(says: Mapping[str, str]) -> str:
    """The network, its weights and the link, in a line."""
    return " · ".join(filter(None, map(says.get, ("network", "weights", "link"))))


def mark(says: Mapping[str, str]) -> str:
    """What stands behind the title of an SVG file: where it is from, and the white that it is drawn on."""
    return f'<metadata>{escape(words(says))}</metadata><rect width="100%" height="100%" fill="{PAGE}"/>'


def data(drawings: Sequence[Drawing], name: str, says: Mapping[str, str]) -> dict[str, Any]:
    """What the script draws: layouts of one drawing from wide to narrow; what its files are called, without an ending, and what
    they say (`explorer.link.origin`). A host that makes PDFs adds `pdf`, and as `file` the one that was asked for.
    """
    layouts = [one.svg() for one in drawings]
    given = {"mark": mark(says), "says": words(says)}
    return {"layouts": layouts, "name": name, "theme": THEMED, "legible": LEGIBLE, **given}
