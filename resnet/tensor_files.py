"""Which tensors a checkpoint file holds, and where in it their bytes lie.

Run as a program, it reads a file from standard input and puts out JSON: `{"contents": …, "metadata": …}`, or
`{"refused": …}` with the end of a sentence that begins with the file's name. In `contents` an object is a dictionary
of the file, and a list is a tensor: the fields of `Tensor`. All else that a file holds is left out.

It imports the standard library alone, which lets it start in 40 ms, and it looks at no tensor's numbers: who asked for
the list takes them from the file. No function that a file names is called. A pickle is run by a machine that knows
values, containers and tensors, and counts its steps.

Formats: `torch.save`, zipped (since PyTorch 1.6) and before, https://github.com/pytorch/pytorch/blob/main/torch/serialization.py;
safetensors, https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import io
import json
import os
import pickletools
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Iterable
from itertools import chain
from math import prod
from typing import Any, BinaryIO, NamedTuple

MAX_HEADER_BYTES = 8 * 2**20
"""The part of a file that says which tensors there are; 7,000 tensors take about 1 MiB."""

MAX_STEPS = 1_000_000
"""Steps of a pickle; a tensor takes about 35."""

MAX_TENSORS = 20_000
"""A network of 1,000 bottleneck blocks has 18,000."""

MAX_ENTRIES = 10 * MAX_TENSORS
MAX_DEPTH = 16
"""How many entries of dictionaries are looked at, and how deep these may lie in one another."""

MAX_NAME = 500
"""Characters of a name."""

MAX_TEXT = 10_000
"""Characters of a text of metadata; longer ones are left out."""

MAX_AXES = 8

ITEM_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
    "complex64": 8,
    "complex128": 16,
}
"""Bytes of one number, by torch's name of its type."""


class Tensor(NamedTuple):
    """A tensor: numbers of type `dtype` lie from byte `at` of the file on; the tensor shows number
    `start + Σ index·stride` of them at each index."""

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    start: int
    at: int


class RefusedError(Exception):
    """Why a file is not read: the end of a sentence that begins with its name."""


DAMAGED = "is damaged, cut off, or no checkpoint that torch.save wrote."


# -- pickles ------------------------------------------------------------------------------


class Global(NamedTuple):
    """What a pickle calls by its module and name."""

    path: str


class Storage(NamedTuple):
    """The numbers behind tensors, `length` of them from the `first` on, known by `key`."""

    dtype: str
    key: str
    first: int
    length: int


class View(NamedTuple):
    """A tensor on a storage that is not found yet."""

    storage: Storage
    start: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


MARK = object()
NOTHING = object()
"""Stands for an object that is not made."""

VALUES = frozenset(
    code.name
    for code in pickletools.opcodes
    if code.arg
    and not code.stack_before
    and len(code.stack_after) == 1
    and code.stack_after[0] is not pickletools.anyobject
)
"""Steps that put their own argument on the stack: numbers, text, bytes."""

STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
    "Untyped": "uint8",
}
"""torch's storage classes, by the type of their numbers."""

GLOBALS = re.compile(
    r"collections\.(OrderedDict|Counter)"
    r"|(builtins|__builtin__)\.set"
    r"|torch\._utils\._rebuild_(tensor_v2|parameter)"
    r"|torch(\.storage)?\.(" + "|".join(STORAGES) + ")Storage"
    r"|torch\.(Size|device|nn\.parameter\.Parameter|b?float\d*|double|half|u?int\d*|long|bool)"
)
"""What a pickle may name: less than `torch.load(weights_only=True)` allows, which includes calls that reserve any
amount of memory."""


