"""Files made to hurt who reads them, and what any file's tensors are against `torch.load`'s own."""

from __future__ import annotations

import io
import json
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from resnet import confined
from resnet.checkpoint import WeightsError, read_state_dict
from resnet.confined import ConfinedError
from resnet.tensor_files import MAX_NODES, MAX_TENSORS


def saved(value: Any, zipped: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def archive(pickled: bytes, **records: bytes) -> bytes:
    """What `torch.save` would have written around a pickle and its storages."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/byteorder", "little")
        file.writestr("archive/version", "3\n")
        for key, content in records.items():
            file.writestr(f"archive/data/{key.removeprefix('_')}", content)
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


def nested(depth: int) -> bytes:
    """A dictionary that holds one other twice, which holds one other twice, …"""
    steps = b"}" + b"".join(
        b"q" + bytes([level]) + b"0}(" + text("a") + b"h" + bytes([level]) + text("b") + b"h" + bytes([level]) + b"u"
        for level in range(depth)
    )
    return b"\x80\x02" + steps + b"."


SECRET = 12345.678

MADE: dict[str, bytes] = {
    "tuples 300,000 deep": b"\x80\x02}" + text("fc.weight") + b")" + b"\x85" * 300_000 + b"s.",
    "tuples 300,000 deep as a key": b"\x80\x02})" + b"\x85" * 300_000 + text("fc.weight") + b"s.",
    "lists 300,000 deep": b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b".",
    "pairs 40 deep as a key": b"\x80\x02})" + b"q\0h\0\x86" * 40 + text("fc.weight") + b"s.",
    "references 29 deep": nested(29),
    "references 200 deep": nested(200),
    "eight million containers": b"\x80\x02(" + b"}" * (8 * 2**20 - 100) + b"l.",
    "a number of four million digits": b"\x80\x02L" + b"9" * (4 * 2**20) + b"L\n.",
    "a storage by a call": holding(tensor(b"ctorch\nFloatStorage\n" + number(4096) + b"\x85R", 0, (4096,), (1,))),
    "a typed storage by a call": holding(
        tensor(b"ctorch.storage\nTypedStorage\n" + number(4096) + b"\x85R", 0, (4096,), (1,))
    ),
    "no storage behind the key": holding(tensor(storage("0", 4096), 0, (4096,), (1,))),
}
"""Pickles that are refused, whatever stands around them."""


@pytest.fixture
def poisoned() -> None:
    """What is freed here is what a tensor that nobody filled shows."""
    for count in (16, 4096, 2**20):
        blocks = [torch.full((count,), SECRET) for _ in range(64 if count < 2**20 else 8)]
        del blocks


def refused(data: bytes) -> str:
    with pytest.raises(WeightsError, match=r"\Amine\.pt [^\n]{1,300}\.\Z") as caught:
        read_state_dict(data, "mine.pt")
    return str(caught.value)


SLOW = ("pairs 40 deep as a key",)
"""What only the limit of time ends."""


@pytest.mark.parametrize("wrap", [archive, lambda pickled: before_zip(pickled, [])], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", MADE)
@pytest.mark.usefixtures("poisoned")
def test_a_file_made_to_hurt_is_refused(name: str, wrap: Any) -> None:
    assert ("takes more than 4 s" in refused(wrap(MADE[name]))) == (name in SLOW)


GROWS = {
    "longer": ((4096,), (1,), 0), "further apart": ((16,), (300,), 0), "later": ((16,), (1,), 10),
    "with many axes": ((2,) * 12, (1,) * 12, 5),
}  # fmt: skip


@pytest.mark.parametrize("kind", GROWS)
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.usefixtures("poisoned")
def test_a_tensor_shows_nothing_beyond_its_storage(kind: str, legacy: bool) -> None:
    shape, stride, start = GROWS[kind]
    pickled = holding(tensor(storage("0", 16, legacy), start, shape, stride))
    numbers = bytes(16 * 4)
    refused(before_zip(pickled, ["0"], struct.pack("<q", 16) + numbers) if legacy else archive(pickled, _0=numbers))


@pytest.mark.usefixtures("poisoned")
def test_a_storage_is_as_long_as_the_file_says() -> None:
    pickled = holding(tensor(storage("0", 16, True), 0, (16,), (1,)))
    for count, there in ((16, 15), (2**40, 16), (-1, 16), (15, 15), (2**61 + 16, 16)):
        refused(before_zip(pickled, ["0"], struct.pack("<q", count) + bytes(4 * there)))
    refused(before_zip(pickled, []))
    refused(before_zip(pickled, ["1"], struct.pack("<q", 16) + bytes(64)))
    refused(archive(holding(tensor(storage("0", 16), 0, (16,), (1,))), _0=bytes(63)))
    whole = before_zip(pickled, ["0"], struct.pack("<q", 16) + bytes(64))
    assert torch.equal(read_state_dict(whole, "mine.pt")["fc.weight"], torch.zeros(16))


def test_a_part_of_a_storage_lies_in_it() -> None:
    """Of old files, where a storage may be numbers `first` to `first + count` of another one."""
    nan = b"G" + struct.pack(">d", float("nan"))
    behind = struct.pack("<q", 8) + struct.pack("<8f", *range(8))
    for first, count, fine in (
        (number(2), number(3), True), (number(-2), number(3), False), (nan, number(3), False),
        (number(6), number(3), False), (number(2), nan, False), (number(0), number(-1), False),
    ):  # fmt: skip
        view = text("part") + first + count + b"\x87"
        data = before_zip(holding(tensor(storage("0", 8, True, view), 0, (3,), (1,))), ["0"], behind)
        if fine:
            assert read_state_dict(data, "mine.pt")["fc.weight"].tolist() == [2, 3, 4]
        else:
            refused(data)


def test_numbers_that_no_tensor_has() -> None:
    whole = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage("0", 16)
    end = b"\x89ccollections\nOrderedDict\n)RtR"
    for start, shape, stride in (
        (long(0), long(1) + b"\x85", long(2**70) + b"\x85"), (long(2**70), long(0) + b"\x85", long(1) + b"\x85"),
        (long(0), (b"(" + long(2**60) * 20 + b"t"), (b"(" + long(0) * 20 + b"t")), (long(0), b"(" + long(1) * 100 + b"t", b"(" + long(1) * 100 + b"t"),
    ):  # fmt: skip
        refused(archive(holding(whole + start + shape + stride + end), _0=bytes(64)))
    for shape in ([0, 2**70], [0, 2**62, 2**62], [1] * 100):
        header = {"fc.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0 if 0 in shape else 4]}}
        body = json.dumps(header).encode()
        refused(struct.pack("<Q", len(body)) + body + bytes(0 if 0 in shape else 4))


def test_a_record_that_its_sum_does_not_cover() -> None:
    """Its directory says 16 bytes in one place and 1,600 in the other."""
    data = bytearray(saved({"fc.weight": torch.ones(4), "rest": torch.zeros(400)}))
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"/data/0"))
    assert struct.unpack_from("<LL", data, entry + 20) == (16, 16)
    struct.pack_into("<L", data, entry + 24, 1600)
    refused(bytes(data))


def test_names_that_are_no_text_are_shown() -> None:
    """Half a character, which no page could show, and markup, which stays as it is."""
    half = holding(tensor(storage("0", 1), 0, (1,), (1,))).replace(text("fc.weight"), b"X\x06\0\0\0\xed\xa0\x80.ab")
    (name,) = read_state_dict(archive(half, _0=bytes(4)), "mine.pt")
    assert name == "?.ab"
    (name,) = read_state_dict(saved({"<b>*x*</b>": torch.zeros(1)}), "mine.pt")
    assert name == "<b>*x*</b>"


def test_tensors_take_no_more_memory_than_they_show() -> None:
    """300 numbers that each lie in the same million."""
    base = torch.zeros(2**20)
    found = read_state_dict(saved({f"{n}.weight": base[n : n + 1] for n in range(300)}), "mine.pt")
    assert sum(tensor.untyped_storage().nbytes() for tensor in found.values()) == 300 * 4


def test_other_kinds_of_tensors_are_named() -> None:
    words = refused(saved({"fc.weight": torch.eye(3).to_sparse()}))
    assert "_rebuild_sparse_tensor" in words
    assert "dense ones are accepted" in words
    header = json.dumps({"fc.weight": {"dtype": "U32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    assert "fc.weight as U32" in refused(struct.pack("<Q", len(header)) + header + bytes(8))


def test_more_tensors_than_any_network_has() -> None:
    for count, words in ((25_000, "holds 25,000 tensors"), (100_000, "has a list of tensors of 15.2 MiB")):
        many = holding(*[tensor(storage("0", 1), 0, (1,), (1,))] * count)
        assert words in refused(archive(many, _0=bytes(4)))
    header = {f"t{n}": torch.zeros(1) for n in range(MAX_TENSORS + 1)}
    assert f"holds {MAX_TENSORS + 1:,} tensors" in refused(safetensors.torch.save(header))
    assert MAX_NODES > MAX_TENSORS


def test_a_small_file_stands_for_no_large_network() -> None:
    wide = torch.zeros(1, dtype=torch.float16).expand(2**14, 2**14)
    assert "stands for 1.0 GiB" in refused(saved({"fc.weight": wide}))


# -- against torch.load -------------------------------------------------------------------


@st.composite
def views(draw: st.DrawFn) -> dict[str, Tensor]:
    """Tensors of any type that show parts of a few storages: transposed, with steps, from any start, overlapping."""
    types = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]
    bases = [
        torch.arange(draw(st.integers(1, 40))).to(draw(st.sampled_from(types))) for _ in range(draw(st.integers(1, 3)))
    ]
    result = {}
    for count in range(draw(st.integers(1, 5))):
        base = draw(st.sampled_from(bases))
        shape, stride, room = [], [], len(base) - 1
        start = draw(st.integers(0, room))
        room -= start
        for _ in range(draw(st.integers(0, 3))):
            step = draw(st.integers(1, 5))
            size = draw(st.integers(0, 1 + min(room // step, 6)))
            shape.append(size)
            stride.append(step)
            room -= max(size - 1, 0) * step
        result[f"tensor {count}"] = base.as_strided(shape, stride, start)
    return result


@pytest.mark.parametrize("zipped", [True, False])
@settings(max_examples=60, deadline=None)
@given(state=views())
def test_any_view_is_read_as_torch_reads_it(state: dict[str, Tensor], zipped: bool) -> None:
    data = saved(OrderedDict(state), zipped)
    expected = torch.load(io.BytesIO(data), weights_only=True)
    found = read_state_dict(data, "mine.pt")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        wanted = tensor.float() if tensor.is_floating_point() else tensor
        assert found[name].dtype == wanted.dtype
        assert torch.equal(found[name], wanted)
        assert found[name].is_contiguous()


def test_tensors_have_memory_of_their_own() -> None:
    """What one person does to a tensor changes neither the file nor another tensor."""
    base = torch.zeros(8)
    data = saved({"a.weight": base[:6], "b.weight": base[2:]})
    found = read_state_dict(data, "mine.pt")
    found["a.weight"].fill_(1)
    assert not found["b.weight"].any()
    assert not read_state_dict(data, "mine.pt")["a.weight"].any()


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["zip", "legacy", "safetensors"]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 40),
)
def test_damage_is_refused_or_shows_bytes_of_the_file(kind: str, changes: list[tuple[int, int]], cut: int) -> None:
    """A number that is neither in the file nor 0 would come from memory."""
    state = {"fc.weight": torch.full((6, 5), 2.0), "fc.bias": torch.full((5,), 3.0)}
    made = {"zip": saved(state), "legacy": saved(state, False), "safetensors": safetensors.torch.save(state)}[kind]
    data = bytearray(made[: len(made) - cut])
    for place, value in changes:
        data[place % len(data)] = value
    blocks = [torch.full((count,), SECRET) for count in (5, 30) for _ in range(64)]
    del blocks
    try:
        found = read_state_dict(bytes(data), "mine.pt")
    except WeightsError:
        return
    for tensor in found.values():
        assert not (tensor == SECRET).any()
        assert all(value.numpy().tobytes() in data for value in tensor.flatten() if tensor.dtype == torch.float32)


# -- programs that read -------------------------------------------------------------------


def program(tmp_path: Path, code: str) -> Path:
    path = tmp_path / "program.py"
    path.write_text(code, encoding="utf-8")
    return path


def test_a_program_reads_and_answers(tmp_path: Path) -> None:
    path = program(tmp_path, "import sys; sys.stdin.seek(2); sys.stdout.write(sys.stdin.read()[::-1])")
    assert confined.confined(path, b"abcdef", 100) == b"fedc"
    (tmp_path / "file").write_bytes(b"012345")
    assert confined.confined(path, tmp_path / "file", 100) == b"5432"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.abort()", "memory"),
        ("raise MemoryError", "memory"),
        ("while True: pass", "takes more than 1 s"),
        ("import time; time.sleep(1000)", "takes more than 1 s"),
        ("import sys; sys.exit(3)", "memory"),
        ("while True: print('x' * 10**6)", "memory"),
        pytest.param(
            "x = bytearray(2**29); print('x')", "memory",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="has no limit of memory"),
        ),
    ],
)  # fmt: skip
def test_a_program_ends_alone(tmp_path: Path, code: str, words: str) -> None:
    with pytest.raises(ConfinedError, match=words):
        confined.confined(program(tmp_path, code), b"", 1000, seconds=1, memory=2**28)


def test_a_program_writes_no_file(tmp_path: Path) -> None:
    target = tmp_path / "written"
    code = f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nopen({str(target)!r}, 'w').write('x' * 9999)"
    with pytest.raises(ConfinedError):
        confined.confined(program(tmp_path, code), b"", 1000)
    assert not target.exists() or not target.read_bytes()
