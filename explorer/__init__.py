"""Ways of looking at a residual network: trace, cost, receptive field, comparison, diagram, inference."""

from .compare import Comparison, compare
from .images import ImageError, open_image
from .receptive_field import Field
from .trace import Layer, Trace
from .view import trace

__all__ = ["Comparison", "Field", "ImageError", "Layer", "Trace", "compare", "open_image", "trace"]
