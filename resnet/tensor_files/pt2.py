"""Programs of `torch.export` that this package wrote, whose tensors have the names of a state dict.

https://github.com/pytorch/pytorch/blob/main/torch/export/pt2_archive/_package.py, as torch writes them since 2.8.
"""

from __future__ import annotations

import json
import zipfile
from typing import Any, BinaryIO

from . import (
    ITEM_BYTES,
    MAX_AXES,
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    MAX_TEXT,
    RefusedError,
    Tensor,
    are_sizes,
    check_names,
    fits,
)
from .archives import FOREIGN, UNREADABLE, check_stored, content_start

SAYS, WEIGHTS = "/extra/says.json", "/data/weights/model_weights_config.json"
"""The records with texts about the program, and with its tensors by their names."""
SCALAR_TYPES = {1: "uint8", 5: "int64", 6: "float16", 7: "float32", 8: "float64", 13: "bfloat16"}
"""torch's numbers of types, https://github.com/pytorch/pytorch/blob/main/torch/_export/serde/schema.py."""


def is_ours(file: BinaryIO) -> bool:
    """Whether a zip archive is such a program."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError):
        return False
    finally:
        file.seek(0)
    return all(any(name.endswith(record) for name in names) for record in (SAYS, WEIGHTS))


def read_pt2(file: BinaryIO, size: int) -> dict[str, Any]:
    """The tensors of a program, and the texts about it.

    Raises:
        RefusedError: for one that does not say which configuration it is of, is compressed, or lists more than `MAX_HEADER_BYTES`.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            check_stored(archive, size)
            records = {record.filename: record for record in archive.infolist()}
            texts, listed = (read_json(archive, find(records, name)) for name in (SAYS, WEIGHTS))
            if "config" not in texts:
                raise RefusedError(FOREIGN)
            folder = find(records, WEIGHTS).filename.removesuffix("model_weights_config.json")
            entries = listed["config"]
            if len(entries) > MAX_TENSORS:
                raise RefusedError(f"holds {len(entries):,} tensors: at most {MAX_TENSORS:,} are accepted.")
            check_names(entries)
            tensors = {name: tensor(file, records, folder, entry) for name, entry in entries.items()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise RefusedError(UNREADABLE) from error
    texts = {key: text for key, text in texts.items() if isinstance(text, str) and len(key + text) <= MAX_TEXT}
    return {"contents": tensors, "metadata": texts}


def find(records: dict[str, zipfile.ZipInfo], end: str) -> zipfile.ZipInfo:
    return next(record for name, record in records.items() if name.endswith(end))


def read_json(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> Any:
    if record.file_size > MAX_HEADER_BYTES:
        raise RefusedError(
            f"has a list of tensors of {record.file_size / 2**20:.1f} MiB: at most {MAX_HEADER_BYTES // 2**20} MiB are accepted."
        )
    return json.loads(archive.read(record))


def tensor(file: BinaryIO, records: dict[str, zipfile.ZipInfo], folder: str, entry: Any) -> Tensor:
    """A tensor by what the list says of it.

    Raises:
        ValueError, LookupError: where it is damaged, or a pickle.
    """
    meta, record = entry["tensor_meta"], records[folder + entry["path_name"]]
    dtype = SCALAR_TYPES[meta["dtype"]]
    shape, stride = (tuple(one["as_int"] for one in meta[name]) for name in ("sizes", "strides"))
    start = meta["storage_offset"]["as_int"]
    if entry["use_pickle"] or not are_sizes(*shape, *stride, start) or len(shape) > MAX_AXES:
        raise ValueError("no tensor")
    if len(shape) != len(stride) or not fits(shape, stride, start, record.file_size // ITEM_BYTES[dtype]):
        raise ValueError("a tensor beyond its storage")
    return Tensor(dtype, shape, stride, start, content_start(file, record))
