"""The line of long jobs: order, leases, stopping and going on."""

from __future__ import annotations

import gc
import inspect
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from explorer.bench.browser import ROOT
from explorer.sharing.jobs import DONE, FAILED, RUNNING, STOPPED, WAITING, Apart, EndedError, Line
from explorer.sharing.threads import threads
from helpers import soon, status_of, there


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Gate:
    """Work of `count` items, each of which waits until the test lets it through."""

    def __init__(self, count: int):
        self.count, self.through, self.made = count, threading.Semaphore(0), 0

    def __call__(self) -> Iterator[int]:
        self.made += 1
        for number in range(self.count):
            assert self.through.acquire(timeout=10)
            yield number

    def let(self, count: int = 1) -> None:
        self.through.release(count)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def line(clock: Clock) -> Line[int]:
    return Line(lease=10, patience=100, kept=2, clock=clock)


def state(line: Line[int], key: str, who: str = "watcher") -> str:
    found = status_of(line, key, who)
    assert found is not None
    return found.state


def peek(line: Line[int], key: str) -> tuple[str, list[int]]:
    """State and items without a look, which would renew a lease."""
    job = line._jobs[key]
    return job.state, list(job.items)


def test_a_job_runs_to_its_end_and_is_kept(line):
    assert line.look("a", "anna") is None
    line.start("a", "anna", lambda: iter(range(5)))
    soon(lambda: state(line, "a") == DONE)
    assert status_of(line, "a", "ben").items == (0, 1, 2, 3, 4)
    line.start("a", "ben", lambda: pytest.fail("it is done"))
    assert state(line, "a") == DONE


def test_one_at_a_time_in_the_order_of_asking(line):
    gates = {key: Gate(1) for key in "abc"}
    for key, gate in gates.items():
        line.start(key, key, gate)
    soon(lambda: state(line, "a", "a") == RUNNING)
    assert [(status_of(line, key, key).state, status_of(line, key, key).ahead) for key in "abc"] == [
        (RUNNING, 0),
        (WAITING, 1),
        (WAITING, 2),
    ]
    for key in "abc":
        soon(lambda key=key: state(line, key, key) == RUNNING)
        assert line.current()[0] == key
        assert sum(status_of(line, other, other).state == RUNNING for other in "abc") == 1
        gates[key].let()
    soon(lambda: state(line, "c", "c") == DONE)
    assert line.current() is None


def test_stop_and_resume_goes_on_where_it_was(line):
    gate = Gate(4)
    line.start("a", "anna", gate)
    gate.let(2)
    soon(lambda: status_of(line, "a", "anna").items == (0, 1))
    assert line.stop("a", "anna")
    gate.let(1)  # the item it was at
    soon(lambda: status_of(line, "a", "anna").items == (0, 1, 2))
    gate.let(1)
    time.sleep(0.05)
    assert line.look("a", "anna")[:2] == (STOPPED, (0, 1, 2))
    line.start("a", "anna", lambda: pytest.fail("it had begun"))
    soon(lambda: state(line, "a", "anna") == DONE)
    assert status_of(line, "a", "anna").items == (0, 1, 2, 3)
    assert gate.made == 1


def test_stopped_while_waiting_leaves_the_line(line):
    first, second, third = Gate(1), Gate(1), Gate(1)
    for key, gate in zip("abc", (first, second, third), strict=True):
        line.start(key, key, gate)
    assert line.stop("b", "b")
    assert (status_of(line, "b", "b").state, status_of(line, "c", "c").ahead) == (STOPPED, 1)
    first.let()
    soon(lambda: state(line, "c", "c") == RUNNING)
    third.let()
    soon(lambda: state(line, "c", "c") == DONE)
    assert second.made == 0


def test_what_others_watch_cannot_be_stopped(line, clock):
    gate = Gate(1)
    line.start("a", "anna", gate)
    line.start("a", "ben", gate)
    assert status_of(line, "a", "anna").others == 1
    assert not line.stop("a", "anna")
    clock.now = 5
    line.look("a", "anna")
    clock.now = 11  # Ben has not looked since
    assert status_of(line, "a", "anna").others == 0
    assert line.stop("a", "anna")
    gate.let()


