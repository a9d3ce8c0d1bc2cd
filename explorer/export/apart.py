"""What takes seconds and much memory, made in a process of its own at the lowest priority."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from resnet.confined import POLL_SECONDS
from resnet.errors import ExplainedError

from ..inference import turns
from ..sharing.engine import EndedError
from ..sharing.scheduler import PAGES
from ..sharing.worker import WorkerProcess
from .errors import ExportError

Item = TypeVar("Item")


def awaited(process: WorkerProcess, items: Iterator[Item], check: Callable[[], object] | None = None) -> Item:
    """The next item of an iterator in a process of its own, which ends where `check`, or else `turns.waiting`, ends the wait:
    by what it raises, called now and then.

    Raises:
        ExplainedError: whatever the iterator raises of these.
        ExportError: where the process ends, and, with an entry in the log, where the iterator fails otherwise.
        Exception: whatever ends the wait.
    """
    with PAGES.aside(), ThreadPoolExecutor(1) as pool:
        item = pool.submit(next, items)
        try:
            while not wait([item], POLL_SECONDS).done:
                (check or turns.waiting)()
        except BaseException:
            process.end()
            raise
        try:
            return item.result()
        except EndedError as error:
            raise ExportError(f"It cannot be made now: {error}.") from error
        except ExplainedError:
            raise
        except Exception as error:
            logging.getLogger(__name__).exception("What was to be made apart failed")
            raise ExportError("It cannot be made, which is a fault of this program: it is in the log.") from error
