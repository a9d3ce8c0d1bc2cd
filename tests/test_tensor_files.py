"""Files made to hurt who reads them, and what any file's tensors are against `torch.load`'s own."""

from __future__ import annotations

import copyreg
import io
import json
import os
import pickle
import struct
import sys
import threading
import time
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from explorer.bench.hostile.checkpoints import (
    CHECKPOINTS,
    archive,
    before_zip,
    holding,
    long,
    number,
    storage,
    tensor,
    text,
)
from helpers import saved
from resnet import confined, open_checkpoint, reading
from resnet.checkpoint import WeightsError, read_state_dict
from resnet.confined import BusyError, ConfinedError
from resnet.tensor_files import MAX_TENSORS

SECRET = 12345.678


@pytest.fixture
def poisoned() -> None:
    """What is freed here is what a tensor that nobody filled shows."""
    for count in (16, 4096, 2**20):
        blocks = [torch.full((count,), SECRET) for _ in range(64 if count < 2**20 else 8)]
        del blocks


def refused(data: bytes) -> str:
    with pytest.raises(WeightsError, match=r"\Amine\.pt [^\n]{1,480}\.\Z") as caught:
        read_state_dict(data, "mine.pt")
    return str(caught.value)


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.usefixtures("poisoned")
def test_a_file_made_to_hurt_is_refused(name: str) -> None:
    """By a bound on what it holds, long before the one on time."""
    assert "takes" not in refused(CHECKPOINTS[name]()).replace("takes more steps", "")


class Touched:
    """A class that runs something where it is made."""

    def __new__(cls, path: str = "", **given: str) -> Touched:
        Path(path or given["path"]).touch()
        return super().__new__(cls)


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


SYSTEM, HERE = named("os", "system"), named(__name__, "Touched")
QUIET = named("timeit", "timeit")
"""Not among what is known to run programs."""


def command(path: Path) -> bytes:
    return text(f"touch {path}")


def statement(path: Path) -> bytes:
    return text(f"import pathlib; pathlib.Path({str(path)!r}).touch()")


ATTACKS: dict[str, Callable[[Path], bytes]] = {
    "REDUCE": lambda path: SYSTEM + command(path) + b"\x85R",
    "REDUCE of a quiet name": lambda path: QUIET + statement(path) + b"\x85R",
    "REDUCE by STACK_GLOBAL": lambda path: text("os") + text("system") + b"\x93" + command(path) + b"\x85R",
    "BUILD": lambda path: (
        named("argparse", "Namespace") + b")\x81}" + text("__setstate__") + SYSTEM + b"sb" + command(path) + b"b"
    ),
    "BUILD of a quiet name": lambda path: (
        named("argparse", "Namespace") + b")\x81}" + text("__setstate__") + QUIET + b"sb" + statement(path) + b"b"
    ),
    "INST": lambda path: b"(" + command(path) + b"ios\nsystem\n",
    "INST of a quiet name": lambda path: b"(" + statement(path) + b"itimeit\ntimeit\n",
    "OBJ": lambda path: b"(" + SYSTEM + command(path) + b"o",
    "OBJ of a quiet name": lambda path: b"(" + QUIET + statement(path) + b"o",
    "NEWOBJ": lambda path: HERE + text(str(path)) + b"\x85\x81",
    "NEWOBJ_EX": lambda path: HERE + b")}" + text("path") + text(str(path)) + b"s\x92",
    "EXT1": lambda path: b"\x82\xf0" + statement(path) + b"\x85R",
    "EXT2": lambda path: b"\x83\xf1\xf1" + statement(path) + b"\x85R",
    "EXT4": lambda path: b"\x84\xf2\xf2\xf2\x00" + statement(path) + b"\x85R",
    "a call of what a call gives": lambda path: (
        named("operator", "attrgetter")
        + text("timeit")
        + b"\x85R"
        + named("importlib", "import_module")
        + text("timeit")
        + b"\x85R\x85R"
        + statement(path)
        + b"\x85R"
    ),
}
"""Steps that leave a file behind where a pickle is loaded, through each opcode that can."""

