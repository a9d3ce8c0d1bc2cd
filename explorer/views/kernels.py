"""Kernel stacks, one block and a 1×1 convolution, to change and to read off."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Literal

import pandas
import streamlit as st

from resnet import ResNetConfig

from ..analysis.cost import macs_formula, params_formula
from ..analysis.layers import Layer, convolutions, shape_text
from ..drawing import network, rasters, svg
from ..drawing.kernels import growth
from ..experiments.kernels import (
    CASES,
    INPUTS,
    LAB,
    MATRICES,
    OUTPUTS,
    Lab,
    StackComparison,
    block_config,
    block_name,
    compare_stacks,
    convolved_image,
    convolved_pixel,
)
from ..figures.kernels import block_figure, stack_figure
from ..inference.samples import samples
from ..units import amount, signed
from . import session, settings, take
from .cached import cached_trace, shared
from .components import picture, plot
from .headline import section
from .inference.images import credit

# -- settings -----------------------------------------------------------------------------


UNCHANGED = "The experiment is unchanged."


def lab() -> Lab:
    """The settings of the link, or the defaults."""
    return settings.chosen(Lab)


def problem() -> None:
    """A sentence where the link's settings are not accepted."""
    settings.problem(Lab)


def change_lab(**changes: Any) -> None:
    settings.change(Lab, UNCHANGED, **changes)


def setting(name: str) -> None:
    settings.setting(Lab, name, UNCHANGED, segmented=True)


# -- kernel stacks ------------------------------------------------------------------------


@shared()
def cached_comparison(settings: Lab) -> StackComparison:
    return compare_stacks(settings)


def kernel_stacks() -> None:
    """A stack of small kernels against one large one."""
    now = cached_comparison(lab())
    figures(now)
    left, right = st.columns([9, 4])
    with right, st.container(border=True, key="stack settings"):
        stack_settings()
    with left:
        with st.container(border=True, key="growth"):
            section("What one unit sees")
            picture(growth(now.stack, now.single), "growth drawing", "kernel-stacks", lambda _: None)
            st.caption(
                "A cell is a pixel of the map that is read. Filled: what the unit sees. Dots: the units that the convolution "
                "reads. Dashed: what the middle one of them sees."
            )
        with st.container(border=True, key="claims"):
            for claim in now.claims:
                mark = ":green[:material/check:]" if claim.holds else ":red[:material/close:]"
                verdict = "holds" if claim.holds else "does not hold here"
                st.markdown(f"{mark} **{claim.name}** {verdict}: {session.escape_markdown(claim.numbers)}")
    if now.widths:
        left, right = st.columns(2)
        for column, (measure, name) in zip((left, right), (("params", "Weights"), ("macs", "MACs")), strict=True):
            with column:
                plot(stack_figure(now, measure, name), key=f"stack {measure}")
                st.caption(even_words(now, measure, name))
    section("Every convolution")
    take.table(layer_frame(now), "stack layers", "Every convolution")
    section("The same claims in other places")
    take.table(case_frame(), "cases", "The same claims in other places", column_config=CASE_WIDTHS)


def stack_settings() -> None:
    """What is compared, and comparisons to start from."""
    now = lab()
    same = next((name for name, case in CASES.items() if kernels_only(case) == kernels_only(now)), None)
    session.set_widget("lab case", same)

    def started() -> None:
        if (name := st.session_state["lab case"]) in CASES:
            keep = {field: getattr(now, field) for field in ("width", "entry", "weights", "pixel")}
            settings.choose(replace(CASES[name], **keep))

    st.selectbox("Start from", list(CASES), None, key="lab case", on_change=started, placeholder="own settings")
    setting("count")
    setting("kernel")
    setting("single")
    for row in (("inputs", "between", "outputs"), ("stride", "strided"), ("padding", "activation")):
        for column, name in zip(st.columns(len(row), gap="small"), row, strict=True):
            with column:
                setting(name)
    setting("side")


def kernels_only(settings: Lab) -> Lab:
    """The settings without those of block and pixel."""
    return replace(settings, width=256, entry=Lab.entry, weights=Lab.weights, pixel=Lab.pixel)


