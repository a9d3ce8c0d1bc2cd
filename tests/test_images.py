"""`explorer.inference.images`: what strangers upload, and the samples."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import AvifImagePlugin, Image, ImageFile
from PIL.PngImagePlugin import PngInfo

from explorer.bench.hostile.images import MIB, PICTURES, chunk, jpeg, png, saved, scans, tiff, zeros
from explorer.inference import decode as decoder
from explorer.inference import images
from explorer.inference.decode import ACCEPTED, MAX_MEMORY, MAX_SIDE_AFTER, DecodeError, decode
from explorer.inference.images import MAX_BYTES, ImageError, open_image
from explorer.inference.samples import Sample, samples
from resnet import confined

pillow_heif.register_heif_opener()

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
CLASSES = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"}


# -- building files -------------------------------------------------------------------------


def bmp(width: int, height: int) -> bytes:
    return struct.pack("<2sLHHL LllHHLLllLL", b"BM", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 1, 1, 0, 0)[:54]


# -- asserting ------------------------------------------------------------------------------


def check_sentence(error: DecodeError) -> str:
    text = str(error)
    assert re.fullmatch(r"(The file|The image) [^\n]{10,190}\.", text), text
    assert not re.search(r"Error|Traceback|Exception|PIL|object at|0x|b'", text), text
    assert "accepted" in text
    return text


def pixel(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


def problem(data: bytes, open_image=decode) -> str:
    with pytest.raises(DecodeError) as caught:
        open_image(data)
    return check_sentence(caught.value)


def survives(data: bytes | bytearray | memoryview | np.ndarray, open_image=decode) -> Image.Image | None:
    """The image, or None after a proper DecodeError; anything else fails the test."""
    try:
        image = open_image(data)
    except DecodeError as error:
        check_sentence(error)
        return None
    assert image.mode == "RGB"
    assert 1 <= min(image.size) <= max(image.size) <= MAX_SIDE_AFTER
    return image


def near(pixel: tuple[int, ...], wanted: tuple[int, ...], by: int = 12) -> bool:
    return len(pixel) == len(wanted) and all(abs(a - b) <= by for a, b in zip(pixel, wanted, strict=True))


MEASURE = """
import importlib.util, json, resource, sys
spec = importlib.util.spec_from_file_location("confined", sys.argv[1])
confined = sys.modules["confined"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(confined)
confined.CLOCK_FACTOR = 100  # the clock is no matter here
program, most, seconds, memory = sys.argv[2], *map(int, sys.argv[3:])
try:
    answer = json.loads(confined.confined(program, sys.stdin.buffer.read(), most, seconds, memory).partition(b"\\n")[0])
except confined.ConfinedError as error:
    answer = {"problem": f"The image {error}."}
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([answer, used.ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10), used.ru_utime + used.ru_stime]))
"""


def peak(data: bytes, seconds: int = 3) -> tuple[str, int, float]:
    """What `open_image` gets for a file: the size or the problem in words, the memory of the process that decodes it,
    in MiB, and the seconds that it takes of a processor."""
    pytest.importorskip("resource")
    command = [sys.executable, "-c", MEASURE, confined.__file__, str(images.PROGRAM), str(images.MAX_ANSWER_BYTES)]
    ended = subprocess.run([*command, str(seconds), str(MAX_MEMORY)], input=data, capture_output=True, check=True)
    answer, memory, used = json.loads(ended.stdout)
    return answer.get("problem") or "opened {} {}".format(*answer["size"]), memory, used


# -- ordinary images ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "MPO"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (37, 21)])
def test_every_format_keeps_size_and_colour(kind, size):
    image = open_image(saved(Image.new("RGB", size, (200, 30, 90)), kind))
    assert type(image) is Image.Image
    assert (image.mode, image.size) == ("RGB", size)
    assert near(pixel(image, size[0] // 2, size[1] // 2), (200, 30, 90))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_keep_every_pixel(kind):
    raw = random.Random(5).randbytes(31 * 17 * 3)
    assert decode(saved(Image.frombytes("RGB", (31, 17), raw), kind)).tobytes() == raw


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_one_bit(kind):
    image = Image.new("1", (10, 3))
    image.putpixel((7, 2), 1)
    opened = decode(saved(image, kind))
    assert [(x, y) for x in range(10) for y in range(3) if opened.getpixel((x, y)) == WHITE] == [(7, 2)]


def test_a_phones_second_image_in_a_jpeg_is_ignored():
    data = saved(Image.new("RGB", (20, 10), RED), "MPO", append_images=[Image.new("RGB", (20, 10), BLUE)])
    assert near(pixel(decode(data), 0, 0), RED)


def test_a_phones_film_after_a_jpeg_is_ignored():
    assert decode(jpeg() + random.Random(0).randbytes(8 * MIB)).size == (16, 16)


# The edges of the upright image at which the first stored row and the first stored column lie (EXIF 2.3, tag 274).
ORIENTATIONS = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}
OPPOSITE = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF deflated", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientation(kind, orientation):
    stored = Image.new("RGB", (64, 32), GREEN)
    stored.paste(RED, (0, 0, 16, 16))  # first row, first column
    stored.paste(BLUE, (48, 0, 64, 16))  # first row, last column
    exif = Image.Exif()
    exif[274] = orientation
    kind, _, packed = kind.partition(" ")
    options = (
        {"compression": "tiff_deflate"}
        if packed
        else {"quality": 95}
        if kind in ("JPEG", "WEBP", "AVIF", "HEIF")
        else {}
    )
    written = exif.tobytes() if kind == "HEIF" else exif  # which its writer turns into a property that the reader obeys
    image = decode(saved(stored, kind, exif=written, **options))

    row, column = ORIENTATIONS[orientation]
    assert image.size == ((64, 32) if row in ("top", "bottom") else (32, 64))
    place = {"top": 6, "left": 6, "bottom": image.height - 6, "right": image.width - 6}

    def at(*edges: str) -> tuple[int, ...]:
        (x,) = (place[edge] for edge in edges if edge in ("left", "right"))
        (y,) = (place[edge] for edge in edges if edge in ("top", "bottom"))
        return pixel(image, x, y)

    assert near(at(row, column), RED, 40)
    assert near(at(row, OPPOSITE[column]), BLUE, 40)
    assert near(at(OPPOSITE[row], column), GREEN, 40)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0II*\0", b"Exif\0\0II+\0\x08\0\0\0"],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_leaves_the_image(kind, exif):
    assert decode(saved(Image.new("RGB", (8, 4)), kind, exif=exif)).size == (8, 4)


@pytest.mark.parametrize("key", ["exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp"])
@pytest.mark.parametrize("text", ["", "no digits", "\nexif\n8\n0g", "\nexif\n8\n4d4d002a"])
def test_text_in_the_place_of_exif_leaves_the_image(key, text):
    """Pillow keeps a PNG's texts, under the names that they give themselves, where it keeps EXIF."""
    texts = PngInfo()
    texts.add_text(key, text)
    assert decode(saved(Image.new("RGB", (8, 4)), "PNG", pnginfo=texts)).size == (8, 4)


