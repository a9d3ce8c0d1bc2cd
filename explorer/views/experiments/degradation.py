"""Degradation, live: the runs that ship, and the same four networks trained here."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from resnet.shipped import ShippedError

from ...analysis.trace import Trace
from ...experiments.degradation import (
    BATCH,
    COUNT,
    LAST,
    Recorded,
    Run,
    Settings,
    Spread,
    Step,
    Summary,
    gathered,
    shipped,
    summarise,
    to_json,
    train,
    training_images,
)
from ...figures.degradation import run_figure, spread_figure
from ...inference.samples import labelled
from ...sharing.jobs import DONE, FAILED, RUNNING, STOPPED, WAITING, JobQueue, Status
from ...sharing.worker import WorkerProcess
from .. import session, settings
from ..cached import shared
from ..components import download

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
        asked = settings.chosen(Settings)
        live(asked)
        recorded(shipped(), asked)


# -- settings -----------------------------------------------------------------------------


def controls() -> None:
    """The settings, two in a row, and what a seed means."""
    st.markdown("**Settings**")
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


WORKER = WorkerProcess()
"""Where the runs of this server are computed."""
QUEUE: JobQueue[Step] = JobQueue(place=WORKER.kept)
"""The runs of this server."""


def visitor() -> str:
    """A name for this session."""
    if not session.held().visitor:
        session.hold(visitor=uuid.uuid4().hex)
    return session.held().visitor


def moving(found: Status | None) -> bool:
    return found is not None and found.state in (WAITING, RUNNING)


def live(asked: Settings) -> None:
    """The run of these settings; while it goes on the card draws itself anew, and so stays in the queue."""
    found = QUEUE.look(asked, visitor())
    polling = moving(found)
    # Many who watch ask less often, so that they cost the server no more than a few.
    every = min(5.0, max(POLL, 0.1 * found.others)) if found and polling else None
    st.fragment(run_card, run_every=every)(asked, polling)


def run_card(asked: Settings, polling: bool) -> None:
    found = QUEUE.look(asked, visitor())
    if moving(found) != polling:
        st.rerun()
    with st.container(border=True, key="training run"):
        head, button = st.columns([4, 1], vertical_alignment="center")
        with button:
            action(asked, found)
        with head:
            where_it_is(asked, found)
        if found is None or not found.items:
            return
        run = gathered(asked, found.items)
        what = f"Training loss, {asked.steps} steps, seed {asked.seed}"
        st.plotly_chart(run_figure(run, what), key="training chart")
        if run.complete:
            results([run])
            name = f"degradation_{asked.to_text() or 'default'}.json"
            words = "The settings and the loss of every step."
            download("JSON", lambda: to_json([run]).encode(), name, "application/json", words)


def action(asked: Settings, found: Status | None) -> None:
    """The one button that this state of the run has."""

    def start() -> None:
        QUEUE.start(asked, visitor(), lambda: WORKER.run(train, asked))

    def stop() -> None:
        QUEUE.stop(asked, visitor())

    shared: dict[str, Any] = {"width": "stretch", "key": "training action"}
    if found is None or found.state == FAILED:
        st.button("Start", icon=":material/play_arrow:", type="primary", on_click=start, **shared)
    elif found.state == STOPPED:
        st.button("Resume", icon=":material/play_arrow:", type="primary", on_click=start, **shared)
    elif found.state in (WAITING, RUNNING):
        st.button(
            "Stop",
            icon=":material/stop:",
            on_click=stop,
            disabled=bool(found.others),
            **shared,
            help=f"{people(found.others)} this run too, so it goes on." if found.others else None,
        )


def where_it_is(asked: Settings, found: Status | None) -> None:
    """One line on the state of the run, and a bar while there is something left of it."""
    if found is None:
        busy = (
            " The server trains one run at a time, and another one is on: yours will wait in the queue."
            if QUEUE.current()
            else ""
        )
        st.markdown(f"**Train them here.** {effort(asked)}{busy}")
        return
    run = gathered(asked, found.items)
    share = run.done / asked.total
    if found.state == RUNNING:
        left = "" if run.seconds_left is None else f" · {duration(run.seconds_left)} left"
        again = f"Taking {found.again:,} steps again, then " if found.again else ""
        st.progress(share, f"{again}{doing(run)}{left}")
    elif found.state == WAITING:
        st.progress(share, f"{place_in_line(found.ahead)}{' ' + resumed(run) if run.done else ''}")
    elif found.state == STOPPED:
        st.progress(share, f"Stopped. {resumed(run)}")
    elif found.state == FAILED:
        kept = f" The {run.done:,} steps that it took stay here until it starts anew." if run.done else ""
        st.error(session.escape_markdown(f"The run failed: {found.error}.{kept}"))
    elif found.state == DONE:
        st.markdown(f"**Trained here** in {duration(run.seconds)}, one network after the other on one thread.")


def effort(asked: Settings) -> str:
    """What a run takes, by the pace of the runs that ship."""
    names = [network.name for network in asked.networks]
    return (
        f"{', '.join(names[:-1])} and {names[-1]}, {asked.steps} steps each{pace(asked)}. It goes on while you visit other "
        "pages, and can be stopped and resumed."
    )


def pace(asked: Settings) -> str:
    """How long a run takes where the runs that ship tell."""
    try:
        by_step = [run for runs in shipped().groups.values() for run in runs]
    except ShippedError:
        return ""
    done = sum(run.settings.steps * sum(n.depth for n in run.settings.networks) for run in by_step)
    each = sum(run.seconds for run in by_step) / done
    seconds = each * asked.steps * sum(network.depth for network in asked.networks)
    wider = "" if asked.width <= Settings().width else ", and more for the greater width"
    return f": about {duration(seconds)} at the pace of the runs below{wider}"


def doing(run: Run) -> str:
    if not run.curves:
        return "Beginning"
    curve = run.curves[-1]
    return f"{curve.network.name}, step {len(curve.losses)} of {run.settings.steps}"


def resumed(run: Run) -> str:
    return f"{run.done:,} of {run.settings.total:,} steps are done and kept."


def place_in_line(ahead: int) -> str:
    """Where a run that waits stands, and how long the one that goes on will take."""
    if not ahead:
        return "Next in the queue."
    current = QUEUE.current()
    left = None if current is None else gathered(*current).seconds_left  # type: ignore[arg-type]
    words = f"In the queue: {ahead} {'run comes' if ahead == 1 else 'runs come'} before this one."
    return words if left is None else f"{words} The one that goes on has {duration(left)} left."


def people(count: int) -> str:
    return "Somebody else watches" if count == 1 else f"{count} others watch"


def duration(seconds: float) -> str:
    """50 s, 3 min 20 s."""
    whole = math.ceil(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60} s"


# -- the runs that ship -------------------------------------------------------------------


@shared()
def shipped_figure(steps: int) -> go.Figure:
    runs = next(runs for settings, runs in shipped().groups.items() if settings.steps == steps)
    return spread_figure(runs, f"Training loss, range of {len(runs)} seeds")


def recorded(file: Recorded, asked: Settings) -> None:
    """The curves, the figures and what they mean, for one of the file's numbers of steps."""
    lengths = {group.steps: (group, runs) for group, runs in file.groups.items()}
    with st.container(border=True, key="training shipped"):
        st.markdown("**The runs that ship**")
        steps = next(iter(lengths))
        if len(lengths) > 1:
            steps = st.segmented_control(
                "Steps of each network",
                list(lengths),
                required=True,
                default=steps,
                key="shipped steps",
                persist_state="session",
            )
        group, runs = lengths[steps]
        st.plotly_chart(shipped_figure(steps), key="shipped chart")
        results(runs)
        st.markdown(length_words({steps: summarise(runs) for steps, (_, runs) in lengths.items()}))
        st.caption(made(file, group, runs))


