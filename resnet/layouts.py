"""The layouts of checkpoints in public code: where among a file's tensors a residual network stands.

Every project names the parts of the same network in its own way. What they share is found by rule: blocks are what
holds a first convolution, a stage is the blocks that differ in their last number, and within a block the convolutions
follow each other by number. What is left to tables is small: what the first convolution is called (`FIRST`), which
words mark a shortcut, a stem or a classifier, and a few spellings that hide a number (`SPELLINGS`). A name here has
the dictionaries that hold a tensor in front, each followed by a slash.

The names that come out are those of `ResNet`, but for the projection of a shortcut, which is `downsample.conv` and
`downsample.norm` in every block: whether a pool stands before it is for the configuration to say.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import Any, NamedTuple

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


class LayoutError(ValueError):
    """Why no residual network is found: the end of a sentence that begins with the file's name."""


class NoBlocksError(LayoutError):
    """What looked like blocks is none of a residual network, so that another one in the file may be meant."""


@dataclass(frozen=True)
class Trunk:
    """A residual network among the tensors of a file.

    `tensors` has the file's name of each tensor by the network's name of it, `makers` those of what a weight is computed
    from at each use, by their part in it. `pool` is "0" or "1" where the number of the projection says how many layers
    stand before it, else "conv". `facts` are options that only these names tell; in `either_order` no shape shows whether
    the norm outside the blocks is that of the stem or that before the classifier. `left_out` says what else the file
    holds, by prefix.
    """

    prefix: str
    tensors: Mapping[str, str]
    makers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    pool: str = "0"
    either_order: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def affine(self) -> bool:
        """Whether its norms only scale and shift, as Caffe2's do."""
        return self.tensors.get("bn1.weight", "").endswith("_bn_s")

    @property
    def headless(self) -> bool:
        return "fc.weight" not in self.tensors


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
    raise _twice(*twice[0])


def _twice(first: str, second: str) -> LayoutError:
    return LayoutError(f"holds {first} and {second}, two names of one tensor: a file with one of them is accepted.")


# -- layers -------------------------------------------------------------------------------

COUNTERS = ("total_ops", "total_params", "n_averaged", "_extra_state")
"""What profilers and averages count, and what modules keep beside their tensors; no weight."""

_AFFINE = ("weight", "bias")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_MADE = re.compile(r"(.+)\.(?:weight_(orig|mask|g|u|v)|parametrizations\.weight\.(?:(original[01]?)|0\._?(mask|u|v)))")
"""A weight that is computed at each use: what is stored of it. https://docs.pytorch.org/docs/stable/nn.html (pruning, weight
norm and spectral norm, in the older form and as parametrizations)."""
_STORED = {"orig": "original", "original0": "g", "original1": "v"}
_MAKERS = ({"mask"}, {"g"}, {"u", "v"})
"""What makes a weight, with the weight that it is made from: a mask that prunes, the lengths of weight norm, the vectors of
spectral norm."""


class Layer(NamedTuple):
    """The tensors of one layer by their last names; its weight's shape."""

    name: str
    parts: dict[str, str]
    shape: Shape

    @property
    def is_norm(self) -> bool:
        known = self.parts.keys() <= {*_AFFINE, *_STATISTICS}
        return len(self.shape) == 1 and known and not self.parts.keys().isdisjoint({"weight", "running_mean"})

    @property
    def is_linear(self) -> bool:
        """Whether it has a weight, made in a known way, and a bias at most."""
        makers = self.parts.keys() - {*_AFFINE}
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
    base, _, last = _short(name).rpartition(".")
    return name.removesuffix(f".{last}") if base else name, last


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers in a name as numbers."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d{1,9})", name) if part]


# -- blocks -------------------------------------------------------------------------------

FIRST = re.compile(
    r"(?P<block>.*\d)\.(?:"
    r"conv(?:_?layer)?_?[1a]"  # torchvision, timm, Detectron2, kuangliu, the wide networks, Cadene, CLIP, NVIDIA, OpenMMLab
    r"|(?:conv(?:_?bn_?)?|cnn|cbr)1\.(?:0|conv)"  # https://github.com/fastai/fastai/blob/1.0.61/fastai/vision/models/xresnet.py, ffcv-imagenet
    r"|convs\.0(?:\.0)?"  # https://github.com/fastai/fastai/blob/main/fastai/vision/models/xresnet.py, habitat-baselines
    r"|layer\.0\.convolution"  # https://github.com/huggingface/transformers/blob/main/src/transformers/models/resnet
    r"|branch2a\.conv"  # https://github.com/lyuwenyu/RT-DETR, after PaddleDetection
    # an nn.Sequential that is the branch
    r"|(?:residual\w*|convolutional_block|blocks?|conv_?block|body|left|main\w*|branch\w*|conv|net|seq\w*)\.0(?:\.conv)?"
    r"|conv0"  # https://github.com/szagoruyko/wide-residual-networks
    r")",
    re.I,
)
"""A block's first convolution, at the end of a layer's name."""

