"""The attacks of `bench --only hostile`: their files are what they say, and what is measured is what happened."""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import alone
from PIL import Image, ImageSequence
from streamlit.proto.BackMsg_pb2 import BackMsg

from explorer import hostile
from explorer import hostile_files as files
from explorer.__main__ import main
from explorer.clients import random_links
from explorer.hostile import ATTACKS, Attack, Result, Scene, processes
from resnet import ResNetConfig
from resnet.checkpoint import WeightsError, read_state_dict

LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")


# -- files --------------------------------------------------------------------------------


def opened(data: bytes) -> Image.Image:
    """What Pillow makes of a picture."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def test_pictures_are_pictures_of_many_parts() -> None:
    runs = opened(files.bmp_rle(8, 8, (b"\1\7" * 8 + b"\0\0") * 8 + b"\0\1"))
    assert (runs.size, set(np.asarray(runs).ravel())) == ((8, 8), {7})
    png = files.png(1, 1, b"\0\7", files.chunk(b"teSt", b"") * 50)
    assert (opened(png).size, png.count(b"teSt")) == ((1, 1), 50)
    jpeg = files.scans(64, 20)
    assert (opened(jpeg).size, opened(jpeg).info["progressive"]) == ((64, 64), 1)
    assert jpeg.count(b"\xff\xda") == files.scans(64, 0).count(b"\xff\xda") + 20
    gif = opened(files.commented_gif(b"!\xfe" + b"\2cc" * 100 + b"\0"))
    assert (gif.size, gif.info["comment"]) == ((4, 4), b"c" * 200)
    assert len(list(ImageSequence.Iterator(gif))) == 1


def test_checkpoints_are_checkpoints() -> None:
    assert pickle.loads(files.key(files.DEEPER * 3)) == {((((),),),): "fc.weight"}
    assert pickle.loads(files.key(files.TWICE * 2)) == {(((), ()), ((), ())): "fc.weight"}
    one = torch.load(io.BytesIO(files.one_number_for_all()), weights_only=True)
    assert {(tensor.dtype, tensor.untyped_storage().nbytes()) for tensor in one.values()} == {(torch.float16, 2)}
    assert sum(tensor.numel() for tensor in one.values()) * 4 > 0.7 * 2**30


def test_half_precision_is_one_network_for_each_person() -> None:
    config = ResNetConfig(block="basic", layers=(1,), planes=(8,), num_classes=10)
    first, second = (b"".join(files.half_precision(number, config)) for number in (0, 1))
    tensors = safetensors.torch.load(first)
    assert {name: tensor.shape for name, tensor in tensors.items()} == files.shapes(config)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert first != second
    assert len(first) == len(second)


SECRETS = [attack for attack in ATTACKS if not attack.readable]


@pytest.mark.parametrize("attack", SECRETS, ids=lambda attack: attack.name)
def test_a_file_without_bytes_is_refused(attack: Attack) -> None:
    with pytest.raises(WeightsError):
        read_state_dict(attack.file(), "mine.pt")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("attack", SECRETS, ids=lambda attack: attack.name)
def test_torch_itself_reads_a_file_without_bytes(attack: Attack) -> None:
    """What it shows is what lay in memory."""
    assert torch.load(io.BytesIO(attack.file()), weights_only=True)["fc.weight"].shape == (4096,)  # type: ignore[arg-type]


def test_files_links_and_messages_are_the_same_on_each_run() -> None:
    for attack in ATTACKS:
        if attack.file is not files.half_precision:
            assert attack.file() == attack.file()
    assert list(islice(random_links(3), 50)) == list(islice(random_links(3), 50))
    assert list(islice(random_links(3), 50)) != list(islice(random_links(4), 50))
    kinds = {BackMsg.FromString(message).WhichOneof("type") for message in hostile.messages().values() if message[:1] not in (b"\0", b"\x80", b"\xff")}  # fmt: skip
    assert kinds >= {field.name for field in BackMsg.DESCRIPTOR.oneofs[0].fields} - {"clear_cache"}


# -- measurements -------------------------------------------------------------------------


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
    "a file without data was read": replace(FINE, readable=False, said=Counter({"mine.pt was understood by its tensors": 1})),
    "others saw: an exception": replace(FINE, failures=("an exception",)),
}  # fmt: skip


def test_what_is_over_the_limit_is_said() -> None:
    (fine,) = hostile.summary([FINE, FINE])
    assert fine.startswith("within the limits: ")
    for words, result in BROKEN.items():
        title, line = hostile.summary([FINE, result])
        assert title.startswith("over the limit: ")
        assert line == f"  fine: {words}"
    busy, *_ = hostile.summary([replace(FINE, clicks=(0.4, 0.4)), FINE])
    assert busy == "The machine has no time to tell: clicks take 0.40 s at p95 where nobody attacks."


def test_a_line_has_what_was_measured() -> None:
    result = replace(FINE, memory=(2**30, 2**31, 2**30), said=Counter({hostile.LATE: 9, "it is damaged.": 2}))
    assert result.line().split() == [
        "fine", "no", "ended,", "none", "left", "0.10", "s", "0.10", "s", "3.00", "s", "0.20", "s", "1,024", "2,048", "1,024", "×1.00",
        "2×", "it", "is", "damaged.",
    ]  # fmt: skip
    assert "not measured" in replace(FINE, memory=None).line()
    assert "0× nothing" in replace(FINE, clicks=(), pictures=(), said=Counter()).line()


def test_an_attack_that_is_none_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--only", "hostile", "--attacks", "nothing like it"]) == 2
    assert "no attack is called nothing like it: one of picture: BMP of runs, " in capsys.readouterr().err


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
