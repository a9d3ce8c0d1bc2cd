"""What an exported file says of itself."""

from __future__ import annotations

from resnet import title

from ..link import View, query_text


def provenance(view: View, weights: str) -> dict[str, str]:
    """Texts by their names: the network, its configuration as `resnet.open_checkpoint` reads it, where the weights are
    from, and the link that opens the network again."""
    return {
        "network": title(view.config),
        "config": view.config.to_json(),
        "weights": weights,
        "link": f"?{query_text(view)}",
        "producer": "ResNet Explorer",
    }
