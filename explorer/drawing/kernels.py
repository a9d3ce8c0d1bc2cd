"""How a stack of kernels sees more and more, drawn."""

from __future__ import annotations

from ..analysis.layers import Layer
from ..analysis.receptive_field import PIXEL, Field
from ..experiments.kernels import Kernels
from .palette import STAGES
from .svg import MUTED, TEXT, Drawing, line, text

PANEL, SPACE, TOP = 152.0, 34.0, 46.0
FINE = 45
"""Grids of more pixels a side are drawn without lines."""


def growth(small: Kernels, large: Kernels) -> Drawing:
    """What one unit sees of the map's pixels after each convolution, the stack's and then the single kernel's.

    The two are runs (`data-run`), which a narrow page sets below each other.
    """
    side = max(small.field.size, large.field.size) + 2
    runs: list[str] = []
    x = 10.0
    for kernels, hue in ((small, STAGES[0]), (large, STAGES[2])):
        start = x - 10
        ink = [text(x, 16, kernels.name, TEXT, 13, "start", 600)]
        before = PIXEL
        for layer in kernels.convolutions:
            if before is not PIXEL:
                middle = TOP + PANEL / 2
                ink.append(line(f"M{x - SPACE + 8:.1f} {middle}H{x - 9:.1f}m-6 -5l6 5l-6 5", MUTED))
            ink.append(_panel(x, layer, before, side, hue))
            before = layer.field
            x += PANEL + SPACE
        runs.append(f'<g data-run="{start:.1f} {x - SPACE + 10 - start:.1f} 0">{"".join(ink)}</g>')
        x += SPACE
    title = f"{small.name} see {small.field.size} pixels a side, {large.name.lower()} {large.field.size}"
    spread = any(layer.field.effective_stride > 1 for kernels in (small, large) for layer in kernels.convolutions[:-1])
    return Drawing(x - 2 * SPACE + 10, TOP + PANEL + (42 if spread else 26), title, "".join(runs))


def _panel(x: float, layer: Layer, before: Field, side: int, hue: str) -> str:
    """One convolution's field: the square it sees, the square of the middle unit it reads, a dot a unit."""
    cell = PANEL / side

    def square(size: int, style: str) -> str:
        near = (side - size) / 2 * cell
        return f'<rect x="{x + near:.2f}" y="{TOP + near:.2f}" width="{size * cell:.2f}" height="{size * cell:.2f}" {style}/>'

    size, kernel = layer.field.size, layer.kernel
    parts = [square(size, f'fill="{hue}" fill-opacity="0.2"')]
    if side <= FINE:
        steps = [n * cell for n in range(side + 1)]
        lines = "".join(f"M{x + step:.2f} {TOP}v{PANEL}M{x:.2f} {TOP + step:.2f}h{PANEL}" for step in steps)
        parts.append(f'<path d="{lines}" stroke="{MUTED}" stroke-opacity="0.35" stroke-width="0.7" fill="none"/>')
    else:
        parts.append(square(side, f'fill="none" stroke="{MUTED}" stroke-opacity="0.35"'))
    if before.size > 1:
        parts.append(square(before.size, f'fill="{hue}" fill-opacity="0.22" stroke="{hue}" stroke-dasharray="3 2"'))
    parts.append(square(size, f'fill="none" stroke="{hue}" stroke-width="2"'))
    radius = min(3.0, 0.3 * before.effective_stride * cell)
    reach = [(n - (kernel - 1) / 2) * before.effective_stride * cell + PANEL / 2 for n in range(kernel)]
    parts.extend(
        f'<circle cx="{x + a:.2f}" cy="{TOP + b:.2f}" r="{radius:.2f}" fill="{hue}"/>' for a in reach for b in reach
    )
    stride = f", stride {layer.stride}" if layer.stride > 1 else ""
    parts.append(text(x + PANEL / 2, TOP - 8, layer.name + stride, MUTED, 11))
    parts.append(text(x + PANEL / 2, TOP + PANEL + 17, f"sees {size}×{size}", TEXT, 12, weight=600))
    if before.effective_stride > 1:
        parts.append(
            text(x + PANEL / 2, TOP + PANEL + 33, f"reads units {before.effective_stride} px apart", MUTED, 11)
        )
    return "".join(parts)
