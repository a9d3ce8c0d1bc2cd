"""What an exported file says of itself."""

from __future__ import annotations

from resnet import title

from ..link import View, query_text


def origin(view: View) -> dict[str, str]:
    """Texts by their names: the network, the weights that a link names, and the link that opens what was seen again."""
    weights = {"weights": view.weights} if view.weights else {}
    return {"network": title(view.config)} | weights | {"link": f"?{query_text(view)}", "producer": "ResNet Explorer"}


def provenance(view: View, weights: str) -> dict[str, str]:
    """`origin`, the configuration as `resnet.open_checkpoint` reads it, and in words where the weights are from."""
    return origin(view) | {"config": view.config.to_json(), "weights": weights}