BLOCK = re.compile(r"(?P<head>|.*\D)(?P<stage>\d{1,4})(?P<middle>\D+)(?P<index>\d{1,4})")
LISTED = re.compile(r"(?P<head>\D*)(?P<index>\d{1,4})")
"""A block of a list that is not divided into stages."""
SHORTCUT = re.compile(
    r"(\w*downsample|short|(conv_?)?shortcut|skip\w*|identity\w*|idpath|idconv|proj(ection)?|convdim)(\.|$)", re.I
)
ATTENTION = re.compile(r"(se|squeeze|excitation)(\.|$)")
BLUR = "blur_filter"
"""https://github.com/libffcv/ffcv-imagenet/blob/main/train_imagenet.py: a fixed kernel before a strided convolution."""
POOLED = re.compile(r"(\w*downsample|shortcut|idpath)\.(\d)(?:\.(?:0|conv|convolution))?", re.I)
HIDDEN = re.compile(r"downsample\.(conv|\d\.0)|idconv(\.0)?")
"""A projection whose number does not say whether a pool stands before it: timm's pre-activation networks, and fastai's
of 2019, whose pool has a name of its own."""


CHAINS = ([(3, 3), (3, 3)], [(1, 1), (3, 3), (1, 1)])
"""The kernels of a basic and of a bottleneck block."""


def stages_of(layers: Mapping[str, Layer]) -> dict[tuple[str, str], list[list[str]]]:
    """The blocks of each network in a file, stage by stage, by what stands around the numbers of their stages.

    Where numbers are missing the network is left out. In a list of blocks a stage is those whose first convolutions put out
    as many channels; nothing stands after the numbers of such stages.
    """
    found: dict[tuple[str, str], dict[int, dict[int, str]]] = defaultdict(lambda: defaultdict(dict))
    listed: dict[str, dict[int, str]] = defaultdict(dict)
    widths: dict[str, int] = {}
    for name, layer in layers.items():
        first = FIRST.fullmatch(name)
        if not first or len(layer.shape) not in (3, 4, 5):
            continue
        path = first["block"]
        if place := BLOCK.fullmatch(path):
            found[place["head"], place["middle"]][int(place["stage"])][int(place["index"])] = path
        elif place := LISTED.fullmatch(path):
            listed[place["head"]][int(place["index"])] = path
            widths[path] = layer.shape[0]
    divided = {
        place: [[stages[stage][index] for index in sorted(stages[stage])] for stage in sorted(stages)]
        for place, stages in found.items()
        if _follow(stages) and all(_follow(blocks) and min(blocks) < 2 for blocks in stages.values())
    }
    runs = {
        (head, ""): [list(run) for _, run in groupby((blocks[index] for index in sorted(blocks)), widths.__getitem__)]
        for head, blocks in listed.items()
        if _follow(blocks)
    }
    return divided | {place: stages for place, stages in runs.items() if len(stages) > 1}


def _follow(numbers: Iterable[int]) -> bool:
    return all(after == before + 1 for before, after in pairwise(sorted(numbers)))


class Found(NamedTuple):
    """The tensors of a part of the network, by its names, and what makes them; the layers that were used."""

    tensors: dict[str, str]
    makers: dict[str, dict[str, str]]
    used: set[str]

    def take(self, layer: Layer, name: str) -> None:
        self.used.add(layer.name)
        makers = {part: own for part, own in layer.parts.items() if part not in (*_AFFINE, *_STATISTICS)}
        self.tensors.update((f"{name}.{part}", own) for part, own in layer.parts.items() if part not in makers)
        if makers:
            self.makers[f"{name}.weight"] = makers


def _inside(layers: Mapping[str, Layer], blocks: Iterable[str]) -> dict[str, dict[str, Layer]]:
    """The layers of each block by what follows its path."""
    found: dict[str, dict[str, Layer]] = {path: {} for path in blocks}
    depth = next(iter(found)).count(".") + 1  # all blocks of a network lie as deep
    for name, layer in layers.items():
        parts = name.split(".", depth)
        if (path := ".".join(parts[:depth])) in found:
            found[path][".".join(parts[depth:])] = layer
    return found


def _take_block(found: Found, inside: Mapping[str, Layer], path: str, name: str) -> str | None:
    """Take the layers of a block; "0", "1" or "conv" as in `Trunk.pool`, None where it has no projection.

    Raises:
        LayoutError: where it is none that a configuration knows.
    """
    side = {role for role in inside if SHORTCUT.match(role)} or _projection(inside)
    main = {role: layer for role, layer in inside.items() if role not in side and not ATTENTION.match(role)}
    kernels = sorted((role for role, layer in main.items() if layer.is_kernel), key=natural)
    norms = sorted((role for role, layer in main.items() if layer.is_norm), key=natural)
    if slope := next((main[role] for role in norms if main[role].parts.keys() == {"weight"}), None):
        raise LayoutError(
            f"holds a network with PReLU, an activation with weights ({_short(slope.name)}), which no configuration expresses."
        )
    sizes = [main[role].shape[2:] for role in kernels]
    if sizes not in CHAINS:
        shown = ", ".join("×".join(map(str, size)) for size in sizes) or "none"
        raise NoBlocksError(
            f"has blocks that no configuration expresses: in {_short(path)} the kernels are {shown}, not 3×3, 3×3 or "
            "1×1, 3×3, 1×1."
        )
    if len(norms) not in (0, len(kernels)):
        first, last = main[kernels[0]].shape, main[kernels[-1]].shape
        pyramid = len(norms) == len(kernels) + 1 and main[norms[0]].shape == first[1:2] and last[0] > first[1]
        raise LayoutError(
            f"has blocks that no configuration expresses: {_short(path)} has {len(kernels)} convolutions and "
            f"{len(norms)} norms{', as PyramidNet has' if pyramid else ''}."
        )
    for number, role in enumerate(kernels, start=1):
        found.take(main[role], f"{name}.conv{number}")
    for number, role in enumerate(norms, start=1):
        found.take(main[role], f"{name}.bn{number}")
    outputs = main[kernels[-1]].shape[0]
    _take_attention(found, {role: layer for role, layer in inside.items() if ATTENTION.match(role)}, name, outputs)
    pool = _take_shortcut(found, {role: inside[role] for role in side}, name)
    left = [layer for layer in inside.values() if layer.name not in found.used]
    if more := [layer for layer in left if set(layer.parts) != {BLUR}]:
        raise LayoutError(
            f"has more in its blocks than a configuration expresses, first {next(iter(more[0].parts.values()))}."
        )
    return pool


