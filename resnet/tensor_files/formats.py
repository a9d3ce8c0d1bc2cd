"""Which format a file has, by how it begins; what is none of ours is refused by its name."""

from __future__ import annotations

import re
from typing import Any, BinaryIO

from . import MAX_HEADER_BYTES, RefusedError
from .archives import read_bare, read_zip
from .onnx import read_onnx
from .pt2 import is_ours, read_pt2
from .safetensors import read_safetensors
from .trees import answer


def read(file: BinaryIO, size: int) -> dict[str, Any]:
    """The answer for a file of `size` bytes.

    Raises:
        RefusedError: for a file that is no checkpoint, is damaged, or holds more than tensors.
        Exception: for a file that is damaged, whatever fails first.
    """
    start = file.read(MAX_START)
    file.seek(max(0, size - 8))
    end = file.read(8)
    file.seek(0)
    if (
        start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= MAX_HEADER_BYTES
    ):  # which can begin as the others do
        return read_safetensors(file, size)
    if start.startswith(b"PK"):
        return read_pt2(file, size) if is_ours(file) else answer(*read_zip(file, size))
    if re.match(rb"\x80[\x02-\x05]", start):
        return answer(*read_bare(file, size))
    if end == LEVELDB:
        raise RefusedError("is the index of a TensorFlow checkpoint: weights of PyTorch are accepted.")
    if re.match(ONNX, start):
        return read_onnx(file, size)
    for pattern, words in FORMATS:
        if re.match(pattern, start, re.DOTALL | re.IGNORECASE):
            raise RefusedError(f"is {words}.")
    if re.fullmatch(rb"[\t\n\r -~]+", start):
        words = " ".join(start[:80].decode("ascii").split())
        raise RefusedError(f"is a text that begins with “{words[:40]}”: the file of weights is accepted.")
    raise RefusedError("is no checkpoint: .safetensors, and .pt or .pth as torch.save writes, are accepted.")


MAX_START = 300
LEVELDB = bytes.fromhex("57fb808b247547db")
ONNX = rb"\x08[\x02-\x1f][\x10\x12\x1a\x20\x28\x32\x3a\x42]"
"""Its version, then a field that may follow that."""
UNPACK = "unpack it, and give what is in it"
PYTORCH = "weights of PyTorch are accepted"
FORMATS = (
    (
        rb"version https://git-lfs",
        "a pointer of Git LFS, which stands for the file: `git lfs pull` gets the file itself",
    ),
    (rb"# xet version", "a pointer of Git Xet, which stands for the file: a clone with git-xet has the file itself"),
    (rb"\s*<\?xml[^>]*>\s*<net ", f"a program of OpenVINO: {PYTORCH}"),
    (
        rb"(\xef\xbb\xbf)?\s*<(!doctype|!--|html|head|\?xml|error>)",
        "a web page: what the link leads to has to be downloaded itself",
    ),
    (rb"\s*[{\[]", "JSON, which holds no tensors: the file of weights is accepted"),
    (rb"\x89HDF\r\n", f"HDF5, as Keras writes it: {PYTORCH}"),
    (rb"[\x81-\x8f]([\xa0-\xbf]|\xd9.)\w", f"msgpack, as Flax writes it: {PYTORCH}"),
    (rb"\x93NUMPY", f"a numpy array: {PYTORCH}"),
    (rb"\x08\x01\x12", f"a program of TensorFlow or Core ML: {PYTORCH}"),
    (rb"ftrt", f"a program of TensorRT: {PYTORCH}"),
    (rb"7767517\s", f"a program of ncnn: {PYTORCH}"),
    (rb".{4}TFL3", f"a program of TensorFlow Lite: {PYTORCH}"),
    (rb"\x80[\x06-\xff]|GGUF|ggml", f"a file of another program: {PYTORCH}"),
    (rb"[\x03\x04]\0\0\0\x01\0\0\0", f"a file of Lua Torch: {PYTORCH}"),
    (rb"\x12\x01\0\0\0\0\0\0", f"weights of MXNet: {PYTORCH}"),
    (rb"\x0a[\x01-\x40][\w -]+\xa2\x06", f"a network of Caffe: {PYTORCH}"),
    (rb"MATLAB ", f"a file of MATLAB: {PYTORCH}"),
    (
        rb"(\(?c[\w.]+\n[\w.]+\n|\([dl]|[\]}])[(pqR]",
        "a pickle of an old protocol, which torch.save does not write: pickle.dump(…, protocol=2) writes what is accepted",
    ),
    (
        rb"sys_info\0.{248}ustar",
        "an archive of PyTorch before 0.2: what torch.load makes of it is accepted as torch.save writes it",
    ),
    (rb".{257}ustar", f"a tar archive: {UNPACK}"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", f"a packed archive: {UNPACK}"),
)
"""What people also have, by how it begins."""
