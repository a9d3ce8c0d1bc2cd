"""Ways of looking at a residual network: trace, cost, receptive field, comparison, diagram, inference."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .analysis.compare import Comparison, compare
    from .analysis.layers import Layer
    from .analysis.receptive_field import Field
    from .analysis.search import Candidate, Fits, Limits, fits, pareto, search
    from .analysis.space import Space
    from .analysis.trace import Trace
    from .drawing.diagram import diagram
    from .drawing.svg import Drawing
    from .inference.explain import Explanation, explain
    from .inference.images import ImageError, open_image
    from .link import trace

__version__ = "0.1.0"
__all__ = [
    "Candidate",
    "Comparison",
    "Drawing",
    "Explanation",
    "Field",
    "Fits",
    "ImageError",
    "Layer",
    "Limits",
    "Space",
    "Trace",
    "compare",
    "diagram",
    "explain",
    "fits",
    "open_image",
    "pareto",
    "search",
    "trace",
]

_MODULES = {
    "Comparison": "analysis.compare",
    "compare": "analysis.compare",
    "Drawing": "drawing.svg",
    "diagram": "drawing.diagram",
    "Explanation": "inference.explain",
    "explain": "inference.explain",
    "ImageError": "inference.images",
    "open_image": "inference.images",
    "Field": "analysis.receptive_field",
    "Layer": "analysis.layers",
    **dict.fromkeys(("Candidate", "Fits", "Limits", "fits", "pareto", "search"), "analysis.search"),
    "Space": "analysis.space",
    "Trace": "analysis.trace",
    "trace": "link",
}


def __getattr__(name: str) -> object:
    """Everything is imported where it is first asked for: torch takes seconds, which the command line's help does without."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
