"""Pictures from outside: uploads of any kind, and the samples that come with the project.

`open_image` is the only way in for bytes that a stranger chose. It either returns
an ordinary RGB picture or says in one sentence why it cannot.
"""

from __future__ import annotations

import io
import json
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

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

if TYPE_CHECKING:
    import numpy as np

MAX_BYTES = 20 * 2**20
"""Longest file that is accepted, in bytes."""

MAX_MEMORY = round(0.6 * 2**30)
"""Most bytes that opening a picture may take beyond its file."""

MAX_SIDE_AFTER = 4096
"""Longest side of a picture once it is open, in pixels; larger ones are reduced."""

ACCEPTED = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC"

_RESERVE = 120 * 2**20  # for the largest result, and what conversion takes beside it and the picture
_MAX_EXIF = 2**20  # bytes; cameras write up to 64 KiB, and tables grow twentyfold as they are read
_PART_PIXELS = 2**20
_SECONDS = 60  # for the decoders that cannot be told when to stop

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

# Bytes of a pixel that a decoder holds at its worst, Pillow's own among them, measured with pictures of 32 megapixels.
_ROW_BYTES = 16  # this and the last row of a PNG as they are stored
_WEBP_BYTES = 15
_GIF_BYTES = 3
_TIFF_BYTES_AT_LEAST = 3  # since Pillow itself refuses a TIFF above 179 million pixels
_RLE_BYTES = 4
_AVIF_BYTES = {"L": 4, "RGB": 11, "RGBA": 13}
_HEIF_BYTES = {("RGB", False): 10, ("RGB", True): 16, ("RGBA", False): 13, ("RGBA", True): 21}  # True: above 8 bit
_HEIF_420_BYTES = 8  # colour at half the width and height, as phones write it

# How many of each a JPEG may hold: far more than cameras write, and than chance puts into 20 MiB of
# foreign data after the picture (a phone's moving photograph).
_JPEG_SCAN = rb"\xff\xda\x00(\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)"
_JPEG_MARKS = (
    (rb"\xff[\xe0-\xef\xfe]", 10_000),  # segments of metadata, each kept as objects many times its size
    (_JPEG_SCAN, 100),  # scans, each of which may visit every pixel again
    (rb"Exif\x00\x00", 100),  # parts of EXIF, at each of which all earlier ones are copied
)

# A TIFF's tables become Python objects as its header is read, long before a pixel is.
_TIFF_VALUES = 2**16
_TIFF_BYTES = (1, 2, 6, 7)  # types of tags that stay one string of bytes, as ICC profiles do
_TIFF_OFFSETS = (273, 324)  # where each strip or tile begins
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

_decoding = threading.Lock()


class ImageError(ValueError):
    """A file that is not opened: one sentence that says what is wrong and what is accepted."""


def open_image(data: bytes) -> Image.Image:
    """The picture in a file's bytes, whatever its name: upright, RGB, at most 4096 pixels a side.

    EXIF orientation is applied, unless it cannot be read; transparency is laid over white; 16-bit grey is scaled to
    8 bit; of an animation or a file of several pages the first picture counts. Colour
    profiles are ignored. A picture above 4096 pixels is reduced by a whole number.

    Whatever the bytes, memory stays below 0.6 GiB beyond the file itself (0.1 GiB for a photograph of
    12 megapixels), for all threads together, since one file is decoded at a time. AVIF and HEIC, whose decoders
    trust what a file says of its size, are decoded in a process of their own, which the system holds to that; on
    systems that cannot (Windows, macOS), only what a file says is checked.

    Raises:
        ImageError: for a file that is empty, above 20 MiB, of another format, damaged, or that takes more
            memory; nothing else is raised.
    """
    if not data:
        raise ImageError(f"The file is empty: a {ACCEPTED} picture is accepted.")
    if len(data) > MAX_BYTES:
        raise ImageError(
            f"The file has {len(data) / 2**20:.1f} MiB: pictures of at most {MAX_BYTES // 2**20} MiB are accepted."
        )
    with _decoding:
        return _decoded_apart(data) if data[4:8] == b"ftyp" else _decoded(data)


