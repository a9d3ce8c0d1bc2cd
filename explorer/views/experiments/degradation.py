"""Degradation, live: the runs that ship, and the same four networks trained here."""

from __future__ import annotations

import math
import random
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import plotly.graph_objects as go
import streamlit as st
from streamlit import runtime

from resnet.shipped import ShippedError

from ...analysis.trace import Trace
from ...experiments.degradation import (
    BATCH,
    IMAGE_COUNT,
    LAST_STEPS,
    RecordedRuns,
    Settings,
    Spread,
    Step,
    Summary,
    TrainingRun,
    collect_run,
    parting_step,
    prepare,
    running_mean,
    shipped_runs,
    summarise,
    to_json,
    train,
    training_images,
)
from ...figures.degradation import run_figure, spread_figure
from ...inference.samples import labelled_images
from ...sharing.engine import ENGINE, EndedError
from ...sharing.jobs import DONE, FAILED, RUNNING, STOPPED, WAITING, JobQueue, Status
from ...sharing.store import RESULTS
from ...units import decimals
from .. import cached, session, settings, take
from ..cached import shared
from ..components import download, plot
from ..headline import section
from ..tabs import segments

POLL = 1.0
"""Seconds between two looks at a run that goes on."""


def panel(trace: Trace) -> None:
    """The experiment. It is about networks of its own; `trace` is what every panel gets."""
    settings.problem(Settings)
    st.markdown(
        "Does a deeper network train worse? He et al. 2015 saw it in plain networks of 56 against 20 layers on CIFAR-10 "
        "(Figure 1), and named it **degradation**. Here it is in small: plain and residual networks of two depths learn "
        "the same images in the same order, and what counts is the loss **on the images they are trained on**."
    )
    left, right = st.columns([9, 4])
    with right, st.container(border=True, key="training settings"):
        controls()
    with left:
        chosen = settings.chosen(Settings)
        live_run(chosen)
        shipped_card(shipped_runs())


# -- settings -----------------------------------------------------------------------------


def controls() -> None:
    """The settings, two in a row, and what a seed means."""
    section("Settings")
    for pair in (("shallow", "deep"), ("width", "shortcut"), ("rate", "warmup"), ("steps", "seed")):
        for place, name in zip(st.columns(2), pair, strict=True):
            with place:
                setting(name)
    st.caption(
        "They are part of the link. The same settings and seed give the same curves again, to the last digit on the "
        "same kind of processor; another one may round differently, and a network that is hard to train makes much of it."
    )


def setting(name: str) -> None:
    """The widget of one setting; one that is typed says what it takes."""
    option = Settings.options()[name]
    help = option.help if option.choices else f"{option.help} {option.accepted.capitalize()}."
    settings.setting(Settings, name, "The settings are unchanged.", help=help)


# -- live ---------------------------------------------------------------------------------


QUEUE: JobQueue[Step] = JobQueue(place=ENGINE.keep_running, gone=lambda who: RESULTS.has_ended(who.partition(" ")[2]))
"""The runs of this server. Who reloads the page has a new session, and the one before watches no longer."""
WARM_SECONDS = 60.0
"""For which the worker waits for a run that somebody may start."""
WARM = threading.Lock()
"""Held while it waits."""


def visitor() -> str:
    """A name for this session, and after a space the server's own for it."""
    if not session.held().visitor:
        session.hold(visitor=f"{uuid.uuid4().hex} {cached.session()}")
    return session.held().visitor


def warm_up() -> None:
    """Have the worker ready: what it imports takes seconds, in which whoever starts a run would see nothing."""

    def wait() -> None:
        if WARM.acquire(blocking=False):
            try:
                with suppress(EndedError), ENGINE.keep_running():
                    list(ENGINE.run(prepare))
                    time.sleep(WARM_SECONDS)
            finally:
                WARM.release()

    if runtime.exists() and not WARM.locked():
        threading.Thread(target=wait, name="warm", daemon=True).start()


def is_active(status: Status | None) -> bool:
    return status is not None and status.state in (WAITING, RUNNING)


def live_run(chosen: Settings) -> None:
    """The run of these settings; while it goes on the card draws itself anew, and so stays in the queue."""
    status = QUEUE.look(chosen, visitor())
    polling = is_active(status)
    if not polling:
        warm_up()
    # Many who watch ask less often, so that they cost the server no more than a few.
    every = min(5.0, max(POLL, 0.1 * status.others)) if status and polling else None
    st.fragment(run_card, run_every=every)(chosen, polling)


