"""The README's pictures of the app, made by `python -m explorer.bench.pictures` in a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import urlencode

from PIL import Image

from resnet import preset
from resnet.weights import BUNDLED

from ..link import View, natural_size
from ..navigation import ARCHITECTURE, CHOOSE, EXPERIMENTS, INFERENCE, Page
from .browser import IDLE, ROOT, chromium, server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")

SIZE = (1440, 900)
"""Width and height in pixels."""
FOLDER = ROOT / ".github" / "pictures"


class Picture(NamedTuple):
    """A view of a page; `words` say what is seen, `top` is the CSS selector of what stands at the upper edge, and `width`
    how much of a line of the README the picture takes."""

    page: Page
    view: View
    words: str
    top: str = "h1"
    width: str = "32%"

    @property
    def link(self) -> str:
        """The way from the app's address to the view."""
        return f"/{self.page.path}?{urlencode(self.view.to_query())}"

    def file(self, theme: Theme) -> str:
        return f"{self.page.name}-{theme}.png"

    def markdown(self) -> str:
        """The picture in the README, in the theme of whoever reads it."""
        light, dark = ((FOLDER / self.file(theme)).relative_to(ROOT).as_posix() for theme in THEMES)
        return (
            "<picture>\n"
            f'  <source media="(prefers-color-scheme: dark)" srcset="{dark}">\n'
            f'  <img alt="{self.words}" src="{light}" width="{self.width}">\n'
            "</picture>"
        )


TRAINED = BUNDLED["resnet20"]

PICTURES = (
    Picture(
        ARCHITECTURE,
        View(at="layer2.0.conv2"),
        "ResNet-50: its figures, the network from input to output, the first block of stage 2, and one layer's counts as "
        "formulas",
        width="100%",
    ),
    Picture(
        INFERENCE,
        View(TRAINED, natural_size(TRAINED), at="layer1.2", image="0000-ankle-boot"),
        "An ankle boot in a trained ResNet-20: the verdict, what every block puts out, the 16 maps of one of them, and one "
        "over the image",
    ),
    Picture(
        CHOOSE,
        View(preset("resnet34"), others=(preset("resnet50"),)),
        "ResNet-34 above ResNet-50, aligned by stage and block, and their first blocks slot by slot",
        ".st-key-aligned",
    ),
    Picture(
        EXPERIMENTS,
        View(),
        "The training loss of plain and residual networks with 20 and 56 layers: of the two of 56, the plain one stays behind",
    ),
)

SETTLED = """() => new Promise((done) => {
    const busy = '[data-testid=stSkeleton], [data-testid=stSpinner], [data-testid=stProgress], [data-stale=true]';
    let last = performance.now();
    const observer = new MutationObserver(() => { last = performance.now(); });
    observer.observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
    const look = () => {
        const loaded = document.fonts.status === 'loaded' && [...document.images].every((image) => image.complete);
        if (!loaded || document.querySelector(busy)) last = performance.now();
        if (performance.now() - last < 1000) return setTimeout(look, 100);
        observer.disconnect();
        done(true);
    };
    look();
})"""
"""Waits until fonts and images are there, nothing is being computed, and nothing has changed for a second."""


def take(browser: Browser, address: str, picture: Picture, theme: Theme, folder: Path) -> Path:
    """Write a picture of the app at `address` into `folder`, as a PNG of at most 256 colours; returns its file."""
    width, height = SIZE
    file = folder / picture.file(theme)
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce", locale="en-US"
    )
    try:
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.goto(address + picture.link)
        page.wait_for_selector(IDLE)
        page.wait_for_function(SETTLED)
        page.locator(picture.top).first.evaluate(
            "(top) => { top.style.scrollMarginTop = '16px'; top.scrollIntoView(); }"
        )
        page.wait_for_function(SETTLED)
        page.screenshot(path=file, animations="disabled", caret="hide")
    finally:
        context.close()
    with Image.open(file) as taken:
        reduced = taken.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    reduced.save(file, optimize=True)
    return file


def main() -> None:
    """Make every picture in both themes, beside the README.

    Raises:
        MissingError: where Playwright, Chromium or the server cannot be had.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with server(ROOT / "explorer" / "app.py") as (address, _), chromium() as browser:
        for picture in PICTURES:
            for theme in THEMES:
                file = take(browser, address, picture, theme, FOLDER)
                print(f"{file.relative_to(ROOT).as_posix():44}{file.stat().st_size / 2**10:6.0f} KiB")


if __name__ == "__main__":
    main()
