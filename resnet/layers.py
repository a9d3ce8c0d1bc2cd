"""The names and the layers of a checkpoint's tensors, whatever network they are of.

A name here has the dictionaries that hold a tensor in front, each followed by a slash. Wrappers go, and a few spellings
that hide a number become one (`SPELLINGS`); the tensors of one layer are a `Layer`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


class LayoutError(ValueError):
    """Why no residual network is found: the end of a sentence that begins with the file's name."""


# -- spellings ----------------------------------------------------------------------------

WRAPPERS = re.compile(
    r"(?<![^./])(module|_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module|_forward_module|_original_module)\."
)
"""What DataParallel, torch.compile, checkpoint wrappers, FSDP and others put into a name, anywhere."""


def _caffe(stage: str, block: int, branch: str, normed: bool) -> str:
    """A layer by its stage, counted from 2, and its branch: 1 is the shortcut, 2a to 2c follow each other."""
    number = "1abc".index(branch[-1])
    layer = f"{'bn' if normed else 'conv'}{number}" if number else f"downsample.{1 if normed else 0}"
    return f"layer{int(stage) - 1}.{block}.{layer}."


def _numbered(match: re.Match[str]) -> str:
    stage, block, branch, normed, end = match.groups()
    return _caffe(stage, int(block), branch, bool(normed)) + _CAFFE2_LEAVES[end]


def _lettered(match: re.Match[str]) -> str:
    kind, stage, letter, index, branch = match.groups()
    return _caffe(stage, int(index or ord(letter) - ord("a")), branch, kind != "res")


def _worded(match: re.Match[str]) -> str:
    stage, block, word, normed = match.groups()
    return _caffe(stage, int(block) - 1, _BRANCHES[word], bool(normed))


_CAFFE2_LEAVES = {"w": "weight", "b": "bias", "s": "weight", "rm": "running_mean", "riv": "running_var"}
_BRANCHES = {"1x1_reduce": "2a", "3x3": "2b", "1x1_increase": "2c", "1x1_proj": "1"}
_ORDER = {"reduce": 1, "conv": 2, "conv3x3": 2, "expand": 3, "increase": 3}

SPELLINGS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # https://github.com/facebookresearch/detectron2/blob/main/detectron2/checkpoint/c2_model_loading.py
        (r"(?<![^./])res(\d)_(\d+)_branch(1|2[abc])(_bn)?_(w|b|s|rm|riv)$", _numbered),
        (r"(?<![^./])conv1_(w|b)$", lambda match: f"conv1.{_CAFFE2_LEAVES[match[1]]}"),
        (r"(?<![^./])res_conv1_bn_(s|b|rm|riv)$", lambda match: f"bn1.{_CAFFE2_LEAVES[match[1]]}"),
        (r"(?<![^./])(?:fc1000|pred)_(w|b)$", lambda match: f"fc.{_CAFFE2_LEAVES[match[1]]}"),
        # https://github.com/KaimingHe/deep-residual-networks: statistics in a layer of their own, blocks by letters
        (r"(?<![^./])(res|bn|scale)(\d)([a-z])(\d*)_branch(1|2[abc])\.", _lettered),
        (r"(?<![^./])(?:bn|scale)_conv1\.", "bn1."),
        # https://www.robots.ox.ac.uk/~albanie/pytorch-models.html (VGGFace2)
        (r"(?<![^./])conv(\d)_(\d+)_(1x1_reduce|3x3|1x1_increase|1x1_proj)(_bn)?\.", _worded),
        (r"(?<![^./])conv1_7x7_s2(_bn)?\.", lambda match: "bn1." if match[1] else "conv1."),
        # https://github.com/facebookresearch/ClassyVision/blob/main/classy_vision/models/resnext.py
        (r"\.block\d+-(\d+)\.", r".\1."),
        # https://github.com/prlz77/ResNeXt.pytorch/blob/master/models/model.py
        (r"\.stage_\d_bottleneck_(\d+)\.", r".\1."),
        (r"(?<![^./])(stage_\d\.\d+)\.bn\.", r"\1.bn2."),
        (r"\.(conv|bn)_(reduce|conv|expand)\.", lambda match: f".{match[1]}{_ORDER[match[2]]}."),
        # https://github.com/kazuto1011/deeplab-pytorch/blob/master/libs/models/resnet.py
        (r"\.(reduce|conv3x3|increase)\.(conv|bn)\.", lambda match: f".{match[2]}{_ORDER[match[1]]}."),
        # https://github.com/lyuwenyu/RT-DETR/blob/main/rtdetr_pytorch/src/nn/backbone/presnet.py: a pool, then a convolution
        (r"\.short\.conv\.(conv|norm)\.", r".shortcut.1.\1."),
        # https://github.com/osmr/imgclsmob/blob/master/pytorch/pytorchcv/models/resnet.py
        (r"\.(unit\d+)\.body\.", r".\1."),
        (r"(?<![^./])(blocks\.\d+\.\d+)\.bn\.", r"\1.convolutional_block.7."),
        # https://github.com/weiaicunzai/pytorch-cifar100/blob/master/models/resnet.py
        (r"(?<![^./])conv(\d)_x\.", r"stage\1."),
        # https://github.com/szagoruyko/wide-residual-networks/tree/master/pytorch, whose tensors are their layers
        (r"(?<![^./])((?:group\d+\.block\d+\.)?conv(?:\d|dim))$", r"\1.weight"),
        # https://github.com/Cadene/pretrained-models.pytorch/blob/master/pretrainedmodels/models/senet.py and others
        (r"\.(?:se_module|se_layer|se_block|se_mod|SE|eca|eca_module)\.", ".se."),
    )
)


