"""Iterators that run on Dask's workers: on one of this server's own, of the lowest priority, or on a cluster that it names.

A task advances an iterator for a moment and gives back its items; the iterator stays with the worker from one task to the
next. So nothing is computed that nobody asks for, other tasks of the cluster have their turns in between, and a worker
that does not have the iterator, or has it at another place, says so: whoever asks begins anew.

https://distributed.dask.org
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from resnet import owner
from resnet.errors import ExplainedError
from resnet.options import plain

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from distributed import Future


Item = TypeVar("Item")
ROOT = Path(__file__).parents[2]
MOMENT_SECONDS = 0.5
"""For which a task advances an iterator; its first one makes one item."""
CHECK_SECONDS = 0.5
"""Seconds from one look at whether a worker is still there to the next, while its answer is awaited."""
CONNECT_SECONDS, RECONNECT_SECONDS = 10, 60
"""For which a scheduler and a worker of it are waited for, and where they have been there before."""
PAUSE_SECONDS = 0.2
"""Between two tries to accept a connection where no file can be opened."""
MOST_LOSSES = 3
"""So many workers may be lost one after the other, without a new item between them: by then it is the work that ends them."""
MOST_ITERATORS = 8
"""That a worker holds: those of a server that has ended are never asked for again."""
SAME = {"resnet-explorer": "resnet-explorer", "distributed": "distributed", "python": "Python"}
"""What has to be of the same version on a scheduler and its workers, as Dask calls it and as people do."""
SETTINGS = {
    "distributed.admin.tick.interval": "500ms",  # else each of its parts takes Python's lock fifty times a second
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.allowed-failures": 0,  # who asks begins anew, and says so
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
"""Of Dask, for a cluster of this server's own."""
LARGE = {"distributed.admin.large-graph-warning-threshold": "1 GiB"}
"""Of Dask, everywhere: images travel with what they are for."""


class EndedError(ExplainedError, RuntimeError):
    """What computes is not there, as the end of a sentence."""


class LostError(EndedError):
    """What computed was there and has ended: who begins anew may well come to the end."""


