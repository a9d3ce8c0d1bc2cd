"""Iterators on Dask's workers: their items, errors and ends, on a cluster of one's own and on one that is named."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import pickle
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from cloudpickle import register_pickle_by_value, unregister_pickle_by_value
from distributed import Client

from explorer.analysis.choose import Searched, searching
from explorer.analysis.search import Limits, search
from explorer.analysis.space import Space
from explorer.bench.browser import ROOT
from explorer.cli import main
from explorer.experiments.degradation import Settings, Step, train
from explorer.experiments.probes import Images, probe_all
from explorer.experiments.shipped import labelled_inputs
from explorer.sharing import engine as module
from explorer.sharing.engine import EndedError, Engine, LostError, Part, here
from explorer.sharing.guarded import LENGTH
from explorer.sharing.jobs import DONE, FAILED, JobQueue, Loss
from helpers import alone, soon, status_of, there
from resnet import ConfigError, owner

TINY = Settings(shallow=8, deep=14, width=4, warmup=2, steps=10)


def told(steps: list[Step]) -> list[tuple[object, ...]]:
    """Steps without the seconds that they took."""
    return [(step.network, step.loss, step.accuracy) for step in steps]


@pytest.fixture(scope="module")
def tiny(one_thread: None) -> list[Step]:
    return list(train(TINY))


# -- a worker of one's own ----------------------------------------------------------------


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine()
    with engine.keep_running():
        yield engine


def child(engine: Engine) -> subprocess.Popen[bytes]:
    """The worker's process."""
    assert engine._cluster is not None
    assert engine._cluster._child is not None
    return engine._cluster._child


def test_items_come_from_a_process_of_low_priority(engine: Engine) -> None:
    one, other = engine.run(iter, range(3)), engine.run(map, os.getpriority, [os.PRIO_PROCESS], [0])
    assert next(one) == 0
    assert next(other) == 19
    assert list(one) == [1, 2]
    assert list(other) == []
    assert os.getpriority(os.PRIO_PROCESS, 0) < 19
    assert list(engine.run(map, eval, ["__import__('torch').get_num_threads()"])) == [1]


def test_it_listens_on_this_machine_only(engine: Engine) -> None:
    next(engine.run(iter, "a"))
    ports = [*listening(os.getpid()), *listening(child(engine).pid)]
    assert len(ports) >= 2
    assert {port.partition(":")[0] for port in ports} == {"0100007F"}  # 127.0.0.1


def test_nobody_else_on_this_machine_is_listened_to(engine: Engine) -> None:
    """By the scheduler and by the worker; else everybody with an account here could have their code run."""
    first = next(iter(engine._cluster_with_worker().client.nthreads()))
    assert engine._cluster is not None
    assert engine._cluster._own is not None
    for address in (engine._cluster._own.scheduler_address, first):
        protocol, _, place = address.partition("://")
        assert protocol == "guarded"
        with pytest.raises(OSError, match=r"(?i)timed out|closed"):
            Client(f"tcp://{place}", timeout=1, set_as_default=False)
        host, _, port = place.partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as stranger:
            stranger.sendall(b"0" * LENGTH)
            assert stranger.recv(1) == b""
    assert list(engine.run(iter, "ab")) == ["a", "b"]