def spelled(names: Iterable[str]) -> dict[str, str]:
    """The names of a file, by what they are without wrappers and in one spelling.

    A wrapper stays where without it two tensors would have one name.

    Raises:
        LayoutError: where two names are one in any case.
    """
    names = list(names)
    for wrappers in (True, False):
        found: dict[str, str] = {}
        twice = []
        for name in names:
            short = WRAPPERS.sub("", name) if wrappers else name
            for pattern, replacement in SPELLINGS:
                short = pattern.sub(replacement, short)
            if found.setdefault(short, name) != name:
                twice.append((found[short], name))
        if not twice:
            return found
    raise two_names(*twice[0])


def two_names(first: str, second: str) -> LayoutError:
    return LayoutError(f"holds {first} and {second}, two names of one tensor: a file with one of them is accepted.")


# -- layers -------------------------------------------------------------------------------

COUNTERS = ("total_ops", "total_params", "n_averaged", "_extra_state")
"""What profilers and averages count, and what modules keep beside their tensors; no weight."""

AFFINE = ("weight", "bias")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
NO_WEIGHTS = ("num_batches_tracked", *COUNTERS)
"""Parts of a layer that only count."""
_MADE = re.compile(r"(.+)\.(?:weight_(orig|mask|g|u|v)|parametrizations\.weight\.(?:(original[01]?)|0\._?(mask|u|v)))")
"""A weight that is computed at each use: what is stored of it. https://docs.pytorch.org/docs/stable/nn.html (pruning, weight
norm and spectral norm, in the older form and as parametrizations)."""
_STORED = {"orig": "original", "original0": "g", "original1": "v"}
_MAKERS = ({"mask"}, {"g"}, {"u", "v"})
"""What makes a weight, with the weight that it is made from: a mask that prunes, the lengths of weight norm, the vectors of
spectral norm."""


BLUR = "blur_filter"
"""https://github.com/libffcv/ffcv-imagenet/blob/main/train_imagenet.py: a fixed kernel before a strided convolution."""


class Layer(NamedTuple):
    """The tensors of one layer by their last names; its weight's shape."""

    name: str
    parts: dict[str, str]
    shape: Shape

    @property
    def is_norm(self) -> bool:
        known = self.parts.keys() <= {*AFFINE, *STATISTICS}
        return len(self.shape) == 1 and known and not self.parts.keys().isdisjoint({"weight", "running_mean"})

    @property
    def is_linear(self) -> bool:
        """Whether it has a weight, made in a known way, and a bias at most."""
        makers = self.parts.keys() - {*AFFINE}
        return "weight" in self.parts and (not makers or makers in _MAKERS)

    @property
    def is_kernel(self) -> bool:
        return len(self.shape) == 4 and self.is_linear


def layers_of(shapes: Shapes) -> dict[str, Layer]:
    """The layers of a file by their names; a norm without a weight has the shape of its statistics."""
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    for name in shapes:
        layer, part = _split(name)
        if part not in COUNTERS:
            parts[layer][part] = name
    found = {}
    for layer, own in parts.items():
        for stored, makers in zip(("original", "v", "original"), _MAKERS, strict=True):
            if own.keys() - {"bias"} == {stored, *makers}:
                own["weight"] = own.pop(stored)
        shown = own.get("weight") or own.get("running_mean") or next(iter(own.values()))
        found[layer] = Layer(layer, own, shapes[shown])
    return found


def _split(name: str) -> tuple[str, str]:
    """The layer that a tensor is of, and which part of it."""
    if match := _MADE.fullmatch(name):
        part = match[match.lastindex or 0]
        return match[1], _STORED.get(part, part)
    base, _, last = own_name(name).rpartition(".")
    return name.removesuffix(f".{last}") if base else name, last


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers in a name as numbers."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d{1,9})", name) if part]


def own_name(name: str) -> str:
    """A name without the dictionaries before it."""
    return name.rpartition("/")[2]
