"""The annotated source: anchors, notes, layers to lines and back, and the page."""

from __future__ import annotations

import ast
import html
import inspect
import re
import sys
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
import torch
from playwright.sync_api import expect

from explorer.analysis.trace import Trace, trace
from explorer.lessons import source
from explorer.lessons.notes import NOTES, SYMBOLS
from explorer.lessons.source import MODULES, LineTrace, SourceLine, enclosing_definition, snippet, steps, trace_lines
from explorer.link import natural_size
from explorer.views.source import layer_note, running, snippets
from helpers import captions, link, opened, page_text, run, texts
from resnet import PRESETS, ResNetConfig, build, preset
from resnet.blocks import BLOCKS, PadShortcut

KINDS: dict[str, ResNetConfig] = {
    **{
        name: preset(name)
        for name in (
            "resnet18",
            "resnet50",
            "resnet50_v1",
            "resnet20",
            "plain20",
            "resnext50_32x4d",
            "resnetv2_50d",
            "seresnetaa50d",
            "ecaresnet26t",
            "resnetrs50",
            "resnetblur18",
            "resnet50_gn",
        )
    },
    "one stage": ResNetConfig(layers=(1,), block="basic", shortcut="C", drop_path=0.2),
    "dilated": ResNetConfig(output_stride=8, zero_init_residual=True, activation="gelu"),
    "dilated, blur, D": ResNetConfig(output_stride=8, antialias="blur", shortcut="D"),
    "narrowing": ResNetConfig(layers=(1, 2), planes=(64, 16), norm="none", activation="silu", order="pre"),
    "plain, activation first": ResNetConfig(block="basic", shortcut="none", order="pre", activation="elu"),
}


@cache
def traced(config: ResNetConfig) -> Trace:
    return trace(config, natural_size(config))


@cache
def lines(config: ResNetConfig) -> LineTrace:
    return trace_lines(traced(config))


def code(line: SourceLine) -> str:
    return source.module_source(line.module).splitlines()[line.number - 1]


# -- anchors ------------------------------------------------------------------------------


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note.title)
def test_an_anchor_names_lines_that_exist(note):
    found = snippet(note.anchor)
    own = note.anchor.rpartition(".")[2]
    assert any(re.search(rf"(def|class) {own}\b|^\s*{own}: ", line) for line in found.lines)
    with open(found.path, encoding="utf-8") as file:
        assert file.read().splitlines()[found.first - 1 : found.first - 1 + len(found.lines)] == list(found.lines)
    ast.parse(inspect.cleandoc("\n" + "\n".join(found.lines)))


@pytest.mark.parametrize("anchor", ["resnet.blocks.Bottleneck.make_brunch", "resnet.blocks", "conv", "torch.nn.Module"])
def test_an_anchor_that_is_gone_is_an_error(anchor):
    with pytest.raises(LookupError, match="is not in the source"):
        snippet(anchor)


def test_a_field_comes_with_the_comment_above_it_and_a_property_with_its_decorator():
    assert snippet("resnet.config.ResNetConfig.layers").lines[0].strip().startswith("# Depth:")
    assert snippet("resnet.config.ResNetConfig.depth").lines[0].strip() == "@property"


def test_the_lines_on_the_page_are_those_of_the_file():
    for found in snippets():
        shown = re.findall(r"<li class='.*?'><span>(\d+)</span><code[^>]*>(.*?)</code>", source.html(found))
        plain = [html.unescape(re.sub("<[^>]*>", "", line)) for _, line in shown]
        assert [line.strip() for line in plain] == [line.strip() for line in found.lines]
        assert [int(number) for number, _ in shown] == list(found.numbers)


# -- notes --------------------------------------------------------------------------------


def test_titles_and_links_within_the_page_are_unique():
    assert len({note.title for note in NOTES}) == len({note.key for note in NOTES}) == len(NOTES)
    parts = [note.part for note in NOTES]
    assert sorted(parts, key=parts.index) == parts


