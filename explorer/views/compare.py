"""Two to six networks beside each other: which they are, what differs, and what makes the difference."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from resnet import PRESETS, ConfigError, ResNetConfig, preset_name
from resnet.config import stage_and_index
from resnet.options import Settings, option
from resnet.sizes import least_side

from ..analysis.compare import Comparison, activation_bytes, common_size, labels, layer_cell, remarks
from ..analysis.layers import shape_text
from ..analysis.trace import Trace
from ..drawing import compare
from ..export.tables import LINK
from ..figures.compare import COMPARED, bill_figure, stages_figure
from ..lessons.comparisons import READY_COMPARISONS, ReadyComparison
from ..link import MAX_OTHERS, View, natural_size, parse_network, relative, size_text
from ..units import amount, mebibytes, ratio, signed
from . import session, settings, take
from .cached import cached_trace, shared
from .components import picture, plot
from .headline import section, summary
from .sidebar import preset_line

# -- what is shown of them ----------------------------------------------------------------


@dataclass(frozen=True)
class DetailSettings(Settings):
    """What is shown in detail.

    Raises:
        ConfigError: for a value outside its range.
    """

    key = "shown"
    example = "pair-2"

    pair: int = option(
        1, "Pair", "Which of the networks set beside the first.", choices=tuple(range(1, MAX_OTHERS + 1))
    )
    differing: bool = option(False, "Only what differs", "Of its layers all, or those that differ.")
    measure: str = option(next(iter(COMPARED)), "By stage", "The measure of the chart.", choices=tuple(COMPARED))

    @classmethod
    def renewed(cls, text: str) -> str:
        """Older links leave out the names, and what is usual: "2-differing-parameters"."""
        measures = {name.lower().replace(" ", "-"): name.replace(" ", ".") for name in COMPARED}
        named = re.fullmatch(rf"(?:([2-9])(?:-|$))?(?:(differing)(?:-|$))?({'|'.join(measures)})?(?<!-)", text)
        if not named:
            return text
        pair, differing, measure = named.groups()
        parts = (pair and f"pair-{pair}", differing and "differing-1", measure and f"measure-{measures[measure]}")
        return "_".join(filter(None, parts))


def parse_detail(text: str, networks: int) -> DetailSettings:
    """The inverse of `DetailSettings.to_text`, for a comparison of so many networks.

    Raises:
        ConfigError: for another text, or a pair that is not there.
    """
    detail = DetailSettings.from_text(text)
    if detail.pair >= networks:
        raise ConfigError("shown", text, f"a network from 1 to {networks - 1}")
    return detail


def link_detail(networks: int) -> DetailSettings:
    """What the link asks for; the usual, and a sentence, where that is not there."""
    try:
        return parse_detail(session.view().shown, networks)
    except ConfigError as error:
        words = f"{error} The usual is shown instead."
        st.warning(session.escape_markdown(words), icon=":material/error:")
        return DetailSettings()


def change(detail: DetailSettings, **changes: Any) -> None:
    settings.choose(replace(detail, **changes))


def set_others(others: Sequence[ResNetConfig]) -> None:
    """Other networks beside the first; the usual pair of them is shown."""
    detail = settings.chosen(DetailSettings)
    session.choose(others=tuple(others), shown=replace(detail, pair=DetailSettings.pair).to_text())


# -- which networks -----------------------------------------------------------------------


def configs() -> tuple[ResNetConfig, ...]:
    """The current network, and those set beside it: not the pinned one while it is the current one."""
    view = session.view()
    return (view.config, *(view.others[place] for place in places(view)))


def places(view: View) -> list[int]:
    """Where those that are shown stand among a view's others."""
    return [place for place, other in enumerate(view.others) if not other == view.config == view.pinned]