def _decoded(data: bytes) -> Image.Image:
    """What `open_image` returns.

    Raises:
        ImageError: for whatever is wrong.
    """
    try:
        return _decode(data)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"The picture takes more memory than the {MAX_MEMORY / 2**30:.1f} GiB accepted.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            "The picture has too many pixels for its format: baseline JPEG is accepted in any size."
        ) from error
    # Given hostile bytes, decoders raise nearly anything, AssertionError included.
    except Exception as error:
        raise ImageError(f"The picture cannot be decoded: an undamaged {ACCEPTED} file is accepted.") from error


def _decode(data: bytes) -> Image.Image:
    """What `open_image` returns; raises whatever Pillow does."""
    if data.startswith((b"II", b"MM")):
        _check_tiff_tables(data)
    if data.startswith(b"\xff\xd8") and any(_more_than(most, mark, data) for mark, most in _JPEG_MARKS):
        raise ValueError("a JPEG of endlessly many parts")
    picture = _header(data)
    _check_overlaps(picture)
    factor = _factor(picture.size)
    if isinstance(picture, JpegImagePlugin.JpegImageFile):
        # The decoder itself then leaves out what is not needed, at most all but a power of two.
        size, kept = picture.size, _coefficients(picture, data)
        picture.draft(None, (max(1, picture.width // factor), max(1, picture.height // factor)))
        _check_memory(picture, size, kept + _area(size) if kept else _held(picture))
    else:
        _check_memory(picture, max(picture.size, _tile(picture), key=_area), _held(picture))
    picture.load()
    turn = _turn(picture)
    result = _to_rgb(picture)
    del picture
    return result if turn is None else result.transpose(turn)


def _header(data: bytes) -> ImageFile.ImageFile:
    """The picture with its header read and nothing decoded.

    `Image.open` would refuse by a number of pixels, which says little about memory.

    Raises:
        ImageError: where the bytes begin as those of no accepted format do, or this installation lacks its codec.
    """
    if data[4:8] == b"ftyp":
        read = _container(data)
    else:
        read = next((reader for start, reader in _READERS.items() if re.match(start, data, re.DOTALL)), None)
    if read is None:
        raise ImageError(f"The file cannot be read as a picture: {ACCEPTED} is accepted.")
    return read(io.BytesIO(data), "")


def _container(data: bytes) -> Reader | None:
    """What reads an AVIF or a HEIC, by the brands that such a container begins with; None for a film.

    Raises:
        ImageError: where this installation has no decoder for it.
    """
    (length,) = struct.unpack_from(">L", data)
    brands = {data[at : at + 4] for at in range(8, min(length, 256), 4)}
    if not brands.isdisjoint(_AVIF_BRANDS):
        if not AvifImagePlugin.SUPPORTED:
            raise ImageError("The picture is an AVIF, for which this server has no decoder: a JPEG or PNG is accepted.")
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each thread may hold a picture
        return AvifImagePlugin.AvifImageFile
    if brands.isdisjoint(_HEIF_BRANDS):
        return None
    try:
        from pi_heif import HeifImageFile, options
    except ImportError as error:
        raise ImageError(
            "The picture is a HEIC, for which this server has no decoder: a JPEG is accepted, which a phone writes "
            "when its camera is set to the most compatible format."
        ) from error
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    options.DECODE_THREADS = 1
    return HeifImageFile


def _more_than(most: int, mark: bytes, data: bytes) -> bool:
    return any(count >= most for count, _ in enumerate(re.finditer(mark, data)))


def _check_memory(picture: ImageFile.ImageFile, size: tuple[int, int], held: int) -> None:
    """Refuse a picture of `size`, in its file, of which the decoder holds so many bytes, where they are too many.

    Raises:
        ImageError: for such a picture.
    """
    room = MAX_MEMORY - _RESERVE
    if held > room:
        names = {"JPEG": "progressive JPEG", "MPO": "progressive JPEG", "WEBP": "WebP", "HEIF": "HEIC"}
        raise ImageError(
            f"The picture has {size[0]} × {size[1]} pixels: {names.get(picture.format or '', picture.format)} of this "
            f"kind is accepted up to {room * _area(size) // held // 10**6} million pixels, baseline JPEG in any size."
        )


def _held(picture: ImageFile.ImageFile) -> int:
    """The most bytes that decoding a picture takes, of a format that is only decoded at full size."""
    mode, pixels = picture.mode, picture.width * picture.height
    each = _MODE_BYTES.get(mode, 4)
    if picture.format == "WEBP":
        each = _WEBP_BYTES
    elif picture.format == "GIF":
        each = _GIF_BYTES
    elif picture.format == "BMP" and picture.tile[0].codec_name == "bmp_rle":
        each = _RLE_BYTES
    elif picture.format == "AVIF":
        each = _AVIF_BYTES.get(mode, max(_AVIF_BYTES.values()))
    elif picture.format == "HEIF":
        deep = picture.info.get("bit_depth", 8) > 8
        plain = picture.info.get("chroma") == 420 and mode == "RGB"
        each = _HEIF_420_BYTES if plain else _HEIF_BYTES.get((mode, deep), 8)
    elif isinstance(picture, TiffImagePlugin.TiffImageFile):
        # One strip or tile is decoded at a time, which may be the whole picture, or more; Pillow turns the whole too.
        tags = picture.tag_v2
        samples = tags.get(_TIFF_SAMPLES, 1)
        raw = samples * max(tags.get(_TIFF_BITS, (1,))) / 8
        largest = max(pixels, _area(_tile(picture))) * (raw if samples == 1 else max(raw, 4))
        each *= 1 if tags.get(ExifTags.Base.Orientation, 1) == 1 else 2
        return max(pixels * each + round(largest), pixels * _TIFF_BYTES_AT_LEAST)
    return pixels * each + _ROW_BYTES * picture.width


def _coefficients(picture: JpegImagePlugin.JpegImageFile, data: bytes) -> int:
    """Bytes of the coefficients of a JPEG, all of which its decoder keeps where they come in several scans, else none."""
    components = [(across, down) for _, across, down, _ in picture.layer]
    scans = {int(found[1][-1]) for found in re.finditer(_JPEG_SCAN, data)}
    if not picture.info.get("progressive") and min(scans, default=len(components)) >= len(components):
        return 0
    across, down = (max(sampling) for sampling in zip(*components, strict=True))
    units = -(-picture.width // (8 * across)) * -(-picture.height // (8 * down))
    return units * sum(a * d for a, d in components) * 64 * 2


def _factor(size: tuple[int, int]) -> int:
    """The smallest whole number that brings both sides of `size` to `MAX_SIDE_AFTER`."""
    return -(-max(size) // MAX_SIDE_AFTER)


def _check_tiff_tables(data: bytes) -> None:
    """Refuse a TIFF whose first directory holds overlong tables or a tag twice, or which is a BigTIFF (made for files above 4 GiB).

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
    tags = set[int]()
    for tag, kind, values in struct.iter_unpack(order + "HHL4x", table[: len(table) // 12 * 12]):
        if tag in tags:  # Pillow takes the last, libtiff the first
            raise ValueError(f"tag {tag} twice")
        tags.add(tag)
        if values > _TIFF_VALUES and (kind not in _TIFF_BYTES or tag in _TIFF_OFFSETS):
            raise ValueError(f"{values} values in tag {tag}")


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _tile(picture: ImageFile.ImageFile) -> tuple[int, int]:
    """Width and height of a TIFF's tiles; 1, 1 where a picture has none."""
    tags = getattr(picture, "tag_v2", {})
    return cast(tuple[int, int], tuple(tags.get(tag, 1) for tag in _TIFF_TILE))


def _check_overlaps(picture: ImageFile.ImageFile) -> None:
    """Refuse a TIFF with strips that share their bytes.

    Without compression, strips are read up to where the next one begins: there, a small file
    could stand for any amount of work.

    Raises:
        ValueError: for such strips.
    """
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return
    strips: list[tuple[int, Any]] = sorted((offset, box) for _, box, offset, *_ in picture.tile)
    for (offset, (left, top, right, bottom)), (following, _) in pairwise(strips):
        if following - offset < (right - left) * (bottom - top) // 8:  # a pixel has one bit or more
            raise ValueError("strips that overlap")


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """What brings a picture upright, as its EXIF says; Pillow has already turned a TIFF as it was loaded."""
    if len(picture.info.get("exif") or b"") > _MAX_EXIF:
        return None
    try:
        return _UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return None  # the pixels are whole where their description is not, and a person sees how they lie


def _to_rgb(picture: Image.Image) -> Image.Image:
    """An 8-bit RGB copy, reduced to `MAX_SIDE_AFTER` where it is larger.

    It goes part by part, so that colour conversion never holds a second full-size picture.
    """
    width, height = picture.size
    factor = _factor(picture.size)
    levels = _levels(picture)
    result = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    columns = min(width, factor * max(1, _PART_PIXELS // (factor * min(factor, height))))
    rows = factor * max(1, _PART_PIXELS // (columns * factor))
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            box = left, top, min(left + columns, width), min(top + rows, height)
            result.paste(_flat(picture.crop(box), levels).reduce(factor), (left // factor, top // factor))
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


# -- decoding in a process of its own -----------------------------------------------------


def _decoded_apart(data: bytes) -> Image.Image:
    """What `_decoded` returns, from a process that the system stops at `MAX_MEMORY`.

    Raises:
        ImageError: for whatever is wrong.
    """
    command = [sys.executable, "-P", "-W", "ignore", __file__]
    try:
        said = subprocess.run(
            command, input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_SECONDS, check=False
        ).stdout
        end = said.index(b"\n")
        answer = json.loads(said[:end])
    except OSError as error:
        raise ImageError(f"The picture cannot be decoded now: {error.strerror or error}.") from error
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise ImageError(f"The picture cannot be decoded: an undamaged {ACCEPTED} file is accepted.") from error
    if problem := answer.get("problem"):
        raise ImageError(problem)
    return Image.frombytes("RGB", answer["size"], memoryview(said)[end + 1 :])


def _decode_for_parent() -> None:
    """Read a file's bytes from stdin; write a line of JSON, the size or the problem, and the pixels."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
    except (ImportError, ValueError, OSError):
        pass  # Windows has no limits, and macOS none of this kind
    out = sys.stdout.buffer
    try:
        picture = _decoded(sys.stdin.buffer.read())
    except ImageError as error:
        out.write(json.dumps({"problem": str(error)}).encode() + b"\n")
    else:
        out.write(json.dumps({"size": picture.size}).encode() + b"\n")
        out.write(picture.tobytes())


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
    """Every sample, in the order of `samples.json`.

    Raises:
        ShippedError: where that file is missing or damaged.
    """
    from resnet.weights import intact

    path = _SAMPLES / "samples.json"
    with intact(path):
        return tuple(Sample(**entry) for entry in json.loads(path.read_text(encoding="utf-8")))


class Labelled(NamedTuple):
    """Images N×28×28, grey bytes, and the number of each one's class."""

    images: np.ndarray
    labels: np.ndarray


@cache
def labelled() -> Labelled:
    """The first 500 images of Fashion-MNIST's test set, none of which the shipped networks were trained on.

    Raises:
        ShippedError: where their file is missing or damaged.
    """
    import numpy as np  # here, so that decoding in another process does without

    from resnet.weights import intact

    path = _SAMPLES / "fashion-test.npz"
    with intact(path), np.load(path) as file:
        found = Labelled(file["images"], file["labels"])
    for array in found:
        array.flags.writeable = False
    return found


if __name__ == "__main__":
    _decode_for_parent()
