"""The network at a place of a checkpoint: its configuration, its tensors in the form of ours, and what remains to be asked.

`layouts` says where it stands, `shapes` what its tensors show, and `whole` what its layers say besides; `conversion` makes other
forms of the same network ours, and `questions` has what nothing shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from . import conversion, whole
from .config import OPTIONS, ResNetConfig
from .layers import NO_WEIGHTS, LayoutError
from .layouts import Trunk, numbered, projection_index
from .model import build
from .opened import PADDED, Opened
from .options import ConfigError, plain
from .questions import AFTER, BOTH, FIXED, NORM_GROUPS, TELL, Question, answered, check_answers, question_of
from .reading import Contents
from .shapes import Mismatch, config_of, differences, shapes_of, unseen_options


def recognised(
    trunk: Trunk,
    which: tuple[str, ...],
    tensors: Mapping[str, Tensor],
    name: str,
    contents: Contents,
    answers: Mapping[str, Any],
) -> Opened:
    """What a file is whose network stands at a trunk.

    Raises:
        ConfigError, LayoutError: where no configuration can express it.
    """
    state = {ours: tensors[theirs] for ours, theirs in trunk.tensors.items()}
    for ours, theirs in trunk.tensors.items():
        if not ours.endswith(NO_WEIGHTS) and not state[ours].is_floating_point():
            raise LayoutError(f"has {plain(theirs)} as {state[ours].dtype}: dense floating-point tensors are accepted.")
    check_answers(answers)
    told = whole.said(trunk, contents.modules)
    notes = [
        *(plain(note, 400) for note in trunk.notes),
        *told.notes,
        *_straighten(state, _makers(trunk, tensors), trunk),
    ]
    for norm, more in whole.epsilons(told.layers):
        if f"{norm}.running_var" in state:
            state[f"{norm}.running_var"] = state[f"{norm}.running_var"] + more
    if trunk.either_order and answers.get("order") in OPTIONS["order"].choices:
        state = conversion.in_order(state, answers["order"])
    config = _declared(contents, state)
    declared = config is not None
    if config is None:
        shapes = {numbered(ours, trunk.pool): tuple(tensor.shape) for ours, tensor in state.items()}
        try:
            config = config_of(shapes).with_(**trunk.facts, **told.facts)[0]
        except ConfigError as error:
            theirs = trunk.tensors.get(SHOWN_BY.get(error.field, ""), "").rpartition("/")[2]
            where = f" ({theirs})" if theirs else ""
            raise LayoutError(f"holds a network that no configuration expresses{where}: {error}") from error
        notes += _check_norm(config, name, {**told.facts, **answers})
        if conversion.widen_attention(state, config):
            notes.append("Its channel attention is narrower than a configuration has it: zeros make it as wide.")
    asked = {} if declared else unseen_options(config, trunk.pool == "conv")
    if told.layers:
        config, asked = whole.agreed(config, asked, told.layers)
        asked = {option: values for option, values in asked.items() if option not in told.facts}
    if trunk.either_order and not declared:
        asked["order"] = OPTIONS["order"].choices
    config = answered(config, answers)
    _check_told(config, told)
    questions = {option: question_of(config, option, values) for option, values in asked.items()}
    if wrong := differences(config, shapes_of(_completed(config, state))):
        raise LayoutError(_misfit(wrong[0], trunk))
    if not declared:
        config, forms = _translated(config, state, trunk, name, answers)
        questions |= {name: question for name, question, _ in forms if name not in told.facts}
        notes += [*_functions(config, trunk, told), *(note for *_, note in forms if note)]
        questions |= {
            name: Question((value, f"{other}, which no configuration has"), TELL[name])
            for name, (_, value, other) in FIXED.items()
            if _is_open(name, config, trunk, told)
        }
    if "option_a" in answers and "option_a" not in questions:
        raise LayoutError("does not need the answer option_a: leave it out.")
    if which:
        questions["weights"] = Question(which, TELL["weights"])
        notes.append(f"Of the weights {' and '.join(map(plain, sorted(which)))} those of {plain(which[0])} are opened.")
    if trunk.affine or CAFFE.search(f"{name} {' '.join(trunk.tensors.values())}"):
        notes.append(
            "Networks of Caffe and Detectron2 mostly read images as BGR from 0 to 255, which is not how images are prepared "
            "here."
        )
    if trunk.headless:
        notes.append("It has no classifier that reads the last stage: the scores are zeros.")
    names = {numbered(ours, projection_index(config)): theirs for ours, theirs in trunk.tensors.items()}
    return Opened(
        config, _completed(config, state), trunk.left_out, trunk.headless, questions, tuple(notes), declared, names
    )


CAFFE = re.compile(r"caffe|detectron|msra|(?<![^./ ])res2(\.|a_)", re.I)
"""Names of files, of Detectron2's stages and of Caffe's, whose networks have Caffe's way of preparing images."""