class Machine:
    """Runs the steps of pickles on values, containers and tensors.

    `storages` gathers the type of each storage by its key, `unsafe` what is named besides `GLOBALS`.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.storages: dict[str, str] = {}
        self.unsafe: dict[str, None] = {}

    def run(self, stream: BinaryIO) -> Any:
        """The value of the pickle that `stream` is at.

        Raises:
            RefusedError: for too many steps.
            Exception: for a pickle that is damaged, whatever fails first.
        """
        stack: list[Any] = []
        memo: dict[int, Any] = {}

        def items() -> list[Any]:
            """What lies above the last mark."""
            place = len(stack) - 1
            while stack[place] is not MARK:
                place -= 1
            above = stack[place + 1 :]
            del stack[place:]
            return above

        step: tuple[Any, Any, Any]
        for step in pickletools.genops(stream):
            code, argument, _ = step
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise RefusedError("takes more steps to read than any checkpoint of 20,000 tensors.")
            match code.name:
                case name if name in VALUES:
                    stack.append(argument)
                case "BINPUT" | "LONG_BINPUT" | "PUT":
                    memo[argument] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINGET" | "LONG_BINGET" | "GET":
                    stack.append(memo[argument])
                case "MARK":
                    stack.append(MARK)
                case "TUPLE":
                    stack.append(tuple(items()))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    count = int(name[-1])
                    stack[-count:] = [tuple(stack[-count:])]
                case "BINPERSID":
                    stack.append(to_storage(stack.pop()))
                    self.storages[stack[-1].key] = stack[-1].dtype
                case "REDUCE" | "NEWOBJ":
                    arguments = stack.pop()
                    stack.append(call(stack.pop(), arguments))
                case "NONE":
                    stack.append(None)
                case "NEWTRUE" | "NEWFALSE":
                    stack.append(name == "NEWTRUE")
                case "EMPTY_DICT":
                    stack.append({})
                case "EMPTY_LIST" | "EMPTY_SET":
                    stack.append([])
                case "EMPTY_TUPLE":
                    stack.append(())
                case "DICT":
                    stack.append(entries(items()))
                case "LIST" | "FROZENSET":
                    stack.append(items())
                case "SETITEM":
                    value, key = stack.pop(), stack.pop()
                    if stack[-1] is not NOTHING and isinstance(key, str):
                        stack[-1][key] = value
                case "SETITEMS":
                    pairs = entries(items())
                    if stack[-1] is not NOTHING:
                        stack[-1].update(pairs)
                case "APPEND":
                    value = stack.pop()
                    if stack[-1] is not NOTHING:
                        stack[-1].append(value)
                case "APPENDS" | "ADDITEMS":
                    values = items()
                    if stack[-1] is not NOTHING:
                        stack[-1].extend(values)
                case "GLOBAL":
                    stack.append(self.to_global(*argument.split(" ", 1)))
                case "STACK_GLOBAL":
                    name, module = stack.pop(), stack.pop()
                    stack.append(self.to_global(module, name))
                case "INST":
                    self.to_global(*argument.split(" ", 1))
                    items()
                    stack.append(NOTHING)
                case "OBJ":
                    items()
                    stack.append(NOTHING)
                case "NEWOBJ_EX":
                    stack[-3:] = [NOTHING]
                case "BUILD" | "POP":  # attributes of a dictionary, or of an object that is not made
                    stack.pop()
                case "POP_MARK":
                    items()
                case "DUP":
                    stack.append(stack[-1])
                case "STOP":
                    return stack.pop()
                case "PROTO" | "FRAME":
                    pass
                case other:
                    raise ValueError(other)
        raise EOFError

    def to_global(self, module: Any, name: Any) -> Global:
        """What a pickle calls by two texts.

        Raises:
            ValueError: where they are none.
        """
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("no name")
        path = f"{module}.{name}"
        if not GLOBALS.fullmatch(path):
            self.unsafe[path] = None
        return Global(path)


def entries(items: list[Any]) -> dict[str, Any]:
    """The dictionary of keys and values in turn, less what has no text as its key: comparing others can take any time."""
    return {key: value for key, value in zip(items[::2], items[1::2], strict=True) if isinstance(key, str)}


def call(function: Any, arguments: tuple[Any, ...]) -> Any:
    """What stands for the result of a call; nothing for what is not among `GLOBALS`.

    Raises:
        ValueError: for a storage that is made, and so has no bytes in the file.
    """
    match function:
        case Global("torch._utils._rebuild_tensor_v2"):
            numbers, start, shape, stride, *_ = arguments
            return NOTHING if numbers is NOTHING else view(numbers, start, shape, stride)
        case Global("torch._utils._rebuild_parameter" | "torch.nn.parameter.Parameter"):
            return arguments[0]
        case Global("collections.OrderedDict" | "collections.Counter"):
            (items,) = arguments or ([],)
            return items if isinstance(items, dict) else entries(list(chain.from_iterable(items)))
        case Global("torch.Size" | "builtins.set" | "__builtin__.set"):
            return arguments[0]
        case Global(path) if path.endswith("Storage") and GLOBALS.fullmatch(path):
            raise ValueError("a storage without bytes")
    return NOTHING


def to_storage(reference: Any) -> Storage:
    """A storage from what `torch.save` writes in its place.

    Raises:
        ValueError: for anything else.
    """
    match reference:
        case ("storage", Global(path), str(key), str(), int(count), *part) if count >= 0:
            first = 0
            if part and part[0] is not None:  # a part of another storage
                _, first, count = part[0]
            if not are_sizes(first, count):
                raise ValueError("no storage")
            name = path.rpartition(".")[2].removesuffix("Storage")
            return Storage(STORAGES[name], key, first, count)
    raise ValueError("no storage")


def view(numbers: Any, start: Any, shape: Any, stride: Any) -> View:
    """A tensor on a storage.

    Raises:
        ValueError: where it is none, or shows numbers outside the storage.
    """
    if not isinstance(numbers, Storage) or not are_sizes(start, *shape, *stride) or len(shape) > MAX_AXES:
        raise ValueError("no tensor")
    if len(shape) != len(stride) or not fits(shape, stride, start, numbers.length):
        raise ValueError("a tensor beyond its storage")
    return View(numbers, start, tuple(shape), tuple(stride))


def are_sizes(*values: Any) -> bool:
    """Whether all are whole numbers that a file could count."""
    return all(type(value) is int and 0 <= value <= 2**40 for value in values)


def fits(shape: tuple[int, ...], stride: tuple[int, ...], start: int, count: int) -> bool:
    """Whether a tensor lies within `count` numbers."""
    if 0 in shape:
        return True
    return start + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) < count


# -- files --------------------------------------------------------------------------------


Places = dict[str, tuple[int, int]]
"""Where each storage lies in a file: its first byte, and how many bytes it has."""


def read(file: BinaryIO, size: int) -> dict[str, Any]:
    """The answer for a file of `size` bytes.

    Raises:
        RefusedError: for a file that is no checkpoint, is damaged, or holds more than tensors.
        Exception: for a file that is damaged, whatever fails first.
    """
    start = file.read(9)
    file.seek(0)
    if (
        start[8:] == b"{" and int.from_bytes(start[:8], "little") <= MAX_HEADER_BYTES
    ):  # which can begin as the others do
        return read_safetensors(file, size)
    if start.startswith(b"PK"):
        return {"contents": tree(*read_zip(file, size))}
    if start.startswith(b"\x80"):
        return {"contents": tree(*read_legacy(file, size))}
    raise RefusedError("is no checkpoint: .safetensors, and .pt or .pth as torch.save writes, are accepted.")


def read_pickles(machine: Machine, stream: BinaryIO, *checks: Callable[[Any], None]) -> list[Any]:
    """The values of the pickles in a row that `stream` is at; each is looked at by its check before the next is read.

    Raises:
        RefusedError: where one is damaged, or names more than what tensors are made of.
    """
    values: list[Any] = []
    failure: Exception | None = None
    try:
        for check in checks:
            values.append(machine.run(stream))
            check(values[-1])
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle can fail at any step
        failure = error
    if machine.unsafe:
        paths = list(machine.unsafe)
        shown = ", ".join(path[:60] for path in paths[:3]) + (" and more" if len(paths) > 3 else "")
        if all(path.startswith(("torch._utils._rebuild_", "torch.serialization._get_layout")) for path in paths):
            raise RefusedError(f"holds tensors of a kind that is not read ({shown}): dense ones are accepted.")
        raise RefusedError(
            f"holds more than tensors: opening it would call {shown}, which can run any program, so it is not "
            "opened. Save the tensors alone, with torch.save(model.state_dict(), …) or as safetensors."
        )
    if isinstance(failure, RefusedError):
        raise failure
    if failure:
        raise RefusedError(DAMAGED) from failure
    return values


def accept(value: Any) -> None:
    pass


def check_magic(value: Any) -> None:
    if value != 0x1950A86A20F9469CFC6C:
        raise RefusedError(DAMAGED)


def check_protocol(value: Any) -> None:
    if value != 1001:
        raise RefusedError(DAMAGED)


def check_byte_order(system: Any) -> None:
    if not system["little_endian"]:
        raise RefusedError(BIG_ENDIAN)


def read_legacy(file: BinaryIO, size: int) -> tuple[Any, Places]:
    """What `torch.save` wrote before PyTorch 1.6: five pickles, then each storage's length and numbers."""
    machine, head = Machine(), io.BytesIO(file.read(MAX_HEADER_BYTES))
    *_, contents, keys = read_pickles(machine, head, check_magic, check_protocol, check_byte_order, accept, accept)
    places: Places = {}
    at = head.tell()
    for key in keys:
        file.seek(at)
        (count,) = struct.unpack("<Q", file.read(8))
        places[key] = at + 8, count * ITEM_BYTES[machine.storages[key]]
        at = sum(places[key])
    if at > size:
        raise RefusedError(CUT)
    return contents, places


