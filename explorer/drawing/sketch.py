"""One residual block as the paper's Figure 2 draws it: F(x), and the shortcut past it to the ⊕."""

from __future__ import annotations

from .palette import ACCENT
from .svg import MUTED, PAGE, TEXT, Drawing, box, line, plus, text

WIDTH, HEIGHT, AXIS = 340.0, 132.0, 84.0


def block(shortcut: bool) -> Drawing:
    """Two convolutions, with the shortcut or without."""
    ink = [line(f"M8 {AXIS}H332", MUTED), text(16, AXIS - 8, "x", TEXT, 13)]
    for x, width, words in ((34, 66, "3×3 conv"), (116, 44, "ReLU"), (176, 66, "3×3 conv"), (286, 44, "ReLU")):
        weighted = width > 50
        ink.append(f'<rect x="{x}" y="{AXIS - 16}" width="{width}" height="32" rx="4" fill="{PAGE}"/>')
        ink.append(box(x, AXIS - 16, width, 32, ACCENT if weighted else MUTED, False, weighted))
        ink.append(text(x + width / 2, AXIS + 4, words, "#fff" if weighted else TEXT))
    ink.append(text(138, AXIS + 38, "F(x)", MUTED, 13))
    if not shortcut:
        ink.append(text(144, 20, "nothing goes past", MUTED))
    else:
        ink.insert(0, line(f"M24 {AXIS}C24 {AXIS - 76} 264 {AXIS - 76} 264 {AXIS - 8}", ACCENT, width=2.5))
        ink += [plus(264, AXIS, ACCENT, 9), text(144, 20, "x goes past, unchanged", TEXT, 12)]
        ink.append(text(264, AXIS + 38, "F(x) + x", TEXT, 13, weight=600))
    words = "F(x) + x: the block adds to its input" if shortcut else "F(x): the block replaces its input"
    return Drawing(WIDTH, HEIGHT, words, "".join(ink))
