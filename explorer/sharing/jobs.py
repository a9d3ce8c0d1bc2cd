"""Long work on a server with many people: one job at a time, the others wait in a queue.

A job is an iterator that does a little work for each item that it yields; `engine` has it do so on a worker. It is known by
its key: who asks for the same key watches the same job, and finds its items later. Everyone who looks
renews a lease. A job that nobody looks at any more gives way to those that somebody waits for, and goes on where it was
when its turn comes again. One that stopped lets go of its iterator after a while, and takes its items again from a new
one when it goes on; so does one whose worker or scheduler was lost. So the same job has to give the same items.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, NamedTuple, TypeVar

from resnet.errors import ExplainedError

from .engine import MOST_LOSSES, LostError
from .threads import threads

WAITING, RUNNING, STOPPED, DONE, FAILED = "waiting", "running", "stopped", "done", "failed"

Item = TypeVar("Item")

RELEASE_CHECK_SECONDS = 1.0
"""Seconds between two looks at whether a stopped job has rested long enough."""


class Status(NamedTuple):
    """How a job stands for somebody who looks: its state, and the items so far.

    `ahead` counts the jobs that come before it, the running one included; `others` the other people who look at it
    now; `error` says why it failed, as the end of a sentence; `repeats_left` counts the items that it has and that are made again before it goes on;
    `losses` says what it lost, and how many items it had by then.
    """

    state: str
    items: tuple[Any, ...]
    ahead: int = 0
    others: int = 0
    error: str = ""
    repeats_left: int = 0
    losses: tuple[Loss, ...] = ()


class Loss(NamedTuple):
    """What a job had to begin anew for, as a sentence without its end, and how many items it had by then."""

    reason: str
    items: int


class Job(Generic[Item]):
    """One job. Only its queue changes it, and only the queue's thread asks its iterator for more."""

    def __init__(self, key: Hashable, make: Callable[[], Iterator[Item]]):
        self.key, self.make = key, make
        self.state, self.error = STOPPED, ""
        self.iterator: Iterator[Item] | None = None
        self.items: list[Item] = []
        self.repeats_left = 0
        self.losses: list[Loss] = []
        self.leases: dict[str, float] = {}
        self.touched = 0.0