IN_ORDER = {
    "The idea": ("a-block-adds-a-change", "what-the-branch-learns", "the-addition-needs-equal-shapes"),
    "The parts": ("one-helper-for-every-convolution", "why-3x3", "what-a-1x1-does", "normalisation", "the"),
    "The blocks": (
        "what-every-block-has",
        "the-basic-block",
        "running-the-basic-block",
        "the-bottleneck",
        "running-the-bottleneck",
        "where-the-stride-goes",
        "the-expansion",
    ),
    "The shortcuts": (
        "when-the-shortcut-must-change",
        "padding-with-zeros",
        "projecting",
        "pooling-before-projecting",
        "what-each-option-costs",
    ),
    "The network": (
        "the-stem",
        "pooling-after-the-stem",
        "making-the-stages",
        "the-design-rules",
        "the-whole-network-is-made",
        "the-whole-network-runs",
        "first-weights",
    ),
    "The configurations": ("configurations-with-names", "widths-double", "counting-the-depth"),
    "Later additions": (
        "activation-first",
        "the-basic-activation-first",
        "the-activation-first",
        "groups-and-width",
        "weighing-channels",
        "weighing-lighter",
        "filtering-before-subsampling",
        "dropping-branches-in-training",
    ),
}
"""The notes' names in links, as they are read, by the part of the page."""


def test_notes_stand_in_the_order_in_which_they_are_read():
    assert [(note.part, note.key) for note in NOTES] == [
        (part, f"note-{key}") for part, keys in IN_ORDER.items() for key in keys
    ]


@pytest.mark.parametrize("name", KINDS)
def test_every_note_reads_well_for_every_kind_of_network(name):
    for note in NOTES:
        words = note.text(traced(KINDS[name]))
        assert not re.search(
            r"None|nan|\bTrue\b|\bFalse\b|Layer\(|\(\)|−-|--(?!-)(?<!---)", re.sub(r"\|[-:|]+\|", "", words)
        ), words
        assert words.count("$") % 2 == 0
        for formula in re.findall(r"\$+(.*?)\$+", words, re.DOTALL):
            assert formula.count("{") == formula.count("}")
            assert not re.search(r"\d,\d", formula), "a bare comma in a formula is set with a space"
        for block in re.findall(r"(?:^\|.*\n)+", words, re.MULTILINE):
            assert len({row.count("|") for row in block.splitlines()}) == 1


LOCAL = {
    "What the branch learns": "M",
    "What a 1×1 does": "ijw",
    "Normalisation": "mv",
    "Running the basic block": "W",
    "Running the bottleneck": "W",
    "Configurations with names": "n",
}
"""Letters that a note introduces for itself."""


def test_formulas_use_the_symbols_of_the_legend():
    known = set("".join(re.sub(r"\\[a-z]+|_.*", "", symbol.letter) for symbol in SYMBOLS)) - set(", ()")
    assert len({symbol.letter for symbol in SYMBOLS}) == len(SYMBOLS)
    used = set()
    for name, config in KINDS.items():
        for note in NOTES:
            for formula in re.findall(r"\$+(.*?)\$+", note.text(traced(config)), re.DOTALL):
                bare = re.sub(r"\\text\{.*?\}|\\[a-zA-Z]+|_\{?(in|out|s|\d)\}?", "", formula)
                letters = set(re.findall("[A-Za-z]", bare))
                assert letters <= known | set(LOCAL.get(note.title, "")) | {"W"}, (name, note.title, formula)
                used |= letters | {symbol.letter for symbol in SYMBOLS if symbol.letter in formula}
    assert known | {r"\sigma", "W_s"} <= used


@pytest.mark.parametrize("symbol", SYMBOLS, ids=lambda symbol: symbol.letter)
def test_a_symbol_is_found_in_the_code_by_the_name_that_the_legend_gives(symbol):
    everything = "".join(map(source.module_source, MODULES))
    for word in symbol.code.split(", "):
        assert re.search(rf"\b{re.escape(word)}\b", everything)


def rows(words: str) -> list[list[str]]:
    return [
        [cell.strip(" `*").replace("\N{NO-BREAK SPACE}", " ") for cell in line.strip("|").split("|")]
        for line in words.splitlines()
        if line[:1] == "|"
    ][2:]


