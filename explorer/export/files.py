"""A network with its weights as a file, here or in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from resnet import ResNet, ResNetConfig
from resnet.checkpoint import network as network_of

from ..link import Size, View
from ..sharing.worker import WorkerProcess
from . import onnx
from .apart import awaited
from .errors import ExportError
from .folding import fold, folded_config
from .weights import program, safetensors


class Made(NamedTuple):
    """A file, and what was found out about it, for the end of a sentence."""

    file: bytes
    found: str = ""


def _onnx(network: ResNet, image_size: Size, says: Mapping[str, str]) -> Made:
    file = onnx.model(network, image_size, says)
    found = onnx.checked(file, network, image_size)
    return Made(file, f"; in onnxruntime its scores differ by {found:.0e} of the largest")


FORMS: dict[str, Callable[[ResNet, Size, Mapping[str, str]], Made]] = {
    "onnx": _onnx,
    "pt2": lambda network, image_size, says: Made(program(network, image_size, says)),
    "safetensors": lambda network, image_size, says: Made(safetensors(network, says)),
}
"""What holds weights: ONNX, a program of torch.export, the state dict."""


def as_taken(view: View, words: str, folded: bool) -> tuple[View, str]:
    """The view that opens a network again, and where its weights are from in words, once it may be `folded`.

    Raises:
        ExportError: where it is to be and cannot be.
    """
    if not folded:
        return view, words
    return replace(view, config=folded_config(view.config), weights=""), f"{words}, batch norms folded"


# -- in a process of its own --------------------------------------------------------------

SECONDS = 120.0
"""How long a file may take there, on the clock."""
ELSEWHERE = "`resnet-explorer export` makes it on your own machine."


def made_apart(
    kind: str, network: ResNet, image_size: Size, says: Mapping[str, str], folded: bool, seconds: float = SECONDS
) -> bytes:
    """The file of a network that stays as it is, made by a process of its own: torch.export takes seconds, and what it sets is
    the whole process's. The tensors are handed over by a pipe, so that nothing of them is on a disk.

    Raises:
        ExplainedError: where it cannot be made, or takes longer than `seconds`.
    """
    end = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() > end:
            raise ExportError(f"This file takes more than {seconds:.0f} s to make here: {ELSEWHERE}")

    process = WorkerProcess()
    given = kind, network.config, network.state_dict(), image_size, dict(says), folded
    return awaited(process, process.run(making, *given), check)


def making(
    kind: str,
    config: ResNetConfig,
    tensors: Mapping[str, Tensor],
    image_size: Size,
    says: Mapping[str, str],
    folded: bool,
) -> Iterator[bytes]:
    """The file of a network, as the one item of an iterator."""
    network = network_of(config, tensors)
    yield FORMS[kind](fold(network) if folded else network, image_size, says).file
