"""Files made to hurt who reads them, by what each does: pictures, and checkpoints. All are made when they are asked for."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image

from resnet import ResNetConfig
from resnet.model import build

MIB = 2**20

# -- pictures -----------------------------------------------------------------------------


def saved(picture: Image.Image, kind: str, append_images: Sequence[Image.Image] = (), **options: Any) -> bytes:
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


# -- checkpoints --------------------------------------------------------------------------


def archive(pickled: bytes, **records: bytes) -> bytes:
    """What `torch.save` would have written around a pickle and its storages."""
    stream = io.BytesIO()
    own = {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n"}
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in (own | {f"data/{key.removeprefix('_')}": data for key, data in records.items()}).items():
            file.writestr(zipfile.ZipInfo(f"archive/{name}"), content)  # without the time of day
    return stream.getvalue()


def before_zip(pickled: bytes, keys: list[str], storages: bytes = b"") -> bytes:
    """What `torch.save` wrote before PyTorch 1.6 around a pickle and its storages."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, system)]
    return b"".join([*head, pickled, pickle.dumps(keys, 2), storages])


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def long(value: int) -> bytes:
    return b"\x8a\x0b" + value.to_bytes(11, "little", signed=True)


def storage(key: str, count: int, legacy: bool = False, view: bytes = b"N") -> bytes:
    """A storage of float32, as the pickles of `torch.save` refer to it; before zip files it may be a part of another."""
    view = view if legacy else b""
    return b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + number(count) + view + b"tQ"


def tensor(numbers: bytes, start: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """A tensor, as the pickles of `torch.save` make it."""
    sizes, steps = (b"(" + b"".join(map(number, values)) + b"t" for values in (shape, stride))
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + numbers + number(start) + sizes + steps
    return call + b"\x89ccollections\nOrderedDict\n)RtR"


def holding(*entries: bytes) -> bytes:
    """The pickle of a dictionary with these values at fc.weight, layer1.weight, …"""
    names = ["fc.weight", *(f"layer{n}.weight" for n in range(1, len(entries)))]
    items = b"".join(text(name) + entry for name, entry in zip(names, entries, strict=True))
    return b"\x80\x02}(" + items + b"u."


def key(steps: bytes) -> bytes:
    """The pickle of a dictionary with one key, which these steps make of an empty tuple: whoever reads it hashes that."""
    return b"\x80\x02})" + steps + text("fc.weight") + b"s."


DEEPER, TWICE = b"\x85", b"q\0h\0\x86"
"""Steps: a tuple of the value, and a pair that holds it twice, so that its hash takes twice as long."""


def nested(depth: int) -> bytes:
    """A dictionary that holds one other twice, which holds one other twice, …"""
    steps = b"}" + b"".join(
        b"q" + bytes([level]) + b"0}(" + text("a") + b"h" + bytes([level]) + text("b") + b"h" + bytes([level]) + b"u"
        for level in range(depth)
    )
    return b"\x80\x02" + steps + b"."


NUMBERS = bytes(16 * 4)


def growing(shape: tuple[int, ...], stride: tuple[int, ...], start: int, legacy: bool) -> bytes:
    """A tensor that shows more than the 16 numbers behind it."""
    pickled = holding(tensor(storage("0", 16, legacy), start, shape, stride))
    return before_zip(pickled, ["0"], struct.pack("<q", 16) + NUMBERS) if legacy else archive(pickled, _0=NUMBERS)


def unfilled(count: int) -> bytes:
    """A tensor of 4096 numbers on a storage of so many, in a file from before zip files that fills no storage."""
    return before_zip(holding(tensor(storage("0", count, True), 0, (4096,), (1,))), [])


def checkpoint(tensors: dict[str, torch.Tensor]) -> bytes:
    stream = io.BytesIO()
    torch.save(tensors, stream)
    return stream.getvalue()


def around(make: Callable[[], bytes], legacy: bool) -> bytes:
    """A pickle that is made here, and a number that it does not ask for."""
    return before_zip(make(), ["1"], struct.pack("<q", 1) + bytes(4)) if legacy else archive(make(), _0=bytes(4))


def safetensors(header: object, body: bytes = b"") -> bytes:
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


PICKLES: dict[str, Callable[[], bytes]] = {
    "tuples 300,000 deep": lambda: b"\x80\x02}" + text("fc.weight") + b")" + DEEPER * 300_000 + b"s.",
    "tuples 300,000 deep as a key": lambda: key(DEEPER * 300_000),
    "lists 300,000 deep": lambda: b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b".",
    "pairs 40 deep as a key": lambda: key(TWICE * 40),
    "pairs 40 deep as one of the keys": lambda: b"\x80\x02}()" + TWICE * 40 + text("fc.weight") + b"u.",
    "pairs 40 deep as a name": lambda: b"\x80\x04)" + TWICE * 40 + b"h\0\x93.",
    "references 29 deep": lambda: nested(29),
    "references 200 deep": lambda: nested(200),
    "eight million containers": lambda: b"\x80\x02(" + b"}" * (8 * MIB - 100) + b"l.",
    "a number of four million digits": lambda: b"\x80\x02L" + b"9" * (4 * MIB) + b"L\n.",
    "100,000 tensors": lambda: holding(*[tensor(storage("0", 1), 0, (1,), (1,))] * 100_000),
    "25,000 tensors": lambda: holding(*[tensor(storage("0", 1), 0, (1,), (1,))] * 25_000),
    "a name of a million words": lambda: (
        b"\x80\x02}" + text("module." * MIB) + tensor(storage("0", 1), 0, (1,), (1,)) + b"s."
    ),
    "a storage by a call": lambda: holding(
        tensor(b"ctorch\nFloatStorage\n" + number(4096) + b"\x85R", 0, (4096,), (1,))
    ),
    "a typed storage by a call": lambda: holding(
        tensor(b"ctorch.storage\nTypedStorage\n" + number(4096) + b"\x85R", 0, (4096,), (1,))
    ),
    "no storage behind the key": lambda: holding(tensor(storage("0", 4096), 0, (4096,), (1,))),
    "a gibibyte in one number": lambda: holding(tensor(storage("0", 1), 0, (2**14, 2**14), (0, 0))),
    "a command": lambda: b"\x80\x02cposix\nsystem\n" + text("true") + b"\x85R.",
}
"""Pickles that are refused, whatever stands around them."""

GROWING: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {
    "longer": ((4096,), (1,), 0),
    "further apart": ((16,), (300,), 0),
    "later": ((16,), (1,), 10),
    "with many axes": ((2,) * 12, (1,) * 12, 5),
}

ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}

