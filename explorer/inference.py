"""Running a network on a picture: preparation, prediction, activations, device, limits."""

from __future__ import annotations

import math
import mmap
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn

from resnet import ResNet, title
from resnet.weights import Preprocessing

from . import store
from .cost import gradient_memory, work, working_memory
from .jobs import threads
from .scheduler import PAGES, FairShare
from .trace import Trace, shape_text

# -- turns --------------------------------------------------------------------------------

Value = TypeVar("Value")

PRIORITY = 10
"""The nice value of the thread that runs passes, and of those that it starts: what people click on comes first."""


class PassError(ValueError):
    """A pass that is not made or not finished, in one sentence: what was tried, the limit, and what works instead."""


class OutOfMemoryError(PassError):
    """A pass for which memory ran out."""


class TooLargeError(PassError):
    """A network that can be explored but not run here, or a pass that took more than it may."""


waiting: Callable[[], object] = object
"""Called now and then by a thread that waits for its turn; what it raises ends the wait. A page gives way there."""
user: Callable[[], str] = str
"""For whom a thread works; a page's does for its session."""

_here = threading.local()
"""`pass_under_way` is True in the thread that runs passes."""


def _begin() -> None:
    _here.pass_under_way = True
    if sys.platform == "linux":  # elsewhere a priority is a process's
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PRIORITY)


_WORKER = ThreadPoolExecutor(1, "passes", initializer=_begin)
PASSES = FairShare(1, on_the_clock=True)
"""The worker's place, for one user after the other."""


@dataclass(frozen=True, eq=False)
class Turn:
    """A pass, or a step of many, on the server's one thread for passes; who has lately taken least of it goes first.

    Hooks belong to a model that several people share, and the memory for one pass is what the limits allow. What takes
    long takes a turn for each of its steps, so that others' passes come in between. With a `model`, its convolutions
    look at the time and memory that the turn has taken. Where memory runs out all the same, what the pass held is let
    go. `what` and `where` are the words for that.
    """

    what: str = "What was asked for"
    where: str = "this server"
    model: nn.Module | None = None

    def run(self, function: Callable[[], Value]) -> Value:
        """What `function` returns or raises. It has torch's modes to itself, and as many threads as its caller.

        From within a turn it is called at once, as a part of that. What `waiting` raises before it is called ends the wait,
        and the turn with it.

        Raises:
            OutOfMemoryError: in place of torch's errors about memory.
            TooLargeError: where the turn took more time or memory than a pass may.
        """
        if getattr(_here, "pass_under_way", False):
            return function()
        with PAGES.aside(), PASSES.place(user(), waiting):
            return _WORKER.submit(self._do, function, torch.get_num_threads()).result()

    def _do(self, function: Callable[[], Value], number: int) -> Value:
        if torch.get_num_threads() != number:
            threads(number)
        try:
            with under(Watch(self.what), self.model) if self.model else nullcontext():
                return function()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # else their tensors live as long as the error
            instead = "a smaller image, a smaller network or half precision needs less"
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
                instead += ", and the CPU has memory of its own"
            raise OutOfMemoryError(f"{self.what} needs more memory than {self.where} has free; {instead}.") from None


ONE_AT_A_TIME = Turn()


LONG = 2**22
"""Numbers from which on preparing a picture takes about as long as a pass."""


def in_turn(size: int, make: Callable[[], Value]) -> Value:
    """What `make` returns, which works on so many numbers; where they are many, in a turn of its own."""
    return ONE_AT_A_TIME.run(make) if size >= LONG else make()


def step(module: nn.Module, batch: Tensor) -> Tensor:
    """A part of a network on N×C×H×W, in a turn of its own."""

    @torch.inference_mode()
    def run() -> Tensor:
        return module(batch)

    return Turn(model=module if batch.numel() >= LARGE else None).run(run)


def copy_of(model: ResNet, share: bool = True) -> ResNet:
    """The same network with modules of its own, to hook or to change; parameters and buffers are the model's unless
    not to `share`.

    It is made in a turn of its own: in somebody's pass the model carries their hooks.
    """
    tensors = (*model.parameters(), *model.buffers()) if share else ()
    return ONE_AT_A_TIME.run(lambda: deepcopy(model, {id(tensor): tensor for tensor in tensors}))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch's means that memory ran out: on the CPU and in cuDNN it has no type of its own."""
    words = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


# -- limits -------------------------------------------------------------------------------

MAX_WEIGHT_BYTES = 2**30
MAX_BYTES = 2**30
MAX_GRADIENT_BYTES = 2**31
MAX_WORK = 200e9
"""What one picture on a shared server may take: beside the weights, forward, and forward and back; and in multiply-adds."""

MAX_SECONDS, MAX_GROWTH = 6.0, 5 * 2**29
"""Computing seconds and bytes after which a turn is ended, whatever was estimated."""
LOOK = 0.02
"""Computing seconds between two looks at what a turn has taken."""
LARGE = 2**15
"""Numbers in a picture from which on its pass is watched."""


