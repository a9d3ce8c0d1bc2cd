"""`probes`: what can be read from each block of the networks that ship."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from .parameters import DataFolder, Scheduler, results_file, run_by


def probes(
    data: DataFolder = None,
    scheduler: Scheduler = None,
    output: Annotated[Path | None, results_file("probes.json")] = None,
) -> None:
    """Train linear probes on every block of the networks that ship, as "Side by side" shows them.

    The results are written into a file.

    \b
    resnet-explorer probes --data FOLDER
    resnet-explorer probes --data FOLDER --output results.json
    resnet-explorer probes --data FOLDER --output explorer/samples/probes.json
    """
    from resnet.shipped import BUNDLED

    from ..experiments.probes import RESULTS, record
    from .progress import progress

    path = output or Path(RESULTS.name)
    with progress("networks", len(BUNDLED)) as advance:
        for name in record(data, path, run=run_by(scheduler)):
            advance(name)
    print(f"{len(BUNDLED)} networks' probes written to {path}")
