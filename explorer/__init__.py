"""Ways of looking at a residual network: trace, cost, receptive field, diagram, inference."""

from .receptive_field import Field
from .trace import Layer, Trace, trace

__all__ = ["Field", "Layer", "Trace", "trace"]
