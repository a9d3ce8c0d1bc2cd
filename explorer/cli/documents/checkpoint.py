"""`checkpoint`: what a checkpoint file is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from resnet import Opened, ResNetConfig, build, preset_name, title
from resnet.checkpoint import not_finite
from resnet.options import plain, to_text
from resnet.weights import Weights, own_weights

from ...inference.checkpoint import assumptions_text, cannot_run, in_order, said_of
from ...link import View, natural_size, query_text
from .base import Document, figures, folding
from .facts import named_facts, preprocessing_facts


@dataclass(frozen=True)
class Checkpoint(Document):
    """A checkpoint of a name that was read with a person's answers: its network, then what was left out, done and assumed."""

    name: str
    opened: Opened
    answers: Mapping[str, str]

    @property
    def figures(self) -> list[tuple[str, str]]:
        """What it is, each with its name."""
        opened = self.opened
        tensors = [tensor for name, tensor in opened.state_dict.items() if name in opened.names]
        renamed = next(
            (f"{plain(there, 80)} for {here}, and so on" for here, there in opened.names.items() if here != there), ""
        )
        return [
            ("network", title(opened.config)),
            ("known by", "what the file says" if opened.declared else "names and shapes of its tensors"),
            ("typed as", query(opened.config)),
            ("depth", str(opened.config.depth)),
            ("parameters", f"{parameters(opened.config):,}"),
            ("classes", "no classifier" if opened.headless else f"{opened.config.num_classes:,}"),
            ("tensors", f"{len(tensors)} of {sum(tensor.numel() for tensor in tensors):,} numbers"),
            ("names", renamed or "as torchvision's networks have them"),
        ]

    @property
    def lines(self) -> list[str]:
        """What was left out, done and assumed, a line each."""
        opened = self.opened
        lines = [*said_of(opened, self.answers), *(plain(note, 400) for note in opened.notes)]
        if broken := not_finite(opened.state_dict):
            lines.append(f"{cannot_run(broken)}.")
        if opened.questions:
            lines += ["", "Assumed until --answer says otherwise, as no tensor shows it:"]
        for asked, question in in_order(opened):
            first, *others = map(plain, map(to_text, question.choices))
            lines.append(f"{asked}={first}, or {', '.join(others)}. {question.tell}" if others else f"{asked}={first}")
        return [*lines, "", assumptions_text(self.weights)]

    @property
    def weights(self) -> Weights:
        """Its weights, with what is assumed of the data."""
        config = self.opened.config
        return own_weights(config, natural_size(config), self.name, "", self.opened.headless)

    def text(self) -> str:
        rows = [f"{key:12} {value}" for key, value in self.figures]
        return "\n".join([plain(self.name, 80), *rows, "", *self.lines, ""]).replace("\n\n\n", "\n\n")

    def table(self) -> RenderableType:
        """Names of tensors fold where they are too long."""
        shown = folding(figures(self.figures), column=1)
        return Group(Text(plain(self.name, 80), style="bold"), shown, "", *map(Text, self.lines))

    def facts(self) -> dict[str, Any]:
        opened, data = self.opened, self.weights.data
        return {
            "file": self.name,
            **named_facts(opened.config),
            "query": query(opened.config),
            "declared": opened.declared,
            "depth": opened.config.depth,
            "parameters": parameters(opened.config),
            "classes": None if opened.headless else opened.config.num_classes,
            "left_out": opened.left_out,
            "questions": [
                {"name": name, "assumed": question.choices[0], "choices": question.choices, "tell": question.tell}
                for name, question in in_order(opened)
            ],
            "notes": opened.notes,
            "not_finite": not_finite(opened.state_dict),
            "data": data.name,
            "preprocessing": preprocessing_facts(data.preprocessing),
            "tensors": [
                {"name": name, "shape": list(tensor.shape), "stored_as": opened.names.get(name)}
                for name, tensor in opened.state_dict.items()
            ],
        }


def query(config: ResNetConfig) -> str:
    """What a network is typed as, by its preset's name where it has one."""
    return preset_name(config) or query_text(View(config, natural_size(config)))


def parameters(config: ResNetConfig) -> int:
    return sum(parameter.numel() for parameter in build(config, "meta").parameters())