class Engine:
    """A Dask cluster on which iterators and functions run: the one whose scheduler is at `address`, else the one that the
    owner of this server names, else one of its own.

    It is reached, or started, with the first iterator, and let go, or ended, as soon as none is left. A cluster of its own
    has one worker, a process of the lowest priority: it takes neither Python's lock nor a core from those who are served
    meanwhile. It listens on this machine only and to this process only, and ends with this process, however that ends. torch computes on one thread.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._users = set[int]()
        self._cluster: Cluster | None = None
        self._reached = ""
        """The scheduler that was there last."""

    def run(self, function: Callable[..., Iterator[Item]], *arguments: Any) -> Generator[Item, None, None]:
        """The items of `function(*arguments)`, made for a moment at a time when they are asked for. Function, arguments and
        items are pickled.

        Raises:
            LostError: where the worker or the scheduler has ended, or does not have the iterator any more.
            EndedError: where none can be started or reached, or what is there is of another version.
            ConfigError: where the owner names something else than an address.
            Exception: whatever the iterator raises.
        """
        for items in self._parts(function, arguments):
            yield from items

    def run_on(
        self, function: Callable[..., Iterator[Item]], *arguments: Any, lost: Callable[[LostError], object]
    ) -> Iterator[Item]:
        """As `run`, of a function that gives the same items again, and with the next ones made before they are asked for: where
        what computes is lost, `lost` is told so, and they are made again and those after them handed on.

        Raises:
            LostError: where one is lost after the other.
            EndedError, ConfigError, Exception: as `run`.
        """
        for items in self._parts_on(function, arguments, lost):
            yield from items

    def run_each(
        self,
        function: Callable[..., Iterator[Item]],
        every: Sequence[tuple[Any, ...]],
        *,
        lost: Callable[[LostError], object],
    ) -> Iterator[tuple[int, Item]]:
        """As `run_on` with each of these arguments, side by side, one on a worker: every item with the place of its arguments."""
        with self.keep_running():
            waiting, free = deque(enumerate(every)), deque(self._cluster_with_worker().workers() or [""])
            running = deque[tuple[int, str, Iterator[tuple[Item, ...]]]]()
            while waiting or running:
                while waiting and free:
                    (number, arguments), worker = waiting.popleft(), free.popleft()
                    running.append((number, worker, self._parts_on(function, arguments, lost, worker)))
                number, worker, parts = running.popleft()
                if (items := next(parts, None)) is None:
                    free.append(worker)
                else:
                    running.append((number, worker, parts))
                    yield from zip(itertools.repeat(number), items)

    def _parts_on(
        self,
        function: Callable[..., Iterator[Item]],
        arguments: tuple[Any, ...],
        lost: Callable[[LostError], object],
        worker: str = "",
    ) -> Iterator[tuple[Item, ...]]:
        """The items of `run_on`, as many together as came together."""
        given, losses = 0, 0
        with self.keep_running():
            while True:
                again = given
                try:
                    for items in self._parts(function, arguments, worker, ahead=True):
                        new, again = items[again:], max(0, again - len(items))
                        given, losses = given + len(new), 0 if new else losses
                        yield new
                    return
                except LostError as error:
                    losses += 1
                    if losses == MOST_LOSSES:
                        raise
                    lost(error)

    def _parts(
        self, function: Callable[..., Iterator[Item]], arguments: tuple[Any, ...], worker: str = "", ahead: bool = False
    ) -> Iterator[tuple[Item, ...]]:
        """The items of `run`, as many together as came together; begun on that worker, where it is there. `ahead` has the next
        ones made while these are looked at: then the first ones are none."""
        with self.keep_running():
            cluster, name, place = self._cluster_with_worker(), uuid.uuid4().hex, 0
            ask = cluster.submit if ahead else partial(partial, cluster.advance)
            answer = ask(name, 0, pickle.dumps((version("torch"), function, arguments)), worker)
            if ahead:
                yield ()
            while True:
                part = answer()
                place += len(part.items)
                if part.end is None:
                    answer = ask(name, place, None, part.worker)
                yield part.items
                if isinstance(part.end, StopIteration):
                    return
                if part.end is not None:
                    raise part.end

    @contextmanager
    def executor(self) -> Iterator[Executor]:
        """The workers as an executor, while somebody is in here. What a worker that is lost was at, another one does.

        Raises:
            EndedError, ConfigError: as `run`, here or where a result is asked for.
        """
        from distributed.client import ClosedClientError
        from distributed.scheduler import KilledWorker

        with self.keep_running():
            cluster = self._cluster_with_worker()
            try:
                yield cluster.client.get_executor()
            except KilledWorker as error:
                raise LostError(NO_PROCESS) from error
            except (CancelledError, ClosedClientError) as error:
                raise cluster.ended() from error

    @contextmanager
    def keep_running(self) -> Iterator[None]:
        """What was started stays as long as somebody is in here: the next iterator need not wait for another."""
        number = next(self._numbers)
        self._users.add(number)
        try:
            yield
        finally:  # perhaps by the garbage collection, in any thread: so another one ends what waits for threads
            self._users.discard(number)
            if self._cluster is not None and not self._users:
                with suppress(RuntimeError):  # Python ends, and all of it with this
                    threading.Thread(target=self._let_go, name="engine").start()

    def _let_go(self) -> None:
        with self._lock:
            if self._cluster is not None and not self._users:
                self._close()

    def _close(self) -> None:
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    def _cluster_with_worker(self) -> Cluster:
        address = owner.scheduler() if self._address is None else self._address
        with self._lock:
            if self._cluster is not None and (self._cluster.lost or self._cluster.address != address):
                self._close()
            seconds = RECONNECT_SECONDS if self._reached == address else CONNECT_SECONDS
            if self._cluster is None:
                self._cluster = Cluster(address, seconds)
            self._cluster.find_worker(seconds)
            self._reached = address
            return self._cluster


Run = Callable[..., Iterator[Any]]
"""Gives the items of a function of the arguments after it, wherever it has them made: `here`, or on an `Engine`."""


def here(function: Callable[..., Iterator[Item]], *arguments: Any) -> Iterator[Item]:
    """The items of `function(*arguments)`, made in this process on one thread."""
    import torch

    torch.set_num_threads(1)
    return function(*arguments)


RunEach = Callable[[Callable[..., Iterator[Any]], Sequence[tuple[Any, ...]]], Iterator[tuple[int, Any]]]
"""Gives the items of a function of each of several arguments, with the place of these: `each_here`, or side by side on an `Engine`."""


def each_here(function: Callable[..., Iterator[Item]], every: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Item]]:
    """As `here` with each of these arguments, one after the other: every item with the place of its arguments."""
    for number, arguments in enumerate(every):
        yield from zip(itertools.repeat(number), here(function, *arguments))


ENGINE = Engine()
"""Where this server computes what takes long."""


def pause_without_files() -> None:
    """Have the event loop of this thread pause where no file can be opened: tornado asks again and again for a connection that
    it cannot accept, and each time a line of the log is written."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if getattr(context.get("exception"), "errno", None) in (errno.EMFILE, errno.ENFILE):
            time.sleep(PAUSE_SECONDS)
        else:
            loop.default_exception_handler(context)

    asyncio.get_running_loop().set_exception_handler(handle)