def compare_networks(chosen: Sequence[ResNetConfig], image_size: tuple[int, int], at: str | None = None) -> None:
    """Compare these, the first of them being the current network, and look at a part of theirs where `at` says so."""
    first, *others = chosen
    size = common_size((first,), image_size)
    weights = session.view().weights if first == session.view().config else ""
    set_others(others)
    view = session.view()
    session.show(replace(view, config=first, image_size=size, weights=weights, at=view.at if at is None else at))


def ready_among(chosen: Sequence[ResNetConfig]) -> ReadyComparison | None:
    """The ready comparison that these are, or that their last ones are, set beside others."""
    return next((one for one in READY_COMPARISONS if tuple(chosen[-len(one.configs) :]) == one.configs), None)


def own_networks() -> tuple[ResNetConfig, ...]:
    """Those on the page that a person has made: no preset and no ready comparison brings them back."""
    ready = {config for one in READY_COMPARISONS for config in one.configs}
    return tuple(config for config in configs() if not preset_name(config) and config not in ready)


def ready_comparisons() -> None:
    """One button for each comparison that is prepared; it asks before it replaces a network of the person's own."""
    names = {one.name: one for one in READY_COMPARISONS}

    def chosen() -> None:
        one = names.get(st.session_state["ready"])
        if one and own_networks():
            session.hold(ready=(one.name, configs()))
        elif one:
            open_ready(one)

    current = ready_among(configs())
    session.set_widget("ready", current and current.name)
    st.pills("Ready comparisons", list(names), key="ready", on_change=chosen)
    if (asked := session.held().ready) and asked[1] == configs():
        question(names[asked[0]])


def open_ready(one: ReadyComparison, kept: tuple[ResNetConfig, ...] = ()) -> None:
    """Compare the networks of a ready comparison, beside those that are `kept`."""
    session.hold(ready=None)
    size = session.view().image_size if kept else natural_size(one.configs[0])
    compare_networks((*kept, *one.configs), size, one.at)


def question(one: ReadyComparison) -> None:
    """Whether a ready comparison may take the place of the person's own networks."""
    own = own_networks()
    with st.container(border=True, key="replace"):
        called = dict(zip(configs(), labels(configs()), strict=True))
        names = " and ".join(session.escape_markdown(called[config]) for config in own)
        st.markdown(
            f"**{one.name}** would replace {names}, which {'are no presets' if len(own) > 1 else 'is no preset'}."
        )
        with st.container(horizontal=True):
            if len(own) + len(one.configs) <= 1 + MAX_OTHERS:
                st.button("Open beside", key="ready beside", on_click=open_ready, args=(one, own), type="primary")
            st.button("Replace", key="ready instead", on_click=open_ready, args=(one,))
            st.button("Cancel", key="ready not", on_click=session.hold, kwargs={"ready": None}, type="tertiary")


def remark(traces: Sequence[Trace]) -> None:
    """What to look at, where a prepared comparison is among these."""
    if one := ready_among([trace.config for trace in traces]):
        with st.container(border=True, key="remark"):
            st.markdown(one.words(traces[-len(one.configs) :]))


def networks(names: Sequence[str]) -> None:
    """A card for each network, and what adds another."""
    chosen, view = configs(), session.view()
    columns = card_columns(len(chosen))
    for number, (column, config, name) in enumerate(zip(columns, chosen, names, strict=False)):
        with column, st.container(border=True, height="stretch", gap="small", key=f"compared {number}"):
            section(session.escape_markdown(name))
            st.caption(summary(config) if number else f"{summary(config)} · the sidebar's network")
            if number:
                left = [other for place, other in enumerate(view.others) if place != places(view)[number - 1]]
                swapped = [config, view.config, *left]
                with st.container(horizontal=True):
                    st.button(
                        "Make it the first",
                        key=f"first {number}",
                        on_click=compare_networks,
                        args=(swapped, view.image_size),
                        type="tertiary",
                        help="The others are compared with the first, which the sidebar changes.",
                    )
                    st.button("Remove", key=f"remove {number}", on_click=set_others, args=(left,), type="tertiary")
    if len(chosen) == 1:
        columns[1].container(border=True, height="stretch").markdown(
            "It is pinned: change the network, and the two stand beside each other."
            if view.pinned == view.config
            else "Nothing is beside it yet: choose a ready comparison above, or add a network below."
        )
    if len(view.others) < MAX_OTHERS:
        add()


