"""`memory`: what a batch takes in a prediction and in a step of training, and the largest that fits."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from resnet.options import plain

from .parameters import AsJson, Network, Output, Size, amount, between, parse_view

Precision = StrEnum("Precision", ["fp32", "autocast", "bf16"])
Optimizer = StrEnum("Optimizer", ["sgd", "momentum", "rmsprop", "adam", "adamw"])
MAX_BATCH = 65_536


def room(text: str) -> int:
    """An amount of memory, in bytes.

    Raises:
        BadParameter: for what is none, or less than anything is sold with.
    """
    if (size := amount(text)) < 2**20:
        raise typer.BadParameter(f"{plain(text)} is less than 1 MiB: an amount of bytes such as 24GiB is accepted")
    return size


def memory(
    network: Network,
    size: Size = None,
    batch: Annotated[
        int | None,
        typer.Option(
            parser=lambda text: between(1, MAX_BATCH, text),
            metavar="COUNT",
            show_default=False,
            help="Images at once. Without it the link's, or 32.",
        ),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            show_default=False,
            help="autocast keeps weights in fp32 and most maps in half precision; fp16 takes the same room as bf16. Without it the "
            "link's, or fp32.",
        ),
    ] = None,
    optimizer: Annotated[
        Optimizer | None,
        typer.Option(
            show_default=False,
            help="With torch.optim's own options; momentum is SGD with it. Without it the link's, or momentum.",
        ),
    ] = None,
    within: Annotated[
        int | None,
        typer.Option(
            parser=room,
            metavar="AMOUNT",
            show_default=False,
            help="Memory for the largest batch: 24GiB. Without it the link's, or what GPUs usually have.",
        ),
    ] = None,
    json: AsJson = False,
    output: Output = None,
) -> None:
    """Print what memory a network takes on a GPU, and the largest batch that fits.

    The sizes of all tensors at the peak of a prediction and of a step of training, exactly. Not counted are the loss, what
    cuDNN works in, what torch's allocator rounds up, and what the driver takes.

    \b
    resnet-explorer memory resnet50
    resnet-explorer memory resnet50 --batch 32 --precision bf16 --optimizer adamw --within 24GiB
    resnet-explorer memory 'preset=resnet152&shortcut=D' --size 320x640 --precision autocast --json
    resnet-explorer memory 'preset=resnet50&memory=batch-64_optimizer-adamw' --batch 128

    --json prints one object; sizes are in bytes:

    \b
    schema              1; another number for another form
    title, preset, config, image_size, parameters
    batch, precision, optimizer
    prediction          {peak, when, terms}: the most at once, at which moment,
    training            and what takes it then
    fits                [{memory, prediction, training}]: the largest batch of
                        each within so many bytes, 0 where not one image fits
    """
    from ..analysis.demand import GIB, GPUS, Workload
    from ..analysis.trace import trace
    from .documents.memory import Memory

    seen = parse_view(network, size)
    linked = Workload.from_text(seen.memory)
    asked = replace(
        linked,
        batch=batch or linked.batch,
        precision=precision.value if precision else linked.precision,
        optimizer=optimizer.value if optimizer else linked.optimizer,
    )
    if within is not None:
        memories: tuple[int, ...] = (within,)
    else:
        memories = (linked.memory,) if "within" in linked.given() else tuple(gib * GIB for gib in GPUS)
    traced = trace(seen.config, seen.image_size)
    Memory(
        traced, asked.batch, asked.precision, asked.optimizer, asked.inference(traced), asked.training(traced), memories
    ).write(json, output)
