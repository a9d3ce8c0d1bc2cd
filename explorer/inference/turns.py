"""Passes take turns: one at a time on a thread of their own, within limits of time and memory."""

from __future__ import annotations

import mmap
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from resnet import ResNet
from resnet.errors import ExplainedError

from ..sharing.holdings import HELD
from ..sharing.scheduler import PAGES, FairShare
from ..sharing.store import RESULTS
from ..sharing.threads import threads

Value = TypeVar("Value")

PRIORITY = 10
"""The nice value of the thread that runs passes, and of those that it starts: what people click on comes first."""


class PassError(ExplainedError, ValueError):
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


MIN_TURN_SIZE = 2**22
"""Numbers from which on preparing an image takes about as long as a pass."""


def in_turn(size: int, make: Callable[[], Value]) -> Value:
    """What `make` returns, which works on so many numbers; where they are many, in a turn of its own."""
    return ONE_AT_A_TIME.run(make) if size >= MIN_TURN_SIZE else make()


def step(module: nn.Module, batch: Tensor) -> Tensor:
    """A part of a network on N×C×H×W, in a turn of its own."""

    @torch.inference_mode()
    def run() -> Tensor:
        return module(batch)

    return Turn(model=module if batch.numel() >= MIN_WATCHED_SIZE else None).run(run)


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


MAX_SECONDS, MAX_GROWTH_BYTES = 6.0, 5 * 2**29
"""Computing seconds and bytes after which a turn is ended, whatever was estimated."""
WATCH_SECONDS = 0.02
"""Computing seconds between two looks at what a turn has taken."""
MIN_WATCHED_SIZE = 2**15
"""Numbers in an image from which on its pass is watched."""


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
        if now - self.last < WATCH_SECONDS:
            return
        self.last = now
        took, growth = now - self.start, resident() - kept() - self.before
        for taken, limit, unit in ((took, MAX_SECONDS, "s"), (growth / 2**30, MAX_GROWTH_BYTES / 2**30, "GiB")):
            if taken > limit:
                raise TooLargeError(
                    f"{self.what} was stopped when it had taken {taken:,.1f} {unit}: the limit is {limit:,.1f} {unit}. "
                    "A smaller image works, or a smaller network."
                )


def kept() -> int:
    """Bytes of files and results that the server holds for its visitors."""
    return HELD.bytes + RESULTS.bytes


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
