"""How much memory values hold, and how much they may."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from explorer.analysis.trace import trace
from explorer.sharing.footprint import MIN_BYTES, budget, weight
from resnet import ConfigError, build, preset


class Pair(NamedTuple):
    name: str
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Holder:
    by_name: dict[str, Pair]
    count: int = 0


@dataclass(frozen=True)
class Leaf:
    name: str
    shape: tuple[int, ...]
    next: Leaf | None = None


def tensors() -> tuple[Any, int]:
    network = build(preset("resnet20"))
    return network, sum(one.nbytes for one in (*network.parameters(), *network.buffers()))


def twice() -> tuple[Any, int]:
    one = torch.zeros(1000, 100)
    return {"a": one, "b": one[5:], "c": one.numpy()[2:]}, one.nbytes


def half() -> tuple[Any, int]:
    return Holder({"a": Pair("a", np.zeros(50_000))}), 400_000


WEIGHED: dict[str, Callable[[], tuple[Any, int]]] = {
    "network": tensors,
    "one memory": twice,
    "dataclass": half,
    "view": lambda: (np.zeros((1000, 100))[::2], 800_000),
    "image": lambda: (Image.new("RGB", (300, 200)), 240_000),
    "text": lambda: (["x" * 100_000, b"y" * 100_000], 200_000),
    "shapes alone": lambda: (build(preset("resnet50"), "meta"), 0),
}


@pytest.mark.parametrize("name", WEIGHED)
def test_a_weight_is_that_of_the_memory_behind(name: str) -> None:
    value, expected = WEIGHED[name]()
    modules = 3000 * sum(1 for _ in value.modules()) if hasattr(value, "modules") else 0
    assert expected <= weight(value) <= expected + 4000 + 3 * modules


def test_a_weight_is_what_python_allocates() -> None:
    """A trace, of objects only, against the account of the allocator."""
    trace(preset("resnet18"), (224, 224))
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        traced = trace(preset("resnet18"), (96, 100))
        gc.collect()
        allocated = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.8 < weight(traced) / allocated < 2.5
    assert weight(0) == weight(1) >= 512


def test_many_of_a_kind_are_weighed_by_some() -> None:
    """About as all of them, one by one."""
    traced = trace(preset("resnet152"), (224, 224))
    each = sum(weight(layer) - MIN_BYTES for layer in traced.layers)
    assert 0.5 < weight(traced.layers) / each < 1.1
    others = (*(Leaf("a", (1,)) for _ in range(100)), *(np.zeros(1000) for _ in range(100)))
    assert weight(others) > 100 * 8000


@pytest.mark.parametrize("text", ["", "32", " 64 "])
def test_a_budget_in_mebibytes(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_EXPLORER_RESULTS_MIB", text)
    assert budget("RESNET_EXPLORER_RESULTS_MIB", 128) == 2**20 * int(text or 128)


@pytest.mark.parametrize("text", ["0", "15", "-1", "1e3", "many", "9" * 50, "1 GiB"])
def test_a_budget_that_is_none_gets_a_sentence(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_EXPLORER_RESULTS_MIB", text)
    with pytest.raises(
        ConfigError, match=r"RESNET_EXPLORER_RESULTS_MIB = .* is not accepted: a whole number of MiB, 16 or more\."
    ):
        budget("RESNET_EXPLORER_RESULTS_MIB", 128)