def listening(pid: int) -> list[str]:
    """The addresses, in hexadecimal, on which a process listens."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes |= {*re.findall(r"socket:\[(\d+)\]", os.readlink(link))}
        except OSError:
            continue
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="utf-8").splitlines()[1:]
    ]
    return [row[1] for row in rows if row[3] == "0A" and row[9] in inodes]


def test_nothing_is_computed_that_nobody_asks_for(engine: Engine, tmp_path: Path) -> None:
    """So that a job which stopped takes no time."""
    slow = [
        f"(__import__('os').mkdir({str(tmp_path / name)!r}), __import__('time').sleep({module.MOMENT_SECONDS}))"
        for name in "abcd"
    ]
    made = engine.run(map, eval, slow)
    assert not list(tmp_path.iterdir())
    next(made)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert list(engine.run(iter, "xy")) == ["x", "y"]
    assert len(list(tmp_path.iterdir())) == 1
    del made
    gc.collect()


def test_items_of_a_moment_come_together(engine: Engine) -> None:
    parts: list[Part] = []
    cluster, place, begin = engine._cluster_with_worker(), 0, pickle.dumps((version("torch"), iter, (range(1000),)))
    while not parts or parts[-1].end is None:
        parts.append(cluster.advance("numbers", place, begin if not place else None, ""))
        place += len(parts[-1].items)
    assert [item for part in parts for item in part.items] == list(range(1000))
    assert len(parts[0].items) == 1
    assert len(parts) < 10


def test_an_error_there_is_the_iterators(engine: Engine) -> None:
    bad = engine.run(map, int, ["1", "2", "one"])
    assert [next(bad), next(bad)] == [1, 2]
    with pytest.raises(ValueError, match="invalid literal for int"):
        next(bad)
    with pytest.raises(TypeError):
        next(engine.run(iter, 3))
    assert list(engine.run(iter, [5])) == [5]


def test_without_files_its_loop_pauses_and_logs_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where tornado cannot accept a connection; anything else is a fault."""
    paused: list[float] = []
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=paused.append))

    def fail(error: Exception) -> None:
        raise error

    async def run() -> None:
        module.pause_without_files()
        for error in (OSError(errno.EMFILE, "no files"), OSError(errno.ECONNRESET, "gone")):
            asyncio.get_running_loop().call_soon(fail, error)
        await asyncio.sleep(0)

    alone(run())
    assert paused == [module.PAUSE_SECONDS]
    assert ["gone" in str(record.exc_info) for record in caplog.records if record.name == "asyncio"] == [True]


def test_curves_are_those_of_this_process(engine: Engine, tiny: list[Step]) -> None:
    """To the last digit; torch's compiler is not imported for it, for which whoever starts the first run would wait seconds."""
    assert told(list(engine.run(train, TINY))) == told(tiny)
    assert list(engine.run(map, eval, ["'torch._dynamo' in __import__('sys').modules"])) == [False]


def test_a_worker_that_was_killed_fails_its_iterator_and_another_takes_its_place(engine: Engine) -> None:
    running = engine.run(map, time.sleep, [0, 0, 600])
    next(running)
    child(engine).kill()
    with pytest.raises(LostError, match="the process that computed has ended"):
        list(running)
    assert list(engine.run(iter, "ab")) == ["a", "b"]


def test_where_another_let_go_of_a_cluster_that_was_lost_one_begins_anew(engine: Engine) -> None:
    """Two use it, and one finds it lost while the other is between two items."""
    losses: list[LostError] = []
    running = engine.run_on(iter, range(3), lost=losses.append)
    assert next(running) == 0
    engine._close()
    assert list(running) == [1, 2]
    assert len(losses) == 1


def test_a_worker_without_the_iterator_or_at_another_place_says_so(engine: Engine) -> None:
    """A part that is made twice, as where a connection was lost, would leave a hole: it is never handed on."""
    cluster = engine._cluster_with_worker()
    first = cluster.advance("a", 0, pickle.dumps((version("torch"), iter, (range(10**9),))), "")
    assert first.items == (0,)
    assert isinstance(cluster.advance("b", 1, None, first.worker).end, LostError)
    assert isinstance(cluster.advance("a", 2, None, first.worker).end, LostError)
    assert isinstance(cluster.advance("a", 1, None, first.worker).end, LostError), "it was let go"