def run_card(chosen: Settings, polling: bool) -> None:
    status = QUEUE.look(chosen, visitor())
    if is_active(status) != polling:
        st.rerun()
    with st.container(border=True, key="training run"):
        head, button = st.columns([4, 1], vertical_alignment="center")
        with button:
            run_button(chosen, status)
        with head:
            run_progress(chosen, status)
        if status is None or not status.items:
            return
        run = collect_run(chosen, status.items)
        what = f"Training loss, {chosen.steps} steps, seed {chosen.seed}"
        plot(run_figure(run, what), key="training chart")
        if not run.complete:
            st.caption(f"{so_far(run)} {parting_ahead(run)}".rstrip())
        else:
            results([run], "run rows")
            name = f"degradation_{chosen.to_text() or 'default'}.json"
            words = "The settings and the loss of every step."
            download("JSON", lambda: to_json([run]).encode(), name, "application/json", words)


def run_button(chosen: Settings, status: Status | None) -> None:
    """The one button that this state of the run has."""

    def start() -> None:
        QUEUE.start(chosen, visitor(), lambda: ENGINE.run(train, chosen))

    def stop() -> None:
        QUEUE.stop(chosen, visitor())

    def start_another() -> None:
        other = replace(chosen, seed=random.randint(0, int(Settings.options()["seed"].high)))
        QUEUE.start(other, visitor(), lambda: ENGINE.run(train, other))
        settings.choose(other)

    shared: dict[str, Any] = {"width": "stretch", "key": "training action"}
    if status is None or status.state == FAILED:
        st.button("Start", icon=":material/play_arrow:", type="primary", on_click=start, **shared)
    elif status.state == STOPPED:
        st.button("Resume", icon=":material/play_arrow:", type="primary", on_click=start, **shared)
    elif status.state in (WAITING, RUNNING):
        st.button(
            "Stop",
            icon=":material/stop:",
            on_click=stop,
            disabled=bool(status.others),
            **shared,
            help=f"{viewers_text(status.others)} this run too, so it goes on." if status.others else None,
        )
    else:
        words = "Trains the four networks again, from other first weights and with the images in another order."
        st.button("Another seed", icon=":material/refresh:", on_click=start_another, help=words, **shared)


def run_progress(chosen: Settings, status: Status | None) -> None:
    """One line on the state of the run, and a bar while there is something left of it."""
    if status is None:
        busy = (
            " The server trains one run at a time, and another one is on: yours will wait in the queue."
            if QUEUE.current()
            else ""
        )
        st.markdown(f"**Train them here.** {effort_text(chosen)}{busy}")
        return
    run = collect_run(chosen, status.items)
    share = run.done / chosen.total
    if status.losses:
        st.caption(session.escape_markdown(losses_text(status, chosen.total)))
    if status.state == RUNNING:
        left = "" if run.seconds_left is None else f" · {duration(run.seconds_left)} left"
        again = f"Repeating {status.repeats_left:,} steps, then " if status.repeats_left else ""
        st.progress(share, f"{again}{current_step(run)}{left}")
    elif status.state == WAITING:
        st.progress(share, f"{queue_text(status.ahead)}{' ' + kept_steps(run) if run.done else ''}")
    elif status.state == STOPPED:
        st.progress(share, f"Stopped. {kept_steps(run)}")
    elif status.state == FAILED:
        kept = f" The {run.done:,} steps that it took stay here until it starts anew." if run.done else ""
        st.error(session.escape_markdown(f"The run failed: {status.error}.{kept}"))
    elif status.state == DONE:
        st.markdown(f"**Trained here** in {duration(run.seconds)}, the four networks by turns on one thread.")


def losses_text(status: Status, total: int) -> str:
    """What happened to the run, where it had to begin anew."""
    first = status.losses[0]
    again = f" for the first of {len(status.losses)} times" if len(status.losses) > 1 else ""
    kept = (
        "The steps that were shown are kept, and made again before the run goes on."
        if first.items
        else "It begins anew."
    )
    return f"At {first.items:,} of {total:,} steps {first.reason}{again}. {kept}"


