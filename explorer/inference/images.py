"""Images from outside: uploads of any kind, and the samples that come with the project.

`open_image`, or `pixels` in its place, is the only way in for bytes that a stranger chose. It either returns
an ordinary RGB image or says in one sentence why it cannot.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from resnet.confined import BusyError, ConfinedError, confined
from resnet.errors import ExplainedError
from resnet.options import plain

from . import decode
from .decode import ACCEPTED, MAX_MEMORY, MAX_SIDE_AFTER, DecodeError

__all__ = ["ACCEPTED", "MAX_BYTES", "ImageError", "open_image"]

MAX_BYTES = 20 * 2**20
"""Longest file that is accepted, in bytes."""

PROGRAM = Path(decode.__file__)
MAX_ANSWER_BYTES = 1000 + 3 * MAX_SIDE_AFTER**2


class ImageError(ExplainedError, DecodeError):
    """An image that is not opened: one sentence that says what is wrong and what is accepted."""


def open_image(data: bytes | bytearray | memoryview) -> Image.Image:
    """The image in a file's bytes, whatever its name: upright, RGB, at most 4096 pixels a side.

    EXIF orientation is applied, unless it cannot be read; transparency is laid over white; 16-bit grey is scaled to
    8 bit; of an animation or a file of several pages the first image counts. Colour profiles are ignored. An image
    above 4096 pixels is reduced by a whole number.

    A process of its own decodes it (`resnet.confined`), within 3 s of a processor and 0.6 GiB of memory, at a low
    priority. Four such processes run at one time, and the image or a sentence is there within 12 s, the wait for a place
    included. What it answers is checked here. macOS does not bound that memory and Windows neither memory nor the
    processor's time, only the clock's: there, what a file says of its size is all that is checked.

    Raises:
        ImageError: for what is not bytes, is empty, above 20 MiB, of another format, damaged, or takes more memory or
            time; nothing else is raised, whatever is given.
    """
    return Image.fromarray(pixels(data))


def pixels(data: bytes | bytearray | memoryview) -> np.ndarray:
    """`open_image` without a copy of what was decoded: H×W×3 bytes that cannot be written.

    Raises:
        ImageError: as `open_image` does.
    """
    whole = _bytes(data)
    try:
        return _pixels(confined(PROGRAM, whole, MAX_ANSWER_BYTES, memory=MAX_MEMORY))
    except MemoryError as error:
        raise ImageError("The image finds too little memory on this machine: a smaller one is accepted.") from error
    except BusyError as error:
        raise ImageError(f"The image {error}.") from error
    except ConfinedError as error:
        raise ImageError(f"The image {error}: a smaller one, or a JPEG, is accepted.") from error


def _bytes(data: bytes | bytearray | memoryview) -> bytes:
    """The bytes of a file of an accepted length.

    Raises:
        ImageError: for anything else.
    """
    try:
        view = memoryview(data)
    except (TypeError, ValueError):
        kind = plain(type(data).__name__)
        raise ImageError(
            f"The file is given as {kind}: its bytes are accepted, as Path.read_bytes() has them."
        ) from None
    if not view.nbytes:
        raise ImageError(f"The file is empty: a {ACCEPTED} image is accepted.")
    if view.nbytes > MAX_BYTES:
        raise ImageError(
            f"The file has {view.nbytes / 2**20:.1f} MiB: images of at most {MAX_BYTES // 2**20} MiB are accepted."
        )
    return data if isinstance(data, bytes) else view.tobytes()


def _pixels(answer: bytes) -> np.ndarray:
    """The pixels that a decoding process answers, which a file may have taken over.

    Raises:
        ImageError: where it answers with a problem, or with anything else.
    """
    line, _, _ = answer[:1000].partition(b"\n")
    try:
        said = json.loads(line)
        problem, size = said.get("problem"), tuple(said.get("size", ()))
    except (AttributeError, RecursionError, TypeError, ValueError):
        problem, size = None, ()
    if isinstance(problem, str):
        raise ImageError(plain(problem, 300))
    whole = len(size) == 2 and all(type(side) is int and 1 <= side <= MAX_SIDE_AFTER for side in size)
    if not whole or len(answer) - len(line) - 1 != 3 * size[0] * size[1]:
        raise ImageError(f"The image cannot be decoded: an undamaged {ACCEPTED} file is accepted.")
    return np.frombuffer(answer, np.uint8, offset=len(line) + 1).reshape(size[1], size[0], 3)
