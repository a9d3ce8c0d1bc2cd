"""Ways of looking at a residual network: trace, cost, receptive field, comparison, diagram, inference."""

from .analysis.compare import Comparison, compare
from .analysis.layers import Layer
from .analysis.receptive_field import Field
from .analysis.trace import Trace
from .inference.decode import ImageError
from .inference.images import open_image
from .link import trace

__all__ = ["Comparison", "Field", "ImageError", "Layer", "Trace", "compare", "open_image", "trace"]
