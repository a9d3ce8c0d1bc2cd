"""A residual network that was found in a file, and what can be made of it without another look into the file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

from torch import Tensor

from . import conversion
from .config import ResNetConfig
from .options import plain, to_text
from .presets import title
from .questions import AFTER, BOTH, Question


@dataclass(frozen=True, eq=False, repr=False)
class Opened:
    """A residual network that was found in a file.

    `state_dict` fits `build(config).load_state_dict(…, strict=True)`. `left_out` says what else stood beside it, by
    prefix. Where `headless`, the file has no classifier, or another kind of head, and the tensors of ours are zeros.
    `questions` has, by name, what to give `open_checkpoint` as an answer where something else is right; `notes` are
    sentences on what was done. `declared` says that the file itself names its configuration. `names` has what the file calls
    each tensor that it holds.
    """

    config: ResNetConfig
    state_dict: Mapping[str, Tensor]
    left_out: tuple[str, ...] = ()
    headless: bool = False
    questions: Mapping[str, Question] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    declared: bool = False
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.nbytes for tensor in self.state_dict.values())

    @property
    def words(self) -> tuple[str, ...]:
        """What the file is, in sentences: the network, how it is known, what is missing, left out or assumed."""
        left_out = plain(", ".join(part or "tensors beside it" for part in self.left_out), 200)

        def values(choices: Sequence[Any]) -> str:
            return plain(", ".join(map(to_text, choices)), 200)

        return (
            f"{self._size}.",
            "The file names its configuration." if self.declared else "It is understood by its tensors.",
            *([f"Left out: {left_out}."] if left_out else []),
            *(plain(note, 400) for note in self.notes),
            *(
                f"{name} = {values(asked.choices[:1])} is assumed, of {values(asked.choices)}. {asked.tell}"
                for name, asked in self.questions.items()
            ),
        )

    @property
    def _size(self) -> str:
        theirs = [one for name, one in self.state_dict.items() if not (self.headless and name.startswith("fc."))]
        size = sum(tensor.nbytes for tensor in theirs) / 2**20
        return f"{title(self.config)}: {len(theirs)} tensors, {sum(one.numel() for one in theirs):,} numbers, {size:,.1f} MiB"

    def __repr__(self) -> str:
        """The network and its size in a line, and what is asked."""
        asked = f", asks {', '.join(self.questions)}" if self.questions else ""
        return f"Opened({self._size}{asked})"

    def _repr_html_(self) -> str:
        """In a notebook: its `words`."""
        return "".join(f"<p>{escape(sentence)}</p>" for sentence in self.words)


def with_option_a(opened: Opened, form: str) -> Opened:
    """The same network with this answer to `option_a`, which needs no second look into the file; tensors that the answer
    does not change are shared.
    """
    question = opened.questions.get("option_a")
    if question is None or form == question.choices[0]:
        return opened
    state = dict(opened.state_dict)
    conversion.pad_after(state, opened.config, back=form == AFTER)
    questions = {**opened.questions, "option_a": Question((form, question.choices[0]), question.tell)}
    notes = (*(note for note in opened.notes if note != PADDED), *([PADDED] if form == BOTH else []))
    return replace(opened, state_dict=state, questions=questions, notes=notes)


def fitted(opened: Opened, config: ResNetConfig) -> Mapping[str, Tensor]:
    """The tensors by the names of another configuration: a projection after a pool, where the file does not say whether
    there is one, has another number; the norm outside the blocks stands where the order has it, where the file does not say
    which it is; and what is no classifier has as many zeros as there are classes.

    Whether they fit it is for `mismatches` to say.
    """
    state = opened.state_dict
    if "order" in opened.questions and config.order != opened.config.order:
        state = conversion.in_order(state, config.order)
    step = (config.shortcut == "D") - (opened.config.shortcut == "D")
    if step and "shortcut" in opened.questions:
        state = {PROJECTION.sub(lambda match: str(int(match[0]) + step), name): state[name] for name in state}
    if opened.headless and config.num_classes != opened.config.num_classes:
        weight, count = state["fc.weight"], config.num_classes
        state = {**state, "fc.weight": weight.new_zeros(count, weight.shape[1]), "fc.bias": weight.new_zeros(count)}
    return state


PROJECTION = re.compile(r"(?<=\.downsample\.)\d(?=\.)")
PADDED = "Its shortcuts pad the channels on both sides: they are reordered for ours, which pad after them."