def test_a_bug_is_not_taken_for_broken_exif(monkeypatch):
    monkeypatch.setattr(decoder, "_UPRIGHT", None)
    with pytest.raises(DecodeError) as caught:
        decode(jpeg())
    assert isinstance(caught.value.__cause__, AttributeError)


# -- transparency, depth, colour ------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "colour", "wanted"),
    [
        ("RGBA", (255, 0, 0, 0), WHITE),
        ("RGBA", (255, 0, 0, 255), RED),
        ("RGBA", (0, 0, 255, 51), (204, 204, 255)),  # a fifth blue, four fifths white
        ("LA", (0, 0), WHITE),
        ("LA", (0, 102), (153, 153, 153)),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_lies_over_white(mode, colour, wanted, kind):
    assert near(pixel(decode(saved(Image.new(mode, (3, 2), colour), kind)), 1, 1), wanted, 1)


@pytest.mark.parametrize(
    ("kind", "options", "by"),
    [("WEBP", {"lossless": True}, 1), ("AVIF", {"quality": 100}, 3), ("HEIF", {"quality": 95}, 6)],
)
def test_alpha_lies_over_white_where_colours_are_packed(kind, options, by):
    data = saved(Image.new("RGBA", (64, 64), (0, 0, 255, 51)), kind, **options)
    assert near(pixel(decode(data), 40, 40), (204, 204, 255), by)


@pytest.mark.parametrize("alphas", [bytes([255, 0, 51]), 1])
def test_palette_transparency_lies_over_white(alphas):
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    opened = decode(saved(image, "PNG", transparency=alphas))
    blue = BLUE if alphas == 1 else (204, 204, 255)
    assert [opened.getpixel((x, 0)) for x in range(3)] == [RED, WHITE, blue]


def test_gif_transparency_lies_over_white():
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putdata([0, 1])
    opened = decode(saved(image, "GIF", transparency=1))
    assert [opened.getpixel((x, 0)) for x in range(2)] == [RED, WHITE]


def test_a_transparent_colour_lies_over_white():
    opened = decode(png(2, 1, b"\0\x07\x08", chunk(b"tRNS", b"\0\x07")))
    assert [opened.getpixel((x, 0)) for x in range(2)] == [WHITE, (8, 8, 8)]


@pytest.mark.parametrize("make", ["PNG", "TIFF I;16", "TIFF I;16B", "TIFF I"])
def test_sixteen_bit_grey_is_scaled_and_not_cut(make):
    values = [257 * grey for grey in range(256)]  # 257 = 65535 / 255
    if make == "PNG":
        data = png(256, 1, b"\0" + struct.pack(">256H", *values), depth=16)
    else:
        mode = make.removeprefix("TIFF ")
        order = {"I;16": "<256H", "I;16B": ">256H", "I": "=256i"}[mode]
        data = saved(Image.frombytes(mode, (256, 1), struct.pack(order, *values)), "TIFF")
    assert decode(data).tobytes() == bytes(grey for grey in range(256) for _ in "rgb")


def test_sixteen_bit_values_are_rounded():
    data = png(4, 1, b"\0" + struct.pack(">4H", 128, 129, 65406, 65407), depth=16)
    assert decode(data).tobytes()[::3] == bytes([0, 1, 254, 255])


@pytest.mark.parametrize(
    ("mode", "values", "wanted"),
    [
        ("F", [0, 0.2, 1], [0, 51, 255]),
        ("F", [0, 51, 255], [0, 51, 255]),
        ("F", [0, 257, 65535], [0, 1, 255]),
        ("F", [-2, 0, 8], [0, 51, 255]),
        ("F", [5e8, 6e8, 10e8], [0, 51, 255]),
        ("I", [-(2**31), 0, 2**31 - 1], [0, 128, 255]),
        ("I", [0, 20000, 100000], [0, 51, 255]),
    ],
)
def test_deeper_grey_spans_its_range(mode, values, wanted):
    raw = struct.pack("=3i" if mode == "I" else "=3f", *values)
    assert list(decode(saved(Image.frombytes(mode, (3, 1), raw), "TIFF")).tobytes()[::3]) == wanted


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 1])
def test_numbers_that_are_none_still_give_an_image(odd, place):
    values = [0.5, 0.5]
    values[place] = odd
    raw = struct.pack("=2f", *values)
    assert decode(saved(Image.frombytes("F", (2, 1), raw), "TIFF")).size == (2, 1)