def effort_text(chosen: Settings) -> str:
    """What a run takes, by the pace of the runs that ship."""
    names = [network.name for network in chosen.networks]
    return (
        f"{', '.join(names[:-1])} and {names[-1]} take turns, {chosen.steps} steps each{duration_estimate(chosen)}. It goes on while you "
        "visit other pages, and can be stopped and resumed."
    )


def duration_estimate(chosen: Settings) -> str:
    """How long a run takes where the runs that ship tell."""
    try:
        by_step = [run for runs in shipped_runs().groups.values() for run in runs]
    except ShippedError:
        return ""
    done = sum(run.settings.steps * sum(n.depth for n in run.settings.networks) for run in by_step)
    each = sum(run.seconds for run in by_step) / done
    seconds = each * chosen.steps * sum(network.depth for network in chosen.networks)
    wider = "" if chosen.width <= Settings().width else ", and more for the greater width"
    return f": about {duration(seconds)} at the pace of the runs below{wider}"


def current_step(run: TrainingRun) -> str:
    if not run.curves:
        return "Beginning"
    return f"Step {len(run.curves[0].losses)} of {run.settings.steps}"


def kept_steps(run: TrainingRun) -> str:
    return f"{run.done:,} of {run.settings.total:,} steps are done and kept."


def so_far(run: TrainingRun) -> str:
    """Where the curves of a run stand that goes on, and what a network has that knows nothing."""
    ends = {curve.network: running_mean(curve.losses)[-1] for curve in run.curves}
    pairs = [
        " and ".join(f"{network.name} at {loss:.2f}" for network, loss in ends.items() if network.kind == kind)
        for kind in ("plain", "residual")
    ]
    return (
        f"{'; '.join(filter(None, pairs))}: means of the last 20 steps or fewer. A guess among ten classes has "
        f"{math.log(10):.2f}."
    )


def parting_words(runs: Sequence[TrainingRun]) -> str:
    """From which step on depth hurts the plain networks in every run; empty where it does not."""
    found = [parting_step(run, "plain") for run in runs]
    steps = [step for step in found if step is not None]
    if not steps or len(steps) < len(found):
        return ""
    shallow, deep = runs[0].settings.networks[:2]
    ends = dict.fromkeys((min(steps), max(steps)))
    among = ", by seed" if len(ends) > 1 else ""
    return f"{deep.name} stays above {shallow.name} from step {' to '.join(map(str, ends))} on{among}."


def parting_ahead(run: TrainingRun) -> str:
    """Where the plain networks of a run that goes on have not parted, when those of the runs that ship did."""
    if words := parting_words([run]):
        return words
    try:
        shipped = parting_words(next(iter(shipped_runs().groups.values())))
    except ShippedError:
        return ""
    return f"The plain pair has not parted yet. In the runs that ship {shipped}" if shipped else ""


def queue_text(ahead: int) -> str:
    """Where a run that waits stands, and how long the one that goes on will take."""
    if not ahead:
        return "Next in the queue."
    current = QUEUE.current()
    left = None if current is None else collect_run(*current).seconds_left  # type: ignore[arg-type]
    words = f"In the queue: {ahead} {'run comes' if ahead == 1 else 'runs come'} before this one."
    return words if left is None else f"{words} The one that goes on has {duration(left)} left."


def viewers_text(count: int) -> str:
    return "Somebody else watches" if count == 1 else f"{count} others watch"


def duration(seconds: float) -> str:
    """50 s, 3 min 20 s."""
    whole = math.ceil(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60} s"


# -- the runs that ship -------------------------------------------------------------------


@shared()
def cached_shipped_figure(steps: int) -> go.Figure:
    runs = next(runs for settings, runs in shipped_runs().groups.items() if settings.steps == steps)
    return spread_figure(runs, f"Training loss, range of {len(runs)} seeds")


def shipped_card(file: RecordedRuns) -> None:
    """The curves, the figures and what they mean, for one of the file's numbers of steps."""
    lengths = {str(group.steps): (group, runs) for group, runs in file.groups.items()}
    with st.container(border=True, key="training shipped"):
        section("The runs that ship")
        steps = next(iter(lengths))
        if len(lengths) > 1:
            steps = segments("Steps of each network", list(lengths), "shipped steps", "run")
        group, runs = lengths[steps]
        plot(cached_shipped_figure(group.steps), key="shipped chart")
        results(runs, "shipped rows")
        st.markdown(length_words({group.steps: summarise(runs) for group, runs in lengths.values()}))
        st.caption(provenance(file, group, runs))


