"""Pickles, run by a machine that knows values and containers, and counts its steps (`stand_ins` has the rest)."""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from . import DAMAGED, MAX_STEPS, RefusedError
from .stand_ins import GLOBALS, Global, Storage, Thing, call, entries, placed, to_persistent

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
