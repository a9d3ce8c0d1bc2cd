"""Feature maps as pictures: colours, sheets of channels, files."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from plotly.colors import sample_colorscale

from ..analysis.receptive_field import Field


def _shades(scale: str) -> np.ndarray:
    """256 shades of a plotly colour scale, 256×3 bytes."""
    shades = sample_colorscale(scale, np.linspace(0, 1, 256), colortype="rgb")
    return np.array([[int(part) for part in shade[4:-1].split(",")] for shade in shades], dtype=np.uint8)


_VIRIDIS, _BLUE_RED = _shades("Viridis"), _shades("RdBu_r")


def viridis(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """H×W numbers as H×W×3 bytes in viridis from `low` to `high` (the map's own range if not given)."""
    values = np.nan_to_num(values.astype(np.float32)).astype(np.float64)  # the widest range fits
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return _VIRIDIS[(scaled.clip(0, 1) * 255).astype(np.uint8)]


def diverging(values: np.ndarray, largest: float | None = None) -> np.ndarray:
    """H×W numbers as H×W×3 bytes from blue at −`largest` over white at 0 to red at `largest` (the map's own if not given)."""
    values = np.nan_to_num(values.astype(np.float32)).astype(np.float64)
    largest = float(np.abs(values).max()) if largest is None else largest
    return _BLUE_RED[(127.5 + 127.5 * (values / (largest or 1.0)).clip(-1, 1)).round().astype(np.uint8)]


class Scale(NamedTuple):
    """The values that colours stand for: `low` is dark and `high` bright; on a `signed` one zero is white in the middle,
    blue is below it and red above.
    """

    low: float
    high: float
    signed: bool

    def colours(self, values: np.ndarray) -> np.ndarray:
        """H×W numbers as H×W×3 bytes."""
        return diverging(values, self.high) if self.signed else viridis(values, self.low, self.high)

    @property
    def gradient(self) -> str:
        """The colours from `low` to `high`, for CSS."""
        shades = self.colours(np.linspace(self.low, self.high, 17)[None])[0].tolist()
        return f"linear-gradient(90deg,{','.join(f'#{red:02x}{green:02x}{blue:02x}' for red, green, blue in shades)})"


def extent(values: np.ndarray) -> tuple[float, float]:
    """The lowest and the highest of any numbers; what overflowed counts as the largest there is, what is none as zero."""
    finite = np.nan_to_num(values.astype(np.float32, copy=False))
    return float(finite.min()), float(finite.max())


def has_negative(maps: np.ndarray) -> bool:
    """Whether a layer's maps go below zero, so that their colours part there."""
    return bool((maps < 0).any())


def scale_over(extents: Iterable[tuple[float, float]], signed: bool) -> Scale:
    """One scale for maps of these extents; where it is `signed`, as far below zero as above."""
    lows, highs = zip(*extents, strict=True)
    low, high = min(lows), max(highs)
    largest = max(abs(low), abs(high))
    return Scale(-largest, largest, True) if signed else Scale(low, high, False)


def channel_tiles(maps: np.ndarray, scales: Mapping[int, Scale]) -> list[np.ndarray]:
    """Channels of C×H×W as pictures, each on its scale, 32 to 64 pixels on the longer side."""
    longest = max(maps.shape[1:])
    times, step = max(1, -(-32 // longest)), max(1, -(-longest // 64))
    return [
        scale.colours(maps[channel, ::step, ::step]).repeat(times, 0).repeat(times, 1)
        for channel, scale in scales.items()
    ]


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


def as_rgb(image: np.ndarray) -> np.ndarray:
    """The bytes H×W×C that a network saw as H×W×3: its colours, or its first channel in grey."""
    return image if image.shape[2] == 3 else image[:, :, :1].repeat(3, 2)


def displayed_pixels(image: np.ndarray, most: int) -> np.ndarray:
    """The bytes H×W×C that a network saw as a page shows them, in colours or its first channel as H×W: a small picture
    with hard pixels, up to 224 a side, and a large one reduced by a whole number to at most `most`.
    """
    pixels = image if image.shape[2] == 3 else image[:, :, 0]
    longest = max(pixels.shape[:2])
    if longest > most:
        return np.asarray(Image.fromarray(pixels).reduce(math.ceil(longest / most)))
    scale = max(1, 224 // longest)
    return pixels.repeat(scale, 0).repeat(scale, 1)


def units_on_image(cells: np.ndarray, field: Field, size: tuple[int, int], samples: tuple[int, int]) -> np.ndarray:
    """A layer's units H×W(×…) as they lie on a picture of `size` pixels, drawn with so many samples (height, width).

    Each place shows the unit whose field has its middle nearest.
    """
    rows, columns = map(field.nearest_units, cells.shape, size, samples)
    return cells[rows][:, columns]


def overlay(
    channel: np.ndarray,
    input_image: np.ndarray,
    blend: float,
    field: Field,
    side: int = 448,
    scale: Scale | None = None,
) -> Image.Image:
    """One H×W map of a layer that sees `field`, over the picture the network saw (H×W×C bytes), which is enlarged to
    be `side` pixels wide; 1 hides the picture. Without a `scale` the map goes from dark to bright in its own range.
    """
    below = Image.fromarray(as_rgb(input_image))
    below = below.resize((side, max(1, round(side * below.height / below.width))), Image.Resampling.BICUBIC)
    height, width = input_image.shape[:2]
    colours = scale.colours(channel) if scale else viridis(channel)
    above = units_on_image(colours, field, (height, width), (below.height, below.width))
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
