"""How far a command is, on standard error: what it works through, and what it downloads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnet import ResNet
    from resnet.huggingface import HubModel
    from resnet.weights import Progress, Weights


def watch(names: Iterable[str], what: str, total: int) -> None:
    """Take all items of some work, each by the name of what was done, with how far it is."""
    with progress(what, total) as advance:
        for name in names:
            advance(name)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar on standard error where that is a terminal; inside, a function says what was done and moves it on, by one or as
    many as it is told."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda description, count=1: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda description, count=1: bar.update(task, advance=count, description=description)


@contextmanager
def downloading(title: str, size: int) -> Iterator[Progress]:
    """Inside, a download of so many bytes tells how far it is, which is shown on standard error."""
    here = 0
    with progress(title, max(1, size >> 20)) as advance:

        def arrived(done: int, total: int) -> None:
            nonlocal here
            advance(f"MiB of {title}", (done >> 20) - here)
            here = done >> 20

        yield arrived


def fetched(weights: Weights) -> ResNet:
    """The network with its weights; where they have to be downloaded, with how far that is on standard error.

    Raises:
        WeightsError: where they cannot be had.
    """
    from resnet.weights import at_hand, load

    if at_hand(weights):
        return load(weights)
    with downloading(weights.title, weights.bytes) as arrived:
        return load(weights, arrived)


def fetched_model(model: HubModel) -> None:
    """Download the weights of a model of the hub, with how far that is on standard error.

    Raises:
        WeightsError: where they cannot be had.
    """
    from resnet.huggingface import download_model

    with downloading(model.id, model.bytes) as arrived:
        download_model(model, arrived)
