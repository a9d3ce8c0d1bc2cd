"""Checkpoint files from anywhere: read without running anything in them, and understood by their tensors.

A file may be hostile. A `.pt` or `.pth` file is a pickle, which can ask for any function to be called, for any amount
of memory and for any amount of time. So a process of its own looks through it and says where its tensors lie, and
their bytes are taken from there.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import tensor_files
from .config import OPTIONS, ResNetConfig
from .confined import BusyError, ConfinedError, confined
from .errors import ExplainedError
from .model import ResNet, build
from .options import ConfigError, plain
from .tensor_files import MAX_TENSORS
from .tensor_files import Tensor as Place

MAX_FILE_BYTES = 400 * 2**20
MAX_TENSOR_BYTES = 2**30
MAX_GROWTH = 8
"""How many times as large as its file a network may be in float32: twice for half precision, four times for bytes."""

Shape = tuple[int, ...]


class WeightsError(ExplainedError, RuntimeError):
    """Weights that cannot be had, in one sentence: which, why, and what works instead."""


# -- reading ------------------------------------------------------------------------------


class File(NamedTuple):
    """What a checkpoint file holds: its tensors as float32 (whole numbers as they are) on the CPU, by torchvision's
    names, and what a safetensors file says of itself."""

    tensors: dict[str, Tensor]
    metadata: Mapping[str, str]

    @property
    def declared_config(self) -> ResNetConfig | None:
        """The configuration that a file written by this package says it is for."""
        try:
            return ResNetConfig.from_json(self.metadata["config"])
        except (ConfigError, LookupError, RecursionError, TypeError):
            return None


def read_state_dict(data: bytes | bytearray | memoryview, name: str) -> dict[str, Tensor]:
    """The tensors of a file's bytes, as `read_file` reads them."""
    return read_file(data, name).tensors


def read_file(data: bytes | bytearray | memoryview, name: str) -> File:
    """What a `.safetensors`, `.pt` or `.pth` file holds, whoever wrote it.

    The format is told by the content. `name` is what to call the file in a sentence. A process of its own lists the
    tensors (`tensor_files`, `confined`), within 3 s of a processor, 12 s on the clock and 0.6 GiB of memory; their numbers
    then come from the file. Beside the file, and a copy of it for that process, that takes the memory of the tensors.

    Raises:
        WeightsError: for what is not bytes, a file that is too large, damaged, no checkpoint, holds more than tensors, or
            takes more memory or time; nothing else is raised, whatever is given.
    """
    name = plain(name, 80)
    whole = _bytes(data, name)
    try:
        answer = json.loads(confined(PROGRAM, whole, MAX_ANSWER_BYTES))
        if refused := answer.get("refused"):
            raise WeightsError(f"{name} {plain(refused, 400)}")
        entries = _unwrapped(answer["contents"])
        places = {key: _place(entry, len(whole)) for key, entry in entries.items() if isinstance(entry, list)}
        _check_tensors(places, len(whole), name)
        tensors = {key: _tensor(place, whole) for key, place in places.items()}
    except WeightsError:
        raise
    except BusyError as error:
        raise WeightsError(f"{name} {error}.") from error
    except ConfinedError as error:
        raise WeightsError(f"{name} {error}: a checkpoint of at most {MAX_TENSORS:,} tensors is accepted.") from error
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise WeightsError(f"{name} {tensor_files.CUT}") from error
    except (MemoryError, RuntimeError) as error:  # the second is torch's
        raise WeightsError(f"{name} finds too little memory on this machine: a smaller file is accepted.") from error
    return File(tensors_in(tensors), answer.get("metadata", {}))


def _bytes(data: bytes | bytearray | memoryview, name: str) -> bytes:
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
        raise WeightsError(f"{name} is empty: a checkpoint in .safetensors, .pt or .pth is accepted.")
    return data if isinstance(data, bytes) else view.tobytes()


PROGRAM = Path(tensor_files.__file__)
PART_BYTES = 2**24
"""Of a large tensor's bytes, those that are copied from a file before they are made float32."""
MAX_ANSWER_BYTES = 8 * 2**20
"""A list of tensors; 20,000 with names of 100 characters take 4 MiB."""


def _place(entry: list[Any], size: int) -> Place:
    """Where a tensor lies in a file of `size` bytes, from the answer of a process that a file may have taken over.

    Raises:
        TypeError, ValueError: where it is none, or lies in part outside the file.
    """
    place = Place(*entry)
    numbers = (size - place.at) // tensor_files.ITEM_BYTES.get(place.dtype, size + 1)
    whole = tensor_files.are_sizes(*place.shape, *place.stride, place.start, place.at)
    if not whole or len(place.shape) > tensor_files.MAX_AXES or not tensor_files.fits(*place[1:4], numbers):
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


