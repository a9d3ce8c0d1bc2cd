"""Plain and residual networks trained side by side: what ships, and what a run gives."""

from __future__ import annotations

import gzip
import json
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from explorer.bench.visitors import unescaped
from explorer.cli import main
from explorer.experiments import degradation
from explorer.experiments.degradation import (
    DEPTHS,
    IMAGE_COUNT,
    LAST_STEPS,
    Curve,
    Network,
    Settings,
    Step,
    TrainingRun,
    collect_run,
    from_json,
    parting_step,
    pool_2x2,
    running_mean,
    shipped_runs,
    summarise,
    to_json,
    train,
    without_seed,
)
from explorer.figures.degradation import COLOURS, run_figure, spread_figure
from explorer.inference.samples import labelled_images
from explorer.link import View
from explorer.sharing import engine
from explorer.sharing.engine import LostError
from explorer.sharing.jobs import DONE, STOPPED, JobQueue
from explorer.views.experiments import degradation as page
from helpers import captions, click, link, opened, run, said, select, soon, status_of, tab, texts
from resnet import ConfigError, build, preset
from resnet.train import FILES, Recipe, fit

TINY = Settings(shallow=8, deep=14, width=4, warmup=2, steps=10)


@pytest.fixture(scope="module")
def tiny(one_thread: None) -> TrainingRun:
    return collect_run(TINY, train(TINY))


# -- the runs that ship -------------------------------------------------------------------


@pytest.mark.parametrize("steps", [200, 1000])
def test_the_shipped_runs_show_degradation(steps):
    """The paper's order, in every seed: plain-56 worse than plain-20; residual-56 below plain-56, and not degraded like it."""
    runs = next(runs for group, runs in shipped_runs().groups.items() if group.steps == steps)
    found = summarise(runs)
    assert len(found.seeds) >= 3
    assert found.deeper_is_worse["plain"] == len(found.seeds)
    assert found.residual_wins == len(found.seeds)
    assert found.gap["residual"] < 0.5 * found.gap["plain"]
    plain, residual = (found.row(kind, deep=True) for kind in ("plain", "residual"))
    assert (plain.network.name, residual.network.name) == ("Plain-56", "Residual-56")
    assert residual.accuracy.low > plain.accuracy.high


def test_the_shipped_file_says_how_it_was_made():
    file = json.loads(degradation.RUNS.read_text(encoding="utf-8"))
    assert file["command"].startswith("python -m explorer degradation ")
    assert (file["threads"], file["training images"], file["test images"]) == (1, IMAGE_COUNT, 500)
    for group, runs in shipped_runs().groups.items():
        assert group == Settings(steps=group.steps)
        assert all(len(curve.losses) == group.steps for run in runs for curve in run.curves)


def test_the_shipped_images_are_the_test_images_kin():
    """As many of each class as chance gives, and as bright as the test images, pooled the same way."""
    images, labels = degradation.training_images()
    assert images.shape == (IMAGE_COUNT, 14, 14)
    assert images.dtype == np.uint8
    counts = Counter(labels.tolist())
    assert sorted(counts) == list(range(10))
    assert min(counts.values()) > 0.08 * IMAGE_COUNT
    assert images.mean() == pytest.approx(degradation.test_images().images.mean(), rel=0.05)
    assert degradation.IMAGES.stat().st_size < 700_000


def test_pooling_is_torchs():
    ours = pool_2x2(labelled_images().images[:50])
    theirs = F.avg_pool2d(torch.tensor(labelled_images().images[:50])[:, None].double(), 2)[:, 0]
    assert np.abs(ours - theirs.numpy()).max() <= 0.5


def test_cut_takes_the_first_images_of_the_set(tmp_path, monkeypatch, package):
    images, labels = labelled_images()
    images, labels = np.tile(images, (11, 1, 1)), np.tile(labels, 11)
    for name in FILES:
        data = images if "images" in name else labels
        head = struct.pack(f">{1 + data.ndim}I", 0x800 + data.ndim, *data.shape)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(head + data.astype(np.uint8).tobytes(), 1))
    monkeypatch.chdir(tmp_path)
    before = package()
    assert main(["degradation", "--cut", str(tmp_path)]) == 0
    degradation.write_training_images(tmp_path, tmp_path / "cut")
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "fashion-train.npz").read_bytes()
    assert package() == before
    with np.load(tmp_path / "fashion-train.npz") as file:
        assert (file["images"] == pool_2x2(images[:IMAGE_COUNT])).all()
        assert (file["labels"] == labels[:IMAGE_COUNT]).all()


