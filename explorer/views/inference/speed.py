"""How fast the network runs here, what it is as it is deployed, and its throughput."""

from __future__ import annotations

from . import deployed, latency, throughput
from .running import Run


def panel(result: Run) -> None:
    """What is measured of the network as it is, then its forms, then many images at once."""
    latency.panel(result)
    deployed.panel(result)
    throughput.panel(result)