def greet(address: str, seconds: float) -> None:
    """That a scheduler answers at an address: a client of Dask's would wait for ever for what only listens.

    Raises:
        OSError: where none does.
        EndedError: where it is spoken to by TLS, and Dask has no certificates.
    """
    from distributed.core import connect
    from distributed.security import Security

    async def call() -> None:
        comm = await asyncio.wait_for(connect(address, seconds, **Security().get_connection_args("client")), seconds)
        comm.abort()

    with ThreadPoolExecutor(1) as own_loop:  # there may be one in this thread
        try:
            own_loop.submit(asyncio.run, call()).result()
        except TypeError as error:
            settings = "Dask's settings distributed.comm.tls name them"
            raise EndedError(f"{address} needs certificates: {settings}") from error


class Cluster:
    """A client of the scheduler at an address, or of one in this process, with one worker; waits for so many seconds.

    Raises:
        EndedError: where none answers, or can be started.
    """

    def __init__(self, address: str, seconds: float):
        import dask
        from distributed import Client, LocalCluster
        from distributed.versions import VersionMismatchWarning

        from . import guarded

        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # who asks is told what is wrong
        warnings.simplefilter("ignore", VersionMismatchWarning)  # `find_worker` says it in a sentence
        dask.config.set(LARGE)
        self.address, self.lost = address, False
        self._child: subprocess.Popen[bytes] | None = None
        self._end: Callable[[], object] = lambda: None
        self._own: LocalCluster | None = None
        self._stack = ExitStack()
        try:
            if address:
                greet(address, seconds)
            else:
                with dask.config.set(SETTINGS):
                    self._own = self._stack.enter_context(
                        LocalCluster(
                            n_workers=0,
                            host="127.0.0.1",
                            protocol=guarded.PROTOCOL,
                            dashboard_address="127.0.0.1:0",
                            scheduler_kwargs={"dashboard": False},
                            silence_logs=logging.CRITICAL,
                        )
                    )
                self._folder = self._stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
                assert self._own.loop is not None
                self._own.loop.add_callback(pause_without_files)
            self.client = self._stack.enter_context(Client(self._own or address, timeout=seconds, set_as_default=False))
        except EndedError:
            raise
        except (OSError, RuntimeError) as error:  # the second from LocalCluster, and for want of a thread
            self.close()
            raise EndedError(f"no scheduler answers at {address}" if address else cannot_start(error)) from error

    def close(self) -> None:
        """Let go of the scheduler, or end it and its worker."""
        self._end()
        with suppress(Exception):  # what is left of it is of no use
            self._stack.close()

    def find_worker(self, seconds: float) -> None:
        """Wait until there is a worker; start one where it is a cluster of one's own.

        Raises:
            EndedError: where there is none after so many seconds, or one of another version.
        """
        if self._own is not None and (self._child is None or self._child.poll() is not None):
            self._start(self._own.scheduler_address)
        try:
            self.client.wait_for_workers(1, timeout=max(seconds, 60) if self._own else seconds)
            if self._own is None:
                self._compare_versions()
        except OSError as error:
            raise EndedError(
                f"the scheduler at {self.address} has no worker" if self.address else NO_PROCESS
            ) from error

    def workers(self) -> list[str]:
        """The addresses of the workers, those with the least to do first."""
        busy = self.client.processing()
        return sorted(self.client.nthreads(), key=lambda worker: len(busy.get(worker, ())))

    def advance(self, name: str, place: int, begin: bytes | None, worker: str) -> Part:
        """The next items of an iterator, from that worker which has it.

        Raises:
            LostError: where that or the scheduler has ended.
        """
        return self.submit(name, place, begin, worker)()

    def submit(self, name: str, place: int, begin: bytes | None, worker: str) -> Callable[[], Part]:
        """Have the next items of an iterator made by that worker which has it, or by that one or another where it begins: what
        waits for them, as `advance` does.
        """
        with self._translated():
            future = self.client.submit(
                *(advance, name, place, begin),
                key=f"{name}-{place}",
                workers=worker or None,
                allow_other_workers=bool(worker and begin),
                pure=False,
            )
        return lambda: self._part(future, "" if begin else worker)

    def _part(self, future: Future[Part], worker: str) -> Part:
        with self._translated():
            while True:
                try:
                    return future.result(timeout=CHECK_SECONDS)
                except TimeoutError:
                    try:
                        self._look_after(worker)
                    except LostError:
                        self._end()
                        future.cancel()  # else the next worker has it, too, and ends as the first one may have by it
                        raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What Dask raises where a worker or the scheduler has ended, as `LostError`."""
        from distributed.client import ClosedClientError
        from distributed.scheduler import KilledWorker

        try:
            yield
        except LostError:
            raise
        except KilledWorker as error:
            self._end()  # the scheduler may see the end of a worker of one's own before this process does
            raise LostError(NO_PROCESS) from error
        except (CancelledError, ClosedClientError, OSError) as error:  # another user may have let go of what was lost
            raise self.ended() from error
        except RuntimeError as error:  # of a client whose loop has ended
            if self.client.status != "closed":
                raise
            raise self.ended() from error

    def ended(self) -> LostError:
        """What is raised where the scheduler is lost; it has to be reached again."""
        self.lost = True
        return LostError(f"the scheduler at {self.address} has ended" if self.address else NO_PROCESS)

    def _look_after(self, worker: str) -> None:
        if self._child is not None and self._child.poll() is not None:
            raise LostError(NO_PROCESS)
        there = self.client.nthreads()
        if not there or (worker and worker not in there):
            raise LostError(NO_PROCESS)

    def _compare_versions(self) -> None:
        found = self.client.get_versions(packages=["resnet-explorer"])
        mine = found["client"]["packages"]
        for place, theirs in (
            ("scheduler", found["scheduler"]),
            *(("worker", one) for one in found["workers"].values()),
        ):
            for name, called in SAME.items():
                here, there = (release(name, one.get(name)) for one in (mine, theirs["packages"]))
                if here != there:
                    has = f"has {called} {there}" if there else f"has no {called}"
                    raise EndedError(f"a {place} of {self.address} {has}, and this is {here}: both have to be the same")

    def _start(self, address: str) -> None:
        from .guarded import Secret

        self._end()
        command = [sys.executable, "-c", f"from {__name__} import work; work({address!r}, {self._folder!r})"]
        try:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=2,
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C is for the server; its end closes the pipe
            )
        except OSError as error:
            raise EndedError(cannot_start(error)) from error
        self._end = weakref.finalize(self, end_process, self._child)
        assert self._child.stdin is not None
        with suppress(OSError):  # it has ended by now, as who waits for it sees
            self._child.stdin.write(Secret.value)
            self._child.stdin.flush()


NO_PROCESS = "the process that computed has ended, perhaps for want of memory"


def cannot_start(error: Exception) -> str:
    """That nothing can compute, and why, as the end of a sentence."""
    return f"no process can be started now ({plain(getattr(error, 'strerror', None) or error)})"


def release(name: str, number: str | None) -> str:
    """A version as it is compared: Python's without its last number, under which it pickles alike."""
    return ".".join((number or "").split(".")[: 2 if name == "python" else None])