@pytest.mark.parametrize(
    ("ink", "wanted"), [((0, 255, 255, 0), RED), ((255, 255, 0, 0), BLUE), ((0, 0, 0, 255), (0, 0, 0))]
)
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind, ink, wanted):
    assert near(pixel(decode(saved(Image.new("CMYK", (16, 16), ink), kind)), 8, 8), wanted)


@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_other_colour_spaces_of_tiff(mode):
    grey = Image.new(mode, (4, 4), (128, 128, 128))
    red, green, blue = pixel(decode(saved(grey, "TIFF")), 1, 1)
    assert max(red, green, blue) - min(red, green, blue) <= (2 if mode == "YCbCr" else 255)


# -- several images in one ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF", "HEIF", "MPO"])
def test_the_first_image_counts(kind):
    """Of an animation, an APNG among them, of a file of pages, and of a phone's several images."""
    frames = [Image.new("RGB", (24, 16), colour) for colour in (RED, GREEN, BLUE)]
    image = decode(saved(frames[0], kind, append_images=frames[1:]))
    assert image.size == (24, 16)
    assert near(pixel(image, 12, 8), RED, 20)


def test_later_frames_cost_nothing():
    frames = [Image.new("P", (3000, 3000), index) for index in range(2)]
    for kind in ("GIF", "TIFF"):
        options = {"compression": "tiff_deflate"} if kind == "TIFF" else {}
        data = saved(frames[0], kind, append_images=[frames[1]] * 12, **options)
        said, memory, seconds = peak(data)
        assert said == "opened 3000 3000"
        assert memory < 120
        assert seconds < 3


# -- size -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("size", [(20_000, 10), (10, 20_000)])
def test_extreme_aspect(kind, size):
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2 if size[0] > size[1] else 0, size[1] // 2 if size[1] > size[0] else 0, *size))
    opened = decode(saved(image, kind))
    # A fifth; for JPEG a quarter by its decoder, and then half of that.
    long = 2500 if kind == "JPEG" else 4000
    assert opened.size == ((long, 2) if size[0] > size[1] else (2, long))
    assert near(pixel(opened, 0, 0), RED)
    assert near(pixel(opened, opened.width - 1, opened.height - 1), BLUE)


def test_one_row_of_sixty_thousand():
    assert decode(saved(Image.new("RGB", (60_000, 1), RED), "PNG")).size == (4000, 1)


@pytest.mark.parametrize(("width", "wanted"), [(4096, 4096), (4097, 2049)])
def test_the_side_at_which_images_are_reduced(width, wanted):
    assert decode(saved(Image.new("L", (width, 3)), "PNG")).width == wanted


def test_reducing_averages():
    """Across the strips in which an image is converted: 6000 × 700 pixels are four of them."""
    raw = random.Random(1).randbytes(6000 * 700)
    opened = decode(saved(Image.frombytes("L", (6000, 700), raw), "PNG", compress_level=1))
    assert opened.size == (3000, 350)
    for x, y in [(0, 0), (2999, 349), (17, 86), (17, 87), (17, 88), (1234, 174)]:
        four = [raw[(2 * y + dy) * 6000 + 2 * x + dx] for dy in (0, 1) for dx in (0, 1)]
        assert abs(pixel(opened, x, y)[0] - sum(four) / 4) <= 0.5


def test_transparency_is_reduced_without_fringes():
    """Black that nobody sees must not darken white beside it."""
    image = Image.new("RGBA", (5000, 2), (0, 0, 0, 0))
    image.paste((255, 255, 255, 255), (0, 0, 5000, 1))
    assert decode(saved(image, "PNG")).getextrema() == ((255, 255),) * 3


def test_a_large_jpeg_is_reduced_as_it_is_decoded():
    said, memory, _ = peak(saved(Image.new("RGB", (8000, 6000), RED), "JPEG"))
    assert said == "opened 4000 3000"
    assert memory < 200  # 48 million pixels of 4 bytes would be 183 MiB, before any copy


# -- refusals -------------------------------------------------------------------------------


def test_empty():
    assert "empty" in problem(b"", open_image)