def figures(comparison: StackComparison) -> None:
    """The stack's four figures, each with its difference to the single kernel."""
    small, large = comparison.stack, comparison.single
    rows: tuple[tuple[str, int, int, Callable[[float], str], Literal["normal", "inverse", "off"]], ...] = (
        ("Field", small.field.size, large.field.size, lambda value: f"{value:,.0f} px", "off"),
        ("Weights", small.params, large.params, exact, "inverse"),
        ("MACs", small.macs, large.macs, amount, "inverse"),
        ("Non-linearities", small.non_linearities, large.non_linearities, lambda value: f"{value:.0f}", "normal"),
    )
    st.caption(f"{small.name}, and what that is more or less than {large.name.lower()}:")
    with st.container(key="figures"):
        columns = st.columns(4, gap="small")
    for column, (label, value, other, form, good) in zip(columns, rows, strict=True):
        column.metric(
            label,
            form(value),
            signed(value - other, form),
            delta_color=good if value != other else "off",
            delta_description=f"against {form(other)}",
            help=f"{value:,} against {other:,}",
            border=True,
            height="stretch",
        )


def exact(number: float) -> str:
    """110,592, or 12.35 M where that would be long."""
    return f"{number:,.0f}" if number < 1e7 else amount(number)


def even_words(comparison: StackComparison, measure: str, name: str) -> str:
    """Where the stack's counts meet the single kernel's."""
    width, unit = comparison.break_even[measure], "weights" if name == "Weights" else name
    if width is None:
        return f"Whatever the width between, the stack takes more {unit} than {comparison.single.name.lower()}."
    return f"Break-even: with up to {width:,} channels between, the stack takes no more {unit} than {comparison.single.name.lower()}."


def layer_frame(comparison: StackComparison) -> pandas.DataFrame:
    rows = [
        (kernels.name, layer) for kernels in (comparison.stack, comparison.single) for layer in kernels.convolutions
    ]
    return pandas.DataFrame(
        {
            "Of": [name for name, _ in rows],
            "Layer": [layer.name for _, layer in rows],
            "Output": [shape_text(layer.out_shape) for _, layer in rows],
            "Sees": [f"{layer.field.size} px" for _, layer in rows],
            "Effective stride": [f"{layer.field.effective_stride} px" for _, layer in rows],
            "Weights": [params_formula(layer) for _, layer in rows],
            "MACs": [macs_formula(layer) for _, layer in rows],
        }
    )


def case_frame() -> pandas.DataFrame:
    found = {name: cached_comparison(case) for name, case in CASES.items()}

    def pairs(values: Iterable[tuple[Any, Any]]) -> list[str]:
        return [f"{a} against {b}" for a, b in values]

    return pandas.DataFrame(
        {
            "Case": list(found),
            "Does not hold": [", ".join(c.name for c in now.claims if not c.holds) or "–" for now in found.values()],
            "Field": pairs((f"{c.stack.field.size} px", c.single.field.size) for c in found.values()),
            "Weights": pairs((f"{c.stack.params:,}", f"{c.single.params:,}") for c in found.values()),
            "MACs": pairs((amount(c.stack.macs), amount(c.single.macs)) for c in found.values()),
            "Non-linearities": pairs((c.stack.non_linearities, c.single.non_linearities) for c in found.values()),
        }
    )


# -- one block ----------------------------------------------------------------------------

CASE_WIDTHS: dict[str, Any] = {"Does not hold": st.column_config.TextColumn(width=265)}
WIDTHS: dict[str, Any] = {
    "Shape": st.column_config.TextColumn(width=150),
    "MACs": st.column_config.TextColumn(width=370),
}

KINDS = {
    "basic": "Two 3×3 convolutions and the shortcut.",
    "bottleneck": "1×1 to a quarter of the channels, 3×3 on those, 1×1 back, and the shortcut.",
    "plain": "The basic block without its shortcut: y is F(x) alone.",
}


