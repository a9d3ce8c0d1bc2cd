"""How many images a second pass through a network here, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from resnet import ResNet, title

from ..analysis.cost import work_macs
from ..analysis.demand import inference_demand
from ..analysis.forms import Form, Precision
from ..analysis.trace import Trace
from ..sharing.store import Progress, no_progress
from .device import Device
from .latency import Spread, noise, rounds_within, spread, time_action
from .limits import MAX_FORWARD_BYTES, MAX_WORK_MACS
from .turns import MIN_WATCHED_SIZE, PassError, Turn

MAX_BATCH = 1024
MAX_PASS_SECONDS = 2.0
"""Of one pass, which others have to wait for."""
BATCH_SECONDS, LEAST_ROUNDS = 1.0, 3
"""Of each batch's passes together, and their least number."""
SHARE_OF_FREE = 0.8
"""Of a GPU's free memory; the rest is for what cuDNN works in."""


class Point(NamedTuple):
    """The seconds of several passes of a batch."""

    batch: int
    seconds: tuple[float, ...]

    @property
    def images_per_second(self) -> Spread:
        """Over the passes."""
        return spread([self.batch / one for one in self.seconds])


class Throughput(NamedTuple):
    """What was measured, smallest batch first, and why no larger one was."""

    points: tuple[Point, ...]
    ended: str

    @property
    def best(self) -> Point:
        """The batch of most images a second, by the median."""
        return max(self.points, key=lambda point: point.images_per_second.median)


MEMORY, TIME, WORK, ENOUGH = (
    "a larger batch does not fit into the memory that there is for it",
    f"a pass of a larger batch would take more than {MAX_PASS_SECONDS:g} s",
    "a larger batch is more work than one pass may be on a server that people share",
    f"batches of up to {MAX_BATCH:,} are measured",
)


def limit(trace: Trace, device: Device) -> tuple[int, str]:
    """The largest batch that may run here, at least 1, and what limits it.

    On a CPU a batch takes no more memory and work than one image may; on a GPU, what is free of its memory.
    """
    if device.torch == "cuda":
        free, _ = torch.cuda.mem_get_info()
        form = Form(Precision.BF16 if device.half else Precision.FP32)
        limits = {MEMORY: inference_demand(trace, form).largest_batch(int(SHARE_OF_FREE * free))}
    else:
        limits = {MEMORY: MAX_FORWARD_BYTES // trace.working_memory, WORK: int(MAX_WORK_MACS / work_macs(trace))}
    why = min(limits, key=limits.__getitem__)
    return (max(1, limits[why]), why) if limits[why] < MAX_BATCH else (MAX_BATCH, ENOUGH)


def doubled(most: int) -> Iterator[int]:
    """1, 2, 4, … up to `most`."""
    batch = 1
    while batch <= most:
        yield batch
        batch *= 2


def throughput(model: ResNet, trace: Trace, device: Device, progress: Progress = no_progress) -> Throughput:
    """Time passes of noise in batches of 1, 2, 4, … as long as memory and time allow, through a network in the device's form.

    Of each batch a pass that is not counted comes first, then as many as fit `BATCH_SECONDS`, `LEAST_ROUNDS` at least, each in a
    turn of its own.

    Raises:
        PassError: where a single image cannot pass.
    """
    most, why = limit(trace, device)
    batches = list(doubled(most))
    points: list[Point] = []
    for number, batch in enumerate(batches):
        progress(number / len(batches))
        if points and 2 * min(points[-1].seconds) > MAX_PASS_SECONDS:
            return Throughput(tuple(points), TIME)
        try:
            points.append(measured(model, trace, device, batch))
        except PassError:
            if not points:
                raise
            return Throughput(tuple(points), MEMORY)
    progress(1.0)
    return Throughput(tuple(points), why)


def measured(model: ResNet, trace: Trace, device: Device, batch: int) -> Point:
    """The seconds of passes of one batch.

    Raises:
        PassError: where it cannot pass.
    """
    shape = (batch, *trace.image_shape)
    watched = torch.Size(shape).numel() >= MIN_WATCHED_SIZE
    what = f"A batch of {batch} images through {title(trace.config)} in {device.form}"
    turn = Turn(what, device.name, model if watched else None)

    @torch.inference_mode()
    def once() -> float:
        images = device.tensor(noise(shape))
        return time_action(lambda: model(images), device)

    turn.run(once)
    first = turn.run(once)
    rounds = max(LEAST_ROUNDS, rounds_within(BATCH_SECONDS, first))
    return Point(batch, (first, *(turn.run(once) for _ in range(rounds - 1))))
