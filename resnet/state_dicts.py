"""State dicts of residual networks, whoever wrote them: by our names, which network they are of, and that network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from . import layouts
from .config import ResNetConfig
from .errors import WeightsError
from .layers import NO_WEIGHTS, LayoutError
from .layouts import numbered, projection_index
from .model import ResNet
from .options import ConfigError, plain
from .reading import bytes_of, contents_of, place_of, reading, tensors_at
from .shapes import Mismatch, config_of, differences, shapes_of, unseen_options

_WRAPPERS = ("state_dict", "model_state_dict", "state_dict_ema", "model_ema", "model", "network", "net")


def read_state_dict(data: bytes | bytearray | memoryview, name: str) -> dict[str, Tensor]:
    """The tensors of a `.safetensors`, `.pt` or `.pth` file, whoever wrote it, or of an `.onnx` or `.pt2` that this package
    exported: by torchvision's names, float32 (whole numbers as they are), on the CPU.

    The format is told by the content. `name` is what to call the file in a sentence. A process of its own lists the
    tensors (`tensor_files`, `confined`), within 3 s of a processor, 12 s on the clock and 0.6 GiB of memory; their numbers
    then come from the file. Beside the file, and a copy of it for that process, that takes the memory of the tensors.

    Raises:
        WeightsError: for what is not bytes, a file that is too large, damaged, no checkpoint, holds more than tensors, or
            takes more memory or time; nothing else is raised, whatever is given.
    """
    name = plain(name, 80)
    with reading(name):
        held = bytes_of(data, name)
        contents = contents_of(held, name)
        entries = _unwrapped(contents.tree)
        places = {key: place_of(entry, len(held)) for key, entry in entries.items() if isinstance(entry, list)}
        return tensors_in(tensors_at(places, held, name, contents.kind))


def tensors_in(found: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint by our names, wrappers and prefixes taken off; those of no residual network by theirs.

    Raises:
        LayoutError: where two tensors have one name.
    """
    entries = _unwrapped(found).items()
    own = {key: value for key, value in entries if isinstance(key, str) and isinstance(value, Tensor)}
    names = layouts.renamed(shapes_of(own))
    tensors = {names[key]: tensor for key, tensor in own.items()}
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


def _fitted(config: ResNetConfig, state_dict: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[Mismatch]]:
    """The tensors by this configuration's names, as they are where they fit, else as they are understood; and what does not
    fit then."""
    own = {name: tensor for name, tensor in state_dict.items() if isinstance(tensor, Tensor)}
    if not _wrong(config, own):
        return own, []
    index = projection_index(config)  # which names such as timm's `downsample.conv` do not say
    named = {numbered(name, index): tensor for name, tensor in tensors_in(state_dict).items()}
    return named, _wrong(config, named)


def _wrong(config: ResNetConfig, tensors: Mapping[str, Tensor]) -> list[Mismatch]:
    """What a network does not share with tensors, counters apart."""
    return [one for one in differences(config, shapes_of(tensors)) if one.name.rpartition(".")[2] not in NO_WEIGHTS]


def infer_config(state_dict: Mapping[str, Any]) -> ResNetConfig:
    """The network that a state dict is of, by the names and shapes of its tensors.

    What tensors do not show keeps its usual value: see `unseen`. Whether every tensor has its
    place in the network is for `mismatches` to say.

    Raises:
        ConfigError: where it is of no residual network that a configuration can express.
    """
    try:
        tensors = tensors_in(state_dict)
    except LayoutError as error:
        raise ConfigError("checkpoint", "a name", f"it {str(error).removesuffix('.')}") from error
    return config_of(shapes_of(tensors))


def unseen(config: ResNetConfig, state_dict: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The options of an inferred configuration that its tensors do not show, each with the values that they fit.

    Empty where they do not fit the configuration.
    """
    if mismatches(config, state_dict):
        return {}
    return unseen_options(config, any(".downsample.conv." in name for name in tensors_in(state_dict)))


def mismatches(config: ResNetConfig, state_dict: Mapping[str, Any]) -> list[Mismatch]:
    """What keeps a state dict from being loaded into a network, in the network's order, then what it lacks."""
    return _fitted(config, state_dict)[1]


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
    tensors, wrong = _fitted(config, state_dict)
    if wrong:
        raise WeightsError(f"The checkpoint does not fit this network; first {wrong[0]}.")
    model = ResNet(config)
    model.load_state_dict(tensors, strict=False, assign=True)
    return model.eval()
