"""What a network that was saved whole (`torch.save(model)`) says beside its tensors: how its layers are set.

A tensor shows no stride. Where a layer is torch's own its settings do: they answer what would be asked, or say that no
configuration has them. What a class of somebody else computes is not in a file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, NamedTuple

from torch import nn

from .config import ResNetConfig
from .conversion import EPSILON
from .layers import WRAPPERS, LayoutError
from .layouts import ATTENTION, Trunk, numbered, projection_index
from .model import build
from .options import ConfigError, plain

Module = Mapping[str, Any]
"""The class of a layer (`is`) and its settings, by the names of its attributes."""

ACTIVATIONS = {"ReLU": "relu", "LeakyReLU": "leaky_relu", "ELU": "elu", "SiLU": "silu", "GELU": "gelu"}
USUAL: Mapping[str, tuple[str, Any]] = {
    "LeakyReLU": ("negative_slope", 0.01),
    "ELU": ("alpha", 1.0),
    "GELU": ("approximate", "none"),
}
"""The one setting that an activation of a configuration has."""
GATES = ("Sigmoid", "Hardsigmoid", "Softmax", "LogSoftmax", "MultiheadAttention")
"""What torch counts among activations and attention or a classifier has."""
SHOWN = ("stride_in", "output_stride", "antialias", "shortcut")
"""Options that the strides of convolutions show."""


class Said(NamedTuple):
    """What the layers of a network say: each that has tensors, by our names; options that are certain."""

    layers: Mapping[str, Module] = {}
    facts: Mapping[str, Any] = {}

    @property
    def notes(self) -> Iterator[str]:
        """Sentences on what is taken for something else."""
        if foreign := list(dict.fromkeys(kind(one) for one in self.layers.values() if "." in kind(one))):
            yield f"The code of {' and '.join(plain(name) for name in foreign[:3])} is not in it: torch's own is run instead."
        if any(kind(one) == "GroupNorm" and one.get("eps", EPSILON) != EPSILON for one in self.layers.values()):
            yield f"Its group norms add another number to the variance than {EPSILON:g}, which is what is added here."


def kind(module: Module) -> str:
    """The class of a layer: by its own name where it is torch's, else after that of its module."""
    path = str(module.get("is", ""))
    return path.rpartition(".")[2] if path.startswith(("torch.nn.modules.", "torchvision.ops.misc.")) else path


def said(trunk: Trunk, modules: Mapping[str, Module]) -> Said:
    """What the layers of the network at a trunk say.

    Raises:
        LayoutError: for what no configuration has.
    """
    owners = {ours.rpartition(".")[0]: theirs.rpartition(".")[0] for ours, theirs in trunk.tensors.items()}
    layers = {ours: modules[theirs] for ours, theirs in owners.items() if theirs in modules}
    if not layers:
        return Said()
    roles = {WRAPPERS.sub("", name): module for name, module in modules.items()}
    beside = {
        role: module
        for name, module in roles.items()
        if name.startswith(trunk.prefix)
        and (role := name.removeprefix(trunk.prefix)).split(".")[0] not in trunk.left_out
        and not any(ATTENTION.match(f"{part}.") for part in role.split("."))
    }
    return Said(layers, {**_norm(layers, trunk), **_activation(beside), **_stem_pool(beside)})


def _norm(layers: Mapping[str, Module], trunk: Trunk) -> dict[str, Any]:
    groups = []
    for name, module in layers.items():
        if kind(module).startswith("InstanceNorm"):
            raise LayoutError(f"has instance norm ({name}), which no configuration expresses.")
        if kind(module) == "BatchNorm2d" and f"{name}.running_mean" not in trunk.tensors:
            raise LayoutError(
                f"has batch norm of each batch, without running statistics ({name}), which no configuration expresses."
            )
        if kind(module) == "GroupNorm" and isinstance(count := module.get("num_groups"), int):
            groups.append(count)
    return {"norm": "group", "norm_groups": max(groups)} if groups else {}


def _activation(beside: Mapping[str, Module]) -> dict[str, Any]:
    seen: dict[str, str] = {}
    for role, module in beside.items():
        path, name = str(module.get("is", "")), kind(module)
        if not path.startswith("torch.nn.modules.activation.") or name in GATES:
            continue
        if name not in ACTIVATIONS:
            raise LayoutError(f"has {plain(name)} as an activation ({plain(role)}), which no configuration expresses.")
        setting, usual = USUAL.get(name, ("", None))
        if (own := module.get(setting, usual)) != usual:
            raise LayoutError(
                f"has {name} with {setting}={plain(own)} ({plain(role)}), where a configuration has {usual}."
            )
        seen.setdefault(ACTIVATIONS[name], role)
    if len(seen) > 1:
        both = " and ".join(f"{name} ({plain(role)})" for name, role in list(seen.items())[:2])
        raise LayoutError(f"has {both} as its activations, where a configuration has one.")
    return {"activation": next(iter(seen))} if seen else {}


