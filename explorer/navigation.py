"""Where the pages are: beside the package in a checkout, in it where it is installed."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent
INSTALLED = (PACKAGE / "_pages").is_dir()
"""Whether this is an installed copy, which nobody edits."""
PAGES = PACKAGE / "_pages" if INSTALLED else PACKAGE.parent / "pages"


def page(name: str) -> Path:
    """The script of a page, by the name that its address has: "inference"."""
    return PAGES / f"{name}.py"
