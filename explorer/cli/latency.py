"""`latency`: how long networks take here, side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from resnet.options import plain

from .degradation import progress
from .parameters import AsJson, Output, Size, parse_view, presets, whole_number

if TYPE_CHECKING:
    from .documents.latency import Machine, Timed

Precision = StrEnum("Precision", ["fp32", "half"])
MAX_BATCH, MAX_REPEATS = 4096, 10_000


def between(least: int, most: int, text: str) -> int:
    """A whole number in a range.

    Raises:
        BadParameter: for another.
    """
    if not least <= (number := whole_number(text)) <= most:
        raise typer.BadParameter(f"{text} is not a whole number from {least} to {most:,}")
    return number


def latency(
    networks: Annotated[
        list[str],
        typer.Argument(
            metavar="NETWORK",
            autocompletion=presets,
            show_default=False,
            help="Preset's names, links, or the parts of them after the question mark.",
        ),
    ],
    size: Size = None,
    batch: Annotated[
        int, typer.Option(parser=lambda text: between(1, MAX_BATCH, str(text)), metavar="COUNT", help="Images at once.")
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            parser=lambda text: between(1, os.cpu_count() or 1, text),
            metavar="COUNT",
            show_default=False,
            help="Threads of torch on a CPU. Without it torch's own choice.",
        ),
    ] = None,
    precision: Annotated[Precision, typer.Option(help="half is bf16 on a CPU and fp16 elsewhere.")] = Precision.fp32,
    repeats: Annotated[
        int,
        typer.Option(
            parser=lambda text: between(2, MAX_REPEATS, str(text)), metavar="COUNT", help="Passes of each that count."
        ),
    ] = 20,
    json: AsJson = False,
    output: Output = None,
) -> None:
    """Measure how long networks take on this machine.

    They take turns, so that what else the machine does slows all alike; each is compared with the first, round by round. A
    network that is named twice shows how far apart equal ones come out. Passes run at a low priority on the best device.

    \b
    resnet-explorer latency resnet50
    resnet-explorer latency resnet50 resnet50d 'block=basic&layers=2-2-2-2' --size 320x640
    resnet-explorer latency resnet18 resnet18 --batch 8 --threads 1 --repeats 50 --json

    --json prints one object; times are in seconds for a batch:

    \b
    schema              1; another number for another form
    batch               images at once
    machine             {device, form, threads, cores, load, torch}: load of the
                        system in the minute before, null where it does not say
    networks            [{name, title, preset, config, image_size, parameters,
                        macs, median, lower, upper, least, most, ratio,
                        seconds}]: lower and upper quartile; all passes in order
    ratio               {median, lower, upper, least, most}: how many times as
                        long as the first network, round by round
    """
    from ..sharing.threads import threads as set_threads
    from .documents.latency import Latency

    before = None if threads is None else set_threads(threads)
    try:
        timed, machine = measured(networks, size, batch, precision, repeats)
    finally:
        if before is not None:
            set_threads(before)
    Latency(timed, machine, batch).write(json, output)


def measured(
    networks: Sequence[str], size: str | None, batch: int, precision: Precision, repeats: int
) -> tuple[list[Timed], Machine]:
    """The networks with their times, and where these were measured.

    Raises:
        ExplainedError: for a network or a size that is not accepted, and where memory runs out.
    """
    import torch

    from resnet.weights import randomly

    from ..analysis.trace import trace
    from ..inference.device import devices
    from ..inference.latency import side_by_side
    from .documents.latency import Machine, Timed

    views = [parse_view(text, size) for text in networks]
    device = replace(devices()[0], half=precision == Precision.half)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    machine = Machine(
        device.name,
        device.form,
        torch.get_num_threads(),
        os.cpu_count() or 1,
        load,
        torch.__version__.partition("+")[0],
    )
    models = [device.network(randomly(view.config)) for view in views]
    shapes = [(batch, view.config.in_channels, *view.image_size) for view in views]
    with progress("rounds", repeats + 1) as advance:
        seconds = side_by_side(models, shapes, device, repeats, lambda share: advance("rounds"))
    names = [plain(text, 80) for text in networks]
    traces = [trace(view.config, view.image_size) for view in views]
    return [Timed(*each) for each in zip(names, traces, map(tuple, seconds), strict=True)], machine