def card_columns(count: int) -> list[DeltaGenerator]:
    """A place for each network's card and at least two: in one row, or in rows of three where that would be too narrow."""
    wide = max(2, count) if count <= 4 else 3
    return [column for _ in range(0, count, wide) for column in st.columns(wide, gap="small")]


def add() -> None:
    """A preset, a pasted link, or the pinned network as one more."""
    pinned = session.view().pinned

    def put(config: ResNetConfig) -> None:
        session.choose(others=(*session.view().others, config))

    def typed(key: str) -> None:
        text = st.session_state[key] or ""
        if text.strip():
            try:
                put(parse_network(text).config)
            except ConfigError as error:
                session.refuse(error, {key: text}, "Nothing was added.")

    session.set_widget("add preset", None)
    session.set_widget("add link", session.held().typed.get("add link", ""))
    left, right, last = st.columns([3, 4, 3], gap="small", vertical_alignment="bottom")
    left.selectbox(
        "Add a preset",
        list(PRESETS),
        index=None,
        key="add preset",
        placeholder="Choose or type a name",
        format_func=preset_line,
        on_change=typed,
        args=("add preset",),
        accept_new_options=True,
    )
    right.text_input(
        "Or a link",
        key="add link",
        placeholder="Paste a link of this app, or block=basic",
        on_change=typed,
        args=("add link",),
    )
    if pinned is not None and pinned not in configs():
        last.button("Add the pinned network", on_click=put, args=(pinned,), icon=":material/keep:")


def traces() -> list[Trace]:
    """The networks at one image size, with a sentence where that had to be raised."""
    view, chosen = session.view(), configs()
    size = common_size(chosen, view.image_size)
    if size != view.image_size:
        st.info(
            f"All are compared at {size_text(size)} pixels instead of {size_text(view.image_size)}: "
            f"below {max(least_side(config) for config in chosen)} a map is too small for an operation of one of them."
        )
    return [cached_trace(config, size) for config in chosen]


# -- headline figures ---------------------------------------------------------------------

FIGURES: tuple[tuple[str, Callable[[Trace], int], Callable[[float], str], str], ...] = (
    ("Depth", lambda trace: trace.config.depth, lambda value: f"{value:,}", "Weighted layers from input to output"),
    ("Parameters", lambda trace: trace.params, amount, "Trainable numbers"),
    ("MACs", lambda trace: trace.macs, amount, "Multiply-adds for one image; FLOPs = 2 × MACs"),
    ("Activations", activation_bytes, mebibytes, "All layers' outputs for one image in fp32"),
    (
        "Peak activations",
        lambda trace: trace.inference_memory.bytes,
        mebibytes,
        "The most that a forward pass of one image in fp32 holds at once in PyTorch",
    ),
    (
        "Receptive field",
        lambda trace: trace.field.size,
        lambda value: f"{value:,} px",
        "Pixels a side that the last stage sees",
    ),
)


def figures(traces: Sequence[Trace], names: Sequence[str]) -> None:
    """Each headline figure of each network, with difference and ratio to the first."""
    rows = [f"<tr><td></td>{''.join(f'<th>{escape(name)}</th>' for name in names)}</tr>"]
    for label, count, form, words in FIGURES:
        values = [count(trace) for trace in traces]
        cells = [f'<td title="{values[0]:,}"><b>{form(values[0])}</b></td>']
        for value in values[1:]:
            change = with_minus_signs(signed(value - values[0], form))
            cells.append(
                f'<td title="{value:,}"><b>{form(value)}</b><span>{change} · {ratio(value, values[0])}</span></td>'
            )
        rows.append(f'<tr><th title="{words}">{label}</th>{"".join(cells)}</tr>')
    numbers = {label: [count(trace) for trace in traces] for label, count, *_ in FIGURES}
    data = {"Network": names, **numbers, LINK: [relative(View(one.config, one.image_size)) for one in traces]}
    with st.container(border=True, key="figures table"):
        take.ledger(rows, "figures", "Figures of each network", data, "many" if len(names) > 4 else "")
        st.caption(f"At {shape_text(traces[0].image_size)} pixels.")
        for words in remarks(traces, names):
            st.caption(session.escape_markdown(words))