def end_process(child: subprocess.Popen[bytes]) -> None:
    """End a process, whatever it is at, and close the pipe to it."""
    child.kill()
    with suppress(OSError), child:
        pass


# -- on a worker --------------------------------------------------------------------------

ITERATORS: OrderedDict[str, tuple[Iterator[Any], int]] = OrderedDict()
"""Those of this worker with the number of the items that each has made, the last advanced at the end."""


class Part(NamedTuple):
    """The next items of an iterator, the worker that has it, and what ended it."""

    items: tuple[Any, ...]
    worker: str
    end: Exception | None = None


def advance(name: str, place: int, begin: bytes | None) -> Part:
    """Advance the iterator of a name, which has made as many items as `place` says, for a moment; or `begin` one by the
    asker's version of torch, a function and its arguments: pickled, since a worker is lost where it cannot read a task."""
    from distributed import get_worker

    worker = get_worker().address
    iterator, made = ITERATORS.pop(name, (iter(()), -1))
    items: list[Any] = []
    try:
        if begin is not None:
            (theirs, function, arguments), made = pickle.loads(begin), 0
            if (mine := version("torch")) != theirs:
                raise EndedError(
                    f"the worker at {worker} has torch {mine}, and this is {theirs}: both have to be the same"
                )
            iterator = iter(function(*arguments))
        if torch := sys.modules.get(
            "torch"
        ):  # by the function's module; a scheduler, which reads this one, does without
            torch.set_num_threads(1)
        if made != place:
            raise LostError(NO_PROCESS)
        until = time.monotonic() + (MOMENT_SECONDS if begin is None else 0)
        items.append(next(iterator))
        while time.monotonic() < until:
            items.append(next(iterator))
    except Exception as end:  # whatever it is, it is the asker's
        return Part(tuple(items), worker, end)
    ITERATORS[name] = iterator, place + len(items)
    while len(ITERATORS) > MOST_ITERATORS:
        ITERATORS.popitem(last=False)
    return Part(tuple(items), worker)


def work(address: str, folder: str) -> None:
    """A worker of the scheduler at an address, which keeps its files in a folder, until standard input is closed."""
    import dask

    dask.config.set(SETTINGS)
    from distributed import Worker

    from . import guarded

    guarded.Secret.value = sys.stdin.buffer.read(guarded.LENGTH)
    if hasattr(os, "nice"):
        os.nice(19)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    threading.Thread(target=end_with_parent, args=(folder,), daemon=True).start()

    async def serve() -> None:
        async with Worker(
            address,
            nthreads=1,
            host="127.0.0.1",
            protocol=guarded.PROTOCOL,
            dashboard=False,
            memory_limit=0,
            local_directory=folder,
        ) as worker:
            await worker.finished()

    asyncio.run(serve())


def end_with_parent(folder: str) -> None:
    """End this process when standard input is closed, whatever it is at, and leave no folder behind."""
    sys.stdin.buffer.read()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)
