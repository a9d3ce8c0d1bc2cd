"""torch.compile, in a process of its own: it takes a core for many seconds, and leaves what it generated in memory.

What is here runs in that process, in one iterator after the other; the network stays between them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from resnet import ResNet, ResNetConfig

from ..inference.device import Device
from ..inference.latency import second_pass
from .errors import ExportError


class _Compiled(NamedTuple):
    network: ResNet
    run: Callable[[Tensor], Tensor]
    device: Device


_made: list[_Compiled] = []


def compile_apart(
    config: ResNetConfig,
    tensors: Mapping[str, Tensor],
    device: Device,
    image: Tensor,
    threads: int,
    folder: str,
    backend: str = "inductor",
) -> Iterator[bool]:
    """Compile a network for 1×C×H×W images and run it once; generated files go into a folder.

    Raises:
        ExportError: where that cannot be done here.
    """
    os.environ |= {"TORCHINDUCTOR_CACHE_DIR": folder, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    torch.set_num_threads(threads)
    network = ResNet(config)
    network.load_state_dict(dict(tensors))
    network = device.network(network.eval().requires_grad_(False))
    try:
        run: Any = torch.compile(network, dynamic=False, backend=backend)
        with torch.inference_mode():
            run(device.tensor(image))
    except Exception as error:  # whatever a compiler or its absence raises
        raise ExportError(f"torch.compile does not work here: {reason(error)}") from None
    _made[:] = [_Compiled(network, run, device)]
    yield True


def reason(error: Exception) -> str:
    """Why torch.compile failed, as the end of a sentence: for want of a compiler, or its own first words."""
    words = f"{type(error).__name__}: {error}"
    if "CppCompiler" in words or "No working C++ compiler" in words:
        return "it generates C++, and no compiler such as g++ or clang++ was found."
    return " ".join(words.split())[:200].rstrip(".") + "."


def time_apart(image: Tensor) -> Iterator[tuple[float, float]]:
    """Seconds of a pass over a 1×C×H×W image as the network is, and compiled."""
    (made,) = _made
    given = made.device.tensor(image)
    yield second_pass(made.network, given, made.device), second_pass(made.run, given, made.device)


def scores_apart(images: Tensor) -> Iterator[Tensor]:
    """The compiled network's scores for N×C×H×W images, one after the other, as it was compiled for one."""
    (made,) = _made
    with torch.inference_mode():
        found = torch.cat([made.run(made.device.tensor(image)).float().cpu() for image in images.split(1)])
    yield found.clone()  # no tensor of the inference mode, which cannot be sent
