"""Running a network on a picture: preparation, prediction, activations, device, limits."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from resnet import ResNet, title
from resnet.weights import Preprocessing

from .trace import Trace

MAX_WEIGHT_BYTES = 2**30
MAX_ACTIVATION_BYTES = 2**30
MAX_MACS = 40e9
"""What one forward pass on a shared server may take."""

_LOCK = threading.Lock()


@dataclass(frozen=True)
class Turn:
    """A lock that every pass takes, whatever its words: hooks belong to a model that several people share, and memory
    for one pass is what the limits allow. Where memory runs out all the same, what the pass held is let go.

    Raises:
        OutOfMemoryError: on the way out, in place of torch's errors about memory.
    """

    what: str = "What was asked for"
    where: str = "this server"

    def __enter__(self) -> None:
        _LOCK.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        _LOCK.release()
        if error is not None and is_out_of_memory(error):
            traceback.clear_frames(tb)  # else their tensors live as long as the error
            instead = "a smaller image, a smaller network or half precision needs less"
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
                instead += ", and the CPU has memory of its own"
            raise OutOfMemoryError(f"{self.what} needs more memory than {self.where} has free; {instead}.") from None


ONE_AT_A_TIME = Turn()


def copy_of(model: ResNet, share: bool = True) -> ResNet:
    """The same network with modules of its own, to hook or to change; parameters and buffers are the model's unless
    not to `share`.

    It is made in a turn of its own: in somebody's pass the model carries their hooks.
    """
    with ONE_AT_A_TIME:
        tensors = (*model.parameters(), *model.buffers()) if share else ()
        return deepcopy(model, {id(tensor): tensor for tensor in tensors})


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch's means that memory ran out: on the CPU and in cuDNN it has no type of its own."""
    words = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


class OutOfMemoryError(ValueError):
    """A pass for which memory ran out, in one sentence: what was tried, where, and what works instead."""


class TooLargeError(ValueError):
    """A network that can be explored but not run here, in one sentence with estimate and limit."""


def check_runnable(trace: Trace) -> None:
    """Whether a forward pass fits this server.

    Raises:
        TooLargeError: where weights, activations or arithmetic exceed a limit.
    """
    gib, giga = 2**30, 1e9
    estimates = (
        ("its weights take", trace.params * 4, MAX_WEIGHT_BYTES, gib, "GiB"),
        ("a picture's activations take", trace.inference_memory.bytes, MAX_ACTIVATION_BYTES, gib, "GiB"),
        ("a picture takes", trace.macs, MAX_MACS, giga, "GMACs"),
    )
    for what, estimate, limit, unit, name in estimates:
        if estimate > limit:
            raise TooLargeError(
                f"This network is too large to run here: {what} {estimate / unit:,.1f} {name}, "
                f"and the limit is {limit / unit:,.1f} {name}. Everything but running it works."
            )


# -- device -------------------------------------------------------------------------------

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

    def tensor(self, picture: Tensor) -> Tensor:
        """An N×C×H×W picture as a network here takes it."""
        return picture.to(self.torch, self.dtype, memory_format=self.layout)

    def turn(self, model: ResNet, picture: Tensor) -> Turn:
        """The turn of one pass, with words for a failure."""
        shape = "×".join(map(str, picture.shape[1:]))
        return Turn(f"A picture of {shape} through {title(model.config)} in {self.form}", self.name)