def _stem_pool(beside: Mapping[str, Module]) -> dict[str, Any]:
    """The pool after the stem, where it is a layer; one with stride 1 has a blur after it, one without padding a layer
    that pads before it."""
    if kind(beside.get("maxpool", {})) == "Identity":
        return {"stem_pool": "none"}
    pools = [(role, one) for role, one in beside.items() if kind(one) == "MaxPool2d" and role.count(".") < 2]
    padded = any(kind(one) in ("ConstantPad2d", "ZeroPad2d") for one in beside.values())
    if len(pools) != 1 or padded:
        return {}
    role, pool = pools[0]
    size, stride, padding = (_pair(pool.get(name)) for name in ("kernel_size", "stride", "padding"))
    if (size, stride, padding) == ((3, 3), (1, 1), (1, 1)):
        return {}
    if (size, stride, padding) != ((3, 3), (2, 2), (1, 1)) or pool.get("ceil_mode"):
        raise LayoutError(
            f"has a pool of {_words(size)} with stride {_words(stride)} and padding {_words(padding)} after its stem "
            f"({plain(role)}), where a configuration has 3×3 with stride 2×2 and padding 1×1, its last place not rounded up."
        )
    return {"stem_pool": "max"}


def _pair(value: Any) -> Any:
    """A setting as torch holds it: a number for both axes, or one for each."""
    return tuple(value) if isinstance(value, list) else (value, value) if isinstance(value, int) else value


def _words(value: Any) -> str:
    return "×".join(map(str, value)) if isinstance(value, tuple) else plain(value)


def difference(config: ResNetConfig, layers: Mapping[str, Module]) -> str:
    """The first layer that a network sets otherwise than a configuration does, in words; "" where there is none."""
    index = projection_index(config)
    theirs = {numbered(f"{name}.", index)[:-1]: module for name, module in layers.items()}
    for name, ours in build(config, "meta").named_modules():
        wanted: dict[str, Any] = {}
        if isinstance(ours, nn.Conv2d):
            wanted = {name: getattr(ours, name) for name in ("stride", "padding", "dilation", "groups", "padding_mode")}
        elif isinstance(ours, nn.GroupNorm):
            wanted = {"num_groups": ours.num_groups}
        for setting, value in wanted.items():
            own = theirs.get(name, {}).get(setting, value)
            own = own if isinstance(own, int) else _pair(own)
            if own != value and not (own == "same" and wanted["stride"] == (1, 1)):
                return f"{name} with {setting} {_words(own)} (a configuration has {_words(value)} there)"
    return ""


def agreed(
    config: ResNetConfig, asked: Mapping[str, tuple[Any, ...]], layers: Mapping[str, Module]
) -> tuple[ResNetConfig, dict[str, tuple[Any, ...]]]:
    """The configuration that sets its layers as a network does, and what is still asked.

    Raises:
        LayoutError: where none does.
    """
    options = {
        name: sorted(values, key=lambda value: value != getattr(config, name))
        for name, values in asked.items()
        if name in SHOWN
    }
    shallow = config.with_(layers=tuple(min(count, 2) for count in config.layers))[0]
    fitting = [
        changes
        for values in product(*options.values())
        if not _difference(shallow, changes := dict(zip(options, values, strict=True)), layers)
    ]
    if not fitting:
        raise LayoutError(f"holds a network that no configuration expresses: it has {difference(config, layers)}.")
    left = {name: tuple(dict.fromkeys(changes[name] for changes in fitting)) for name in options}
    return config.with_(**fitting[0])[0], {
        name: values for name, values in {**asked, **left}.items() if len(values) > 1
    }


def _difference(config: ResNetConfig, changes: Mapping[str, Any], layers: Mapping[str, Module]) -> str:
    try:
        return difference(config.with_(**changes)[0], layers)
    except ConfigError as error:
        return str(error)


def epsilons(layers: Mapping[str, Module]) -> Iterator[tuple[str, float]]:
    """The batch norms that add another number to the variance than ours do, and what it is more."""
    for name, module in layers.items():
        more = module.get("eps", EPSILON)
        if kind(module) != "GroupNorm" and isinstance(more, float) and math.isfinite(more) and more != EPSILON:
            yield name, more - EPSILON
