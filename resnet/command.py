"""What the command lines share: how they speak, where they write, and how they end."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from .errors import ExplainedError
from .options import plain


class MissingError(ExplainedError, RuntimeError):
    """Something that a command needs and that is missing, damaged or too little, in one sentence."""


class Parser(argparse.ArgumentParser):
    """Arguments of a command line; what it says of a wrong one is shown as text."""

    def error(self, message: str) -> NoReturn:
        super().error(plain(message, 1000))


def status(name: str, work: Callable[[], None]) -> int:
    """The exit status of `work`, called `name` in what is said of it.

    It is 0, also where the reader of its output has seen enough (`| head`); or 2, with a sentence on standard error,
    where it raises an `ExplainedError` or an `OSError`. Anything else is a bug, and raised.
    """
    speak_utf8()
    try:
        try:
            work()
        finally:
            print(end="", flush=True)
    except BrokenPipeError:
        forget_output()
    except (ExplainedError, OSError) as error:
        forget_output()
        sentence = plain(error, 1000)
        print(f"{name}: {sentence}{'' if sentence.endswith(('.', '…')) else '.'}", file=sys.stderr)
        return 2
    return 0


def speak_utf8() -> None:
    """Let what is printed into a file or a pipe be UTF-8 with lines that end in LF, whatever the machine's habit.

    A terminal keeps its encoding, for it would show another one's bytes as other letters; what it lacks is escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="backslashreplace")
            else:
                stream.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")


def forget_output() -> None:
    """Let go of what could not be printed: Python would try again at its end, and complain."""
    try:
        print(end="", flush=True)
    except OSError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def writable(path: Path) -> Path:
    """The path, where a file can be written: asked before the work, which may take minutes.

    Folders that it lacks are made; a file that is there keeps its content, and none is left behind.

    Raises:
        OSError: where it cannot be written.
    """
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        there = path.exists()
        path.open("ab").close()
        if not there:
            path.unlink()
    except (OSError, ValueError) as error:  # the second for a name that no system takes
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        raise OSError(f"{path} cannot be written ({reason}): name a file in a folder that you may write to.") from error
    return path


def write(text: str, path: Path | None) -> None:
    """Write a document to a file, UTF-8 with lines that end in LF, or to standard output without one.

    Raises:
        OSError: where it cannot be written.
    """
    if path is None:
        print(text, end="")
    else:
        writable(path).write_text(text, encoding="utf-8", newline="\n")
