"""`landscape`: the loss around the shipped networks of 56 layers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .parameters import Scheduler, results_file, run_by, whole_number


def landscape(
    points: Annotated[
        int | None,
        typer.Option(parser=whole_number, metavar="COUNT", show_default=False, help="Along a side. Without it 11."),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(parser=whole_number, metavar="COUNT", show_default=False, help="Test images. Without it 100."),
    ] = None,
    scheduler: Scheduler = None,
    output: Annotated[Path | None, results_file("landscape.json")] = None,
) -> None:
    """Measure the loss around the shipped networks of 56 layers.

    The surfaces, as "Why it works" shows them, are written into a file.

    \b
    resnet-explorer landscape
    resnet-explorer landscape --points 15 --images 128
    resnet-explorer landscape --points 7 --images 32 --output explorer/samples/landscape.json
    """
    from ..experiments.landscape import IMAGES, POINTS, RESULTS, point_count, record
    from .progress import progress

    path = output or Path(RESULTS.name)
    side, count = POINTS if points is None else points, IMAGES if images is None else images
    total = point_count(side)
    with progress("points", total) as advance:
        for what in record(path, side, count, run=run_by(scheduler)):
            advance(what)
    print(f"{total:,} points written to {path}")