def results(runs: Sequence[TrainingRun], key: str) -> None:
    """The table, and the orders in words; every seed's numbers are taken away."""
    summary = summarise(runs)
    rows = [
        {
            "Network": row.network.name,
            "Training loss": ranged(row.loss, ".3f"),
            "Test accuracy": ranged(row.accuracy, ".1%"),
            "Seconds": ranged(row.seconds, ".1f"),
        }
        for row in summary.rows
    ]
    take.texts(rows, key, "Runs", partial(seed_rows, runs))
    st.markdown(f"{order_words(summary)} {parting_words(runs)}")


def seed_rows(runs: Sequence[TrainingRun]) -> list[dict[str, Any]]:
    """How each network of each seed ends."""
    return [
        {
            "Network": row.network.name,
            "Seed": run.settings.seed,
            "Training loss": row.loss.mean,
            "Test accuracy": row.accuracy.mean,
            "Seconds": row.seconds.mean,
        }
        for run in runs
        for row in summarise([run]).rows
    ]


def ranged(spread: Spread, form: str) -> str:
    """0.681 (0.650 to 0.702), or 0.681 of one seed."""
    mean = format(spread.mean, form)
    return mean if spread.low == spread.high else f"{mean} ({format(spread.low, form)} to {format(spread.high, form)})"


def order_words(summary: Summary) -> str:
    """Whether depth hurt, by kind, and how sure that is."""
    count = len(summary.seeds)
    parts = []
    for kind in ("plain", "residual"):
        shallow, deep = summary.row(kind, False), summary.row(kind, True)
        worse = summary.deeper_is_worse[kind]
        ends, seeds = (
            "ends" if worse or count > 1 else "does not end",
            f" in {worse} of {count} seeds" if count > 1 else "",
        )
        parts.append(
            f"**{deep.network.name}** {ends} above {shallow.network.name} in training loss{seeds}: "
            f"{deep.loss.mean:.2f} against {shallow.loss.mean:.2f}."
        )
    words = " ".join(parts)
    if count == 1:
        words += " One seed is one draw: the runs that ship show how far seeds lie apart."
    elif summary.deeper_is_worse["plain"] == count and summary.gap["residual"] < summary.gap["plain"]:
        words += " So depth hurt the plain networks' training, and overfitting is not the reason: that lowers the training loss."
    if not all(math.isfinite(row.loss.mean) for row in summary.rows):
        words += " Where a loss is not a number, training diverged: a lower learning rate or a longer warm-up helps."
    return words


def length_words(summaries: dict[int, Summary]) -> str:
    """What longer training does to the gap, and what none of it shows."""
    first, last = summaries[min(summaries)], summaries[max(summaries)]
    words = ""
    if first is not last:
        before, after = first.gap["plain"], last.gap["plain"]
        words = (
            f"With {max(summaries):,} steps in place of {min(summaries):,}, the gap between the plain networks "
            f"{'narrows' if after < before else 'grows'} from {decimals(before)} to {decimals(after)}. "
        )
    return words + (
        "**What this does not show:** that deeper is better. The deep residual network does not degrade, and that is all. "
        "Nor does it show what still longer training, wider networks or larger images do, or why it happens."
    )


def provenance(file: RecordedRuns, group: Settings, runs: Sequence[TrainingRun]) -> str:
    seeds = ", ".join(str(run.settings.seed) for run in runs)
    side = training_images().images.shape[1]
    return (
        f"Seeds {seeds}. Width {group.width}, {2 * group.width} and {4 * group.width} channels; shortcut {group.shortcut}; SGD with "
        f"Nesterov momentum, batches of {BATCH}, learning rate {group.rate:g} after {group.warmup} steps of warm-up, then a cosine "
        f"to zero. The first {IMAGE_COUNT:,} training images of Fashion-MNIST, pooled to {side}×{side}, mirrored and shifted by up to one "
        f"pixel. Training loss: mean of the last {LAST_STEPS} batches (curves: of 20). Test accuracy: on the first {len(labelled_images().labels)} "
        f"test images, so good to about two points. Brackets: least and greatest of the seeds. Made by `{file.command}`."
    )
