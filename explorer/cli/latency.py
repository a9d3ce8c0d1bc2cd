"""`latency`: how long networks take here, side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from resnet.options import plain

from .parameters import AsJson, Output, Size, parse_view, presets, whole_number
from .progress import progress

if TYPE_CHECKING:
    from ..inference.device import Device
    from ..inference.latency import Machine, Timed

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
    device: Annotated[
        str | None,
        typer.Option(metavar="DEVICE", show_default=False, help="cpu, cuda or mps. Without it the best that is there."),
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
    network that is named twice shows how far apart equal ones come out. Passes run at a low priority.

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
    from .documents.latency import Latency

    timed, machine = measured(networks, size, device, precision, batch, threads, repeats)
    Latency(timed, machine, batch).write(json, output)


def measured(
    networks: Sequence[str],
    size: str | None,
    device: str | None,
    precision: Precision,
    batch: int,
    threads: int | None,
    repeats: int,
) -> tuple[list[Timed], Machine]:
    """The networks with their times, and where these were measured.

    Raises:
        ExplainedError: for a network or a size that is not accepted, and where memory runs out.
        BadParameter: for a device that is not there.
    """
    from ..analysis.trace import trace
    from ..inference.latency import time_networks

    views = [parse_view(text, size) for text in networks]
    traces = [
        (plain(text, 80), trace(view.config, view.image_size)) for text, view in zip(networks, views, strict=True)
    ]
    form = replace(named_device(device), half=precision == Precision.half)
    with progress("rounds", repeats + 1) as advance:
        return time_networks(traces, form, batch, repeats, threads, lambda share: advance("rounds"))


def named_device(name: str | None) -> Device:
    """A device by torch's name for it, the best without one.

    Raises:
        BadParameter: for one that is not there.
    """
    from ..inference.device import devices

    known = {place.torch: place for place in devices()}
    if name is None:
        return next(iter(known.values()))
    if name not in known:
        raise typer.BadParameter(
            f"device = {plain(name, 20)} is not there: {', '.join(known)} {'are' if len(known) > 1 else 'is'} accepted"
        )
    return known[name]
