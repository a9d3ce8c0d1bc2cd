"""The annotated source: lines of `resnet` beside notes about them, in step with the selected layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import streamlit as st

from resnet import ResNetConfig, title

from ..analysis.layers import Layer, shape_text
from ..analysis.trace import Trace
from ..drawing.picture import asset
from ..lessons import source
from ..lessons.notes import ACCURACIES, NOTES, SYMBOLS, Note, Try
from ..lessons.source import ForwardStep, LineTrace, Snippet, SourceLine
from ..link import LONGEST
from ..navigation import ARCHITECTURE, CHOOSE, SOURCE
from . import session, take
from .cached import cached_trace, shared, short_key
from .headline import section


@shared("Following the network through its source …")
def cached_line_trace(config: ResNetConfig, edition: str, _trace: Trace) -> LineTrace:
    """The lines that make and run a network; `edition` tells the texts that the line numbers belong to from others."""
    return source.trace_lines(_trace)


@shared()
def cached_note_texts(config: ResNetConfig, image_size: tuple[int, int]) -> tuple[str, ...]:
    """The words of every note."""
    return tuple(note.text(cached_trace(config, image_size)) for note in NOTES)


def annotated_source(trace: Trace, layer: Layer) -> None:
    """Contents and symbols, then every idea in reading order, or those that have what is looked for; `layer` is the selected one."""
    lines = cached_line_trace(trace.config, short_key(tuple(map(source.module_source, source.MODULES))), trace)
    own = layer_note(lines, layer)
    arrived = follow_selection(layer, lines)
    wanted = linked_note(arrived)
    bar()
    words = dict(zip(NOTES, cached_note_texts(trace.config, trace.image_size), strict=True))
    looked_for = session.view().find.strip()
    shown: Sequence[Note] = NOTES
    if looked_for:
        shown = matches(looked_for, words)
        st.markdown(matches_text(looked_for, shown))
    else:
        selected_card(lines, layer, own)
        left, right = st.columns(2, gap="medium")
        with left:
            contents()
        with right:
            legend()
    for part, notes in groupby(shown, lambda note: note.part):
        st.header(part, anchor=False, divider="gray")
        for anchor, together in groupby(notes, lambda note: note.anchor):
            row(trace, lines, layer, source.snippet(anchor), [(note, words[note]) for note in together], own)
    if wanted or (arrived and session.view().at == layer.name):
        scroll_to(wanted or own)


def layer_note(lines: LineTrace, layer: Layer) -> Note:
    """The note on the line that made a layer."""
    return next(note for note in NOTES if lines.line_of(layer.name) in source.snippet(note.anchor))


def snippets() -> Iterator[Snippet]:
    """Every snippet of the page once, in order."""
    return map(source.snippet, dict.fromkeys(note.anchor for note in NOTES))


def follow_selection(layer: Layer, lines: LineTrace) -> bool:
    """Choose the selected layer's line where it is new; whether this is the page's first run since another page's."""
    state, keys = st.session_state, {snippet: f"line {snippet.anchor}" for snippet in snippets()}
    arrived = not any(key in state for key in keys.values())
    now = (lines.config, layer.name)
    if arrived or session.held().source_layer != now:
        line = lines.line_of(layer.name)
        for snippet, key in keys.items():
            state[key] = line.number if line in snippet else None
        session.hold(source_layer=now)
    return arrived


def linked_note(arrived: bool) -> Note | None:
    """The note that the link's tab names, where it is new; a sentence where no note has that name."""
    asked, before = session.view().tab, session.held().source_note
    session.hold(source_note=asked)
    found = next((note for note in NOTES if note.key == asked), None)
    if asked and found is None:
        st.warning(
            session.escape_markdown(f"tab = {asked} is no note of this page; all of them are shown from the top.")
        )
    return found if arrived or asked != before else None


_scroll = st.components.v2.component("resnet_explorer.scroll", js=asset("scroll.js"))


def scroll_to(note: Note) -> None:
    """Show a note, while formulas and code find their height."""
    _scroll(data=note.key)


# -- above the notes ----------------------------------------------------------------------