def test_what_is_lost_is_made_again_and_each_item_handed_on_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up after three losses without an item between them."""
    engine, told, lost_after = Engine("a"), list[LostError](), iter([2, 2, 4, 4, 3])

    def parts(
        function: Callable[..., Iterator[int]], given: Sequence[object], *_: str, ahead: bool
    ) -> Iterator[tuple[int]]:
        yield from ((item,) for item in islice(function(*given), next(lost_after)))
        raise LostError("it is gone")

    monkeypatch.setattr(engine, "_parts", parts)
    made, found = engine.run_on(iter, range(9), lost=told.append), list[int]()
    with pytest.raises(LostError, match=r"^it is gone$"):
        found.extend(iter(made))
    assert (found, len(told)) == ([0, 1, 2, 3], 4)


def test_what_a_lost_worker_was_at_is_taken_back() -> None:
    """Else the next one has it, too, and ends as the first one may have by it."""
    taken: list[bool] = []

    def late(timeout: float) -> None:
        raise TimeoutError

    cluster = module.Cluster.__new__(module.Cluster)
    cluster._child, cluster._end = None, lambda: None
    future = SimpleNamespace(result=late, cancel=lambda: taken.append(True))
    cluster.client = SimpleNamespace(submit=lambda *_, **__: future, nthreads=dict)
    with pytest.raises(LostError, match=module.NO_PROCESS):
        cluster.advance("a", 0, None, "")
    assert taken == [True]


def test_a_scheduler_that_was_there_is_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    class Named:
        lost = False

        def __init__(self, address: str, seconds: float) -> None:
            self.address = address

        def find_worker(self, seconds: float) -> None:
            waited.append(seconds)

    monkeypatch.setattr(module, "Cluster", Named)
    engine = Engine("tcp://a:1")
    for _ in range(2):
        engine._cluster_with_worker()
    assert waited == [module.CONNECT_SECONDS, module.RECONNECT_SECONDS]


VERSIONS = {"resnet-explorer": "1.2", "distributed": "2025.1", "python": "3.11.4.final.0"}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"python": "3.11.9.final.0"}, ""),
        ({"python": "3.12.4.final.0"}, "has Python 3.12, and this is 3.11: both have to be the same"),
        ({"resnet-explorer": None}, "has no resnet-explorer, and this is 1.2: both have to be the same"),
        ({"distributed": "2025.2"}, "has distributed 2025.2, and this is 2025.1: both have to be the same"),
    ],
)
@pytest.mark.parametrize("place", ["scheduler", "worker"])
def test_other_versions_are_a_sentence(place: str, other: dict[str, str | None], words: str) -> None:
    mine = {"packages": VERSIONS}
    found = {"client": mine, "scheduler": mine, "workers": {"a": mine, "b": mine}}
    theirs = {"packages": VERSIONS | other}
    found |= {"scheduler": theirs} if place == "scheduler" else {"workers": {"a": mine, "b": theirs}}
    client = SimpleNamespace(get_versions=lambda packages: found)
    named = SimpleNamespace(address="tcp://a:1", client=client)
    with pytest.raises(EndedError, match=f"^a {place} of tcp://a:1 {words}$") if words else nullcontext():
        module.Cluster._compare_versions(named)  # type: ignore[arg-type]


def test_a_worker_of_another_torch_says_so(engine: Engine) -> None:
    cluster = engine._cluster_with_worker()
    end = cluster.advance("a", 0, pickle.dumps(("1.0", iter, ("ab",))), "").end
    assert isinstance(end, EndedError)
    assert f"has torch {version('torch')}, and this is 1.0: both have to be the same" in str(end)


def test_what_a_worker_holds_is_bounded(engine: Engine) -> None:
    many = [engine.run(iter, range(10**9)) for _ in range(module.MOST_ITERATORS + 1)]
    assert [next(one) for one in many] == [0] * len(many)
    assert next(islice(many[-1], 10, None))
    with pytest.raises(LostError):
        next(many[0])


@pytest.mark.parametrize("end", ["done", "left", "failed"])
def test_the_process_ends_with_its_last_iterator(end: str) -> None:
    engine = Engine()
    first, last = engine.run(iter, "ab"), engine.run(map, int, ["1", "x"])
    assert (next(first), next(last)) == ("a", 1)
    pid = child(engine).pid
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
    soon(lambda: engine._cluster is None)
    assert not there(pid)


@pytest.mark.parametrize("end", ["of itself", "SIGKILL"])
def test_it_ends_with_the_one_that_asked_in_the_middle_of_a_step(end: str) -> None:
    script = """
