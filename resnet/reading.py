"""The tensors of a checkpoint file: read without running anything in it.

A file may be hostile. A `.pt` or `.pth` file is a pickle, which can ask for any function to be called, for any amount
of memory and for any amount of time. So a process of its own looks through it and says where its tensors lie
(`tensor_files`, `confined`), and their bytes are taken from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import tensor_files
from .config import ResNetConfig
from .confined import BusyError, ConfinedError, confined
from .errors import WeightsError
from .layers import LayoutError
from .options import ConfigError, plain
from .tensor_files import MAX_FILE_BYTES, MAX_TENSORS, program
from .tensor_files import Tensor as Place

MAX_TENSOR_BYTES = 2**30
MAX_GROWTH = 8
"""How many times as large as its file a network may be in float32, where it takes more than a file may have: twice for
half precision, four times for bytes."""


class Contents(NamedTuple):
    """What a file holds: dictionaries in one another, in which a list says where a tensor lies; what it is besides; what
    a safetensors file says of itself; how the layers of a network that was saved whole are set, by their names."""

    tree: Mapping[str, Any]
    kind: str
    metadata: Mapping[str, str]
    modules: Mapping[str, Mapping[str, Any]]

    @property
    def declared_config(self) -> ResNetConfig | None:
        """The configuration that a file written by this package says it is for."""
        try:
            return ResNetConfig.from_json(self.metadata["config"])
        except (ConfigError, LookupError, RecursionError, TypeError):
            return None


def contents_of(data: bytes, name: str) -> Contents:
    """What a process of its own finds in a file.

    Raises:
        WeightsError: for a file that it refuses.
        Exception: for an answer that is none, which `reading` makes a sentence of.
    """
    answer = json.loads(confined(PROGRAM, data, MAX_ANSWER_BYTES))
    if refused := answer.get("refused"):
        raise WeightsError(f"{name} {plain(refused, 400)}")
    modules = {name: dict(module) for name, module in answer.get("modules", {}).items()}
    return Contents(answer["contents"], plain(answer.get("is", ""), 120), answer.get("metadata", {}), modules)


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Whatever goes wrong while a file is read is a WeightsError, in one sentence."""
    try:
        yield
    except WeightsError:
        raise
    except LayoutError as error:
        raise WeightsError(f"{name} {plain(error, 400)}") from error
    except BusyError as error:
        raise WeightsError(f"{name} {error}.") from error
    except ConfinedError as error:
        raise WeightsError(f"{name} {error}: a checkpoint of at most {MAX_TENSORS:,} tensors is accepted.") from error
    except (AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        words = SHORT_OF_MEMORY if is_short_of_memory(error) else tensor_files.CUT
        raise WeightsError(f"{name} {words}") from error


SHORT_OF_MEMORY = "finds too little memory on this machine: a smaller file is accepted."


def is_short_of_memory(error: Exception) -> bool:
    """Whether memory was refused: torch says so by a RuntimeError."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocat" in str(error))


def bytes_of(data: bytes | bytearray | memoryview, name: str) -> bytes:
    """The bytes of a file of an accepted length.

    Raises:
        WeightsError: for anything else.
    """
    try:
        view = memoryview(data)
    except (TypeError, ValueError):
        raise WeightsError(
            f"{name} is given as {plain(type(data).__name__)}: its bytes are accepted, as Path.read_bytes() has them."
        ) from None
    if view.nbytes > MAX_FILE_BYTES:
        raise WeightsError(
            f"{name} has {view.nbytes / 2**20:,.0f} MiB: at most {MAX_FILE_BYTES // 2**20} MiB are accepted."
        )
    if not view.nbytes:
        raise WeightsError(f"{name} is empty: a checkpoint is accepted, such as torch.save or safetensors write.")
    return data if isinstance(data, bytes) else view.tobytes()


PROGRAM = Path(program.__file__).with_name("__main__.py")  # what is imported here has its bytecode at hand there
PART_BYTES = 2**24
"""Of a large tensor's bytes, those that are copied from a file before they are made float32."""
MAX_ANSWER_BYTES = 8 * 2**20
"""A list of tensors; 20,000 with names of 100 characters take 4 MiB."""


def place_of(entry: list[Any], size: int) -> Place:
    """Where a tensor lies in a file of `size` bytes, from the answer of a process that a file may have taken over.

    Raises:
        TypeError, ValueError: where it is none, or lies in part outside the file.
    """
    dtype, shape, stride, *rest = entry
    place = Place(dtype, tuple(shape), tuple(stride), *rest)
    numbers = (size - place.at) // tensor_files.ITEM_BYTES.get(place.dtype, size + 1)
    sizes = tensor_files.are_sizes(*place.shape, *place.stride, place.start, place.at, place.coded)
    inside = place.at + place.coded <= size and tensor_files.fits(*place[1:4], numbers)
    if not sizes or len(place.shape) > tensor_files.MAX_AXES or not inside:
        raise ValueError("no tensor of this file")
    return place


def _tensor(place: Place, data: bytes) -> Tensor:
    """The tensor at a place of a file, in memory of its own that is no larger than the tensor.

    Only the numbers that it shows are copied, since many tensors may show a few numbers each, far apart, and a large one
    part by part.
    """
    dtype = getattr(torch, place.dtype)
    found = torch.empty(place.shape, dtype=torch.float32 if dtype.is_floating_point else dtype)
    if not found.numel():
        return found
    if place.coded:
        text = data[place.at : place.at + place.coded].decode("utf-8", "surrogatepass")
        data, place = text.encode("latin-1"), place._replace(at=0, coded=0)
    item = tensor_files.ITEM_BYTES[place.dtype]
    strides = [step * item for step in place.stride]
    shown = np.atleast_1d(np.ndarray(place.shape, f"V{item}", data, place.at + place.start * item, strides))
    longest = int(np.argmax(shown.shape)) if shown.nbytes > PART_BYTES else 0
    shown, into = np.moveaxis(shown, longest, 0), torch.atleast_1d(found).movedim(longest, 0)
    step = max(1, PART_BYTES * len(shown) // shown.nbytes)
    for at in range(0, len(shown), step):
        part = shown[at : at + step].copy()
        into[at : at + step] = torch.frombuffer(part, dtype=dtype).reshape(part.shape)
    return found


def tensors_at(places: Mapping[str, Place], data: bytes, name: str, kind: str = "") -> dict[str, Tensor]:
    """The tensors at these places of a file, once it is sure that they are accepted."""
    check_tensors(places, len(data), name, kind)
    return {key: _tensor(place, data) for key, place in places.items()}


def check_tensors(places: Mapping[str, Place], size: int, name: str, kind: str = "") -> None:
    """That the tensors are weights, of an accepted size in all; many may show the same bytes, so shapes are what counts."""
    if not places:
        it_is = f" (it is {kind})" if kind else ""
        raise WeightsError(f"{name} holds no tensors by name{it_is}: a state_dict is accepted.")
    if len(places) > MAX_TENSORS:
        raise WeightsError(f"{name} holds {len(places):,} tensors: at most {MAX_TENSORS:,} are accepted.")
    amount = sum(prod(place.shape) * max(4, tensor_files.ITEM_BYTES[place.dtype]) for place in places.values())
    most = max(MAX_FILE_BYTES, min(MAX_TENSOR_BYTES, MAX_GROWTH * size))
    if amount > most:
        raise WeightsError(
            f"{name} stands for {amount / 2**20:,.0f} MiB of weights in float32: at most {most / 2**20:,.0f} MiB are "
            "accepted for a file of its size."
        )
    for key, place in places.items():
        if key.endswith((".weight", ".bias", ".running_mean", ".running_var")) and "float" not in place.dtype:
            raise WeightsError(f"{name} has {plain(key)} as {place.dtype}: dense floating-point tensors are accepted.")
