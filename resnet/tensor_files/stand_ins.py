"""What stands for the objects that a pickle names: values, containers, tensors and arrays; the rest is inert.

No function that a file names is called: `call` says what stands for its result.
"""

from __future__ import annotations

import re
from itertools import chain
from math import prod
from typing import Any, NamedTuple

from . import ITEM_BYTES, MAX_AXES, Tensor, are_sizes, fits


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


Places = dict[str, tuple[int, int]]
"""Where each storage lies in a file: its first byte, and how many bytes it has."""

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


def entries(items: list[Any]) -> dict[str, Any]:
    """The dictionary of keys and values in turn, less what has no text as its key: comparing others can take any time."""
    return {key: value for key, value in zip(items[::2], items[1::2], strict=True) if isinstance(key, str)}


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