@pytest.mark.parametrize(
    "data",
    [
        b"Dear network, this is a text.\n" * 50,
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n",
        bytes(5000),
        b"\xff",
        b"\0\0\0\x18ftypisom\0\0\2\0isomavc1" + bytes(500),  # a film
        b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + bytes(500),
    ],
)
def test_what_is_no_image(data):
    assert f"{ACCEPTED} is accepted." in problem(data)


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "PCX", "JPEG2000", "EPS", "DDS", "SGI", "DIB"])
def test_other_formats_of_pillow_are_out_of_reach(kind):
    data = saved(Image.new("RGB", (32, 32), RED), kind)
    with Image.open(io.BytesIO(data)) as pillow:
        assert pillow.size == (32, 32)
    assert f"{ACCEPTED} is accepted." in problem(data)


def test_file_size_limit():
    assert open_image(jpeg() + bytes(MAX_BYTES - len(jpeg()))).size == (16, 16)
    text = problem(jpeg() + bytes(MAX_BYTES - len(jpeg()) + 1), open_image)
    assert "20 MiB" in text


def resized(data: bytes, side: int) -> bytes:
    """A JPEG that says it has `side` pixels each way."""
    found = re.search(b"\xff[\xc0\xc2]\0", data)
    assert found
    at = found.start() + 5
    return data[:at] + struct.pack(">HH", side, side) + data[at + 4 :]


def headers(side: int) -> dict[str, bytes]:
    """Tiny files that declare `side` pixels each way."""
    canvas = struct.pack("<L", side - 1)[:3]
    vp8x = b"VP8X" + struct.pack("<L", 10) + bytes(4) + canvas + canvas
    vp8 = saved(Image.new("RGB", (16, 16)), "WEBP")[12:]
    return {
        "JPEG": resized(jpeg(), side),
        "PNG": png(side, side, bytes(1000)),
        "GIF": saved(Image.new("P", (4, 4)), "GIF").replace(struct.pack("<HH", 4, 4), struct.pack("<HH", side, side)),
        "BMP": bmp(side, side) + bytes(1000),
        "TIFF": tiff(bytes(100), t256=[side], t257=[side], t278=[side], t273=[0], t279=[100]),
        "WEBP": b"RIFF" + struct.pack("<L", 4 + len(vp8x) + len(vp8)) + b"WEBP" + vp8x + vp8,
    }


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("side", [60_000, 30_000])
def test_bombs_are_refused_by_their_header(kind, side):
    said, memory, _ = peak(headers(side)[kind])
    check_sentence(ImageError(said))
    if kind != "WEBP":  # whose frame contradicts its canvas, which is noticed first
        assert f"{side} × {side} pixels" in said
        assert re.search(rf"{kind} of this kind is accepted up to [0-9]+ million pixels", said)
    assert memory < 60


@pytest.mark.parametrize("side", [60_000, 30_000])
def test_a_baseline_jpeg_of_any_size(side):
    """It is decoded at an eighth; what the file lacks is grey."""
    said, memory, _ = peak(headers(side)["JPEG"])
    assert said == "opened 3750 3750"
    assert memory < MAX_MEMORY / MIB
    assert "progressive JPEG of this kind is accepted up to" in problem(
        resized(saved(Image.new("L", (16, 16)), "JPEG", progressive=True), side)
    )


# Pixels that a photograph or a screenshot of today has, and the size that it opens with: reduced by a whole number.
REAL: dict[str, tuple[str, tuple[int, int], dict[str, Any], tuple[int, int]]] = {
    "a panorama of an iPhone": ("JPEG", (16382, 3850), {}, (4096, 963)),
    "the same, progressive": ("JPEG", (16382, 3850), {"progressive": True}, (4096, 963)),
    "48 megapixels": ("JPEG", (8064, 6048), {}, (4032, 3024)),
    "50 megapixels": ("JPEG", (8192, 6144), {}, (4096, 3072)),
    "108 megapixels": ("JPEG", (12000, 9000), {"subsampling": 0}, (3000, 2250)),
    "a screenshot of an 8K display": ("PNG", (7680, 4320), {"compress_level": 1}, (3840, 2160)),
    "the same as TIFF": ("TIFF", (7680, 4320), {"compression": "tiff_deflate"}, (3840, 2160)),
    "the same as WebP": ("WEBP", (7680, 4320), {"method": 0}, (3840, 2160)),
    "the same as AVIF": ("AVIF", (7680, 4320), {"speed": 10}, (3840, 2160)),
}


