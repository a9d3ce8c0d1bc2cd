"""How far long work is, on standard error where that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


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
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda description, count=1: bar.update(task, advance=count, description=description)
