"""Designs of a space, searched under the budget; those that no other one beats stand in the table."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import suppress
from typing import NamedTuple

import streamlit as st

from resnet import ConfigError, ResNetConfig
from resnet.options import to_text

from ...analysis.choose import Budget, Searched, searching
from ...analysis.search import Candidate, Limits
from ...analysis.space import AXES, SIZE, Space
from ...link import LONGEST, View
from ...sharing.engine import ENGINE, EndedError
from ...sharing.scheduler import PAGES
from ...sharing.store import Progress
from .. import session
from ..cached import cached_result, kept_result, may_compute

FIELDS = ("layers", "planes", "block", "groups", "stem", "shortcut", "attention", SIZE)
"""What can take several values here, by the names in the text of a space."""
EXAMPLES = {"layers": "1..3-1..4-1..6-1..3", "planes": "32..64/16-128-256-512", "groups": "1,32", SIZE: "192,320x640"}
SHOWN = 60
"""Designs in the table at most."""


def words(view: View) -> dict[str, str]:
    """The link's text for each axis, whatever it is worth."""
    named = (word.partition("=") for word in view.space.split())
    return {name: values for name, _, values in named if name}


def space(view: View) -> Space | None:
    """The space around the current network; None where no option takes values.

    Raises:
        ConfigError: for a text that stands for none.
    """
    return Space.around(view.config, view.space) if view.space.strip() else None


def searched(view: View, budget: Budget) -> Searched | None:
    """What the link's search has found, or has found so far."""
    try:
        asked = space(view)
    except ConfigError:
        return None
    if asked is None:
        return None
    key = key_of(asked, budget)
    if (found := kept_result(key)) is not None:
        return found
    part = session.held().searched
    return part[1] if part and part[0] == key else None


class Designs(NamedTuple):
    """Designs for the table, and what they follow from."""

    key: Hashable = None
    best: tuple[Candidate, ...] = ()
    base: ResNetConfig = ResNetConfig()


def best(view: View, budget: Budget) -> Designs:
    """The designs that the search has found, those of fewest MACs where they are too many."""
    if (found := searched(view, budget)) is None:
        return Designs()
    shown = found.best if len(found.best) <= SHOWN else tuple(sorted(found.best, key=lambda one: one.macs)[:SHOWN])
    return Designs((view.space, view.config, found.stop), shown, view.config)


def limits_of(budget: Budget) -> Limits:
    """What of a budget can be told of a design."""
    return Limits(budget.size, budget.macs, budget.params, budget.memory)


def key_of(asked: Space, budget: Budget) -> Hashable:
    return "designs", asked.to_text(), limits_of(budget)


def panel(budget: Budget) -> None:
    """The axes of the space, its search, and what has come of it."""
    view = session.view()
    with st.expander("Search designs", expanded=bool(view.space), icon=":material/search:"):
        st.caption(
            "Every combination of these values is a design of the sidebar's network, under the limits on MACs, parameters and memory. "
            "Values are joined by commas; a number may be a range, 2..6, or one with a step, 32..128/32. Those designs that no "
            "other one beats (more parameters for fewer MACs and less memory) stand in the table. What they would score is not "
            "known."
        )
        axes()
        try:
            asked = space(view)
        except ConfigError as error:
            st.warning(session.escape_markdown(f"{error} Nothing is searched."), icon=":material/error:")
            return
        if asked is not None:
            run(asked, budget)


def axes() -> None:
    """A field for each option that can take several values."""
    given = words(session.view())
    for start in (0, 4):
        for column, name in zip(st.columns(4, gap="small"), FIELDS[start : start + 4], strict=True):
            with column:
                axis(name, given.get(name, ""))


def axis(name: str, text: str) -> None:
    key, option = f"space {name}", AXES[name]

    def typed() -> None:
        now = words(session.view())
        values = "".join(st.session_state[key].split())
        now[name] = values
        written = " ".join(f"{one}={values}" for one, values in now.items() if values)
        try:
            if len(written) > LONGEST:
                raise ConfigError("space", written, f"at most {LONGEST} characters in all fields together")
            Space.around(session.view().config, written)
            session.choose(space=written)
        except ConfigError as error:
            session.refuse(error, {key: st.session_state[key]}, "The space is unchanged.", AXES)

    session.set_widget(key, session.held().typed.get(key, text))
    size = session.view().image_size
    usual = "x".join(map(str, size)) if name == SIZE else to_text(getattr(session.view().config, name), option.joint)
    st.text_input(
        option.label,
        key=key,
        on_change=typed,
        placeholder=usual,
        help=f"{option.help} Several values such as {EXAMPLES.get(name) or ','.join(map(str, option.choices))}.",
    )


def run(asked: Space, budget: Budget) -> None:
    """Search, or go on where a search was stopped, and say what came of it."""
    key, before = key_of(asked, budget), searched(session.view(), budget) or Searched()
    count = f"{len(asked):,} design{'s' * (len(asked) > 1)}"
    done = kept_result(key)
    if done is None and may_compute(
        f"Go on with {len(asked) - before.stop:,}" if before.stop else f"Search {count}", key
    ):

        def compute(tell: Progress) -> Searched:
            found = before
            for found in steps(asked, limits_of(budget), before):
                session.hold(searched=(key, found))
                tell(found.stop / len(asked))
            return found

        cached_result(key, f"Searching {count} …", compute, STOPPED)
        st.rerun()
    found = done or before
    if found.stop:
        so_far = "" if done else f"Stopped after {found.stop:,} of {count}. "
        more = f", of which the {SHOWN} of fewest MACs" if len(found.best) > SHOWN else ""
        st.markdown(
            f"{so_far}**{found.within:,}** are within the limits, {found.over:,} over one, {found.invalid:,} cannot be built. "
            f"No other one beats {len(found.best):,} of them{more}: the rows called Design."
        )


def steps(asked: Space, limits: Limits, before: Searched) -> Iterator[Searched]:
    """What a search has found, part by part. A large one is a worker's, so that it takes Python's lock from nobody; where none
    can be had, and where one is lost, it goes on here."""
    found = before
    if len(asked) - before.stop > AT_ONCE:
        with suppress(EndedError):
            for found in PAGES.each_aside(ENGINE.run(searching, asked, limits, before)):
                yield found
    yield from searching(asked, limits, found)


AT_ONCE = 20_000
"""Designs up to which a search takes less time here than a worker does to start."""
STOPPED = "Ends the search at its next step. What it has found stays, and it can go on from there."
