"""What strangers send is read by a program in a process of its own: whatever it does there, it ends alone.

The file is handed over in memory where the system can (Linux), else by a temporary file that has no name.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

SECONDS = 4
"""How long a program may take of a processor."""

PATIENCE = 3
"""How many times as long it may take on the clock, where others want the processor too."""

MEMORY = 2**30
"""How many bytes of memory a program may hold, its own code included; not limited on Windows and macOS."""

_PLACES = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))
"""Files that are read at one time; the next wait."""

_PRELUDE = """
import runpy, sys
program, seconds, memory = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
try:
    import resource
except ImportError:  # on Windows
    pass
else:
    for kind, most in (("RLIMIT_AS", memory), ("RLIMIT_CPU", seconds), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0)):
        try:  # the second limit of time would end it with the signal of any other end
            resource.setrlimit(getattr(resource, kind), (most, most + (kind == "RLIMIT_CPU")))
        except (ValueError, OSError):  # macOS has no limit of memory
            pass
runpy.run_path(program, run_name="__main__")
"""


class ConfinedError(RuntimeError):
    """A program that gave no answer: the end of a sentence, "took more than 4 s"."""


def confined(program: Path, source: bytes | Path, most: int, seconds: int = SECONDS, memory: int = MEMORY) -> bytes:
    """What the Python file `program` puts out, at most `most` bytes, with `source` as its standard input (a file, so that
    it can seek).

    Raises:
        ConfinedError: where it takes more than `seconds` of a processor, `PATIENCE` times as long on the clock, or more
            bytes than `memory`; where it puts out more, fails, or cannot be started.
    """
    command = [sys.executable, "-P", "-c", _PRELUDE, str(program), str(seconds), str(memory)]
    try:
        with _PLACES, _opened(source) as file:
            answer, code, late = _run(command, file, most, PATIENCE * seconds)
    except OSError as error:
        raise ConfinedError(f"cannot be read now: {error.strerror or error}") from error
    if late or code == -getattr(signal, "SIGXCPU", 0) != 0:
        raise ConfinedError(f"takes more than {seconds} s to read")
    if code or len(answer) > most:
        raise ConfinedError("takes too much memory to read")
    return answer


def _run(command: list[str], file: IO[bytes], most: int, seconds: float) -> tuple[bytes, int, bool]:
    """What a command puts out, at most `most` bytes and one; its exit status; whether it was ended for its time."""
    with subprocess.Popen(
        command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:  # fmt: skip
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            assert process.stdout is not None
            answer = process.stdout.read(most + 1)
            if len(answer) > most:
                process.kill()
            return answer, process.wait(), late.is_set()
        finally:
            timer.cancel()
            process.kill()


def _opened(source: bytes | Path) -> IO[bytes]:
    if isinstance(source, Path):
        return source.open("rb")
    if hasattr(os, "memfd_create"):
        file: IO[bytes] = os.fdopen(os.memfd_create("upload"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - who asks closes it
    file.write(source)
    file.seek(0)
    return file
