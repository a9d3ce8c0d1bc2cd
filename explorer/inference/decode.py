"""An image's pixels from a file's bytes, by Pillow and nothing else of this package: what `open_image` runs in a process
of its own, which starts in 50 ms.

As a program it reads a file from standard input, and puts out a line of JSON, `{"size": [width, height]}` or
`{"problem": …}`, and then the pixels, row by row, three bytes each.

The system bounds the memory and time of that process; what is looked at here beforehand is what a person can be told.
"""

from __future__ import annotations

import io
import json
import re
import struct
import sys
from collections.abc import Callable
from typing import cast

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

MAX_MEMORY = round(0.6 * 2**30)
"""Most bytes that opening an image may take beyond its file."""

MAX_SIDE_AFTER = 4096
"""Longest side of an image once it is open, in pixels; larger ones are reduced."""

ACCEPTED = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC"

_RESERVE = 120 * 2**20  # for the largest result, and what conversion takes beside it and the image
_MAX_PIXELS = 64_000_000  # where all are decoded, which takes a second or two
_PART_PIXELS = 2**20

Reader = Callable[[io.BytesIO, str], ImageFile.ImageFile]
_READERS: dict[bytes, Reader] = {
    rb"\xff\xd8\xff": JpegImagePlugin.jpeg_factory,
    rb"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    rb"RIFF....WEBP": WebPImagePlugin.WebPImageFile,
    rb"GIF8[79]a": GifImagePlugin.GifImageFile,
    rb"BM": BmpImagePlugin.BmpImageFile,
    rb"II\*\0|MM\0\*": TiffImagePlugin.TiffImageFile,
}
"""What reads a file by how it begins."""

_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
"""Bytes of a pixel that Pillow holds; four in every other mode."""

# Bytes of a pixel that a decoder holds at its worst, Pillow's own among them, measured with images of 32 megapixels.
_ROW_BYTES = 16  # this and the last row of a PNG as they are stored
_WEBP_BYTES = 15
_GIF_BYTES = 3
_TIFF_BYTES_AT_LEAST = 3  # since Pillow itself refuses a TIFF above 179 million pixels
_RLE_BYTES = 4
_AVIF_BYTES = {"L": 4, "RGB": 11, "RGBA": 13}
_HEIF_BYTES = {("RGB", False): 10, ("RGB", True): 16, ("RGBA", False): 13, ("RGBA", True): 21}  # True: above 8 bit
_HEIF_420_BYTES = 8  # colour at half the width and height, as phones write it

_JPEG_SCAN = rb"\xff\xda\x00(\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)"

_TIFF_TILE = (322, 323)  # width and height of a tile
_TIFF_BITS, _TIFF_SAMPLES = 258, 277  # of a sample, of a pixel

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_DAMAGED_EXIF = (SyntaxError, TypeError, ValueError, struct.error)
"""What Pillow raises for EXIF: of another head, as text where bytes belong, not in hexadecimal digits, cut short."""


class DecodeError(ValueError):
    """A file that is not opened: one sentence that says what is wrong and what is accepted.

    As a program this module has nothing of the package on its path: `images.ImageError` is what others catch.
    """


def decode(data: bytes) -> Image.Image:
    """The image in a file's bytes, as `open_image` describes it, decoded in this process, without limits of time.

    Raises:
        DecodeError: for whatever is wrong.
    """
    try:
        return _decode(data)
    except DecodeError:
        raise
    except MemoryError as error:
        raise DecodeError(f"The image takes more memory than the {MAX_MEMORY / 2**30:.1f} GiB accepted.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DecodeError(
            "The image has too many pixels for its format: baseline JPEG is accepted in any size."
        ) from error
    # Given hostile bytes, decoders raise nearly anything, AssertionError included.
    except Exception as error:
        raise DecodeError(f"The image cannot be decoded: an undamaged {ACCEPTED} file is accepted.") from error