def bar() -> None:
    """The parts and the search, which stay in view."""
    with st.container(key="source bar", horizontal=True, vertical_alignment="center", gap="medium"):
        firsts = [next(notes) for _, notes in groupby(NOTES, lambda note: note.part)]
        st.markdown(" · ".join(f"[{note.part}](#{note.key})" for note in firsts), width="stretch")
        session.set_widget("source find", session.view().find)

        def look() -> None:
            session.change_view(find=st.session_state["source find"].strip(), tab="")
            session.hold(source_layer=None)  # what was chosen in the rows that come and go is forgotten

        st.text_input(
            "Search the source",
            key="source find",
            on_change=look,
            max_chars=LONGEST,
            placeholder="Code and notes",
            label_visibility="collapsed",
            icon=":material/search:",
            width=230,
        )


def has(text: str, looked_for: str) -> bool:
    """Whether a text has what is looked for, in capitals or not."""
    return looked_for.casefold() in text.casefold()


def matching_lines(snippet: Snippet, looked_for: str) -> set[int]:
    """The numbers of the lines that have what is looked for."""
    return {number for number, line in zip(snippet.numbers, snippet.lines, strict=True) if has(line, looked_for)}


def matches(looked_for: str, words: Mapping[Note, str]) -> list[Note]:
    """The notes that have it in their title, in their words or in the lines beside them."""
    return [
        note
        for note in NOTES
        if has(note.title, looked_for)
        or has(words[note], looked_for)
        or matching_lines(source.snippet(note.anchor), looked_for)
    ]


def matches_text(looked_for: str, notes: Sequence[Note]) -> str:
    """How often it is there."""
    quoted = f"**{session.escape_markdown(looked_for)}**"
    if not notes:
        return f"Nothing here has {quoted}: part of a line of code, or of a note, is accepted."
    places = {note.anchor: source.snippet(note.anchor) for note in notes}
    found = {(one.module, line) for one in places.values() for line in matching_lines(one, looked_for)}
    lines = f"{len(found)} line{'s' * (len(found) != 1)} with {quoted}, marked"
    return f"{lines}; {len(notes)} of {len(NOTES)} notes are beside such lines or name it."


def selected_card(lines: LineTrace, layer: Layer, note: Note) -> None:
    """From the selected layer to its line, and to the lines that called it."""
    line = lines.line_of(layer.name)
    with st.container(border=True, key="selected layer"):
        path = line.module.replace(".", "/")
        st.markdown(
            f"**Selected:** `{layer.name}`, {layer.label}. Line {line.number} of `{path}.py` made it: see "
            f"[{note.title}](#{note.key})."
        )
        calls = reversed([line for line in lines.construction_lines[layer.name] if source.enclosing_definition(line)])
        st.caption(
            "Call stack: "
            + " → ".join(f"`{source.enclosing_definition(call).split('.', 2)[2]}` line {call.number}" for call in calls)
        )
        st.page_link(
            ARCHITECTURE.file,
            label="Show it on Architecture",
            icon=ARCHITECTURE.icon,
            query_params=replace(session.view(), at=layer.name).to_query(),
        )


def contents() -> None:
    with st.container(border=True, height="stretch", key="contents"):
        section("Contents")
        for part, notes in groupby(NOTES, lambda note: note.part):
            st.markdown(f"**{part}**  \n" + " · ".join(f"[{note.title}](#{note.key})" for note in notes))


def legend() -> None:
    with st.container(border=True, height="stretch", key="legend"):
        section("Symbols")
        rows = [
            {"Symbol": f"${one.letter}$", "Meaning": one.meaning, "In the code": f"`{one.code}`"} for one in SYMBOLS
        ]
        take.texts(rows, "symbols", "Symbols", words=3)


# -- one row ------------------------------------------------------------------------------


def row(
    trace: Trace,
    lines: LineTrace,
    layer: Layer,
    snippet: Snippet,
    notes: Sequence[tuple[Note, str]],
    selected_note: Note,
) -> None:
    """The lines of one function or field, and the notes on them."""
    with st.container(key=f"source-row-{snippet.anchor.replace('.', '-')}"):
        left, right = st.columns([6, 5], gap="medium")
    with left:
        code(trace, lines, layer, snippet, built=all(note.built for note, _ in notes))
    with right:
        for note, words in notes:
            st.subheader(note.title, anchor=note.key)
            if note is selected_note:
                st.caption(f"These lines made the selected layer, `{layer.name}`.")
            st.markdown(words)
            with st.container(horizontal=True, gap="small"):
                for link in note.tries:
                    try_link(link, runs=lines.uses(snippet))