def _check_tensors(places: Mapping[str, Place], size: int, name: str) -> None:
    """That the tensors are weights, of an accepted size in all; many may show the same bytes, so shapes are what counts."""
    if not places:
        raise WeightsError(f"{name} holds no tensors by name: a state_dict is accepted.")
    if len(places) > MAX_TENSORS:
        raise WeightsError(f"{name} holds {len(places):,} tensors: at most {MAX_TENSORS:,} are accepted.")
    amount = sum(prod(place.shape) * max(4, tensor_files.ITEM_BYTES[place.dtype]) for place in places.values())
    most = min(MAX_TENSOR_BYTES, MAX_GROWTH * size)
    if amount > most:
        raise WeightsError(
            f"{name} stands for {amount / 2**30:,.1f} GiB of weights in float32: at most {most / 2**30:,.1f} GiB are "
            "accepted for a file of its size."
        )
    for key, place in places.items():
        if key.endswith((".weight", ".bias", ".running_mean", ".running_var")) and "float" not in place.dtype:
            raise WeightsError(f"{name} has {plain(key)} as {place.dtype}: dense floating-point tensors are accepted.")


# -- names --------------------------------------------------------------------------------

_WRAPPERS = ("state_dict", "model_state_dict", "state_dict_ema", "model_ema", "model", "network", "net")
_PREFIXES = ("module.", "model.", "_orig_mod.", "network.", "net.")
_COUNTERS = ("num_batches_tracked", "total_ops", "total_params")
"""What batch norms and profilers count; no weight."""

_RENAMED = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # timm's pre-activation networks
        (r"^stem\.conv\.", "conv1."),
        (r"^stem\.conv1\.", "conv1.0."),
        (r"^stem\.norm1\.", "conv1.1."),
        (r"^stem\.conv2\.", "conv1.3."),
        (r"^stem\.norm2\.", "conv1.4."),
        (r"^stem\.conv3\.", "conv1.6."),
        (r"^(stages\.\d+\.)blocks\.(\d+\.)norm(\d\.)", r"\1blocks.\2bn\3"),
        (r"^head\.fc\.", "fc."),
        # the networks for CIFAR-10 that most people copy, https://github.com/kuangliu/pytorch-cifar
        (r"^(layer\d+\.\d+\.)shortcut\.", r"\1downsample."),
        (r"^linear\.", "fc."),
    )
)
_TIMM_BLOCK = re.compile(r"^stages\.(\d{1,3})\.blocks\.")