def read_zip(file: BinaryIO, size: int) -> tuple[Any, Places]:
    """What `torch.save` writes: an archive that compresses nothing, one record for each storage."""
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            if any(record.filename.endswith("/constants.pkl") for record in records):
                raise RefusedError("is a TorchScript program: save its state_dict() instead.")
            unpacked = sum(record.file_size for record in records)
            if unpacked > size or any(
                record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size
                for record in records
            ):
                raise RefusedError(
                    f"is compressed, {unpacked / 2**20:,.0f} MiB unpacked: "
                    "PyTorch compresses nothing, so this is no checkpoint of its making."
                )
            pickles = [record for record in records if re.fullmatch(r"[^/]*/?data\.pkl", record.filename)]
            if len(pickles) != 1:
                raise RefusedError("is a zip archive, but not one that torch.save writes.")
            folder = pickles[0].filename.removesuffix("data.pkl")
            if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
                raise RefusedError(BIG_ENDIAN)
            if pickles[0].file_size > MAX_HEADER_BYTES:
                raise RefusedError(
                    f"has a list of tensors of {pickles[0].file_size / 2**20:.1f} MiB: at most "
                    f"{MAX_HEADER_BYTES // 2**20} MiB are accepted."
                )
            (contents,) = read_pickles(Machine(), io.BytesIO(archive.read(pickles[0])), accept)
            places: Places = {}
            for record in records:
                if record.filename.startswith(f"{folder}data/"):
                    with archive.open(record) as content:
                        while content.read(2**20):  # at its end the sum is checked
                            pass
                    places[record.filename.removeprefix(f"{folder}data/")] = (
                        content_start(file, record),
                        record.file_size,
                    )
            return contents, places
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise RefusedError("is damaged or cut off: its archive cannot be read.") from error


