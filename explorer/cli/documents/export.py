"""`export`: what was written into a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from resnet import title

from ...link import View, query_text
from .base import Document
from .facts import named_facts


@dataclass(frozen=True)
class Exported(Document):
    """The view that opens the network in a file again, its form, what its weights are ("" where it holds none), and what was
    found out about it."""

    view: View
    kind: str
    file: Path
    weights: str = ""
    found: str = ""

    def text(self) -> str:
        weights = f", weights: {self.weights}" if self.weights else ""
        return f"{title(self.view.config)} written to {self.file}{weights}{self.found}\n"

    def table(self) -> RenderableType:
        return Text(self.text().rstrip())

    def facts(self) -> dict[str, Any]:
        return {
            **named_facts(self.view.config),
            "image_size": self.view.image_size,
            "kind": self.kind,
            "file": str(self.file),
            "bytes": self.file.stat().st_size,
            "query": query_text(self.view),
            "weights": self.weights or None,
        }
