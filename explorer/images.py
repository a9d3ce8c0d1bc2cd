"""Pictures from outside: uploads of any kind, and the samples that come with the project.

`open_image` is the only way in for bytes that a stranger chose. It either returns
an ordinary RGB picture or says in one sentence why it cannot.
"""

from __future__ import annotations

import io
import json
import re
import struct
import threading
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

MAX_BYTES = 20 * 2**20
"""Longest file that is accepted, in bytes."""

MAX_PIXELS = 50_000_000
"""Most pixels of a JPEG; half as many in the other formats, which can only be decoded at full size."""

MAX_SIDE_AFTER = 4096
"""Longest side of a picture once it is open, in pixels; larger ones are reduced."""

_MAX_EXIF = 2**20  # bytes; cameras write up to 64 KiB, and tables grow twentyfold as they are read
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_ACCEPTED = "JPEG, PNG, WebP, GIF, BMP or TIFF"
_STRIP_PIXELS = 2**20

# How many of each a JPEG may hold: far more than cameras write, and than chance puts into 20 MiB of
# foreign data after the picture (a phone's moving photograph).
_JPEG_MARKS = (
    (rb"\xff[\xe0-\xef\xfe]", 10_000),  # segments of metadata, each kept as objects many times its size
    (rb"\xff\xda\x00(\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)", 100),  # scans, each of which may visit every pixel again
    (rb"Exif\x00\x00", 100),  # parts of EXIF, at each of which all earlier ones are copied
)

# A TIFF's tables become Python objects as its header is read, long before a pixel is.
_TIFF_VALUES = 2**16
_TIFF_BYTES = (1, 2, 6, 7)  # types of tags that stay one string of bytes, as ICC profiles do
_TIFF_OFFSETS = (273, 324)  # where each strip or tile begins
_TIFF_TILE = (322, 323)  # width and height of a tile

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_decoding = threading.Lock()


class ImageError(ValueError):
    """A file that is not opened: one sentence that says what is wrong and what is accepted."""


def open_image(data: bytes) -> Image.Image:
    """The picture in a file's bytes: upright, RGB, at most 4096 pixels a side.

    EXIF orientation is applied; transparency is laid over white; 16-bit grey is scaled to
    8 bit; of an animation or a file of several pages the first picture counts. Colour
    profiles are ignored. A picture above 4096 pixels is reduced by a whole number.

    Whatever the bytes, memory stays below 0.6 GiB beyond the file itself (0.1 GiB for a photograph of
    12 megapixels), for all threads together, since one file is decoded at a time.

    Raises:
        ImageError: for a file that is empty, above 20 MiB, of another format, damaged, or
            of more pixels than `MAX_PIXELS` allows; nothing else is raised.
    """
    if not data:
        raise ImageError(f"The file is empty: a {_ACCEPTED} picture is accepted.")
    if len(data) > MAX_BYTES:
        raise ImageError(
            f"The file has {len(data) / 2**20:.1f} MiB: pictures of at most {MAX_BYTES // 2**20} MiB are accepted."
        )
    try:
        with _decoding:
            return _decode(data)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"The file cannot be read as a picture: {_ACCEPTED} is accepted.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large("more", MAX_PIXELS) from error
    # Given hostile bytes, decoders raise nearly anything, MemoryError and AssertionError included.
    except Exception as error:
        raise ImageError(f"The picture cannot be decoded: an undamaged {_ACCEPTED} file is accepted.") from error


def _too_large(pixels: str, limit: int) -> ImageError:
    return ImageError(f"The picture has {pixels} pixels: at most {limit // 10**6} million in all are accepted.")


