"""What no tensor of a checkpoint shows, and is asked: the questions, how to tell, and the answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .config import OPTIONS, ResNetConfig
from .layers import LayoutError
from .options import from_text, plain


@dataclass(frozen=True)
class Question:
    """What no tensor shows: the values that fit, the one that is assumed first, and how to tell which is right."""

    choices: tuple[Any, ...]
    tell: str


TELL = {
    "stride_in": "Networks of the paper's authors, Caffe and Detectron2's MSRA have it in the 1×1, torchvision and timm in the 3×3.",
    "stem_pool": "Code for ImageNet has a max pool after the stem, most code for CIFAR-10 has none: look for maxpool in it.",
    "output_stride": "Networks for segmentation are mostly dilated, to 8 or 16; those for classes and boxes are not.",
    "activation": "Nearly all have ReLU; the code that trained it says. A leaky ReLU has the slope 0.01 here.",
    "antialias": "Only code that says blur, anti-aliasing or AvgPool2d before its strides has it.",
    "shortcut": "The code of the block says: what it does to x before the addition.",
    "order": "Pre-activation blocks begin with a normalisation or an activation.",
    "norm": "The code that built the network says which norm its layers are.",
    "leaky_slope": "The code says what nn.LeakyReLU or F.leaky_relu is given: 0.01 unless it is given something.",
    "last_stride": "Networks that tell people apart mostly keep the stride of their last stage at 1 (last_stride in their code).",
    "stem_stride": "The first nn.Conv2d of the code says: most code for CIFAR-10 has stride 1 in a 3×3, some for larger images stride 2.",
    "norm_groups": "The first number of nn.GroupNorm in the code: 32 in the paper and timm, 2 in much federated learning.",
    "attention": "The code of the block says.",
    "option_a": "The shortcut of akamaster's pytorch_resnet_cifar10 pads the channels on both sides, the paper's after them.",
    "standardised": "The convolutions of BiT (resnetv2_…_bit of timm, bit of transformers) are, those of other networks with group norm are not.",
    "weights": "Averaged weights are what is evaluated in most recipes; the others are where training goes on.",
}
"""How to tell what no tensor shows."""

NORM_GROUPS = (32, 16, 8, 4, 2, 1)
"""Of a group norm, which no tensor shows."""

FIXED: Mapping[str, tuple[str, Any, str]] = {
    "leaky_slope": ("a leaky ReLU of slope", 0.01, "0.1 or another"),
    "last_stride": ("a last stage of stride", 2, "1"),
    "stem_stride": ("a 3×3 stem of stride", 1, "2"),
}
"""What is no option, since every configuration has it alike: in words, what it is, and what else it is in public code."""

OTHER_QUESTIONS = ("option_a", "standardised", "weights", *FIXED)
"""Those that are no option of a configuration."""

BOTH, AFTER = "both", "after"
"""Where option A puts its zeros: on both sides of the channels, or after them."""


def question_of(config: ResNetConfig, option: str, values: tuple[Any, ...]) -> Question:
    assumed = getattr(config, option)
    return Question((assumed, *(value for value in values if value != assumed)), TELL[option])


def answered(config: ResNetConfig, answers: Mapping[str, Any]) -> ResNetConfig:
    """The configuration with what was answered, as values or as a link holds them.

    Raises:
        ConfigError, LayoutError: for an answer that nobody asked for, or that cannot be.
    """
    changes = {}
    for option, value in answers.items():
        if option in OPTIONS:
            changes[option] = from_text(option, OPTIONS[option], value) if isinstance(value, str) else value
        elif option not in OTHER_QUESTIONS:
            raise LayoutError(
                f"has no question {plain(option)}: an option of the configuration or {', '.join(OTHER_QUESTIONS)} is one."
            )
    if (form := answers.get("option_a", AFTER)) not in (BOTH, AFTER):
        raise LayoutError(f"has no option_a {plain(form)}: {BOTH} or {AFTER} is accepted.")
    if (bit := answers.get("standardised", False)) not in (True, False, "1", "0"):
        raise LayoutError(f"has no standardised {plain(bit)}: 1 or 0 is accepted.")
    return config.with_(**changes)[0] if changes else config


def check_answers(answers: Mapping[str, Any]) -> None:
    """That what every configuration has alike is answered so.

    Raises:
        LayoutError: where it is not.
    """
    for name, (words, value, _) in FIXED.items():
        if name in answers and str(answers[name]) != str(value):
            given = plain(str(answers[name]).partition(",")[0])
            raise LayoutError(f"is answered to have {words} {given}, which no configuration expresses: {value} is.")
