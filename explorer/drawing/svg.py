"""SVG: the elements that the drawings are made of."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from ..analysis.layers import Shape, shape_text

TEXT, MUTED, PAGE = "#1f2430", "#667085", "#ffffff"
THEMED = {TEXT: "--st-text-color", MUTED: "--st-gray-text-color", PAGE: "--st-background-color"}
"""The colours of what stands on the page, and the CSS variables that a page's theme has in their place. All others stay."""
FONT = "Helvetica, Arial, sans-serif"
SMALLEST = 11.0
"""Units of the smallest text."""
LEGIBLE = 10 / SMALLEST
"""Pixels a unit from which all text is legible."""


class Drawing(NamedTuple):
    """A finished picture: its size in SVG units, its title, and its elements."""

    width: float
    height: float
    title: str
    body: str

    def svg(self) -> str:
        """The picture as a plain SVG document, in the light theme's colours.

        Elements that can be selected carry `data-id`. A page adds its theme and what a screen reader needs.
        """
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:.0f} {self.height:.0f}" '
            f'width="{self.width:.0f}" height="{self.height:.0f}" font-family="{FONT}" font-size="12" text-anchor="middle">'
            f"<title>{escape(self.title)}</title>{self.body}</svg>"
        )

    def __repr__(self) -> str:
        """Its title and its size in a line."""
        return f"Drawing({self.title}: {self.width:.0f}×{self.height:.0f} units)"

    def _repr_svg_(self) -> str:
        """In a notebook: `svg` on the light theme's page, as a dark notebook's own would hide the text."""
        return self.svg().replace("<svg ", f'<svg style="background:{PAGE}" ', 1)

    def themed(self) -> str:
        """`svg` in the colours of the page that it stands on."""
        words = self.svg()
        for colour, name in THEMED.items():
            words = words.replace(f'"{colour}"', f'"var({name}, {colour})"')
        return words


def text(
    x: float, y: float, words: str, fill: str = TEXT, size: float = 12, anchor: str = "middle", weight: int = 400
) -> str:
    unusual = f' font-size="{size:g}"' if size != 12 else ""
    unusual += f' text-anchor="{anchor}"' if anchor != "middle" else ""
    unusual += f' font-weight="{weight}"' if weight != 400 else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}"{unusual}>{escape(words)}</text>'


def line(path: str, stroke: str, dashed: bool = False, width: float = 1.5) -> str:
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="{stroke}" stroke-width="{width:g}"{dash}/>'


def plus(x: float, y: float, stroke: str, radius: float = 6.0) -> str:
    arm = radius * 0.55
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{PAGE}" stroke="{stroke}" stroke-width="1.5"/>'
        + line(f"M{x - arm:.1f} {y:.1f}h{2 * arm:.1f}M{x:.1f} {y - arm:.1f}v{2 * arm:.1f}", stroke)
    )


def selectable(identifier: str, label: str, elements: str, selected: bool) -> str:
    """A group that a click or the keyboard can choose; `label` is said of it where a pointer rests on it, line by line."""
    chosen = ' data-chosen=""' if selected else ""
    return f'<g data-id="{escape(identifier)}"{chosen}><title>{escape(label)}</title>{elements}</g>'


def box(x: float, y: float, width: float, height: float, hue: str, selected: bool, solid: bool = True) -> str:
    """A rounded rectangle; `solid` for what has weights, tinted for the rest."""
    stroke, thick = (TEXT, 2.5) if selected else (hue, 1.2)
    opacity = "" if solid else ' fill-opacity="0.14"'
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="4" fill="{hue}"{opacity} '
        f'stroke="{stroke}" stroke-width="{thick}"/>'
    )


def short_shape(shape: Shape) -> str:
    """56²×128 for 128×56×56, 7×9×64 for 64×7×9; what is no map as it is."""
    if len(shape) != 3:
        return shape_text(shape)
    channels, height, width = shape
    return f"{height}²×{channels}" if height == width > 1 else f"{height}×{width}×{channels}"
