"""What `torch.save` writes: a zip archive since PyTorch 1.6, pickles in a row before.

https://github.com/pytorch/pytorch/blob/main/torch/serialization.py
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from typing import Any, BinaryIO

from . import CUT, DAMAGED, ITEM_BYTES, MAX_HEADER_BYTES, RefusedError
from .pickles import Machine, read_pickles
from .stand_ins import Places

MAGIC = b"\x8a\n" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little") + b"."
"""The number with which `torch.save` began before PyTorch 1.6, as it was pickled."""
BIG_ENDIAN = "was written on a big-endian machine: save it on another one, or as safetensors."


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


def accept(value: Any) -> None:
    pass


def check_protocol(value: Any) -> None:
    if value != 1001:
        raise RefusedError(DAMAGED)


def check_byte_order(system: Any) -> None:
    if not system["little_endian"]:
        raise RefusedError(BIG_ENDIAN)


def read_zip(file: BinaryIO, size: int) -> tuple[Any, Places]:
    """What `torch.save` writes: an archive that compresses nothing, one record for each storage."""
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            check_archive([record.filename for record in records])
            check_stored(archive, size)
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
        raise RefusedError(UNREADABLE) from error


UNREADABLE = "is damaged or cut off: its archive cannot be read."


def check_stored(archive: zipfile.ZipFile, size: int) -> None:
    """That an archive in a file of `size` bytes compresses nothing.

    Raises:
        RefusedError: where it does.
    """
    records = archive.infolist()
    unpacked = sum(record.file_size for record in records)
    if unpacked > size or any(
        record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size for record in records
    ):
        raise RefusedError(
            f"is compressed, {unpacked / 2**20:,.0f} MiB unpacked: "
            "PyTorch compresses nothing, so this is no checkpoint of its making."
        )


FOREIGN = "is a program of torch.export that ResNet Explorer did not write: save its state_dict() instead."
ARCHIVES = (
    (r".*/constants\.pkl", "is a TorchScript program: save its state_dict() instead."),
    (r"(.*/)?(serialized_exported_program\.json|models/.*\.json)", FOREIGN),
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
