"""ZIP archives of images from outside. `unpack` is the only way in: it reads one in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

from resnet.confined import ConfinedError, confined
from resnet.options import plain

from . import unzip
from .images import ImageError

PROGRAM = Path(unzip.__file__)
MAX_ANSWER_BYTES = unzip.MAX_BYTES + 2**20


def is_archive(data: bytes) -> bool:
    """Whether a file begins as a ZIP archive does, one without files among them."""
    return data[:4] in (b"PK\x03\x04", b"PK\x05\x06")


def unpack(name: str, data: bytes) -> tuple[list[tuple[str, bytes]], int]:
    """The names and bytes of the first files in the archive `name`, which may be anything, and how many more it holds.

    Raises:
        ImageError: in one sentence, where it is not read.
    """
    if len(data) > unzip.MAX_BYTES:
        raise ImageError(
            f"{name} has {len(data) / 2**20:,.0f} MiB: archives of at most {unzip.MAX_BYTES // 2**20} MiB are accepted."
        )
    try:
        answer = confined(PROGRAM, data, MAX_ANSWER_BYTES)
    except (ConfinedError, MemoryError) as error:
        words = error if isinstance(error, ConfinedError) else "finds too little memory on this machine"
        raise ImageError(f"{name} {words}: a ZIP archive of fewer images is accepted.") from error
    line, _, content = answer.partition(b"\n")
    try:
        said = json.loads(line)
        problem, files = said.get("problem"), [(str(file), int(size)) for file, size in said.get("files", ())]
        more = int(said.get("more", 0))
    except (AttributeError, RecursionError, TypeError, ValueError):
        problem, files, more = None, [], 0
    if isinstance(problem, str):
        raise ImageError(f"{name} {plain(problem, 300)}")
    sizes = [size for _, size in files]
    if not files or len(files) > unzip.MAX_FILES or min(sizes) < 0 or sum(sizes) != len(content):
        raise ImageError(f"{name} cannot be read: an undamaged ZIP archive of images is accepted.")
    found, start = [], 0
    for file, size in files:
        found.append((plain(file, unzip.NAME), content[start : start + size]))
        start += size
    return found, max(more, 0)
