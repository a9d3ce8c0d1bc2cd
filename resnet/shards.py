"""A checkpoint in several files: safetensors shards, and the index that says which tensor is in which."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import WeightsError
from .options import plain
from .tensor_files import MAX_FILE_BYTES, are_sizes

INDEX = ".index.json"
"""How the name of an index ends, https://huggingface.co/docs/huggingface_hub/package_reference/serialization."""
SHARD = re.compile(r"-\d{5}-of-(?!00001)\d{5}\.safetensors$")
"""How the name of one of several shards ends."""
MAX_HEADER_BYTES = 2**21
"""Of all shards' lists together: 20,000 tensors with names of 20 characters."""


class MissingShardError(WeightsError):
    """A `shard` that an index names, which is not among the files."""

    def __init__(self, message: str, shard: str):
        super().__init__(message)
        self.shard = shard


def join(files: Mapping[str, bytes]) -> tuple[str, bytes]:
    """The name and the bytes of the one safetensors file that an index and its shards stand for, by their names; of a
    single file, its own.

    What the shards hold is for `open_checkpoint` to judge: here only their lists of tensors are put together.

    Raises:
        WeightsError: for more than one checkpoint, a missing shard, or files that are no index and shards.
    """
    indices = [name for name in files if name.endswith(INDEX)]
    if len(files) == 1 and not indices:
        ((name, data),) = files.items()
        if SHARD.search(name):
            raise WeightsError(
                f"{plain(name, 80)} is one of several shards: choose the index, .safetensors{INDEX}, and all of its shards "
                "together."
            )
        return name, data
    if len(indices) != 1:
        listed = ", ".join(plain(name, 80) for name in list(files)[:3])
        raise WeightsError(
            f"{len(files)} files were chosen ({listed}), with {len(indices) or 'no'} index among them: one checkpoint is "
            f"accepted, or one .safetensors{INDEX} with all of its shards."
        )
    index = indices[0]
    shards = _shards(files[index], plain(index, 80))
    if missing := [shard for shard in shards if shard not in files]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise MissingShardError(
            f"{plain(index, 80)} needs {plain(missing[0], 80)}{more}, which was not chosen with it: choose the index and all "
            "of its shards together.",
            missing[0],
        )
    _check_size(sum(len(files[shard]) for shard in shards), plain(index, 80))
    entries: dict[str, Any] = {}
    parts, start, room = [], 0, MAX_HEADER_BYTES
    for shard in shards:
        own, numbers = _parts(files[shard], plain(shard, 80), room)
        room -= len(files[shard]) - len(numbers)
        try:
            entries |= {name: _moved(entry, start) for name, entry in own.items() if name != "__metadata__"}
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise WeightsError(f"{plain(shard, 80)} is damaged: its list of tensors is none.") from error
        parts.append(numbers)
        start += len(numbers)
    header = json.dumps(entries).encode()
    return index.removesuffix(INDEX), b"".join([len(header).to_bytes(8, "little"), header, *parts])


def beside(index: Path) -> bytes:
    """The bytes of the one safetensors file that an index and the shards beside it stand for.

    Raises:
        WeightsError: as `join` does, for shards that are not beside the index, and for too many bytes.
        OSError: where a file cannot be read.
    """
    shown = plain(index.name, 80)
    if index.stat().st_size > MAX_HEADER_BYTES:
        raise WeightsError(f"{shown} is no index of shards: a weight_map from tensors to files is looked for.")
    data = index.read_bytes()
    paths = {name: index.parent / name for name in _shards(data, shown)}
    for name, path in paths.items():
        if path.name != name or not path.is_file():
            raise WeightsError(
                f"{shown} needs {plain(name, 80)}, which is not beside it: all of its shards are accepted in its folder."
            )
    _check_size(sum(path.stat().st_size for path in paths.values()), shown)
    return join({index.name: data, **{name: path.read_bytes() for name, path in paths.items()}})[1]


def _check_size(size: int, index: str) -> None:
    if size > MAX_FILE_BYTES:
        raise WeightsError(
            f"The shards of {index} have {size / 2**20:,.0f} MiB: at most {MAX_FILE_BYTES // 2**20} MiB are accepted."
        )


def _shards(index: bytes, name: str) -> list[str]:
    """The files that an index names, each once."""
    try:
        if len(index) > MAX_HEADER_BYTES:
            raise ValueError
        shards = sorted({str(shard) for shard in json.loads(index)["weight_map"].values()})
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{name} is no index of shards: a weight_map from tensors to files is looked for."
        ) from error
    if not shards:
        raise WeightsError(f"{name} names no shards.")
    return shards


def _parts(shard: bytes, name: str, room: int) -> tuple[Mapping[str, Any], memoryview]:
    """A safetensors file's list of tensors, of at most `room` bytes, and their numbers."""
    try:
        length = int.from_bytes(shard[:8], "little")
        if not 0 < length <= min(room, len(shard) - 8):
            raise ValueError
        return dict(json.loads(shard[8 : 8 + length])), memoryview(shard)[8 + length :]
    except (RecursionError, TypeError, ValueError) as error:
        raise WeightsError(f"{name} is no safetensors file, or damaged: shards in safetensors are accepted.") from error


def _moved(entry: Mapping[str, Any], start: int) -> dict[str, Any]:
    """A tensor's entry where its shard's numbers begin at `start`."""
    low, high = entry["data_offsets"]
    if not are_sizes(low, high):
        raise ValueError("no place in a file")
    return {**entry, "data_offsets": [low + start, high + start]}
