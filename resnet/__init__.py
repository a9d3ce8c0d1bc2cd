"""Residual networks of any configuration, and nothing about looking at them."""

from importlib import import_module
from typing import TYPE_CHECKING

from .config import OPTIONS, ResNetConfig
from .options import ConfigError, Option
from .presets import PRESETS, preset, preset_name, title

if TYPE_CHECKING:
    from .checkpoint import Opened, WeightsError, infer_config, open_checkpoint, read_state_dict
    from .model import ResNet, build

__all__ = [
    "OPTIONS",
    "PRESETS",
    "ConfigError",
    "Opened",
    "Option",
    "ResNet",
    "ResNetConfig",
    "WeightsError",
    "build",
    "infer_config",
    "open_checkpoint",
    "preset",
    "preset_name",
    "read_state_dict",
    "title",
]

_WITH_TORCH = {
    "ResNet": "model",
    "build": "model",
    "Opened": "checkpoint",
    "WeightsError": "checkpoint",
    "infer_config": "checkpoint",
    "open_checkpoint": "checkpoint",
    "read_state_dict": "checkpoint",
}


def __getattr__(name: str) -> object:
    """What needs torch is imported where it is first asked for: that takes seconds, which a configuration does without."""
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_WITH_TORCH[name]}", __name__), name)