def one_block() -> None:
    """Basic, bottleneck and plain block that read one width."""
    now = lab()
    outputs = now.width if now.entry == "identity" else 2 * now.width
    quarter = outputs // 4
    for column, name in zip(st.columns([1, 1, 2]), ("width", "side", "entry"), strict=True):
        with column:
            setting(name)
    layers = {kind: block_layers(kind, now.width, now.side, now.entry) for kind in KINDS}
    totals = {kind: weights_of(found) for kind, found in layers.items()}
    with st.container(border=True, key="why"):
        section(
            f"Why the bottleneck exists: {times(totals['basic'], totals['bottleneck'])} fewer weights at {outputs:,} channels"
        )
        bars = {f"{kind} at {outputs:,}": layers[kind] for kind in ("basic", "bottleneck")}
        words = (
            f"- Two 3×3 to {outputs:,} channels: {sum_of(layers['basic'])} weights.\n"
            f"- The bottleneck: {sum_of(layers['bottleneck'])} weights. Its 3×3 works on {quarter:,} channels, and the two 1×1 "
            "lead there and back.\n"
        )
        macs = f"{amount(macs_of(layers['basic']))} against {amount(macs_of(layers['bottleneck']))}"
        if now.entry == "identity":
            narrow = bars[f"basic at {quarter:,}"] = block_layers("basic", quarter, now.side, now.entry)
            words += (
                f"- That is about what two 3×3 take at {quarter:,} channels: {sum_of(narrow)}.\n"
                f"- Each weight is used once at each of {now.side}·{now.side} positions, so the MACs stand in the same ratio: {macs}."
            )
        else:
            shortcut = {kind: weights_of(shortcut_layers(layers[kind])) for kind in ("basic", "bottleneck")}
            words += (
                f"- Of these the shortcut has {shortcut['basic']:,}, or {shortcut['basic'] / totals['basic']:.0%}, in the basic block and "
                f"{shortcut['bottleneck']:,}, or {shortcut['bottleneck'] / totals['bottleneck']:.0%}, in the bottleneck.\n"
                if any(shortcut.values())
                else "- The shortcut has none of them: it pads with zeros.\n"
            )
            words += f"- MACs: {macs}. The map is halved, but not yet where the bottleneck's first 1×1 reads it."
        plot(block_figure(bars), key="block weights")
        st.markdown(words)
    for kind, text in KINDS.items():
        block_card(kind, text, block_config(kind, now.width, now.entry), now.side)


def block_layers(kind: str, width: int, side: int, entry: str) -> tuple[Layer, ...]:
    config = block_config(kind, width, entry)
    return cached_trace(config, (side, side)).blocks[block_name(config)]


