"""The block diagram as a value: one that can be clicked into where notebooks have widgets, else a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet import ResNetConfig

from ..analysis.trace import Trace
from ..link import trace as trace_network
from . import network as network_drawing
from .svg import Drawing

if TYPE_CHECKING:
    from .widget import Diagram


def diagram(network: Trace | ResNetConfig | str, part: str = "") -> Diagram | Drawing:
    """A network as a diagram that shows itself in a notebook: of a trace, a configuration, a preset's name or a link.

    With anywidget (the extra `notebook`) a click opens a block or a folded stage, the layer that was clicked is `selected`,
    and the pointer is told shapes, parameters and MACs; else it is a picture. Both have `svg()`. With `part` ("stem", a
    block such as "layer2.0", "head", or a layer) that is open, with every layer.

    Raises:
        ConfigError: as `explorer.trace`, and for a part that the network does not have.
    """
    traced = network if isinstance(network, Trace) else trace_network(network)
    network_drawing.check_part(traced, part)
    try:
        from .widget import Diagram
    except ModuleNotFoundError:
        return network_drawing.still(traced, part)
    return Diagram(traced, part)
