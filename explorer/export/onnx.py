"""ONNX, https://onnx.ai/onnx/operators.

The graph is that of the trace: a node a layer, by the layer's path, and its tensors by their names in the state dict, batch
norms as they are. torch's own exporters name nodes by counters (`node_Conv_374`), fold batch norms into weights without a
name, and take seconds for what takes milliseconds here; `difference` checks the result all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from resnet import ResNet
from resnet.blocks import Add, BlurPool2d, DropPath, FlattenChannels, PadShortcut, Scale
from resnet.command import MissingError

from ..analysis.trace import IMAGE, Call, run_hooks
from ..inference.latency import noise
from .errors import ExportError

OPSET, IR_VERSION = 21, 10
"""Of ONNX 1.16; group norm is an operator of its own from there on."""
MAX_BYTES = 2**31 - 2**24
"""Of the tensors: a file of protobuf ends at 2 GiB."""
TOLERANCE = 1e-4
"""How much scores may differ in onnxruntime, as a share of the largest."""
LAST = 2**63 - 1
"""The end of an axis."""


def needed(name: str) -> ModuleType:
    """One of the packages of the extra `onnx`.

    Raises:
        MissingError: where it is not installed.
    """
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise MissingError(f"ONNX needs {name}: install it by `pip install 'resnet-explorer[onnx]'`.") from error


def model(network: ResNet, image_size: tuple[int, int], says: Mapping[str, str]) -> bytes:
    """The file of a network in evaluation mode: `image`, batch × in_channels × H × W, to `scores`, batch × num_classes, for
    batches of any size. It holds the texts `says` as its metadata.

    Raises:
        MissingError: without the extra `onnx`.
        ExportError: for weights of more than 2 GiB, which a file cannot hold.
    """
    onnx, graph = needed("onnx"), _Graph()
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    if size > MAX_BYTES:
        raise ExportError(f"The weights take {size / 2**30:.1f} GiB: an ONNX file of less than 2 GiB is accepted.")
    shape = network.config.in_channels, *image_size
    calls = run_hooks(network, torch.empty(0, *shape, device=next(network.parameters()).device))
    outputs = {IMAGE: "image"}
    for index, call in enumerate(calls):
        outputs[index] = graph.add(call, [outputs[source] for source in call.inputs], index == len(calls) - 1)
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    made = helper.make_graph(
        graph.nodes,
        says.get("network", "ResNet"),
        [helper.make_tensor_value_info("image", number, ["batch", *shape])],
        [helper.make_tensor_value_info("scores", number, ["batch", network.config.num_classes])],
        graph.tensors,
    )
    opset = helper.make_opsetid("", OPSET)
    file = helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION, producer_name=says.get("producer", ""))
    helper.set_model_props(file, dict(says))
    file = onnx.shape_inference.infer_shapes(file, check_type=True, strict_mode=True)
    return file.SerializeToString()


def difference(file: bytes, network: ResNet, image_size: tuple[int, int]) -> float:
    """The largest difference between the scores of a file in onnxruntime and those of its network, over the largest score:
    for two images of noise.

    Raises:
        MissingError: without the extra `onnx`.
    """
    images = noise((2, network.config.in_channels, *image_size))
    with torch.inference_mode():
        return change(network(images), scores(file, [images]))


def scores(file: bytes, batches: Iterable[Tensor]) -> Tensor:
    """What a file says of batches of images, each N×C×H×W, in onnxruntime: the scores of all, N×K.

    Raises:
        MissingError: without the extra `onnx`.
    """
    session = needed("onnxruntime").InferenceSession(file, providers=["CPUExecutionProvider"])
    return torch.cat([torch.from_numpy(session.run(["scores"], {"image": batch.numpy()})[0]) for batch in batches])


def change(before: Tensor, after: Tensor) -> float:
    """The largest difference of a score as a share of the largest before."""
    return float((after - before).abs().max() / before.abs().max().clamp(min=1e-12))


def checked(file: bytes, network: ResNet, image_size: tuple[int, int]) -> float:
    """`difference`, where it is within `TOLERANCE`.

    Raises:
        MissingError: without the extra `onnx`.
        ExportError: where it is not.
    """
    found = difference(file, network, image_size)
    if not found <= TOLERANCE:
        raise ExportError(
            f"In onnxruntime the scores differ by {found:.0e} of the largest, more than {TOLERANCE:.0e}: another version of "
            "it, or other weights, are accepted."
        )
    return found


class _Graph:
    """Nodes and tensors, as they are added."""

    def __init__(self) -> None:
        self.onnx = needed("onnx")
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def node(self, kind: str, name: str, inputs: list[str], output: str = "", **how: Any) -> str:
        """A node called `name`; the name of what it puts out."""
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output or name], name=name, **how))
        return output or name

    def tensor(self, name: str, values: Tensor) -> str:
        self.tensors.append(self.onnx.numpy_helper.from_array(values.detach().cpu().contiguous().numpy(), name))
        return name

    def numbers(self, name: str, *values: int) -> str:
        return self.tensor(name, torch.tensor(values))

    def add(self, call: Call, inputs: list[str], last: bool) -> str:
        """The nodes of a layer, from the names of what it reads to that of what it puts out."""
        kind = next(kind for kind in type(call.module).__mro__ if kind in _LAYERS)
        output = _LAYERS[kind](self, call.name, call.module, inputs)
        if last:
            self.nodes[-1].output[0] = output = "scores"
        return output


Layer = Callable[[_Graph, str, Any, list[str]], str]


def _own(graph: _Graph, name: str, module: nn.Module, *parts: str) -> list[str]:
    """The tensors of a module, by their names in the state dict."""
    found = [(f"{name}.{part}", getattr(module, part)) for part in parts]
    return [graph.tensor(path, values) for path, values in found if values is not None]


def _simple(kind: str, **attributes: str) -> Layer:
    """A layer that is one node, with attributes of the module by other names."""

    def add(graph: _Graph, name: str, module: Any, inputs: list[str]) -> str:
        how = {theirs: getattr(module, ours) for theirs, ours in attributes.items()}
        return graph.node(kind, name, inputs, **how)

    return add


def _convolution(graph: _Graph, name: str, module: Any, inputs: list[str]) -> str:
    return graph.node(
        "Conv",
        name,
        inputs + _own(graph, name, module, "weight", "bias"),
        kernel_shape=module.kernel_size,
        strides=module.stride,
        pads=module.padding * 2,
        dilations=module.dilation,
        group=module.groups,
    )


def _batch_norm(graph: _Graph, name: str, module: Any, inputs: list[str]) -> str:
    own = _own(graph, name, module, "weight", "bias", "running_mean", "running_var")
    return graph.node("BatchNormalization", name, inputs + own, epsilon=module.eps)


def _group_norm(graph: _Graph, name: str, module: Any, inputs: list[str]) -> str:
    own = _own(graph, name, module, "weight", "bias")
    return graph.node("GroupNormalization", name, inputs + own, epsilon=module.eps, num_groups=module.num_groups)


def _linear(graph: _Graph, name: str, module: Any, inputs: list[str]) -> str:
    return graph.node("Gemm", name, inputs + _own(graph, name, module, "weight", "bias"), transB=1)


def _pair(value: Any) -> list[int]:
    return list(value) if isinstance(value, tuple) else [value, value]


def _max_pool(graph: _Graph, name: str, module: Any, inputs: list[str]) -> str:
    kernel, stride, padding = map(_pair, (module.kernel_size, module.stride, module.padding))
    return graph.node("MaxPool", name, inputs, kernel_shape=kernel, strides=stride, pads=padding * 2)


def _average_pool(graph: _Graph, name: str, module: Any, inputs: list[str]) -> str:
    """Beyond the border, where it rounds up, it counts nothing; none of ours pads."""
    kernel, stride = map(_pair, (module.kernel_size, module.stride))
    return graph.node("AveragePool", name, inputs, kernel_shape=kernel, strides=stride, ceil_mode=int(module.ceil_mode))


def _zero_pad(graph: _Graph, name: str, module: Any, inputs: list[str]) -> str:
    left, right, top, bottom = module.padding
    return graph.node("Pad", name, [*inputs, graph.numbers(f"{name}.pads", 0, 0, top, left, 0, 0, bottom, right)])


def _blur(graph: _Graph, name: str, module: Any, inputs: list[str]) -> str:
    pad, stride = module.padding, module.stride
    pads = graph.numbers(f"{name}.pads", 0, 0, pad, pad, 0, 0, pad, pad)
    padded = graph.node("Pad", f"{name}.pad", [*inputs, pads], mode="reflect")
    kernel = graph.tensor(f"{name}.kernel", module.kernel)
    return graph.node("Conv", name, [padded, kernel], strides=[stride, stride], group=len(module.kernel))


def _pad_shortcut(graph: _Graph, name: str, module: Any, inputs: list[str]) -> str:
    cut = {"starts": (0, 0), "ends": (LAST, LAST), "axes": (2, 3), "steps": (module.stride, module.stride)}
    places = [graph.numbers(f"{name}.{word}", *values) for word, values in cut.items()]
    every = graph.node("Slice", f"{name}.slice", [*inputs, *places])
    return graph.node("Pad", name, [every, graph.numbers(f"{name}.pads", 0, 0, 0, 0, 0, module.extra, 0, 0)])


def _scale(graph: _Graph, name: str, module: Any, inputs: list[str]) -> str:
    x, weight = inputs
    shaped = graph.node("Reshape", f"{name}.reshape", [weight, graph.numbers(f"{name}.shape", 0, -1, 1, 1)])
    return graph.node("Mul", name, [x, shaped])


def _flatten_channels(graph: _Graph, name: str, module: Any, inputs: list[str]) -> str:
    return graph.node("Reshape", name, [*inputs, graph.numbers(f"{name}.shape", 0, 1, -1)])


def _silu(graph: _Graph, name: str, module: Any, inputs: list[str]) -> str:
    return graph.node("Mul", name, [*inputs, graph.node("Sigmoid", f"{name}.sigmoid", inputs)])


def _nothing(graph: _Graph, name: str, module: Any, inputs: list[str]) -> str:
    return inputs[0]


_LAYERS: Mapping[type[nn.Module], Layer] = {
    nn.Conv2d: _convolution,
    nn.Conv1d: _convolution,
    nn.Linear: _linear,
    nn.BatchNorm2d: _batch_norm,
    nn.GroupNorm: _group_norm,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _simple("GlobalAveragePool"),
    nn.ZeroPad2d: _zero_pad,
    nn.Flatten: _simple("Flatten"),
    FlattenChannels: _flatten_channels,
    BlurPool2d: _blur,
    PadShortcut: _pad_shortcut,
    Add: _simple("Add"),
    Scale: _scale,
    DropPath: _nothing,
    nn.Sigmoid: _simple("Sigmoid"),
    nn.ReLU: _simple("Relu"),
    nn.LeakyReLU: _simple("LeakyRelu", alpha="negative_slope"),
    nn.ELU: _simple("Elu", alpha="alpha"),
    nn.SiLU: _silu,
    nn.GELU: _simple("Gelu", approximate="approximate"),
}
"""How each module of the trace is written."""