def note(title: str, config: ResNetConfig) -> str:
    (found,) = [note for note in NOTES if note.title == title]
    return found.text(traced(config))


@pytest.mark.parametrize("name", KINDS)
def test_the_stage_table_says_what_the_modules_are(name):
    config = KINDS[name]
    network = build(config, device="meta")
    for number, row in enumerate(rows(note("Making the stages", config)), start=1):
        first, *others = getattr(network, f"layer{number}")
        convolutions = [m for m in first.modules() if isinstance(m, torch.nn.Conv2d)]
        assert int(row[1]) == 1 + len(others)
        outputs = (first.conv3 if config.block == "bottleneck" else first.conv2).out_channels
        assert row[2] == f"{first.conv1.in_channels} → {outputs}"
        if config.antialias == "none":
            assert int(row[3].split(",")[0]) == max(m.stride[0] for m in convolutions)
        kind = row[4]
        if config.shortcut == "none":
            assert kind == "none"
        else:
            made = first.downsample
            pooled = any(isinstance(m, torch.nn.AvgPool2d) for m in made.modules())
            assert kind == (
                "identity"
                if isinstance(made, torch.nn.Identity)
                else "zero padding"
                if isinstance(made, PadShortcut)
                else "pooled projection"
                if pooled
                else "projection"
            )


def test_the_bottleneck_counts_both_channel_factors():
    words = note("The bottleneck", preset("resnet50"))
    assert "1{,}179{,}648" in words
    assert "69{,}632" in words
    wide = torch.nn.Conv2d(256, 256, 3, bias=False).weight.numel() * 2
    narrow = [
        torch.nn.Conv2d(a, b, k, bias=False).weight.numel() for a, b, k in ((256, 64, 1), (64, 64, 3), (64, 256, 1))
    ]
    assert f"{wide / sum(narrow):.1f} times fewer" in words


def test_the_bill_of_the_shortcuts_is_that_of_the_networks():
    bill = {row[0]: row for row in rows(note("What each option costs", preset("resnet50")))}
    for kind in "ABCD":
        network = build(ResNetConfig(shortcut=kind), device="meta")
        assert bill[kind][1] == f"{sum(p.numel() for p in network.parameters()):,}"
        inside = sum(p.numel() for n, p in network.named_parameters() if ".downsample." in n)
        assert bill[kind][2] == f"{inside:,}"
    narrowing = {row[0]: row[1] for row in rows(note("What each option costs", KINDS["narrowing"]))}
    assert narrowing["A"] == "cannot be built"


# -- from layers to lines and back --------------------------------------------------------

CALLS = {
    "convolution": "conv(",
    "batch norm": "norm(",
    "group norm": "norm(",
    "max pooling": "MaxPool2d(",
    "blur": "antialias(",
    "average pooling": "AvgPool2d(",
    "zero padding": "Pad",
}


def shallow(config: ResNetConfig) -> ResNetConfig:
    """Two blocks a stage: the third is made by the same turn of the loop as the second."""
    return replace(config, layers=tuple(min(count, 2) for count in config.layers))


@pytest.mark.parametrize(
    "config", [*dict.fromkeys(map(shallow, PRESETS.values())), *KINDS.values(), preset("resnet152")]
)
def test_every_layer_has_a_line_that_made_it(config):
    now, found = traced(config), trace_lines(traced(config))
    assert set(found.construction_lines) == {layer.name for layer in now.layers}
    for layer in now.layers:
        line = found.line_of(layer.name)
        own = layer.name.rpartition(".")[2]
        call = (
            "activation("
            if layer.name.startswith(("conv1.", "maxpool.")) and layer.op not in CALLS
            else CALLS.get(layer.op, "?")
        )
        assert f"self.{own}" in code(line) or call in code(line) or "antialias(" in code(line), (layer.name, code(line))
        first = layer.role.slot.split(".")[0]
        assert any(f"self.{first}" in code(line) for line in found.construction_lines[layer.name]), layer.name
        assert layer.name in found.layers_of[line]
        assert line in snippet(layer_note(found, layer).anchor)
    for line, names in found.layers_of.items():
        assert set(names) <= set(now.by_name)
        assert len(set(names)) == len(names)
        assert line in found.executed