import os, signal, sys, threading, time
from explorer.sharing.engine import Engine
engine = Engine()
items = engine.run(map, time.sleep, [0, 600])
next(items)
threading.Thread(target=next, args=(items,), daemon=True).start()
time.sleep(0.5)
print(engine._cluster._child.pid, engine._cluster._folder, flush=True)
if sys.argv[1] != "of itself":
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ran = subprocess.run([sys.executable, "-c", script, end], cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8")
    pid, folder = ran.stdout.split()
    soon(lambda: not there(int(pid)))
    assert not Path(folder).exists()


def test_a_lost_worker_begins_its_job_anew_and_nothing_that_was_shown_is_lost(engine: Engine, tmp_path: Path) -> None:
    """It says so. One that ends every worker is given up."""
    queue: JobQueue[int] = JobQueue(place=engine.keep_running)
    queue.start("a", "anna", lambda: engine.run(map, eval, numbers(4, 2, tmp_path / "go")))
    soon(lambda: len(status_of(queue, "a", "anna").items) == 2)
    child(engine).kill()
    soon(lambda: status_of(queue, "a", "anna").losses)
    (tmp_path / "go").touch()
    soon(lambda: status_of(queue, "a", "anna").state == DONE)
    found = status_of(queue, "a", "anna")
    assert found.items == (0, 1, 2, 3)
    assert found.losses == (Loss(module.NO_PROCESS, 2),)
    queue.start("b", "anna", lambda: engine.run(map, os._exit, [1]))
    soon(lambda: status_of(queue, "b", "anna").state == FAILED)
    found = status_of(queue, "b", "anna")
    assert (found.error, len(found.losses)) == (module.NO_PROCESS, 3)


def numbers(count: int, at_once: int, path: Path) -> list[str]:
    """What is evaluated to numbers: some come a moment after the other, the others when a file is there."""
    wait = f"[*iter(lambda: __import__('os').path.exists({str(path)!r}) or __import__('time').sleep(0.01), True)]"
    moment = f"__import__('time').sleep({module.MOMENT_SECONDS})"
    return [f"({moment if number < at_once else wait}, {number})[1]" for number in range(count)]


def test_a_lost_worker_begins_its_piece_anew_and_no_item_twice(engine: Engine, tmp_path: Path) -> None:
    """With one worker, one piece after the other."""
    losses: list[LostError] = []
    pieces = [(eval, numbers(6, 3, tmp_path / "go")), (eval, ["6", "7"])]
    items = engine.run_each(map, pieces, lost=losses.append)
    found = [next(items) for _ in range(3)]
    child(engine).kill()
    (tmp_path / "go").touch()
    found += items
    assert found == [*((0, number) for number in range(6)), (1, 6), (1, 7)]
    assert list(map(str, losses)) == [module.NO_PROCESS]


# -- a cluster that is named --------------------------------------------------------------


class Shared:
    """A scheduler on a port of this machine, and workers of it."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.processes: list[subprocess.Popen[bytes]] = []

    def dask(self, *words: str) -> subprocess.Popen[bytes]:
        started = subprocess.Popen(
            [sys.executable, "-m", "dask", *words],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"DASK_LOGGING__DISTRIBUTED": "critical", "OMP_NUM_THREADS": "1"},
        )
        self.processes.append(started)
        return started

    def start(self, workers: int = 2) -> None:
        self.scheduler = self.dask(
            *("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"),
            *("--dashboard-address", "127.0.0.1:0"),
        )
        for _ in range(workers):
            self.dask(
                *("worker", self.address, "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard", "--no-nanny"),
                *("--memory-limit", "0", "--death-timeout", "60"),
            )
        soon(self.answers)
        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(workers)

    def answers(self) -> bool:
        with socket.socket() as probe:
            return not probe.connect_ex(("127.0.0.1", self.port))

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    shared = Shared()
    shared.start()
    try:
        yield shared
    finally:
        shared.end()


@pytest.fixture(scope="module")
def named(shared: Shared) -> Iterator[Engine]:
    engine = Engine(shared.address)
    with engine.keep_running():
        yield engine


def test_a_cluster_that_servers_share_gives_the_same_curves(named: Engine, shared: Shared, tiny: list[Step]) -> None:
    """To two of them at once, which know nothing of each other."""
    other = Engine(shared.address)
    steps = zip(named.run(train, TINY), other.run(train, TINY), strict=True)
    assert [told(list(each)) for each in zip(*steps, strict=True)] == [told(tiny)] * 2
    assert next(named.run(iter, torch.get_num_threads, None)) == 1


def test_what_is_in_pieces_is_done_side_by_side(named: Engine, tmp_path: Path) -> None:
    """As many as there are workers: each waits for what the other one does. The third takes the place of one that has ended."""
    one, other = (f"open({str(tmp_path / name)!r}, 'w').close()" for name in "ab")
    waits = [numbers(1, 0, tmp_path / name)[0] for name in "ba"]
    process = "__import__('os').getpid()"
    found: dict[int, list[object]] = {0: [], 1: [], 2: []}
    pieces = [(eval, [one, waits[0], process]), (eval, [other, waits[1], process]), (eval, [process])]
    for number, item in named.run_each(map, pieces, lost=print):
        found[number].append(item)
    assert found[0][:2] == found[1][:2] == [None, 0]
    assert found[0][2] != found[1][2]
    assert found[2][0] in (found[0][2], found[1][2])


def shrink() -> None:
    """Have the commands measure small networks on few images, in whichever process this is called."""
    from dataclasses import replace
    from unittest import mock

    import torch

    from explorer.experiments import beside, channels, gradients, landscape, paths, shipped
    from resnet import ResNet
    from resnet.shipped import BUNDLED

    config = replace(BUNDLED["resnet20"], layers=(1, 1, 1), planes=(4, 4, 8), stem_width=4)
    few = shipped.labelled_inputs

    def network(name: str) -> ResNet:
        model = ResNet(config)
        model.initialise(torch.Generator().manual_seed(len(name)))
        return model.eval().requires_grad_(False)

    for place in (beside, channels, landscape, shipped):
        mock.patch.object(place, "shipped_network", network).start()
        mock.patch.object(place, "labelled_inputs", lambda count: few(min(count, 16))).start()
        if hasattr(place, "BUNDLED"):
            mock.patch.object(place, "BUNDLED", dict.fromkeys(BUNDLED, config)).start()
    mock.patch.object(channels, "fashion_mnist", return_value=few(40)).start()
    for place, values in (
        (gradients, {"BLOCK_COUNTS": (1,), "SEEDS": 1, "POINTS": 8}),
        (landscape, {"SETS": ((1, 1),), "TOGETHER": 4, "TOLERANCE": 1.0, "SEEDS": (0,)}),
        (paths, {"MAX_DRAWS": 6}),
    ):
        mock.patch.multiple(place, **values).start()


@pytest.fixture
def client(shared: Shared) -> Iterator[Client]:
    """Has functions of this file called on the scheduler and its workers, which do not have it; what they patch is mended."""
    register_pickle_by_value(sys.modules[__name__])
    try:
        with Client(shared.address, set_as_default=False) as client:
            yield client
            client.run(mock.patch.stopall)
            client.run_on_scheduler(mock.patch.stopall)
    finally:
        mock.patch.stopall()
        unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def shrunk(client: Client, one_thread: None) -> None:
    """As `shrink` says, here and on the workers."""
    client.run(shrink)
    shrink()


@pytest.mark.parametrize(
    "command", ["channels", "beside --draws 1 --images 8", "landscape --points 3 --images 4", "experiments"]
)
def test_commands_that_measure_what_ships_write_what_they_write_here(
    command: str, shared: Shared, shrunk: None, tmp_path: Path
) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    assert main([*command.split(), "--output", str(near)]) == 0
    assert main([*command.split(), "--output", str(far), "--scheduler", shared.address]) == 0
    if command != "channels":
        assert far.read_bytes() == near.read_bytes()
        assert near.stat().st_size > 500
        return
    with np.load(near) as mine, np.load(far) as theirs:
        assert len(mine.files) > 10
        assert all(mine[name].tobytes() == theirs[name].tobytes() for name in mine.files)
        assert mine.files == theirs.files


def test_commands_on_it_write_what_they_write_here(
    shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeds side by side, and in the order in which they are named."""
    base = f"--steps 10 --seeds 1 0 --settings {TINY.to_text().replace('_steps-10', '')}"
    near, far = tmp_path / "near.json", tmp_path / "far.json"
    assert main(f"degradation {base} --output {near}".split()) == 0
    with monkeypatch.context() as patch:
        patch.delattr(Engine, "run_on")  # one after the other
        assert main(f"degradation {base} --output {far} --scheduler {shared.address}".split()) == 0
    mine, theirs = (json.loads(path.read_text(encoding="utf-8")) for path in (near, far))
    assert [run["settings"]["seed"] for run in mine["runs"]] == [1, 0]
    for network in (network for run in (*mine["runs"], *theirs["runs"]) for network in run["networks"]):
        network.pop("seconds")
    assert theirs == mine
    space = "resnet18 planes=8..16/4-16-32-64"
    for path, words in ((near, []), (far, ["--scheduler", shared.address])):
        assert main(["search", space, "--json", "--output", str(path), *words]) == 0
    assert far.read_bytes() == near.read_bytes()


def report(name: str, number: str | None) -> None:
    """Say that something is here in another version, or that it is not here."""
    from unittest import mock

    from distributed import versions

    true = versions.get_package_info
    mock.patch.object(versions, "get_package_info", lambda packages: {**true(packages), name: number}).start()


@pytest.mark.parametrize(
    ("name", "number", "words"),
    [
        ("resnet-explorer", "9.9", f"has resnet-explorer 9.9, and this is {version('resnet-explorer')}"),
        ("resnet-explorer", None, f"has no resnet-explorer, and this is {version('resnet-explorer')}"),
        ("distributed", "2020.1", f"has distributed 2020.1, and this is {version('distributed')}"),
        ("python", "3.8.1.final.0", "has Python 3.8, and this is {}.{}".format(*sys.version_info)),
    ],
)
@pytest.mark.parametrize("place", ["worker", "scheduler"])
def test_another_version_there_is_a_sentence(
    place: str,
    name: str,
    number: str | None,
    words: str,
    client: Client,
    shared: Shared,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if place == "worker":
        client.run(report, name, number, workers=list(client.nthreads())[1:])
    else:
        client.run_on_scheduler(report, name, number)
    assert main(["search", "resnet18", "--scheduler", shared.address]) == 2
    sentence = f"explorer: a {place} of {shared.address} {words}: both have to be the same.\n"
    assert capsys.readouterr() == ("", sentence)


def test_another_torch_there_is_a_sentence(named: Engine) -> None:
    part = named._cluster_with_worker().advance("a", 0, pickle.dumps(("1.0", iter, ((),))), "")
    words = rf"^the worker at {part.worker} has torch {re.escape(version('torch'))}, and this is 1\.0: both have"
    with pytest.raises(EndedError, match=words):
        raise part.end or AssertionError


def test_a_search_on_its_workers_finds_what_it_finds_here(named: Engine) -> None:
    space, limits = Space.from_text("resnet18 planes=8..16/2-16-32-64 layers=1..2-1..3-1..3-1..3"), Limits(macs=10**8)
    with named.executor() as executor:
        found = list(search(space, limits, executor))
    assert found == list(search(space, limits))
    assert found
    assert list(named.run(searching, space, limits, Searched())) == list(searching(space, limits, Searched()))


def test_a_worker_of_many_that_is_killed_loses_nothing(named: Engine, shared: Shared, tmp_path: Path) -> None:
    """Another one begins anew, and the items that were there stay."""
    queue: JobQueue[object] = JobQueue(place=named.keep_running)
    evaluated = ["__import__('os').getpid()", *numbers(4, 2, tmp_path / "go")]
    queue.start("a", "anna", lambda: named.run(map, eval, evaluated))
    soon(lambda: len(status_of(queue, "a", "anna").items) == 3)
    pid = status_of(queue, "a", "anna").items[0]
    assert isinstance(pid, int)
    (killed,) = [process for process in shared.processes if process.pid == pid]
    killed.kill()
    soon(lambda: status_of(queue, "a", "anna").losses)
    (tmp_path / "go").touch()
    soon(lambda: status_of(queue, "a", "anna").state == DONE)
    found = status_of(queue, "a", "anna")
    assert found.items == (pid, 0, 1, 2, 3)
    assert found.losses == (Loss(module.NO_PROCESS, 3),)


def test_a_scheduler_that_is_started_anew_loses_nothing(tmp_path: Path) -> None:
    shared = Shared()
    engine = Engine(shared.address)
    queue: JobQueue[int] = JobQueue(place=engine.keep_running)
    try:
        shared.start(1)
        queue.start("a", "anna", lambda: engine.run(map, eval, numbers(4, 2, tmp_path / "go")))
        soon(lambda: len(status_of(queue, "a", "anna").items) == 2)
        shared.end()
        soon(lambda: status_of(queue, "a", "anna").losses)
        shared.start(1)
        (tmp_path / "go").touch()
        soon(lambda: status_of(queue, "a", "anna").state == DONE)
        found = status_of(queue, "a", "anna")
        assert found.items == (0, 1, 2, 3)
        assert found.losses == (Loss(f"the scheduler at {shared.address} has ended", 2),)
    finally:
        shared.end()


def test_what_travels_with_images_measures_what_it_measures_here(named: Engine) -> None:
    """Probes of the first network that ships, which the others' commands are like."""
    images, labels = labelled_inputs(128)
    given = Images(images[:64], labels[:64]), Images(images[64:], labels[64:])
    assert next(named.run(probe_all, *given)) == next(here(probe_all, *given))


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("here", "--scheduler = here is not accepted: an address such as tcp://127.0.0.1:8786"),
        ("http://a:1", "--scheduler = http://a:1 is not accepted"),
        ("tcp://a:70000", "--scheduler = tcp://a:70000 is not accepted"),
        ("tcp://127.0.0.1:1", "explorer: no scheduler answers at tcp://127.0.0.1:1."),
        (
            "tls://127.0.0.1:1",
            "explorer: tls://127.0.0.1:1 needs certificates: Dask's settings distributed.comm.tls name",
        ),
    ],
)
def test_a_wrong_address_is_one_sentence(
    address: str, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.5)
    for command in (["search", "resnet18"], ["degradation", "--steps", "30", "--output", str(tmp_path / "x")]):
        assert exit_status([*command, "--scheduler", address]) == 2
        assert words in " ".join(capsys.readouterr().err.split())