# -- settings -----------------------------------------------------------------------------

SETTINGS = st.builds(
    lambda depths, warmup, steps, **other: Settings(
        shallow=min(depths), deep=max(depths), warmup=min(warmup, steps), steps=steps, **other
    ),
    depths=st.sets(st.sampled_from(DEPTHS), min_size=2, max_size=2),
    width=st.sampled_from((4, 8, 16)),
    shortcut=st.sampled_from("ABCD"),
    rate=st.sampled_from((0.0001, 0.0123, 0.05, 1.0)),
    warmup=st.integers(0, 1000),
    steps=st.integers(10, 1000),
    seed=st.integers(0, 999_999),
)


@given(SETTINGS)
def test_the_link_holds_the_settings_exactly(settings):
    assert Settings.from_text(settings.to_text()) == settings
    query = View(training=settings.to_text()).to_query()
    assert View.from_query(query).training == settings.to_text()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("deep-20", "deep = 20"),
        ("deep-21", "deep = 21"),
        ("shallow-110", "shallow = 110"),
        ("seed--1", "seed = -1"),
        ("steps-9", "steps = 9"),
        ("rate-2", "rate = 2"),
        ("rate-fast", "rate = fast"),
        ("steps-20", "warmup = 30"),
        ("shortcut-none", "shortcut = none"),
        ("x-1", "training = x-1"),
        ("<b>", "training = <b>"),
        ("seed", "seed = (empty)"),
    ],
)
def test_what_is_not_accepted_gets_one_sentence(words, named):
    with pytest.raises(ConfigError, match=r"^.* is not accepted: [^\n]*\.$") as told:
        Settings.from_text(words)
    assert str(told.value).startswith(named)


def test_the_networks_are_the_papers():
    """20 and 56 layers with weights, planes that double, one channel in; A adds no parameters, B does."""
    names = [network.name for network in Settings().networks]
    assert names == ["Plain-20", "Plain-56", "Residual-20", "Residual-56"]
    configs = [network.config(Settings()) for network in Settings().networks]
    assert [config.depth for config in configs] == [20, 56, 20, 56]
    assert configs[3] == replace(preset("resnet56_fashion"), planes=(8, 16, 32), stem_width=8)
    sizes = [sum(p.numel() for p in build(config).parameters()) for config in configs]
    assert sizes[0] == sizes[2]
    projected = Network("residual", 20).config(Settings(shortcut="B"))
    assert sum(p.numel() for p in build(projected).parameters()) > sizes[2]


# -- a run --------------------------------------------------------------------------------


def test_a_run_is_four_networks_of_all_steps(tiny):
    assert tiny.complete
    assert [curve.network for curve in tiny.curves] == list(TINY.networks)
    assert all(len(curve.losses) == 10 and 0 <= curve.accuracy <= 1 and curve.seconds > 0 for curve in tiny.curves)
    assert tiny.curves[0].losses[0] == pytest.approx(np.log(10), abs=0.7)


def test_a_seed_gives_the_same_curve_twice_and_another_a_different_one(tiny):
    again = collect_run(TINY, train(TINY))
    assert [(c.losses, c.accuracy) for c in again.curves] == [(c.losses, c.accuracy) for c in tiny.curves]
    other = replace(TINY, seed=1)
    assert collect_run(other, islice(train(other), 10)).curves[0].losses != tiny.curves[0].losses


def test_what_others_draw_meanwhile_changes_nothing(tiny):
    steps: list[Step] = []
    for step in islice(train(TINY), 10):
        torch.manual_seed(len(steps))
        torch.randn(7)
        steps.append(step)
    seen = collect_run(TINY, steps).curves
    assert [len(curve.losses) for curve in seen] == [3, 3, 2, 2]
    assert all(one.losses == whole.losses[: len(one.losses)] for one, whole in zip(seen, tiny.curves, strict=True))


