"""What was understood of a checkpoint file, what was assumed of it, and what of it cannot be run: in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from resnet import OPTIONS, ResNetConfig
from resnet.checkpoint import BOTH, Opened, Question
from resnet.options import plain, to_text
from resnet.weights import FASHION_MNIST, Weights

from ..units import choice_text


def cannot_run(broken: Sequence[str]) -> str:
    """Why weights do not run of which these tensors are not finite, without its full stop."""
    return (
        f"NaN or infinite numbers are in {len(broken)} of its tensors, first in {plain(broken[0])}, so its network can be looked "
        "at but its weights cannot be run"
    )


MAX_NAMED = 6
"""Parts of a file that are named where there are many."""


def said_of(opened: Opened, answers: Mapping[str, Any]) -> list[str]:
    """What else stood in a file, and with which answers it was read, in sentences."""
    said = [f"{listed(opened.left_out)} left out."] if opened.left_out else []
    return said + ([f"Read with {answers_text(answers)}."] if answers else [])


def listed(parts: Sequence[str]) -> str:
    """The first of them by name, and how many more there are."""
    named = [plain(part or "tensors beside it", 40) for part in parts[:MAX_NAMED]]
    more = f" and {len(parts) - MAX_NAMED} more" if len(parts) > MAX_NAMED else ""
    return f"{', '.join(named)}{more}"


def shape_words(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else "×".join(map(str, shape)) or "one number"


LABELS = {
    "option_a": "Zeros of option A",
    "standardised": "Standardised weights",
    "weights": "Weights in the file",
    "leaky_slope": "Slope of a leaky ReLU",
    "last_stride": "Stride of the last stage",
    "stem_stride": "Stride of the stem",
}
"""What a question is called that is no option of a configuration."""


def label(name: str) -> str:
    return OPTIONS[name].label if name in OPTIONS else LABELS.get(name, name.capitalize())


def choice_words(name: str, value: Any) -> str:
    if name == "option_a":
        return "on both sides" if value == BOTH else "after the channels"
    if isinstance(value, bool) or name == "standardised":
        return "yes" if value in (True, "1") else "no"
    return plain(value, 60) if name == "weights" else choice_text(value)


def in_order(opened: Opened) -> list[tuple[str, Question]]:
    """What is asked of a network: first what is no option of a configuration."""
    return sorted(opened.questions.items(), key=lambda each: each[0] in OPTIONS)


def assumed_text(config: ResNetConfig, questions: Iterable[tuple[str, Question]]) -> str:
    """The answers in force: "Stem pool max · Activation relu"."""
    return " · ".join(
        f"{label(name)}\N{NO-BREAK SPACE}{choice_words(name, in_force(config, name, question))}"
        for name, question in questions
    )


def in_force(config: ResNetConfig, name: str, question: Question) -> Any:
    """The answer that a network runs with."""
    return getattr(config, name) if name in OPTIONS else question.choices[0]


def assumptions_text(weights: Weights) -> str:
    """What is assumed of the data, which no tensor shows."""
    data = weights.data
    names = "" if weights.headless else ", and classes by number"
    if data.name != "unknown":
        names = f", and the classes of {data.name}"
    if data.name == FASHION_MNIST.name:
        names += ", as its tensors have the shapes of the networks that ship"
    numbers = ", ".join(map(to_text, data.preprocessing.mean[:3]))
    return f"Assumed as well: images of {shape_words(data.preprocessing.size)} pixels less a mean of {numbers}{names}."


def answers_text(answers: Mapping[str, Any]) -> str:
    return ", ".join(f"{label(name)} = {choice_words(name, value)}" for name, value in answers.items())
