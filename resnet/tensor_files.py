"""Which tensors a checkpoint file holds, and where in it their bytes lie.

Run as a program, it reads a file from standard input and puts out JSON: `{"contents": …, "is": …, "metadata": …}`, or
`{"refused": …}` with the end of a sentence that begins with the file's name. In `contents` an object is a dictionary
of the file or an object with attributes, a network by the names of its state dict, and a list is a tensor: the fields
of `Tensor`. `is` says what the file holds where that is no dictionary, `modules` how the layers of a network that was
saved whole are set. All else that a file holds is left out.

It imports the standard library alone, which lets it start in 40 ms, and it looks at no tensor's numbers: who asked for
the list takes them from the file. No function that a file names is called. A pickle is run by a machine that knows
values, containers, tensors and arrays, and counts its steps; whatever else a pickle names is an inert `Global`, and what
it makes of that an inert `Thing`, which remembers what it was made of.

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

MAX_FILE_BYTES = 400 * 2**20
"""A checkpoint, in one file or several."""

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
    `start + Σ index·stride` of them at each index.

    Where `coded` is not 0, so many bytes of the file are a text in UTF-8, whose characters are the bytes of the numbers.
    """

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    start: int
    at: int
    coded: int = 0


class RefusedError(Exception):
    """Why a file is not read: the end of a sentence that begins with its name."""


DAMAGED = "is damaged, cut off, or no checkpoint that torch.save wrote."


# -- pickles ------------------------------------------------------------------------------


class Global(NamedTuple):
    """What a pickle names by its module and name; it stands for nothing."""

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


class Bytes(NamedTuple):
    """Bytes of a pickle, `length` of them from byte `at` of the file on; `coded` as in `Tensor`."""

    at: int
    length: int
    coded: int


class Text(str):
    """A text, and the bytes of the file that it stands in."""

    place: Bytes


class Thing:
    """What an object stands for that is not made: the name of its class or function, and all that it was given."""

    def __init__(self, path: str, arguments: Any = ()):
        self.path, self.arguments, self.state = path, arguments, None
        self.entries: dict[str, Any] = {}
        """Its attributes, and its items where it is a dictionary."""

    def build(self, state: Any) -> None:
        """Take the state that `BUILD` gives it: attributes, attributes and slots, or anything."""
        self.state = state
        for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
            if isinstance(part, dict):
                self.entries.update(part)


MARK = object()

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
    r"|torch\._utils\._rebuild_(tensor(_v2)?|parameter(_with_state)?|device_tensor_from_cpu_tensor)"
    r"|torch\._tensor\._rebuild_from_type(_v2)?"
    r"|torch(\.storage)?\.(" + "|".join(STORAGES) + ")Storage"
    r"|torch\.(Size|device|nn\.parameter\.Parameter|b?float\d*|double|half|u?int\d*|long|bool)"
)
"""What the machine knows; of anything else that a pickle names it makes a `Thing`."""

UNREAD = re.compile(r"torch\._utils\._rebuild_|torch\.serialization\._get_layout|torch\.storage\._load_from_bytes")
"""What makes tensors that the machine does not know: sparse, quantised, files in a file, …"""

PROGRAMS = re.compile(
    r"(os|posix|nt|subprocess|pty|runpy|shutil|socket|ctypes|webbrowser)\..*"
    r"|(builtins|__builtin__)\.(eval|exec|execfile|compile|open|__import__)"
)
"""What runs programs or touches files when a pickle is opened without care. Here it does nothing, but a file that calls it,
or gives it to what is called, was made to hurt somebody, who is told."""


