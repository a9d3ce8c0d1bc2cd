"""`explorer.images`: what strangers upload, and the samples."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pillow_heif
import pytest
from PIL import AvifImagePlugin, Image, ImageFile

from explorer import images
from explorer.images import ACCEPTED, MAX_BYTES, MAX_MEMORY, MAX_SIDE_AFTER, ImageError, open_image, samples

pillow_heif.register_heif_opener()

MIB = 2**20
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
CLASSES = {
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
}  # fmt: skip


# -- building files -------------------------------------------------------------------------


def saved(picture: Image.Image, kind: str, append_images: Sequence[Image.Image] = (), **options) -> bytes:
    """The bytes of a file. Copies are saved, since saving leaves settings of one format in a picture."""
    if append_images:
        options |= {"save_all": True, "append_images": [frame.copy() for frame in append_images]}
    stream = io.BytesIO()
    picture.copy().save(stream, kind, **options)
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes, *chunks: bytes, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG by hand; `rows` are raw rows, each after its filter byte."""
    header = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + body


def bmp(width: int, height: int) -> bytes:
    return struct.pack("<2sLHHL LllHHLLllLL", b"BM", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 1, 1, 0, 0)[:54]


def tiff(body: bytes, **tags: list[int]) -> bytes:
    """A grey 8-bit TIFF by hand: `body`, then a directory of LONG values; t273 is counted from the start of body."""
    values = {258: [8], 259: [1], 262: [1], 277: [1]} | {int(name[1:]): list(value) for name, value in tags.items()}
    for tag in (273, 324):
        if tag in values:
            values[tag] = [8 + offset for offset in values[tag]]
    body += b"\0" * (len(body) % 2)
    tables, entries = b"", b""
    where = 8 + len(body) + 2 + 12 * len(values) + 4
    for tag, value in sorted(values.items()):
        raw = struct.pack(f"<{len(value)}L", *value)
        entries += struct.pack("<HHL", tag, 4, len(value))
        entries += raw if len(raw) == 4 else struct.pack("<L", where + len(tables))
        tables += raw if len(raw) > 4 else b""
    return (
        struct.pack("<2sHL", b"II", 42, 8 + len(body))
        + body
        + struct.pack("<H", len(values))
        + entries
        + bytes(4)
        + tables
    )


def zeros(mebibytes: int) -> bytes:
    """So many MiB of zeros, deflated; built of equal blocks to be quick."""
    packer = zlib.compressobj(9)
    first, block = (packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in "12")
    end = zlib.compress(b"")[2:-4]
    checksum = struct.pack(">L", (mebibytes * MIB % 65521) << 16 | 1)  # Adler-32 of zeros
    return first + block * (mebibytes - 1) + end + checksum


def jpeg(side: int = 16) -> bytes:
    return saved(Image.new("RGB", (side, side), RED), "JPEG")


# -- asserting ------------------------------------------------------------------------------


def check_sentence(error: ImageError) -> str:
    text = str(error)
    assert re.fullmatch(r"(The file|The picture) [^\n]{10,190}\.", text), text
    assert not re.search(r"Error|Traceback|Exception|PIL|object at|0x|b'", text), text
    assert "accepted" in text
    return text


