"""`degradation`: what plain and residual networks came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from ...experiments.degradation import Settings, TrainingRun, summarise
from .base import Document


@dataclass(frozen=True)
class Degradation(Document):
    """Runs by their settings without the seed, and the file that they were written into."""

    groups: Mapping[Settings, Sequence[TrainingRun]]
    file: Path

    @property
    def seeds(self) -> list[int]:
        """The seeds with which networks were trained."""
        return sorted({run.settings.seed for runs in self.groups.values() for run in runs})

    def text(self) -> str:
        lines = [
            f"{settings.steps:5} steps  {row.network.name:12}  training loss {row.loss.mean:.3f} "
            f"({row.loss.low:.3f} to {row.loss.high:.3f})  test accuracy {row.accuracy.mean:.1%}"
            for settings, runs in self.groups.items()
            for row in summarise(runs).rows
        ]
        return "\n".join([*lines, f"{len(self.seeds)} seeds, written to {self.file}", ""])

    def table(self) -> RenderableType:
        return Text(self.text().rstrip())

    def facts(self) -> dict[str, Any]:
        return {
            "file": str(self.file),
            "seeds": self.seeds,
            "runs": [
                {
                    "steps": settings.steps,
                    "settings": settings.to_text(),
                    "networks": [
                        {
                            "name": row.network.name,
                            "kind": row.network.kind,
                            "depth": row.network.depth,
                            "loss": row.loss._asdict(),
                            "accuracy": row.accuracy._asdict(),
                            "seconds": row.seconds._asdict(),
                        }
                        for row in summarise(runs).rows
                    ],
                }
                for settings, runs in self.groups.items()
            ],
        }