QUIETLY = {name for name in ATTACKS if "quiet" in name} | {"NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}
"""Those that name no known program: the tensors beside them are read."""

PERSISTENT: dict[str, Callable[[Path], bytes]] = {
    "a persistent id": lambda path: b"(" + text("storage") + SYSTEM + command(path) + text("cpu") + number(1) + b"tQ",
    "a persistent class": lambda path: (
        b"(" + text("module") + SYSTEM + command(path) + b"tQ" + command(path) + b"\x85R"
    ),
    "a persistent id of any kind": lambda path: SYSTEM + b"Q" + command(path) + b"\x85R",
    "a persistent id in text": lambda path: b"Pos.system\n" + command(path) + b"\x85R",
}


@pytest.fixture
def extensions() -> Iterator[None]:
    codes = 0xF0, 0xF1F1, 0xF2F2F2
    for code in codes:
        copyreg._inverted_registry[code] = "timeit", "timeit"  # type: ignore[attr-defined]
    yield
    for code in codes:
        del copyreg._inverted_registry[code]  # type: ignore[attr-defined]


@pytest.mark.skipif(os.name != "posix", reason="has no touch")
@pytest.mark.usefixtures("extensions")
@pytest.mark.parametrize("name", [*ATTACKS, *PERSISTENT])
def test_nothing_that_a_file_names_is_run(name: str, tmp_path: Path) -> None:
    """Through no opcode, wherever it stands; where the name is no known program, the tensors beside it are read."""
    target = tmp_path / "ran"
    steps = (ATTACKS | PERSISTENT)[name](target)
    if name in ATTACKS:
        pickle.loads(b"\x80\x04" + steps + b".")
        assert target.exists()
        target.unlink()
    for legacy in (True, False):
        weight = tensor(storage("0", 1, legacy), 0, (1,), (1,))
        beside = b"\x80\x04}(" + text("fc.weight") + weight + text("x") + steps + b"u."
        for pickled in (beside, b"\x80\x04" + steps + b"."):
            for data in (around_one(pickled, legacy), pickled):
                with suppress(WeightsError):
                    read_state_dict(data, "mine.pt")
                assert not target.exists()
        if name in QUIETLY:
            assert read_state_dict(around_one(beside, legacy), "mine.pt").keys() == {"fc.weight"}
    with suppress(WeightsError):
        open_checkpoint(around_one(beside, legacy))  # by a program of its own, which reads in the same way
    assert not target.exists()


NAMED: dict[str, bytes] = {
    "a value": SYSTEM,
    "in a list": b"](" + SYSTEM + QUIET + b"e",
    "an attribute": named("argparse", "Namespace") + b")\x81}" + text("run") + SYSTEM + b"sb",
    "by STACK_GLOBAL": text("builtins") + text("exec") + b"\x93",
    "taken away again": SYSTEM + b"0N",
}
"""Steps that name what runs programs, and call nothing."""


@pytest.mark.parametrize("name", NAMED)
def test_what_is_named_and_never_called_stands_for_nothing(name: str) -> None:
    weight = tensor(storage("0", 1), 0, (1,), (1,))
    data = around_one(b"\x80\x04}(" + text("fc.weight") + weight + text("x") + NAMED[name] + b"u.", False)
    assert read_state_dict(data, "mine.pt").keys() == {"fc.weight"}


@pytest.mark.parametrize("name", ["BUILD", "as an argument", "as an argument of INST"])
def test_what_would_be_called_by_another_is_named(name: str) -> None:
    steps = {
        "BUILD": ATTACKS["BUILD"](Path("x")),
        "as an argument": named("functools", "partial") + SYSTEM + text("true") + b"\x86R",
        "as an argument of INST": b"(" + SYSTEM + b"ibuiltins\nmap\n",
    }[name]
    assert "elsewhere would call os.system" in refused(around_one(b"\x80\x04" + steps + b".", False))


def around_one(pickled: bytes, legacy: bool) -> bytes:
    """A file around a pickle that has a storage of one number."""
    return before_zip(pickled, ["0"], struct.pack("<q", 1) + bytes(4)) if legacy else archive(pickled, _0=bytes(4))


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
        (number(2), number(3), True),
        (number(-2), number(3), False),
        (nan, number(3), False),
        (number(6), number(3), False),
        (number(2), nan, False),
        (number(0), number(-1), False),
    ):
        view = text("part") + first + count + b"\x87"
        data = before_zip(holding(tensor(storage("0", 8, True, view), 0, (3,), (1,))), ["0"], behind)
        if fine:
            assert read_state_dict(data, "mine.pt")["fc.weight"].tolist() == [2, 3, 4]
        else:
            refused(data)