def shortcut_layers(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    return tuple(layer for layer in layers if layer.role.on_shortcut)


def weights_of(layers: tuple[Layer, ...]) -> int:
    return sum(layer.params for layer in convolutions(layers))


def macs_of(layers: tuple[Layer, ...]) -> int:
    return sum(layer.macs for layer in layers)


def times(a: int, b: int) -> str:
    return f"{a / b:.1f} times"


def sum_of(layers: tuple[Layer, ...]) -> str:
    """3·3·256·256 + 3·3·256·256 = **1,179,648**."""
    factors = [params_formula(layer).rpartition(" = ")[0] for layer in convolutions(layers)]
    return f"{' + '.join(factors)} = **{weights_of(layers):,}**"


def block_card(kind: str, words: str, config: ResNetConfig, side: int) -> None:
    """A block as a drawing with shapes on its edges, and its layers' formulas with their numbers."""
    trace, block = cached_trace(config, (side, side)), block_name(config)
    layers = trace.blocks[block]
    selected = session.held().inspected.get(kind, "")
    with st.container(border=True, key=f"{kind} block"):
        section(f"{kind.capitalize()} block")

        def chosen(name: str) -> None:
            session.hold(inspected={**session.held().inspected, kind: name})

        drawing, narrow = (network.detail(trace, block, selected, shared) for shared in (False, True))
        picture(drawing, f"{kind} drawing", f"{kind}-block", chosen, narrow)
        st.caption(
            f"{words} {weights_of(layers):,} weights in convolutions, {sum(layer.params for layer in layers):,} parameters with the norms, "
            f"{macs_of(layers):,} MACs. " + network.remark(trace, block)
        )
        take.table(block_frame(layers, selected), f"{kind} table", f"{kind.capitalize()} block", column_config=WIDTHS)


def block_frame(layers: tuple[Layer, ...], selected: str) -> pandas.DataFrame:
    return pandas.DataFrame(
        {
            "Layer": [
                ("▸ " if layer.name == selected else "") + f"{layer.role.slot}: {layer.label}" for layer in layers
            ],
            "Shape": [" → ".join(map(svg.short_shape, (layer.in_shapes[0], layer.out_shape))) for layer in layers],
            "Parameters": [params_formula(layer) or "none" for layer in layers],
            "MACs": [macs_formula(layer) or "none" for layer in layers],
        }
    )


# -- the 1×1 convolution ------------------------------------------------------------------


def pointwise_by_hand() -> None:
    """The matrix of a 1×1 convolution on the channels of one pixel, and on every pixel of an image."""
    now = lab()
    result = convolved_pixel(now)
    left, right = st.columns([5, 6])
    with left, st.container(border=True, key="matrix"):
        section("The weights: a row for each output, a column for each input")
        for row in range(OUTPUTS):
            number_row("weights", f"out {row + 1}", range(row * INPUTS, (row + 1) * INPUTS))
        section("The pixel: its value in each input channel")
        number_row("pixel", "pixel", range(INPUTS))
        with st.container(horizontal=True):
            for name, weights in MATRICES.items():
                st.button(name, on_click=change_lab, kwargs={"weights": weights}, key=f"matrix {name}")
    with right, st.container(border=True, key="product"):
        section("Matrix times channels, computed by `nn.Conv2d(3, 2, kernel_size=1)`")
        rows = r" \\ ".join(" & ".join(map(str, row)) for row in now.matrix)
        column, answer = (r" \\ ".join(map(str, values)) for values in (now.pixel, result))
        st.latex(
            rf"\begin{{pmatrix}} {rows} \end{{pmatrix}} \begin{{pmatrix}} {column} \end{{pmatrix}} = \begin{{pmatrix}} {answer} \end{{pmatrix}}"
        )
        for number, (row_weights, value) in enumerate(zip(now.matrix, result, strict=True), start=1):
            st.markdown(f"Output {number}: {products(row_weights, now.pixel)} = **{with_minus_sign(value)}**")
        total = sum(now.pixel)
        copied = (
            "That is what this matrix does, since all its weights are 1."
            if set(now.weights) == {1}
            else "Only a matrix of ones does that."
        )
        st.caption(
            f"Each output is a weighted sum of its own. Summing the channels and copying the sum would give {with_minus_sign(total)} "
            f"and {with_minus_sign(total)}. {copied} No neighbouring pixel takes part: the kernel is one pixel wide, so {INPUTS}·{OUTPUTS} = "
            f"{INPUTS * OUTPUTS} weights serve the whole map. A 3×3 kernel would have {9 * INPUTS * OUTPUTS}. A bottleneck at "
            f"{now.width:,} channels starts with such a matrix of {now.width // 4:,} rows and {now.width:,} columns."
        )
    with st.container(border=True, key="everywhere"):
        section("The same matrix at every pixel of an image")
        session.show_or_say(convolved_maps, now)


def number_row(name: str, label: str, places: range) -> None:
    """One row of whole numbers to change."""
    now = lab()
    low, high = int(LAB[name].low), int(LAB[name].high)
    with st.container(horizontal=True, gap="small", key=f"row {label}"):
        for place in places:
            key = f"lab {name} {place}"

            def changed(place: int = place, key: str = key) -> None:
                values = list(getattr(now, name))
                values[place] = st.session_state[key]
                change_lab(**{name: tuple(values)})

            current = getattr(now, name)[place]
            session.set_widget(key, current)
            st.number_input(  # a browser puts the default into a field that was emptied
                f"{label}, in {place % INPUTS + 1}", low, high, current, step=1, key=key, on_change=changed, width=92
            )


def products(row: tuple[int, ...], pixel: tuple[int, ...]) -> str:
    """1·2 + 0·3 + (−1)·1 = 2 + 0 + (−1)."""
    terms = " + ".join(f"{bracketed(a)}·{bracketed(b)}" for a, b in zip(row, pixel, strict=True))
    return f"{terms} = {' + '.join(bracketed(a * b) for a, b in zip(row, pixel, strict=True))}"


def with_minus_sign(value: int) -> str:
    return str(value).replace("-", "−")


def bracketed(value: int) -> str:
    return f"({with_minus_sign(value)})" if value < 0 else str(value)


def convolved_maps(settings: Lab) -> None:
    """The three colours of a sample image, and the two maps that the convolution makes of them."""
    sample = next(s for s in samples() if s.name == "astronaut")
    before, after = convolved_image(settings, sample.image())
    with st.container(horizontal=True, gap="small", key="maps"):
        for name, plane in zip(("red", "green", "blue"), before, strict=True):
            st.image(plane, f"input, {name}", width=150, clamp=True, alt=f"The {name} of the sample")
        for number, plane in enumerate(after, start=1):
            words = f"output {number}, up to ±{abs(plane).max():.3g}"
            st.image(rasters.diverging(plane), words, width=150, alt=f"Output {number} of the convolution")
    st.caption(f"Inputs from 0 (black) to 1 (white); outputs blue below 0, white at 0, red above. {credit(sample)}")