def test_nobody_waiting_lets_an_abandoned_job_finish(line, clock):
    gate = Gate(2)
    line.start("a", "anna", gate)
    clock.now = 50
    gate.let(2)
    soon(lambda: peek(line, "a") == (DONE, [0, 1]))


def test_an_abandoned_job_gives_way_and_goes_on_afterwards(line, clock):
    left, other = Gate(3), Gate(1)
    line.start("a", "anna", left)
    left.let()
    soon(lambda: peek(line, "a") == (RUNNING, [0]))
    line.start("b", "ben", other)
    left.let()
    soon(lambda: peek(line, "a") == (RUNNING, [0, 1]))  # Anna's lease holds
    clock.now = 11
    line.look("b", "ben")
    left.let()  # the item that it was at
    soon(lambda: peek(line, "b")[0] == RUNNING)
    assert peek(line, "a") == (WAITING, [0, 1, 2])
    other.let()
    soon(lambda: peek(line, "a")[0] == DONE)
    assert left.made == 1


def test_who_waits_and_is_there_comes_before_who_left(line, clock):
    gates = {key: Gate(1) for key in "abc"}
    for key, gate in gates.items():
        line.start(key, key, gate)
    clock.now = 11
    line.look("a", "a"), line.look("c", "c")
    assert status_of(line, "c", "c").ahead == 1
    gates["a"].let()
    soon(lambda: peek(line, "c")[0] == RUNNING)
    gates["c"].let()
    soon(lambda: peek(line, "b")[0] == RUNNING)
    gates["b"].let()
    soon(lambda: peek(line, "b")[0] == DONE)


def test_starting_another_lets_go_of_the_first(line):
    first, second = Gate(2), Gate(1)
    line.start("a", "anna", first)
    soon(lambda: peek(line, "a")[0] == RUNNING)
    line.start("b", "anna", second)
    first.let()
    soon(lambda: peek(line, "b")[0] == RUNNING)
    assert peek(line, "a") == (WAITING, [0])
    second.let()
    first.let()
    soon(lambda: peek(line, "a")[0] == DONE)


def test_patience_ends(line, clock):
    running, waiting = Gate(2), Gate(1)
    line.start("a", "anna", running)
    line.start("b", "ben", waiting)
    soon(lambda: peek(line, "a")[0] == RUNNING)
    clock.now = 101
    running.let()
    soon(lambda: line._worker is None)
    assert not line._jobs
    assert waiting.made == 0
    assert line.look("a", "anna") is None


def test_a_stopped_job_rests_and_then_takes_its_items_again():
    made, let_go = [], threading.Semaphore(0)

    def numbers() -> Iterator[int]:
        made.append(0)
        try:
            for number in range(9):
                assert number < 4 or go.wait(60)
                made[-1] += 1
                yield number
        finally:
            let_go.release()

    go = threading.Event()
    line: Line[int] = Line(lease=0, rest=0.3)
    line.start("a", "anna", numbers)
    soon(lambda: made == [4])
    assert line.stop("a", "anna")
    go.set()
    assert let_go.acquire(timeout=60)
    soon(lambda: line._worker is None)
    found = status_of(line, "a", "anna")
    assert (found.state, found.items) == (STOPPED, (0, 1, 2, 3, 4))
    line.start("a", "anna", numbers)
    soon(lambda: state(line, "a", "anna") == DONE)
    assert status_of(line, "a", "anna").items == tuple(range(9))
    assert made == [5, 9]


