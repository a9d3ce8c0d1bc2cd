"""Safetensors files, https://github.com/huggingface/safetensors#format."""

from __future__ import annotations

import json
import struct
from math import prod
from typing import Any, BinaryIO

from . import ITEM_BYTES, MAX_AXES, MAX_TENSORS, MAX_TEXT, RefusedError, Tensor, are_sizes, check_names

SAFE_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def read_safetensors(file: BinaryIO, size: int) -> dict[str, Any]:
    """The tensors in the header of a safetensors file, whose bytes must follow each other without a gap or an overlap."""
    (length,) = struct.unpack("<Q", file.read(8))
    header = json.loads(file.read(length), object_pairs_hook=json_object)
    metadata = header.pop("__metadata__", {})
    if len(header) > MAX_TENSORS:
        raise RefusedError(f"holds {len(header):,} tensors: at most {MAX_TENSORS:,} are accepted.")
    check_names(header)
    tensors, ends = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if entry["dtype"] not in SAFE_TYPES:
            raise RefusedError(f"has {name} as {entry['dtype']}: dense floating-point tensors are accepted.")
        dtype, shape, (begin, end) = SAFE_TYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        if not are_sizes(*shape, begin, end) or len(shape) > MAX_AXES:
            raise ValueError("no shape")
        count = prod(shape)
        if begin != ends or end - begin != count * ITEM_BYTES[dtype]:
            raise ValueError("a gap, an overlap, or another length")
        steps = tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
        tensors[name] = Tensor(dtype, tuple(shape), steps, 0, 8 + length + begin)
        ends = end
    if 8 + length + ends != size:
        raise ValueError("another length")
    texts = {key: text for key, text in metadata.items() if isinstance(text, str) and len(key + text) <= MAX_TEXT}
    return {"contents": {name: tensors[name] for name in header}, "metadata": texts}


def json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: where it has a name twice.
    """
    if len(result := dict(pairs)) < len(pairs):
        raise ValueError("a name twice")
    return result
