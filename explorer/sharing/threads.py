"""How many threads torch computes on, set for one thread of ours and not for the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import torch

_SETTING = threading.Lock()
"""Who sets the number of threads is the only one to: what torch says meanwhile is of no use to another."""


def threads(number: int) -> int:
    """Let torch compute on so many threads where this is called, and on as many as before everywhere else.

    Returns how many it was here. torch keeps the number for every thread that has asked for it, and hands the last one
    that was set to those that have not. So this thread asks, and another one sets the number back.
    """
    with _SETTING, ThreadPoolExecutor(1) as other:
        here, elsewhere = torch.get_num_threads(), other.submit(torch.get_num_threads).result()
        torch.set_num_threads(number)
        torch.get_num_threads()
        other.submit(torch.set_num_threads, elsewhere).result()
    return here


@contextmanager
def computing_on(number: int | None) -> Iterator[None]:
    """So many threads for torch here and now; as many as before where that is None."""
    before = None if number is None else threads(number)
    try:
        yield
    finally:
        if before is not None:
            threads(before)


def single_thread() -> AbstractContextManager[None]:
    """One thread for torch here and now: small maps gain nothing from more, and lose much where the cores are busy."""
    return computing_on(1)
