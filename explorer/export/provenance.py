"""What an exported file says of itself."""

from __future__ import annotations

from ..link import View, origin


def provenance(view: View, weights: str) -> dict[str, str]:
    """`origin`, the configuration as `resnet.open_checkpoint` reads it, and in words where the weights are from."""
    return origin(view) | {"config": view.config.to_json(), "weights": weights}
