"""`experiments`: what the experiments say of the networks that ship."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from .parameters import Scheduler, results_file, run_by


def experiments(
    scheduler: Scheduler = None, output: Annotated[Path | None, results_file("experiments.json")] = None
) -> None:
    """Measure the networks that ship, as "Why it works" shows them.

    The results are written into a file.

    \b
    resnet-explorer experiments
    resnet-explorer experiments --output results.json
    resnet-explorer experiments --output explorer/samples/experiments.json
    """
    from ..experiments.shipped import MEASUREMENTS, RESULTS, record
    from .progress import progress

    path = output or Path(RESULTS.name)
    with progress("measurements", MEASUREMENTS) as advance:
        for one in record(path, run=run_by(scheduler)):
            advance(f"{one.field} {one.name}".rstrip())
    print(f"{MEASUREMENTS} measurements written to {path}")
