"""The files in a ZIP archive, by Python's own library and nothing of this package: what `archives.unpack` runs in a process
of its own.

As a program it reads an archive from standard input, and puts out a line of JSON, `{"files": [[name, size], …], "more": number}` or
`{"problem": …}`, and then the files' bytes, one after the other.
"""

from __future__ import annotations

import io
import json
import lzma
import sys
import zipfile
import zlib

MAX_FILES, MAX_BYTES, MAX_FILE_BYTES = 500, 128 * 2**20, 20 * 2**20
"""How many files of an archive are unpacked, and how many bytes they may have together and each, unpacked."""
NAME = 100
"""Characters of a name that are kept, from its end. A name is for people: nothing is written under it."""


class UnpackError(ValueError):
    """An archive that is not read: the end of a sentence that begins with its name."""


def unpack(data: bytes) -> tuple[list[tuple[str, bytes]], int]:
    """The names and contents of an archive's first `MAX_FILES` files in its order, without folders and what a system hides among
    them, and how many more there are.

    Raises:
        UnpackError: for what is no archive, is encrypted or damaged, or holds nothing or too much.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = [one for one in archive.infolist() if not one.is_dir() and not hidden(one.filename)]
            kept = files[:MAX_FILES]
            check(kept)
            return [(one.filename[-NAME:], archive.read(one)) for one in kept], len(files) - len(kept)
    except UnpackError:
        raise
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, RuntimeError) as error:
        raise UnpackError("is damaged or packed in an unusual way: a plain ZIP archive is accepted.") from error


def hidden(name: str) -> bool:
    """Whether a system put a file among a person's."""
    parts = name.split("/")
    return parts[0] == "__MACOSX" or parts[-1].startswith(".") or parts[-1] == "Thumbs.db"


def check(files: list[zipfile.ZipInfo]) -> None:
    """
    Raises:
        UnpackError: for files that are not unpacked, by what the archive says of them.
    """
    if not files:
        raise UnpackError(f"holds no files: a ZIP archive of up to {MAX_FILES} images is accepted.")
    if any(one.flag_bits & 1 for one in files):
        raise UnpackError("is encrypted: an archive without a password is accepted.")
    largest, total = max(files, key=lambda one: one.file_size), sum(one.file_size for one in files)
    if largest.file_size > MAX_FILE_BYTES:
        raise UnpackError(
            f"holds a file of {largest.file_size / 2**20:,.1f} MiB: images of at most {MAX_FILE_BYTES // 2**20} MiB are accepted."
        )
    if total > MAX_BYTES:
        raise UnpackError(f"has {total / 2**20:,.0f} MiB unpacked: at most {MAX_BYTES // 2**20} MiB are accepted.")


# -- as a program -------------------------------------------------------------------------


def main() -> None:
    """Read an archive from stdin; write a line of JSON, the files or the problem, and then their bytes."""
    out = sys.stdout.buffer
    try:
        files, more = unpack(sys.stdin.buffer.read())
    except UnpackError as error:
        out.write(json.dumps({"problem": str(error)}).encode() + b"\n")
    else:
        named = [(name, len(content)) for name, content in files]
        out.write(json.dumps({"files": named, "more": more}).encode() + b"\n")
        for _, content in files:
            out.write(content)
    out.flush()


if __name__ == "__main__":
    main()