def _projection(inside: Mapping[str, Layer]) -> set[str]:
    """The projection of a block that has it among its convolutions, as https://d2l.ai does, with its norm where it has one:
    1×1, from what the block reads to what it puts out, without which the others are a block."""
    kernels = sorted((role for role, layer in inside.items() if layer.is_kernel), key=natural)
    norms = sorted((role for role, layer in inside.items() if layer.is_norm), key=natural)
    for place, role in reversed(list(enumerate(kernels))):
        chain = [inside[other] for other in kernels if other != role]
        whole = [layer.shape[2:] for layer in chain] in CHAINS
        if whole and inside[role].shape == (chain[-1].shape[0], chain[0].shape[1], 1, 1):
            return {role, norms[place]} if len(norms) == len(kernels) else {role}
    return set()


def _take_attention(found: Found, inside: Mapping[str, Layer], name: str, channels: int) -> None:
    """Squeeze-and-excitation as two layers of any name, the first of which reads all channels; or ECA's kernel."""
    linear = [layer for layer in inside.values() if len(layer.shape) in (2, 4) and layer.parts.keys() <= set(_AFFINE)]
    if len(linear) == 2 and len(inside) == 2:
        first, second = sorted(linear, key=lambda layer: (layer.shape[1] != channels, natural(layer.name)))
        found.take(first, f"{name}.se.fc1")
        found.take(second, f"{name}.se.fc2")
    elif len(inside) == 1 and len((layer := next(iter(inside.values()))).shape) == 3:
        found.take(layer, f"{name}.se.conv")


def _take_shortcut(found: Found, inside: Mapping[str, Layer], name: str) -> str | None:
    kernels = [role for role, layer in inside.items() if layer.is_kernel]
    norms = [role for role, layer in inside.items() if layer.is_norm]
    if len(kernels) != 1 or len(norms) > 1:
        return None
    found.take(inside[kernels[0]], f"{name}.downsample.conv")
    for role in norms:
        found.take(inside[role], f"{name}.downsample.norm")
    role = kernels[0]
    if HIDDEN.fullmatch(role):
        return "conv"
    numbered = POOLED.fullmatch(role)
    return numbered[2] if numbered else "0"


def _short(name: str) -> str:
    """A name without the dictionaries before it."""
    return name.rpartition("/")[2]


# -- stem ---------------------------------------------------------------------------------

STEM = re.compile(
    r"(conv_?\d?|conv_1_\dx\d|bn_?\d?|(batch_?)?norm_?\d?|stem\w*|layer0|layer1\.conv1|embedder|initial_block|init_\w+|conv_?in|pre|prep|"
    r"root|gate|first_\w+|(final|last|post)_?(bn|norm|activ)|(bn|norm)_?(final|last|end)|\d+)(\.|$)",
    re.I,
)
"""How the first layers of a network begin; numbers are children of an nn.Sequential."""

LAST_NORM = re.compile(r"norm|(final|last|post)_?(bn|norm|activ)(\.bn)?|(bn|norm)_?(final|last|end)", re.I)
"""The norm before the classifier of a pre-activation network."""


def _take_stem(
    found: Found, layers: Mapping[str, Layer], root: str, channels: tuple[int, int], pre: bool | None
) -> bool:
    """Take the stem that stands at `root` among layers outside the blocks, and the last norm of a pre-activation
    network; False where there is none.

    `channels` are those that the first block reads and the last one puts out. Where `pre` is None, the name of the norm
    says whether it is the last.
    """
    beside = {
        name[len(root) :]: layer
        for name, layer in layers.items()
        if name.startswith(root) and STEM.match(name[len(root) :])
    }
    check_makers(beside.values())
    kernels = sorted((role for role, layer in beside.items() if layer.is_kernel), key=natural)
    if len(kernels) not in (1, 3) or beside[kernels[-1]].shape[0] != channels[0]:
        return False
    # conv1.1 and conv1.4 of a torchvision stem come before bn1
    norms = sorted(
        (role for role, layer in beside.items() if layer.is_norm), key=lambda role: (-role.count("."), natural(role))
    )
    places = ["conv1"] if len(kernels) == 1 else ["conv1.0", "conv1.3", "conv1.6"]
    for role, place in zip(kernels, places, strict=True):
        found.take(beside[role], place)
    normed = ["bn1"] if len(kernels) == 1 else ["conv1.1", "conv1.4", "bn1"]
    if pre is None:
        pre = any(LAST_NORM.fullmatch(role) for role in norms)
    if pre:
        normed = [*normed[:-1], "norm"]
    if len(norms) != len(normed) and (norms or pre):
        if pre and len(norms) == len(normed) - 1:
            raise LayoutError(
                "holds a pre-activation network without a norm before its classifier, which no configuration expresses."
            )
        if pre and len(norms) == len(normed) + 1:
            raise LayoutError(
                "holds a pre-activation network with a norm after its stem too, which no configuration expresses."
            )
        return False
    for role, place in zip(norms, normed, strict=bool(norms)):
        found.take(beside[role], place)
    for name, layer in layers.items():
        if name.startswith(f"{root}maxpool.") and (layer.is_kernel or layer.is_norm):
            found.take(layer, name[len(root) :])
    return True