def test_stopped_and_resumed_in_line_is_the_same_as_at_one_go(tiny):
    queue: JobQueue[Step] = JobQueue()
    queue.start(TINY, "anna", lambda: train(TINY))
    while not status_of(queue, TINY, "anna").items:
        time.sleep(0.001)
    assert queue.stop(TINY, "anna")
    stopped = status_of(queue, TINY, "anna")
    assert stopped.state == STOPPED
    assert len(stopped.items) < TINY.total
    queue.start(TINY, "anna", lambda: train(TINY))
    end = time.monotonic() + 60
    while (found := status_of(queue, TINY, "anna")).state != DONE:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert [c.losses for c in collect_run(TINY, found.items).curves] == [c.losses for c in tiny.curves]


def test_steps_bound_the_training_whatever_the_epochs(one_thread):
    """17 steps of 5 an epoch: the first 15 are those of three epochs at a constant rate, and the order goes on."""
    images, labels = torch.randn(23, 1, 8, 8), torch.arange(23) % 10
    config = Network("residual", 8).config(TINY)

    def losses(**given: int) -> list[float]:
        torch.manual_seed(0)
        recipe = Recipe(batch=4, warmup=1.0, learning_rate=0.0, **given)
        return [step.loss for step in fit(build(config), images, labels, recipe)]

    assert len(losses(steps=17)) == 17
    assert losses(steps=17)[:15] == losses(epochs=3)


def test_time_left_falls_to_nothing(tiny):
    steps = list(train(TINY))
    left = [collect_run(TINY, steps[:count]).seconds_left for count in (0, 1, 20, 40)]
    assert left[0] is None
    assert (left[1] or 0) > 0
    assert (left[2] or 0) > 0
    assert left[3] == 0


# -- results ------------------------------------------------------------------------------


def made_up(seed: int, *losses: float) -> TrainingRun:
    """A run whose four networks end at these losses."""
    settings = replace(TINY, seed=seed)
    curves = [Curve(n, (9.0,) * 5 + (loss,) * 5, 1.0, 0.5) for n, loss in zip(settings.networks, losses, strict=True)]
    return TrainingRun(settings, tuple(curves))


def test_summary_counts_orders(monkeypatch):
    monkeypatch.setattr(degradation, "LAST_STEPS", 5)
    found = summarise([made_up(0, 1, 2, 1, 1.5), made_up(1, 2, 1, 1, 0.5)])
    assert found.seeds == (0, 1)
    assert found.row("plain", deep=True).loss == (1.5, 1, 2)
    assert found.deeper_is_worse == {"plain": 1, "residual": 1}
    assert found.gap == {"plain": 0, "residual": 0}
    assert found.residual_wins == 2
    for wrong in ([], [made_up(0, 1, 1, 1, 1), TrainingRun(Settings(), ())], [TrainingRun(TINY, ())]):
        with pytest.raises(ValueError, match="complete runs"):
            summarise(wrong)


def test_the_training_loss_is_of_the_last_steps():
    losses = tuple(map(float, range(200)))
    assert Curve(TINY.networks[0], losses, 1.0, None).loss == np.mean(range(200 - LAST_STEPS, 200))


@given(st.lists(st.floats(0, 10), min_size=1, max_size=60))
def test_smoothing_is_a_mean_of_the_past(losses):
    expected = [np.mean(losses[max(0, i - 19) : i + 1]) for i in range(len(losses))]
    assert running_mean(losses) == pytest.approx(expected)


def test_runs_go_into_a_file_and_come_back(tiny):
    back = from_json(to_json([tiny], "command"))
    assert back.command == "command"
    ((group, (run,)),) = back.groups.items()
    assert group == without_seed(TINY)
    assert run.settings == TINY
    for ours, theirs in zip(run.curves, tiny.curves, strict=True):
        assert ours.network == theirs.network
        assert ours.accuracy == theirs.accuracy
        assert ours.losses == pytest.approx(theirs.losses, abs=6e-5)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "no",
        '{"command": "", "runs": [{"settings": {}}]}',
        '{"command": "", "runs": [{"settings": {"x": 1}}]}',
    ],
)
def test_other_files_are_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        from_json(text)


