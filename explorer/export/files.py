"""A network with its weights as a file, here or in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from safetensors.torch import load

from resnet import ResNet, ResNetConfig
from resnet.checkpoint import network as network_of
from resnet.command import status
from resnet.options import plain

from ..link import Size, View
from . import onnx
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
PROGRAM = "from explorer.export.files import main; raise SystemExit(main())"


def made_apart(
    kind: str, network: ResNet, image_size: Size, says: Mapping[str, str], folded: bool, seconds: float = SECONDS
) -> bytes:
    """The file of a network that stays as it is, made by a process at the lowest priority: torch.export takes seconds, and
    what it sets is the whole process's. The tensors are handed over by a pipe, so that nothing of them is on a disk.

    Raises:
        ExportError: where it cannot be made, or takes longer than `seconds`.
    """
    order = {
        "kind": kind,
        "image_size": image_size,
        "folded": folded,
        "config": network.config.to_json(),
        "says": dict(says),
    }
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    try:
        ran = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input=json.dumps(order).encode() + b"\n" + safetensors(network, {}),
            capture_output=True,
            env=environment,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise ExportError(f"This file takes more than {seconds:.0f} s to make here: {ELSEWHERE}") from None
    if ran.returncode:
        last = ran.stderr.decode(errors="replace").strip().rpartition("\n")[2].removeprefix("explorer: ")
        raise ExportError(plain(last, 400) or f"This file cannot be made here: {ELSEWHERE}")
    return ran.stdout


def main() -> int:
    """Read an order and tensors from standard input, and write the file to standard output."""
    if hasattr(os, "nice"):
        os.nice(19)
    torch.set_num_threads(1)
    output, sys.stdout = sys.stdout.buffer, sys.stderr  # whoever prints does not write into the file

    def work() -> None:
        head, _, tensors = sys.stdin.buffer.read().partition(b"\n")
        order = json.loads(head)
        network = network_of(ResNetConfig.from_json(order["config"]), load(tensors))
        if order["folded"]:
            network = fold(network)
        output.write(FORMS[order["kind"]](network, tuple(order["image_size"]), order["says"]).file)
        output.flush()

    return status("explorer", work)