# -- classifier ---------------------------------------------------------------------------

WORD = re.compile(
    r"(new_)?fc\d*|fc_cls|decoder|linear\d*|classifiers?|cls|clf|cls_head|heads?|logits?|outputs?|out|lin|top|pred|predictions?|"
    r"final\w*|last\w*|online_classifier|linear_\w+|default|block\d+-\d+|\d+",
    re.I,
)
"""What a classifier, and what holds it, is called."""
CONVOLVED = re.compile(r"(head\.)?fc|head|classifier|logits|last_linear", re.I)
"""Where a 1×1 convolution is a classifier too."""


def classifier_of(layers: Mapping[str, Layer], root: str, channels: int) -> Layer | None:
    """The linear layer outside the blocks that reads the last stage's channels: alone in its part of the network, at
    `root` or further out.

    Where a norm or a pool with an exponent stands between, or more layers follow, the head is of another kind.
    """
    for scope in _outwards(root, past=1):
        beside = {name[len(scope) :]: layer for name, layer in layers.items() if name.startswith(scope)}
        if any(
            layer.is_norm and layer.shape == (channels,) and "." not in role and not STEM.match(role)
            for role, layer in beside.items()
        ) or any(layer.parts.keys() == {"p"} for layer in beside.values()):
            return None
        parts: dict[str, list[str]] = defaultdict(list)
        for role in beside:
            parts[re.split(r"[./]", role, maxsplit=1)[0]].append(role)
        fitting = [
            own[0]
            for own in parts.values()
            if len(own) == 1 and _reads(beside[own[0]], own[0], channels) and _is_classifier(own[0])
        ]
        if fitting:
            found = beside[min(fitting, key=lambda role: (not role.startswith("fc"), natural(role)))]
            puts_out = found.shape[0]
            follows = (len(one.shape) == 2 and one.shape[1] == puts_out and one != found for one in beside.values())
            return None if any(follows) else found
    return None


def _is_classifier(role: str) -> bool:
    return all(WORD.fullmatch(part) for part in re.split(r"[./]", role))


def _reads(layer: Layer, role: str, channels: int) -> bool:
    if not layer.is_linear or layer.shape[1:2] != (channels,):
        return False
    return len(layer.shape) == 2 or (layer.shape[2:] == (1, 1) and bool(CONVOLVED.fullmatch(role)))


MAX_OUTWARDS = 16
"""Places around a network that are looked at, at most."""


def _outwards(root: str, past: int = 0) -> list[str]:
    """A place among names, and those around it: to the dictionary that it is in, and so many dictionaries further."""
    found = [root]
    while root and len(found) < MAX_OUTWARDS:
        shorter = re.sub(r"[^./]*[./]$", "", root)
        if root.endswith("/") and (past := past - 1) < 0:
            break
        found.append(root := shorter)
    return found


# -- the network --------------------------------------------------------------------------


def trunks(shapes: Shapes) -> list[Trunk]:
    """The residual networks among a file's tensors, which are given by the names of dictionaries and their own.

    The one that people mean is first: the largest, the average of the weights before those that it is the average of,
    and these before what lags behind them (MoCo's second encoder, the target of BYOL).

    Raises:
        LayoutError: where there is none that a configuration could express.
    """
    names = spelled(shapes)
    layers = layers_of({name: shapes[own] for name, own in names.items()})
    refusals: dict[int, LayoutError] = {}
    strange: dict[int, LayoutError] = {}
    found: list[tuple[int, Trunk]] = []
    notes: list[str] = []
    candidates = sorted(stages_of(layers).items(), key=lambda item: -sum(map(len, item[1])))
    for (head, middle), stages in candidates[:MAX_CANDIDATES]:
        count = sum(map(len, stages))
        try:
            trunk = _trunk(layers, head, middle, stages)
        except NoBlocksError as error:
            strange.setdefault(count, error)
        except LayoutError as error:
            refusals.setdefault(count, error)
            notes.append(f"Beside it, {head.rstrip('.') or 'the file'} {error}")
        else:
            if trunk:
                found.append((count, _named(trunk, names)))
    most = max((count for count, _ in found), default=0)
    if not found or max(refusals, default=0) >= most:
        if strange and not refusals and not _other(names):
            refusals = strange
        refusal = refusals[max(refusals)] if refusals else LayoutError(stranger(list(names), layers))
        if any("_branch2a_" in name for name in shapes):
            raise LayoutError(f"has arrays of numpy by Caffe2's names, and {refusal}")
        raise refusal
    if len(candidates) > MAX_CANDIDATES:
        notes.append(f"Of its {len(candidates)} networks the {MAX_CANDIDATES} largest are looked at.")
    notes += [
        f"Beside it, {trunk.prefix.rstrip('./')} holds a network of fewer blocks."
        for count, trunk in found
        if count < most and "/" in trunk.prefix
    ]
    best = (replace(trunk, notes=(*trunk.notes, *notes[-MAX_NOTES:])) for count, trunk in found if count == most)
    return sorted(best, key=lambda trunk: _rank(trunk.prefix))


