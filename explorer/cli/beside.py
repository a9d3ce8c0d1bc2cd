"""`beside`: the networks that ship, beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from .parameters import results_file


def beside(output: Annotated[Path | None, results_file("beside.json")] = None) -> None:
    """Measure how alike the blocks of the networks that ship are, and what these lose with blocks left out or swapped and with
    images moved by a few pixels.

    The results are written into a file.

    \b
    resnet-explorer beside
    resnet-explorer beside --output results.json
    resnet-explorer beside --output explorer/samples/beside.json
    """
    from resnet.shipped import BUNDLED

    from ..experiments.beside import RESULTS, record
    from .degradation import progress

    path = output or Path(RESULTS.name)
    with progress("networks", len(BUNDLED)) as advance:
        for name in record(path):
            advance(name)
    print(f"{len(BUNDLED)} networks measured, written to {path}")
