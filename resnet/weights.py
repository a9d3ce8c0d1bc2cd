"""Where weights come from: shipped with this package, torchvision's hub, or chance.

A set of weights is worth nothing without its preprocessing and its labels, so the
three travel together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from .config import ResNetConfig
from .model import ResNet, build
from .options import ConfigError
from .presets import preset, preset_name

FOLDER = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input that a set of weights was trained on.

    The shorter side is scaled to `resize` pixels and the middle `crop` pixels are kept;
    with `fit` the longer side is scaled to `crop` and the rest is background. Then
    (x − mean) / std, x in 0…1, one entry a channel.
    """

    resize: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: bool = False
    bright_on_dark: bool = False
    """Trained on bright objects on black: a picture with a bright border is inverted first."""


@dataclass(frozen=True)
class DataSet:
    """What a network was trained on, as the app states it."""

    name: str
    source: str
    licence: str
    preprocessing: Preprocessing
    categories: tuple[str, ...]

    @property
    def mean(self) -> tuple[float, ...]:
        return self.preprocessing.mean

    @property
    def std(self) -> tuple[float, ...]:
        return self.preprocessing.std


FASHION_MNIST = DataSet(
    name="Fashion-MNIST",
    source="Xiao, Rasul, Vollgraf 2017, https://arxiv.org/abs/1708.07747",
    licence="MIT",
    preprocessing=Preprocessing(28, 28, (0.2860,), (0.3530,), fit=True, bright_on_dark=True),
    categories=(
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
)  # fmt: skip


# -- bundled ------------------------------------------------------------------------------


def _grey(name: str) -> ResNetConfig:
    return preset(name).with_(in_channels=1)[0]


BUNDLED: Mapping[str, ResNetConfig] = {name: _grey(name) for name in ("resnet20", "plain20", "resnet56", "plain56")}
"""The networks whose Fashion-MNIST weights ship with the package."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file says of itself; `accuracy` is the share of test images it gets right."""

    config: ResNetConfig
    data: DataSet
    accuracy: float
    command: str

    def metadata(self) -> dict[str, str]:
        return {
            "config": self.config.to_json(),
            "data": json.dumps(asdict(self.data)),
            "accuracy": repr(self.accuracy),
            "command": self.command,
        }


def save_checkpoint(model: nn.Module, checkpoint: Checkpoint, target: str | Path) -> Path:
    """Write weights and their description as safetensors; a plain name goes to the shipped folder."""
    path = target if isinstance(target, Path) else FOLDER / f"{target}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, path, metadata=checkpoint.metadata())
    return path


def load_bundled(name: str) -> tuple[ResNet, Checkpoint]:
    """A shipped network in eval mode with its weights, and what its file says."""
    return load_checkpoint(FOLDER / f"{name}.safetensors")


def load_checkpoint(path: Path) -> tuple[ResNet, Checkpoint]:
    raise SystemExit