def test_offsets_that_no_file_has() -> None:
    """In the list of a safetensors file, whose numbers may be of any length."""
    for low, high in ((2**70, 2**70 + 4), (10**400, 10**400 + 4), (-4, 0), (2**63, 2**63 + 4), (0, 2**40 + 4)):
        entry = {"fc.weight": {"dtype": "F32", "shape": [1], "data_offsets": [low, high]}}
        body = json.dumps(entry).encode()
        refused(struct.pack("<Q", len(body)) + body + bytes(4))


def test_numbers_that_no_tensor_has() -> None:
    whole = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage("0", 16)
    end = b"\x89ccollections\nOrderedDict\n)RtR"
    for start, shape, stride in (
        (long(0), long(1) + b"\x85", long(2**70) + b"\x85"),
        (long(2**70), long(0) + b"\x85", long(1) + b"\x85"),
        (long(0), (b"(" + long(2**60) * 20 + b"t"), (b"(" + long(0) * 20 + b"t")),
        (long(0), b"(" + long(1) * 100 + b"t", b"(" + long(1) * 100 + b"t"),
    ):
        refused(archive(holding(whole + start + shape + stride + end), _0=bytes(64)))
    for sizes in ([0, 2**70], [0, 2**62, 2**62], [1] * 100):
        header = {"fc.weight": {"dtype": "F32", "shape": sizes, "data_offsets": [0, 0 if 0 in sizes else 4]}}
        body = json.dumps(header).encode()
        refused(struct.pack("<Q", len(body)) + body + bytes(0 if 0 in sizes else 4))


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


def test_what_lies_between_the_numbers_of_a_tensor_is_not_copied() -> None:
    """Two numbers at the ends of 32 MiB: 20,000 such tensors would copy 600 GiB."""
    last = 2**23 - 1
    data = saved({"fc.weight": torch.arange(2**23, dtype=torch.float32).as_strided((2,), (last,))})
    tracemalloc.start()
    try:
        found = read_state_dict(data, "mine.pt")
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()
    assert found["fc.weight"].tolist() == [0, last]