def numbered(name: str, pool: str) -> str:
    """Our name with the number that a projection has where so many layers stand before it."""
    norm = int(pool) + 1 if pool.isdecimal() else "norm"
    return name.replace(".downsample.conv.", f".downsample.{pool}.").replace(
        ".downsample.norm.", f".downsample.{norm}."
    )


def renamed(shapes: Shapes) -> dict[str, str]:
    """Our names for the tensors of a file, by its own; what is no part of its network keeps its name, less the prefix where
    no other tensor has the rest.

    Raises:
        LayoutError: where two tensors have one name.
    """
    names = spelled(shapes)
    try:
        trunk = trunks(shapes)[0]
    except LayoutError:
        trunk = Trunk("", {})
    ours = {own: numbered(name, trunk.pool) for name, own in trunk.tensors.items()}
    theirs = {name: own for own, name in ours.items()}
    for name, own in names.items():
        if own not in ours:
            rest = name.removeprefix(trunk.prefix)
            ours[own] = name if rest in theirs or rest in names else rest
            if (other := theirs.get(ours[own])) is not None:
                raise _twice(other, own)
    return ours


MAX_CANDIDATES = 16
"""Networks in a file that are looked at, the largest first."""

MAX_NOTES = 4
"""Sentences on other networks in a file."""

AVERAGED = re.compile(r"(?<![a-z])(ema|swa|averaged?|shadow|teacher)(?![a-z])", re.I)
LAGGING = re.compile(r"momentum|encoder_k|_k\.|key|target|attacker|online_model|discriminator|aux", re.I)


def _rank(prefix: str) -> tuple[bool, bool, int, str]:
    return bool(LAGGING.search(prefix)), not AVERAGED.search(prefix), len(prefix), prefix


def _named(trunk: Trunk, names: Mapping[str, str]) -> Trunk:
    """The trunk with the names that the file itself has."""
    tensors = {name: names[own] for name, own in trunk.tensors.items()}
    makers = {name: {part: names[own] for part, own in parts.items()} for name, parts in trunk.makers.items()}
    return replace(trunk, tensors=tensors, makers=makers)


def _trunk(layers: Mapping[str, Layer], head: str, middle: str, stages: list[list[str]]) -> Trunk | None:
    """The network whose blocks these are, by what stands around the numbers of their stages; None where no stem stands
    before them."""
    found = Found({}, {}, set())
    roots = _outwards(re.sub(r"[^./]*$", "", head))
    dictionary = roots[-1]
    blocks = _inside(layers, [path for stage in stages for path in stage])
    inside = {layer.name: layer for block in blocks.values() for layer in block.values()}
    outside = {name: layer for name, layer in layers.items() if name not in inside}
    check_dimensions(inside.values())
    name_the_thing(NETWORKS, inside)
    name_the_thing(
        INSIDE,
        (f".{role}.{part}" for block in blocks.values() for role, layer in block.items() for part in layer.parts),
    )
    check_makers(inside.values())
    pools = {
        _take_block(found, blocks[path], path, f"layer{number}.{index}")
        for number, stage in enumerate(stages, start=1)
        for index, path in enumerate(stage)
    }
    own = {name: layer.shape for layer in layers.values() for name in layer.parts.values()}
    tensor = {name: own[source] for name, source in found.tensors.items()}
    ours = [f"layer{number}.{index}" for number, stage in enumerate(stages, start=1) for index in range(len(stage))]
    check_blocks(tensor, ours, listed=not middle)
    last = f"layer{len(stages)}.{len(stages[-1]) - 1}."
    bottleneck = f"{last}conv3.weight" in tensor
    planes = tensor["layer1.0.conv1.weight"][0]
    normed = "layer1.0.bn1.weight" in tensor
    ends = tensor["layer1.0.conv1.weight"][1], tensor[f"{last}conv{3 if bottleneck else 2}.weight"][0]
    pre = _is_pre(tensor, ours)
    root = next((root for root in roots if _take_stem(found, outside, root, ends, pre)), None)
    if root is None:
        return None
    beside = [name[len(root) :] for name in outside if name.startswith(root) and name not in found.used]
    name_the_thing(BETWEEN, beside)
    check_voices(
        beside, (f"{path}.{role}" for path, block in blocks.items() for role in block if ATTENTION.match(role))
    )
    if pre and any(name.endswith((".conv1.bias", ".conv2.bias")) for name in found.tensors):
        raise LayoutError("holds a pre-activation network whose convolutions have a bias: no configuration has one.")
    classifier = classifier_of(outside, root, ends[1])
    if classifier:
        found.take(classifier, "fc")
    others = [name for name in outside if name.startswith(dictionary) and name not in found.used]
    if more := next(filter(_in_stages(head, middle, stages).match, others), None):
        raise LayoutError(
            f"has more in its stages than a configuration expresses, first {_short(next(iter(layers[more].parts.values())))}."
        )
    given = {pool for pool in pools if pool}
    pool = "conv" if "conv" in given else "1" if "1" in given else "0"
    facts: dict[str, Any] = {}
    notes = []
    if any(f"{name}.".startswith(f"{root}attnpool.") for name in others):
        # https://github.com/openai/CLIP/blob/main/clip/model.py: a pool, named -1, before each projection
        facts = {"shortcut": "D", "antialias": "avg"}
    elif bottleneck and found.tensors.get("conv1.3.weight") == f"{root}conv2.weight" and ends[0] == planes:
        pool, facts = "conv", {"antialias": "avg"}
        notes.append(
            "It has the names and the width of CLIP's, whose blocks average before they subsample, on their shortcuts too."
        )
    if found.tensors.get("conv1.weight") == f"{root}layer0.conv1.weight" and "layer1.0.se.fc1.weight" in found.tensors:
        # https://github.com/Cadene/pretrained-models.pytorch/blob/master/pretrainedmodels/models/senet.py
        notes.append(
            "It has the names of Cadene's, whose stem pools without padding, which no configuration does, and whose stride is "
            "mostly in the 1×1."
        )
    if any(BLUR in layer.parts for layer in inside.values()):
        notes.append("Its blur stands before the strided convolutions, where no configuration has one: it is left out.")
    if before := _before(layers, root, others, inside):
        notes.append(
            f"Before the end of its last stage the file has {' and '.join(before[:MAX_NOTES])}: code that runs that there is "
            "another network."
        )
    notes += [
        words for pattern, norm, words in BESIDE if _stands(pattern, norm, [layers[name] for name in others], ends[1])
    ]
    left_out = tuple(dict.fromkeys(_part(name, root, dictionary) for name in others))
    return Trunk(root, found.tensors, found.makers, pool, pre is None and normed, facts, left_out, tuple(notes))


