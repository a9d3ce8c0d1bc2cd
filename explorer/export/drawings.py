"""Drawings to take away, on white whatever the page's theme: SVG, and by the extra `pdf` PDF with its fonts, and PNG.

Each says the network and the link that opens it again: SVG in its `metadata`, PDF as its subject, PNG in texts of their own.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from resnet.command import MissingError

from ..drawing.picture import mark, words
from ..drawing.svg import FONT, Drawing

POINTS = 0.75
"""Of a PDF for a unit of SVG, which is a CSS pixel."""
PIXELS = 2
"""Of a PNG for a unit of SVG."""
FONTS = f"{FONT.removesuffix('sans-serif')}Liberation Sans, DejaVu Sans, Noto Sans, sans-serif"
"""The SVG's, and those that machines without them have."""
PAGE_SOURCE = """
#set document(title: sys.inputs.title, description: sys.inputs.says, date: none)
#set page(width: auto, height: auto, margin: 0pt, fill: white)
#image(bytes(sys.inputs.svg), format: "svg", width: float(sys.inputs.width) * 1pt)
"""
"""A page as large as the drawing, for typst: https://typst.app/docs/reference/visualize/image."""


def svg(drawing: Drawing, says: Mapping[str, str]) -> str:
    """An SVG file."""
    return drawing.svg().replace("</title>", f"</title>{mark(says)}", 1)


def pdf(drawing: Drawing, says: Mapping[str, str]) -> bytes:
    """A PDF of one page as large as the drawing, with its fonts in it.

    Raises:
        MissingError: without the extra `pdf`.
    """
    return _typeset(drawing, says, "pdf")


def png(drawing: Drawing, says: Mapping[str, str]) -> bytes:
    """A PNG of `PIXELS` times the drawing's size.

    Raises:
        MissingError: without the extra `pdf`.
    """
    return with_texts(_typeset(drawing, says, "png", ppi=72 * PIXELS / POINTS), drawing.title, says)


def with_texts(picture: bytes, title: str, says: Mapping[str, str]) -> bytes:
    """A PNG that says what it is, by the keywords of https://www.w3.org/TR/png-3/#11keywords."""
    texts, stream = PngInfo(), io.BytesIO()
    texts.add_itxt("Title", title)
    texts.add_itxt("Description", words(says))
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").save(stream, "png", pnginfo=texts, optimize=True)
    return stream.getvalue()


def _typeset(drawing: Drawing, says: Mapping[str, str], kind: str, **how: Any) -> bytes:
    try:
        typst = import_module("typst")
    except ImportError as error:
        raise MissingError(f"{kind.upper()} of a drawing needs typst: install it by `pip install typst`.") from error
    given = {
        "title": drawing.title,
        "says": words(says),
        "svg": svg(drawing, says).replace(FONT, FONTS),
        "width": str(round(drawing.width) * POINTS),
    }
    return typst.compile(PAGE_SOURCE.encode(), format=kind, sys_inputs=given, **how)
