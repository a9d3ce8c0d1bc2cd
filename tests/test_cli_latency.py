"""`latency`: who is timed when, and what is made of the seconds; the clock is the test's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch

from explorer.analysis.trace import trace
from explorer.cli import main
from explorer.cli.documents.base import rendered
from explorer.cli.documents.latency import Latency
from explorer.inference import latency
from explorer.inference.device import Device
from helpers import CPU, small
from resnet import preset
from resnet.weights import randomly

SECONDS = [[0.004, 0.002, 0.010, 0.003], [0.006, 0.003, 0.012, 0.006]]


def test_networks_take_turns_in_one_order_and_then_in_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [randomly(small()), randomly(small(layers=(2, 2)))]
    shapes = [(2, 3, 32, 32), (1, 3, 48, 40)]
    seen: list[tuple[int, torch.Size]] = []
    for number, model in enumerate(models):
        model.register_forward_pre_hook(lambda _, given, number=number: seen.append((number, given[0].shape)))
    clock = iter(range(100))

    def timed(action: Callable[[], object], device: Device) -> float:
        action()
        return float(next(clock))

    monkeypatch.setattr(latency, "time_action", timed)
    shares: list[float] = []
    found = latency.side_by_side(models, shapes, CPU, 3, shares.append)
    assert [number for number, _ in seen] == [1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1]
    assert {number: tuple(shape) for number, shape in seen} == dict(enumerate(shapes))
    assert found == [[2, 5, 6], [3, 4, 7]]  # the first two seconds are of the round that is not counted
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1])


def test_the_spread_is_that_of_numpy() -> None:
    numbers = [5.0, 1.0, 2.5, 9.0, 4.0, 4.5]
    assert latency.spread(numbers) == pytest.approx(np.percentile(numbers, [50, 25, 75, 0, 100]))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What was to be timed; the seconds are the test's."""
    found: list[tuple] = []

    def side_by_side(models, shapes, device, rounds, progress):
        found.append(([model.config for model in models], shapes, device.form, rounds, torch.get_num_threads()))
        return SECONDS

    monkeypatch.setattr(latency, "side_by_side", side_by_side)
    return found


COMMAND = "latency resnet20 layers=1-1&block=basic --size 48x40 --batch 3 --repeats 4 --threads 1 --precision half"


def test_what_is_asked_for_is_timed(asked: list[tuple], capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.get_num_threads()
    assert main([*COMMAND.split(), "--json"]) == 0
    assert torch.get_num_threads() == before
    found = json.loads(capsys.readouterr().out)
    configs = [preset("resnet20"), preset("resnet18").with_(layers=(1, 1), planes=(64, 128))[0]]
    assert asked[0][1:] == ([(3, 3, 48, 40)] * 2, found["machine"]["form"], 4, 1)
    assert asked[0][0] == configs
    assert (found["batch"], found["machine"]["threads"]) == (3, 1)
    for one, config, seconds in zip(found["networks"], configs, SECONDS, strict=True):
        traced = trace(config, (48, 40))
        assert (one["parameters"], one["macs"], one["seconds"]) == (traced.params, traced.macs, seconds)
        assert one["median"] == pytest.approx(np.median(seconds))
        ratios = np.divide(seconds, SECONDS[0])
        assert one["ratio"]["median"] == pytest.approx(np.median(ratios))
        assert one["ratio"]["upper"] == pytest.approx(np.percentile(ratios, 75))


def test_the_text_and_a_narrow_terminal_have_the_same_numbers(
    asked: list[tuple], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(COMMAND.split()) == 0
    text = capsys.readouterr().out
    assert re.search(r"^resnet20 +48×40 +[\d,]+ +3\.50 +2\.75–5\.50 +2\.00 +857\.1 +1$", text, re.MULTILINE)
    assert re.search(r"^layers=1-1&block=basic .* 6\.00 +5\.25–7\.50 +3\.00 +500\.0 +1\.50 \(", text, re.MULTILINE)
    assert "4 passes of each network over a batch of 3 in turn, in " in text
    monkeypatch.setenv("COLUMNS", "80")
    traced = trace(preset("resnet20"), (48, 40))
    timed = [latency.Timed("layers=1-1&block=basic" * 3, traced, tuple(seconds)) for seconds in SECONDS]
    machine = latency.Machine("CPU, 1 threads", "fp32", 1, 2, None, "2")
    shown = rendered(Latency(timed, machine, 3).table())
    assert max(map(len, shown.splitlines())) <= 80
    assert "2.75–5.50" in shown
    assert "load" not in shown


def test_every_key_is_documented(asked: list[tuple], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latency", "--help"]) == 0
    helped = capsys.readouterr().out
    assert main([*COMMAND.split(), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for part in (found, found["machine"], found["networks"][0], found["networks"][0]["ratio"]):
        for key in part:
            assert re.search(rf"\b{key}\b", helped), key


def test_memory_that_runs_out_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(action: Callable[[], object], device: Device) -> float:
        raise RuntimeError("DefaultCPUAllocator: not enough memory")

    monkeypatch.setattr(latency, "time_action", full)
    assert main(["latency", "resnet20", "--batch", "2"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(
        r"explorer: A batch of 2×3×32×32 through ResNet-20 in fp32 needs more memory than [^\n]+\.\n", err
    )
