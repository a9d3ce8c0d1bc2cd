"""Iterators in a process of their own: its items, errors and ends."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from explorer.bench.browser import ROOT
from explorer.sharing.engine import EndedError
from explorer.sharing.jobs import DONE, FAILED, JobQueue
from explorer.sharing.worker import WorkerProcess
from helpers import soon, status_of, there


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    worker = WorkerProcess()
    with worker.keep_running():
        yield worker


def test_items_come_from_a_process_of_low_priority(worker: WorkerProcess) -> None:
    one, other = worker.run(iter, range(3)), worker.run(map, os.getpriority, [os.PRIO_PROCESS], [0])
    assert next(one) == 0
    assert next(other) == 19
    assert list(one) == [1, 2]
    assert list(other) == []
    assert os.getpriority(os.PRIO_PROCESS, 0) < 19


def test_an_iterator_runs_when_it_is_asked(worker: WorkerProcess, tmp_path: Path) -> None:
    """Lock-step: what nobody asks for is not computed, so that a job which stopped takes no time."""
    made = worker.run(map, os.mkdir, [str(tmp_path / name) for name in "abc"])
    assert not list(tmp_path.iterdir())
    next(made)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    del made
    gc.collect()
    assert list(worker.run(iter, "xy")) == ["x", "y"]
    assert len(list(tmp_path.iterdir())) == 1


def test_an_error_there_is_the_iterators(worker: WorkerProcess) -> None:
    bad = worker.run(map, int, ["1", "one"])
    assert next(bad) == 1
    with pytest.raises(ValueError, match="invalid literal for int"):
        next(bad)
    with pytest.raises(TypeError):
        next(worker.run(iter, 3))
    assert list(worker.run(iter, [5])) == [5]


def test_what_is_printed_there_is_no_answer(worker: WorkerProcess) -> None:
    assert list(worker.run(map, print, ["words"])) == [None]


def test_a_process_that_was_killed() -> None:
    worker = WorkerProcess()
    running = worker.run(iter, range(9))
    assert next(running) == 0
    assert worker._child is not None
    worker._child.kill()
    worker._child.wait()
    again = worker.run(iter, "ab")
    assert next(again) == "a"
    with pytest.raises(EndedError, match="the process that computed has ended"):
        next(running)
    assert list(again) == ["b"]
    assert worker._child is None


def test_a_killed_process_fails_its_job_and_keeps_its_items() -> None:
    worker = WorkerProcess()
    queue: JobQueue[int] = JobQueue(place=worker.keep_running)
    queue.start("a", "anna", lambda: worker.run(map, time.sleep, [0, 0, 60]))
    soon(lambda: len(status_of(queue, "a", "anna").items) == 2)
    assert worker._child is not None
    worker._child.kill()
    soon(lambda: status_of(queue, "a", "anna").state == FAILED)
    found = status_of(queue, "a", "anna")
    assert found.items == (None, None)
    assert found.error == "the process that computed has ended, perhaps for want of memory"
    queue.start("a", "anna", lambda: worker.run(iter, [3]))
    soon(lambda: status_of(queue, "a", "anna").state == DONE)
    assert status_of(queue, "a", "anna").items == (3,)


@pytest.mark.parametrize("end", ["done", "left", "failed"])
def test_the_process_ends_with_its_last_iterator(end: str) -> None:
    worker = WorkerProcess()
    first, last = worker.run(iter, "ab"), worker.run(map, int, ["1", "x"])
    assert (next(first), next(last)) == ("a", 1)
    assert worker._child is not None
    pid = worker._child.pid
    if end == "failed":
        first.close()
        with pytest.raises(ValueError, match="invalid literal"):
            next(last)
    else:
        last.close()
        assert there(pid)
        if end == "done":
            assert list(first) == ["b"]
        first.close()
    assert worker._child is None
    assert not there(pid)


def test_the_process_stays_from_job_to_job_and_ends_with_the_line() -> None:
    """One that stopped holds it, too, while it rests."""
    worker = WorkerProcess()
    queue: JobQueue[int] = JobQueue(lease=0, rest=2, place=worker.keep_running)
    for key, count in (("a", 5), ("b", 5), ("c", 10**9)):
        queue.start(key, key, partial(worker.run, map, os.getpgid, itertools.repeat(0, count)))
    soon(lambda: sum(bool(status_of(queue, key, key).items) for key in "abc") == 3)
    assert queue.stop("c", "c")
    (pid,) = {status_of(queue, key, key).items[0] for key in "abc"}
    assert there(pid)
    soon(lambda: not there(pid))
    soon(lambda: worker._child is None)


def test_the_process_ends_with_what_holds_it() -> None:
    worker = WorkerProcess()
    running = worker.run(iter, "ab")
    next(running)
    assert worker._child is not None
    pid = worker._child.pid
    del worker, running
    gc.collect()
    assert not there(pid)


@pytest.mark.parametrize("end", ["of itself", "SIGKILL"])
def test_it_ends_with_the_one_that_asked_in_the_middle_of_a_step(end: str) -> None:
    script = """
import os, signal, sys, threading, time
from explorer.sharing.worker import WorkerProcess
worker = WorkerProcess()
items = worker.run(map, time.sleep, [0, 600])
next(items)
threading.Thread(target=next, args=(items,), daemon=True).start()
time.sleep(0.5)
print(worker._child.pid, flush=True)
if sys.argv[1] != "of itself":
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ran = subprocess.run([sys.executable, "-c", script, end], cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8")
    pid = int(ran.stdout)
    soon(lambda: not there(pid))
