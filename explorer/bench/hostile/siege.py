"""What attacks do to a server and to the people who click meanwhile: `python -m explorer bench --only hostile`."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import random
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import numpy as np
from websockets.exceptions import WebSocketException

from resnet import ResNetConfig
from resnet.command import MissingError
from resnet.model import build

from ...inference.samples import samples
from ...navigation import INFERENCE, PAGES
from ..browser import ROOT, server
from ..links import SHIPPED
from ..visitors import Visitor, visit, wander
from .attacks import ATTACKS, Attack, open_sessions, uploader
from .checkpoints import checkpoint

VISITORS, PAUSE_SECONDS = 20, 3.0
"""How many people click, and the mean seconds from an idle page to somebody's next click."""
ATTACK_SECONDS, ONCE_SECONDS, AFTER_SECONDS = 15.0, 60.0, 10.0
"""How long an attack goes on, how long one is waited for that is made once, and how long the server is left alone after."""
MAX_P95_SECONDS, MAX_MEMORY_RATIO = 0.5, 1.1
"""What the app promises on two cores: seconds of the others' clicks, and memory over what it was before."""
MAX_SERVER_BYTES = 8 * 2**30
"""A server that takes more is ended here, before the system does it to others."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0


class Click(NamedTuple):
    """When somebody clicked, and after how many seconds the page was idle, or how long it has not been."""

    start: float
    seconds: float


@dataclass(frozen=True)
class Result:
    """What an attack did: the processes that ended and that were left, the seconds of the others' clicks and of the
    small images, bytes before, at most and after (None where the system does not say), and how often what was said."""

    name: str
    ended: int
    left: int
    clicks: Sequence[float]
    images: Sequence[float]
    memory: tuple[int, int, int] | None
    said: Counter[str]
    failures: Sequence[str] = ()
    readable: bool = True

    @property
    def p95(self) -> float:
        return float(np.quantile(self.clicks, 0.95)) if self.clicks else 0.0

    def over(self) -> list[str]:
        """The limits that it broke, in words."""
        before, _, after = self.memory or (0, 0, 0)
        broken = {
            "a process ended": self.ended > 0,
            "a process was left": self.left > 0,
            f"p95 {self.p95:.2f} s (limit {MAX_P95_SECONDS} s)": self.p95 >= MAX_P95_SECONDS,
            f"memory ×{after / max(before, 1):.2f} (limit ×{MAX_MEMORY_RATIO})": after > MAX_MEMORY_RATIO * before,
            "a page failed": any(map(FAILED.search, self.said)),
            "a file without data was read": not self.readable and any(map(READ.search, self.said)),
            f"others saw: {next(iter(self.failures), '')[:80]}": bool(self.failures),
        }
        return [words for words, true in broken.items() if true]

    def line(self) -> str:
        """The measurements in the columns of `TITLE`."""
        times = (*np.quantile(self.clicks, (0.5, 0.95)), max(self.clicks)) if self.clicks else (math.nan,) * 3
        times = (*times, max(self.images, default=math.nan))
        clicks = "".join(f"{'–':>9}" if math.isnan(seconds) else f"{seconds:7.2f} s" for seconds in times)
        memory = f"{'not measured':>28}"
        if self.memory:
            before, _, after = self.memory
            memory = "".join(f"{size / 2**20:8,.0f}" for size in self.memory) + f" ×{after / max(before, 1):.2f}"
        words, count = max(self.said.items(), key=self._weight, default=("nothing", 0))
        processes = f"{self.ended or 'no'} ended, {self.left or 'none'} left"
        return f"{self.name:42}{processes:22}{clicks}{memory}   {count}× {words[:90]}"

    def _weight(self, said: tuple[str, int]) -> tuple[bool, bool, int]:
        """What is worth telling: failures before all else, and what a page said before what did not come."""
        words, count = said
        return bool(re.search("failed|ended|is gone", words)), words != LATE, count


LATE = "(left before the page came)"
READ = re.compile("was understood|says which network")
"""What the page says of a checkpoint whose tensors it has."""
FAILED = re.compile("the page (failed|draws)")
"""What is said of a page that shows an exception, or a text as something else."""
TITLE = (
    f"{'attack':42}{'processes':22}{'median':>9}{'p95':>9}{'slowest':>9}{'image':>9}{'before':>8}{'most':>8}{'after':>8} MiB    "
    "what attackers saw"
)
"""`image` is the longest wait of somebody who looks at small images; the others' clicks are before it."""