def content_start(file: BinaryIO, record: zipfile.ZipInfo) -> int:
    """The first byte of a record's content: its own header comes before it, with a name and more of any length."""
    file.seek(record.header_offset)
    name, extra = struct.unpack("<26xHH", file.read(30))
    return record.header_offset + 30 + name + extra


def tree(value: Any, places: Places) -> Any:
    """The dictionaries by text in a value, and in them tensors with their place in the file.

    Raises:
        RefusedError: for more than `MAX_ENTRIES` or `MAX_TENSORS`, since one dictionary or tensor may stand in others many
            times, or a name longer than `MAX_NAME`.
    """
    total = tensors = 0

    def visit(value: Any, depth: int) -> Any:
        nonlocal total, tensors
        if isinstance(value, View):
            tensors += 1
            return locate(value, places)
        if not isinstance(value, dict) or depth == MAX_DEPTH:
            return {}
        total += len(value)
        if total > MAX_ENTRIES:
            raise RefusedError(
                f"holds more than {MAX_ENTRIES:,} entries: at most {MAX_TENSORS:,} tensors are accepted."
            )
        inner = {key: item for key, item in value.items() if isinstance(item, dict | View)}
        check_names(inner)
        return {key: visit(item, depth + 1) for key, item in inner.items()}

    contents = visit(value, 0)
    if tensors > MAX_TENSORS:
        raise RefusedError(f"holds {tensors:,} tensors: at most {MAX_TENSORS:,} are accepted.")
    return contents


