"""`trace(config)`: the network as forward hooks see it.

The hooks run on a batch of zero images with weights that were reserved and never filled:
every operation checks and reports its shapes and computes nothing, so a network is traced
in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import cycle, groupby
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from resnet import ResNet, ResNetConfig, title
from resnet.blocks import ACTIVATIONS, Add, BlurPool2d, DropPath, FlattenChannels, PadShortcut, Scale
from resnet.sizes import check_image_size

from .. import notebook
from ..units import amount, macs_text
from . import memory
from .layers import (
    IMAGE,
    STRIDED,
    WEIGHTED,
    Layer,
    Op,
    Shape,
    beyond_windows,
    by_part,
    convolutions,
    global_dependencies,
    role,
    shape_text,
)
from .receptive_field import PIXEL, Field, union, whole_image, window

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Trace:
    """A network seen at one image size (height and width in pixels). Layers are in order of execution.

    What follows from them is computed once and read-only, as everybody may share a trace.
    """

    config: ResNetConfig
    image_size: tuple[int, int]
    layers: tuple[Layer, ...]

    def __reduce__(self) -> tuple[type[Trace], tuple[Any, ...]]:
        """The fields alone: read-only mappings cannot be pickled, and follow from them."""
        return Trace, (self.config, self.image_size, self.layers)

    @cached_property
    def params(self) -> int:
        """Trainable numbers of all layers."""
        return sum(layer.params for layer in self.layers)

    @cached_property
    def macs(self) -> int:
        """Multiply-adds of convolutions and linear layers for one image."""
        return sum(layer.macs for layer in self.layers)

    @cached_property
    def inference_memory(self) -> memory.Memory:
        """The most that a forward pass of one image in fp32 holds at once, as our own network runs."""
        return memory.inference_memory(self.layers, self.image_shape)

    @cached_property
    def least_memory(self) -> memory.Memory:
        """The most at once where each output is let go of after its last reader."""
        return memory.least_memory(self.layers, self.image_shape)

    @cached_property
    def training_memory(self) -> int:
        """Bytes that training keeps for the backward pass of one image in fp32."""
        return memory.training_memory(self.layers, self.image_shape)

    @cached_property
    def moved_bytes(self) -> int:
        """Bytes that the operations of one image's forward pass in fp32 read and write, parameters among them."""
        return memory.moved_bytes(self.layers, self.image_shape)

    @cached_property
    def working_memory(self) -> int:
        """The most bytes that a prediction takes beside the network's weights."""
        return memory.working_memory(self.layers, self.image_shape)

    @cached_property
    def gradient_memory(self) -> int:
        """The most bytes that one image takes forward and back."""
        return memory.gradient_memory(self.layers, self.image_shape)

    # -- where layers stand -----------------------------------------------------------------

    @cached_property
    def parts(self) -> Mapping[str, tuple[Layer, ...]]:
        """The layers of the "stem", of each block by its path ("layer2.0") and of the "head", from input to output."""
        return MappingProxyType(by_part(self.layers))

    @cached_property
    def blocks(self) -> Mapping[str, tuple[Layer, ...]]:
        """The layers of each block by its path, from input to output."""
        return MappingProxyType({path: self.parts[path] for path in self.config.blocks})

    @cached_property
    def groups(self) -> Mapping[str, tuple[Layer, ...]]:
        """The layers of "stem", "stage 1", "stage 2", …, "head"."""
        together = groupby(self.layers, lambda layer: layer.role.group)
        return MappingProxyType({group: tuple(layers) for group, layers in together})

    @property
    def stem(self) -> tuple[Layer, ...]:
        """The layers before the first stage."""
        return self.groups["stem"]

    @property
    def stages(self) -> tuple[tuple[Layer, ...], ...]:
        """The layers of each stage, first stage first."""
        return tuple(self.groups.values())[1:-1]

    def part_of(self, at: str) -> str:
        """The part that a layer by its name belongs to: "stem", "head" or a block's path; another name stays as it is."""
        return self.by_name[at].part if at in self.by_name else at

    def inside(self, path: str) -> tuple[Layer, ...]:
        """The layers of the "stem", of the "head" or of a module by its path: the network (""), a stage, a block, a layer.

        Empty where the network has none such.
        """
        named = (layer for layer in self.layers if not path or f"{layer.name}.".startswith(f"{path}."))
        return self.parts.get(path) or tuple(named)

    @cached_property
    def convolutions(self) -> tuple[Layer, ...]:
        """All 2-d convolutions, in order of execution."""
        return convolutions(self.layers)

    @cached_property
    def additions(self) -> tuple[Layer, ...]:
        """All additions, in order of execution."""
        return tuple(layer for layer in self.layers if layer.op == Op.ADDITION)

    # -- what units see ---------------------------------------------------------------------

    @property
    def field(self) -> Field:
        """The receptive field of the last stage."""
        return self.stages[-1][-1].field

    @cached_property
    def global_dependencies(self) -> Mapping[int, frozenset[str]]:
        """For each layer by its index, what brings the whole map to its units; see `beyond_windows`."""
        return MappingProxyType(global_dependencies(self.layers))

    def beyond_windows(self, layer: Layer | None = None) -> str:
        """That a layer's units depend on more than their windows, in a sentence; without a layer, that some do, and from
        where on. Empty where they do not."""
        if layer is not None:
            return beyond_windows(self.global_dependencies[layer.index], "Its units")
        first = next((self.layers[index].name for index, kinds in self.global_dependencies.items() if kinds), "")
        return beyond_windows(frozenset().union(*self.global_dependencies.values()), first=first)

    @cached_property
    def too_small(self) -> str:
        """What happens to an image that is smaller than the total stride, in a sentence; empty for a larger one."""
        side, stride = min(self.image_size), self.config.total_stride
        if side >= stride:
            return ""
        layer = next(layer for layer in self.layers if layer.field.effective_stride and min(layer.out_shape[1:]) == 1)
        height, width = layer.out_shape[1:]
        shape = "1×1" if height == width else "one unit high" if height == 1 else "one unit wide"
        return (
            f"A side of {side} px is less than the network's total stride of {stride}: from {layer.name} on the maps are {shape}, "
            "and a 3×3 kernel sees mostly padding."
        )

    @cached_property
    def by_name(self) -> Mapping[str, Layer]:
        """Each layer by its state-dict path."""
        return MappingProxyType({layer.name: layer for layer in self.layers})

    @cached_property
    def consumers(self) -> Mapping[int, tuple[int, ...]]:
        """The layers that read each layer's output (−1: the image)."""
        readers: dict[int, list[int]] = {index: [] for index in range(IMAGE, len(self.layers))}
        for layer in self.layers:
            for producer in layer.inputs:
                readers[producer].append(layer.index)
        return MappingProxyType({index: tuple(who) for index, who in readers.items()})

    def sources(self, layer: Layer) -> tuple[str, ...]:
        """The names of what a layer reads; "image" for the input."""
        return tuple("image" if i == IMAGE else self.layers[i].name for i in layer.inputs)

    @property
    def image_shape(self) -> Shape:
        """The input image C×H×W."""
        return (self.config.in_channels, *self.image_size)

    # -- in words ---------------------------------------------------------------------------

    @property
    def heading(self) -> str:
        """ResNet-50 at 224×224, depth 50."""
        height, width = self.image_size
        name = title(self.config)
        return f"{name} at {height}×{width}" + ("" if "depth" in name else f", depth {self.config.depth}")

    @property
    def figures(self) -> tuple[tuple[str, str], ...]:
        """The totals, each with its name."""
        field, peak = self.field, self.inference_memory
        return (
            ("parameters", f"{self.params:,}"),
            ("MACs", f"{self.macs:,}"),
            ("peak activations", f"{peak.bytes:,} bytes at {peak.layer.name}"),
            ("  at the least", f"{self.least_memory.bytes:,} bytes, if each output is let go of after its last reader"),
            ("kept for training", f"{self.training_memory:,} bytes"),
            ("receptive field", f"{field.size:,} px, effective stride {field.effective_stride}, start {field.start:,}"),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What the figures alone do not say, in sentences: that units see more than their windows, that the image is small."""
        return tuple(words for words in (self.beyond_windows(), self.too_small) if words)

    def __repr__(self) -> str:
        """ResNet-50, its image and its costs in a line."""
        costs = f"{amount(self.params)} parameters, {macs_text(self.macs)}, field {self.field.size:,} px"
        return f"Trace({self.heading}: {len(self.layers)} layers, {costs})"

    def _repr_html_(self) -> str:
        """In a notebook: the figures, and the first and last rows of the layer table."""
        named = self.frame().rename(columns={name: column.label for name, column in COLUMNS.items()})
        return (
            notebook.heading(self.heading)
            + notebook.table(("Total", "Value"), self.figures)
            + notebook.paragraphs(self.notes)
            + notebook.frame(named, notebook.ROWS)
        )

    def frame(self) -> pandas.DataFrame:
        """The layer table, one row a layer, columns as in `COLUMNS`."""
        import pandas

        return pandas.DataFrame(
            {key: [column.value(self, layer) for layer in self.layers] for key, column in COLUMNS.items()}
        )


class Column(NamedTuple):
    """A column of the layer table; `format` is how its numbers are written, empty for text."""

    label: str
    value: Callable[[Trace, Layer], Any]
    format: str
    help: str


COLUMNS: Mapping[str, Column] = {
    "name": Column("Layer", lambda trace, layer: layer.name, "", "State-dict path"),
    "op": Column("Operation", lambda trace, layer: layer.label, "", "What the layer computes"),
    "part": Column("Part", lambda trace, layer: layer.role.group, "", "Stem, stage or head"),
    "output": Column("Output", lambda trace, layer: shape_text(layer.out_shape), "", "Channels × height × width"),
    "params": Column("Parameters", lambda trace, layer: layer.params, "accounting", "Trainable numbers"),
    "macs": Column(
        "MACs", lambda trace, layer: layer.macs, "accounting", "Multiply-adds for one image; FLOPs = 2 × MACs"
    ),
    "field": Column("Field", lambda trace, layer: layer.field.size, "%d", "Receptive field, pixels a side"),
    "effective_stride": Column(
        "Effective stride", lambda trace, layer: layer.field.effective_stride, "%d", "Pixels between neighbouring units"
    ),
    "start": Column(
        "Start", lambda trace, layer: layer.field.start, "%d", "First pixel that unit 0 sees; negative is padding"
    ),
    "inputs": Column(
        "Reads", lambda trace, layer: ", ".join(trace.sources(layer)), "", "The layers whose output it reads"
    ),
}


def trace(config: ResNetConfig, image_size: int | tuple[int, int] = 224) -> Trace:
    """Trace a configuration at an image size: one side, or (height, width), in pixels.

    Raises:
        ConfigError: for an image size that the network cannot take.
    """
    size = check_image_size(config, image_size)
    with nullcontext() if reservable(config) else torch.device("meta"):
        network = ResNet(config, tied=True)
    return Trace(config, size, trace_module(network, (config.in_channels, *size)))


def trace_module(module: nn.Module, image_shape: Shape) -> tuple[Layer, ...]:
    """The layers of a feed-forward module that reads one image C×H×W, all of it modules of `OPERATIONS`.

    It is traced in evaluation mode; its training modes stay as they were. Roles follow from the names of a `ResNet` only.

    Raises:
        RuntimeError: where an operation is no module and so hidden from the hooks, or a shape does not fit.
        TypeError: for a module that `OPERATIONS` does not name.
    """
    weight = next(module.parameters(), None)
    image = torch.empty(0, *image_shape, device=weight.device if weight is not None else None)
    layers: list[Layer] = []
    for call in run_hooks(module, image):
        layers.append(make_layer(len(layers), call, layers, image_shape[1:]))
    return tuple(layers)


class Call(NamedTuple):
    """One module's forward as its hook saw it; `inputs` are indices of calls."""

    name: str
    module: nn.Module
    inputs: tuple[int, ...]
    in_shapes: tuple[Shape, ...]
    out_shape: Shape


def run_hooks(network: nn.Module, image: Tensor) -> list[Call]:
    """One forward pass of a batch N×C×H×W in evaluation mode. An edge is a tensor that one module made and another read.

    A module that stands in several places must run in the order of its names.

    Raises:
        RuntimeError: where a module reads a tensor that no module made, so that an
            operation is hidden from the hooks.
    """
    seen: list[tuple[str, nn.Module, tuple[Tensor, ...], Tensor]] = []  # holds the tensors, so that ids stay unique

    def hook_for(names: Iterator[str]) -> Callable[..., None]:
        return lambda module, args, output: seen.append((next(names), module, args, output))

    places: dict[nn.Module, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        places.setdefault(module, []).append(name)
    training = [module for module in places if module.training]
    hooks = []
    try:
        for module, names in places.items():
            module.training = False
            if not isinstance(module, nn.Identity) and next(module.children(), None) is None:
                hooks.append(module.register_forward_hook(hook_for(cycle(names))))
        with torch.inference_mode():
            scores = network(image)
    finally:
        for hook in hooks:
            hook.remove()
        for module in training:
            module.training = True
    if not seen or scores is not seen[-1][3]:
        last = seen[-1][0] if seen else "the input"
        raise RuntimeError(f"{last} does not put out the result: make the operation after it a module")

    producer = {id(image): IMAGE}
    calls: list[Call] = []
    for name, module, args, output in seen:
        if any(id(tensor) not in producer for tensor in args):
            raise RuntimeError(f"{name} reads a tensor that no module made: make the operation before it a module")
        inputs = tuple(producer[id(tensor)] for tensor in args)
        shapes = tuple(tuple(tensor.shape[1:]) for tensor in args)
        producer[id(output)] = len(calls)
        calls.append(Call(name, module, inputs, shapes, tuple(output.shape[1:])))
    return calls


def reservable(config: ResNetConfig) -> bool:
    """Whether memory for the weights, never touched, can be reserved on any machine (8 GiB at most).

    A larger network is traced on the meta device, which takes no memory and four times as long or more.
    """
    channels = (config.stem_channels, *config.stage_channels)
    bound = 24 * channels[0] ** 2 + 49 * config.in_channels * config.stem_width + channels[-1] * config.num_classes
    for blocks, planes, before, after in zip(config.layers, config.planes, channels, channels[1:], strict=False):
        bound += 24 * blocks * max(before, after, config.width(planes)) ** 2
    return bound <= 2**31


# -- from a call to a layer ---------------------------------------------------------------


OPERATIONS: Mapping[type[nn.Module], Op] = {
    nn.Conv2d: Op.CONVOLUTION,
    nn.Conv1d: Op.CHANNEL_CONVOLUTION,
    nn.Linear: Op.LINEAR,
    nn.BatchNorm2d: Op.BATCH_NORM,
    nn.GroupNorm: Op.GROUP_NORM,
    nn.MaxPool2d: Op.MAX_POOLING,
    nn.AvgPool2d: Op.AVERAGE_POOLING,
    nn.AdaptiveAvgPool2d: Op.GLOBAL_AVERAGE_POOLING,
    nn.Sigmoid: Op.SIGMOID,
    nn.Flatten: Op.FLATTEN,
    FlattenChannels: Op.FLATTEN,
    nn.ZeroPad2d: Op.ZERO_PADDING,
    BlurPool2d: Op.BLUR,
    PadShortcut: Op.ZERO_PADDING,
    Add: Op.ADDITION,
    Scale: Op.SCALING,
    DropPath: Op.STOCHASTIC_DEPTH,
    **{module: Op.activation(name) for name, module in ACTIVATIONS.items()},
}
"""What each module computes."""


def operation(module: nn.Module) -> Op:
    """What a module computes, by its class or the nearest base in `OPERATIONS`.

    Raises:
        TypeError: for a module that `OPERATIONS` does not name.
    """
    for kind in type(module).__mro__:
        if kind in OPERATIONS:
            return OPERATIONS[kind]
    raise TypeError(f"the trace has no name for {type(module).__name__}: add it to OPERATIONS")


def make_layer(index: int, call: Call, before: list[Layer], size: Shape) -> Layer:
    """The layer of a call: `before` are the layers so far, `size` is the image's (height, width) in pixels.

    Raises:
        TypeError: as `operation`.
    """
    module, op = call.module, operation(call.module)
    kernel, stride, padding, dilation = map(partial(window_extent, module), WINDOW) if op in STRIDED else (1, 1, 0, 1)
    fields = [PIXEL if i == IMAGE else before[i].field for i in call.inputs]
    if op == Op.GLOBAL_AVERAGE_POOLING:
        field = whole_image((size[0], size[1]))
    elif op == Op.ADDITION:
        field = union(*fields)
    elif op in STRIDED and op != Op.CHANNEL_CONVOLUTION:
        field = window(fields[0], kernel, stride, padding, dilation)
    else:  # one position to one position; a channel weight's own field is the whole image, its position is x's
        field = fields[0]
    groups = getattr(module, GROUPS[op]) if op in GROUPS else 1
    params = sum(p.numel() for p in module.parameters(recurse=False)) if op in WEIGHTED else 0
    return Layer(
        index,
        call.name,
        op,
        type(module).__name__,
        role(call.name),
        call.inputs,
        call.in_shapes,
        call.out_shape,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        params,
        macs(module, call.out_shape),
        field,
    )


GROUPS = {Op.CONVOLUTION: "groups", Op.GROUP_NORM: "num_groups"}
WINDOW = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
"""A window's extents, with the value of one that a module lacks."""


def window_extent(module: nn.Module, name: str) -> int:
    """A window's extent along one axis; all windows here are square."""
    value = getattr(module, name, WINDOW[name])
    return value[0] if isinstance(value, tuple) else value


def macs(module: nn.Module, out_shape: Shape) -> int:
    """Multiply-adds for one image: every weight is used once at each output position."""
    if isinstance(module, nn.Conv2d):
        return module.weight.numel() * out_shape[1] * out_shape[2]
    if isinstance(module, nn.Conv1d):
        return module.weight.numel() * out_shape[1]
    return module.weight.numel() if isinstance(module, nn.Linear) else 0
