"""Nobody can change what is shared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest

from explorer.analysis.trace import Trace
from explorer.sharing.frozen import frozen, immutable
from resnet import ResNetConfig


class Pair(NamedTuple):
    name: str
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Holder:
    by_name: dict[str, Pair]
    count: int = 0


def test_what_is_shared_cannot_be_changed() -> None:
    values = np.arange(6.0).reshape(2, 3)
    shared = frozen(Holder({"a": Pair("a", values)}, 3))
    assert shared.count == 3
    found = shared.by_name["a"].values
    assert np.array_equal(found, np.arange(6.0).reshape(2, 3))
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1
    with pytest.raises(TypeError):
        shared.by_name["b"] = found
    same = (1, "two")
    assert frozen(same) is same


@pytest.mark.parametrize(
    "around", [lambda one: (1, one), lambda one: [one], lambda one: ({"a": [one]},)], ids=["tuple", "list", "both"]
)
def test_tuples_and_lists_are_looked_into(around: Callable[[np.ndarray], Any]) -> None:
    values = np.zeros(3)
    shared = frozen(around(values))
    assert isinstance(shared, tuple)
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1


@dataclass(frozen=True)
class Leaf:
    name: str
    shape: tuple[int, ...]
    next: Leaf | None = None


@dataclass(frozen=True)
class Whole:
    leaves: tuple[Leaf, ...]
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class WithList:
    whole: Whole
    items: list[int]


@dataclass
class Changing:
    name: str


@pytest.mark.parametrize(
    ("kind", "never_changes"),
    [
        (str, True),
        (Whole, True),
        (Trace, True),
        (ResNetConfig, True),
        (tuple[int, str], True),
        (Changing, False),
        (WithList, False),
        (Holder, False),
        (Pair, False),
        (tuple[Leaf, Changing], False),
        (list, False),
        (np.ndarray, False),
        (dict, False),
        (Any, False),
    ],
)
def test_what_can_never_change(kind: Any, never_changes: bool) -> None:
    assert immutable(kind) is never_changes