class Machine:
    """Runs the steps of pickles on values, containers and tensors.

    `start` is the byte of the file at which its streams begin. `storages` gathers the type of each storage by its key,
    `unsafe` what would be called of `PROGRAMS`, `unread` the kinds of tensors that are not read.
    """

    def __init__(self, start: int = 0) -> None:
        self.start = start
        self.steps = 0
        self.storages: dict[str, str] = {}
        self.unsafe: dict[str, None] = {}
        self.unread: dict[str, None] = {}

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
                    stack.append(placed(argument, name, self.start + stream.tell()))
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
                    stack.append(to_persistent(stack.pop()))
                    if isinstance(stack[-1], Storage):
                        self.storages[stack[-1].key] = stack[-1].dtype
                case "PERSID":
                    stack.append(Thing("a persistent id"))
                case "REDUCE" | "NEWOBJ":
                    arguments = stack.pop()
                    stack.append(self.call(stack.pop(), arguments))
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
                    if isinstance(key, str):
                        held(stack[-1])[key] = value
                case "SETITEMS":
                    pairs = entries(items())
                    held(stack[-1]).update(pairs)
                case "APPEND":
                    value = stack.pop()
                    if not isinstance(stack[-1], Thing):
                        stack[-1].append(value)
                case "APPENDS" | "ADDITEMS":
                    values = items()
                    if not isinstance(stack[-1], Thing):
                        stack[-1].extend(values)
                case "GLOBAL":
                    stack.append(self.to_global(*argument.split(" ", 1)))
                case "STACK_GLOBAL":
                    name, module = stack.pop(), stack.pop()
                    stack.append(self.to_global(module, name))
                case "INST":
                    stack.append(self.call(self.to_global(*argument.split(" ", 1)), tuple(items())))
                case "OBJ":
                    made, *arguments = items()
                    stack.append(self.call(made, tuple(arguments)))
                case "NEWOBJ_EX":
                    named = stack.pop()
                    arguments = stack.pop()
                    stack.append(self.call(stack.pop(), arguments))
                    if isinstance(stack[-1], Thing) and isinstance(named, dict):
                        stack[-1].entries.update(named)
                case "EXT1" | "EXT2" | "EXT4":
                    stack.append(Global(f"extension {argument}"))
                case "NEXT_BUFFER":
                    stack.append(Thing("a buffer elsewhere"))
                case "BUILD":  # attributes; those of a dictionary are left out
                    state = stack.pop()
                    if isinstance(state, dict):  # the next step of this kind would call that
                        self.note(state.get("__setstate__"))
                    if isinstance(stack[-1], Thing):
                        stack[-1].build(state)
                case "POP":
                    stack.pop()
                case "POP_MARK":
                    items()
                case "DUP":
                    stack.append(stack[-1])
                case "STOP":
                    return stack.pop()
                case "PROTO" | "FRAME" | "READONLY_BUFFER":
                    pass
                case other:
                    raise ValueError(other)
        raise EOFError

    def call(self, function: Any, arguments: Any) -> Any:
        """What stands for the result of a call; what is called and what it is given are noted."""
        for value in (function, *arguments) if isinstance(arguments, tuple) else (function,):
            self.note(value)
        return call(function, arguments)

    def note(self, value: Any) -> None:
        """Remember a global that runs programs, where it would be called."""
        if isinstance(value, Global) and PROGRAMS.fullmatch(value.path):
            self.unsafe[value.path] = None

    def to_global(self, module: Any, name: Any) -> Global:
        """What a pickle names by two texts; what would make a tensor that is not read is remembered.

        Raises:
            ValueError: where they are none.
        """
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("no name")
        path = f"{module}.{name}"
        if UNREAD.match(path) and not GLOBALS.fullmatch(path):
            self.unread[path] = None
        return Global(path)


def entries(items: list[Any]) -> dict[str, Any]:
    """The dictionary of keys and values in turn, less what has no text as its key: comparing others can take any time."""
    return {key: value for key, value in zip(items[::2], items[1::2], strict=True) if isinstance(key, str)}


def held(value: Any) -> dict[str, Any]:
    """Where the items of a dictionary go that a pickle fills.

    Raises:
        ValueError: for what has no items.
    """
    if isinstance(value, Thing):
        return value.entries
    if not isinstance(value, dict):
        raise ValueError("no dictionary")
    return value


def placed(argument: Any, step: str, end: int) -> Any:
    """The value that a step puts on the stack, and where it lies in a file of which the step ends before byte `end`.

    Of bytes only the place is kept; a text without one is not written as it is.
    """
    if isinstance(argument, bytes | bytearray):
        return Bytes(end - len(argument), len(argument), 0)
    if not isinstance(argument, str) or step in ("STRING", "UNICODE"):
        return argument
    text = Text(argument)
    size = len(argument) if step.endswith("STRING") else len(argument.encode("utf-8", "surrogatepass"))
    text.place = Bytes(end - size, len(argument), 0 if step.endswith("STRING") else size)
    return text


