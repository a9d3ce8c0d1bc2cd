"""Drawings that are taken away: converted by CairoSVG, set by LaTeX, read by Pillow and by the PDF's own objects."""

from __future__ import annotations

import importlib
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from explorer.analysis.trace import trace
from explorer.cli import main
from explorer.drawing import network
from explorer.drawing.svg import THEMED, Drawing
from explorer.export import drawings
from explorer.link import View, origin, parse_network
from resnet import preset
from resnet.command import MissingError

CONFIG = preset("resnet20_fashion")
DRAWN = network.overview(trace(CONFIG, 28))
SAYS = origin(View(CONFIG, image_size=(28, 28)))
ODD = Drawing(40, 20, "a < b & c", '<text x="20" y="10">1 → 2², β&lt;3</text>')
STAGES = {(0x2A, 0x6F, 0xD0), (0x17, 0x83, 0x5F)}
"""Colours of two stages."""


def link_in(text: str) -> str:
    found = re.search(r"\?\w+=[\w=&%.+-]+", text)
    assert found, text
    return found[0]


def colours(picture: bytes) -> set[tuple[int, ...]]:
    return set(map(tuple, np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).reshape(-1, 3).tolist()))


def test_svg_stands_on_white_and_says_where_it_is_from() -> None:
    """In whichever theme the drawing is seen: its file has the light one's colours."""
    for drawing in (DRAWN, ODD):
        root = ElementTree.fromstring(drawings.svg(drawing, SAYS))
        names = [child.tag.rpartition("}")[2] for child in root][:3]
        assert names == ["title", "metadata", "rect"]
        assert root[0].text == drawing.title
        assert parse_network(link_in(root[1].text or "")).config == CONFIG
        assert root[2].attrib == {"width": "100%", "height": "100%", "fill": "#ffffff"}
    assert "var(" not in drawings.svg(DRAWN, SAYS)
    assert "var(" in DRAWN.themed()
    assert THEMED


def cairo() -> Any:
    """CairoSVG, where it finds the system's cairo."""
    try:
        return importlib.import_module("cairosvg")
    except (ImportError, OSError):
        pytest.skip("CairoSVG or the system's cairo is not installed")


def test_svg_goes_through_cairosvg() -> None:
    file = cairo().svg2png(drawings.svg(DRAWN, SAYS).encode())
    picture = Image.open(io.BytesIO(file)).convert("RGB")
    assert picture.size == (round(DRAWN.width), round(DRAWN.height))
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    assert colours(file) >= STAGES


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
@pytest.mark.parametrize("maker", ["CairoSVG", "typst"])
def test_a_drawing_goes_into_latex(maker: str, tmp_path: Path) -> None:
    if maker == "CairoSVG":
        file = cairo().svg2pdf(drawings.svg(DRAWN, SAYS).encode())
    else:
        pytest.importorskip("typst")
        file = drawings.pdf(DRAWN, SAYS)
    (tmp_path / "drawing.pdf").write_bytes(file)
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{graphicx}\begin{document}\includegraphics{drawing.pdf}\end{document}",
        encoding="utf-8",
    )
    ran = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"], cwd=tmp_path, capture_output=True
    )
    assert ran.returncode == 0, ran.stdout[-2000:]
    assert re.search(rb"<\./drawing\.pdf>|<drawing\.pdf>", ran.stdout.replace(b"\n", b""))


def test_pdf_is_as_large_as_the_drawing_and_says_where_it_is_from() -> None:
    pytest.importorskip("typst")
    pypdf = pytest.importorskip("pypdf")
    for drawing in (DRAWN, ODD):
        read = pypdf.PdfReader(io.BytesIO(drawings.pdf(drawing, SAYS)))
        (page,) = read.pages
        assert [float(side) for side in page.mediabox[2:]] == pytest.approx(
            [0.75 * drawing.width, 0.75 * drawing.height], abs=1
        )
        assert read.metadata.title == drawing.title
        assert parse_network(link_in(read.metadata.subject)).config == CONFIG
        fonts = [font.get_object() for font in page["/Resources"]["/Font"].values()]
        assert all("/DescendantFonts" in font or "/FontDescriptor" in font for font in fonts)  # they are in the file
    assert "stage 2" in " ".join(pypdf.PdfReader(io.BytesIO(drawings.pdf(DRAWN, SAYS))).pages[0].extract_text().split())


def test_png_stands_on_white_and_says_where_it_is_from() -> None:
    pytest.importorskip("typst")
    file = drawings.png(DRAWN, SAYS)
    picture = Image.open(io.BytesIO(file))
    assert picture.size == pytest.approx((2 * DRAWN.width, 2 * DRAWN.height), abs=2)
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    assert colours(file) >= STAGES
    assert picture.text["Title"] == DRAWN.title  # type: ignore[attr-defined]
    assert parse_network(link_in(picture.text["Description"])).config == CONFIG  # type: ignore[attr-defined]


def test_without_typst_a_sentence_says_how_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typst", None)
    for kind, make in (("PDF", drawings.pdf), ("PNG", drawings.png)):
        with pytest.raises(
            MissingError, match=rf"^{kind} of a drawing needs typst: install it by `pip install typst`\.$"
        ):
            make(DRAWN, SAYS)


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_the_command_writes_the_drawing(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if kind != "svg":
        pytest.importorskip("typst")
        with pytest.raises(SystemExit):
            main(["export", "resnet20_fashion", kind])
        assert f"{kind} is no text: name a file by --output" in capsys.readouterr().err
    path = tmp_path / f"drawing.{kind}"
    assert main(["export", "resnet20_fashion", kind, "-o", str(path)]) == 0
    assert path.read_bytes()[:4] == {"svg": b"<svg", "pdf": b"%PDF", "png": b"\x89PNG"}[kind]
