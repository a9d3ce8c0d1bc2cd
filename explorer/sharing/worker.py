"""Iterators that run in a process of their own, of the lowest priority: on this machine, whatever cluster the server's owner
names (`engine`), and alone, so that one that takes too long is ended in the midst of a step."""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, TypeVar

import torch

from .engine import NO_PROCESS, ROOT, EndedError, cannot_start, end_process

Item = TypeVar("Item")


class WorkerProcess:
    """A process of its own, of the lowest priority, in which iterators run: it takes neither Python's lock nor a core
    from those who are served meanwhile.

    It starts with the first iterator. It ends as soon as none is left, with this object, and with this process, however
    that ends. torch computes on one thread there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._end: Callable[[], object] = lambda: None
        self._numbers = itertools.count()
        self._users = set[int]()
        self._dropped: deque[int] = deque()

    def run(self, function: Callable[..., Iterator[Item]], *arguments: Any) -> Generator[Item, None, None]:
        """The items of `function(*arguments)`, each made when it is asked for. Function, arguments and items are pickled.

        Raises:
            EndedError: where the process has ended, or cannot be started.
            Exception: whatever the iterator raises.
        """
        with self.keep_running() as number:
            question: Any = (number, function, arguments)
            try:
                while True:
                    item, error = self._ask(question)
                    if isinstance(error, StopIteration):
                        return
                    if error is not None:
                        raise error
                    yield item
                    question = number
            finally:  # perhaps by the garbage collection in the middle of a question: so it is said with the next one
                self._dropped.append(number)

    @contextmanager
    def keep_running(self) -> Iterator[int]:
        """The process, once started, stays as long as somebody is in here: the next iterator need not wait for a new one.

        Gives a number for who is.
        """
        number = next(self._numbers)
        self._users.add(number)
        try:
            yield number
        finally:
            self._users.discard(number)
            # Who holds the lock is a user itself, or here for the same.
            while self._child is not None and not self._users and self._lock.acquire(blocking=False):
                try:
                    if not self._users:
                        self._end()
                        self._child = None
                finally:
                    self._lock.release()

    def end(self) -> None:
        """End the process now; who waits for an item of it gets an `EndedError`."""
        self._end()

    def _ask(self, question: Any) -> Any:
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                self._start()
            assert self._child is not None
            assert self._child.stdin is not None
            assert self._child.stdout is not None
            dropped = [self._dropped.popleft() for _ in range(len(self._dropped))]
            try:
                pickle.dump((dropped, question), self._child.stdin)
                self._child.stdin.flush()
                return pickle.load(self._child.stdout)
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                raise EndedError(NO_PROCESS) from error

    def _start(self) -> None:
        self._end()
        command = [sys.executable, "-c", f"from {__name__} import answer; answer()"]
        try:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=ROOT,
                start_new_session=True,  # Ctrl-C is for the server; its end closes the pipe
            )
        except OSError as error:
            raise EndedError(cannot_start(error)) from error
        self._end = weakref.finalize(self, end_process, self._child)


def answer() -> None:
    """The other end of `WorkerProcess`: read questions from standard input and write the answers until it is closed."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed does not get among them
    if hasattr(os, "nice"):
        os.nice(19)
    torch.set_num_threads(1)
    questions = SimpleQueue[Any]()
    threading.Thread(target=listen, args=(questions,), daemon=True).start()
    iterators: dict[int, Iterator[Any]] = {}
    while True:
        dropped, question = questions.get()
        for number in dropped:
            iterators.pop(number, None)
        item, error = None, None
        try:
            if isinstance(question, tuple):
                number, function, arguments = question
                iterators[number] = function(*arguments)
            elif (number := question) not in iterators:
                raise EndedError(NO_PROCESS)
            item = next(iterators[number])
        except Exception as failure:  # whatever it is, it is the asker's
            error = failure
        pickle.dump((item, error), answers)
        answers.flush()


def listen(questions: SimpleQueue[Any]) -> None:
    """Hand questions on, and end this process where there are no more: in the middle of an answer, which nobody reads."""
    try:
        while True:
            questions.put(pickle.load(sys.stdin.buffer))
    finally:
        os._exit(0)