CAFFE_POOL = re.compile(r"res\d[a-z]\d*_branch|conv\d_\d+_1x1")
"""Names of a block's first convolution whose networks pool as Caffe's do: https://github.com/KaimingHe/deep-residual-networks,
and what MatConvNet made of them."""


def _functions(config: ResNetConfig, trunk: Trunk, told: whole.Said) -> Iterator[str]:
    """Sentences on what has the same tensors in other public code and computes another function, which no configuration
    has."""
    if config.shortcut == "A":
        yield "Its shortcuts are taken to skip every second place, as the paper's; code that averages there is another network."
    if (config.order, config.stem) == ("pre", "3x3") and any(
        name.endswith(".downsample.conv.weight") for name in trunk.tensors
    ):
        yield (
            "Its projections are taken to read what was normalised and activated, as the paper's; code whose projections read "
            "the block's input (FixMatch, MixMatch) is another network."
        )
    biased = [name for name in trunk.tensors if re.search(r"conv[\d.]*\.bias$", name)]
    if biased and config.stem == "7x7" and all(name.endswith(".downsample.conv.bias") for name in biased):
        # https://github.com/Project-MONAI/MONAI/blob/dev/monai/networks/nets/resnet.py
        yield (
            "Its projections alone have biases, as MONAI's have, whose 7×7 stem has stride 1 unless it is told otherwise, which "
            "no configuration has."
        )
    if CAFFE_POOL.search(trunk.tensors["layer1.0.conv1.weight"]):
        yield "It has Caffe's names, whose stem pools without padding and rounds up, which no configuration does."
    if config.activation == "leaky_relu" and "activation" not in told.facts:
        yield "Its leaky ReLU is taken to have the slope 0.01."


def _is_open(question: str, config: ResNetConfig, trunk: Trunk, told: whole.Said) -> bool:
    """Whether one of `FIXED` concerns a file that does not answer it itself."""
    match question:
        case "leaky_slope":
            return config.activation == "leaky_relu" and "activation" not in told.facts
        case "last_stride":
            return trunk.headless and len(config.layers) > 1 and not told.layers
    return config.stem == "3x3" and not told.layers


def _check_told(config: ResNetConfig, told: whole.Said) -> None:
    """That nothing was answered otherwise than the layers of a network say.

    Raises:
        LayoutError: where something was.
    """
    for option, value in told.facts.items():
        if getattr(config, option) != value:
            raise LayoutError(
                f"says itself that its {option} is {value}: {plain(getattr(config, option))} is not accepted."
            )
    if told.layers and (wrong := whole.difference(config, told.layers)):
        raise LayoutError(f"is set otherwise itself: it has {wrong}.")