def test_the_runs_go_into_the_current_folder(tmp_path, monkeypatch, package):
    before, threads = package(), torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    try:
        assert (
            main(["degradation", "--steps", "10", "--seeds", "0", "--settings", "shallow-8_deep-14_width-4_warmup-2"])
            == 0
        )
    finally:
        torch.set_num_threads(threads)
    assert [path.name for path in tmp_path.iterdir()] == ["degradation.json"]
    assert package() == before


def test_command_line(tmp_path, capsys):
    out, base = tmp_path / "runs.json", "shallow-8_deep-14_width-4_warmup-2"
    threads = torch.get_num_threads()
    try:
        assert main(f"degradation --steps 10 12 --seeds 0 3 --settings {base} --output {out}".split()) == 0
    finally:
        torch.set_num_threads(threads)
    found = from_json(out.read_text(encoding="utf-8"))
    assert found.command == f"python -m explorer degradation --steps 10 12 --seeds 0 3 --settings {base}"
    assert [(run.settings.steps, run.settings.seed) for runs in found.groups.values() for run in runs] == [
        (10, 0),
        (10, 3),
        (12, 0),
        (12, 3),
    ]
    assert "Plain-14" in capsys.readouterr().out
    for wrong, words in (
        ("--steps 5", "steps = 5 is not accepted"),
        ("--settings x", "training = x is not accepted"),
        (f"--cut {tmp_path}", "Fashion-MNIST"),
    ):
        assert main(["degradation", "--output", str(out), *wrong.split()]) == 2
        assert words in capsys.readouterr().err


# -- figures ------------------------------------------------------------------------------


def test_one_colour_a_network_and_dashes_for_the_shallow(tiny):
    assert len(set(COLOURS.values())) == 4
    for figure in (run_figure(tiny, "title"), spread_figure([tiny, replace(tiny)], "title")):
        shown = [trace for trace in figure.data if trace.showlegend is not False]
        assert [trace.name for trace in shown] == [network.name for network in TINY.networks]
        assert [trace.line.dash for trace in shown] == ["dash", "solid"] * 2
        assert len({trace.line.color for trace in shown}) == 4
        assert all(trace.x[-1] == 10 for trace in shown)


# -- the page -----------------------------------------------------------------------------


def degradation_page(**query: str) -> AppTest:
    app = opened("experiments", **query)
    assert tab(app, "Degradation")
    return app


def test_before_start_the_page_shows_what_ships():
    app = degradation_page()
    words = " ".join(texts(app))
    found = summarise(next(iter(shipped_runs().groups.values())))
    assert f"| Plain-56 | {found.row('plain', True).loss.mean:.3f} (" in words
    assert "What this does not show:" in words
    assert shipped_runs().command in captions(app)
    assert [button.label for button in app.button if button.key == "training action"] == ["Start"]
    assert "training" not in link(app)


def test_the_run_that_is_shown_stands_in_the_link():
    app = select(degradation_page(), "shipped steps", "1000")
    assert link(app)["run"] == "1000"
    (runs,) = [runs for settings, runs in shipped_runs().groups.items() if settings.steps == 1000]
    row = f"| Plain-56 | {summarise(runs).row('plain', True).loss.mean:.3f} ("
    assert all(row in " ".join(texts(one)) for one in (app, opened("experiments", **link(app))))
    assert said(opened("experiments", run="7").warning) == ["run = 7 is not one of 200, 1000; 200 is open instead."]