def devices() -> list[Device]:
    """Where networks can run, the best first: CUDA if there is one, else MPS; the CPU always."""
    cpu = Device("cpu", f"CPU, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        return [Device("cuda", torch.cuda.get_device_name()), cpu]
    return [Device("mps", "Apple GPU"), cpu] if torch.backends.mps.is_available() else [cpu]


# -- preparation --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture as a network takes it: `seen` are the bytes H×W×C that it really sees, of which pixels and tensor are made
    where they are needed, since they take four times as much.

    `inverted` says whether brightness was inverted first.
    """

    seen: np.ndarray
    inverted: bool
    preprocessing: Preprocessing

    @property
    def pixels(self) -> np.ndarray:
        """H×W×C in 0…1."""
        return self.seen.astype(np.float32) / 255

    @property
    def tensor(self) -> Tensor:
        """1×C×H×W, normalised."""
        mean, std = (torch.tensor(each)[:, None, None] for each in (self.preprocessing.mean, self.preprocessing.std))
        return torch.from_numpy(self.pixels).permute(2, 0, 1).sub_(mean).div_(std)[None]


def prepare(picture: Image.Image, preprocessing: Preprocessing, invert: bool | None = None) -> Prepared:
    """Scale, crop or fit, and normalise an RGB picture to 1×C×H×W.

    `invert` None decides by the border: networks trained on bright objects on black get a
    picture with a bright border inverted.
    """
    grey = len(preprocessing.mean) == 1
    picture = picture.convert("L" if grey else "RGB")
    if invert is None:
        invert = preprocessing.bright_on_dark and border_brightness(picture) > 127
    if invert:
        picture = ImageOps.invert(picture)
    shown = fitted(picture, preprocessing) if preprocessing.fit else cropped(picture, preprocessing)
    seen = np.asarray(shown).reshape(*preprocessing.size, -1)
    channels = len(preprocessing.mean)
    if seen.shape[2] != channels:  # an untrained network of any input depth sees the colours in turn
        seen = seen[:, :, [i % seen.shape[2] for i in range(channels)]]
    return Prepared(seen, invert, preprocessing)


def fitted(picture: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The whole picture in the middle of the background."""
    crop = preprocessing.size[::-1]  # width, height, as pictures have it
    target, side = min(zip(crop, picture.size, strict=True), key=lambda pair: pair[0] / pair[1])
    scaled = [max(1, round(length * target / side)) for length in picture.size]
    background = 0 if preprocessing.bright_on_dark else round(255 * preprocessing.mean[0])
    whole = Image.new(picture.mode, crop, background if picture.mode == "L" else (background,) * 3)
    corner = [(outer - inner) // 2 for outer, inner in zip(crop, scaled, strict=True)]
    whole.paste(picture.resize((scaled[0], scaled[1]), Image.Resampling.BILINEAR), (corner[0], corner[1]))
    return whole


def cropped(picture: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The middle of the picture, scaled as `Preprocessing` says: of a square, as torchvision's ImageClassification.

    Only that middle is computed, so that a very long picture takes no more memory than another.
    """
    crop = preprocessing.size[::-1]  # width, height, as pictures have it
    tight, shortest = max(zip(crop, picture.size, strict=True), key=lambda pair: pair[0] / pair[1])
    target = round(preprocessing.resize * tight / min(crop))
    scaled = [target * side // shortest for side in picture.size]
    (left, right), (top, bottom) = (
        (first * side / after, min((first + size) * side / after, side))
        for size, side, after in zip(crop, picture.size, scaled, strict=True)
        for first in [round((after - size) / 2)]
    )
    return picture.resize(crop, Image.Resampling.BILINEAR, box=(left, top, right, bottom))


def border_brightness(picture: Image.Image) -> float:
    """The mean brightness of a picture's outermost pixels, 0 to 255."""
    small = np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.BOX))
    return float(np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]]).mean())


# -- prediction and activations -----------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Prediction:
    """Class probabilities, the seconds that the forward pass took, and the strongest map of each watched layer.

    A map is H×W, at most 32 pixels on the longer side, of the channel with the largest mean magnitude.
    """

    probabilities: np.ndarray
    seconds: float
    device: Device
    strongest: dict[str, np.ndarray]

    @property
    def finite(self) -> bool:
        """False where activations overflowed, so that the probabilities mean nothing."""
        return bool(np.isfinite(self.probabilities).all())

    def top(self, count: int) -> list[tuple[int, float]]:
        """The most probable classes with their probabilities, the best first."""
        best = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(int(index), float(self.probabilities[index])) for index in best]


