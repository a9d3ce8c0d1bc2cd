"""How much memory values hold, and how much they may."""

from __future__ import annotations

import gc
import os
import re
import sys
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from resnet import ConfigError

from .frozen import ATOMS, immutable

MIN_BYTES = 512
"""What keeping any result takes, in bytes."""

SAMPLES = 16
"""How many of many are weighed."""

_CODE = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)
"""What belongs to the program and not to a result."""


def weight(*values: Any) -> int:
    """The bytes of memory that values hold: their objects, and what tensors, arrays and images hold outside of Python.

    Memory that several of these show counts once. Of many immutable objects of a kind, as a trace's layers, some are
    weighed for all: to weigh each would take half as long as to trace a network.
    """
    seen: dict[int, Any] = {}
    memory: dict[int, int] = {}
    others = 0
    level = [*values]
    while level:
        new = {id(one): one for one in level if id(one) not in seen and not isinstance(one, _CODE)}
        seen |= new
        parts: list[Any] = []
        for key, one in list(new.items()):
            if isinstance(one, np.ndarray) and one.base is not None:
                parts.append(one.base)
            elif isinstance(one, Tensor) and one.device.type != "meta":
                storage = one.untyped_storage()
                memory[storage.data_ptr()] = storage.nbytes()
            elif isinstance(one, Image.Image):
                memory[id(one)] = one.width * one.height * (4 if len(one.getbands()) > 1 else 1)
            elif type(one) is tuple and len(one) > 2 * SAMPLES and alike(one):
                step = len(one) // SAMPLES
                parts += one[::step]
                others += (step - 1) * (weight(*one[::step]) - MIN_BYTES)
                del new[key]
        level = [*gc.get_referents(*new.values()), *parts]
    return MIN_BYTES + others + sum(map(sys.getsizeof, seen.values())) + sum(memory.values())


def alike(values: tuple[Any, ...]) -> bool:
    """Whether these are immutable objects of one kind."""
    kinds = {*map(type, values)}
    return len(kinds) == 1 and kinds.isdisjoint(ATOMS) and all(map(immutable, kinds))


def budget(name: str, usual: int) -> int:
    """Bytes, of the MiB in an environment variable; `usual` MiB where it is not set.

    Raises:
        ConfigError: for anything but a number of MiB.
    """
    text = os.environ.get(name, "").strip() or str(usual)
    if not re.fullmatch(r"[0-9]{1,8}", text) or int(text) < 16:
        raise ConfigError(name, text[:40], "a whole number of MiB, 16 or more")
    return int(text) * 2**20
