"""The dictionaries in the value of a pickle, and the tensors in them: the answer for a file."""

from __future__ import annotations

from typing import Any

from . import CUT, ITEM_BYTES, MAX_DEPTH, MAX_ENTRIES, MAX_NAME, MAX_TENSORS, RefusedError, Tensor, check_names
from .stand_ins import Bytes, Places, Thing, View, array


def answer(value: Any, places: Places) -> dict[str, Any]:
    """The answer for the value of a file's pickle."""
    contents, modules = tree(value, places)
    inside = [value, *value.values()] if isinstance(value, dict) and not has_tensors(contents) else []
    if any(isinstance(one, dict) and {"state", "param_groups"} <= one.keys() for one in inside):
        kind = "the state of an optimiser alone"
    else:
        kind = next((words for type_, words in KINDS if isinstance(value, type_)), "")
    if isinstance(value, Thing) and not is_network(value):
        kind = value.path if value.path.startswith("a ") else f"a whole {value.path[:200]}"
    return {"contents": contents, "is": kind, "modules": modules}


def has_tensors(contents: dict[str, Any]) -> bool:
    """Whether a tensor is in dictionaries in one another."""
    return any(not isinstance(entry, dict) or has_tensors(entry) for entry in contents.values())


KINDS: tuple[tuple[Any, str], ...] = (
    (View, "one tensor without a name"),
    (list | tuple, "a list"),
    (int | float | str | Bytes, "one value"),
)


def is_network(value: Any) -> bool:
    """Whether a thing stands for one of torch's modules."""
    return isinstance(value, Thing) and isinstance(value.entries.get("_parameters"), dict)


SETTINGS = (
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "groups",
    "padding_mode",
    "ceil_mode",
    "eps",
    "num_groups",
    "negative_slope",
    "alpha",
    "approximate",
)
"""What the layers of torch are set to, by the attribute: what a network computes beside its tensors."""


def set_to(layer: Thing) -> dict[str, Any]:
    """The class of a layer, and its settings that are numbers, pairs of numbers or words."""

    def plain(value: Any) -> bool:
        if isinstance(value, tuple):
            return len(value) <= 3 and all(type(number) is int and abs(number) < 2**20 for number in value)
        if isinstance(value, str):
            return len(value) <= 20
        return isinstance(value, int | float) and abs(value) < 2**20

    own = {name: layer.entries[name] for name in SETTINGS if plain(layer.entries.get(name))}
    return {"is": layer.path[:100]} | own


def tree(value: Any, places: Places) -> tuple[Any, dict[str, dict[str, Any]]]:
    """The dictionaries by text in a value, and in them tensors with their place in the file; how the layers of networks
    are set, by their names after those of the dictionaries, each followed by a slash.

    Raises:
        RefusedError: for more than `MAX_ENTRIES` or `MAX_TENSORS`, since one dictionary or tensor may stand in others many
            times, or a name longer than `MAX_NAME`.
    """
    total = tensors = 0
    modules: dict[str, dict[str, Any]] = {}

    def count(entries: dict[str, Any]) -> None:
        nonlocal total
        total += 1 + len(entries)
        if total > MAX_ENTRIES:
            raise RefusedError(
                f"holds more than {MAX_ENTRIES:,} entries: at most {MAX_TENSORS:,} tensors are accepted."
            )

    def state_dict(network: Thing, prefix: str, depth: int, path: str) -> dict[str, Any]:
        """The tensors of a network by the names that its `state_dict()` gives them."""
        found: dict[str, Any] = {}
        if not network.entries.get("_modules") and len(name := path + prefix.removesuffix(".")) <= MAX_NAME:
            modules[name] = set_to(network)
        hidden = network.entries.get("_non_persistent_buffers_set")
        for kind in ("_parameters", "_buffers", "_modules"):
            entries = network.entries.get(kind)
            if not isinstance(entries, dict) or depth == 2 * MAX_DEPTH:
                continue
            count(entries)
            for name, entry in entries.items():
                if kind == "_modules" and is_network(entry):
                    found |= state_dict(entry, f"{prefix}{name}.", depth + 1, path)
                elif kind == "_parameters" or not isinstance(hidden, list) or name not in hidden:
                    found[f"{prefix}{name}"] = entry
        return found

    def visit(value: Any, depth: int, path: str = "") -> Any:
        nonlocal tensors
        if isinstance(value, Thing) and (found := array(value)):
            value = found
        if isinstance(value, View | Tensor):
            tensors += 1
            return locate(value, places) if isinstance(value, View) else value
        if is_network(value):
            value = state_dict(value, "", depth, path)
        elif isinstance(value, Thing):
            given = value.arguments if isinstance(value.arguments, tuple) else ()
            value = {str(index): part for index, part in enumerate(given)} | value.entries
        if not isinstance(value, dict) or depth == MAX_DEPTH:
            return {}
        count(value)
        inner = {key: item for key, item in value.items() if isinstance(item, dict | View | Thing)}
        check_names(inner)
        return {key: visit(item, depth + 1, f"{path}{key}/") for key, item in inner.items()}

    contents = visit(value, 0)
    if tensors > MAX_TENSORS:
        raise RefusedError(f"holds {tensors:,} tensors: at most {MAX_TENSORS:,} are accepted.")
    return (contents if isinstance(contents, dict) else {}), modules


def locate(tensor: View, places: Places) -> Tensor:
    """A tensor with its place in the file.

    Raises:
        RefusedError: where its storage is not in the file, or is shorter than the pickle says.
    """
    numbers = tensor.storage
    at, length = places.get(numbers.key, (0, 0))
    item = ITEM_BYTES[numbers.dtype]
    if (numbers.first + numbers.length) * item > length:
        raise RefusedError(CUT)
    return Tensor(numbers.dtype, tensor.shape, tensor.stride, tensor.start, at + numbers.first * item)