def call(function: Any, arguments: tuple[Any, ...]) -> Any:
    """What stands for the result of a call: for what is not among `GLOBALS`, a `Thing`.

    Raises:
        ValueError: for a storage that is made, and so has no bytes in the file.
    """
    match function:
        case Global("torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor"):
            numbers, start, shape, stride, *_ = arguments
            return numbers if isinstance(numbers, Thing) else view(numbers, start, shape, stride)
        case Global(path) if path.startswith("torch._tensor._rebuild_from_type"):
            return call(arguments[0], arguments[2])
        case Global("torch.nn.parameter.Parameter") if not arguments:
            return Thing(function.path)
        case Global(
            "torch._utils._rebuild_parameter"
            | "torch._utils._rebuild_parameter_with_state"
            | "torch._utils._rebuild_device_tensor_from_cpu_tensor"
            | "torch.nn.parameter.Parameter"
        ):
            return arguments[0]
        case Global("collections.OrderedDict" | "collections.Counter"):
            (items,) = arguments or ([],)
            return items if isinstance(items, dict) else entries(list(chain.from_iterable(items)))
        case Global("torch.Size" | "builtins.set" | "__builtin__.set"):
            return arguments[0]
        case Global(path) if path.endswith("Storage") and GLOBALS.fullmatch(path):
            raise ValueError("a storage without bytes")
        case Global("_codecs.encode"):
            match arguments:
                case (Text() as text, "latin1" | "latin-1") if hasattr(text, "place"):
                    return text.place
        case Global("copyreg._reconstructor" | "copy_reg._reconstructor"):
            match arguments:
                case (Global(path), *_):
                    return Thing(path, arguments)
    return Thing(function.path if isinstance(function, Global | Thing) else "something", arguments)


def to_persistent(reference: Any) -> Any:
    """What stands for an object that whoever wrote a pickle kept beside it: a storage, or the class of a network.

    Raises:
        ValueError: for a storage that is none.
    """
    match reference:
        case ("storage", *_):
            return to_storage(reference)
        case ("module", Global() as kind, *_):
            return kind
    return Thing("a persistent id")


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


ARRAYS = re.compile(r"numpy\.(_?core\.multiarray\._reconstruct|_?core\.numeric\._frombuffer|ndarray)")
ARRAY_TYPES = {"f8": "float64", "f4": "float32", "f2": "float16", "i8": "int64", "i4": "int32", "i2": "int16"} | {
    "i1": "int8",
    "u1": "uint8",
    "b1": "bool",
}


def array(thing: Thing) -> Tensor | None:
    """The tensor that a numpy array is; None where it is none, or not one of numbers in the file's own bytes.

    https://github.com/numpy/numpy/blob/main/numpy/_core/src/multiarray/methods.c (`array_reduce`, `array_setstate`).
    """
    if not ARRAYS.fullmatch(thing.path):
        return None
    match (thing.arguments, thing.state):
        case ((data, Thing() as kind, shape, order), None):
            fortran = order == "F"
        case (_, (int(), shape, Thing() as kind, fortran, data)):
            pass
        case _:
            return None
    data = getattr(data, "place", data)
    written = kind.arguments[0] if kind.path == "numpy.dtype" and kind.arguments else ""
    dtype = ARRAY_TYPES.get(written) if isinstance(written, str) else None
    if not isinstance(data, Bytes) or dtype is None or kind.state is None or kind.state[1] == ">":
        return None
    if not isinstance(shape, tuple) or not are_sizes(*shape) or len(shape) > MAX_AXES:
        return None
    stride = tuple(prod(shape[:axis] if fortran else shape[axis + 1 :]) for axis in range(len(shape)))
    whole = prod(shape) * ITEM_BYTES[dtype] == data.length and are_sizes(*stride)
    return Tensor(dtype, shape, stride, 0, data.at, data.coded) if whole else None


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
    start = file.read(MAX_START)
    file.seek(max(0, size - 8))
    end = file.read(8)
    file.seek(0)
    if (
        start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= MAX_HEADER_BYTES
    ):  # which can begin as the others do
        return read_safetensors(file, size)
    if start.startswith(b"PK"):
        return answer(*read_zip(file, size))
    if re.match(rb"\x80[\x02-\x05]", start):
        return answer(*read_bare(file, size))
    if end == LEVELDB:
        raise RefusedError("is the index of a TensorFlow checkpoint: weights of PyTorch are accepted.")
    for pattern, words in FORMATS:
        if re.match(pattern, start, re.DOTALL | re.IGNORECASE):
            raise RefusedError(f"is {words}.")
    if re.fullmatch(rb"[\t\n\r -~]+", start):
        words = " ".join(start[:80].decode("ascii").split())
        raise RefusedError(f"is a text that begins with “{words[:40]}”: the file of weights is accepted.")
    raise RefusedError("is no checkpoint: .safetensors, and .pt or .pth as torch.save writes, are accepted.")