CHECKPOINTS: dict[str, Callable[[], bytes]] = {
    **{f"{name}, zip": partial(around, make, False) for name, make in PICKLES.items()},
    **{f"{name}, before zip": partial(around, make, True) for name, make in PICKLES.items()},
    **{f"{name}, zip": partial(growing, *case, False) for name, case in GROWING.items()},
    **{f"{name}, before zip": partial(growing, *case, True) for name, case in GROWING.items()},
    "no data": lambda: unfilled(4096),
    "a storage that grows": lambda: unfilled(16),
    "100,000 tensors in few bytes": lambda: checkpoint(
        dict.fromkeys((f"n{index}" for index in range(100_000)), torch.zeros(1))
    ),
    "half of 32,768² numbers": lambda: safetensors(
        {"fc.weight": {"dtype": "F16", "shape": [2**15, 2**15], "data_offsets": [0, 2**31]}}
    ),
    "a header of brackets": lambda: safetensors(b'{"a":' + b"[" * (8 * MIB - 10) + b"}"),
    "a header of empty lists": lambda: safetensors(b'{"a":[' + b"[]," * 2_700_000 + b"[]]}"),
    "a header of many names": lambda: safetensors({f"n{index}": ONE for index in range(100_000)}, bytes(4)),
    "a header with a long name": lambda: safetensors({"module." * MIB: ONE}, bytes(4)),
}
"""Each is refused: without bounds, one ends the process, another takes minutes or gigabytes, and another shows what
lies in memory."""

WIDE = ResNetConfig(
    block="basic", layers=(1, 1, 1, 1), planes=(16, 16, 16, 4670), stem="3x3", stem_pool="none", num_classes=10
)
"""A network of 197 million weights, 376 MiB in fp16, whose wide stage sees few pixels."""


def shapes(config: ResNetConfig) -> dict[str, torch.Size]:
    return {
        name: tensor.shape for name, tensor in build(config, "meta").state_dict().items() if tensor.is_floating_point()
    }


def one_number_for_all() -> bytes:
    """A checkpoint of a few kilobytes in fp16 for a network of 0.7 GiB: every number of a tensor is the same one."""
    zero = torch.zeros(1, dtype=torch.float16)
    return checkpoint({name: zero.expand(shape) for name, shape in shapes(WIDE).items()})


def half_precision(number: int = 0, config: ResNetConfig = WIDE) -> list[bytes]:
    """A checkpoint in fp16, 376 MiB for `WIDE`, in parts: a safetensors file of zeros, which `number` tells from others."""
    at, header = 0, {"__metadata__": {"number": f"{number:4}"}}
    for name, shape in shapes(config).items():
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at := at + 2 * shape.numel()]}  # type: ignore[dict-item]
    text = json.dumps(header).encode()
    return [struct.pack("<Q", len(text)), text, bytes(at)]