def test_other_kinds_of_tensors_are_named() -> None:
    words = refused(saved({"fc.weight": torch.eye(3).to_sparse()}))
    assert "_rebuild_sparse_tensor" in words
    assert "dense ones are accepted" in words
    header = json.dumps({"fc.weight": {"dtype": "U32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    assert "fc.weight as U32" in refused(struct.pack("<Q", len(header)) + header + bytes(8))


def test_more_tensors_than_any_network_has() -> None:
    for count, words in (("25,000", "holds 25,000 tensors"), ("100,000", "has a list of tensors of 15.2 MiB")):
        assert words in refused(CHECKPOINTS[f"{count} tensors, zip"]())
    header = {f"t{n}": torch.zeros(1) for n in range(MAX_TENSORS + 1)}
    assert f"holds {MAX_TENSORS + 1:,} tensors" in refused(safetensors.torch.save(header))


@pytest.mark.parametrize("parts", [1, 3])
def test_one_tensor_under_many_names_is_refused_where_it_is_read(parts: int) -> None:
    """A list of them would hold this process up."""
    part = dict.fromkeys(map(str, range(MAX_TENSORS + 1)), torch.zeros(1))
    data = saved({f"part {number}": dict(part) for number in range(parts)})
    answer = json.loads(confined.confined(reading.PROGRAM, data, 1000))
    assert answer["refused"].startswith(f"holds {parts * len(part):,} tensors: at most {MAX_TENSORS:,}")


def test_a_small_file_stands_for_no_large_network() -> None:
    wide = torch.zeros(1, dtype=torch.float16).expand(2**14, 2**14)
    assert "stands for 1,024 MiB" in refused(saved({"fc.weight": wide}))


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
    for name, value in expected.items():
        wanted = value.float() if value.is_floating_point() else value
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
    for shown in found.values():
        assert not (shown == SECRET).any()
        assert all(value.numpy().tobytes() in data for value in shown.flatten() if shown.dtype == torch.float32)


# -- programs that read -------------------------------------------------------------------


def program(tmp_path: Path, code: str) -> Path:
    path = tmp_path / "program.py"
    path.write_text(code, encoding="utf-8")
    return path


def test_a_program_reads_and_answers(tmp_path: Path) -> None:
    path = program(tmp_path, "import sys; sys.stdin.seek(2); sys.stdout.write(sys.stdin.read()[::-1])")
    assert confined.confined(path, b"abcdef", 100) == b"fedc"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.abort()", "is damaged, or takes more than 0.2 GiB"),
        ("raise MemoryError", "is damaged, or takes more than 0.2 GiB"),
        ("while True: pass", "takes more than 1 s"),
        ("import time; time.sleep(1000)", r"cannot be read now \(the server is busy\)"),
        ("import sys; sys.exit(3)", "is damaged"),
        ("while True: print('x' * 10**6)", "is damaged"),
        pytest.param(
            "x = bytearray(2**29); print('x')",
            "takes more than 0.2 GiB",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="has no limit of memory"),
        ),
    ],
)
def test_a_program_ends_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str) -> None:
    monkeypatch.setattr(confined, "CLOCK_FACTOR", 1 if "sleep" in code else 100)
    with pytest.raises(ConfinedError, match=words):
        confined.confined(program(tmp_path, code), b"", 1000, seconds=1, memory=2**28)


def test_a_program_knows_nothing_of_who_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its secrets nor a folder whose modules come before Python's own; it gives way, and opens few files."""
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("PYTHONSTARTUP", "x")
    (tmp_path / "json.py").write_text("raise SystemExit(3)", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    code = "import json, os, resource, sys\nlimit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]"
    code += "\nprint(json.dumps([sorted(os.environ), os.nice(0), limit, sys.argv[0]]))"
    names, priority, limit, _ = json.loads(confined.confined(program(tmp_path, code), b"", 1000))
    assert not {"SECRET", "PYTHONSTARTUP", "HOME", "PATH"} & set(names)
    assert priority >= min(19, os.nice(0) + 10)
    assert limit <= 32


def test_a_program_finds_what_this_process_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "only_here.py").write_text("VALUE = 7", encoding="utf-8")
    (tmp_path / "other").mkdir()
    path = program(tmp_path / "other", "import only_here; print(only_here.VALUE)")
    assert confined.confined(path, b"", 1000).split() == [b"7"]


def test_places_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    """Who asks again as soon as they are done comes last."""
    places, order = confined.Places(1), []

    def work(name: str) -> None:
        with places.place(60):
            order.append(name)

    with places.place(60):
        threads = [threading.Thread(target=work, args=(name,)) for name in ("first", "second", "third")]
        for count, thread in enumerate(threads, start=1):
            thread.start()
            while len(places._waiting) < count:
                time.sleep(0.001)
    work("again")
    for thread in threads:
        thread.join()
    assert order == ["first", "second", "third", "again"]