def test_a_job_that_takes_its_items_again_says_so_and_can_be_stopped():
    gates = [Gate(5), Gate(5)]
    left = iter(gates)
    line: Line[int] = Line(lease=0, rest=0.3)
    line.start("a", "anna", lambda: next(left)())
    gates[0].let(3)
    soon(lambda: len(status_of(line, "a", "anna").items) == 3)
    assert line.stop("a", "anna")
    gates[0].let()
    soon(lambda: line._worker is None)
    line.start("a", "anna", lambda: pytest.fail("it is known how"))
    gates[1].let(2)
    soon(lambda: status_of(line, "a", "anna").again == 2)
    assert status_of(line, "a", "anna").items == (0, 1, 2, 3)
    assert line.stop("a", "anna")
    gates[1].let()
    soon(lambda: status_of(line, "a", "anna").again == 1)
    assert status_of(line, "a", "anna").state == STOPPED
    line.start("a", "anna", lambda: pytest.fail("it is known how"))
    gates[1].let(2)
    soon(lambda: state(line, "a", "anna") == DONE)
    assert status_of(line, "a", "anna").items == (0, 1, 2, 3, 4)


def test_a_worker_that_waits_for_a_stopped_job_takes_another_one(line):
    first = Gate(2)
    line.start("a", "anna", first)
    first.let()
    soon(lambda: status_of(line, "a", "anna").items)
    assert line.stop("a", "anna")
    first.let()
    soon(lambda: len(status_of(line, "a", "anna").items) == 2)
    line.start("b", "ben", lambda: iter([1]))
    soon(lambda: state(line, "b", "ben") == DONE)
    line.start("a", "anna", lambda: pytest.fail("it had begun"))
    soon(lambda: state(line, "a", "anna") == DONE)


def test_time_is_what_passes_not_what_a_clock_on_the_wall_says():
    assert inspect.signature(Line).parameters["clock"].default is time.monotonic


def test_only_so_many_are_kept_beside_those_looked_at(line, clock):
    for now, key in enumerate("abcd"):
        clock.now = now
        line.start(key, "anna", lambda: iter([1]))
        soon(lambda key=key: peek(line, key)[0] == DONE)
        soon(lambda: line._worker is None)
    assert [key for key in "abcd" if line.look(key, "anna")] == ["b", "c", "d"]


def test_a_failure_is_told_and_the_line_goes_on(line):
    def broken() -> Iterator[int]:
        yield 1
        raise RuntimeError("no memory")

    line.start("a", "anna", broken)
    line.start("b", "ben", lambda: iter([2]))
    soon(lambda: state(line, "b") == DONE)
    found = status_of(line, "a", "anna")
    assert (found.state, found.items, found.error) == (FAILED, (1,), "no memory")
    line.start("a", "anna", lambda: iter([3]))
    soon(lambda: state(line, "a") == DONE)
    assert status_of(line, "a", "anna").items == (3,)


def test_one_thread_is_this_thread_only():
    """In the worker torch counts one thread, in old and new threads as many as before."""
    before, found = torch.get_num_threads(), {}
    torch.set_num_threads(2)
    leave = threading.Event()

    def worker() -> None:
        threads(1)
        found["worker"] = torch.get_num_threads()
        assert leave.wait(10)
        found["worker later"] = torch.get_num_threads()

    def visitor() -> None:
        found["visitor"] = torch.get_num_threads()

    try:
        first, second = threading.Thread(target=worker), threading.Thread(target=visitor)
        first.start()
        soon(lambda: "worker" in found)
        second.start()
        second.join()
        found["here"] = torch.get_num_threads()
        leave.set()
        first.join()
    finally:
        torch.set_num_threads(before)
    assert found == {"worker": 1, "visitor": 2, "here": 2, "worker later": 1}


# -- in another process -------------------------------------------------------------------


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    apart = Apart()
    with apart.kept():
        yield apart


def test_items_come_from_a_process_of_low_priority(apart: Apart) -> None:
    one, other = apart.run(iter, range(3)), apart.run(map, os.getpriority, [os.PRIO_PROCESS], [0])
    assert next(one) == 0
    assert next(other) == 19
    assert list(one) == [1, 2]
    assert list(other) == []
    assert os.getpriority(os.PRIO_PROCESS, 0) < 19


def test_an_iterator_runs_when_it_is_asked(apart: Apart, tmp_path: Path) -> None:
    """Lock-step: what nobody asks for is not computed, so that a job which stopped takes no time."""
    made = apart.run(map, os.mkdir, [str(tmp_path / name) for name in "abc"])
    assert not list(tmp_path.iterdir())
    next(made)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    del made
    gc.collect()
    assert list(apart.run(iter, "xy")) == ["x", "y"]
    assert len(list(tmp_path.iterdir())) == 1


