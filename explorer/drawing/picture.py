"""A drawing that a person can click into: what its page is made of, in the app and in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .svg import LEGIBLE, THEMED, Drawing

ASSETS = Path(__file__).parents[1] / "assets"


def asset(name: str) -> str:
    """A file of the pages that are drawn in a browser."""
    return (ASSETS / name).read_text(encoding="utf-8")


HTML, CSS, JS = (asset(f"picture.{kind}") for kind in ("html", "css", "js"))
"""The markup, its style, and the script, whose function `picture` draws into it; a host adds how that is called."""


def data(drawings: Sequence[Drawing], name: str) -> dict[str, Any]:
    """What the script draws: layouts of one drawing from wide to narrow, and what its files are called, without an ending."""
    return {"layouts": [one.svg() for one in drawings], "name": name, "theme": THEMED, "legible": LEGIBLE}