def _decode(data: bytes) -> Image.Image:
    """What `open_image` returns; raises whatever Pillow does."""
    if data.startswith((b"II", b"MM")):
        _check_tiff_tables(data)
    if data.startswith(b"\xff\xd8") and any(_more_than(most, mark, data) for mark, most in _JPEG_MARKS):
        raise ValueError("a JPEG of endlessly many parts")
    # Only the formats listed are tried; this reads headers and decodes nothing.
    picture = Image.open(io.BytesIO(data), formats=_FORMATS)
    reducible = picture.format in ("JPEG", "MPO")
    _check_pixels(picture.size, MAX_PIXELS if reducible else MAX_PIXELS // 2)
    _check_tiles(picture)
    factor = _factor(picture.size)
    if reducible:
        # The decoder itself then leaves out what is not needed, at most all but a power of two.
        picture.draft(None, (max(1, picture.width // factor), max(1, picture.height // factor)))
    picture.load()
    turn = _turn(picture)
    result = _to_rgb(picture)
    return result if turn is None else result.transpose(turn)


def _more_than(most: int, mark: bytes, data: bytes) -> bool:
    return any(count >= most for count, _ in enumerate(re.finditer(mark, data)))


def _check_pixels(size: tuple[int, int], limit: int) -> None:
    width, height = size
    if width * height > limit:
        raise _too_large(f"{width} × {height}", limit)


def _factor(size: tuple[int, int]) -> int:
    """The smallest whole number that brings both sides of `size` to `MAX_SIDE_AFTER`."""
    return -(-max(size) // MAX_SIDE_AFTER)


def _check_tiff_tables(data: bytes) -> None:
    """Refuse a TIFF whose first directory holds overlong tables, or which is a BigTIFF (made for files above 4 GiB).

    Raises:
        ValueError: for such a file.
        struct.error: where the directory lies outside the file.
    """
    if 43 in data[2:4]:
        raise ValueError("a BigTIFF")
    order = "<" if data.startswith(b"II") else ">"
    (start,) = struct.unpack_from(order + "L", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, start)
    table = data[start + 2 : start + 2 + 12 * entries]
    for tag, kind, values in struct.iter_unpack(order + "HHL4x", table[: len(table) // 12 * 12]):
        if values > _TIFF_VALUES and (kind not in _TIFF_BYTES or tag in _TIFF_OFFSETS):
            raise ValueError(f"{values} values in tag {tag}")


def _check_tiles(picture: ImageFile.ImageFile) -> None:
    """Refuse a TIFF with tiles larger than any picture, or with strips that share their bytes.

    Without compression, strips are read up to where the next one begins: there, a small file
    could stand for any amount of work.

    Raises:
        ImageError: for such tiles.
        ValueError: for such strips.
    """
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return
    tile = tuple(picture.tag_v2.get(tag, 1) for tag in _TIFF_TILE)
    _check_pixels(cast(tuple[int, int], tile), MAX_PIXELS // 2)
    strips: list[tuple[int, Any]] = sorted((offset, box) for _, box, offset, *_ in picture.tile)
    for (offset, (left, top, right, bottom)), (following, _) in pairwise(strips):
        if following - offset < (right - left) * (bottom - top) // 8:  # a pixel has one bit or more
            raise ValueError("strips that overlap")


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """What brings a picture upright, as its EXIF says; Pillow has already turned a TIFF as it was loaded."""
    if len(picture.info.get("exif", b"")) > _MAX_EXIF:
        return None
    try:
        return _UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return None  # the pixels are whole even where their description is not


def _to_rgb(picture: Image.Image) -> Image.Image:
    """An 8-bit RGB copy, reduced to `MAX_SIDE_AFTER` where it is larger.

    It goes strip by strip, so that colour conversion never holds a second full-size picture.
    """
    width, height = picture.size
    factor = _factor(picture.size)
    levels = _levels(picture)
    result = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    rows = factor * max(1, _STRIP_PIXELS // (width * factor))
    for top in range(0, height, rows):
        strip = _flat(picture.crop((0, top, width, min(top + rows, height))), levels)
        result.paste(strip.reduce(factor), (0, top // factor))
    return result


def _levels(picture: Image.Image) -> tuple[float, float]:
    """The values that stand for black and white in a picture of more than 8 bit.

    Integers span 16 bit, real numbers 0 to 1, 255 or 65535, whichever first holds them all;
    a picture that goes beyond spans its own range.
    """
    if picture.mode not in ("I", "F"):
        return 0, 65535
    low, high = cast(tuple[float, float], picture.getextrema())
    whites = (1, 255, 65535) if picture.mode == "F" else (65535,)
    fitting = [white for white in whites if low >= 0 and high <= white]
    return (0, fitting[0]) if fitting else (low, high)


def _flat(picture: Image.Image, levels: tuple[float, float]) -> Image.Image:
    """8-bit RGB of any mode, transparency over white."""
    if picture.mode.startswith(("I", "F")):
        black, white = levels
        scale = 255 / ((white - black) or 1)
        # Conversion to L cuts the fraction off; the half makes that rounding.
        return (
            picture.convert("F").point(lambda value: value * scale + (0.5 - black * scale)).convert("L").convert("RGB")
        )
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("LA") if picture.mode == "La" else picture
    paper = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(paper, picture.convert("RGBA")).convert("RGB")


# -- samples ------------------------------------------------------------------------------

_SAMPLES = Path(__file__).parent / "samples"


@dataclass(frozen=True)
class Sample:
    """A picture that comes with the project; `file` is relative to the samples folder."""

    name: str
    file: str
    label: str
    source: str
    licence: str

    def open(self) -> bytes:
        """The file's bytes, as `open_image` takes them."""
        return (_SAMPLES / self.file).read_bytes()


@cache
def samples() -> tuple[Sample, ...]:
    """Every sample, in the order of `samples.json`."""
    return tuple(Sample(**entry) for entry in json.loads((_SAMPLES / "samples.json").read_text(encoding="utf-8")))


class Labelled(NamedTuple):
    """Images N×28×28, grey bytes, and the number of each one's class."""

    images: np.ndarray
    labels: np.ndarray


@cache
def labelled() -> Labelled:
    """The first 500 images of Fashion-MNIST's test set, none of which the shipped networks were trained on."""
    with np.load(_SAMPLES / "fashion-test.npz") as file:
        found = Labelled(file["images"], file["labels"])
    for array in found:
        array.flags.writeable = False
    return found