BESIDE = (
    # https://github.com/michuanhaohao/reid-strong-baseline/blob/master/modeling/backbones/resnet.py
    (
        r"neck\b",
        True,
        "Code that tells people apart often has no ReLU after the stem: then it is a network that no configuration has.",
    ),
    # https://github.com/jfzhang95/pytorch-deeplab-xception/blob/master/modeling/backbone/resnet.py
    (
        r"aspp|ppm|decode_head|aux_classifier|sem_seg_head|conv2d_list",
        False,
        "Code for segmentation may dilate the blocks of a stage by several amounts (multi-grid), and DeepLab v2 rounds up where "
        "its stem pools, which no configuration does.",
    ),
)
"""What stands beside a network whose code may compute another function: its name, and whether it is a norm of the last
stage's channels, or convolutions."""


def _in_stages(head: str, middle: str, stages: list[list[str]]) -> re.Pattern[str]:
    """What stands in the stages of these blocks, or is a block of such a stage."""
    block = rf"\d+{re.escape(middle)}\d+\." if middle else r"\d+\."
    numbers = [match["stage"] for stage in stages if middle and (match := BLOCK.fullmatch(stage[0]))]
    inside = f"|({'|'.join(numbers)}){re.escape(middle[0])}" if numbers else ""
    return re.compile(rf"{re.escape(head)}({block}{inside})")


def _before(layers: Mapping[str, Layer], root: str, others: Iterable[str], inside: Container[str]) -> list[str]:
    """What has convolutions, and stands at the network's own place, in the file before the last layer of its blocks."""
    *_, last = (place for place, name in enumerate(layers) if name in inside)
    before = {name for name in [*layers][:last] if layers[name].is_kernel and name.startswith(root)}
    return list(dict.fromkeys(name[len(root) :].split(".")[0] for name in others if name in before))


def check_blocks(shapes: Shapes, blocks: Sequence[str], listed: bool) -> None:
    """That all blocks are of one kind, and those of a list are of a residual network.

    Raises:
        LayoutError: where they are not.
    """
    if len({f"{block}.conv3.weight" in shapes for block in blocks}) > 1:
        raise LayoutError(
            "has blocks of two and of three convolutions, as TResNet has, where a configuration has one kind."
        )
    if listed and not any(f"{block}.downsample.conv.weight" in shapes for block in blocks):
        raise NoBlocksError("has a list of blocks without projections, which may be any network.")


def _stands(pattern: str, norm: bool, layers: Iterable[Layer], channels: int) -> bool:
    return any(
        re.search(pattern, _short(layer.name))
        and (layer.is_norm and layer.shape == (channels,) if norm else layer.is_kernel)
        for layer in layers
    )


def _is_pre(shapes: Shapes, blocks: Sequence[str]) -> bool | None:
    """Whether a block normalises before its convolutions: its first norm has the channels that the block reads, and its
    projection is added as it is. None where the first convolution of each puts out as many channels as it reads, and
    nothing is projected."""
    for block in blocks:
        norm, kernel = shapes.get(f"{block}.bn1.weight"), shapes[f"{block}.conv1.weight"]
        if norm and kernel[0] != kernel[1]:
            return norm == (kernel[1],)
    projects = [
        block for block in blocks if f"{block}.downsample.conv.weight" in shapes and f"{block}.bn1.weight" in shapes
    ]
    return f"{projects[0]}.downsample.norm.weight" not in shapes if projects else None