@pytest.mark.parametrize("name", KINDS)
def test_a_layer_of_a_block_is_made_by_the_class_that_has_the_last_word(name):
    config = KINDS[name]
    classes = BLOCKS[config.block, config.order].__mro__
    for layer in traced(config).blocks["layer1.0"]:
        slot = layer.role.slot
        if "." in slot or layer.role.on_shortcut:
            continue
        for kind in classes:
            written, first = inspect.getsourcelines(kind)
            where = [first + i for i, line in enumerate(written) if re.search(rf"self\.{slot}\b[^=]* = ", line)]
            if where:
                break
        assert lines(config).line_of(layer.name) == SourceLine("resnet.blocks", where[0])


def test_lines_that_a_network_passes_over_are_idle():
    found = snippet("resnet.model.stem")
    idle = lines(preset("resnet50")).skipped(found)
    shown = dict(zip(found.numbers, found.lines, strict=True))
    assert {shown[number].strip() for number in idle} >= {
        "return conv(config, channels, width, 3)",
        "norm(config, first),",
    }
    assert not any("7, stride=2" in shown[number] or '"""' in shown[number] for number in idle)
    assert not any("norm(config, first)" in shown[number] for number in lines(preset("resnet50d")).skipped(found))
    assert not lines(preset("resnet18")).uses(snippet("resnet.blocks.Bottleneck.branch"))


def test_following_leaves_no_trace_function_behind():
    before = sys.gettrace()
    trace_lines(traced(preset("resnet20")))
    assert sys.gettrace() is before


# -- running line by line -----------------------------------------------------------------


Observed = tuple[str, int, tuple, tuple]


def observed(now: Trace, paths: set[str]) -> dict[str, list[Observed]]:
    """What a real forward pass calls in some blocks: module path, line of the caller, input and output shapes."""
    network = build(now.config).eval()
    seen: dict[str, list[Observed]] = {path: [] for path in paths}

    def hook_for(block, path):
        def hook(module, args, output):
            frame = sys._getframe()
            while frame.f_globals["__name__"] not in MODULES or frame.f_locals.get("self") is module:
                assert frame.f_back is not None
                frame = frame.f_back
            shapes = tuple(tuple(argument.shape[1:]) for argument in args)
            seen[block].append((path, frame.f_lineno, shapes, tuple(output.shape[1:])))

        return hook

    for path, module in network.named_modules():
        block = path.rpartition(".")[0]
        if block in paths:
            module.register_forward_hook(hook_for(block, path))
    with torch.inference_mode():
        network(torch.zeros(1, *now.image_shape))
    return seen


@pytest.mark.parametrize("name", KINDS)
def test_steps_are_the_calls_of_a_real_forward_pass(name):
    config = shallow(KINDS[name])
    now, found = trace(config, 64), lines(config)
    real = observed(now, {"layer1.0", f"layer{len(config.layers)}.{config.layers[-1] - 1}"})
    for path, calls in real.items():
        outer = steps(now, found, source.forward_anchor(config), path)
        inner = steps(now, found, source.branch_anchor(config), path)
        together = [step for call in outer for step in (inner if call.call == "self.branch" else [call])]
        assert [(f"{path}.{s.call.removeprefix('self.')}", s.line, s.in_shapes, s.out_shape) for s in together] == calls
        traced_layers = [layer for layer in now.layers if layer.name.startswith(path + ".")]
        assert [layer for step in outer for layer in step.layers] == traced_layers


@pytest.mark.parametrize("name", KINDS)
def test_steps_of_the_whole_network_chain_from_image_to_scores(name):
    now = traced(KINDS[name])
    whole = steps(now, lines(KINDS[name]), "resnet.model.ResNet.forward")
    assert whole[0].in_shapes == (now.image_shape,)
    assert whole[-1].out_shape == now.layers[-1].out_shape
    assert all(after.in_shapes == (before.out_shape,) for before, after in pairwise(whole))
    assert [layer for step in whole for layer in step.layers] == list(now.layers)


