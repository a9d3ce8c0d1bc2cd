"""`notebooks`: the notebooks that ship."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnet.command import MissingError, writable

SHIPPED = Path(__file__).parents[1] / "samples" / "notebooks"


def notebooks(
    folder: Annotated[
        Path | None,
        typer.Argument(parser=Path, metavar="FOLDER", show_default=False, help="Without it the current one."),
    ] = None,
) -> None:
    """Write the notebooks that ship into a folder: first-look, compare and look-inside.

    They need Jupyter, and for a diagram that is clicked into anywidget: pip install 'resnet-explorer[notebook]'. A notebook that
    was changed is not written over.

    \b
    resnet-explorer notebooks
    resnet-explorer notebooks notebooks
    resnet-explorer notebooks ~/lecture
    """
    place = folder or Path()
    files = {place / path.name: path.read_bytes() for path in sorted(SHIPPED.glob("*.ipynb"))}
    for path, data in files.items():
        if writable(path).exists() and path.read_bytes() != data:
            raise MissingError(
                f"{path} is another file than the notebook of this name: a folder without it is accepted."
            )
    for path, data in files.items():
        path.write_bytes(data)
    print("\n".join(map(str, files)))