def test_an_error_there_is_the_iterators(apart: Apart) -> None:
    bad = apart.run(map, int, ["1", "one"])
    assert next(bad) == 1
    with pytest.raises(ValueError, match="invalid literal for int"):
        next(bad)
    with pytest.raises(TypeError):
        next(apart.run(iter, 3))
    assert list(apart.run(iter, [5])) == [5]


def test_what_is_printed_there_is_no_answer(apart: Apart) -> None:
    assert list(apart.run(map, print, ["words"])) == [None]


def test_a_process_that_was_killed() -> None:
    apart = Apart()
    running = apart.run(iter, range(9))
    assert next(running) == 0
    assert apart._child is not None
    apart._child.kill()
    apart._child.wait()
    again = apart.run(iter, "ab")
    assert next(again) == "a"
    with pytest.raises(EndedError, match="the process that computed has ended"):
        next(running)
    assert list(again) == ["b"]
    assert apart._child is None


def test_a_killed_process_fails_its_job_and_keeps_its_items() -> None:
    apart = Apart()
    line: Line[int] = Line(place=apart.kept)
    line.start("a", "anna", lambda: apart.run(map, time.sleep, [0, 0, 60]))
    soon(lambda: len(status_of(line, "a", "anna").items) == 2)
    assert apart._child is not None
    apart._child.kill()
    soon(lambda: state(line, "a", "anna") == FAILED)
    found = status_of(line, "a", "anna")
    assert found.items == (None, None)
    assert found.error == "the process that computed has ended, perhaps for want of memory"
    line.start("a", "anna", lambda: apart.run(iter, [3]))
    soon(lambda: state(line, "a", "anna") == DONE)
    assert status_of(line, "a", "anna").items == (3,)


@pytest.mark.parametrize("end", ["done", "left", "failed"])
def test_the_process_ends_with_its_last_iterator(end: str) -> None:
    apart = Apart()
    first, last = apart.run(iter, "ab"), apart.run(map, int, ["1", "x"])
    assert (next(first), next(last)) == ("a", 1)
    assert apart._child is not None
    pid = apart._child.pid
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
    assert apart._child is None
    assert not there(pid)


def test_the_process_stays_from_job_to_job_and_ends_with_the_line() -> None:
    """One that stopped holds it, too, while it rests."""
    apart = Apart()
    line: Line[int] = Line(lease=0, rest=2, place=apart.kept)
    for key, count in (("a", 5), ("b", 5), ("c", 10**9)):
        line.start(key, key, partial(apart.run, map, os.getpgid, itertools.repeat(0, count)))
    soon(lambda: sum(bool(status_of(line, key, key).items) for key in "abc") == 3)
    assert line.stop("c", "c")
    (pid,) = {status_of(line, key, key).items[0] for key in "abc"}
    assert there(pid)
    soon(lambda: not there(pid))
    soon(lambda: apart._child is None)


def test_the_process_ends_with_what_holds_it() -> None:
    apart = Apart()
    running = apart.run(iter, "ab")
    next(running)
    assert apart._child is not None
    pid = apart._child.pid
    del apart, running
    gc.collect()
    assert not there(pid)


@pytest.mark.parametrize("end", ["of itself", "SIGKILL"])
def test_it_ends_with_the_one_that_asked_in_the_middle_of_a_step(end: str) -> None:
    script = """
import os, signal, sys, threading, time
from explorer.sharing.jobs import Apart
apart = Apart()
items = apart.run(map, time.sleep, [0, 600])
next(items)
threading.Thread(target=next, args=(items,), daemon=True).start()
time.sleep(0.5)
print(apart._child.pid, flush=True)
if sys.argv[1] != "of itself":
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ran = subprocess.run([sys.executable, "-c", script, end], cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8")
    pid = int(ran.stdout)
    soon(lambda: not there(pid))
