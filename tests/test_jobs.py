"""The queue of long jobs: order, leases, stopping and going on."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from explorer.sharing.engine import EndedError
from explorer.sharing.jobs import DONE, FAILED, RUNNING, STOPPED, WAITING, JobQueue
from explorer.sharing.threads import threads
from helpers import soon, status_of
from resnet import ConfigError
from resnet.shipped import ShippedError


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
def queue(clock: Clock) -> JobQueue[int]:
    return JobQueue(lease=10, patience=100, kept=2, clock=clock)


def state(queue: JobQueue[int], key: str, who: str = "watcher") -> str:
    found = status_of(queue, key, who)
    assert found is not None
    return found.state


def peek(queue: JobQueue[int], key: str) -> tuple[str, list[int]]:
    """State and items without a look, which would renew a lease."""
    job = queue._jobs[key]
    return job.state, list(job.items)


def test_a_job_runs_to_its_end_and_is_kept(queue):
    assert queue.look("a", "anna") is None
    queue.start("a", "anna", lambda: iter(range(5)))
    soon(lambda: state(queue, "a") == DONE)
    assert status_of(queue, "a", "ben").items == (0, 1, 2, 3, 4)
    queue.start("a", "ben", lambda: pytest.fail("it is done"))
    assert state(queue, "a") == DONE


def test_one_at_a_time_in_the_order_of_asking(queue):
    gates = {key: Gate(1) for key in "abc"}
    for key, gate in gates.items():
        queue.start(key, key, gate)
    soon(lambda: state(queue, "a", "a") == RUNNING)
    assert [(status_of(queue, key, key).state, status_of(queue, key, key).ahead) for key in "abc"] == [
        (RUNNING, 0),
        (WAITING, 1),
        (WAITING, 2),
    ]
    for key in "abc":
        soon(lambda key=key: state(queue, key, key) == RUNNING)
        assert queue.current()[0] == key
        assert sum(status_of(queue, other, other).state == RUNNING for other in "abc") == 1
        gates[key].let()
    soon(lambda: state(queue, "c", "c") == DONE)
    assert queue.current() is None


def test_stop_and_resume_goes_on_where_it_was(queue):
    gate = Gate(4)
    queue.start("a", "anna", gate)
    gate.let(2)
    soon(lambda: status_of(queue, "a", "anna").items == (0, 1))
    assert queue.stop("a", "anna")
    gate.let(1)  # the item it was at
    soon(lambda: status_of(queue, "a", "anna").items == (0, 1, 2))
    gate.let(1)
    time.sleep(0.05)
    assert queue.look("a", "anna")[:2] == (STOPPED, (0, 1, 2))
    queue.start("a", "anna", lambda: pytest.fail("it had begun"))
    soon(lambda: state(queue, "a", "anna") == DONE)
    assert status_of(queue, "a", "anna").items == (0, 1, 2, 3)
    assert gate.made == 1


def test_stopped_while_waiting_leaves_the_line(queue):
    first, second, third = Gate(1), Gate(1), Gate(1)
    for key, gate in zip("abc", (first, second, third), strict=True):
        queue.start(key, key, gate)
    assert queue.stop("b", "b")
    assert (status_of(queue, "b", "b").state, status_of(queue, "c", "c").ahead) == (STOPPED, 1)
    first.let()
    soon(lambda: state(queue, "c", "c") == RUNNING)
    third.let()
    soon(lambda: state(queue, "c", "c") == DONE)
    assert second.made == 0


def test_what_others_watch_cannot_be_stopped(queue, clock):
    gate = Gate(1)
    queue.start("a", "anna", gate)
    queue.start("a", "ben", gate)
    assert status_of(queue, "a", "anna").others == 1
    assert not queue.stop("a", "anna")
    clock.now = 5
    queue.look("a", "anna")
    clock.now = 11  # Ben has not looked since
    assert status_of(queue, "a", "anna").others == 0
    assert queue.stop("a", "anna")
    gate.let()


def test_nobody_waiting_lets_an_abandoned_job_finish(queue, clock):
    gate = Gate(2)
    queue.start("a", "anna", gate)
    clock.now = 50
    gate.let(2)
    soon(lambda: peek(queue, "a") == (DONE, [0, 1]))


def test_an_abandoned_job_gives_way_and_goes_on_afterwards(queue, clock):
    left, other = Gate(3), Gate(1)
    queue.start("a", "anna", left)
    left.let()
    soon(lambda: peek(queue, "a") == (RUNNING, [0]))
    queue.start("b", "ben", other)
    left.let()
    soon(lambda: peek(queue, "a") == (RUNNING, [0, 1]))  # Anna's lease holds
    clock.now = 11
    queue.look("b", "ben")
    left.let()  # the item that it was at
    soon(lambda: peek(queue, "b")[0] == RUNNING)
    assert peek(queue, "a") == (WAITING, [0, 1, 2])
    other.let()
    soon(lambda: peek(queue, "a")[0] == DONE)
    assert left.made == 1


def test_who_waits_and_is_there_comes_before_who_left(queue, clock):
    gates = {key: Gate(1) for key in "abc"}
    for key, gate in gates.items():
        queue.start(key, key, gate)
    clock.now = 11
    queue.look("a", "a"), queue.look("c", "c")
    assert status_of(queue, "c", "c").ahead == 1
    gates["a"].let()
    soon(lambda: peek(queue, "c")[0] == RUNNING)
    gates["c"].let()
    soon(lambda: peek(queue, "b")[0] == RUNNING)
    gates["b"].let()
    soon(lambda: peek(queue, "b")[0] == DONE)


def test_starting_another_lets_go_of_the_first(queue):
    first, second = Gate(2), Gate(1)
    queue.start("a", "anna", first)
    soon(lambda: peek(queue, "a")[0] == RUNNING)
    queue.start("b", "anna", second)
    first.let()
    soon(lambda: peek(queue, "b")[0] == RUNNING)
    assert peek(queue, "a") == (WAITING, [0])
    second.let()
    first.let()
    soon(lambda: peek(queue, "a")[0] == DONE)


def test_patience_ends(queue, clock):
    running, waiting = Gate(2), Gate(1)
    queue.start("a", "anna", running)
    queue.start("b", "ben", waiting)
    soon(lambda: peek(queue, "a")[0] == RUNNING)
    clock.now = 101
    running.let()
    soon(lambda: queue._worker is None)
    assert not queue._jobs
    assert waiting.made == 0
    assert queue.look("a", "anna") is None


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
    queue: JobQueue[int] = JobQueue(lease=0, rest=0.3)
    queue.start("a", "anna", numbers)
    soon(lambda: made == [4])
    assert queue.stop("a", "anna")
    go.set()
    assert let_go.acquire(timeout=60)
    soon(lambda: queue._worker is None)
    found = status_of(queue, "a", "anna")
    assert (found.state, found.items) == (STOPPED, (0, 1, 2, 3, 4))
    queue.start("a", "anna", numbers)
    soon(lambda: state(queue, "a", "anna") == DONE)
    assert status_of(queue, "a", "anna").items == tuple(range(9))
    assert made == [5, 9]


def test_a_job_that_takes_its_items_again_says_so_and_can_be_stopped():
    gates = [Gate(5), Gate(5)]
    left = iter(gates)
    queue: JobQueue[int] = JobQueue(lease=0, rest=0.3)
    queue.start("a", "anna", lambda: next(left)())
    gates[0].let(3)
    soon(lambda: len(status_of(queue, "a", "anna").items) == 3)
    assert queue.stop("a", "anna")
    gates[0].let()
    soon(lambda: queue._worker is None)
    queue.start("a", "anna", lambda: pytest.fail("it is known how"))
    gates[1].let(2)
    soon(lambda: status_of(queue, "a", "anna").repeats_left == 2)
    assert status_of(queue, "a", "anna").items == (0, 1, 2, 3)
    assert queue.stop("a", "anna")
    gates[1].let()
    soon(lambda: status_of(queue, "a", "anna").repeats_left == 1)
    assert status_of(queue, "a", "anna").state == STOPPED
    queue.start("a", "anna", lambda: pytest.fail("it is known how"))
    gates[1].let(2)
    soon(lambda: state(queue, "a", "anna") == DONE)
    assert status_of(queue, "a", "anna").items == (0, 1, 2, 3, 4)


def test_a_worker_that_waits_for_a_stopped_job_takes_another_one(queue):
    first = Gate(2)
    queue.start("a", "anna", first)
    first.let()
    soon(lambda: status_of(queue, "a", "anna").items)
    assert queue.stop("a", "anna")
    first.let()
    soon(lambda: len(status_of(queue, "a", "anna").items) == 2)
    queue.start("b", "ben", lambda: iter([1]))
    soon(lambda: state(queue, "b", "ben") == DONE)
    queue.start("a", "anna", lambda: pytest.fail("it had begun"))
    soon(lambda: state(queue, "a", "anna") == DONE)


def test_time_is_what_passes_not_what_a_clock_on_the_wall_says():
    assert inspect.signature(JobQueue).parameters["clock"].default is time.monotonic


def test_only_so_many_are_kept_beside_those_looked_at(queue, clock):
    for now, key in enumerate("abcd"):
        clock.now = now
        queue.start(key, "anna", lambda: iter([1]))
        soon(lambda key=key: peek(queue, key)[0] == DONE)
        soon(lambda: queue._worker is None)
    assert [key for key in "abcd" if queue.look(key, "anna")] == ["b", "c", "d"]


def test_a_failure_is_told_and_the_line_goes_on(queue):
    def broken() -> Iterator[int]:
        yield 1
        raise EndedError("no memory")

    queue.start("a", "anna", broken)
    queue.start("b", "ben", lambda: iter([2]))
    soon(lambda: state(queue, "b") == DONE)
    found = status_of(queue, "a", "anna")
    assert (found.state, found.items, found.error) == (FAILED, (1,), "no memory")
    queue.start("a", "anna", lambda: iter([3]))
    soon(lambda: state(queue, "a") == DONE)
    assert status_of(queue, "a", "anna").items == (3,)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (ShippedError("a.npz is missing: install that again."), "a.npz is missing: install that again"),
        (ConfigError("seed", -1, "0 or more"), "seed = -1 is not accepted: 0 or more"),
        (RuntimeError("no memory"), "RuntimeError: no memory"),
    ],
)
def test_what_speaks_for_itself_is_told_as_the_end_of_a_sentence(queue, failure, words):
    def broken() -> Iterator[int]:
        raise failure
        yield 1

    queue.start("a", "anna", broken)
    soon(lambda: state(queue, "a") == FAILED)
    assert status_of(queue, "a", "anna").error == words


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


def test_who_is_gone_does_not_keep_a_job_going(clock: Clock) -> None:
    """A page that was reloaded watches as somebody else: the one before holds its lease, and yet nothing back."""
    gone: set[str] = set()
    queue: JobQueue[int] = JobQueue(clock=clock, gone=gone.__contains__)
    gate = Gate(3)
    queue.start("a", "before", gate)
    assert status_of(queue, "a", "after").others == 1
    assert not queue.stop("a", "after")
    gone.add("before")
    assert status_of(queue, "a", "after").others == 0
    assert queue.stop("a", "after")
    gate.let(3)