def test_who_leaves_just_before_their_turn_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confined, "POLL_SECONDS", 60)
    places, left, taken = confined.Places(1), threading.Event(), list[str]()

    class LeftError(BaseException):
        pass

    def leave() -> None:
        if left.is_set():
            raise LeftError

    def work() -> None:
        with suppress(LeftError), places.place(waiting=leave):
            taken.append("a place")

    with places.place():
        other = threading.Thread(target=work)
        other.start()
        while not places._waiting:
            time.sleep(0.001)
        left.set()
    other.join(60)
    assert not taken
    with places.place(0):
        pass


def test_who_waits_too_long_for_a_place_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confined, "PLACES", confined.Places(1))
    monkeypatch.setattr(confined, "CLOCK_FACTOR", 0.05)
    path = program(tmp_path, "")
    with confined.PLACES.place(1), pytest.raises(BusyError, match=r"others are read\): try again in a moment"):
        confined.confined(path, b"", 100)
    monkeypatch.setattr(confined, "CLOCK_FACTOR", 60)
    assert confined.confined(path, b"", 100) == b""


@pytest.mark.parametrize("runs", [True, False])
def test_who_leaves_ends_the_program(runs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it runs or waits for a place, which is free then."""
    monkeypatch.setattr(confined, "PLACES", confined.Places(1))
    begun = tmp_path / "begun"

    class LeftError(BaseException):
        pass

    def leave() -> None:
        if begun.exists() or not runs:
            raise LeftError

    monkeypatch.setattr(confined, "waiting", leave)
    path, start = (
        program(tmp_path, f"import time\nopen({str(begun)!r}, 'w').close()\ntime.sleep(100)"),
        time.monotonic(),
    )
    with nullcontext() if runs else confined.PLACES.place(), pytest.raises(LeftError):
        confined.confined(path, b"", 1000, seconds=100)
    assert time.monotonic() - start < 40
    assert begun.exists() == runs
    with confined.PLACES.place(0.1):
        pass


def test_the_wait_for_a_place_is_part_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places, limits = confined.Places(1), list[float]()

    def run(*arguments: Any) -> tuple[bytes, int, bool]:
        limits.append(arguments[-1])
        return b"", 0, False

    monkeypatch.setattr(confined, "PLACES", places)
    monkeypatch.setattr(confined, "_run", run)
    with places.place(1):
        other = threading.Thread(target=confined.confined, args=(program(tmp_path, ""), b"", 100, 10))
        other.start()
        while not places._waiting:
            time.sleep(0.001)
        time.sleep(0.2)
    other.join()
    assert 0 < limits[0] <= 10 * confined.CLOCK_FACTOR - 0.2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no fork")
@pytest.mark.parametrize("output", ["kept open", "closed"])
def test_what_a_program_starts_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    """A pipe ends with the last process that holds it."""
    monkeypatch.setattr(confined, "CLOCK_FACTOR", 2)
    os.mkfifo(pipe := tmp_path / "pipe")
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    code = f"import os, time\nos.open({str(pipe)!r}, os.O_WRONLY)\nif not os.fork():\n    "
    code += ("os.close(1)\n    " if output == "closed" else "") + "time.sleep(60)"
    start = time.monotonic()
    with suppress(BusyError):
        confined.confined(program(tmp_path, code), b"", 1000, seconds=1)
    os.set_blocking(end, True)
    assert os.read(end, 1) == b""
    os.close(end)
    assert time.monotonic() - start < 40


def test_a_program_that_no_thread_can_watch_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    start = time.monotonic()
    with pytest.raises(BusyError, match=r"cannot be read now \(can't start new thread\): try again"):
        confined.confined(program(tmp_path, "import time; time.sleep(60)"), b"", 1000)
    assert time.monotonic() - start < 40


def test_a_program_writes_no_file(tmp_path: Path) -> None:
    target = tmp_path / "written"
    code = f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nopen({str(target)!r}, 'w').write('x' * 9999)"
    with pytest.raises(ConfinedError):
        confined.confined(program(tmp_path, code), b"", 1000)
    assert not target.exists() or not target.read_bytes()