MAX_START = 300
LEVELDB = bytes.fromhex("57fb808b247547db")
UNPACK = "unpack it, and give what is in it"
PYTORCH = "weights of PyTorch are accepted"
FORMATS = (
    (
        rb"version https://git-lfs",
        "a pointer of Git LFS, which stands for the file: `git lfs pull` gets the file itself",
    ),
    (rb"# xet version", "a pointer of Git Xet, which stands for the file: a clone with git-xet has the file itself"),
    (rb"\s*<\?xml[^>]*>\s*<net ", f"a program of OpenVINO: {PYTORCH}"),
    (
        rb"(\xef\xbb\xbf)?\s*<(!doctype|!--|html|head|\?xml|error>)",
        "a web page: what the link leads to has to be downloaded itself",
    ),
    (rb"\s*[{\[]", "JSON, which holds no tensors: the file of weights is accepted"),
    (rb"\x89HDF\r\n", f"HDF5, as Keras writes it: {PYTORCH}"),
    (rb"[\x81-\x8f]([\xa0-\xbf]|\xd9.)\w", f"msgpack, as Flax writes it: {PYTORCH}"),
    (rb"\x93NUMPY", f"a numpy array: {PYTORCH}"),
    (rb"\x08\x01\x12", f"a program of TensorFlow or Core ML: {PYTORCH}"),
    (rb"ftrt", f"a program of TensorRT: {PYTORCH}"),
    (rb"7767517\s", f"a program of ncnn: {PYTORCH}"),
    (rb".{4}TFL3", f"a program of TensorFlow Lite: {PYTORCH}"),
    (rb"\x08[\x02-\x1f][\x10\x12\x1a\x20\x28\x32\x3a\x42]", f"an ONNX program: {PYTORCH}"),
    (rb"\x80[\x06-\xff]|GGUF|ggml", f"a file of another program: {PYTORCH}"),
    (rb"[\x03\x04]\0\0\0\x01\0\0\0", f"a file of Lua Torch: {PYTORCH}"),
    (rb"\x12\x01\0\0\0\0\0\0", f"weights of MXNet: {PYTORCH}"),
    (rb"\x0a[\x01-\x40][\w -]+\xa2\x06", f"a network of Caffe: {PYTORCH}"),
    (rb"MATLAB ", f"a file of MATLAB: {PYTORCH}"),
    (
        rb"(\(?c[\w.]+\n[\w.]+\n|\([dl]|[\]}])[(pqR]",
        "a pickle of an old protocol, which torch.save does not write: pickle.dump(…, protocol=2) writes what is accepted",
    ),
    (
        rb"sys_info\0.{248}ustar",
        "an archive of PyTorch before 0.2: what torch.load makes of it is accepted as torch.save writes it",
    ),
    (rb".{257}ustar", f"a tar archive: {UNPACK}"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", f"a packed archive: {UNPACK}"),
)
"""What people also have, by how it begins."""


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
        raise RefusedError(
            f"holds more than tensors: opening it elsewhere would call {shown(machine.unsafe)}, which can run any "
            "program, so it is not opened. Have its tensors alone, from torch.save(model.state_dict(), …) or as safetensors."
        )
    if any("qtensor" in path for path in machine.unread):
        raise RefusedError(
            f"holds whole numbers of a quantised network ({shown(machine.unread)}): "
            "the network that it was made of is accepted, in floating point."
        )
    if "torch.storage._load_from_bytes" in machine.unread:
        raise RefusedError("was written by pickle, not by torch.save, which writes the same as what is accepted.")
    if machine.unread:
        raise RefusedError(
            f"holds tensors of a kind that is not read ({shown(machine.unread)}): dense ones are accepted."
        )
    if isinstance(failure, RefusedError):
        raise failure
    if failure:
        raise RefusedError(DAMAGED) from failure
    return values


def shown(paths: Iterable[str]) -> str:
    """The first few, for a sentence."""
    paths = list(paths)
    return ", ".join(path[:60] for path in paths[:3]) + (" and more" if len(paths) > 3 else "")


def accept(value: Any) -> None:
    pass


MAGIC = b"\x8a\n" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little") + b"."
"""The number with which `torch.save` began before PyTorch 1.6, as it was pickled."""


def check_protocol(value: Any) -> None:
    if value != 1001:
        raise RefusedError(DAMAGED)


def check_byte_order(system: Any) -> None:
    if not system["little_endian"]:
        raise RefusedError(BIG_ENDIAN)


def read_bare(file: BinaryIO, size: int) -> tuple[Any, Places]:
    """What a pickle without an archive around it holds.

    Before PyTorch 1.6, `torch.save` wrote five pickles, then each storage's length and numbers; one that is alone holds
    its numbers itself, as arrays.
    """
    machine, head = Machine(), io.BytesIO(file.read(MAX_HEADER_BYTES))
    if MAGIC not in head.getvalue()[:40]:
        file.seek(0)
        (contents,) = read_pickles(machine, file, accept)
        return contents, {}
    *_, contents, keys = read_pickles(machine, head, accept, check_protocol, check_byte_order, accept, accept)
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
            check_archive([record.filename for record in records])
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
            machine = Machine(content_start(file, pickles[0]))
            (contents,) = read_pickles(machine, io.BytesIO(archive.read(pickles[0])), accept)
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


ARCHIVES = (
    (r".*/constants\.pkl", "is a TorchScript program: save its state_dict() instead."),
    (
        r"(.*/)?(serialized_exported_program\.json|models/.*\.json)",
        "is a program of torch.export: save its state_dict() instead.",
    ),
    (
        r"(.*/)?model\.weights\.h5|keras_metadata\.pb",
        "is a Keras model (HDF5 in a zip archive): weights of PyTorch are accepted.",
    ),
    (r".*\.npy", "is an archive of numpy arrays (.npz): weights of PyTorch are accepted."),
    (
        r".*\.(pth?|ckpt|bin|safetensors|tar|pkl|th)",
        "is a zip archive around a checkpoint: unpack it, and give what is in it.",
    ),
)
"""What else is a zip archive, by a record in it."""


def check_archive(names: list[str]) -> None:
    """That an archive of records of these names may be one of `torch.save`.

    Raises:
        RefusedError: for one that is known to be something else.
    """
    for pattern, words in ARCHIVES:
        if any(re.fullmatch(pattern, name) for name in names if not name.endswith("data.pkl")):
            raise RefusedError(words)


def content_start(file: BinaryIO, record: zipfile.ZipInfo) -> int:
    """The first byte of a record's content: its own header comes before it, with a name and more of any length."""
    file.seek(record.header_offset)
    name, extra = struct.unpack("<26xHH", file.read(30))
    return record.header_offset + 30 + name + extra


def answer(value: Any, places: Places) -> dict[str, Any]:
    """The answer for the value of a file's pickle."""
    contents, modules = tree(value, places)
    inside = [value, *value.values()] if isinstance(value, dict) and not has_tensors(contents) else []
    if any(isinstance(one, dict) and {"state", "param_groups"} <= one.keys() for one in inside):
        kind = "the state of an optimiser alone"
    else:
        kind = next((words for type_, words in KINDS if isinstance(value, type_)), "")
    if isinstance(value, Thing) and not is_network(value):
        kind = value.path if value.path.startswith("a ") else f"a whole {value.path[:200]}"
    return {"contents": contents, "is": kind, "modules": modules}


def has_tensors(contents: dict[str, Any]) -> bool:
    """Whether a tensor is in dictionaries in one another."""
    return any(not isinstance(entry, dict) or has_tensors(entry) for entry in contents.values())


KINDS: tuple[tuple[Any, str], ...] = (
    (View, "one tensor without a name"),
    (list | tuple, "a list"),
    (int | float | str | Bytes, "one value"),
)


def is_network(value: Any) -> bool:
    """Whether a thing stands for one of torch's modules."""
    return isinstance(value, Thing) and isinstance(value.entries.get("_parameters"), dict)


SETTINGS = (
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "groups",
    "padding_mode",
    "ceil_mode",
    "eps",
    "num_groups",
    "negative_slope",
    "alpha",
    "approximate",
)
"""What the layers of torch are set to, by the attribute: what a network computes beside its tensors."""


def set_to(layer: Thing) -> dict[str, Any]:
    """The class of a layer, and its settings that are numbers, pairs of numbers or words."""

    def plain(value: Any) -> bool:
        if isinstance(value, tuple):
            return len(value) <= 3 and all(type(number) is int and abs(number) < 2**20 for number in value)
        if isinstance(value, str):
            return len(value) <= 20
        return isinstance(value, int | float) and abs(value) < 2**20

    own = {name: layer.entries[name] for name in SETTINGS if plain(layer.entries.get(name))}
    return {"is": layer.path[:100]} | own


def tree(value: Any, places: Places) -> tuple[Any, dict[str, dict[str, Any]]]:
    """The dictionaries by text in a value, and in them tensors with their place in the file; how the layers of networks
    are set, by their names after those of the dictionaries, each followed by a slash.

    Raises:
        RefusedError: for more than `MAX_ENTRIES` or `MAX_TENSORS`, since one dictionary or tensor may stand in others many
            times, or a name longer than `MAX_NAME`.
    """
    total = tensors = 0
    modules: dict[str, dict[str, Any]] = {}

    def count(entries: dict[str, Any]) -> None:
        nonlocal total
        total += 1 + len(entries)
        if total > MAX_ENTRIES:
            raise RefusedError(
                f"holds more than {MAX_ENTRIES:,} entries: at most {MAX_TENSORS:,} tensors are accepted."
            )

    def state_dict(network: Thing, prefix: str, depth: int, path: str) -> dict[str, Any]:
        """The tensors of a network by the names that its `state_dict()` gives them."""
        found: dict[str, Any] = {}
        if not network.entries.get("_modules") and len(name := path + prefix.removesuffix(".")) <= MAX_NAME:
            modules[name] = set_to(network)
        hidden = network.entries.get("_non_persistent_buffers_set")
        for kind in ("_parameters", "_buffers", "_modules"):
            entries = network.entries.get(kind)
            if not isinstance(entries, dict) or depth == 2 * MAX_DEPTH:
                continue
            count(entries)
            for name, entry in entries.items():
                if kind == "_modules" and is_network(entry):
                    found |= state_dict(entry, f"{prefix}{name}.", depth + 1, path)
                elif kind == "_parameters" or not isinstance(hidden, list) or name not in hidden:
                    found[f"{prefix}{name}"] = entry
        return found

    def visit(value: Any, depth: int, path: str = "") -> Any:
        nonlocal tensors
        if isinstance(value, Thing) and (found := array(value)):
            value = found
        if isinstance(value, View | Tensor):
            tensors += 1
            return locate(value, places) if isinstance(value, View) else value
        if is_network(value):
            value = state_dict(value, "", depth, path)
        elif isinstance(value, Thing):
            given = value.arguments if isinstance(value.arguments, tuple) else ()
            value = {str(index): part for index, part in enumerate(given)} | value.entries
        if not isinstance(value, dict) or depth == MAX_DEPTH:
            return {}
        count(value)
        inner = {key: item for key, item in value.items() if isinstance(item, dict | View | Thing)}
        check_names(inner)
        return {key: visit(item, depth + 1, f"{path}{key}/") for key, item in inner.items()}

    contents = visit(value, 0)
    if tensors > MAX_TENSORS:
        raise RefusedError(f"holds {tensors:,} tensors: at most {MAX_TENSORS:,} are accepted.")
    return (contents if isinstance(contents, dict) else {}), modules


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
