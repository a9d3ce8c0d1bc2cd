"""How fast the network runs here, and what it is as it is deployed."""

from __future__ import annotations

from . import deployed, latency
from .running import Run


def panel(result: Run) -> None:
    latency.panel(result)
    deployed.panel(result)