def check_names(names: Iterable[str]) -> None:
    """Refuse names longer than `MAX_NAME`.

    Raises:
        RefusedError: for such a name.
    """
    longest = max(map(len, names), default=0)
    if longest > MAX_NAME:
        raise RefusedError(f"has a name of {longest:,} characters: at most {MAX_NAME} are accepted.")


def locate(tensor: View, places: Places) -> Tensor:
    """A tensor with its place in the file.

    Raises:
        RefusedError: where its storage is not in the file, or is shorter than the pickle says.
    """
    numbers = tensor.storage
    at, length = places.get(numbers.key, (0, 0))
    item = ITEM_BYTES[numbers.dtype]
    if (numbers.first + numbers.length) * item > length:
        raise RefusedError(CUT)
    return Tensor(numbers.dtype, tensor.shape, tensor.stride, tensor.start, at + numbers.first * item)


CUT = "is damaged or cut off: its tensors cannot be read."
BIG_ENDIAN = "was written on a big-endian machine: save it on another one, or as safetensors."


SAFE_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def read_safetensors(file: BinaryIO, size: int) -> dict[str, Any]:
    """The tensors in the header of a safetensors file, whose bytes must follow each other without a gap or an overlap."""
    (length,) = struct.unpack("<Q", file.read(8))
    header = json.loads(file.read(length), object_pairs_hook=json_object)
    metadata = header.pop("__metadata__", {})
    if len(header) > MAX_TENSORS:
        raise RefusedError(f"holds {len(header):,} tensors: at most {MAX_TENSORS:,} are accepted.")
    check_names(header)
    tensors, ends = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if entry["dtype"] not in SAFE_TYPES:
            raise RefusedError(f"has {name} as {entry['dtype']}: dense floating-point tensors are accepted.")
        dtype, shape, (begin, end) = SAFE_TYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        if not are_sizes(*shape, begin, end) or len(shape) > MAX_AXES:
            raise ValueError("no shape")
        count = prod(shape)
        if begin != ends or end - begin != count * ITEM_BYTES[dtype]:
            raise ValueError("a gap, an overlap, or another length")
        steps = tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
        tensors[name] = Tensor(dtype, tuple(shape), steps, 0, 8 + length + begin)
        ends = end
    if 8 + length + ends != size:
        raise ValueError("another length")
    texts = {key: text for key, text in metadata.items() if isinstance(text, str) and len(key + text) <= MAX_TEXT}
    return {"contents": {name: tensors[name] for name in header}, "metadata": texts}


def json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: where it has a name twice.
    """
    if len(result := dict(pairs)) < len(pairs):
        raise ValueError("a name twice")
    return result


def to_json(answer: dict[str, Any]) -> bytes:
    """JSON in UTF-8; halves of characters, which no page could show, become question marks."""
    return json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace")


def main() -> None:
    file = sys.stdin.buffer
    size = os.fstat(file.fileno()).st_size
    try:
        answer = to_json(read(file, size))
    except RefusedError as refusal:
        answer = to_json({"refused": str(refusal)})
    except MemoryError:
        raise
    except Exception:  # a damaged file can fail in any line that reads it
        answer = to_json({"refused": CUT})
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    os._exit(0)  # what is left may be nested too deep to be let go one by one


if __name__ == "__main__":
    main()