def tensors_in(found: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint by torchvision's names: wrappers and prefixes taken off, timm's other names translated."""
    entries = _unwrapped(found).items()
    tensors = {key: value for key, value in entries if isinstance(key, str) and isinstance(value, Tensor)}
    while tensors and (prefix := next((p for p in _PREFIXES if all(key.startswith(p) for key in tensors)), "")):
        tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    tensors = {_renamed(key): tensor for key, tensor in tensors.items()}
    fc = tensors.get("fc.weight")
    if fc is not None and fc.shape[2:] == (1, 1):
        tensors["fc.weight"] = fc.flatten(1)
    return tensors


def _unwrapped(found: Any) -> Mapping[Any, Any]:
    """The innermost of the dictionaries that training scripts put around a state dict."""
    for _ in range(len(_WRAPPERS)):  # a dictionary can hold itself
        inner = [found[key] for key in _WRAPPERS if isinstance(found, Mapping) and isinstance(found.get(key), Mapping)]
        if not inner:
            break
        found = inner[0]
    return found if isinstance(found, Mapping) else {}


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return _TIMM_BLOCK.sub(lambda match: f"layer{int(match[1]) + 1}.", name)


def _named_for(config: ResNetConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by this configuration's names: timm does not say whether a pool stands before `downsample.conv`."""
    index = "1" if config.shortcut == "D" else "0"
    return {name.replace(".downsample.conv.", f".downsample.{index}."): tensor for name, tensor in tensors.items()}


# -- understanding ------------------------------------------------------------------------


def infer_config(state_dict: Mapping[str, Any]) -> ResNetConfig:
    """The network that a state dict is of, by the names and shapes of its tensors.

    What tensors do not show keeps its usual value: see `unseen`. Whether every tensor has its
    place in the network is for `mismatches` to say.

    Raises:
        ConfigError: where it is of no residual network that a configuration can express.
    """
    tensors = tensors_in(state_dict)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    layers = _layers(shapes)
    stages = range(1, len(layers) + 1)
    bottleneck = "layer1.0.conv3.weight" in shapes
    inner = [_shape(shapes, f"layer{stage}.0.conv2.weight") for stage in stages]
    given: dict[str, Any] = {"layers": layers, "block": "bottleneck" if bottleneck else "basic"}
    outputs = [_shape(shapes, f"layer{stage}.0.conv{3 if bottleneck else 2}.weight")[0] for stage in stages]
    given["planes"] = tuple(channels // 4 for channels in outputs) if bottleneck else tuple(outputs)
    if bottleneck:
        given |= _width(given["planes"], inner)
    given |= _stem(shapes, given["planes"][0])
    given["order"] = "pre" if "norm.weight" in shapes else "post"
    normed = "layer1.0.bn1.weight" in shapes
    given["norm"] = ("batch" if "layer1.0.bn1.running_mean" in shapes else "group") if normed else "none"
    given |= _attention(shapes, outputs)
    given["in_channels"] = _shape(shapes, "conv1.weight" if "conv1.weight" in shapes else "conv1.0.weight")[1]
    if "fc.weight" in shapes:
        given["num_classes"] = _shape(shapes, "fc.weight", 2)[0]
    given["shortcut"] = _shortcut(shapes, given, outputs)
    return ResNetConfig(**given)


def unseen(config: ResNetConfig, state_dict: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The options of an inferred configuration that its tensors do not show, each with the values that they fit.

    Empty where they do not fit the configuration.
    """
    if mismatches(config, state_dict):
        return {}
    shallow = config.with_(layers=tuple(min(count, 2) for count in config.layers))[0]  # deeper blocks show no more
    pool_hidden = any(".downsample.conv." in name for name in tensors_in(state_dict))
    own = _shapes(shallow, pool_hidden)
    found = {}
    for name, option in OPTIONS.items():
        fitting = tuple(value for value in option.choices if _same(shallow, name, value, own, pool_hidden))
        if len(fitting) > 1:
            found[name] = fitting
    return found


def _same(config: ResNetConfig, name: str, value: Any, own: Mapping[str, Shape], pool_hidden: bool) -> bool:
    try:
        other = config.with_(**{name: value})[0]
    except ConfigError:
        return False
    return _shapes(other, pool_hidden) == own


def _shapes(config: ResNetConfig, pool_hidden: bool) -> dict[str, Shape]:
    hidden = re.compile(r"(?<=\.downsample\.)\d(?=\.)" if pool_hidden else r"(?!)")
    tensors = build(config, "meta").state_dict()
    return {hidden.sub("conv", name): tuple(tensor.shape) for name, tensor in tensors.items()}


class Mismatch(NamedTuple):
    """A tensor that the network and a file do not share: its shape in each, None where there is none."""

    name: str
    expected: Shape | None
    found: Shape | None

    def __str__(self) -> str:
        def words(shape: Shape | None) -> str:
            return "nothing" if shape is None else "×".join(map(str, shape)) or "one number"

        return f"{plain(self.name)}: {words(self.expected)} in the network, {words(self.found)} in the file"


def mismatches(config: ResNetConfig, state_dict: Mapping[str, Any]) -> list[Mismatch]:
    """What keeps a state dict from being loaded into a network, in the network's order, then what it lacks."""
    have = {name: tuple(tensor.shape) for name, tensor in _named_for(config, tensors_in(state_dict)).items()}
    want = _shapes(config, pool_hidden=False)
    names = [name for name in dict.fromkeys((*want, *have)) if name.rpartition(".")[2] not in _COUNTERS]
    return [Mismatch(name, want.get(name), have.get(name)) for name in names if want.get(name) != have.get(name)]


def not_finite(state_dict: Mapping[str, Tensor]) -> list[str]:
    """The tensors that hold NaN or infinity: so do the extremes of one, which take no memory."""

    def finite(tensor: Tensor) -> bool:
        numbers = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        return not tensor.numel() or all(extreme.isfinite() for extreme in numbers.aminmax())

    return [name for name, tensor in state_dict.items() if not finite(tensor)]


def network(config: ResNetConfig, state_dict: Mapping[str, Any]) -> ResNet:
    """The network with these weights in eval mode; it shares their memory.

    Raises:
        WeightsError: where they do not fit; `mismatches` has the list.
    """
    wrong = mismatches(config, state_dict)
    if wrong:
        raise WeightsError(f"The checkpoint does not fit this network; first {wrong[0]}.")
    model = ResNet(config)
    model.load_state_dict(_named_for(config, tensors_in(state_dict)), strict=False, assign=True)
    return model.eval()


def _shape(shapes: Mapping[str, Shape], name: str, dimensions: int = 4) -> Shape:
    """The shape of a tensor that every residual network has."""
    shape = shapes.get(name)
    if shape is None:
        raise ConfigError("checkpoint", f"no {name}", "a residual network by torchvision's or timm's tensor names")
    if len(shape) != dimensions or not all(shape):
        size = "×".join(map(str, shape))
        raise ConfigError("checkpoint", f"{name} of {size}", f"{dimensions} dimensions, none of them 0")
    return shape


def _layers(shapes: Mapping[str, Shape]) -> tuple[int, ...]:
    matches = [match for name in shapes if (match := re.match(r"layer(\d{1,4})\.(\d{1,4})\.", name))]
    blocks = sorted({(int(match[1]), int(match[2])) for match in matches})
    held = Counter(stage for stage, _ in blocks)
    counts = [held[number] for number in range(1, max(held, default=0) + 1)]
    if blocks != [(number, block) for number, count in enumerate(counts, start=1) for block in range(count)]:
        raise ConfigError("checkpoint", "gaps between its blocks", "layer1.0, layer1.1, … layer2.0, … without gaps")
    if not all(counts) or not counts:
        raise ConfigError(
            "checkpoint",
            next(iter(shapes), "nothing"),
            "a residual network by torchvision's or timm's tensor names, such as conv1.weight and layer1.0.conv1.weight",
        )
    return tuple(counts)


def _width(planes: Sequence[int], inner: Sequence[Shape]) -> dict[str, int]:
    """Groups and base width from the inner 3×3 convolutions; the base width is 64 where that fits."""
    groups = inner[0][0] // inner[0][1]
    low, high = 1, 1024
    for plane, (width, per_group, *_) in zip(planes, inner, strict=True):
        if plane < 1 or width != per_group * groups:
            raise ConfigError(
                "groups", f"{width} channels in groups of {per_group}", "one number of groups for all stages"
            )
        # planes · base_width // 64 is the width of a group
        low, high = max(low, -(-64 * per_group // plane)), min(high, (64 * (per_group + 1) - 1) // plane)
    if low > high:
        widths = "-".join(str(width) for width, *_ in inner)
        raise ConfigError("base_width", f"inner widths {widths}", "widths in proportion to the planes of each stage")
    return {"groups": groups, "base_width": 64 if low <= 64 <= high else low}


def _stem(shapes: Mapping[str, Shape], planes: int) -> dict[str, Any]:
    pool = "conv" if any(name.startswith("maxpool.") for name in shapes) else "max"
    antialias = "blur" if pool == "conv" and "maxpool.2.weight" in shapes else "none"
    shared = {"stem_pool": pool, "antialias": antialias}
    if "conv1.weight" in shapes:
        width, _, *kernel = _shape(shapes, "conv1.weight")
        if kernel not in ([7, 7], [3, 3]):
            raise ConfigError("stem", "×".join(map(str, kernel)), "7×7, 3×3, or three 3×3")
        small = kernel == [3, 3]
        if small and pool == "max":
            shared["stem_pool"] = "none"
        return shared | {"stem": "3x3" if small else "7x7", "stem_width": width}
    first, width, last = (_shape(shapes, f"conv1.{index}.weight")[0] for index in (0, 3, 6))
    if last != 2 * width or first not in (width, width // 4 * 3):
        raise ConfigError(
            "stem", f"{first}-{width}-{last} channels", "C-C-2C channels (deep) or ¾C-C-2C channels (tiered)"
        )
    return shared | {"stem": "deep" if first == width else "tiered", "stem_width": width}


def _attention(shapes: Mapping[str, Shape], outputs: Sequence[int]) -> dict[str, Any]:
    if "layer1.0.se.conv.weight" in shapes:
        return {"attention": "eca"}
    if "layer1.0.se.fc1.weight" not in shapes:
        return {}
    squeezed = [_shape(shapes, f"layer{stage}.0.se.fc1.weight")[0] for stage in range(1, len(outputs) + 1)]
    for reduction in (16, 4, 8, 2, *range(1, 257)):
        if [max(8, int(channels / reduction + 4) // 8 * 8) for channels in outputs] == squeezed:
            return {"attention": "se", "se_reduction": reduction}
    raise ConfigError("se_reduction", "-".join(map(str, squeezed)), "one reduction for all stages, 1 to 256")


def _shortcut(shapes: Mapping[str, Shape], given: Mapping[str, Any], outputs: Sequence[int]) -> str:
    projected = re.compile(r"layer\d+\.(\d+)\.downsample\.(0|1|conv)\.weight")
    found = [match for name, shape in shapes.items() if len(shape) == 4 and (match := projected.fullmatch(name))]
    if not found:
        channels = (given["stem_width"] * (1 if given["stem"] in ("7x7", "3x3") else 2), *outputs)
        changes = len(outputs) > 1 or channels[0] != channels[1]
        widens = all(after >= before for before, after in pairwise(channels))
        return ("A" if widens else "none") if changes else "B"
    if any(match[1] != "0" for match in found):
        return "C"
    kind = found[0][2]
    pooled = kind == "1" or (kind == "conv" and given["stem"] in ("deep", "tiered"))
    return "D" if pooled else "B"