def processes(root: int) -> dict[int, int]:
    """The resident bytes of a process and of all that it started, by their numbers; empty where the system has no /proc."""
    parents: dict[int, tuple[int, int, bytes]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            command = (path / "cmdline").read_bytes()
        except OSError:  # it has ended since
            continue
        if fields[0] != "Z":
            parents[int(path.name)] = int(fields[1]), int(fields[21]) * PAGE_BYTES, command
    found, wanted = {}, [root] * (root in parents)
    while wanted:
        number = wanted.pop()
        parent, size, command = parents[number]
        # Before it runs a program of its own, a process shows the memory of its parent.
        found[number] = 0 if number != root and parents[parent][2] == command else size
        wanted += [child for child, (parent, *_) in parents.items() if parent == number]
    return found


class Scene:
    """A server, and visitors who come back to it whatever happens to it. Times are those of `time.perf_counter`."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.clicks: list[Click] = []
        self.images: list[Click] = []
        self.failures: list[tuple[float, str]] = []
        self.memory: list[tuple[float, int]] = []
        self.restarts: list[float] = []
        self.people: dict[str, Visitor] = {}
        self.stack = ExitStack()

    async def __aenter__(self) -> Scene:
        await self.start_server()
        self.tasks = [asyncio.create_task(self.watch()), asyncio.create_task(self.stay("image", self.look_at_images))]
        self.tasks += [
            asyncio.create_task(self.stay(f"click {seed}", partial(self.click, random.Random(seed))))
            for seed in range(self.count)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.to_thread(self.stack.close)

    async def start_server(self) -> None:
        self.address, self.process = await asyncio.to_thread(
            self.stack.enter_context, server(ROOT / "explorer" / "app.py")
        )

    async def watch(self) -> None:
        """Note the memory, and start the server again where it has ended."""
        while True:
            if self.process.poll() is not None:
                self.restarts.append(time.perf_counter())
                await self.start_server()
            self.memory.append((time.perf_counter(), sum(processes(self.process.pid).values())))
            if self.memory[-1][1] > MAX_SERVER_BYTES:
                self.process.kill()
                self.process.wait()
            await asyncio.sleep(0.25)

    async def stay(self, name: str, act: Callable[[str], Awaitable[None]]) -> None:
        """Come back each time one is cut off."""
        while True:
            try:
                await act(name)
            except (RuntimeError, OSError, WebSocketException) as error:
                self.failures.append((time.perf_counter(), str(error)))
                await asyncio.sleep(1)

    async def click(self, chance: random.Random, name: str) -> None:
        async with visit(self.address) as visitor:
            self.people[name] = visitor
            async for seconds in wander(visitor, chance, PAUSE_SECONDS, lambda: False):
                self.clicks.append(Click(time.perf_counter() - seconds, seconds))

    async def look_at_images(self, name: str) -> None:
        """A pass through a small network for each look."""
        async with visit(self.address, INFERENCE.path, SHIPPED) as visitor:
            self.people[name] = visitor
            for size, sample in itertools.product(range(32, 64), samples()):
                visitor.client.query_string = f"preset=resnet20&weights=random&size={size}&picture={sample.name}"
                seconds = await visitor.run()
                self.images.append(Click(time.perf_counter() - seconds, seconds))
                await asyncio.sleep(PAUSE_SECONDS)

    def pending(self, kind: str) -> list[Click]:
        """What is not answered yet."""
        now = time.perf_counter()
        people = [visitor for name, visitor in self.people.items() if name.startswith(kind)]
        return [Click(visitor.since, now - visitor.since) for visitor in people if visitor.since is not None]

    async def suffer(self, attack: Attack, file: Sequence[bytes], seconds: float, left: float) -> Result:
        """Measure one attack, and the time after it."""
        before, start = processes(self.process.pid), time.perf_counter()
        end = start + seconds
        saw: Counter[str] = Counter()
        await asyncio.gather(*(self.attack(attack, number, file, end, saw) for number in range(attack.people)))
        if not attack.people:
            await asyncio.sleep(seconds)
        gone = time.perf_counter()
        await asyncio.sleep(left)
        after = processes(self.process.pid)

        def during(clicks: Iterable[Click]) -> list[float]:
            return [click.seconds for click in clicks if click.start < gone and click.start + click.seconds > start]

        return Result(
            attack.name,
            ended=len(set(before) - set(after)),
            left=len(set(after) - set(before)) if self.process.pid in before else 0,
            clicks=during([*self.clicks, *self.pending("click")]),
            images=during([*self.images, *self.pending("image")]),
            memory=self.held(start, before, after),
            said=saw,
            failures=[words for at, words in self.failures if at > start],
            readable=attack.readable,
        )

    def held(self, start: float, before: dict[int, int], after: dict[int, int]) -> tuple[int, int, int] | None:
        """Bytes before an attack that began at `start`, at most since, and after; None where they are not known."""
        most = max((size for at, size in self.memory if at > start), default=0)
        return (sum(before.values()), most, sum(after.values())) if before else None

    async def attack(self, attack: Attack, number: int, file: Sequence[bytes], end: float, saw: Counter[str]) -> None:
        """One attacker, until the attack is over."""
        while True:
            try:
                async with asyncio.timeout(ONCE_SECONDS if attack.once else max(0.1, end - time.perf_counter())):
                    async with aclosing(attack.act(self.address, number, file)) as rounds:
                        async for words in rounds:
                            saw[words] += 1
            except TimeoutError:
                saw[LATE] += 1
            except (RuntimeError, OSError, WebSocketException) as error:
                saw[str(error)] += 1
                await asyncio.sleep(0.2)
            except KeyError as error:
                saw[f"the page has no {error}"] += 1
                await asyncio.sleep(0.2)
            if attack.once or time.perf_counter() > end:
                return


async def warm(address: str) -> None:
    """Look at everything once, as others have on a server that has been there for a while."""
    image, weights = samples()[0].open(), checkpoint(build(ResNetConfig(layers=(1,), planes=(8,))).state_dict())
    async with visit(address, INFERENCE.path, SHIPPED) as visitor:
        await visitor.click("source", "Upload")
        await visitor.upload(uploader(visitor, False), "image", image)
        await visitor.upload(uploader(visitor, True), "mine.pt", weights)
    for tab in ("Why this class", "Several images", "Receptive field"):
        async with visit(address, INFERENCE.path, f"{SHIPPED}&{urlencode({'tab': tab})}"):
            pass
    for page in PAGES:
        async with visit(address, page.path):
            pass


NOBODY = Attack("nobody attacks", open_sessions, people=0)


async def siege(attacks: Sequence[Attack], seconds: float, left: float, visitors: int) -> AsyncGenerator[Result, None]:
    """Each attack on one server, the first of them by nobody."""
    files = {attack: attack.file() for attack in attacks}
    parts = {attack: [file] if isinstance(file, bytes) else file for attack, file in files.items()}
    async with Scene(visitors) as scene:
        await warm(scene.address)
        await asyncio.sleep(left)
        for attack in (NOBODY, *attacks):
            yield await scene.suffer(attack, parts.get(attack, []), seconds, left)


def hostile(
    words: Sequence[str] = (), seconds: float = ATTACK_SECONDS, left: float = AFTER_SECONDS, visitors: int = VISITORS
) -> None:
    """Print what each attack did whose name holds one of `words`, or each of them all.

    Raises:
        MissingError: where there is no such attack.
    """
    attacks = [attack for attack in ATTACKS if not words or any(word in attack.name for word in words)]
    if not attacks:
        raise MissingError(
            f"no attack is called {', '.join(words)}: one of {', '.join(attack.name for attack in ATTACKS)}."
        )

    async def results() -> list[Result]:
        found = []
        async with aclosing(siege(attacks, seconds, left, visitors)) as every:
            async for result in every:
                print(result.line(), flush=True)
                found.append(result)
        return found

    print(f"{visitors} visitors, a click every {PAUSE_SECONDS:.0f} s, beside")
    print(TITLE)
    start = time.perf_counter()
    found = asyncio.run(results())
    print(f"The clients took {time.process_time() / (time.perf_counter() - start):.0%} of a core.")
    print("\n".join(summary(found)))


def summary(results: Sequence[Result]) -> Iterator[str]:
    """Lines on the limits that were broken; of the first result, by nobody, only whether the machine had time."""
    alone, *attacks = results
    broken = [(result.name, words) for result in attacks for words in result.over()]
    if alone.p95 >= MAX_P95_SECONDS / 2:
        yield f"The machine has no time to tell: clicks take {alone.p95:.2f} s at p95 where nobody attacks."
    limits = (
        f"no process ends or is left, p95 under {MAX_P95_SECONDS} s, memory back within {MAX_MEMORY_RATIO - 1:.0%}, no page fails, "
        "no file without data is read"
    )
    yield f"{'over the limit' if broken else 'within the limits'}: {limits}"
    yield from (f"  {name}: {words}" for name, words in broken)