def results(runs: Sequence[Run]) -> None:
    """The table, and the orders in words."""
    found = summarise(runs)
    rows = "\n".join(
        f"| {row.network.name} | {ranged(row.loss, '.3f')} | {ranged(row.accuracy, '.1%')} | {ranged(row.seconds, '.1f')} |"
        for row in found.rows
    )
    st.markdown(
        f"| Network | Training loss | Test accuracy | Seconds |\n|---|---:|---:|---:|\n{rows}\n\n{order_words(found)}"
    )


def ranged(spread: Spread, form: str) -> str:
    """0.681 (0.650 to 0.702), or 0.681 of one seed."""
    mean = format(spread.mean, form)
    return mean if spread.low == spread.high else f"{mean} ({format(spread.low, form)} to {format(spread.high, form)})"


def order_words(found: Summary) -> str:
    """Whether depth hurt, by kind, and how sure that is."""
    count = len(found.seeds)
    parts = []
    for kind in ("plain", "residual"):
        shallow, deep = found.row(kind, False), found.row(kind, True)
        worse = found.deeper_is_worse[kind]
        of = ("" if worse else "not ") if count == 1 else f"in {worse} of {count} seeds "
        parts.append(
            f"**{deep.network.name}** ends {of}above {shallow.network.name} in training loss: "
            f"{deep.loss.mean:.2f} against {shallow.loss.mean:.2f}."
        )
    words = " ".join(parts)
    if count == 1:
        words += " One seed is one draw: the runs that ship show how far seeds lie apart."
    elif found.deeper_is_worse["plain"] == count and found.gap["residual"] < found.gap["plain"]:
        words += " So depth hurt the plain networks' training, and overfitting is not the reason: that lowers the training loss."
    if not all(math.isfinite(row.loss.mean) for row in found.rows):
        words += " Where a loss is no number, training diverged: a lower learning rate or a longer warm-up helps."
    return words


def length_words(found: dict[int, Summary]) -> str:
    """What longer training does to the gap, and what none of it shows."""
    first, last = found[min(found)], found[max(found)]
    words = ""
    if first is not last:
        before, after = first.gap["plain"], last.gap["plain"]
        words = (
            f"With {max(found):,} steps in place of {min(found):,}, the gap between the plain networks "
            f"{'narrows' if after < before else 'grows'} from {before:.2f} to {after:.2f}. "
        )
    return words + (
        "**What this does not show:** that deeper is better. The deep residual network does not degrade, and that is all. "
        "Nor does it show what still longer training, wider networks or larger images do, or why it happens."
    )


def made(file: Recorded, group: Settings, runs: Sequence[Run]) -> str:
    seeds = ", ".join(str(run.settings.seed) for run in runs)
    side = training_images().images.shape[1]
    return (
        f"Seeds {seeds}. Width {group.width}, {2 * group.width} and {4 * group.width} channels; shortcut {group.shortcut}; SGD with "
        f"Nesterov momentum, batches of {BATCH}, learning rate {group.rate:g} after {group.warmup} steps of warm-up, then a cosine "
        f"to zero. The first {COUNT:,} training images of Fashion-MNIST, pooled to {side}×{side}, mirrored and shifted by up to one "
        f"pixel. Training loss: mean of the last {LAST} batches (curves: of 20). Test accuracy: on the first {len(labelled().labels)} "
        f"test images, so good to about two points. Brackets: least and greatest of the seeds. Made by `{file.command}`."
    )