HELD_BYTES = 2**28
"""What a pass may hold of watched outputs before it makes them small."""


def predict(model: ResNet, picture: Tensor, device: Device, watched: Sequence[str] = ()) -> Prediction:
    """Run a 1×C×H×W picture once, through a network in the device's form, with an eye on the `watched` layers.

    The time is that of this pass, from the picture on the device to the scores: outputs are held while it runs, and
    looked at after. Only where they exceed `HELD_BYTES` does looking count.

    Raises:
        OutOfMemoryError: where the pass does not fit the device's memory.
    """
    kept: dict[str, Tensor] = {}
    strongest: dict[str, np.ndarray] = {}
    held = 0

    def look() -> None:
        nonlocal held
        strongest.update({name: strongest_map(output[0]) for name, output in kept.items()})
        kept.clear()
        held = 0

    def keep(name: str, output: Tensor) -> None:
        nonlocal held
        kept[name] = output
        held += output.nbytes
        if held > HELD_BYTES:
            look()

    with device.turn(model, picture), torch.inference_mode(), watching(model, watched, keep):
        given = device.tensor(picture)
        synchronise(device)
        start = time.perf_counter()
        scores = model(given)
        synchronise(device)
        seconds = time.perf_counter() - start
        look()
        probabilities = F.softmax(scores[0].float(), dim=0).cpu().numpy()
    return Prediction(probabilities, seconds, device, strongest)


@contextmanager
def watching(model: ResNet, names: Sequence[str], keep: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Inside, each forward pass gives the named layers' outputs to `keep`, in order of execution."""
    with ExitStack() as hooks:
        for name in names:
            handle = model.get_submodule(name).register_forward_hook(
                lambda _, __, output, name=name: keep(name, output)
            )
            hooks.callback(handle.remove)
        yield


def synchronise(device: Device) -> None:
    """Wait for queued work, so that a clock reads what was done."""
    if device.torch == "cuda":
        torch.cuda.synchronize()
    elif device.torch == "mps":
        torch.mps.synchronize()


def strongest_map(output: Tensor) -> np.ndarray:
    """The map of the strongest channel of C×H×W (or of C values), at most 32 pixels on the longer side."""
    maps = output.float() if output.ndim == 3 else output.float().reshape(-1, 1, 1)
    chosen = maps[maps.abs().mean((1, 2)).nan_to_num().argmax()]
    if (longest := max(chosen.shape)) > 32:
        height, width = (max(1, round(32 * side / longest)) for side in chosen.shape)
        chosen = F.adaptive_avg_pool2d(chosen[None], (height, width))[0]
    return chosen.cpu().numpy().copy()  # of the whole output nothing is kept


def activation(model: ResNet, picture: Tensor, layer: str, device: Device) -> np.ndarray:
    """The output of one layer on a 1×C×H×W picture: C×H×W, or C×1×1 where it is no map but C values.

    Raises:
        OutOfMemoryError: where the pass does not fit the device's memory.
    """
    kept: dict[str, Tensor] = {}
    with device.turn(model, picture), torch.inference_mode(), watching(model, [layer], kept.__setitem__):
        model(device.tensor(picture))
        output = kept[layer][0].float()
        return (output if output.ndim == 3 else output.reshape(-1, 1, 1)).cpu().numpy()


def by_strength(maps: np.ndarray) -> np.ndarray:
    """Channel numbers of C×H×W by mean magnitude, the strongest first."""
    return np.argsort(-np.nan_to_num(np.abs(maps).mean((1, 2))), kind="stable")


class Statistics(NamedTuple):
    """An activation in five numbers; `zeros` is the share of exact zeros."""

    mean: float
    std: float
    low: float
    high: float
    zeros: float


def statistics(maps: np.ndarray) -> Statistics:
    return Statistics(
        float(maps.mean()), float(maps.std()), float(maps.min()), float(maps.max()), float((maps == 0).mean())
    )