def _part(name: str, root: str, dictionary: str) -> str:
    """What a layer that is left out belongs to: its first name at the trunk's own place, else where the ways part."""
    if name.startswith(root):
        return name[len(root) :].split(".")[0]
    ours, theirs = root[len(dictionary) :].split("."), name[len(dictionary) :].split(".")
    same = 0
    while same < min(len(ours), len(theirs)) - 1 and ours[same] == theirs[same]:
        same += 1
    return ".".join(theirs[: same + 1])


# -- refusals -----------------------------------------------------------------------------

NETWORKS = (
    (r"(?<![^./])s\d\.b\d+\.f\.", "the blocks of pycls, where RegNet and others have the same names"),
    (r"(?<![^./])s\d\.b\d+\.|trunk_output\.block\d", "RegNet's blocks"),
    # https://github.com/RobustBench/robustbench/blob/master/robustbench/model_zoo/architectures/dm_wide_resnet.py
    (r"\.batchnorm_0$", "DeepMind's wide blocks, which pad on one side where they have a stride"),
    (r"(?<![^./])regnet\.", "RegNet's blocks"),
    (r"(?<![^./])(down|up)\.\d\.block\.\d", "the blocks of a diffusion model"),
    (r"denseblock|denselayer|dense_block", "DenseNet's blocks"),
    (r"(down|up)_blocks\.\d+\.resnets|put_blocks\.\d+\.\d+\.in_layers", "the blocks of a diffusion model"),
    # https://github.com/kekmodel/FixMatch-pytorch/blob/master/models/wideresnet.py
    (r"ema_state_dict/(module\.)?block\d\.layer", "FixMatch's wide blocks, with other shortcuts and a leaky ReLU"),
)
"""Networks whose blocks look like ours, by a layer of theirs."""

INSIDE = (
    (
        r"\.cbam|ChannelGate|SpatialGate|\.ca\d?\..*|\.sa\d?\.conv|(?i:(channel|spatial)_?att)",
        "CBAM, attention over channels and places",
    ),
    (r"(?i:coord_?att)", "coordinate attention"),
    (r"(?i:triplet_?att)", "triplet attention"),
    (r"\.(IN|BN)\.|instance_norm|\.ibn", "IBN, instance norm beside batch norm"),
    (r"\.prelu\d?\.", "ArcFace's iresnet, whose blocks have PReLU and three norms"),
    (r"\.conv2\.(fc1|fc2|radix|bn0)|\.splat", "ResNeSt, attention over splits"),
    (r"\.bns\.\d+\.(weight|running)", "Res2Net, whose 3×3 convolution is a chain of smaller ones"),
    (r"\.(paths|conv_kernels?)\.\d|conv\d\.attn", "SKNet, kernels of several sizes"),
    (r"rbr_(dense|1x1|reparam)", "RepVGG"),
    (r"\.bam|\.gate_[cs]", "BAM, attention over channels and places"),
    (r"context_block|channel_add_conv|conv_attn|mask_pool", "GCNet, attention with a global context"),
    (r"conv\d?_?offset|\.offset", "deformable convolutions"),
    (r"\.(theta|phi|g)\.\d?|nonlocal|non_local", "non-local blocks"),
    (r"rel_(h|w|height|width)|\.(to_)?(qkv?|key_conv|query_conv)|\.mhsa", "self-attention in its blocks"),
    (r"mean_weight|var_weight", "switchable normalisation"),
    (r"\.(temporal|tsm|conv_t)\.|\.conv1\.(conv\.)?net\b", "shifts in time, for video"),
    (r"fake_quant|activation_post_process|_quantizer|\.quan\w*_fn", "quantisation that it was trained with"),
    (r"\.gain$|skipinit_gain", "the scaled standardised convolutions of NF-ResNet"),
    (r"\.bias\d[ab]$", "the biases and scales of Fixup"),
    (r"\.(_|moving_)(mean|variance)$", "weights by the names of PaddlePaddle, TensorFlow or MindSpore"),
    (r"\.lora_[AB]\b", "LoRA's additions to its weights"),
    (r"\.filt$", "blurs before its projections"),
    (r"conv\d_(1x1|kxk)\.", "the blocks of timm's ByobNet"),
)
"""What stands in the blocks of variants that no configuration expresses, by what follows a block's name."""

OTHERS = (
    (r"rbr_(dense|1x1|reparam)", "RepVGG"),
    (r"stages\.\d\.\d+\.conv_kxk\.", "RepVGG or MobileOne"),
    (r"stages\.\d\.(conv_(down|exp|transition)|blocks\.\d+\.conv\d)", "CSPNet or Darknet"),
    (r"residual_path\d|layer\d\.\d+\.branch[12]\.\d", "Shake-Shake, blocks of two branches"),
    (r"features\.\d\.\d+\.layer_scale", "ConvNeXt"),
    (r"relative_position_bias_table|layers\.\d\.blocks\.\d+\.attn", "a Swin transformer"),
    (
        r"cls_token|class_token|class_embedding|(?<!head\.)pos_embed|position_embeddings?|patch_embed",
        "a vision transformer",
    ),
    (
        r"_blocks\.\d+\._(expand|depthwise)|\.\d+\.block\.\d\.(\d|fc\d)\.|blocks\.\d\.\d\.conv_[dp]w|"
        r"layers\.\d+\.\d\.layers\.\d",
        "EfficientNet or MobileNet",
    ),
    (
        r"dwconv|conv_dw\.|stages\.\d\.(blocks\.)?\d\.gamma|layer_scale",
        "ConvNeXt or another network of depthwise kernels",
    ),
    (r"features\.\d+\.conv\.\d|inverted", "MobileNet"),
    (r"[Mm]ixed_\d[a-e]|inception\d[a-e]|inception_", "Inception"),
    (r"features\.\d+\.(squeeze|expand)", "SqueezeNet"),
    (r"stage\d\.\d\.(branch\d|branches)", "ShuffleNet or HRNet"),
    (r"features\.0\.weight|features\.0\.0\.weight", "VGG, AlexNet or a like network without residual blocks"),
    (r"(inc|down\d|up\d)\.(double_conv|maxpool_conv|conv)", "U-Net"),
    (r"model\.\d+\.(m|cv\d)\.", "YOLO"),
    (r"dark\d|darknet", "Darknet"),
)
"""Other networks that people have, by a tensor of theirs."""