class JobQueue(Generic[Item]):
    """The jobs of one server. Every method may be called from any thread and returns at once.

    `lease` is how many seconds a look counts as presence, `patience` after how many seconds without any look a job
    that is not done is given up, `rest` after how many seconds without one a stopped job lets go of its iterator, `kept`
    how many jobs are remembered that neither run, wait nor are looked at. Who is `gone` is not present, whatever the lease.
    The worker is inside `place` for as long as there is an iterator.
    """

    def __init__(
        self,
        lease: float = 10,
        patience: float = 900,
        rest: float = 5,
        kept: int = 32,
        clock: Callable[[], float] = time.monotonic,
        place: Callable[[], AbstractContextManager[Any]] = nullcontext,
        gone: Callable[[str], bool] = lambda who: False,
    ):
        self._lease, self._patience, self._rest, self._kept = lease, patience, rest, kept
        self._clock, self._place, self._gone = clock, place, gone
        self._lock = threading.Condition()
        self._jobs: dict[Hashable, Job[Item]] = {}
        self._waiting: list[Job[Item]] = []
        self._worker: threading.Thread | None = None

    def start(self, key: Hashable, who: str, make: Callable[[], Iterator[Item]]) -> None:
        """Put a job into the queue, or one that stopped back into it; a job that failed begins anew.

        It is the only one that `who` is present for from now on.
        """
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.state == FAILED:
                job = self._jobs[key] = Job(key, make)
            for other in self._jobs.values():
                other.leases.pop(who, None)
            self._renew(job, who)
            if job.state == STOPPED:
                job.state = WAITING
                self._waiting.append(job)
            if self._waiting and self._worker is None:
                self._worker = threading.Thread(target=self._work, name="jobs", daemon=True)
                self._worker.start()
            self._lock.notify()

    def stop(self, key: Hashable, who: str) -> bool:
        """Stop a job after the item it is at, unless somebody else looks at it; whether it stopped."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.state not in (WAITING, RUNNING) or self._others(job, who):
                return False
            self._leave(job)
            return True

    def look(self, key: Hashable, who: str) -> Status | None:
        """How a job stands, and that `who` is still there; None for a job that nobody started."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None:
                return None
            self._renew(job, who)
            counts = self._ahead(job), self._others(job, who)
            return Status(job.state, tuple(job.items), *counts, job.error, job.repeats_left, tuple(job.losses))

    def current(self) -> tuple[Hashable, tuple[Item, ...]] | None:
        """The key of the job that runs, and its items."""
        with self._lock:
            return next(((job.key, tuple(job.items)) for job in self._jobs.values() if job.state == RUNNING), None)

    # -- below, the caller holds the lock -------------------------------------------------

    def _renew(self, job: Job[Item], who: str) -> None:
        job.touched = self._clock()
        job.leases[who] = job.touched + self._lease

    def _present(self, job: Job[Item]) -> list[str]:
        now = self._clock()
        return [who for who, until in job.leases.items() if until > now and not self._gone(who)]

    def _others(self, job: Job[Item], who: str) -> int:
        return sum(other != who for other in self._present(job))

    def _ahead(self, job: Job[Item]) -> int:
        if job.state != WAITING:
            return 0
        before = self._waiting[: self._waiting.index(job)]
        running = any(other.state == RUNNING for other in self._jobs.values())
        return running + sum(bool(self._present(other)) for other in before)

    def _leave(self, job: Job[Item]) -> None:
        """Out of the queue, or out of work: the worker looks at the state before each item."""
        if job in self._waiting:
            self._waiting.remove(job)
        job.state = STOPPED

    def _tidy(self) -> None:
        """Forget jobs that nobody has looked at for long."""
        now = self._clock()
        for job in [job for job in self._waiting if now - job.touched > self._patience]:
            self._leave(job)
        idle = [job for job in self._jobs.values() if job not in self._waiting and not self._present(job)]
        idle.sort(key=lambda job: -job.touched)
        for number, job in enumerate(idle):
            if number >= self._kept or (job.state != DONE and now - job.touched > self._patience):
                del self._jobs[job.key]

    def _next(self) -> Job[Item] | None:
        """The first job in the queue that somebody looks at, else the first. Waits while one that stopped has its iterator."""
        self._tidy()
        while not self._waiting:
            begun = [job for job in self._jobs.values() if job.iterator is not None]
            if not begun:
                self._worker = None
                return None
            for job in begun:
                if self._clock() - job.touched > self._rest:
                    job.iterator = None
            self._lock.wait(RELEASE_CHECK_SECONDS)
            self._tidy()
        job = next(filter(self._present, self._waiting), self._waiting[0])
        self._waiting.remove(job)
        job.state = RUNNING
        return job

    def _goes_on(self, job: Job[Item]) -> bool:
        """Whether the running job may take its next item; else it has been stopped, given up or gives way."""
        if job.state == RUNNING and not self._present(job):
            if self._clock() - job.touched > self._patience:
                self._leave(job)
            elif any(map(self._present, self._waiting)):
                job.state = WAITING
                self._waiting.append(job)
        return job.state == RUNNING

    # -- the worker -----------------------------------------------------------------------

    def _work(self) -> None:
        threads(1)
        with self._place():
            while True:
                with self._lock:
                    job = self._next()
                if job is None:
                    return
                self._run(job)
                del job  # one that is given up takes its iterator with it

    def _run(self, job: Job[Item]) -> None:
        while True:
            with self._lock:
                if not self._goes_on(job):
                    return
            state, error = RUNNING, ""
            try:
                if job.iterator is None:
                    job.iterator, job.repeats_left = job.make(), len(job.items)
                item = next(job.iterator)
            except StopIteration:
                state = DONE
            except LostError as failure:
                with self._lock:
                    job.iterator = None
                    job.losses.append(Loss(str(failure), len(job.items)))
                if [loss.items for loss in job.losses].count(len(job.items)) < MOST_LOSSES:
                    continue
                state, error = FAILED, str(failure)
            except ExplainedError as failure:
                state, error = FAILED, str(failure).removesuffix(".")
            except Exception as failure:  # whatever it is, the queue goes on
                state, error = FAILED, f"{type(failure).__name__}: {failure}"
            with self._lock:
                if state == RUNNING and job.repeats_left:
                    job.repeats_left -= 1
                    continue
                if state == RUNNING:
                    job.items.append(item)
                    continue
                if job in self._waiting:  # stopped and started again during its last item
                    self._waiting.remove(job)
                job.state, job.error, job.iterator, job.touched = state, error, None, self._clock()
                return