def test_a_run_that_goes_on_says_where_its_curves_stand():
    settings = Settings(steps=10, warmup=5)
    losses = {0: (2.0, 1.0), 1: (3.0, 2.0), 2: (1.0,)}
    steps = [Step(n, loss, 1.0) for n, found in losses.items() for loss in found]
    words = page.so_far(collect_run(settings, steps))
    assert words.startswith("Plain-20 at 1.50 and Plain-56 at 2.50; Residual-20 at 1.00: means of the last 20 steps")


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 2), min_size=1, max_size=60), st.integers(0, 1))
def test_where_a_pair_parts(losses, ahead):
    """The step is the least from which the deep network's mean of 20 losses is above at every step, a step at a time."""
    shallow, deep = ([float(pair[n]) for pair in losses] for n in (0, 1))
    steps = [Step(0, loss, 1.0) for loss in shallow + [0.0] * ahead] + [Step(1, loss, 1.0) for loss in deep]

    def above(step: int) -> bool:
        last = slice(max(0, step - 20), step)
        return sum(deep[last]) > sum(shallow[last])

    later = [step for step in range(1, len(losses) + 1) if all(map(above, range(step, len(losses) + 1)))]
    found = parting_step(collect_run(Settings(), steps), "plain")
    assert found == (later[0] if later else None)


def test_the_page_says_from_which_step_on_depth_hurts():
    """In the runs that ship after the warm-up; while a run goes on, in it or in those."""
    runs = next(iter(shipped_runs().groups.values()))
    steps = [parting_step(run, "plain") or 0 for run in runs]
    words = f"Plain-56 stays above Plain-20 from step {min(steps)} to {max(steps)} on, by seed."
    assert min(steps) > Settings().warmup
    assert words in " ".join(texts(degradation_page()))
    begun = [Step(n, loss, 1.0) for n, loss in ((0, 2.0), (1, 2.0), (0, 1.0), (1, 2.0))]
    assert page.parting_ahead(collect_run(Settings(), begun[:2])).endswith(f"In the runs that ship {words}")
    assert page.parting_ahead(collect_run(Settings(), begun)) == "Plain-56 stays above Plain-20 from step 2 on."


def finished(app: AppTest) -> AppTest:
    end = time.monotonic() + 60
    while "**Trained here**" not in " ".join(texts(app)):
        assert time.monotonic() < end
        run(app)
        time.sleep(0.05)
    return app


def test_start_watch_leave_come_back_and_reload(one_thread):
    settings = replace(TINY, seed=1)
    app = degradation_page(training=settings.to_text())
    click(app, "Start")
    assert "Start" not in [button.label for button in app.button]
    finished(app)
    assert "| Plain-14 | " in " ".join(texts(app))
    run(app.switch_page("../pages/kernels.py"))
    run(app.switch_page("../pages/experiments.py"))
    assert "**Trained here**" in " ".join(texts(app))
    assert "**Trained here**" in " ".join(texts(degradation_page(training=settings.to_text())))


def test_anyone_can_train_again_from_another_seed(one_thread):
    settings = replace(TINY, seed=3)
    app = degradation_page(training=settings.to_text())
    finished(click(app, "Start"))
    click(app, "Another seed")
    other = Settings.from_text(link(app)["training"])
    assert other.seed != 3
    assert replace(other, seed=3) == settings
    finished(app)
    assert f"seed {other.seed}" in app.get("plotly_chart")[0].proto.spec


def test_the_worker_gets_ready_where_a_run_may_be_started(monkeypatch):
    """Once for all who look; the images are read in it, so that a run's first step is all that its first curve waits for."""
    asked, waits = [], threading.Event()

    class Ready:
        keep_running = staticmethod(nullcontext)

        @staticmethod
        def run(function):
            asked.append(function)
            waits.wait(60)
            return iter(())

    monkeypatch.setattr(page, "ENGINE", Ready)
    monkeypatch.setattr(page, "WARM_SECONDS", 0)
    monkeypatch.setattr(page, "WARM", threading.Lock())
    page.warm_up()
    assert not asked, "there is no server"
    monkeypatch.setattr(page.runtime, "exists", lambda: True)
    page.warm_up()
    soon(lambda: asked)
    page.warm_up()
    waits.set()
    soon(lambda: not page.WARM.locked())
    assert asked == [degradation.prepare]