def with_minus_signs(text: str | None) -> str:
    return (text or "").replace("-", "−")


# -- what differs -------------------------------------------------------------------------


def part_at(traces: Sequence[Trace]) -> str:
    """The block, stem or head that is selected; without one, the first that differs."""
    at = session.view().at
    known = {part for trace in traces for part in trace.parts}
    named = [trace.part_of(at) for trace in traces]
    if part := next((part for part in named if part in known), ""):
        return part
    blocks = compare.columns(traces)
    changed = [block for block in blocks if any(map(block.differs, range(len(traces))))]
    first = next((block for block in changed if block.group.startswith("stage")), (changed or blocks)[0])
    return first.identifier if first.group.startswith("stage") else first.group


def drawings(traces: Sequence[Trace], names: Sequence[str]) -> None:
    """The networks under each other, then one block of each, slot under slot."""
    part = part_at(traces)
    unfolded = session.held().unfolded

    def choose(identifier: str) -> None:
        if identifier.startswith("unfold "):
            session.hold(unfolded=session.held().unfolded | {identifier.removeprefix("unfold ")})
            return
        session.choose(at=identifier.partition(" ")[2])

    with st.container(border=True, key="aligned"):
        section("Aligned by stage and block")
        picture(compare.overview(traces, names, part, unfolded), "aligned drawing", "comparison", choose)
        st.caption(
            f"≠ marks a part that differs from {session.escape_markdown(names[0])}. Equal parts are pale, missing ones dashed. "
            "Receptive fields are not compared here: the layer table has them."
        )
        if unfolded & {group for trace in traces for group in trace.groups}:
            st.button("Fold stages", on_click=lambda: session.hold(unfolded=frozenset()), type="tertiary")
    with st.container(border=True, key="slots"):
        words = part.capitalize()
        if part not in ("stem", "head"):
            stage, index = stage_and_index(part)
            words = f"Block {index} of stage {stage}"
        section(f"{words}, slot by slot")
        picture(compare.detail(traces, names, part, session.view().at), "slots drawing", f"comparison-{part}", choose)


@shared("Comparing …")
def cached_comparison(a: ResNetConfig, b: ResNetConfig, image_size: tuple[int, int]) -> Comparison:
    """The comparison with its rows and its bill made."""
    comparison = Comparison(cached_trace(a, image_size), cached_trace(b, image_size))
    assert comparison.rows is not None
    assert comparison.bill is not None
    return comparison


def choose_pair(traces: Sequence[Trace], names: Sequence[str], detail: DetailSettings) -> tuple[Comparison, list[str]]:
    """The first network and one of the others, where there are several to choose from."""
    number = detail.pair
    if len(traces) > 2:
        session.set_widget("pair", number)
        st.segmented_control(
            f"{names[0]} against",
            range(1, len(names)),
            key="pair",
            required=True,
            format_func=names.__getitem__,
            on_change=lambda: change(detail, pair=st.session_state["pair"]),
        )
    found = cached_comparison(traces[0].config, traces[number].config, traces[0].image_size)
    return found, [names[0], names[number]]


BILLED = ("Parameters", "MACs", "Activations", "Field")
"""What the difference is told of: activations in bytes, field in pixels."""