TRANSFORMER = re.compile(r"attn|attention|q_proj|in_proj_weight|encoder_layer")


def check_dimensions(layers: Iterable[Layer]) -> None:
    """That the kernels are of pictures.

    Raises:
        LayoutError: where they have one axis or three.
    """
    axes = {len(layer.shape) for layer in layers if ".se." not in layer.name}
    if 5 in axes:
        raise LayoutError("holds a 3-d network, for video or volumes: networks for pictures are accepted.")
    if 3 in axes and 4 not in axes:
        raise LayoutError("holds a 1-d network, for sound or other series: networks for pictures are accepted.")


BETWEEN = (
    # https://github.com/facebookresearch/deepcluster/blob/main/models/vgg16.py
    (r"^sobel", "a Sobel filter before it"),
    (r"^(ca|sa)\d?\.|^cbam", "CBAM, attention over channels and places"),
    (r"^NL_\d|^non_?local|\.(theta|phi)$", "non-local blocks"),
    (r"^(p?relu|act)\d?$", "PReLU, an activation with weights"),
)
"""What stands between the stages of such variants, by what follows the place where the network stands."""


def check_makers(layers: Iterable[Layer]) -> None:
    """That weights which are computed at each use are computed in a known way.

    Raises:
        LayoutError: where one is not.
    """
    for layer in layers:
        made = layer.parts.keys() - {*_AFFINE, *_STATISTICS, BLUR}
        if made and len(layer.shape) > 1 and not layer.is_linear:
            raise LayoutError(
                f"has weights that are computed at each use in a way that is not known, first "
                f"{_short(layer.parts[min(made)])}: weights as they are used are accepted, such as "
                "torch.nn.utils.parametrize.remove_parametrizations leaves."
            )


VOICES = re.compile(r"(torchfb|instancenorm|sap_linear)\b")


def check_voices(beside: Iterable[str], attention: Iterable[str]) -> None:
    """That no network reads a spectrogram and has squeeze-and-excitation: such blocks activate before they normalise.

    https://github.com/clovaai/voxceleb_trainer/blob/master/models/ResNetSE34L.py.

    Raises:
        LayoutError: where one does.
    """
    reads, gate = next(filter(VOICES.match, beside), None), next(iter(attention), None)
    if reads and gate:
        raise LayoutError(
            f"holds a network for voices ({reads}), whose blocks with channel attention ({_short(gate)}) activate before they "
            "normalise, which no configuration expresses."
        )


def name_the_thing(things: Iterable[tuple[str, str]], names: Iterable[str]) -> None:
    """That no layer is one of a known variant.

    Raises:
        LayoutError: where one is.
    """
    names = list(names)
    for pattern, thing in things:
        if seen := next((name for name in names if re.search(pattern, name)), None):
            shown = _short(seen).lstrip(".")
            raise LayoutError(f"holds a network with {thing} ({shown}), which no configuration expresses.")


def _other(names: Iterable[str]) -> str:
    """Which other network that people have is in a file, the end of a sentence; "" where none is."""
    names = list(names)
    for pattern, thing in OTHERS:
        if seen := next((name for name in names if re.search(pattern, name)), None):
            return f"holds {thing} ({_short(seen)}): a residual network is accepted."
    return ""


def stranger(names: Sequence[str], layers: Mapping[str, Layer]) -> str:
    """What a file is in which no residual network was found.

    Raises:
        LayoutError: for what is told by its layers.
    """
    if empty := next((layer for layer in layers.values() if "weight" in layer.parts and 0 in layer.shape), None):
        return (
            f"has an empty {_short(empty.parts['weight'])}, as DeepSpeed leaves where weights lie in other files: its "
            "zero_to_fp32.py puts them together."
        )
    if other := _other(names):
        return other
    name_the_thing([*NETWORKS, *INSIDE], names)
    if seen := next((name for name in names if TRANSFORMER.search(name)), None):
        return f"holds a transformer ({_short(seen)}): a residual network is accepted."
    check_dimensions(layer for layer in layers.values() if layer.parts.keys() <= {*_AFFINE} and len(layer.shape) > 2)
    shown = ", ".join(_short(name) for name in list(names)[:3])
    return (
        f"holds no residual network that is known ({len(names)} tensors, first {shown}): a stem and stages of basic or "
        "bottleneck blocks are looked for."
    )
