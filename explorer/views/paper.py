"""The paper's tables and figures as cards: what each says, what stands for it here, and the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import plotly.graph_objects as go
import streamlit as st

from resnet.errors import ExplainedError
from resnet.presets import short_title
from resnet.shipped import BUNDLED

from ..figures.degradation import spread_figure
from ..figures.paper import response_figure
from ..lessons.paper import EXHIBITS, NOT, REPRODUCES, SMALL, Exhibit, Outcome, Row, longest_runs, responses
from . import session, take
from .cached import shared
from .claims import LINK_ICONS
from .components import plot
from .headline import section
from .tabs import segments

BADGES = {
    REPRODUCES: "green-badge[:material/check: Reproduces]",
    SMALL: "blue-badge[:material/zoom_in_map: In small]",
    NOT: "gray-badge[:material/hourglass_disabled: Not at this budget]",
}
VERDICTS = {"All": "", "Reproduces": REPRODUCES, "In small": SMALL, "Not at this budget": NOT}
"""What can be shown: everything, or what has one verdict."""


@shared("Computing …")
def cached_outcome(name: str) -> Outcome:
    return next(one for one in EXHIBITS if one.name == name).check()


def cards() -> None:
    """Every table and figure in the order of the paper, those of one verdict, or one alone; and how many reproduce."""
    summary, verdicts = st.empty(), st.container()
    alone, wanted = chosen_exhibit(), ""
    if not alone:
        with verdicts:
            wanted = VERDICTS[segments("Verdict", list(VERDICTS), "paper verdict")]
    outcomes = [card(one, wanted) for one in EXHIBITS if alone in ("", one.name)]
    if not alone:
        counts = Counter(outcome.verdict for outcome in outcomes if outcome)
        parts = [f"**{counts[verdict]}** {words}" for verdict, words in COUNTED.items() if counts[verdict]]
        if unknown := outcomes.count(None):
            parts.append(f"**{unknown}** cannot be computed")
        summary.markdown(f"Of {len(EXHIBITS)} tables and figures, {', '.join(parts)}.")


COUNTED = {REPRODUCES: "reproduce", SMALL: "come out in small", NOT: "do not at this budget"}


def chosen_exhibit() -> str:
    """The name of the one that the link asks for, "" for all of them; a sentence where it asks for another."""
    names, asked = [one.name for one in EXHIBITS], session.view().find
    if asked and asked not in names:
        words = f"find = {asked} is not one of {', '.join(names)}; all of them are shown instead."
        st.warning(session.escape_markdown(words), icon=":material/error:")
    alone = asked if asked in names else ""
    session.set_widget("exhibit", alone or None)

    def choose() -> None:
        session.choose(find=st.session_state["exhibit"] or "", tab="")

    st.pills(
        "One alone", names, key="exhibit", on_change=choose, help="The link then leads to it. A second click shows all."
    )
    return alone


def card(one: Exhibit, wanted: str) -> Outcome | None:
    """The outcome, shown where its verdict is `wanted` or all are; None, and a sentence, where what it is computed from cannot
    be had.
    """
    outcome, problem = None, ""
    try:
        outcome = cached_outcome(one.name)
    except ExplainedError as error:
        problem = str(error)
    if wanted and outcome and outcome.verdict != wanted:
        return outcome
    with st.container(border=True, key=f"exhibit {one.name}"):
        section(f"{one.name}. {one.subject}")
        st.markdown(one.says)
        if outcome is None:
            st.error(session.escape_markdown(problem), icon=":material/error:")
        else:
            st.markdown(f":{BADGES[outcome.verdict]} {outcome.why}".strip())
            if one.name in CHARTS:
                left, right = st.columns([5, 6], gap="medium")
                with left:
                    comparison(one.name, outcome.rows)
                    st.caption(outcome.words)
                CHARTS[one.name](right)
            else:
                comparison(one.name, outcome.rows)
                st.caption(outcome.words)
        with st.container(horizontal=True, gap="small"):
            for link in one.links:
                query = session.query_to(link.view)
                st.page_link(link.page.file, label=link.label, icon=LINK_ICONS[link.kind], query_params=query)
    return outcome


def comparison(name: str, rows: Sequence[Row]) -> None:
    """What the paper says, and what comes out here."""
    if rows:
        columns = [{"What": row.what, "Paper": row.paper, "Here": row.here} for row in rows]
        take.texts(columns, f"{name} rows", f"{name}, paper and here", words=3)


# -- charts -------------------------------------------------------------------------------


@shared()
def cached_training_figure(kind: str) -> go.Figure:
    runs = longest_runs()
    return spread_figure(runs, f"Training loss, {runs[0].settings.steps:,} steps, range of {len(runs)} seeds", kind)


@shared()
def cached_response_figure(sort: bool) -> go.Figure:
    named = {short_title(BUNDLED[name]): found for name, found in responses().items()}
    plain = [short_title(config) for config in BUNDLED.values() if config.shortcut == "none"]
    return response_figure(named, plain, sort, "Layer responses, sorted" if sort else "Layer responses")


def training_chart(kind: str) -> Callable[[st.delta_generator.DeltaGenerator], None]:
    return lambda place: plot(cached_training_figure(kind), f"training of {kind or 'all'}", place)


def response_charts(place: st.delta_generator.DeltaGenerator) -> None:
    for sort in (False, True):
        plot(cached_response_figure(sort), f"responses sorted {sort}", place)


CHARTS: dict[str, Callable[[st.delta_generator.DeltaGenerator], None]] = {
    "Figure 1": training_chart("plain"),
    "Figure 4": training_chart(""),
    "Figure 6": training_chart("residual"),
    "Figure 7": response_charts,
}
"""What is drawn beside the comparison, by the name of the exhibit."""
