"""Checkpoint files from anywhere, understood by their tensors and opened as networks.

Files are read by `reading`; `layouts` finds the networks among their tensors, and `recognition` says what they are. A state dict
that has been read is a matter of `state_dicts`. What any of them has for others is imported from here.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import layouts, shards
from .errors import WeightsError
from .layers import LayoutError
from .layouts import Trunk
from .opened import Opened, fitted, with_option_a
from .options import ConfigError, plain
from .questions import BOTH, FIXED, OTHER_QUESTIONS, Question
from .reading import (
    MAX_TENSOR_BYTES,
    SHORT_OF_MEMORY,
    bytes_of,
    check_tensors,
    contents_of,
    is_short_of_memory,
    place_of,
    reading,
    tensors_at,
)
from .recognition import UnsureNormError, recognised
from .shapes import Mismatch
from .state_dicts import infer_config, mismatches, network, not_finite, read_state_dict, unseen
from .tensor_files import MAX_FILE_BYTES
from .tensor_files import Tensor as Place

__all__ = [
    "BOTH",
    "FIXED",
    "MAX_FILE_BYTES",
    "MAX_TENSOR_BYTES",
    "OTHER_QUESTIONS",
    "Mismatch",
    "Opened",
    "Question",
    "UnsureNormError",
    "WeightsError",
    "fitted",
    "infer_config",
    "mismatches",
    "network",
    "not_finite",
    "open_checkpoint",
    "read_state_dict",
    "unseen",
    "with_option_a",
]


def open_checkpoint(source: bytes | Path, name: str = "", **answers: Any) -> Opened:
    """The residual network in a checkpoint file, whoever wrote it, ready to run.

    `answers` are to the questions of an `Opened` before: an option of the configuration, `option_a` ("both", "after"),
    `standardised` (whether BiT's convolutions are what it holds), `weights` (which of several networks in the file) or one
    of `FIXED`, which opens nothing where it is answered otherwise than a configuration has it. A path may be that of an
    index beside its shards.

    Raises:
        WeightsError: where the file cannot be read, or holds nothing that a configuration can express, in a sentence that
            names what it is; for an answer that does not fit; and, with an entry in the log, where this package fails.
    """
    name = plain(name or (source.name if isinstance(source, Path) else "The file"), 80)
    with reading(name):
        data = bytes_of(_read(source, name), name)
        contents = contents_of(data, name)
        places = {key: place_of(entry, len(data)) for key, entry in _flat(contents.tree, name).items()}
        if not places:
            check_tensors(places, len(data), name, contents.kind)
    with understanding(name):
        try:
            trunks = layouts.trunks({key: place.shape for key, place in places.items()})
            trunk, which = _chosen(trunks, answers)
            makers = (name for parts in trunk.makers.values() for name in parts.values())
            wanted = {key: places[key] for key in {*trunk.tensors.values(), *makers}}
            with reading(name):
                tensors = tensors_at(wanted, data, name)
            return recognised(trunk, which, tensors, name, contents, answers)
        except LayoutError as error:
            if whole_numbers := next((key for key, place in places.items() if _is_quantised(key, place)), None):
                raise WeightsError(
                    f"{name} has {plain(whole_numbers.rpartition('/')[2])} as {places[whole_numbers].dtype}, as quantised "
                    "networks have: the network that it was made of is accepted, in floating point."
                ) from error
            it_is = f"is {contents.kind}, and " if contents.kind else ""
            raise WeightsError(f"{name} {it_is}{plain(error, 400)}") from error
        except ConfigError as error:
            raise WeightsError(f"{name} holds a network that no configuration expresses: {error}") from error


@contextmanager
def understanding(name: str) -> Iterator[None]:
    """What fails beyond sentences while tensors are understood is a WeightsError, and an entry in the log: it is no fault of
    the file that nobody thought of it."""
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:
        if is_short_of_memory(error):
            raise WeightsError(f"{name} {SHORT_OF_MEMORY}") from error
        logging.getLogger(__name__).exception("A checkpoint was not understood")
        raise WeightsError(
            f"{name} was read but not understood, which is a fault of this program: it is in the log."
        ) from error


def _is_quantised(name: str, place: Place) -> bool:
    return name.endswith(".weight") and len(place.shape) > 1 and place.dtype in ("int8", "uint8", "int32")


def _read(source: Any, name: str) -> Any:
    if not isinstance(source, Path):
        return source
    try:
        if source.name.endswith(shards.INDEX):
            return shards.beside(source)
        if source.stat().st_size > MAX_FILE_BYTES:
            raise WeightsError(
                f"{name} has {source.stat().st_size / 2**20:,.0f} MiB: at most {MAX_FILE_BYTES // 2**20} MiB are accepted."
            )
        return source.read_bytes()
    except OSError as error:
        raise WeightsError(f"{name} cannot be read ({error.strerror}): a file is accepted.") from error


MAX_NAMES = 1_200_000
"""Characters of the names of a file's tensors together, each with the dictionaries that hold it: 20,000 of 60."""


def _flat(tree: Mapping[str, Any], name: str) -> dict[str, list[Any]]:
    """Where the tensors of a file lie, by the dictionaries that hold them, each followed by a slash, and their names.

    Raises:
        WeightsError: for names of endless length.
    """
    found: dict[str, list[Any]] = {}
    characters = 0
    for key, entry in _leaves(tree):
        if (characters := characters + len(key)) > MAX_NAMES:
            raise WeightsError(f"{name} has names of more than {MAX_NAMES:,} characters: shorter ones are accepted.")
        found[key] = entry
    return found


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, list[Any]]]:
    for key, entry in tree.items():
        if isinstance(entry, list):
            yield prefix + key, entry
        else:
            yield from _leaves(entry, f"{prefix}{key}/")


def _chosen(trunks: Sequence[Trunk], answers: Mapping[str, Any]) -> tuple[Trunk, tuple[str, ...]]:
    """The network to open, and what all of a file are called, it first.

    Raises:
        LayoutError: for weights that it does not have.
    """
    labels = Counter(map(_label, {trunk.prefix for trunk in trunks}))
    named: dict[str, Trunk] = {}
    for trunk in trunks:
        label = _label(trunk.prefix)
        named.setdefault(label if labels[label] == 1 else trunk.prefix, trunk)
    asked = str(answers.get("weights", next(iter(named))))
    if asked not in named:
        raise LayoutError(f"has no weights {plain(asked)}: it has {', '.join(map(plain, named))}.")
    return named[asked], tuple(sorted(named, key=lambda label: label != asked)) if len(named) > 1 else ()


def _label(prefix: str) -> str:
    return prefix.rstrip("./") or "the file itself"
