"""The panel that times networks beside each other: what is timed, and what is made of the seconds; the clock is the test's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from explorer.analysis.trace import trace
from explorer.figures.latency import compared_figure
from explorer.inference import latency, limits
from explorer.inference.latency import Timed
from explorer.inference.limits import check_batches
from explorer.inference.turns import TooLargeError
from explorer.sharing.threads import computing_on
from explorer.views.choose import latency as view
from helpers import CPU, captions, click, held, opened, run, said, select, small
from resnet import preset

SECONDS = [[0.004, 0.002, 0.010, 0.003], [0.006, 0.003, 0.012, 0.006]]
LINK = {"preset": "resnet20", "with": "plain20", "size": "48x40"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What was to be timed; the seconds are the test's."""
    found: list[tuple] = []

    def side_by_side(models, shapes, device, rounds, progress):
        found.append(([model.config for model in models], shapes, device.form, rounds, torch.get_num_threads()))
        progress(1.0)
        return [seconds[:rounds] for seconds in SECONDS]

    monkeypatch.setattr(latency, "side_by_side", side_by_side)
    return found


def compared() -> AppTest:
    return opened("choose", **LINK)


def test_what_is_asked_for_is_timed_once(asked: list[tuple]) -> None:
    app = compared()
    assert not asked
    select(app, "compared passes", 4)
    select(app, "compared batch", 3)
    select(app, "compared threads", 1)
    select(app, "compared precision", "bf16")
    click(app, "Measure latency")
    configs = [preset("resnet20"), preset("plain20")]
    assert asked == [(configs, [(3, 3, 48, 40)] * 2, "bf16", 4, 1)]
    (table,) = (one.value for one in app.dataframe if "Median ms" in one.value)
    assert list(table["Median ms"]) == pytest.approx([1000 * np.median(seconds) for seconds in SECONDS])
    assert list(table["Upper quartile"]) == pytest.approx([1000 * np.percentile(each, 75) for each in SECONDS])
    assert list(table["Of the first"]) == pytest.approx([1, np.median(np.divide(SECONDS[1], SECONDS[0]))])
    assert list(table["Images/s"]) == pytest.approx([3 / np.median(seconds) for seconds in SECONDS])
    assert "1 of torch's threads" in captions(app)
    run(app)
    assert len(asked) == 1
    rows = app.dataframe[0].value.set_index("Network")["ms here"]
    for name, seconds in zip(("resnet20", "plain20"), SECONDS, strict=True):
        assert rows[name] == pytest.approx(1000 * np.median(seconds) / 3)
    assert rows.notna().sum() == 2
    assert {size for _, size in held(app).timed_here} == {(48, 40)}
    assert {here.how for here in held(app).timed_here.values()} == {"bf16, 1 thread, batch of 3"}
    click(app, "Measure latency again")
    assert asked[1] == asked[0]
    assert len(asked) == 2
    select(app, "limits size", "40x48")  # of which nothing was measured yet
    assert "Measure latency" in [button.label for button in app.button]
    assert not [one for one in app.dataframe if "Median ms" in one.value]


def test_what_takes_too_much_is_a_sentence(asked: list[tuple], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_WORK_MACS", 5e9)
    app = compared()
    assert "Measure latency" in [button.label for button in app.button]
    select(app, "compared batch", 256)
    (error,) = said(app.error)
    assert error.startswith("These networks are too large to measure here: a batch takes the time of ")
    assert "Measure latency" not in [button.label for button in app.button]
    assert not asked


def test_a_batch_takes_that_many_times_the_work() -> None:
    traces = [trace(preset("resnet50")), trace(preset("resnet18"))]
    check_batches(traces, 6)
    with pytest.raises(TooLargeError, match=r"a batch takes (the time of )?[\d.,]+ G"):
        check_batches(traces, 256)
    with pytest.raises(TooLargeError, match="their weights take"):
        check_batches([trace(preset("resnet152"))] * 5, 1)


def timed(*seconds: list[float]) -> list[Timed]:
    traced = trace(small(), 32)
    return [Timed(f"n{number}", traced, tuple(each)) for number, each in enumerate(seconds)]


def test_the_sentence_names_the_fastest_only_where_the_spread_allows() -> None:
    first, second, third = [1.0, 1.1, 1.2, 1.0], [3.0, 3.3, 3.6, 3.1], [2.0, 2.2, 2.4, 2.1]
    assert view.sentence(timed(second, first, third)).startswith(
        "**n1** is the fastest here, with 1,050.0 ms at the median"
    )
    assert "**n2** takes 2.00 times as long" in view.sentence(timed(second, first, third))
    equal = view.sentence(timed([1.0, 1.2, 1.0, 1.2], [1.1, 1.1, 1.1, 1.1]))
    assert equal.endswith("equally fast here, within the spread of the passes.")


def test_the_figure_shows_every_pass() -> None:
    both = timed(*SECONDS)
    figure = compared_figure(both, "t")
    assert [list(box.x) for box in figure.data] == [[1000 * each for each in seconds] for seconds in SECONDS]
    assert {box.quartilemethod for box in figure.data} == {"inclusive"}


def test_networks_are_timed_where_and_as_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple] = []

    def second_pass(model, batch, device):
        weight = next(model.parameters())
        seen.append((model.config, tuple(batch.shape), weight.dtype, batch.dtype, torch.get_num_threads()))
        return float(len(seen))

    monkeypatch.setattr(latency, "second_pass", second_pass)
    traces = [("a", trace(small(), (32, 40))), ("b", trace(small(layers=(2, 2)), (48, 32)))]
    before = torch.get_num_threads()
    found, where = latency.time_networks(traces, replace(CPU, half=True), 2, 2, 1)
    assert torch.get_num_threads() == before
    assert {one[:2] for one in seen} == {(each.config, (2, 3, *each.image_size)) for _, each in traces}
    assert {one[2:] for one in seen} == {(torch.bfloat16, torch.bfloat16, 1)}
    assert [one.seconds for one in found] == [(3.0, 6.0), (4.0, 5.0)]
    assert (where.form, where.threads) == ("bf16", 1)


def test_torch_computes_on_as_many_threads_as_before() -> None:
    before = torch.get_num_threads()
    with computing_on(None):
        assert torch.get_num_threads() == before
    with computing_on(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