def _makers(trunk: Trunk, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """What weights are computed from at each use, by our names of the weights.

    Raises:
        LayoutError: for what cannot make them.
    """
    for ours, parts in trunk.makers.items():
        weight = tuple(tensors[trunk.tensors[ours]].shape)
        for part, theirs in parts.items():
            if not conversion.is_maker(part, tuple(tensors[theirs].shape), weight):
                does = "prunes" if part == "mask" else "scales"
                raise LayoutError(f"has {plain(theirs)} of another shape than the weight that it {does}.")
            if part != "mask" and not tensors[theirs].is_floating_point():
                raise LayoutError(
                    f"has {plain(theirs)} as {tensors[theirs].dtype}: dense floating-point tensors are accepted."
                )
    return {ours: {part: tensors[name] for part, name in parts.items()} for ours, parts in trunk.makers.items()}


def _translated(
    config: ResNetConfig, state: dict[str, Tensor], trunk: Trunk, name: str, answers: Mapping[str, Any]
) -> tuple[ResNetConfig, list[tuple[str, Question, str]]]:
    """The configuration once tensors of another form are in ours: each form that was asked for, and what was done.

    Raises:
        LayoutError: for a form that ours has no place for.
    """
    forms = []
    if config.shortcut == "A":
        ordered = "ECA" if config.attention == "eca" else "group norm" if config.norm == "group" else ""
        likeliest = BOTH if LINEAR.search(trunk.tensors.get("fc.weight", "")) and not ordered else AFTER
        form = answers.get("option_a", likeliest)
        if form == BOTH and ordered:
            raise LayoutError(
                f"pads channels on both sides and has {ordered}, which reads them in their order: ours pad after them."
            )
        if form == BOTH:
            conversion.pad_after(state, config)
        if not ordered:
            question = Question((form, AFTER if form == BOTH else BOTH), TELL["option_a"])
            forms.append(("option_a", question, PADDED if form == BOTH else ""))
    if config.norm == "group":
        groups = (config.norm_groups, *(count for count in NORM_GROUPS if count != config.norm_groups))
        forms.append(("norm_groups", Question(groups, TELL["norm_groups"]), ""))
    if config.norm == "group" or "standardised" in answers or STANDARDISED.search(name):
        pre = config.order == "pre"
        likely = (config.norm == "group" and pre and config.stem == "7x7") or bool(STANDARDISED.search(name))
        bit, note = answers.get("standardised", likely) in (True, "1"), ""
        if bit:
            conversion.standardise(state)
            note = "Its convolutions standardise their weights."
        if bit and pre and not OPTIONS["zero_pool"].unless(config):
            config, note = config.with_(zero_pool=True)[0], f"{note[:-1]}, and its pool pads with zeros, as BiT's do."
        forms.append(("standardised", Question((bit, not bit), TELL["standardised"]), note))
    return config, forms


SHOWN_BY = {
    "stem": "conv1.weight",
    "groups": "layer1.0.conv2.weight",
    "base_width": "layer1.0.conv2.weight",
    "se_reduction": "layer1.0.se.fc1.weight",
}
"""A tensor that shows an option, for a sentence about one that does not fit."""

LINEAR = re.compile(r"(^|[./])linear\.")


MADE = {
    "mask": "Its pruned weights are zeros.",
    "g": "Its weights are computed from their directions and lengths (weight norm).",
    "u": "Its weights are divided by their spectral norms.",
}


def _straighten(state: dict[str, Tensor], makers: Mapping[str, Mapping[str, Tensor]], trunk: Trunk) -> Iterator[str]:
    """Give tensors the form of ours; a sentence for each thing that this changes."""
    yield from (MADE[kind] for kind in sorted(conversion.make_weights(state, makers)))
    if conversion.straighten_layers(state):
        yield "Its channel attention has no biases: they are zeros."
    if trunk.affine:
        conversion.add_statistics(state)
    if conversion.add_projection_norms(state):
        yield "Its projections have no norm: they get one that changes nothing."
    conversion.add_scales(state)
    if conversion.fold_biases(state):
        yield "The biases of its convolutions are taken into the running means of the norms after them."


def _declared(contents: Contents, state: Mapping[str, Tensor]) -> ResNetConfig | None:
    """The configuration that a file of this package says it is for, where its tensors fit that."""
    config = contents.declared_config
    return None if config is None or differences(config, shapes_of(_completed(config, state))) else config


GROUPED = re.compile(r"group|fed|(?<![a-z])gn(?![a-z])", re.I)
"""Names of files whose networks have group norm: federated learning has little else (Hsieh 2020,
https://arxiv.org/abs/1910.00189)."""


STANDARDISED = re.compile(r"(?<![a-z])ws(?![a-z])|standardi[sz]", re.I)
"""Names of files whose networks standardise their weights, https://github.com/joe-siyuan-qiao/pytorch-classification."""


class UnsureNormError(LayoutError):
    """A network whose norms may be group norms: it is opened where that is answered."""


def _check_norm(config: ResNetConfig, name: str, answers: Mapping[str, Any]) -> Iterator[str]:
    """That it is sure that a network without running statistics has group norm; a sentence where the file's name says so.

    Raises:
        UnsureNormError: where instance norm, or batch norm of each batch, would have the same tensors.
    """
    if config.norm != "group" or "norm" in answers or (config.order == "pre" and config.stem != "3x3"):
        return  # BiT's and timm's pre-activation networks; smaller ones have other norms as well
    if not GROUPED.search(name):
        raise UnsureNormError(
            "has norms without running statistics: instance norm and batch norm of each batch are not expressed by a "
            "configuration, and group norm, which has the same tensors, is opened where norm=group is answered."
        )
    yield "Its norms are taken for group norms, as its name says."


def _completed(config: ResNetConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by the names and in the order of a network, with zeros for counters and a missing classifier or its
    bias; what the network does not know comes last."""
    own = {numbered(name, projection_index(config)): tensor for name, tensor in state.items()}
    found = {}
    for name, wanted in build(config, "meta").state_dict().items():
        if name.endswith(".num_batches_tracked") and name in own and own[name].ndim:  # some write it with an axis
            own[name] = own[name].reshape(-1)[:1].sum()
        if name in own:
            found[name] = own.pop(name)
        elif name.endswith((".num_batches_tracked", "fc.weight", "fc.bias")):
            found[name] = torch.zeros(wanted.shape, dtype=wanted.dtype)
    return found | own


def _misfit(wrong: Mismatch, trunk: Trunk) -> str:
    """A sentence about a tensor that no configuration has, with the name that the file has for it."""
    theirs = {numbered(ours, pool): source for pool in "01" for ours, source in trunk.tensors.items()}.get(wrong.name)
    known = f" ({plain(theirs.rpartition('/')[2], 80)})" if theirs and not theirs.endswith(wrong.name) else ""
    return f"holds a network that no configuration expresses; first {wrong}{known}."