def bill(comparison: Comparison, names: Sequence[str]) -> None:
    """The whole difference shared out to the options, applied one at a time."""
    first, second = map(session.escape_markdown, names)
    section(f"What makes the difference: from {first} to {second}")
    if not comparison.bill:
        st.caption("The two are the same network.")
        return
    forms = (amount, amount, mebibytes, lambda value: f"{value:,} px")
    rows = [(charge.words, charge[3:]) for charge in comparison.bill]
    rows.append(("Total", (comparison.params, comparison.macs, comparison.memory, comparison.field)))
    lines = []
    for words, values in rows:
        cells = "".join(
            f'<td title="{with_minus_signs(f"{value:+,}")}">{with_minus_signs(signed(value, form))}</td>'
            for value, form in zip(values, forms, strict=True)
        )
        kind = ' class="total"' if words == "Total" else ""
        lines.append(f"<tr{kind}><th>{escape(words)}</th>{cells}</tr>")
    numbers = {name: [values[place] for _, values in rows] for place, name in enumerate(BILLED)}
    data = {"Changed option": [words for words, _ in rows], **numbers}
    head = f"<tr>{''.join(f'<th>{name}</th>' for name in data)}</tr>"
    with st.container(key="bill"):
        take.ledger([head, *lines], "bill", "What makes the difference", data)
    order = ", then ".join(charge.title for charge in comparison.bill)
    st.caption(
        f"Applied in this order: {order}. Each line is the difference to the network before it, so the lines sum to the "
        "total exactly; another order may share it out differently. The order is the sidebar's, and an option that cannot "
        "be applied yet waits."
    )
    if len(comparison.bill) > 1:
        left, right = st.columns(2)
        plot(bill_figure(comparison.bill, comparison.params, "params", "parameters"), "bill params", left)
        plot(bill_figure(comparison.bill, comparison.macs, "macs", "MACs"), "bill macs", right)


def layers(comparison: Comparison, names: Sequence[str], detail: DetailSettings) -> None:
    """The aligned layers of two networks with their differences."""
    differing = DetailSettings.options()["differing"]
    settings.widget(differing, "only differing", detail.differing, lambda value: change(detail, differing=value))
    rows = [row for row in comparison.rows if row.differs or not detail.differing]
    differ = sum(row.differs for row in comparison.rows)
    itself = sum(row.changed for row in comparison.rows)
    st.caption(
        f"{differ} of {len(comparison.rows)} layers differ: {itself} in the layer itself, {differ - itself} only in the receptive field. "
        f"The rows sum to {with_minus_signs(f'{comparison.params:+,}')} parameters and {with_minus_signs(f'{comparison.macs:+,}')} MACs."
    )
    a, b = names
    columns = {
        "Layer": [row.name for row in rows],
        a: [layer_cell(row.a) for row in rows],
        b: [layer_cell(row.b) for row in rows],
        "Δ parameters": [row.params for row in rows],
        "Δ MACs": [row.macs for row in rows],
        "Δ memory": [row.memory for row in rows],
        "Δ field": [row.field for row in rows],
    }
    number = st.column_config.NumberColumn
    take.table(
        columns,
        "aligned layers",
        f"Layers of {a} and {b}",
        placeholder="–",
        height=min(460, 36 * len(rows) + 40),
        column_config={
            "Δ parameters": number(format="localized", step=1),
            "Δ MACs": number(format="localized", step=1),
            "Δ memory": number(format="localized", step=1, help="Bytes of the outputs for one image in fp32"),
            "Δ field": number(format="%+d", step=1, help="Pixels a side; empty where one network lacks the layer"),
        },
    )


def by_stage(traces: Sequence[Trace], names: Sequence[str], detail: DetailSettings) -> None:
    """A measure of every network stage by stage."""
    session.set_widget("compared by", detail.measure)
    st.segmented_control(
        DetailSettings.options()["measure"].label,
        list(COMPARED),
        key="compared by",
        required=True,
        on_change=lambda: change(detail, measure=st.session_state["compared by"]),
    )
    plot(stages_figure(traces, names, detail.measure), key="stages chart")