def try_link(link: Try, runs: bool) -> None:
    """A link to a page with this network, unless it would show what is already here."""
    now = replace(session.view(), find="")
    there = link.view(now)
    alone = link.page == CHOOSE and link != ACCURACIES and there.others in ((), (now.config,))
    if alone or (link.page == SOURCE and runs):
        return
    st.page_link(
        link.page.file, label=link.label, icon=":material/arrow_forward:", query_params=session.query_to(there)
    )


def code(trace: Trace, lines: LineTrace, layer: Layer, snippet: Snippet, built: bool) -> None:
    """Lines, how many layers each made, and for a `forward` its steps."""
    st.caption(f"`{snippet.path}` · `{snippet.name}`")
    counts = {n: len(made) for n in snippet.numbers if (made := lines.layers_of.get(SourceLine(snippet.module, n)))}
    key = f"line {snippet.anchor}"
    chosen = st.session_state.get(key)
    place, block = st.container(), running_block(layer)
    marked = {chosen} if chosen else set()
    if counts:
        layer_chooser(lines, layer, snippet, counts, key)
    if runs := running(trace.config, snippet):
        path = "" if runs == NETWORK else block
        step = stepper(source.steps(trace, lines, runs, path), runs, path)
        marked = {step.line}
    if looked_for := session.view().find.strip():
        marked = matching_lines(snippet, looked_for)
    with place:
        st.html(source.html(snippet, marked, lines.skipped(snippet) if built else (), counts))
        if built and snippet.name.count(".") < 2 and not lines.uses(snippet) and is_function(snippet):
            st.caption(f"{title(trace.config)} does not run these lines.")


def is_function(snippet: Snippet) -> bool:
    return snippet.lines[0].lstrip().startswith(("def ", "class ", "@"))


def layer_chooser(lines: LineTrace, layer: Layer, snippet: Snippet, counts: dict[int, int], key: str) -> None:
    """From a line to the layers it made, one of which may be selected."""
    number = st.pills(
        "Lines that made layers",
        list(counts),
        key=key,
        format_func=lambda n: f"{n} · {counts[n]:,}",
        help="Line number and how many layers it made, itself or through what it called. Choose one to see them.",
    )
    if number is None:
        return
    names = lines.layers_of[SourceLine(snippet.module, number)]
    choice = f"layers {snippet.anchor} {number}"
    session.set_widget(choice, layer.name if layer.name in names else None)

    def select() -> None:
        if name := st.session_state[choice]:
            session.choose(at=name)
            session.hold(source_layer=(lines.config, name))

    st.selectbox(
        f"Layers that line {number} made",
        names,
        key=choice,
        on_change=select,
        placeholder="Select one",
        label_visibility="collapsed",
    )


# -- running a line -----------------------------------------------------------------------

NETWORK = "resnet.model.ResNet.forward"


def running(config: ResNetConfig, snippet: Snippet) -> str:
    """The anchor of the `forward` or `branch` among these lines that this network runs; empty for none."""
    runs = (NETWORK, source.forward_anchor(config), source.branch_anchor(config))
    return next((anchor for anchor in runs if anchor == snippet.anchor or anchor.startswith(snippet.anchor + ".")), "")


def running_block(layer: Layer) -> str:
    """The block of the selected layer, else the first."""
    return layer.block or "layer1.0"


def stepper(steps: Sequence[ForwardStep], anchor: str, block: str) -> ForwardStep:
    """Buttons that go from call to call, with the shapes before and after."""
    at = min(session.held().steps.get(anchor, 0), len(steps) - 1)
    step = steps[at]

    def go(by: int) -> None:
        session.hold(steps={**session.held().steps, anchor: (at + by) % len(steps)})

    with st.container(border=True, key=f"stepper {anchor}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.button("Back", key=f"back {anchor}", on_click=go, args=(-1,), icon=":material/chevron_left:")
            st.button("Next", key=f"next {anchor}", on_click=go, args=(1,), icon=":material/play_arrow:")
            st.markdown(f"**Run this line:** {at + 1} of {len(steps)}" + (f" in `{block}`" if block else ""))
        reads = " and ".join(map(shape_text, step.in_shapes))
        what = step.layers[0].label if len(step.layers) == 1 else f"{len(step.layers)} layers"
        st.markdown(
            f"Line {step.line}: `{step.call}`, {what if step.layers else 'an identity here'}  \n"
            f"{reads} → **{shape_text(step.out_shape)}**"
        )
    return step
