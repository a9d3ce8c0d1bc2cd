"""Which network tensors are of, by our names and their shapes; what shapes do not show, and what does not fit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from operator import ge
from typing import Any, NamedTuple

from torch import Tensor

from .config import OPTIONS, ResNetConfig
from .layers import Shape, Shapes
from .model import build
from .options import ConfigError, plain


def config_of(shapes: Mapping[str, Shape]) -> ResNetConfig:
    """The network whose tensors, by our names, have these shapes; `downsample.conv` where no number says what is before
    it.

    Raises:
        ConfigError: where no configuration can express it.
    """
    layers = _layers(shapes)
    stages = range(1, len(layers) + 1)
    bottleneck = "layer1.0.conv3.weight" in shapes
    inner = [_shape(shapes, f"layer{stage}.0.conv2.weight") for stage in stages]
    given: dict[str, Any] = {"layers": layers, "block": "bottleneck" if bottleneck else "basic"}
    outputs = [_shape(shapes, f"layer{stage}.0.conv{3 if bottleneck else 2}.weight")[0] for stage in stages]
    given["planes"] = tuple(channels // 4 for channels in outputs) if bottleneck else tuple(outputs)
    if bottleneck:
        given |= _width(given["planes"], inner)
    given |= _stem(shapes)
    given["order"] = "pre" if "norm.weight" in shapes else "post"
    normed = "layer1.0.bn1.weight" in shapes
    given["norm"] = ("batch" if "layer1.0.bn1.running_mean" in shapes else "group") if normed else "none"
    given |= _attention(shapes, outputs)
    given["in_channels"] = _shape(shapes, "conv1.weight" if "conv1.weight" in shapes else "conv1.0.weight")[1]
    if "fc.weight" in shapes:
        given["num_classes"] = _shape(shapes, "fc.weight", 2)[0]
    given["shortcut"] = _shortcut(shapes, given, outputs)
    return ResNetConfig(**given)


def unseen_options(config: ResNetConfig, pool_hidden: bool) -> dict[str, tuple[Any, ...]]:
    """The options that the tensors of a configuration do not show, each with the values that they fit."""
    return dict(_unseen_shallow(config.with_(layers=tuple(min(count, 2) for count in config.layers))[0], pool_hidden))


@lru_cache(maxsize=64)
def _unseen_shallow(shallow: ResNetConfig, pool_hidden: bool) -> Mapping[str, tuple[Any, ...]]:
    """`unseen_options` of two blocks a stage, since deeper ones show no more."""
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
    own = shapes_of(build(config, "meta").state_dict())
    return {hidden.sub("conv", name): shape for name, shape in own.items()}


class Mismatch(NamedTuple):
    """A tensor that the network and a file do not share: its shape in each, None where there is none."""

    name: str
    expected: Shape | None
    found: Shape | None

    def __str__(self) -> str:
        def words(shape: Shape | None) -> str:
            return "nothing" if shape is None else "×".join(map(str, shape)) or "one number"

        return f"{plain(self.name)}: {words(self.expected)} in the network, {words(self.found)} in the file"


def differences(config: ResNetConfig, found: Shapes) -> list[Mismatch]:
    """What a network does not share with tensors of these shapes, in the network's order, then what it lacks."""
    want = _shapes(config, pool_hidden=False)
    return [
        Mismatch(name, want.get(name), found.get(name))
        for name in {**want, **found}
        if want.get(name) != found.get(name)
    ]


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """The shapes of tensors by their names."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


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


def _stem(shapes: Mapping[str, Shape]) -> dict[str, Any]:
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
    """Channel attention; where no reduction has its widths, the one that is wider by the least."""
    if "layer1.0.se.conv.weight" in shapes:
        return {"attention": "eca"}
    if "layer1.0.se.fc1.weight" not in shapes:
        return {}
    squeezed = [_shape(shapes, f"layer{stage}.0.se.fc1.weight")[0] for stage in range(1, len(outputs) + 1)]
    widths = {
        reduction: [max(8, int(channels / reduction + 4) // 8 * 8) for channels in outputs]
        for reduction in (16, 4, 8, 2, *range(1, 257))
    }
    wide = (reduction for reduction, own in widths.items() if all(map(ge, own, squeezed)))
    if reduction := min(wide, key=lambda reduction: sum(widths[reduction]), default=0):
        return {"attention": "se", "se_reduction": reduction}
    raise ConfigError(
        "se_reduction",
        "-".join(map(str, squeezed)),
        "one reduction for all stages, 1 to 256, to multiples of 8 channels",
    )


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
