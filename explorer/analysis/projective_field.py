"""Which units of an earlier layer a unit reads, and which of a later one it can reach: windows followed one by one.

The second is the projective field (Lehky and Sejnowski 1988, https://doi.org/10.1038/333452a0), the receptive field the other
way round. Both are exact sets of places, with the holes that dilation and stride leave, where `Field` is an interval.
"""

from __future__ import annotations

import numpy as np

from .layers import IMAGE, WINDOWED, Layer, Op, Shape
from .trace import Trace

OUTSIDE = -1
"""The position of padding, which is no unit's."""
READS_PLACES = WINDOWED | {Op.ZERO_PADDING}
"""Operations whose units read a window of places."""


def map_size(shape: Shape) -> tuple[int, int]:
    """Height and width of an output; 1×1 where it is C values and no map."""
    return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)


def positions(layer: Layer, unit: int, size: int) -> tuple[int, ...]:
    """The rows of its input, which has `size` of them, that the units of a layer's row `unit` read; so of columns.

    `OUTSIDE` stands for padding with zeros, or with what is never the maximum; a blur's reflects.
    """
    return tuple(windows(layer, np.array([unit]), size)[0].tolist())


def windows(layer: Layer, units: np.ndarray, size: int) -> np.ndarray:
    """`positions` of several units along an axis, units × window."""
    if layer.op == Op.GLOBAL_AVERAGE_POOLING:
        return np.tile(np.arange(size), (len(units), 1))
    if layer.op not in READS_PLACES:
        return units[:, None]
    found = units[:, None] * layer.stride - layer.padding + np.arange(layer.kernel) * layer.dilation
    if layer.op == Op.BLUR:
        return size - 1 - abs(size - 1 - abs(found))
    return np.where((found >= 0) & (found < size), found, OUTSIDE)


def receptive(trace: Trace, name: str, row: int, column: int) -> dict[str, np.ndarray]:
    """The places H×W that a unit's value depends on, in its own layer, all before it and the "image", as truth values.

    A place counts where one of its channels does. Maximum pooling may look at each place of its window.

    Raises:
        KeyError: for a layer that the network does not have.
    """
    layer = trace.by_name[name]
    masks = {layer.index: one_place(map_size(layer.out_shape), row, column)}
    for each in reversed(trace.layers[: layer.index + 1]):
        if each.index in masks:
            for slot, (producer, shape) in enumerate(zip(each.inputs, each.in_shapes, strict=True)):
                found = read_by(each, masks[each.index], slot, map_size(shape))
                masks[producer] = masks[producer] | found if producer in masks else found
    return {layer_name(trace, index): mask for index, mask in sorted(masks.items())}


def projective(trace: Trace, name: str, row: int, column: int) -> dict[str, np.ndarray]:
    """The places H×W that a unit, or a pixel of the "image", can change, in its own layer and all after it, as truth values.

    A place counts where one of its channels does. Layers that it cannot reach are left out.

    Raises:
        KeyError: for a layer that the network does not have.
    """
    index = IMAGE if name == "image" else trace.by_name[name].index
    shape = trace.image_shape if index == IMAGE else trace.layers[index].out_shape
    masks = {index: one_place(map_size(shape), row, column)}
    for each in trace.layers[index + 1 :]:
        found = [
            reached_from(each, masks[producer], slot) for slot, producer in enumerate(each.inputs) if producer in masks
        ]
        if found:
            masks[each.index] = np.logical_or.reduce(found)
    return {layer_name(trace, index): mask for index, mask in masks.items() if mask.any()}


def layer_name(trace: Trace, index: int) -> str:
    """A layer's name by its index; "image" for the input."""
    return "image" if index == IMAGE else trace.layers[index].name


def one_place(size: tuple[int, int], row: int, column: int) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[row, column] = True
    return mask


def gathers(layer: Layer, slot: int) -> bool:
    """Whether each unit depends on all places of its input: the weights of channel attention and a norm over the map do."""
    return layer.op == Op.GROUP_NORM or (layer.op == Op.SCALING and slot == 1)


def reached_from(layer: Layer, mask: np.ndarray, slot: int) -> np.ndarray:
    """The places of a layer that read one of `mask` in its input number `slot`."""
    size = map_size(layer.out_shape)
    if gathers(layer, slot):
        return np.full(size, mask.any())
    padded = np.pad(mask, ((0, 1), (0, 1)))  # where OUTSIDE leads to
    rows, columns = (windows(layer, np.arange(units), side) for units, side in zip(size, mask.shape, strict=True))
    return padded[rows].any(1)[:, columns].any(2)


def read_by(layer: Layer, mask: np.ndarray, slot: int, size: tuple[int, int]) -> np.ndarray:
    """The places of a layer's input number `slot`, of so many rows and columns, that the places of `mask` in it read."""
    if gathers(layer, slot):
        return np.full(size, mask.any())
    rows, columns = (windows(layer, np.arange(units), side) for units, side in zip(mask.shape, size, strict=True))
    across = np.zeros((size[0] + 1, mask.shape[1]), bool)
    for row in rows.T:
        np.logical_or.at(across, row, mask)
    found = np.zeros((size[1] + 1, size[0]), bool)
    for column in columns.T:
        np.logical_or.at(found, column, across[:-1].T)
    return found[:-1].T
