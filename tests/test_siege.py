"""What is measured of an attack is what happened."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from explorer.bench.hostile import siege
from explorer.bench.hostile.attacks import ATTACKS, Attack
from explorer.bench.hostile.siege import Result, Scene, processes
from explorer.cli import main
from helpers import alone

LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")


@LINUX
def test_processes_are_counted_with_their_children() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; x = bytearray(range(256)) * 2**18; print(1, flush=True); time.sleep(60)'])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            found = processes(process.pid)
            assert len(found) == 2
            assert process.pid in found
            assert max(found.values()) > 2**25
            assert set(found) < set(processes(os.getpid()))
        finally:
            os.killpg(process.pid, 9)
    assert processes(process.pid) == {}


FINE = Result("fine", 0, 0, (0.1,) * 99 + (3.0,), (0.2,), (1000, 5000, 1050), Counter({"refused": 3}))
BROKEN: dict[str, Result] = {
    "a process ended": replace(FINE, ended=1),
    "a process was left": replace(FINE, left=1),
    "p95 3.00 s (limit 0.5 s)": replace(FINE, clicks=(0.1, 3.0, 3.0)),
    "memory ×1.20 (limit ×1.1)": replace(FINE, memory=(1000, 5000, 1200)),
    "a page failed": replace(FINE, said=Counter({"compare: the page failed for a visitor: KeyError: x": 1})),
    "a file without data was read": replace(
        FINE, readable=False, said=Counter({"mine.pt was understood by its tensors": 1})
    ),
    "others saw: an exception": replace(FINE, failures=("an exception",)),
}


def test_what_is_over_the_limit_is_said() -> None:
    (fine,) = siege.summary([FINE, FINE])
    assert fine.startswith("within the limits: ")
    for words, result in BROKEN.items():
        title, line = siege.summary([FINE, result])
        assert title.startswith("over the limit: ")
        assert line == f"  fine: {words}"
    busy, *_ = siege.summary([replace(FINE, clicks=(0.4, 0.4)), FINE])
    assert busy == "The machine has no time to tell: clicks take 0.40 s at p95 where nobody attacks."


def test_a_line_has_what_was_measured() -> None:
    result = replace(FINE, memory=(2**30, 2**31, 2**30), said=Counter({siege.LATE: 9, "it is damaged.": 2}))
    assert result.line().split() == [
        "fine",
        "no",
        "ended,",
        "none",
        "left",
        "0.10",
        "s",
        "0.10",
        "s",
        "3.00",
        "s",
        "0.20",
        "s",
        "1,024",
        "2,048",
        "1,024",
        "×1.00",
        "2×",
        "it",
        "is",
        "damaged.",
    ]
    assert "not measured" in replace(FINE, memory=None).line()
    assert "0× nothing" in replace(FINE, clicks=(), images=(), said=Counter()).line()


def test_an_attack_that_is_none_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--only", "hostile", "--attacks", "nothing like it"]) == 2
    assert "no attack is called nothing like it: one of image: BMP of runs, " in capsys.readouterr().err


# -- on a server --------------------------------------------------------------------------


async def come_back(scene: Scene) -> None:
    """Wait until somebody clicks who was cut off."""
    seen, end = len(scene.clicks), time.monotonic() + 120
    while len(scene.clicks) == seen:
        assert time.monotonic() < end
        await asyncio.sleep(0.2)


def brief(words: str) -> Attack:
    """The first round of an attack, however long it takes."""
    attack = next(attack for attack in ATTACKS if words in attack.name)

    async def act(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
        async with aclosing(attack.act(address, number, file)) as rounds:
            yield await anext(rounds)

    return replace(attack, act=act, once=True)


async def attacked() -> list[Result]:
    """Some attacks, on one server with two visitors; the last one ends it."""
    results = []
    async with Scene(2) as scene:

        async def kill(address: str, number: int, file: Sequence[bytes]) -> AsyncGenerator[str, None]:
            scene.process.kill()
            yield "it is gone"

        await come_back(scene)
        last = Attack("kill", kill, people=1, once=True)
        for attack in (brief("no data"), brief("size of 15,900"), brief("uploads left"), last):
            file = attack.file()
            parts = [file[:100_000]] if isinstance(file, bytes) else file
            results.append(await scene.suffer(attack, parts, 0.0, 0.5))
        await come_back(scene)
        assert len(scene.restarts) == 1
        assert scene.failures
    return results


def test_a_server_is_attacked_and_comes_back() -> None:
    damaged, link, left, killed = alone(attacked())
    (words,) = damaged.said
    assert words.startswith("mine.pt is damaged")
    (words,) = link.said
    assert words.startswith("2 alerts: option = turn is not accepted")  # and the size
    assert left.said == {"a file is taken": 3}
    for result in (damaged, link, left):
        assert not result.ended
        assert not result.failures
    if killed.memory:
        assert killed.ended
        assert min(link.memory) > 100 * 2**20  # type: ignore[arg-type]
