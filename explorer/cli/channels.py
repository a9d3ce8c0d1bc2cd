"""`channels`: what every channel of the networks that ship stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from .parameters import DataFolder, Scheduler, results_file, run_by


def channels(
    data: DataFolder = None,
    scheduler: Scheduler = None,
    output: Annotated[Path | None, results_file("channels.npz")] = None,
) -> None:
    """Measure what each channel of the networks that ship stands for.

    The test images that excite it most and least, how it tells classes apart, and what each class loses without it, are written
    into a file.

    \b
    resnet-explorer channels
    resnet-explorer channels --data FOLDER
    resnet-explorer channels --data FOLDER --output explorer/samples/channels.npz
    """
    from ..experiments.channels import CHANNELS, NETWORKS, record
    from .progress import progress

    path = output or Path(CHANNELS.name)
    with progress("networks", NETWORKS) as advance:
        for name in record(path, data, run=run_by(scheduler)):
            advance(name)
    print(f"the channels of {NETWORKS} networks written to {path}")