def _decode(data: bytes) -> Image.Image:
    """What `decode` returns; raises whatever Pillow does."""
    image = _header(data)
    factor = _factor(image.size)
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        # The decoder itself then leaves out what is not needed, at most all but a power of two.
        size, kept = image.size, _coefficients(image, data)
        image.draft(None, (max(1, image.width // factor), max(1, image.height // factor)))
        _check_size(image, size, kept + _area(size) if kept else _held(image))
    else:
        _check_size(image, max(image.size, _tile(image), key=_area), _held(image), _MAX_PIXELS)
    image.load()
    turn = _turn(image)
    result = _to_rgb(image)
    del image
    return result if turn is None else result.transpose(turn)


def _header(data: bytes) -> ImageFile.ImageFile:
    """The image with its header read and nothing decoded.

    `Image.open` would refuse by a number of pixels, which says little about memory.

    Raises:
        DecodeError: where the bytes begin as those of no accepted format do, or this installation lacks its codec.
    """
    if data[4:8] == b"ftyp":
        read = _container(data)
    else:
        read = next((reader for start, reader in _READERS.items() if re.match(start, data, re.DOTALL)), None)
    if read is None:
        raise DecodeError(f"The file cannot be read as an image: {ACCEPTED} is accepted.")
    return read(io.BytesIO(data), "")


def _container(data: bytes) -> Reader | None:
    """What reads an AVIF or a HEIC, by the brands that such a container begins with; None for a film.

    Raises:
        DecodeError: where this installation has no decoder for it.
    """
    (length,) = struct.unpack_from(">L", data)
    brands = {data[at : at + 4] for at in range(8, min(length, 256), 4)}
    if not brands.isdisjoint(_AVIF_BRANDS):
        if not AvifImagePlugin.SUPPORTED:
            raise DecodeError("The image is an AVIF, for which this server has no decoder: a JPEG or PNG is accepted.")
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each thread may hold an image
        return AvifImagePlugin.AvifImageFile
    if brands.isdisjoint(_HEIF_BRANDS):
        return None
    try:
        from pi_heif import HeifImageFile, options
    except ImportError as error:
        raise DecodeError(
            "The image is a HEIC, for which this server has no decoder: a JPEG is accepted, which a phone writes "
            "when its camera is set to the most compatible format."
        ) from error
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    options.DECODE_THREADS = 1
    return HeifImageFile


def _check_size(image: ImageFile.ImageFile, size: tuple[int, int], held: int, most: int = sys.maxsize) -> None:
    """Refuse an image of `size`, in its file, of more than `most` pixels, or of which the decoder holds `held` bytes
    where they are too many.

    Raises:
        DecodeError: for such an image.
    """
    most = min(most, (MAX_MEMORY - _RESERVE) * _area(size) // max(held, 1))
    if _area(size) > most:
        names = {"JPEG": "progressive JPEG", "MPO": "progressive JPEG", "WEBP": "WebP", "HEIF": "HEIC"}
        raise DecodeError(
            f"The image has {size[0]} × {size[1]} pixels: {names.get(image.format or '', image.format)} of this "
            f"kind is accepted up to {most // 10**6} million pixels, baseline JPEG in any size."
        )


def _held(image: ImageFile.ImageFile) -> int:
    """The most bytes that decoding an image takes, of a format that is only decoded at full size."""
    mode, pixels = image.mode, image.width * image.height
    each = _MODE_BYTES.get(mode, 4)
    if image.format == "WEBP":
        each = _WEBP_BYTES
    elif image.format == "GIF":
        each = _GIF_BYTES
    elif image.format == "BMP" and image.tile[0].codec_name == "bmp_rle":
        each = _RLE_BYTES
    elif image.format == "AVIF":
        each = _AVIF_BYTES.get(mode, max(_AVIF_BYTES.values()))
    elif image.format == "HEIF":
        deep = image.info.get("bit_depth", 8) > 8
        plain = image.info.get("chroma") == 420 and mode == "RGB"
        each = _HEIF_420_BYTES if plain else _HEIF_BYTES.get((mode, deep), 8)
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        # One strip or tile is decoded at a time, which may be the whole image, or more; Pillow turns the whole too.
        tags = image.tag_v2
        samples = tags.get(_TIFF_SAMPLES, 1)
        raw = samples * max(tags.get(_TIFF_BITS, (1,))) / 8
        largest = max(pixels, _area(_tile(image))) * (raw if samples == 1 else max(raw, 4))
        each *= 1 if tags.get(ExifTags.Base.Orientation, 1) == 1 else 2
        return max(pixels * each + round(largest), pixels * _TIFF_BYTES_AT_LEAST)
    return pixels * each + _ROW_BYTES * image.width


def _coefficients(image: JpegImagePlugin.JpegImageFile, data: bytes) -> int:
    """Bytes of the coefficients of a JPEG, all of which its decoder keeps where they come in several scans, else none."""
    components = [(across, down) for _, across, down, _ in image.layer]
    scans = {int(found[1][-1]) for found in re.finditer(_JPEG_SCAN, data)}
    if not image.info.get("progressive") and min(scans, default=len(components)) >= len(components):
        return 0
    across, down = (max(sampling) for sampling in zip(*components, strict=True))
    units = -(-image.width // (8 * across)) * -(-image.height // (8 * down))
    return units * sum(a * d for a, d in components) * 64 * 2


def _factor(size: tuple[int, int]) -> int:
    """The smallest whole number that brings both sides of `size` to `MAX_SIDE_AFTER`."""
    return -(-max(size) // MAX_SIDE_AFTER)


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _tile(image: ImageFile.ImageFile) -> tuple[int, int]:
    """Width and height of a TIFF's tiles; 1, 1 where an image has none."""
    tags = getattr(image, "tag_v2", {})
    return cast(tuple[int, int], tuple(tags.get(tag, 1) for tag in _TIFF_TILE))


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What brings an image upright, as its EXIF says; Pillow has already turned a TIFF as it was loaded."""
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _DAMAGED_EXIF:
        return None  # the pixels are whole where their description is not, and a person sees how they lie


def _to_rgb(image: Image.Image) -> Image.Image:
    """The image in 8-bit RGB, reduced to `MAX_SIDE_AFTER` where it is larger.

    It goes part by part, so that colour conversion never holds a second full-size image.
    """
    width, height = image.size
    factor = _factor(image.size)
    if factor == 1 and image.mode == "RGB" and not image.has_transparency_data:
        return image
    levels = _levels(image)
    result = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    columns = min(width, factor * max(1, _PART_PIXELS // (factor * min(factor, height))))
    rows = factor * max(1, _PART_PIXELS // (columns * factor))
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            box = left, top, min(left + columns, width), min(top + rows, height)
            result.paste(_flat(image.crop(box), levels).reduce(factor), (left // factor, top // factor))
    return result


def _levels(image: Image.Image) -> tuple[float, float]:
    """The values that stand for black and white in an image of more than 8 bit.

    Integers span 16 bit, real numbers 0 to 1, 255 or 65535, whichever first holds them all;
    an image that goes beyond spans its own range.
    """
    if image.mode not in ("I", "F"):
        return 0, 65535
    low, high = cast(tuple[float, float], image.getextrema())
    whites = (1, 255, 65535) if image.mode == "F" else (65535,)
    fitting = [white for white in whites if low >= 0 and high <= white]
    return (0, fitting[0]) if fitting else (low, high)


def _flat(image: Image.Image, levels: tuple[float, float]) -> Image.Image:
    """8-bit RGB of any mode, transparency over white."""
    if image.mode.startswith(("I", "F")):
        black, white = levels
        scale = 255 / ((white - black) or 1)
        # Conversion to L cuts the fraction off; the half makes that rounding.
        return image.convert("F").point(lambda value: value * scale + (0.5 - black * scale)).convert("L").convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("LA") if image.mode == "La" else image
    paper = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")


# -- as a program -------------------------------------------------------------------------


def main() -> None:
    """Read a file from stdin; write a line of JSON, the size or the problem, and then the pixels."""
    out = sys.stdout.buffer
    try:
        image = decode(sys.stdin.buffer.read())
    except DecodeError as error:
        out.write(json.dumps({"problem": str(error)}).encode() + b"\n")
    else:
        out.write(json.dumps({"size": image.size}).encode() + b"\n")
        rows = max(1, 2**18 // image.width)  # what a processor keeps at hand
        for top in range(0, image.height, rows):
            out.write(image.crop((0, top, image.width, min(top + rows, image.height))).tobytes())
    out.flush()


if __name__ == "__main__":
    main()
