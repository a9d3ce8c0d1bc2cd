"""Ways of looking at a residual network: trace, cost, receptive field, comparison, diagram, inference."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .compare import Comparison, compare
    from .images import ImageError, open_image
    from .receptive_field import Field
    from .trace import Layer, Trace
    from .view import trace

__version__ = "0.1.0"
__all__ = ["Comparison", "Field", "ImageError", "Layer", "Trace", "compare", "open_image", "trace"]

_MODULES = {
    "Comparison": "compare", "compare": "compare", "ImageError": "images", "open_image": "images",
    "Field": "receptive_field", "Layer": "trace", "Trace": "trace", "trace": "view",
}  # fmt: skip


def __getattr__(name: str) -> object:
    """Everything is imported where it is first asked for: torch takes seconds, which the command line's help does without."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


class _Package(ModuleType):
    """Its functions `compare` and `trace` are not hidden by the modules of these names."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
