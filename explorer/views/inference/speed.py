"""How fast the network runs here, and what it is as it is deployed."""

from __future__ import annotations

from . import deployed, latency, throughput
from .running import Run


def panel(result: Run) -> None:
    """What is measured of the network as it is, then its forms."""
    latency.panel(result)
    throughput.panel(result)
    deployed.panel(result)