@pytest.mark.parametrize("name", KINDS)
def test_a_network_has_three_forwards_to_step_through(name):
    assert sum(bool(running(KINDS[name], found)) for found in snippets()) == 3


# -- the page -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query", [{"preset": "resnet50"}, {"preset": "plain20"}, {"preset": "resnetv2_50d", "attention": "eca"}], ids=str
)
def test_the_page_opens_for_different_networks(query):
    app = opened("source", **query)
    assert [header.value for header in app.subheader] == [note.title for note in NOTES]
    assert not app.warning
    config = preset(query["preset"]).with_(**{k: v for k, v in query.items() if k != "preset"})[0]
    for note in NOTES:
        assert note.text(traced(config)).strip() in texts(app)


def test_the_idea_of_the_selected_layer_says_so():
    app = opened("source", preset="resnet50", at="layer3.0.downsample.0")
    line = lines(preset("resnet50")).line_of("layer3.0.downsample.0")
    assert enclosing_definition(line) == "resnet.blocks.projection"
    assert f"Line {line.number} of `resnet/blocks.py` made it: see [Projecting](#note-projecting)" in page_text(app)
    assert captions(app).count("These lines made the selected layer, `layer3.0.downsample.0`") == 1
    assert app.pills(key="line resnet.blocks.projection").value == line.number
    assert app.selectbox(key=f"layers resnet.blocks.projection {line.number}").value == "layer3.0.downsample.0"


def test_from_a_line_to_a_layer_it_made():
    app = opened("source", preset="resnet18")
    found = lines(preset("resnet18"))
    line = found.line_of("layer4.1.conv2")
    app.pills(key="line resnet.blocks.BasicBlock.make_branch").set_value(line.number)
    run(app)
    box = app.selectbox(key=f"layers resnet.blocks.BasicBlock.make_branch {line.number}")
    assert box.options == [layer.name for layer in traced(preset("resnet18")).layers if layer.role.slot == "conv2"]
    box.set_value("layer4.1.conv2")
    run(app)
    assert link(app)["at"] == "layer4.1.conv2"
    assert "**Selected:** `layer4.1.conv2`" in page_text(app)


def test_links_lead_to_something_else_than_what_is_here():
    labels = {element.proto.label for element in opened("source", preset="resnet50").get("page_link")}
    assert "Open these lines with ResNet-18" in labels
    assert "Open these lines with ResNet-50" not in labels
    assert "Compare with option A" in labels
    assert "Compare with option B" not in labels


def test_stepping_shows_the_shapes():
    app = opened("source", preset="resnet18", at="layer2.0.conv1")
    anchor = "resnet.blocks.BasicBlock.branch"
    expected = steps(traced(preset("resnet18")), lines(preset("resnet18")), anchor, "layer2.0")
    for number, step in enumerate(expected, start=1):
        now = texts(app)
        place = now.index(
            f"**Run this line:** {number} of {len(expected)} in `layer2.0`",
            now.index(note("The basic block", preset("resnet18")).strip()),
        )
        assert now[place + 1].startswith(f"Line {step.line}: `{step.call}`")
        assert now[place + 1].endswith(
            f"{'×'.join(map(str, step.in_shapes[0]))} → **{'×'.join(map(str, step.out_shape))}**"
        )
        app.button(key=f"next {anchor}").click()
        run(app)
    assert any(words.startswith("**Run this line:** 1 of") and "`layer2.0`" in words for words in texts(app))


def test_the_source_is_searched_and_the_link_says_for_what():
    app = opened("source", preset="resnet18")
    marked = app.pills(key="line resnet.blocks.BasicBlock.make_branch").value
    app.text_input(key="source find").set_value(" Dilation ")
    run(app)
    assert link(app)["find"] == "Dilation"
    found = {
        (snippet.anchor, number)
        for snippet in snippets()
        for number, line in zip(snippet.numbers, snippet.lines, strict=True)
        if "dilation" in line.lower()
    }
    assert f"{len(found)} lines with **Dilation**, marked; " in page_text(app)
    shown = [header.value for header in app.subheader]
    assert 0 < len(shown) < len(NOTES)
    assert {note.title for note in NOTES if note.anchor in dict(found)} <= set(shown)
    queries = [element.proto.query_string for element in app.get("page_link")]
    assert queries
    assert not any("find=" in query for query in queries), "elsewhere nothing is looked for"
    assert sum(len(re.findall("class='marked", html.proto.body)) for html in app.get("html")) == len(found)
    app.text_input(key="source find").set_value("")
    run(app)
    assert "find" not in link(app)
    assert app.pills(key="line resnet.blocks.BasicBlock.make_branch").value == marked


