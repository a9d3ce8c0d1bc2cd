"""The README's pictures: that they are those which the command makes, and that their links open without a complaint."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser

from explorer.bench.browser import ROOT
from explorer.bench.pictures import FOLDER, PICTURES, SIZE, THEMES, Picture, take
from explorer.link import View
from helpers import opened, tab

README = (ROOT / "README.md").read_text(encoding="utf-8")
NAMES = [picture.page.name for picture in PICTURES]


def test_the_readme_shows_the_pictures_that_the_command_makes() -> None:
    shown = re.findall(r"<picture>.*?</picture>", README, re.DOTALL)
    assert shown == [picture.markdown() for picture in PICTURES]
    linked = [ROOT / path for path in re.findall(r'(?:src|srcset)="(.*?)"', "".join(shown))]
    made = sorted(FOLDER / picture.file(theme) for picture in PICTURES for theme in THEMES)
    assert sorted(linked) == made == sorted(FOLDER.iterdir())
    for file in made:
        with Image.open(file) as image:
            assert (image.format, image.size) == ("PNG", SIZE)
    assert sum(file.stat().st_size for file in made) < 1.5e6


@pytest.mark.parametrize("picture", PICTURES, ids=NAMES)
def test_its_link_opens_without_a_complaint(picture: Picture) -> None:
    query = dict(parse_qsl(urlsplit(picture.link).query))
    assert View.from_query(query) == picture.view
    app = tab(opened(picture.page.path, **query), picture.view.tab)
    said = [*app.warning, *app.error, *app.info]
    assert [one.value for one in said] == []
    assert picture.view.at in " ".join(one.value for one in (*app.header, *app.markdown))


@pytest.mark.browser
def test_a_picture_is_of_the_app_in_its_theme(browser: Browser, address: str, tmp_path: Path) -> None:
    picture = PICTURES[0]
    file = take(browser, address, picture, "dark", tmp_path)
    assert file == tmp_path / "architecture-dark.png"
    with Image.open(file) as image:
        assert image.size == SIZE
        counts = {colour: count for count, colour in image.convert("RGB").getcolors(256) or ()}
    page, sidebar = (0x14, 0x18, 0x1F), (0x1A, 0x20, 0x29)
    assert counts[page] > 0.5 * SIZE[0] * SIZE[1]
    assert counts[sidebar] > 0.1 * SIZE[0] * SIZE[1]
