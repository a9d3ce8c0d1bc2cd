"""Where and in which form networks run."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from resnet import ResNet, title

from ..analysis.layers import shape_text
from .turns import MIN_WATCHED_SIZE, Turn

DType = torch.dtype  # inside `Device` the name torch is taken
Layout = torch.memory_format


@dataclass(frozen=True)
class Device:
    """Where and how networks run: torch's name for the place, and one for people; in half precision or in fp32;
    with the channels last in memory (N×H×W×C) or first.
    """

    torch: str
    name: str
    half: bool = False
    channels_last: bool = False

    @property
    def plain(self) -> Device:
        """The same place in fp32, channels first."""
        return replace(self, half=False, channels_last=False)

    @property
    def dtype(self) -> DType:
        """Half precision is bf16 on a CPU, whose fast units know no other, and fp16 elsewhere."""
        if not self.half:
            return torch.float32
        return torch.bfloat16 if self.torch == "cpu" else torch.float16

    @property
    def layout(self) -> Layout:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def form(self) -> str:
        """fp32, or "bf16, channels last"."""
        precision = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[self.dtype]
        return precision + (", channels last" if self.channels_last else "")

    def network(self, model: ResNet) -> ResNet:
        """The same module, changed in place to run here in this form."""
        return model.to(self.torch, self.dtype).to(memory_format=self.layout)

    def tensor(self, image: Tensor) -> Tensor:
        """An N×C×H×W image as a network here takes it."""
        return image.to(self.torch, self.dtype, memory_format=self.layout)

    def turn(self, model: ResNet, image: Tensor) -> Turn:
        """The turn of one pass, with words for a failure; that of a large image is watched."""
        what = f"An image of {shape_text(tuple(image.shape[1:]))} through {title(model.config)} in {self.form}"
        return Turn(what, self.name, model if image.numel() >= MIN_WATCHED_SIZE else None)


def devices() -> list[Device]:
    """Where networks can run, the best first: CUDA if there is one, else MPS; the CPU always."""
    cpu = Device("cpu", f"CPU, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        return [Device("cuda", torch.cuda.get_device_name()), cpu]
    return [Device("mps", "Apple GPU"), cpu] if torch.backends.mps.is_available() else [cpu]


def synchronise(device: Device) -> None:
    """Wait for queued work, so that a clock reads what was done."""
    if device.torch == "cuda":
        torch.cuda.synchronize()
    elif device.torch == "mps":
        torch.mps.synchronize()