def test_a_search_without_a_match_says_what_is_accepted():
    app = opened("source", preset="resnet18", find="<b>no such word")
    assert not app.subheader
    assert "part of a line of code, or of a note, is accepted." in page_text(app)


def test_the_inspector_links_to_the_lines():
    app = opened(preset="resnet18", at="layer2.0.conv2")
    (found,) = [element.proto for element in app.get("page_link") if element.proto.label == "Its lines in the source"]
    assert found.query_string.split("&").count("at=layer2.0.conv2") == 1


@pytest.mark.browser
@pytest.mark.parametrize(
    "visit", [{}, {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}], indirect=True
)
def test_from_the_inspector_to_the_lines_and_back(visit):
    visit.open("/?preset=resnet18&at=layer3.1.conv2")
    visit.page.get_by_role("link", name="Its lines in the source").click()
    visit.wait()
    visit.page.wait_for_timeout(1500)
    heading = visit.page.get_by_role("heading", name="The basic block", exact=True)
    expect(heading).to_be_in_viewport()
    expect(visit.page.locator("ol.source li.marked").filter(has_text="self.conv2 = ")).to_have_count(1)
    assert visit.fits()
    visit.page.get_by_role("link", name="Show it on Architecture").click()
    visit.wait()
    expect(visit.page.locator(".st-key-inspector")).to_contain_text("layer3.1.conv2")


@pytest.mark.browser
def test_a_note_s_lines_are_beside_it_and_the_contents_stay_in_view(visit):
    """The second note on the same lines: these, the parts and the search are in view with it."""
    visit.open("/source?preset=resnet18&tab=note-what-the-branch-learns")
    page = visit.page
    heading = page.get_by_role("heading", name="What the branch learns", exact=True)
    expect(heading).to_be_in_viewport(timeout=20_000)
    code = page.locator(".st-key-source-row-resnet-blocks-Block-forward ol.source")
    expect(code).to_be_in_viewport(ratio=1)
    expect(page.get_by_role("link", name="Later additions", exact=True)).to_be_in_viewport(ratio=1)
    expect(page.get_by_role("textbox", name="Search the source")).to_be_in_viewport(ratio=1)
    bar, top = page.locator(".st-key-source-bar").bounding_box(), heading.bounding_box()
    assert bar["y"] + bar["height"] <= top["y"]


@pytest.mark.browser
def test_contents_lead_to_a_note_and_a_step_moves_the_line(visit):
    visit.open("/source?preset=resnet18")
    visit.page.get_by_role("link", name="Running the basic block", exact=True).click()
    expect(visit.page.get_by_role("heading", name="Running the basic block", exact=True)).to_be_in_viewport()
    row = visit.page.locator(".st-key-source-row-resnet-blocks-BasicBlock-branch")
    marked = row.locator("li.marked span")
    first = marked.inner_text()
    for _ in range(4):
        row.get_by_role("button", name="Next").click()
        visit.wait()
    assert int(marked.inner_text()) == int(first) + 1
    expect(row).to_contain_text("128×28×28")


@pytest.mark.parametrize(
    ("options", "said"), [({"norm": "group", "stem": "deep"}, True), ({"norm": "group"}, False), ({}, False)]
)
def test_the_stem_says_what_its_windows_leave_out(options: dict[str, str], said: bool) -> None:
    """The last convolution of a deep stem reads what group norm has touched, a 7×7 reads the image."""
    note = next(note for note in NOTES if note.anchor == "resnet.model.stem")
    words = note.text(trace(ResNetConfig(**options), 64))  # type: ignore[arg-type]
    assert ("Its units also depend on the whole map through group norm." in words) == said
