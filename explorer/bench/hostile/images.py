"""Images made to hurt who reads them, by what each does; made when they are asked for."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

MIB = 2**20


def saved(image: Image.Image, kind: str, append_images: Sequence[Image.Image] = (), **options: Any) -> bytes:
    """The bytes of a file. Copies are saved, since saving leaves settings of one format in an image."""
    if append_images:
        options |= {"save_all": True, "append_images": [frame.copy() for frame in append_images]}
    stream = io.BytesIO()
    image.copy().save(stream, kind, **options)
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes, *chunks: bytes, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG by hand; `rows` are raw rows, each after its filter byte."""
    header = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + body


def bmp_rle(width: int, height: int, runs: bytes) -> bytes:
    """A BMP of 8 bit whose pixels are coded in runs."""
    start = 14 + 40 + 4 * 256
    header = struct.pack("<2sLLL", b"BM", start + len(runs), 0, start)
    return (
        header + struct.pack("<LllHHLLllLL", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0) + bytes(1024) + runs
    )


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
    start = struct.pack("<2sHL", b"II", 42, 8 + len(body))
    return start + body + struct.pack("<H", len(values)) + entries + bytes(4) + tables


def zeros(mebibytes: int) -> bytes:
    """So many MiB of zeros, deflated; built of equal blocks to be quick."""
    packer = zlib.compressobj(9)
    first, block = (packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in "12")
    end = zlib.compress(b"")[2:-4]
    checksum = struct.pack(">L", (mebibytes * MIB % 65521) << 16 | 1)  # Adler-32 of zeros
    return first + block * (mebibytes - 1) + end + checksum


def jpeg(side: int = 16) -> bytes:
    return saved(Image.new("RGB", (side, side), (255, 0, 0)), "JPEG")


def spread(spam: bytes) -> bytes:
    """A JPEG with `spam` between its start and its first segment."""
    return jpeg()[:2] + spam + jpeg()[2:]


def scans(side: int, count: int) -> bytes:
    """A progressive JPEG whose last scan comes `count` times more."""
    data = saved(Image.linear_gradient("L").resize((side, side)), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + b"\xff\xd9"


def commented_gif(comment: bytes) -> bytes:
    """A GIF with comments, which are blocks that each begin with their length, ended by one of length 0."""
    data = saved(Image.new("P", (4, 4)), "GIF")
    at = 13 + 3 * 2 ** (1 + data[10] % 8)  # behind the palette
    return data[:at] + comment + data[at:]


def texts(count: int, each: int) -> bytes:
    """A PNG with `count` compressed texts of `each` bytes."""
    text = zlib.compress(bytes(each), 9)
    return png(1, 1, b"\0\7", *(chunk(b"zTXt", b"%d\0\0" % index + text) for index in range(count)))


EXIF = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHLL", 274, 3, 9_000_000, 26)

PICTURES: dict[str, Callable[[], bytes]] = {
    "a BMP of runs of one pixel": lambda: bmp_rle(4000, 2400, (b"\1\7" * 4000 + b"\0\0") * 2400 + b"\0\1"),
    "a BMP of runs that skip": lambda: bmp_rle(20_000, 20_000, b"\0\2\1\0" * 4_500_000),
    "a BMP of ends of lines": lambda: bmp_rle(10_000, 10_000, b"\0\0" * 9_000_000),
    "a PNG of a million chunks": lambda: png(8, 8, bytes(72), chunk(b"teSt", b"") * 1_500_000),
    "a PNG of a million empty parts": lambda: png(8, 8, bytes(72)).replace(
        chunk(b"IDAT", zlib.compress(bytes(72))), chunk(b"IDAT", b"") * 1_500_000
    ),
    "a JPEG of a hundred scans": lambda: scans(4096, 90),
    "a JPEG of four hundred scans": lambda: scans(2000, 400),
    "a JPEG of endless segments": lambda: spread(b"\xff\xe0\0\2" * 4_000_000),
    "a JPEG of endless comments": lambda: spread(b"\xff\xfe\0\2" * 4_000_000),
    "a JPEG of endless EXIF": lambda: spread(b"\xff\xe1\0\x0aExif\0\0xx" * 1_000_000),
    "a GIF of a comment in small parts": lambda: commented_gif(b"!\xfe" + b"\2cc" * 6_500_000 + b"\0"),
    "a GIF of long comments": lambda: commented_gif((b"!\xfe" + (b"\xff" + b"c" * 255) * 1000 + b"\0") * 70),
    "a GIF of many comments": lambda: commented_gif(b"!\xfe\2cc\0" * 3_000_000),
    "a PNG of a huge text": lambda: png(1, 1, b"\0\7", chunk(b"zTXt", b"k\0\0" + zeros(300))),
    "a PNG of a huge international text": lambda: png(1, 1, b"\0\7", chunk(b"iTXt", b"k\0\1\0\0\0" + zeros(300))),
    "a PNG of a huge profile": lambda: png(1, 1, b"\0\7", chunk(b"iCCP", b"k\0\0" + zeros(300))),
    "a PNG of many texts": lambda: texts(500, 10**6),
    "a PNG of nine million orientations": lambda: png(3, 2, b"\0\1\2\3" * 2, chunk(b"eXIf", EXIF + bytes(18_000_004))),
    "a PNG whose pixels go on": lambda: png(1, 1, b"").replace(
        chunk(b"IDAT", zlib.compress(b"")), chunk(b"IDAT", zeros(300))
    ),
    "a TIFF of endless strips": lambda: tiff(
        b"x", t256=[1], t257=[2_000_000], t278=[1], t273=[0] * 2_000_000, t279=[1] * 2_000_000
    ),
    "a TIFF of strips that overlap": lambda: tiff(
        bytes(16_000_010),
        t256=[4000],
        t257=[4001],
        t278=[4000],
        t273=[index % 7 for index in range(40_000)],
        t279=[16_000_000] * 40_000,
    ),
    "a TIFF of one far larger tile": lambda: tiff(
        zeros(977), t256=[16], t257=[16], t259=[8], t322=[32_000], t323=[32_000], t324=[0], t325=[len(zeros(977))]
    ),
    "a TIFF of rows far beyond it": lambda: tiff(
        zeros(500), t256=[16], t257=[16], t259=[8], t278=[2**30], t273=[0], t279=[len(zeros(500))]
    ),
}
"""Each within 20 MiB: a decoder without bounds takes seconds or gigabytes for most."""
