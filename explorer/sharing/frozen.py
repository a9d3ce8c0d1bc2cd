"""Values that many threads share: what can never be changed, and the same value made so."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from enum import EnumType
from functools import cache
from operator import is_
from types import MappingProxyType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

ATOMS = (str, int, bool, float, type(None))
"""The kinds that results are mostly made of, and that are never changed."""


@cache
def immutable(kind: Any, around: frozenset[Any] = frozenset()) -> bool:
    """Whether what is annotated so, a frozen dataclass or named tuple throughout, holds nothing that could be changed.

    `around` are the kinds that it is a part of, which may hold their own kind again.
    """
    if kind in ATOMS or kind in around or get_origin(kind) is Literal:
        return True
    if isinstance(kind, EnumType):
        return True
    if get_origin(kind) in (tuple, Union, UnionType):
        return all(immutable(part, around) for part in get_args(kind) if part is not Ellipsis)
    if is_dataclass(kind) and isinstance(kind, type):
        promised = kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
        names = [one.name for one in fields(kind)]  # what its class alone holds is no part of a value
    else:
        promised = isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")
        names = list(kind._fields) if promised else []
    with suppress(NameError):  # annotated with what is imported for the type checker only
        return promised and all(immutable(get_type_hints(kind)[name], around | {kind}) for name in names)
    return False


def frozen(value: Any) -> Any:
    """The same value to share: its arrays are read-only from here on, dictionaries are views that cannot be written, and
    lists are tuples.

    Tuples, lists, dataclasses and dictionaries are looked into; what else there is should be immutable by itself.
    """
    kind: Any = type(value)
    if immutable(kind):
        return value
    if isinstance(value, np.ndarray):
        value.setflags(write=False)
        return value
    if isinstance(value, dict):
        return MappingProxyType({key: frozen(item) for key, item in value.items()})
    if isinstance(value, tuple | list):
        items = tuple(map(frozen, value))
        if isinstance(value, tuple) and all(map(is_, items, value)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else items
    if is_dataclass(value) and not isinstance(value, type):
        given = {name: getattr(value, name) for name in value.__dataclass_fields__}
        changed = {name: frozen(item) for name, item in given.items() if type(item) not in ATOMS}
        different = {name: item for name, item in changed.items() if item is not given[name]}
        return replace(value, **different) if different else value
    return value