def problem(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(data)
    return check_sentence(caught.value)


def survives(data: bytes) -> Image.Image | None:
    """The picture, or None after a proper ImageError; anything else fails the test."""
    try:
        picture = open_image(data)
    except ImageError as error:
        check_sentence(error)
        return None
    assert picture.mode == "RGB"
    assert 1 <= min(picture.size) <= max(picture.size) <= MAX_SIDE_AFTER
    return picture


def near(pixel: tuple[int, ...], wanted: tuple[int, ...], by: int = 12) -> bool:
    return len(pixel) == len(wanted) and all(abs(a - b) <= by for a, b in zip(pixel, wanted, strict=True))


MEASURE = """
import importlib.util, resource, sys
spec = importlib.util.spec_from_file_location("images", sys.argv[1])
images = sys.modules["images"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(images)
peak = lambda: int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
data = open(sys.argv[2], "rb").read()
before = peak()
try:
    print("opened", *images.open_image(data).size)
except images.ImageError as error:
    print(error)
print((peak() - before + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) // 1024)
"""


@pytest.fixture
def peak(tmp_path):
    """Opens bytes in a process of its own: (what it printed, peak memory in MiB with its children's, seconds)."""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")

    def measure(data: bytes) -> tuple[str, int, float]:
        file = tmp_path / "upload"
        file.write_bytes(data)
        start = time.perf_counter()
        command = [sys.executable, "-W", "ignore", "-c", MEASURE, images.__file__, str(file)]
        out = subprocess.run(
            command, capture_output=True, encoding="utf-8", check=True, timeout=120
        ).stdout.splitlines()
        return out[0], int(out[1]), time.perf_counter() - start

    return measure


# -- ordinary pictures ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "MPO"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (37, 21)])
def test_every_format_keeps_size_and_colour(kind, size):
    picture = open_image(saved(Image.new("RGB", size, (200, 30, 90)), kind))
    assert type(picture) is Image.Image
    assert (picture.mode, picture.size) == ("RGB", size)
    assert near(picture.getpixel((size[0] // 2, size[1] // 2)), (200, 30, 90))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_keep_every_pixel(kind):
    raw = random.Random(5).randbytes(31 * 17 * 3)
    assert open_image(saved(Image.frombytes("RGB", (31, 17), raw), kind)).tobytes() == raw


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_one_bit(kind):
    picture = Image.new("1", (10, 3))
    picture.putpixel((7, 2), 1)
    opened = open_image(saved(picture, kind))
    assert [(x, y) for x in range(10) for y in range(3) if opened.getpixel((x, y)) == WHITE] == [(7, 2)]


def test_a_phones_second_picture_in_a_jpeg_is_ignored():
    data = saved(Image.new("RGB", (20, 10), RED), "MPO", append_images=[Image.new("RGB", (20, 10), BLUE)])
    assert near(open_image(data).getpixel((0, 0)), RED)


def test_a_phones_film_after_a_jpeg_is_ignored():
    assert open_image(jpeg() + random.Random(0).randbytes(8 * MIB)).size == (16, 16)


# The edges of the upright picture at which the first stored row and the first stored column lie (EXIF 2.3, tag 274).
ORIENTATIONS = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip
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
    exif = exif.tobytes() if kind == "HEIF" else exif  # which its writer turns into a property that the reader obeys
    picture = open_image(saved(stored, kind, exif=exif, **options))

    row, column = ORIENTATIONS[orientation]
    assert picture.size == ((64, 32) if row in ("top", "bottom") else (32, 64))
    place = {"top": 6, "left": 6, "bottom": picture.height - 6, "right": picture.width - 6}

    def at(*edges: str) -> tuple[int, ...]:
        (x,) = (place[edge] for edge in edges if edge in ("left", "right"))
        (y,) = (place[edge] for edge in edges if edge in ("top", "bottom"))
        return picture.getpixel((x, y))

    assert near(at(row, column), RED, 40)
    assert near(at(row, OPPOSITE[column]), BLUE, 40)
    assert near(at(OPPOSITE[row], column), GREEN, 40)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_leaves_the_picture(kind, exif):
    assert open_image(saved(Image.new("RGB", (8, 4)), kind, exif=exif)).size == (8, 4)


def test_exif_without_end_is_not_read(peak):
    """Nine million orientations."""
    exif = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHLL", 274, 3, 9_000_000, 26) + bytes(18_000_004)
    said, memory, _ = peak(png(3, 2, b"\0\1\2\3" * 2, chunk(b"eXIf", exif)))
    assert said == "opened 3 2"
    assert memory < 100


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
    assert near(open_image(saved(Image.new(mode, (3, 2), colour), kind)).getpixel((1, 1)), wanted, 1)


@pytest.mark.parametrize(
    ("kind", "options", "by"),
    [("WEBP", {"lossless": True}, 1), ("AVIF", {"quality": 100}, 3), ("HEIF", {"quality": 95}, 6)],
)
def test_alpha_lies_over_white_where_colours_are_packed(kind, options, by):
    data = saved(Image.new("RGBA", (64, 64), (0, 0, 255, 51)), kind, **options)
    assert near(open_image(data).getpixel((40, 40)), (204, 204, 255), by)


@pytest.mark.parametrize("alphas", [bytes([255, 0, 51]), 1])
def test_palette_transparency_lies_over_white(alphas):
    picture = Image.new("P", (3, 1))
    picture.putpalette([*RED, *GREEN, *BLUE])
    picture.putdata([0, 1, 2])
    opened = open_image(saved(picture, "PNG", transparency=alphas))
    blue = BLUE if alphas == 1 else (204, 204, 255)
    assert [opened.getpixel((x, 0)) for x in range(3)] == [RED, WHITE, blue]


def test_gif_transparency_lies_over_white():
    picture = Image.new("P", (2, 1))
    picture.putpalette([*RED, *GREEN])
    picture.putdata([0, 1])
    opened = open_image(saved(picture, "GIF", transparency=1))
    assert [opened.getpixel((x, 0)) for x in range(2)] == [RED, WHITE]


def test_a_transparent_colour_lies_over_white():
    opened = open_image(png(2, 1, b"\0\x07\x08", chunk(b"tRNS", b"\0\x07")))
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
    assert open_image(data).tobytes() == bytes(grey for grey in range(256) for _ in "rgb")


def test_sixteen_bit_values_are_rounded():
    data = png(4, 1, b"\0" + struct.pack(">4H", 128, 129, 65406, 65407), depth=16)
    assert open_image(data).tobytes()[::3] == bytes([0, 1, 254, 255])


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
    assert list(open_image(saved(Image.frombytes(mode, (3, 1), raw), "TIFF")).tobytes()[::3]) == wanted


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 1])
def test_numbers_that_are_none_still_give_a_picture(odd, place):
    values = [0.5, 0.5]
    values[place] = odd
    raw = struct.pack("=2f", *values)
    assert open_image(saved(Image.frombytes("F", (2, 1), raw), "TIFF")).size == (2, 1)


@pytest.mark.parametrize(
    ("ink", "wanted"), [((0, 255, 255, 0), RED), ((255, 255, 0, 0), BLUE), ((0, 0, 0, 255), (0, 0, 0))]
)
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind, ink, wanted):
    assert near(open_image(saved(Image.new("CMYK", (16, 16), ink), kind)).getpixel((8, 8)), wanted)


@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_other_colour_spaces_of_tiff(mode):
    grey = Image.new(mode, (4, 4), (128, 128, 128))
    red, green, blue = open_image(saved(grey, "TIFF")).getpixel((1, 1))
    assert max(red, green, blue) - min(red, green, blue) <= (2 if mode == "YCbCr" else 255)


# -- several pictures in one ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF", "HEIF", "MPO"])
def test_the_first_picture_counts(kind):
    """Of an animation, an APNG among them, of a file of pages, and of a phone's several pictures."""
    frames = [Image.new("RGB", (24, 16), colour) for colour in (RED, GREEN, BLUE)]
    picture = open_image(saved(frames[0], kind, append_images=frames[1:]))
    assert picture.size == (24, 16)
    assert near(picture.getpixel((12, 8)), RED, 20)


def test_later_frames_cost_nothing(peak):
    frames = [Image.new("P", (3000, 3000), index) for index in range(2)]
    for kind in ("GIF", "TIFF"):
        options = {"compression": "tiff_deflate"} if kind == "TIFF" else {}
        data = saved(frames[0], kind, append_images=[frames[1]] * 12, **options)
        said, memory, seconds = peak(data)
        assert said == "opened 3000 3000"
        assert memory < 120
        assert seconds < 10


# -- size -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("size", [(20_000, 10), (10, 20_000)])
def test_extreme_aspect(kind, size):
    picture = Image.new("RGB", size, RED)
    picture.paste(BLUE, (size[0] // 2 if size[0] > size[1] else 0, size[1] // 2 if size[1] > size[0] else 0, *size))
    opened = open_image(saved(picture, kind))
    # A fifth; for JPEG a quarter by its decoder, and then half of that.
    long = 2500 if kind == "JPEG" else 4000
    assert opened.size == ((long, 2) if size[0] > size[1] else (2, long))
    assert near(opened.getpixel((0, 0)), RED)
    assert near(opened.getpixel((opened.width - 1, opened.height - 1)), BLUE)


def test_one_row_of_sixty_thousand():
    assert open_image(saved(Image.new("RGB", (60_000, 1), RED), "PNG")).size == (4000, 1)


@pytest.mark.parametrize(("width", "wanted"), [(4096, 4096), (4097, 2049)])
def test_the_side_at_which_pictures_are_reduced(width, wanted):
    assert open_image(saved(Image.new("L", (width, 3)), "PNG")).width == wanted


def test_reducing_averages():
    """Across the strips in which a picture is converted: 6000 × 700 pixels are four of them."""
    raw = random.Random(1).randbytes(6000 * 700)
    opened = open_image(saved(Image.frombytes("L", (6000, 700), raw), "PNG", compress_level=1))
    assert opened.size == (3000, 350)
    for x, y in [(0, 0), (2999, 349), (17, 86), (17, 87), (17, 88), (1234, 174)]:
        four = [raw[(2 * y + dy) * 6000 + 2 * x + dx] for dy in (0, 1) for dx in (0, 1)]
        assert abs(opened.getpixel((x, y))[0] - sum(four) / 4) <= 0.5


def test_transparency_is_reduced_without_fringes():
    """Black that nobody sees must not darken white beside it."""
    picture = Image.new("RGBA", (5000, 2), (0, 0, 0, 0))
    picture.paste((255, 255, 255, 255), (0, 0, 5000, 1))
    assert open_image(saved(picture, "PNG")).getextrema() == ((255, 255),) * 3


def test_a_large_jpeg_is_reduced_as_it_is_decoded(peak):
    said, memory, _ = peak(saved(Image.new("RGB", (8000, 6000), RED), "JPEG"))
    assert said == "opened 4000 3000"
    assert memory < 200  # 48 million pixels of 4 bytes would be 183 MiB, before any copy


# -- refusals -------------------------------------------------------------------------------


def test_empty():
    assert "empty" in problem(b"")


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
def test_what_is_no_picture(data):
    assert f"{ACCEPTED} is accepted." in problem(data)


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "PCX", "JPEG2000", "EPS", "DDS", "SGI", "DIB"])
def test_other_formats_of_pillow_are_out_of_reach(kind):
    data = saved(Image.new("RGB", (32, 32), RED), kind)
    with Image.open(io.BytesIO(data)) as pillow:
        assert pillow.size == (32, 32)
    assert f"{ACCEPTED} is accepted." in problem(data)


def test_file_size_limit():
    assert open_image(jpeg() + bytes(MAX_BYTES - len(jpeg()))).size == (16, 16)
    text = problem(jpeg() + bytes(MAX_BYTES - len(jpeg()) + 1))
    assert "20 MiB" in text


def resized(data: bytes, side: int) -> bytes:
    """A JPEG that says it has `side` pixels each way."""
    at = re.search(b"\xff[\xc0\xc2]\0", data).start() + 5
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
def test_bombs_are_refused_by_their_header(kind, side, peak):
    said, memory, seconds = peak(headers(side)[kind])
    check_sentence(ImageError(said))
    if kind != "WEBP":  # whose frame contradicts its canvas, which is noticed first
        assert f"{side} × {side} pixels" in said
        assert re.search(rf"{kind} of this kind is accepted up to [0-9]+ million pixels", said)
    assert memory < 40
    assert seconds < 5


@pytest.mark.parametrize("side", [60_000, 30_000])
def test_a_baseline_jpeg_of_any_size(side, peak):
    """It is decoded at an eighth; what the file lacks is grey."""
    said, memory, _ = peak(headers(side)["JPEG"])
    assert said == "opened 3750 3750"
    assert memory < MAX_MEMORY / MIB
    assert "progressive JPEG of this kind is accepted up to" in problem(
        resized(saved(Image.new("L", (16, 16)), "JPEG", progressive=True), side)
    )


# Pixels that a photograph or a screenshot of today has, and the size that it opens with: reduced by a whole number.
REAL = {
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
def test_large_pictures_of_today(name, peak):
    """By their corners, and below the memory that is promised."""
    kind, size, options, wanted = REAL[name]
    picture = Image.new("RGB", size, RED)
    picture.paste(BLUE, (size[0] // 2, 0, *size))
    data = saved(picture, kind, **options)
    del picture
    said, memory, _ = peak(data)
    assert said == f"opened {wanted[0]} {wanted[1]}"
    assert memory < MAX_MEMORY / MIB
    opened = open_image(data)
    for x, colour in ((0, RED), (wanted[0] // 2 - 9, RED), (wanted[0] // 2 + 9, BLUE), (wanted[0] - 1, BLUE)):
        assert near(opened.getpixel((x, wanted[1] - 1)), colour)


def empty(mode: str, width: int, height: int, kind: str = "PNG", **tags: list[int]) -> bytes:
    """A file of zeros, made without the picture: a PNG, or a TIFF in one strip."""
    depth, colour, bits = {
        "1": (1, 0, 1), "L": (8, 0, 8), "P": (8, 3, 8), "I;16": (16, 0, 16), "LA": (8, 4, 16), "RGB": (8, 2, 24),
        "RGB;16": (16, 2, 48), "RGBA": (8, 6, 32), "CMYK": (8, 0, 32),
    }[mode]  # fmt: skip
    row = -(-width * bits // 8) + (kind == "PNG")
    body = zeros(-(-row * height // MIB))
    if kind == "PNG":
        start = png(width, height, b"", *[chunk(b"PLTE", bytes(3))] * (mode == "P"), depth=depth, colour=colour)
        return start.replace(chunk(b"IDAT", zlib.compress(b"")), chunk(b"IDAT", body))
    samples = bits // depth
    kinds = {"RGB": 2, "RGB;16": 2, "RGBA": 2, "CMYK": 5}
    extra = {"t338": [2]} if mode in ("RGBA", "LA") else {}
    return tiff(
        body, t256=[width], t257=[height], t258=[depth] * samples, t259=[8], t262=[kinds.get(mode, 1)], t273=[0],
        t277=[samples], t278=[height], t279=[len(body)], **extra, **tags,
    )  # fmt: skip


def flat(mode: str, width: int, height: int, kind: str, **options) -> bytes:
    return saved(Image.new(mode, (width, height)), kind, **options)


LARGEST = {
    **{f"PNG {mode}": (lambda *size, mode=mode: empty(mode, *size)) for mode in ("L", "I;16", "RGB", "RGB;16", "RGBA")},
    **{
        f"TIFF {mode}": (lambda *size, mode=mode: empty(mode, *size, kind="TIFF"))
        for mode in ("L", "RGB", "RGB;16", "RGBA")
    },
    "progressive JPEG L": lambda *size: flat("L", *size, "JPEG", progressive=True),
    "progressive JPEG CMYK": lambda *size: flat("CMYK", *size, "JPEG", progressive=True),
    "WebP RGBA": lambda *size: flat("RGBA", *size, "WEBP", method=0, lossless=True, quality=0),
    "GIF P": lambda *size: flat("P", *size, "GIF"),
    "BMP 1": lambda *size: flat("1", *size, "BMP"),
}  # fmt: skip


@pytest.mark.parametrize("kind", LARGEST)
def test_the_largest_pictures_that_are_accepted(kind, peak):
    """By format and mode; larger ones are refused by a sentence that says how many are accepted."""
    make, (name, mode) = LARGEST[kind], kind.rsplit(" ", 1)
    if name == "progressive JPEG":
        too_large = resized(saved(Image.new(mode, (16, 16)), "JPEG", progressive=True, subsampling=0), 20_000)
    else:
        too_large = make(5000, {"GIF": 50_000, "WebP": 12_000, "BMP": 30_000}.get(name, 120_000))
    said, memory, _ = peak(too_large)
    megapixels = 150
    if name != "BMP":  # of which more do not fit into 20 MiB
        assert re.match(rf"The picture has [0-9]+ × [0-9]+ pixels: {name} of this kind is accepted up to ", said)
        assert memory < 40
        megapixels = int(re.search("up to ([0-9]+) million", said)[1])
    side = int((megapixels * 1e6) ** 0.5) // 16 * 16
    said, memory, _ = peak(make(side, side))
    assert said.startswith("opened")
    assert 0.3 * MAX_MEMORY / MIB < memory < MAX_MEMORY / MIB


def test_a_large_tiff_that_is_turned(peak):
    """Pillow turns it at its full size."""
    data = empty("RGB", 6500, 6500, "TIFF", t274=[6])
    said, memory, _ = peak(data)
    assert said == "opened 3250 3250"
    assert memory < MAX_MEMORY / MIB


def test_one_row_of_twenty_million():
    assert open_image(empty("RGB", 20_000_000, 1)).size == (4096, 1)
    assert open_image(empty("RGB", 300_000, 200)).size == (4055, 3)


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_png_with_a_huge_compressed_text(name, peak):
    start = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}[name]
    said, memory, seconds = peak(png(1, 1, b"\0\7", chunk(name, start + zeros(300))))
    check_sentence(ImageError(said))
    assert memory < 40
    assert seconds < 5


def test_png_with_many_compressed_texts(peak):
    text = zlib.compress(bytes(10**6), 9)
    texts = [chunk(b"zTXt", b"%d\0\0" % index + text) for index in range(500)]
    _, memory, seconds = peak(png(1, 1, b"\0\7", *texts))
    assert memory < 200
    assert seconds < 10


def test_png_whose_pixels_go_on(peak):
    """300 MiB behind the only row."""
    broken = png(1, 1, b"").replace(chunk(b"IDAT", zlib.compress(b"")), chunk(b"IDAT", zeros(300)))
    said, memory, seconds = peak(broken)
    assert said == "opened 1 1"
    assert memory < 40
    assert seconds < 5


@pytest.mark.parametrize(
    "spam",
    [b"\xff\xe0\0\2" * 4_000_000, b"\xff\xfe\0\2" * 4_000_000, b"\xff\xe1\0\x0aExif\0\0xx" * 1_000_000],
    ids=["segments", "comments", "exif"],
)
def test_jpeg_of_endless_metadata(spam, peak):
    data = jpeg()
    said, memory, seconds = peak(data[:2] + spam + data[2:])
    assert "decoded" in said
    assert memory < 40
    assert seconds < 5


def test_jpeg_of_endless_scans():
    data = saved(Image.new("L", (64, 64), 77), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    assert open_image(data[:-2] + last * 50 + b"\xff\xd9").size == (64, 64)
    assert "decoded" in problem(data[:-2] + last * 101 + b"\xff\xd9")


def test_tiff_by_hand():
    """The builder of the next tests makes proper files."""
    picture = open_image(tiff(bytes(range(12)), t256=[4], t257=[3], t278=[1], t273=[0, 4, 8], t279=[4, 4, 4]))
    assert picture.tobytes()[::3] == bytes(range(12))
    body = zlib.compress(bytes(range(12)))
    assert open_image(tiff(body, t256=[4], t257=[3], t259=[8], t278=[3], t273=[0], t279=[len(body)])).size == (4, 3)


def test_tiff_of_endless_strips(peak):
    many = 2_000_000
    said, memory, seconds = peak(tiff(b"x", t256=[1], t257=[many], t278=[1], t273=[0] * many, t279=[1] * many))
    assert "decoded" in said
    assert memory < 40
    assert seconds < 5


def test_tiff_with_strips_that_overlap(peak):
    """40,000 strips, each of which would read the same 16 million pixels."""
    offsets = [index % 7 for index in range(40_000)]
    data = tiff(bytes(16_000_010), t256=[4000], t257=[4001], t278=[4000], t273=offsets, t279=[16_000_000] * 40_000)
    said, memory, seconds = peak(data)
    assert "decoded" in said
    assert memory < 80
    assert seconds < 8


def test_tiff_with_a_tile_far_larger_than_the_picture(peak):
    body = zeros(977)
    tags = {"t256": [16], "t257": [16], "t259": [8], "t324": [0], "t325": [len(body)]}
    said, memory, seconds = peak(tiff(body, t322=[32_000], t323=[32_000], **tags))
    assert "32000 × 32000" in said
    assert memory < 40
    assert seconds < 5
    small = zlib.compress(bytes(1024))
    assert open_image(tiff(small, t322=[32], t323=[32], **(tags | {"t325": [len(small)]}))).size == (16, 16)


def test_tiff_with_rows_far_beyond_the_picture(peak):
    body = zeros(500)
    data = tiff(body, t256=[16], t257=[16], t259=[8], t278=[2**30], t273=[0], t279=[len(body)])
    _, memory, seconds = peak(data)
    assert memory < 40
    assert seconds < 5


def test_tiff_whose_directory_is_its_own_next():
    data = bytearray(tiff(bytes(4), t256=[2], t257=[2], t278=[2], t273=[0], t279=[4]))
    data[-4:] = data[4:8]
    assert open_image(bytes(data)).size == (2, 2)


def test_big_tiff_is_refused():
    problem(b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) + bytes(64))
    problem(b"MM\0+\0\x08\0\0" + struct.pack(">Q", 16) + bytes(64))


# -- decoders in a process of their own ----------------------------------------------------


def box_says(data: bytes, width: int, height: int) -> bytes:
    """An AVIF or HEIC whose container says another size than its pixels have."""
    return re.sub(rb"ispe\0\0\0\0.{8}", b"ispe\0\0\0\0" + struct.pack(">LL", width, height), data, flags=re.DOTALL)


FAST = {"AVIF": {"speed": 10}, "HEIF": {"enc_params": {"preset": "ultrafast"}}}
APART = {
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
def test_bytes_of_a_pixel_that_is_decoded_apart(kind, peak):
    """What the limits are made of, against the memory of that process: above it, and not far."""
    name, (mode, options) = kind[:4], APART[kind]
    options |= FAST[name]
    data = saved(Image.linear_gradient("L").resize((4000, 4000)).convert(mode), name, **options)
    held = images._held(images._header(data))
    base = peak(saved(Image.new(mode, (16, 16)), name, **options))[1]
    said, memory, _ = peak(data)
    assert said == "opened 4000 4000"
    result, parent = 16_000_000 * 4, 16_000_000 * (3 + 3 + 4)
    assert 0.6 * held < (memory - base) * MIB - result < held + parent
    said, memory, _ = peak(box_says(data, 30_000, 30_000))
    assert "30000 × 30000 pixels" in said or "decoded" in said
    assert memory < base + 20


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_a_container_that_says_less_than_it_holds(kind):
    """The system stops the process of a decoder that takes more than it may, whatever the file says."""
    data = box_says(saved(Image.new("RGB", (6000, 4000), RED), kind, **FAST[kind]), 64, 64)
    survives(data)
    limited = (
        MEASURE[: MEASURE.index("peak =")]
        + """
images.MAX_MEMORY, images._RESERVE = 40 * 2**20, 0
images._decode_for_parent()
"""
    )
    limited = [sys.executable, "-c", limited, images.__file__]
    said = subprocess.run(limited, input=data, capture_output=True, timeout=60, check=False).stdout
    assert not said or check_sentence(ImageError(json.loads(said.splitlines()[0])["problem"]))
    small = saved(Image.new("RGB", (64, 64), RED), kind)
    said = subprocess.run(limited, input=small, capture_output=True, timeout=60, check=True).stdout
    assert json.loads(said.splitlines()[0]) == {"size": [64, 64]}


def test_a_process_that_dies_or_does_not_end_is_a_sentence(monkeypatch):
    data = saved(Image.new("RGB", (64, 64), RED), "AVIF")
    assert open_image(data).size == (64, 64)
    monkeypatch.setattr(images, "_SECONDS", 0.01)
    assert "decoded" in problem(data)
    monkeypatch.undo()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert "decoded" in problem(data)


def test_a_decoder_that_is_not_installed_is_a_sentence(monkeypatch):
    """With a way out; the other formats still open."""
    avif, heif = (saved(Image.new("RGB", (64, 64), RED), kind) for kind in ("AVIF", "HEIF"))
    monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    for data, words in (
        (avif, "an AVIF, for which this server has no decoder"),
        (heif, "a phone writes when its camera"),
    ):
        with pytest.raises(ImageError) as caught:
            images._decoded(data)
        assert words in check_sentence(caught.value)
    assert images._decoded(jpeg()).size == (16, 16)


# -- damage ---------------------------------------------------------------------------------


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


def apart(name: str) -> bool:
    """Whether such a file is opened in a process of its own, a fifth of a second each."""
    return name in ("avif", "heif")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", seeds())
def test_truncated(name):
    data = seeds()[name]
    assert survives(data) is not None
    for tenth in range(10):
        survives(data[: len(data) * tenth // 10])
    for few in range(1, 4 if apart(name) else 40):
        survives(data[:few])
        survives(data[:-few])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", seeds())
def test_mutated(name):
    rng = random.Random(name)
    data = seeds()[name]
    opened = 0
    rounds = 20 if apart(name) else 60
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

    monkeypatch.setitem(images._READERS, rb"\xff\xd8\xff", fail)
    text = problem(jpeg())
    assert ("memory" if isinstance(raised, MemoryError) else "decoded") in text
    assert open_after(monkeypatch).size == (16, 16)  # the lock is free again


def open_after(monkeypatch) -> Image.Image:
    monkeypatch.undo()
    return open_image(jpeg())


def test_warnings_that_are_errors_change_nothing():
    data = headers(30_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in data:
            survives(data[kind])
        assert open_image(jpeg()).size == (16, 16)


# -- the server -----------------------------------------------------------------------------


def test_pillow_is_left_as_it_was():
    def settings() -> tuple:
        return (
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, ImageFile.MAXBLOCK, list(warnings.filters),
        )  # fmt: skip

    before = settings()
    for data in (jpeg(), headers(60_000)["PNG"], b"text", jpeg()[:200]):
        survives(data)
    assert settings() == before


def test_many_threads():
    colours = [(r, g, b) for r in (0, 120, 240) for g in (0, 120, 240) for b in (0, 240)]
    files = [saved(Image.new("RGB", (40, 30), colour), kind) for colour in colours for kind in ("PNG", "WEBP", "BMP")]
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(open_image, files))
    for index, picture in enumerate(opened):
        assert near(picture.getpixel((20, 15)), colours[index // 3])


# -- samples --------------------------------------------------------------------------------


def test_samples_open():
    for sample in samples():
        picture = open_image(sample.open())
        if sample.file.startswith("fashion/"):
            assert picture.size == (28, 28)
            red, green, blue = picture.split()
            assert red.tobytes() == green.tobytes() == blue.tobytes()
        else:
            assert min(picture.size) >= 224
        assert len(sample.open()) <= 200_000


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
    folder = Path(images.__file__).parent / "samples"
    files = {str(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.suffix in (".png", ".jpg")}
    assert files == {sample.file for sample in samples()}
    assert len({sample.name for sample in samples()}) == len(samples())
    assert all(sample.label and sample.source for sample in samples())
    assert {sample.licence for sample in samples()} == {"CC0 1.0", "Public domain", "MIT"}
