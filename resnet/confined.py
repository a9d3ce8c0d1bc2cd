"""What strangers send is read by a program in a process of its own: whatever it does there, it ends alone.

The file is handed over in memory where the system can (Linux), else by a temporary file that has no name. The process
has a low priority, nothing of this one's environment, and few open files, and writes none. macOS does not limit its
memory, and Windows only its time on the clock.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO

SECONDS = 3
"""How long a program may take of a processor."""

CLOCK_FACTOR = 4
"""How many times as long it may take on the clock, its wait for a place included, where others want the processor too."""

POLL_SECONDS = 0.1
"""Seconds between two looks of whoever waits: for a place, a program or a download."""

MEMORY = round(0.6 * 2**30)
"""How many bytes of memory a program may hold, its own code included."""

_PRELUDE = """
import os, sys
from importlib.machinery import SourceFileLoader
program, seconds, memory, *path = sys.argv[1:]
if hasattr(os, "nice"):
    os.nice(10)
try:
    import resource
except ImportError:  # on Windows
    pass
else:
    for kind, most in ("AS", int(memory)), ("CPU", int(seconds)), ("NOFILE", 32), ("FSIZE", 0), ("CORE", 0):
        try:  # the second limit of time would end it with the signal of any other end
            resource.setrlimit(getattr(resource, "RLIMIT_" + kind), (most, most + (kind == "CPU")))
        except (ValueError, OSError):  # macOS has no limit of memory
            pass
sys.path += [folder for folder in path if folder not in sys.path]
try:
    exec(SourceFileLoader("__main__", program).get_code("__main__"))
except MemoryError:
    os._exit(9)
"""
"""Limits the process before it reads a byte. Its own search path goes first: a server's begins with its script's folder."""

_NEEDED = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
"""The environment without which a system finds no library."""


aside: Callable[[], AbstractContextManager[object]] = nullcontext
"""What a thread enters while it waits for others. A server that draws pages in turn lets the next one go on there."""


class ConfinedError(RuntimeError):
    """A program that gave no answer: the end of a sentence, "takes more than 3 s to read"."""


class BusyError(ConfinedError):
    """A program that could not run: "cannot be read now (too many open files): try again in a moment"."""


class Places:
    """So many who may work at one time; the others wait, and go in the order in which they came.

    Somebody may take several places, or all where they ask for more than there are.
    """

    def __init__(self, count: int):
        self._free = self._count = count
        self._waiting: deque[tuple[threading.Event, int]] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def place(
        self, seconds: float = math.inf, size: int = 1, waiting: Callable[[], object] | None = None
    ) -> Iterator[None]:
        """A place, or as many as `size`, for the duration of a with statement.

        What `waiting` raises, which is called now and then meanwhile, ends the wait.

        Raises:
            TimeoutError: where none is free within `seconds`.
        """
        mine = threading.Event(), min(size, self._count)
        with self._lock:
            self._waiting.append(mine)
            self._fill()
        try:
            if not mine[0].is_set():
                with aside():
                    self._wait(mine[0], seconds, waiting)
            yield
        finally:
            with self._lock:
                if mine[0].is_set():
                    self._free += mine[1]
                else:
                    self._waiting.remove(mine)
                self._fill()

    def _wait(self, granted: threading.Event, seconds: float, waiting: Callable[[], object] | None) -> None:
        end = time.monotonic() + seconds
        while not granted.wait(min(POLL_SECONDS, max(0.0, end - time.monotonic()))):
            if time.monotonic() >= end:
                raise TimeoutError
            if waiting:
                waiting()
        if waiting:  # who has left just before their turn takes no place
            waiting()

    def _fill(self) -> None:
        while self._waiting and self._waiting[0][1] <= self._free:
            first, size = self._waiting.popleft()
            first.set()
            self._free -= size


PLACES = Places(4)
"""Programs that run at one time. More than a small machine has processors, since they share these by time: a photograph
need not wait until files that take long are done."""


waiting: Callable[[], object] = object
"""Called now and then by a thread that waits for a program; what it raises ends the wait, and the program."""

PIPE = 2**20
"""Bytes that a program may be ahead of its reader, where the system lets it: after each, the reader waits until other
threads let it go on."""

_BUSY = "cannot be read now ({}): try again in a moment"


def confined(program: Path, data: bytes, most: int, seconds: int = SECONDS, memory: int = MEMORY) -> bytes:
    """What the Python file `program` puts out, at most `most` bytes, with `data` as its standard input (a file, so that
    it can seek).

    It finds the modules that this process finds.

    Raises:
        BusyError: where it cannot be started, or has no answer `CLOCK_FACTOR` times `seconds` after it was asked for, for
            want of a place or of a processor.
        ConfinedError: where it takes more than `seconds` of a processor or more bytes than `memory`, puts out more than
            `most`, or fails.
    """
    command = [sys.executable, "-I", "-S", "-B", "-c", _PRELUDE, str(program), str(seconds), str(memory)]
    command += [os.path.abspath(folder) for folder in sys.path]
    deadline = time.monotonic() + CLOCK_FACTOR * seconds
    try:
        with aside(), PLACES.place(CLOCK_FACTOR * seconds, waiting=waiting), _file(data) as file:
            answer, code, late = _run(command, file, most, deadline - time.monotonic())
    except TimeoutError as error:
        raise BusyError(_BUSY.format("others are read")) from error
    except (OSError, RuntimeError) as error:  # the second for want of a thread
        raise BusyError(_BUSY.format(getattr(error, "strerror", None) or error)) from error
    if late:
        raise BusyError(_BUSY.format("the server is busy"))
    if code == -getattr(signal, "SIGXCPU", 0) != 0:
        raise ConfinedError(f"takes more than {seconds} s to read")
    if code or len(answer) > most:
        raise ConfinedError(f"is damaged, or takes more than {memory / 2**30:.1f} GiB to read")
    return answer


def _run(command: list[str], file: IO[bytes], most: int, seconds: float) -> tuple[bytes, int, bool]:
    """What a command puts out, at most `most` bytes and one; its exit status; whether it was ended for its time."""
    with subprocess.Popen(
        command,
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,
        env={name: os.environ[name] for name in _NEEDED if name in os.environ} | {"MALLOC_ARENA_MAX": "1"},
        creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
        pipesize=PIPE,
    ) as process:
        assert process.stdout is not None
        output, found = process.stdout, Future[bytes]()

        def read() -> None:
            try:
                found.set_result(output.read(most + 1))
            except BaseException as error:  # for want of memory
                found.set_exception(error)

        reader, end, late = threading.Thread(target=read, name="reader", daemon=True), time.monotonic() + seconds, False
        try:
            reader.start()
            while not found.done() and not late:
                wait([found], max(0.0, min(POLL_SECONDS, end - time.monotonic())))
                waiting()
                late = time.monotonic() >= end and not found.done()
        finally:
            _kill(process)
            if reader.ident:  # it had begun
                reader.join()
        return found.result(), process.wait(), late


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program, which leads a group of processes, and those that it started in it: they may hold its output open."""
    if hasattr(os, "killpg") and process.returncode is None:  # else its number may be another's
        with suppress(OSError):  # a group that has ended
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _file(data: bytes) -> IO[bytes]:
    """A file without a name that holds `data`, at its start."""
    if hasattr(os, "memfd_create"):
        file: IO[bytes] = os.fdopen(os.memfd_create("upload"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - who asks closes it
    file.write(data)
    file.seek(0)
    return file
