"""Feature maps as pictures: colours, sheets of channels, files."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image
from plotly.colors import sample_colorscale

from ..analysis.receptive_field import Field


def _shades(scale: str) -> np.ndarray:
    """256 shades of a plotly colour scale, 256×3 bytes."""
    shades = sample_colorscale(scale, np.linspace(0, 1, 256), colortype="rgb")
    return np.array([[int(part) for part in shade[4:-1].split(",")] for shade in shades], dtype=np.uint8)


_VIRIDIS, _BLUE_RED = _shades("Viridis"), _shades("RdBu_r")


def coloured(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """H×W numbers as H×W×3 bytes in viridis from `low` to `high` (the map's own range if not given)."""
    values = np.nan_to_num(values.astype(np.float32)).astype(np.float64)  # the widest range fits
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return _VIRIDIS[(scaled.clip(0, 1) * 255).astype(np.uint8)]


def signed(values: np.ndarray, largest: float | None = None) -> np.ndarray:
    """H×W numbers as H×W×3 bytes from blue at −`largest` over white at 0 to red at `largest` (the map's own if not given)."""
    values = np.nan_to_num(values.astype(np.float32)).astype(np.float64)
    largest = float(np.abs(values).max()) if largest is None else largest
    return _BLUE_RED[(127.5 + 127.5 * (values / (largest or 1.0)).clip(-1, 1)).round().astype(np.uint8)]


def channel_tiles(maps: np.ndarray, channels: Sequence[int]) -> list[np.ndarray]:
    """Chosen channels of C×H×W as pictures, each in its own range, 32 to 64 pixels on the longer side."""
    longest = max(maps.shape[1:])
    scale, step = max(1, -(-32 // longest)), max(1, -(-longest // 64))
    return [coloured(maps[c, ::step, ::step]).repeat(scale, 0).repeat(scale, 1) for c in channels]


def sheet(tiles: Sequence[np.ndarray], columns: int) -> Image.Image:
    """Pictures H×W×3 of one size side by side, row by row."""
    tall, wide = tiles[0].shape[:2]
    paper = np.zeros((-(-len(tiles) // columns) * tall, columns * wide, 3), np.uint8)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        paper[row * tall : (row + 1) * tall, column * wide : (column + 1) * wide] = tile
    return Image.fromarray(paper)


def enlarged(picture: np.ndarray, side: int) -> Image.Image:
    """H×W×3 bytes with hard pixels, `side` pixels wide."""
    height, width = picture.shape[:2]
    return Image.fromarray(picture).resize((side, max(1, round(side * height / width))), Image.Resampling.NEAREST)


def shown(seen: np.ndarray) -> np.ndarray:
    """The bytes H×W×C that a network saw as H×W×3: its colours, or its first channel in grey."""
    return seen if seen.shape[2] == 3 else seen[:, :, :1].repeat(3, 2)


def fitting(seen: np.ndarray, most: int) -> np.ndarray:
    """The bytes H×W×C that a network saw as a page shows them, in colours or its first channel as H×W: a small picture
    with hard pixels, up to 224 a side, and a large one reduced by a whole number to at most `most`.
    """
    pixels = seen if seen.shape[2] == 3 else seen[:, :, 0]
    longest = max(pixels.shape[:2])
    if longest > most:
        return np.asarray(Image.fromarray(pixels).reduce(math.ceil(longest / most)))
    scale = max(1, 224 // longest)
    return pixels.repeat(scale, 0).repeat(scale, 1)


def on_image(cells: np.ndarray, field: Field, size: tuple[int, int], samples: tuple[int, int]) -> np.ndarray:
    """A layer's units H×W(×…) as they lie on a picture of `size` pixels, drawn with so many samples (height, width).

    Each place shows the unit whose field has its middle nearest.
    """
    rows, columns = map(field.spread, cells.shape, size, samples)
    return cells[rows][:, columns]


def overlay(channel: np.ndarray, seen: np.ndarray, blend: float, field: Field, side: int = 448) -> Image.Image:
    """One H×W map of a layer that sees `field`, over the picture the network saw (H×W×C bytes), which is enlarged to
    be `side` pixels wide; 1 hides the picture.
    """
    below = Image.fromarray(shown(seen))
    below = below.resize((side, max(1, round(side * below.height / below.width))), Image.Resampling.BICUBIC)
    height, width = seen.shape[:2]
    above = on_image(coloured(channel), field, (height, width), (below.height, below.width))
    return Image.blend(below, Image.fromarray(above), blend)


def tinted(values: np.ndarray, shade: str) -> Image.Image:
    """H×W numbers as one colour ("#rrggbb"), transparent at their least and full at their greatest."""
    values = np.nan_to_num(values.astype(np.float32)).astype(np.float64)
    low, high = values.min(), values.max()
    picture = np.empty((*values.shape, 4), np.uint8)
    picture[..., :3] = [int(shade[at : at + 2], 16) for at in (1, 3, 5)]
    picture[..., 3] = (values - low) / (high - low) * 255 if high > low else 0
    return Image.fromarray(picture)


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Named arrays as a compressed NumPy file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def data_url(picture: Image.Image) -> str:
    """A picture as an address that needs no server."""
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode()