def check_runnable(trace: Trace) -> None:
    """Whether a forward pass of one picture fits this server.

    Raises:
        TooLargeError: where weights, memory or work exceed a limit.
    """
    within(
        "This network is too large to run here", "Everything but running it works",
        Need("its weights take", trace.params * 4, MAX_WEIGHT_BYTES, "GiB"),
        Need("a picture takes", working_memory(trace), MAX_BYTES, "GiB"),
        Need("its arithmetic and memory traffic take the time of", work(trace), MAX_WORK, "GMACs"),
    )  # fmt: skip


def check_gradients(trace: Trace) -> None:
    """Whether a pass forward and back of one picture, which holds all activations, fits this server.

    Raises:
        TooLargeError: where they exceed the limit.
    """
    within(
        f"Gradients at {shape_text(trace.image_size)} pixels are too large to take here",
        "A smaller image works, or a smaller network",
        Need("activations take", gradient_memory(trace), MAX_GRADIENT_BYTES, "GiB"),
    )


class Need(NamedTuple):
    """What something takes, in words with an estimate, its limit and their unit."""

    what: str
    estimate: float
    limit: float
    unit: str


UNITS = {"GiB": 2**30, "GMACs": 1e9}


def within(refused: str, instead: str, *needs: Need) -> None:
    """
    Raises:
        TooLargeError: where a need is above its limit, in one sentence and what works instead.
    """
    for need in needs:
        if need.estimate > need.limit:
            amounts = [amount / UNITS[need.unit] for amount in (need.estimate, need.limit)]
            estimate, limit = (f"{amount:,.{0 if amount >= 100 else 1}f} {need.unit}" for amount in amounts)
            raise TooLargeError(f"{refused}: {need.what} {estimate}, and the limit is {limit}. {instead}.")


class Watch:
    """What a turn has taken since it began: computing time of its thread, and growth of the server's memory less what
    others' files and results have grown by.

    The estimates are for kernels that are known; this is for the others.
    """

    def __init__(self, what: str):
        self.what, self.before = what, resident() - kept()
        self.start = self.last = time.thread_time()

    def look(self) -> None:
        """
        Raises:
            TooLargeError: where a limit is exceeded, in one sentence.
        """
        now = time.thread_time()
        if now - self.last < LOOK:
            return
        self.last = now
        took, growth = now - self.start, resident() - kept() - self.before
        for taken, limit, unit in ((took, MAX_SECONDS, "s"), (growth / 2**30, MAX_GROWTH / 2**30, "GiB")):
            if taken > limit:
                raise TooLargeError(
                    f"{self.what} was stopped when it had taken {taken:,.1f} {unit}: the limit is {limit:,.1f} {unit}. "
                    "A smaller image works, or a smaller network."
                )


def kept() -> int:
    """Bytes of files and results that the server holds for its visitors."""
    return store.HELD.bytes + store.RESULTS.bytes


def resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0


@contextmanager
def under(watch: Watch, model: nn.Module) -> Iterator[None]:
    """Inside, there is a look after each convolution, on the way back too where that is the turn's own thread's."""

    def look(_: nn.Module, __: object, output: Tensor) -> None:
        watch.look()
        if output.requires_grad and output.device.type == "cpu":
            output.register_hook(lambda _: watch.look())

    with ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                hooks.callback(module.register_forward_hook(look).remove)
        yield


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
        """The turn of one pass, with words for a failure; that of a large picture is watched."""
        what = f"A picture of {shape_text(tuple(picture.shape[1:]))} through {title(model.config)} in {self.form}"
        return Turn(what, self.name, model if picture.numel() >= LARGE else None)


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

        def make() -> Tensor:
            # One copy and no more: a large picture is hundreds of MB.
            channels_first = np.ascontiguousarray(self.seen.transpose(2, 0, 1), dtype=np.float32)
            return torch.from_numpy(channels_first).div_(255).sub_(mean).div_(std)[None]

        return in_turn(self.seen.size, make)


def prepare(picture: Image.Image, preprocessing: Preprocessing, invert: bool | None = None) -> Prepared:
    """Scale, crop or fit, and normalise an RGB picture to 1×C×H×W.

    `invert` None decides by the border: networks trained on bright objects on black get a
    picture with a bright border inverted.
    """
    most = max(math.prod(picture.size), math.prod(preprocessing.size))
    return in_turn(3 * most, lambda: _prepare(picture, preprocessing, invert))


def _prepare(picture: Image.Image, preprocessing: Preprocessing, invert: bool | None) -> Prepared:
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

    @torch.inference_mode()
    def run() -> Prediction:
        with watching(model, watched, keep):
            given = device.tensor(picture)
            synchronise(device)
            start = time.perf_counter()
            scores = model(given)
            synchronise(device)
            seconds = time.perf_counter() - start
        look()
        return Prediction(F.softmax(scores[0].float(), dim=0).cpu().numpy(), seconds, device, strongest)

    return device.turn(model, picture).run(run)


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

    @torch.inference_mode()
    def run() -> np.ndarray:
        with watching(model, [layer], kept.__setitem__):
            model(device.tensor(picture))
        output = kept[layer][0].float()
        return (output if output.ndim == 3 else output.reshape(-1, 1, 1)).cpu().numpy()

    return device.turn(model, picture).run(run)


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
