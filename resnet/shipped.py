"""Files that ship with this package, and checkpoints that describe themselves, as the shipped ones do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from .config import ResNetConfig
from .datasets import DataSet, Preprocessing
from .errors import ExplainedError, WeightsError
from .model import ResNet
from .presets import preset

FOLDER = Path(__file__).parent / "checkpoints"
"""Where the checkpoints ship."""


class ShippedError(ExplainedError, RuntimeError):
    """A file that ships and is missing or damaged, in one sentence."""


@contextmanager
def intact(
    path: Path, kind: type[RuntimeError] = ShippedError, instead: str = "it ships with this app, so install that again"
) -> Iterator[None]:
    """Inside, whatever the reader of a file raises becomes one sentence, which ends on what to do `instead`.

    Raises:
        RuntimeError: of this kind, where the file is missing or damaged.
    """
    try:
        yield
    except Exception as error:  # a damaged file makes its reader raise nearly anything
        raise kind(f"{_wrong(path, error)}: {instead}.") from error


def _wrong(path: Path, error: Exception) -> str:
    """What is wrong with a file, by what reading it raised."""
    if isinstance(error, FileNotFoundError):
        return f"{path.name} is missing"
    if isinstance(error, OSError):
        return f"{path.name} cannot be read ({error.strerror or error})"
    return f"{path.name} is damaged"


BUNDLED: Mapping[str, ResNetConfig] = {
    name: preset(f"{name}_fashion") for name in ("resnet20", "plain20", "resnet56", "plain56")
}
"""The networks whose Fashion-MNIST weights ship with the package."""
NAMES: Mapping[ResNetConfig, str] = {config: name for name, config in BUNDLED.items()}
"""Their names by their configurations."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file says of itself; `accuracy` is the share of test images it gets right."""

    config: ResNetConfig
    data: DataSet
    accuracy: float
    command: str

    def metadata(self) -> dict[str, str]:
        """All of it as a safetensors file holds it: texts by their names."""
        return {
            "config": self.config.to_json(),
            "data": json.dumps({"name": self.data.name, "source": self.data.source, "licence": self.data.licence}),
            "preprocessing": json.dumps(asdict(self.data.preprocessing)),
            "categories": json.dumps(list(self.data.categories)),
            "accuracy": repr(self.accuracy),
            "command": self.command,
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Checkpoint:
        """The inverse of `metadata`."""
        given: dict[str, Any] = json.loads(metadata["preprocessing"])
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        preprocessing = Preprocessing(**given)
        data = DataSet(
            **json.loads(metadata["data"]),
            preprocessing=preprocessing,
            categories=tuple(json.loads(metadata["categories"])),
        )
        config = ResNetConfig.from_json(metadata["config"])
        return cls(config, data, float(metadata["accuracy"]), metadata["command"])


def save_checkpoint(model: nn.Module, checkpoint: Checkpoint, path: Path) -> None:
    """Write weights and their description as safetensors.

    Raises:
        OSError: where the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    try:
        save_file(tensors, path, metadata=checkpoint.metadata())
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written ({error}).") from error


def read_checkpoint(path: Path) -> tuple[ResNet, Checkpoint]:
    """A network in eval mode with the weights of a file that `save_checkpoint` wrote, and its description.

    Raises:
        WeightsError: where the file is missing or damaged.
    """
    with _intact_checkpoint(path), safe_open(path, framework="pt") as file:
        checkpoint = Checkpoint.from_metadata(file.metadata())
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        model = ResNet(checkpoint.config)
        model.load_state_dict(state)
    return model.eval(), checkpoint


def _intact_checkpoint(path: Path) -> AbstractContextManager[None]:
    """`intact` for a checkpoint: what is raised is a WeightsError."""
    ships = "it ships with this app, so install that again; random weights work without it"
    return intact(path, WeightsError, ships if path.parent == FOLDER else "a file that resnet.train wrote is accepted")


def bundled_path(name: str) -> Path:
    """Where the weights of one of `BUNDLED` ship."""
    return FOLDER / f"{name}.safetensors"


def bundled_checkpoint(config: ResNetConfig) -> Checkpoint | None:
    """What the shipped weights of a configuration say of themselves; None where there are none.

    Raises:
        WeightsError: where their file is missing or damaged, as far as its header tells.
    """
    if config not in NAMES:
        return None
    path = bundled_path(NAMES[config])
    with _intact_checkpoint(path), safe_open(path, framework="pt") as file:
        checkpoint = Checkpoint.from_metadata(file.metadata())
        if checkpoint.config != config:
            raise ValueError(f"weights of {checkpoint.config}")
    return checkpoint