class Loses:
    """An engine that loses its worker after each step, for so often."""

    keep_running = staticmethod(nullcontext)

    def __init__(self, times: int):
        self.left = times

    def run(self, function: object, *settings: Settings) -> Iterator[Step]:
        for number, step in enumerate(train(TINY)):
            if settings and self.left and number > 2 - self.left:
                self.left -= 1
                raise LostError("the process that computed has ended")
            yield step


@pytest.mark.parametrize(
    ("seed", "times", "words"),
    [
        (
            21,
            1,
            "At 2 of 40 steps the process that computed has ended. The steps that were shown are kept, and made again",
        ),
        (
            *(22, 2),
            "At 1 of 40 steps the process that computed has ended for the first of 2 times. The steps that were shown are kept",
        ),
    ],
)
def test_a_run_that_lost_its_worker_says_so_and_ends_as_any_other(
    one_thread: None, monkeypatch: pytest.MonkeyPatch, seed: int, times: int, words: str
) -> None:
    monkeypatch.setattr(page, "ENGINE", Loses(times))
    app = degradation_page(training=replace(TINY, seed=seed).to_text())
    finished(click(app, "Start"))
    assert words in unescaped(captions(app))


def test_a_scheduler_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(page, "ENGINE", engine.Engine("tcp://127.0.0.1:1"))
    app = click(degradation_page(training=replace(TINY, seed=23).to_text()), "Start")
    end = time.monotonic() + 60
    while not app.error:
        assert time.monotonic() < end
        run(app)
    assert said(app.error) == ["The run failed: no scheduler answers at tcp://127.0.0.1:1."]


def test_words_for_the_order(monkeypatch):
    monkeypatch.setattr(degradation, "LAST_STEPS", 5)
    one, other = made_up(0, 1, 2, 1, 1), made_up(1, 1, 2, 1, 3)
    assert "**Residual-14** does not end above Residual-8 in training loss: 1.00 against 1.00." in page.order_words(
        summarise([one])
    )
    assert "**Plain-14** ends above Plain-8 in training loss in 2 of 2 seeds" in page.order_words(
        summarise([one, other])
    )


def test_the_second_waits_in_line_and_both_can_stop():
    long, short = replace(TINY, steps=1000, seed=2), replace(TINY, seed=2)
    first, second = degradation_page(training=long.to_text()), degradation_page(training=short.to_text())
    click(first, "Start")
    run(second)
    assert "yours will wait in the queue" in " ".join(texts(second))
    click(second, "Start")
    (bar,) = second.get("progress")
    assert bar.proto.text.startswith("In the queue: 1 run comes before this one.")
    click(first, "Stop")
    (bar,) = first.get("progress")
    assert bar.proto.text.startswith("Stopped. ")
    finished(second)
    click(first, "Resume")
    click(first, "Stop")
    assert status_of(page.QUEUE, long, "test").state == STOPPED


def test_settings_go_into_the_link():
    app = degradation_page()
    select(app, "training deep", 110)
    select(app, "training seed", "7")
    assert link(app)["training"] == "deep-110_seed-7"
    assert "Residual-110" in " ".join(texts(app))


@pytest.mark.parametrize(
    ("key", "typed", "named"),
    [("steps", "20", "Warm-up = 30"), ("rate", "fast", "Learning rate = fast"), ("seed", "", "Seed = (empty)")],
)
def test_a_setting_that_is_not_accepted_gets_a_sentence(key, typed, named):
    app = degradation_page()
    select(app, f"training {key}", typed)
    (words,) = said(app.warning)
    assert words.startswith(f"{named} is not accepted: ")
    assert "The settings are unchanged." in words
    assert app.text_input(key=f"training {key}").value == typed
    assert "training" not in link(app)
    select(app, "training deep", 20)
    assert "more layers than the shallow networks' 20" in said(app.warning)[0]
    assert app.selectbox(key="training deep").value == 56


def test_a_link_with_mistakes_shows_the_defaults_and_says_so():
    app = degradation_page(training="deep-57")
    (words,) = said(app.warning)
    assert words.startswith("deep = 57 is not accepted: one of 14, ")
    assert words.endswith("The defaults are shown instead.")
    assert app.selectbox(key="training deep").value == 56
