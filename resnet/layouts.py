"""The layouts of checkpoints in public code: where among a file's tensors a residual network stands.

Every project names the parts of the same network in its own way. What they share is found by rule: blocks are what
holds a first convolution, a stage is the blocks that differ in their last number, and within a block the convolutions
follow each other by number. What is left to tables is small: what the first convolution is called (`FIRST`), which
words mark a shortcut, a stem or a classifier, and a few spellings that hide a number. Names are those of `layers`; what
no configuration expresses is named by `refusals`.

The names that come out are those of `ResNet`, but for the projection of a shortcut, which is `downsample.conv` and
`downsample.norm` in every block: whether a pool stands before it is for the configuration to say.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import Any, NamedTuple

from .config import ResNetConfig
from .layers import (
    AFFINE,
    BLUR,
    STATISTICS,
    Layer,
    LayoutError,
    Shapes,
    layers_of,
    natural,
    own_name,
    spelled,
    two_names,
)
from .refusals import (
    BESIDE,
    BETWEEN,
    INSIDE,
    NETWORKS,
    check_dimensions,
    check_makers,
    check_voices,
    name_the_thing,
    other_network,
    stands,
    stranger,
)


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


class Parts(NamedTuple):
    """The tensors of a part of the network, by its names, and what makes them; the layers that were used."""

    tensors: dict[str, str]
    makers: dict[str, dict[str, str]]
    used: set[str]

    def take(self, layer: Layer, name: str) -> None:
        self.used.add(layer.name)
        makers = {part: own for part, own in layer.parts.items() if part not in (*AFFINE, *STATISTICS)}
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


def _take_block(found: Parts, inside: Mapping[str, Layer], path: str, name: str) -> str | None:
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
            f"holds a network with PReLU, an activation with weights ({own_name(slope.name)}), which no configuration expresses."
        )
    sizes = [main[role].shape[2:] for role in kernels]
    if sizes not in CHAINS:
        shown = ", ".join("×".join(map(str, size)) for size in sizes) or "none"
        raise NoBlocksError(
            f"has blocks that no configuration expresses: in {own_name(path)} the kernels are {shown}, not 3×3, 3×3 or "
            "1×1, 3×3, 1×1."
        )
    if len(norms) not in (0, len(kernels)):
        first, last = main[kernels[0]].shape, main[kernels[-1]].shape
        pyramid = len(norms) == len(kernels) + 1 and main[norms[0]].shape == first[1:2] and last[0] > first[1]
        raise LayoutError(
            f"has blocks that no configuration expresses: {own_name(path)} has {len(kernels)} convolutions and "
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


def _take_attention(found: Parts, inside: Mapping[str, Layer], name: str, channels: int) -> None:
    """Squeeze-and-excitation as two layers of any name, the first of which reads all channels; or ECA's kernel."""
    linear = [layer for layer in inside.values() if len(layer.shape) in (2, 4) and layer.parts.keys() <= set(AFFINE)]
    if len(linear) == 2 and len(inside) == 2:
        first, second = sorted(linear, key=lambda layer: (layer.shape[1] != channels, natural(layer.name)))
        found.take(first, f"{name}.se.fc1")
        found.take(second, f"{name}.se.fc2")
    elif len(inside) == 1 and len((layer := next(iter(inside.values()))).shape) == 3:
        found.take(layer, f"{name}.se.conv")


def _take_shortcut(found: Parts, inside: Mapping[str, Layer], name: str) -> str | None:
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
    found: Parts, layers: Mapping[str, Layer], root: str, channels: tuple[int, int], pre: bool | None
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
        if strange and not refusals and not other_network(names):
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


def projection_index(config: ResNetConfig) -> str:
    """The number of a projection's convolution among the layers of its shortcut: after a pool, or first."""
    return "1" if config.shortcut == "D" else "0"


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
                raise two_names(other, own)
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
    found = Parts({}, {}, set())
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
            f"has more in its stages than a configuration expresses, first {own_name(next(iter(layers[more].parts.values())))}."
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
        words for pattern, norm, words in BESIDE if stands(pattern, norm, [layers[name] for name in others], ends[1])
    ]
    left_out = tuple(dict.fromkeys(_part(name, root, dictionary) for name in others))
    return Trunk(root, found.tensors, found.makers, pool, pre is None and normed, facts, left_out, tuple(notes))


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