@pytest.mark.parametrize("name", REAL)
def test_large_images_of_today(name):
    """By their corners, and below the memory that is promised."""
    kind, size, options, wanted = REAL[name]
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    data = saved(image, kind, **options)
    del image
    said, memory, _ = peak(data)
    assert said == f"opened {wanted[0]} {wanted[1]}"
    assert memory < MAX_MEMORY / MIB
    opened = decode(data)
    for x, colour in ((0, RED), (wanted[0] // 2 - 9, RED), (wanted[0] // 2 + 9, BLUE), (wanted[0] - 1, BLUE)):
        assert near(pixel(opened, x, wanted[1] - 1), colour)


def empty(mode: str, width: int, height: int, kind: str = "PNG", **tags: list[int]) -> bytes:
    """A file of zeros, made without the image: a PNG, or a TIFF in one strip."""
    depth, colour, bits = {
        "1": (1, 0, 1),
        "L": (8, 0, 8),
        "P": (8, 3, 8),
        "I;16": (16, 0, 16),
        "LA": (8, 4, 16),
        "RGB": (8, 2, 24),
        "RGB;16": (16, 2, 48),
        "RGBA": (8, 6, 32),
        "CMYK": (8, 0, 32),
    }[mode]
    row = -(-width * bits // 8) + (kind == "PNG")
    body = zeros(-(-row * height // MIB))
    if kind == "PNG":
        start = png(width, height, b"", *[chunk(b"PLTE", bytes(3))] * (mode == "P"), depth=depth, colour=colour)
        return start.replace(chunk(b"IDAT", zlib.compress(b"")), chunk(b"IDAT", body))
    samples = bits // depth
    kinds = {"RGB": 2, "RGB;16": 2, "RGBA": 2, "CMYK": 5}
    extra = {"t338": [2]} if mode in ("RGBA", "LA") else {}
    return tiff(
        body,
        t256=[width],
        t257=[height],
        t258=[depth] * samples,
        t259=[8],
        t262=[kinds.get(mode, 1)],
        t273=[0],
        t277=[samples],
        t278=[height],
        t279=[len(body)],
        **extra,
        **tags,
    )


def flat(mode: str, width: int, height: int, kind: str, **options) -> bytes:
    return saved(Image.new(mode, (width, height)), kind, **options)


LARGEST: dict[str, Callable[[int, int], bytes]] = {
    **{f"PNG {mode}": partial(empty, mode) for mode in ("L", "I;16", "RGB", "RGB;16", "RGBA")},
    **{f"TIFF {mode}": partial(empty, mode, kind="TIFF") for mode in ("L", "RGB", "RGB;16", "RGBA")},
    "progressive JPEG L": partial(flat, "L", kind="JPEG", progressive=True),
    "progressive JPEG CMYK": partial(flat, "CMYK", kind="JPEG", progressive=True),
    "WebP RGBA": partial(flat, "RGBA", kind="WEBP", method=0, lossless=True, quality=0),
    "GIF P": partial(flat, "P", kind="GIF"),
    "BMP 1": partial(flat, "1", kind="BMP"),
}


@pytest.mark.parametrize("kind", LARGEST)
def test_the_largest_images_that_are_accepted(kind):
    """By format and mode; larger ones are refused by a sentence that says how many are accepted."""
    make, (name, mode) = LARGEST[kind], kind.rsplit(" ", 1)
    if name == "progressive JPEG":
        too_large = resized(saved(Image.new(mode, (16, 16)), "JPEG", progressive=True, subsampling=0), 20_000)
    else:
        too_large = make(5000, {"GIF": 50_000, "WebP": 12_000, "BMP": 30_000}.get(name, 120_000))
    said, memory, _ = peak(too_large)
    assert re.match(rf"The image has [0-9]+ × [0-9]+ pixels: {name} of this kind is accepted up to ", said)
    assert memory < 60
    (accepted,) = re.findall("up to ([0-9]+) million", said)
    megapixels = int(accepted)
    side = int((megapixels * 1e6) ** 0.5) // 16 * 16
    said, memory, _ = peak(make(side, side))
    assert said.startswith("opened")
    assert memory < MAX_MEMORY / MIB
    assert megapixels == 64 or memory > 0.3 * MAX_MEMORY / MIB  # what else limits them


def test_a_large_tiff_that_is_turned():
    """Pillow turns it at its full size."""
    data = empty("RGB", 6500, 6500, "TIFF", t274=[6])
    said, memory, _ = peak(data)
    assert said == "opened 3250 3250"
    assert memory < MAX_MEMORY / MIB


def test_one_row_of_twenty_million():
    assert decode(empty("RGB", 20_000_000, 1)).size == (4096, 1)
    assert decode(empty("RGB", 300_000, 200)).size == (4055, 3)


def test_jpeg_of_many_scans():
    assert decode(scans(64, 50)).size == (64, 64)


def test_tiff_by_hand():
    """The builder of the next tests makes proper files."""
    image = decode(tiff(bytes(range(12)), t256=[4], t257=[3], t278=[1], t273=[0, 4, 8], t279=[4, 4, 4]))
    assert image.tobytes()[::3] == bytes(range(12))
    body = zlib.compress(bytes(range(12)))
    assert decode(tiff(body, t256=[4], t257=[3], t259=[8], t278=[3], t273=[0], t279=[len(body)])).size == (4, 3)


def test_tiff_with_a_tile_larger_than_the_image():
    body = zlib.compress(bytes(1024))
    tags = {"t256": [16], "t257": [16], "t259": [8], "t324": [0], "t325": [len(body)]}
    assert decode(tiff(body, t322=[32], t323=[32], **tags)).size == (16, 16)


def test_tiff_whose_directory_is_its_own_next():
    data = bytearray(tiff(bytes(4), t256=[2], t257=[2], t278=[2], t273=[0], t279=[4]))
    data[-4:] = data[4:8]
    assert decode(bytes(data)).size == (2, 2)


def test_big_tiff_is_refused():
    problem(b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) + bytes(64))
    problem(b"MM\0+\0\x08\0\0" + struct.pack(">Q", 16) + bytes(64))


# -- files made to hurt ---------------------------------------------------------------------

OPENED = {
    "a PNG whose pixels go on": "opened 1 1",
    "a PNG of nine million orientations": "opened 3 2",
    "a GIF of long comments": "opened 4 4",
    "a TIFF of rows far beyond it": "opened 16 16",
    "a JPEG of a hundred scans": "opened 4096 4096",
    "a JPEG of four hundred scans": "opened 2000 2000",
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_file_made_to_hurt_takes_what_is_allowed(name):
    """Of time, which is cut to a second here, and memory. It opens, or is refused by one sentence."""
    said, memory, used = peak(PICTURES[name](), 3 if name in OPENED else 1)
    if name in OPENED:
        assert said == OPENED[name]
    elif said != "The image takes more than 1 s to read.":
        check_sentence(ImageError(said))
    assert memory < MAX_MEMORY / MIB
    assert used < 3.5


def own_memory() -> int:
    """What this process holds and has held at most, in MiB."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("memory is read from /proc")
    (most,) = re.findall(r"VmHWM:\s+([0-9]+)", status.read_text(encoding="utf-8"))
    return int(most) // 2**10


@pytest.mark.parametrize("name", ["a BMP of runs of one pixel", "a GIF of a comment in small parts"])
def test_a_file_made_to_hurt_leaves_this_process_alone(name, monkeypatch):
    """With the bounds that hold for everybody: on time for the first, which a fast processor may keep to, and on memory."""
    monkeypatch.setattr(confined, "CLOCK_FACTOR", 100)
    data = PICTURES[name]()
    before, start = own_memory(), time.process_time()
    refusal = ""
    try:
        assert open_image(data).size == (4000, 2400)
    except ImageError as error:
        check_sentence(error)
        refusal = str(error)
    assert re.search(r"^$|takes more than (3 s to read|0\.6 GiB)|more memory than the 0\.6 GiB", refusal)
    assert time.process_time() < start + 1  # the work is the other process's
    assert own_memory() < before + 2 * len(data) / MIB + 20
    assert open_image(jpeg()).size == (16, 16)


def test_a_photograph_does_not_wait_for_files_that_take_long():
    """Three of them are at work, and a fourth person comes."""
    with confined.PLACES.place(1), confined.PLACES.place(1), confined.PLACES.place(1):
        assert open_image(jpeg()).size == (16, 16)


PIXELS = bytes(12)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b"2\n",
        b'"size"\n',
        b'{"size": [2, 2]}\n' + PIXELS[1:],
        b'{"size": [2, 2]}' + PIXELS,
        b'{"size": [2, 2]}\n' + PIXELS + b"x",
        b'{"size": [-2, -2]}\n' + PIXELS,
        b'{"size": [2.0, 2]}\n' + PIXELS,
        b'{"size": [true, 4]}\n' + PIXELS,
        b'{"size": [2, 2, 1]}\n' + PIXELS,
        b'{"size": "22"}\n' + PIXELS,
        b'{"size": [12, 0]}\n',
        b'{"size": [5000, 1]}\n' + bytes(15_000),
        b"[" * 900,
        b'{"problem": 3}\n',
        b"\xff\n",
    ],
)
def test_what_a_process_answers_is_checked(answer, monkeypatch):
    """For a file may have taken it over."""
    monkeypatch.setattr(images, "confined", lambda *_, **__: answer)
    with pytest.raises(ImageError) as caught:
        open_image(jpeg())
    assert "decoded" in check_sentence(caught.value)


def test_what_a_process_says_is_shown_as_text(monkeypatch):
    answers = iter([b'{"size": [2, 2]}\n' + PIXELS, json.dumps({"problem": "\x1b[31m\n\u202e" * 30}).encode() + b"\n"])
    monkeypatch.setattr(images, "confined", lambda *_, **__: next(answers))
    assert open_image(jpeg()).tobytes() == PIXELS
    with pytest.raises(ImageError) as caught:
        open_image(jpeg())
    assert str(caught.value).startswith(r"\x1b[31m\n\u202e\x1b")
    assert len(str(caught.value)) == 300


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, memoryview, np.frombuffer, lambda data: memoryview(data + data)[::2]]
)
def test_bytes_of_any_kind(kind):
    data = jpeg()
    given = kind(data, np.uint8) if kind is np.frombuffer else kind(data)
    assert survives(given, open_image) is not None or len(given) == len(data)


@pytest.mark.parametrize("given", [None, 3, "image.jpg", [1, 2], Path("image.jpg"), io.BytesIO(b"x"), jpeg])
def test_what_is_no_bytes_is_a_sentence(given):
    with pytest.raises(ImageError, match=r"is given as .*: its bytes are accepted, as Path\.read_bytes") as caught:
        open_image(given)
    check_sentence(caught.value)


def box_says(data: bytes, width: int, height: int) -> bytes:
    """An AVIF or HEIC whose container says another size than its pixels have."""
    return re.sub(rb"ispe\0\0\0\0.{8}", b"ispe\0\0\0\0" + struct.pack(">LL", width, height), data, flags=re.DOTALL)


FAST: dict[str, dict[str, Any]] = {"AVIF": {"speed": 10}, "HEIF": {"enc_params": {"preset": "ultrafast"}}}
APART: dict[str, tuple[str, dict[str, Any]]] = {
    "AVIF L": ("L", {}),
    "AVIF RGB": ("RGB", {"subsampling": "4:4:4"}),
    "AVIF RGBA": ("RGBA", {"subsampling": "4:4:4"}),
    "HEIF L": ("L", {}),
    "HEIF RGB": ("RGB", {}),
    "HEIF RGB 4:4:4": ("RGB", {"chroma": 444}),
    "HEIF RGBA 4:4:4": ("RGBA", {"chroma": 444}),
    "HEIF in tiles": ("RGB", {"tile_size": 1024}),
}


@pytest.mark.parametrize("kind", APART)
def test_bytes_of_a_pixel_that_a_container_takes(kind):
    """What the limits are made of, against the memory of the process: above it, and not far."""
    name, (mode, options) = kind[:4], APART[kind]
    options = options | FAST[name]
    data = saved(Image.linear_gradient("L").resize((4000, 4000)).convert(mode), name, **options)
    held = decoder._held(decoder._header(data))
    base = peak(saved(Image.new(mode, (16, 16)), name, **options))[1]
    said, memory, _ = peak(data)
    assert said == "opened 4000 4000"
    result = 16_000_000 * 4
    assert 0.6 * held < (memory - base) * MIB < held + result
    said, memory, _ = peak(box_says(data, 30_000, 30_000))
    assert "30000 × 30000 pixels" in said or "decoded" in said
    assert memory < base + 20


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_a_container_that_says_less_than_it_holds(kind):
    """The system bounds the memory of its decoder, whatever the file says."""
    data = box_says(saved(Image.new("RGB", (6000, 4000), RED), kind, **FAST[kind]), 64, 64)
    survives(data, open_image)
    limited = confined.confined(images.PROGRAM, jpeg(), images.MAX_ANSWER_BYTES, memory=140 * MIB)
    assert json.loads(limited.partition(b"\n")[0]) == {"size": [16, 16]}
    try:
        limited = confined.confined(images.PROGRAM, data, images.MAX_ANSWER_BYTES, memory=140 * MIB)
    except confined.ConfinedError:
        return
    answer = json.loads(limited.partition(b"\n")[0])
    assert answer.get("size") == [64, 64] or check_sentence(ImageError(answer["problem"]))


def test_a_process_that_fails_or_does_not_start_is_a_sentence(monkeypatch):
    for program, words in (("/bin/false", "damaged"), ("/nowhere", "cannot be read now .No such file or directory.")):
        monkeypatch.setattr(sys, "executable", program)
        with pytest.raises(ImageError, match=words):
            open_image(jpeg())


def test_an_image_that_no_thread_can_watch_is_a_sentence(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ImageError, match=r"\AThe image cannot be read now \(can't start new thread\): try again"):
        open_image(jpeg())


def test_a_decoder_that_is_not_installed_is_a_sentence(monkeypatch):
    """With a way out; the other formats still open."""
    avif, heif = (saved(Image.new("RGB", (64, 64), RED), kind) for kind in ("AVIF", "HEIF"))
    monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    for data, words in (
        (avif, "an AVIF, for which this server has no decoder"),
        (heif, "a phone writes when its camera"),
    ):
        with pytest.raises(DecodeError) as caught:
            decode(data)
        assert words in check_sentence(caught.value)
    assert decode(jpeg()).size == (16, 16)


# -- damage ---------------------------------------------------------------------------------
# Decoded in this process, which is quick, but for a few.


@cache
def seeds() -> dict[str, bytes]:
    """Small files of every kind, with content that compresses badly."""
    rng = random.Random(3)
    rgb = Image.frombytes("RGB", (24, 18), rng.randbytes(24 * 18 * 3))
    rgba = Image.frombytes("RGBA", (24, 18), rng.randbytes(24 * 18 * 4))
    grey = Image.frombytes("L", (24, 18), rng.randbytes(24 * 18))
    deep = Image.frombytes("I;16", (24, 18), rng.randbytes(24 * 18 * 2))
    palette = rgb.quantize(16)
    exif = Image.Exif()
    exif[274] = 6
    exif[305] = "a camera"
    frames = {"append_images": [rgb.rotate(90), rgb.rotate(180)]}
    return {
        "jpeg": saved(rgb, "JPEG", exif=exif),
        "jpeg progressive": saved(rgb, "JPEG", progressive=True),
        "jpeg cmyk": saved(rgb.convert("CMYK"), "JPEG"),
        "jpeg of two": saved(rgb, "MPO", **frames),
        "png": saved(rgb, "PNG", exif=exif),
        "png alpha": saved(rgba, "PNG"),
        "png palette": saved(palette, "PNG", transparency=bytes(range(0, 256, 16))),
        "png deep": saved(deep, "PNG"),
        "png animated": saved(rgb, "PNG", **frames),
        "webp": saved(rgb, "WEBP", exif=exif),
        "webp lossless": saved(rgba, "WEBP", lossless=True),
        "webp animated": saved(rgb, "WEBP", **frames),
        "gif": saved(palette, "GIF", transparency=3),
        "gif animated": saved(rgb, "GIF", **frames),
        "bmp": saved(rgb, "BMP"),
        "bmp palette": saved(palette, "BMP"),
        "tiff": saved(rgb, "TIFF", exif=exif),
        "tiff deflated": saved(rgba, "TIFF", compression="tiff_deflate"),
        "tiff lzw": saved(palette, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": saved(rgb, "TIFF", compression="jpeg"),
        "tiff fax": saved(grey.convert("1"), "TIFF", compression="group4"),
        "tiff real": saved(grey.convert("F"), "TIFF"),
        "tiff deep": saved(deep, "TIFF", compression="packbits"),
        "tiff pages": saved(rgb, "TIFF", **frames),
        "avif": saved(rgba, "AVIF", exif=exif),
        "heif": saved(rgb, "HEIF", exif=exif),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", seeds())
def test_truncated(name):
    data = seeds()[name]
    assert survives(data) is not None
    for tenth in range(10):
        survives(data[: len(data) * tenth // 10])
    for few in range(1, 40):
        survives(data[:few])
        survives(data[:-few])
    survives(data[: len(data) // 2], open_image)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", seeds())
def test_mutated(name):
    rng = random.Random(name)
    data = seeds()[name]
    opened = 0
    rounds = 60
    for _ in range(rounds):
        mutant = bytearray(data)
        for _ in range(rng.choice((1, 2, 4, 8, 30))):
            # Headers decide most, so half of the damage goes there.
            at = rng.randrange(min(200, len(mutant)) if rng.random() < 0.5 else len(mutant))
            how = rng.randrange(4)
            if how == 0:
                mutant[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            elif how == 1:
                mutant[at] ^= 1 << rng.randrange(8)
            elif how == 2:
                del mutant[at : at + rng.randrange(1, 9)]
            else:
                mutant[at:at] = rng.randbytes(rng.randrange(1, 9))
        opened += survives(bytes(mutant)) is not None
    assert opened < rounds  # some damage is noticed, so the loop does reach the decoders


@pytest.mark.filterwarnings("ignore")
def test_random_bytes_behind_every_signature():
    rng = random.Random(11)
    for start in (
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"BM",
        b"II*\0\x08\0\0\0",
        b"MM\0*\0\0\0\x08",
        b"RIFF\0\1\0\0WEBPVP8 ",
    ):
        for _ in range(20):
            survives(start + rng.randbytes(rng.randrange(200)))


@pytest.mark.parametrize(
    "raised",
    [MemoryError(), RecursionError(), AssertionError(), zlib.error(), struct.error(), OverflowError(), EOFError()],
)
def test_whatever_pillow_raises_is_one_sentence(monkeypatch, raised):
    def fail(*_, **__):
        raise raised

    monkeypatch.setitem(decoder._READERS, rb"\xff\xd8\xff", fail)
    text = problem(jpeg())
    assert ("memory" if isinstance(raised, MemoryError) else "decoded") in text


def test_warnings_that_are_errors_change_nothing():
    data = headers(30_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in data:
            survives(data[kind])
        assert decode(jpeg()).size == (16, 16)


# -- the server -----------------------------------------------------------------------------


def test_pillow_is_left_as_it_was():
    def settings() -> tuple:
        return (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, ImageFile.MAXBLOCK, list(warnings.filters))

    before = settings()
    for data in (jpeg(), headers(60_000)["PNG"], b"text", jpeg()[:200]):
        survives(data)
    assert settings() == before


def test_many_threads():
    colours = [(r, g, b) for r in (0, 120, 240) for g in (0, 240) for b in (0, 240)]
    files = [saved(Image.new("RGB", (40, 30), colour), kind) for colour in colours for kind in ("PNG", "WEBP")]
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(open_image, files))
    for index, image in enumerate(opened):
        assert near(pixel(image, 20, 15), colours[index // 2])


# -- samples --------------------------------------------------------------------------------


def test_samples_open():
    for sample in samples():
        image = sample.image()
        if sample.file.startswith("fashion/"):
            assert image.size == (28, 28)
            red, green, blue = image.split()
            assert red.tobytes() == green.tobytes() == blue.tobytes()
        else:
            assert min(image.size) >= 224
        assert len(sample.open()) <= 200_000
    assert samples()[0].image().tobytes() == open_image(samples()[0].open()).tobytes()


def test_a_sample_that_is_missing_or_damaged_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("explorer.inference.samples._SAMPLES", tmp_path)
    (tmp_path / "cut.jpg").write_bytes(jpeg()[:100])
    (tmp_path / "folder.jpg").mkdir()
    for name in ("missing.jpg", "cut.jpg", "folder.jpg"):
        with pytest.raises(
            ImageError, match=r"^The sample .* is missing or damaged: installing the app again mends it\.$"
        ):
            Sample("a", name, "", "", "").image()


def test_samples_cover_the_ten_classes():
    fashion = [sample for sample in samples() if sample.file.startswith("fashion/")]
    labels = [sample.label for sample in fashion]
    assert len(fashion) >= 24
    assert set(labels) == CLASSES
    assert min(map(labels.count, CLASSES)) >= 2
    for sample in fashion:
        index, _, word = sample.name.partition("-")
        assert sample.source.endswith(f"test image {int(index)}")
        assert word == re.sub("[^a-z]+", "-", sample.label.lower())
    assert len(samples()) - len(fashion) >= 4


def test_samples_are_listed_once_with_source_and_licence():
    folder = Path(images.__file__).parents[1] / "samples"
    files = {str(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.suffix in (".png", ".jpg")}
    assert files == {sample.file for sample in samples()}
    assert len({sample.name for sample in samples()}) == len(samples())
    assert all(sample.label and sample.source for sample in samples())
    assert {sample.licence for sample in samples()} == {"CC0 1.0", "Public domain", "MIT"}
