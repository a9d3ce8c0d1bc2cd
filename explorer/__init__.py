"""Ways of looking at a residual network: trace, cost, receptive field, diagram, inference."""

from .images import ImageError, open_image
from .receptive_field import Field
from .trace import Layer, Trace, trace

__all__ = ["Field", "ImageError", "Layer", "Trace", "open_image", "trace"]