def test_what_listens_and_is_no_scheduler_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another server that waits for a line of its own."""
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.5)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = "tcp://{}:{}".format(*other.getsockname())
        assert main(["search", "resnet18", "--scheduler", address]) == 2
    assert capsys.readouterr() == ("", f"explorer: no scheduler answers at {address}.\n")


def exit_status(command: list[str]) -> int | str | None:
    """Of a command line, of which some cannot be read."""
    try:
        return main(command)
    except SystemExit as end:
        return end.code


def test_dask_is_loaded_with_the_first_job_only() -> None:
    script = "import sys; from explorer.views.experiments import degradation; print('distributed' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert ran.stdout == "False\n", ran.stderr


def test_the_owners_words_are_checked_when_the_server_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(owner.SCHEDULER, "tcp://127.0.0.1:8786")
    owner.check()
    monkeypatch.setenv(owner.SCHEDULER, "127.0.0.1:8786")
    with pytest.raises(
        ConfigError, match=r"^RESNET_EXPLORER_SCHEDULER = 127\.0\.0\.1:8786 is not accepted: an address"
    ):
        owner.check()


def test_nothing_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.5)
    shared = Shared()
    with pytest.raises(EndedError, match=f"^no scheduler answers at {shared.address}$"):
        next(Engine(shared.address).run(iter, "a"))


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("can't start new thread")]
)
def test_what_cannot_be_started_is_one_sentence_and_leaves_nothing(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[str] = []

    class Started:
        loop, __enter__ = SimpleNamespace(add_callback=lambda call: None), lambda self: self
        __exit__ = lambda *_: left.append("closed")  # noqa: E731

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("distributed.LocalCluster", lambda **_: Started())
    monkeypatch.setattr("distributed.Client", fail)
    words = f"^no process can be started now \\({getattr(error, 'strerror', None) or error}\\)$"
    with pytest.raises(EndedError, match=words):
        next(Engine().run(iter, "a"))
    assert left == ["closed"]
