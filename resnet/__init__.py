"""Residual networks of any configuration, and nothing about looking at them."""

from .checkpoint import WeightsError, infer_config, read_state_dict
from .config import OPTIONS, ResNetConfig
from .model import ResNet, build
from .options import ConfigError, Option
from .presets import PRESETS, preset, preset_name, title

__all__ = [
    "OPTIONS",
    "PRESETS",
    "ConfigError",
    "Option",
    "ResNet",
    "ResNetConfig",
    "WeightsError",
    "build",
    "infer_config",
    "preset",
    "preset_name",
    "read_state_dict",
    "title",
]
