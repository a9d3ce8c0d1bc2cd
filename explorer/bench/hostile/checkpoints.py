"""Checkpoints made to hurt who reads them, by what each does; made when they are asked for."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from functools import partial

import torch

from resnet import ResNetConfig
from resnet.model import build

from .images import MIB


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
