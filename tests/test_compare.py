"""Two networks beside each other: rows and bill sum to what others count, and the prepared words hold."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise, permutations, product
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torchinfo import summary

from explorer import compare, trace
from explorer.analysis.compare import common_size, label, labels
from explorer.cli import main
from explorer.drawing.compare import columns, detail, overview
from explorer.figures.compare import COMPARED, bill_figure, stages_figure
from explorer.lessons.comparisons import READY_COMPARISONS
from explorer.link import View, natural_size, parse_network, parse_others, tolerant
from explorer.units import amount, mebibytes
from explorer.views.compare import DetailSettings, parse_detail
from helpers import click, configs, link, opened, run, said, select, typed_into
from resnet import OPTIONS, PRESETS, ConfigError, ResNetConfig, build, preset

PAIRS = [
    ("resnet34", "resnet50"),
    ("resnet50_v1", "resnet50"),
    ("plain34", "resnet34"),
    ("resnet18", "resnet50"),
    ("resnet50", "resnet50d"),
    ("resnext50_32x4d", "resnet20"),
    ("resnet20", "resnext50_32x4d"),
    ("resnet50", "resnetv2_50"),
    ("seresnet50", "resnet101"),
    ("resnet56", "plain20"),
]


def of(*names: str) -> list[ResNetConfig]:
    return [preset(name) for name in names]


@st.composite
def small(draw: st.DrawFn) -> ResNetConfig:
    """Any kind of network, with few blocks and planes so that it is traced quickly."""
    config = draw(configs())
    layers = tuple(min(blocks, 3) for blocks in config.layers)
    planes = tuple(min(width, 512) for width in config.planes)
    try:
        return replace(config, layers=layers, planes=planes, stem_width=min(config.stem_width, 64))
    except ConfigError:
        assume(False)
        raise


# -- rows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("names", PAIRS, ids=" ".join)
def test_rows_sum_to_what_torchinfo_counts(names: tuple[str, str]) -> None:
    a, b = of(*names)
    found = compare(a, b, image_size=64)
    params, macs = [], []
    for config in (a, b):
        network = build(config, device="meta")
        info = summary(network, (1, 3, 64, 64), device="meta", verbose=0)
        params.append(info.total_params)
        # torchinfo counts one multiply-add for each scale and shift of a norm and each bias
        macs.append(info.total_mult_adds - sum(p.numel() for p in network.parameters() if p.dim() == 1))
    assert sum(row.params for row in found.rows) == params[1] - params[0]
    assert sum(row.macs for row in found.rows) == macs[1] - macs[0] == found.macs
    assert sum(row.params for row in found.rows) == found.params
    assert sum(row.memory for row in found.rows) == found.memory


@pytest.mark.parametrize("names", PAIRS, ids=" ".join)
def test_every_layer_is_in_one_row_of_its_own_block(names: tuple[str, str]) -> None:
    a, b = of(*names)
    found = compare(a, b, image_size=64)
    for side, traced in (("a", found.a), ("b", found.b)):
        layers = [getattr(row, side) for row in found.rows if getattr(row, side)]
        assert sorted(layers, key=lambda layer: layer.index) == list(traced.layers)
        assert all(layer.role[:3] == row.role[:3] for row in found.rows if (layer := getattr(row, side)))
    places = [row.role[:3] for row in found.rows]
    blocks = list(dict.fromkeys(places))
    assert [place for place, after in zip(places, [*places[1:], None], strict=True) if place != after] == blocks
    assert all(one[1:] < two[1:] for one, two in pairwise(blocks) if one[0] == two[0] == "stage")


def test_rows_keep_the_order_of_both_where_they_agree() -> None:
    found = compare(preset("resnet34"), preset("resnet50"))
    slots = [row.role.slot for row in found.rows if row.role[:3] == ("stage", 2, 0)]
    assert slots == [
        "conv1",
        "bn1",
        "act1",
        "conv2",
        "bn2",
        "act2",
        "conv3",
        "bn3",
        "downsample.0",
        "downsample.1",
        "add",
        "act",
    ]


def beside(a: ResNetConfig, b: ResNetConfig, *place: str | int) -> list[tuple[str, str]]:
    """The slots that meet in a part, stage and block; "" where one has none."""
    rows = [row for row in compare(a, b, image_size=64).rows if row.role[: len(place)] == place]
    return [(row.a.role.slot if row.a else "", row.b.role.slot if row.b else "") for row in rows]


@pytest.mark.parametrize("deep", ["deep", "tiered"])
def test_the_last_convolution_of_a_deep_stem_stands_beside_the_7x7(deep: str) -> None:
    """Both put out the stem's channels, and the same norm and activation follow."""
    seven = ResNetConfig()
    together = [("conv1", "conv1.6"), ("bn1", "bn1"), ("act1", "act1"), ("maxpool", "maxpool")]
    alone = [("", f"conv1.{n}") for n in range(6)]
    assert beside(seven, ResNetConfig(stem=deep), "stem") == alone + together
    assert beside(ResNetConfig(stem=deep), seven, "stem") == [(b, a) for a, b in alone + together]
    row = next(row for row in compare(seven, ResNetConfig(stem=deep), image_size=64).rows if row.a and row.b)
    assert row.name == "conv1 / conv1.6"
    assert row.a.out_shape == row.b.out_shape  # type: ignore[union-attr]


def test_the_projections_of_b_and_d_stand_beside_each_other() -> None:
    """D numbers its 1×1 and norm one higher, since its averaging comes first."""
    found = beside(ResNetConfig(), ResNetConfig(shortcut="D"), "stage", 2, 0)
    assert found[-5:] == [
        ("", "downsample.0"),
        ("downsample.0", "downsample.1"),
        ("downsample.1", "downsample.2"),
        ("add", "add"),
        ("act", "act"),
    ]


def test_what_replaces_a_layer_stands_beside_it() -> None:
    """Other norms, activations and poolings; of two poolings in a row the one that halves the map."""
    blur, mean = ResNetConfig(antialias="blur"), ResNetConfig(antialias="avg", norm="group", activation="silu")
    assert all(a == b for a, b in beside(ResNetConfig(), mean) if a)
    assert beside(ResNetConfig(), blur, "stem")[-2:] == [("", "maxpool.0"), ("maxpool", "maxpool.1")]
    assert all(a == b for a, b in beside(blur, mean, "stage"))


@given(small(), small())
@settings(max_examples=25, deadline=None)
def test_rows_hold_every_layer_of_any_two_networks_once_and_in_kind(a: ResNetConfig, b: ResNetConfig) -> None:
    found = compare(a, b, common_size((a, b), (32, 32)))
    for side, traced in (("a", found.a), ("b", found.b)):
        names = [layer.name for row in found.rows if (layer := getattr(row, side))]
        assert sorted(names) == sorted(layer.name for layer in traced.layers)
    for row in found.rows:
        if row.a and row.b:
            assert row.a.role[:3] == row.b.role[:3]
            assert bool(row.a.macs) == bool(row.b.macs)
            assert row.a.role.on_shortcut == row.b.role.on_shortcut


@pytest.mark.parametrize("name", ["resnet50", "resnet20", "resnetv2_50d", "seresnet18"])
def test_a_network_does_not_differ_from_itself(name: str) -> None:
    found = compare(preset(name), preset(name), image_size=64)
    assert not [row for row in found.rows if row.differs]
    assert found.bill == ()
    assert (found.params, found.macs, found.memory, found.field) == (0, 0, 0, 0)


@pytest.mark.parametrize("names", PAIRS, ids=" ".join)
def test_turned_round_every_difference_changes_its_sign(names: tuple[str, str]) -> None:
    a, b = of(*names)
    there, back = compare(a, b, image_size=64), compare(b, a, image_size=64)
    turned = {(row.b, row.a): row for row in back.rows}
    assert {(row.a, row.b) for row in there.rows} == turned.keys()
    for row in there.rows:
        other = turned[row.a, row.b]
        assert (row.params, row.macs, row.memory) == (-other.params, -other.macs, -other.memory)
        assert row.field == (None if other.field is None else -other.field)
        assert (row.differs, row.changed) == (other.differs, other.changed)
    assert (there.params, there.macs, there.field) == (-back.params, -back.macs, -back.field)
    assert sum(charge.params for charge in there.bill) == -sum(charge.params for charge in back.bill)


def test_v1_against_v1_5() -> None:
    """3.858 and 4.089 G MACs, 483 and 427 pixels; four layers of three blocks are others, the rest only sees less."""
    found = compare(preset("resnet50_v1"), preset("resnet50"))
    assert (round(found.a.macs / 1e9, 3), round(found.b.macs / 1e9, 3)) == (3.858, 4.089)
    assert (found.a.field.size, found.b.field.size, found.field) == (483, 427, -56)
    assert [charge.name for charge in found.bill] == ["stride_in"]
    changed = [row.role[1:] for row in found.rows if row.changed]
    assert changed == [(stage, 0, slot) for stage in (2, 3, 4) for slot in ("conv1", "bn1", "act1", "conv2")]
    unseen = next(row for row in found.rows if row.role[1:] == (4, 2, "act"))
    assert unseen.differs
    assert not unseen.changed
    assert unseen.field == -56


# -- the bill -----------------------------------------------------------------------------


def test_option_b_costs_resnet_50_its_projections() -> None:
    found = compare(ResNetConfig(shortcut="A"), ResNetConfig())
    (charge,) = found.bill
    assert charge.name == "shortcut"
    pairs = ((64, 256), (256, 512), (512, 1024), (1024, 2048))
    assert charge.params == sum(i * o + 2 * o for i, o in pairs) == 2_776_576
    assert sum(i * o for i, o in pairs) == 2_768_896  # 2.77 M without the norms
    assert charge.macs == sum(i * o * side**2 for (i, o), side in zip(pairs, (56, 28, 14, 7), strict=True))


def assert_pays(a: ResNetConfig, b: ResNetConfig, size: tuple[int, int]) -> None:
    """The bill leads from a to b through networks that exist, and sums to what separate traces give."""
    found = compare(a, b, image_size=size)
    one, two = trace(a, size), trace(b, size)
    assert sum(charge.params for charge in found.bill) == two.params - one.params
    assert sum(charge.macs for charge in found.bill) == two.macs - one.macs
    assert sum(charge.memory for charge in found.bill) == found.memory
    assert sum(charge.field for charge in found.bill) == two.field.size - one.field.size
    stops = [a, *(charge.after for charge in found.bill)]
    assert stops[-1] == b
    for charge, before in zip(found.bill, stops, strict=False):
        assert charge.before == before
        changed = {name for name in OPTIONS if getattr(before, name) != getattr(charge.after, name)}
        assert changed == {*charge.options, *charge.following_options}
        assert all(getattr(charge.after, name) == getattr(b, name) for name in charge.options)
    named = [name for charge in found.bill for name in charge.options]
    assert len(named) == len(set(named))
    missing = {name for name in OPTIONS if getattr(a, name) != getattr(b, name)} - set(named)
    assert all(getattr(config, name) == config.default(name) for name in missing for config in (a, b))


@pytest.mark.parametrize("names", PAIRS, ids=" ".join)
def test_the_bill_of_named_networks(names: tuple[str, str]) -> None:
    a, b = of(*names)
    assert_pays(a, b, (64, 64))


@given(small(), small())
@settings(max_examples=25, deadline=None)
def test_the_bill_of_any_two_networks(a: ResNetConfig, b: ResNetConfig) -> None:
    assert_pays(a, b, common_size((a, b), (32, 32)))


def test_fields_are_applied_in_the_sidebars_order() -> None:
    a = ResNetConfig()
    b = ResNetConfig(layers=(2, 2, 2, 2), shortcut="C", norm="group", num_classes=10)
    assert [charge.name for charge in compare(a, b).bill] == ["layers", "shortcut", "norm", "num_classes"]
    assert [charge.name for charge in compare(b, a).bill] == ["layers", "shortcut", "norm", "num_classes"]


def test_a_field_that_cannot_be_applied_yet_waits() -> None:
    """A basic block has no groups: they go first on the way there, and last on the way back."""
    assert [c.name for c in compare(preset("resnext50_32x4d"), preset("resnet34")).bill] == [
        "groups",
        "base_width",
        "block",
    ]
    assert [c.name for c in compare(preset("resnet34"), preset("resnext50_32x4d")).bill] == [
        "block",
        "groups",
        "base_width",
    ]


def test_fields_that_only_go_together_are_one_entry() -> None:
    found = compare(ResNetConfig(planes=(64, 128, 256, 500)), ResNetConfig(layers=(2, 2), planes=(32, 48)))
    assert [charge.name for charge in found.bill] == ["layers + planes"]
    assert found.bill[0].words == (
        "Blocks per stage: 3-4-6-3 → 2-2 and Planes per stage: 64-128-256-500 → 32-48; Stem width: 64 → 32 follows"
    )
    for order in permutations(("layers", "planes")):
        with pytest.raises(ConfigError):
            replace(found.a.config, **{order[0]: getattr(found.b.config, order[0])})


def test_a_default_follows_as_in_the_sidebar() -> None:
    deep = compare(ResNetConfig(), ResNetConfig(stem="deep"))
    assert [(charge.name, charge.following_options) for charge in deep.bill] == [("stem", ("stem_width",))]
    shorter = compare(ResNetConfig(), ResNetConfig(layers=(3, 4)))
    assert [(charge.name, charge.following_options) for charge in shorter.bill] == [("layers", ("planes",))]
    chosen = compare(ResNetConfig(), ResNetConfig(stem="deep", stem_width=20))
    assert [charge.name for charge in chosen.bill] == ["stem", "stem_width"]


def test_an_option_that_costs_nothing_is_billed_with_nothing() -> None:
    (charge,) = compare(ResNetConfig(), ResNetConfig(zero_init_residual=True)).bill
    assert (charge.name, charge.params, charge.macs, charge.memory, charge.field) == ("zero_init_residual", 0, 0, 0, 0)
    assert charge.words == "Zero-init branches: off → on"


# -- sizes and names ----------------------------------------------------------------------


def test_one_image_size_for_all() -> None:
    assert common_size(of("resnet20", "resnet20"), (8, 40)) == (8, 40)
    assert common_size(of("resnet20", "resnet50"), (8, 40)) == (8, 40)
    assert common_size(of("resnet20", "resnetblur50"), (8, 40)) == (17, 40)
    with pytest.raises(ConfigError, match="17 to 8192"):
        compare(preset("resnet20"), preset("resnetblur50"), image_size=8)
    assert compare(preset("resnet20"), preset("resnetblur50"), image_size=(17, 48)).a.image_size == (17, 48)


def test_names_tell_networks_apart() -> None:
    assert label(ResNetConfig(shortcut="A")) == "ResNet-50, shortcut A"
    assert label(ResNetConfig(stem="3x3")) == "ResNet-50, stem 3×3"
    custom = [
        ResNetConfig(planes=(10, 20, 30, 40), layers=(1, 1, 1, 1), norm="none", groups=2, activation=a)
        for a in ("elu", "silu")
    ]
    assert labels([*custom, *custom[:1]]) == [f"Custom ResNet, depth 14{suffix}" for suffix in ("", " (2)", " (3)")]
    assert labels(of("resnet50", "resnet50", "resnet18")) == ["ResNet-50", "ResNet-50 (2)", "ResNet-18"]


# -- links --------------------------------------------------------------------------------


@given(st.lists(configs() | st.sampled_from(list(PRESETS.values())), max_size=3), configs())
@settings(max_examples=100, deadline=None)
def test_a_comparison_reads_back_from_its_link(others: list[ResNetConfig], config: ResNetConfig) -> None:
    view = View(config, natural_size(config), others=tuple(others))
    assert View.from_query(view.to_query()) == view


def test_a_comparisons_link_is_readable() -> None:
    view = View(preset("resnet18"), others=(ResNetConfig(), ResNetConfig(shortcut="C", groups=2)))
    assert view.to_query()["with"] == "resnet50,shortcut=C&groups=2"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "takes one of 103 names"),
        ("resnet51", "such as resnet"),
        ("resnet50,", "takes one of"),
        ("resnet18,resnet34,resnet50,resnet101,resnet152,resnet20", "at most 5"),
        ("block=basic&groups=2", "groups in it takes"),
        ("block=none", "one of basic, bottleneck"),
        ("with=" * 3000, "option in it takes"),
        ("[a](b)=1", "one of layers"),
    ],
    ids=lambda text: text[:20],
)
def test_a_wrong_comparison_is_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_others(text)
    assert caught.value.field == "with"
    assert words in str(caught.value).replace(str(len(PRESETS)), "103")
    view, problems = tolerant({"with": text, "block": "basic"})
    assert view == View(ResNetConfig(block="basic"))
    assert len(problems) == 1
    assert problems[0].endswith("Nothing is set beside the network instead.")


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("resnet18", preset("resnet18")),
        (" ResNet-18 ", preset("resnet18")),
        ("https://example.org/", ResNetConfig()),
        ("https://example.org/compare?block=basic&size=64&with=resnet18", ResNetConfig(block="basic")),
        ("?shortcut=C", ResNetConfig(shortcut="C")),
        ("preset=resnet101&shortcut=C", replace(preset("resnet101"), shortcut="C")),
    ],
)
def test_a_pasted_network(text: str, config: ResNetConfig) -> None:
    assert parse_network(text).config == config


# -- prepared comparisons -----------------------------------------------------------------


def test_ready_comparisons_stand_in_order() -> None:
    assert [ready.name for ready in READY_COMPARISONS] == [
        "Basic or bottleneck",
        "18 sees more than 50",
        "Plain or residual",
        "Shortcut A, B, C, D",
        "v1 or v1.5",
        "Stems",
        "ResNeXt or ResNet",
        "Wide or deep",
        "Post- or pre-activation",
        "CIFAR nets",
        "Dilation 32, 16, 8",
    ]


@pytest.mark.parametrize("ready", READY_COMPARISONS, ids=lambda ready: ready.name)
def test_prepared_words_hold_computed_numbers(ready) -> None:
    """Two to four networks; the figures of at least two of them are in the words."""
    size = common_size(ready.configs, natural_size(ready.configs[0]))
    traces = [trace(config, size) for config in ready.configs]
    words = ready.words(traces)
    assert 2 <= len(traces) <= 4
    assert len({trace.config for trace in traces}) == len(traces)
    assert "\n" not in words
    figures = [{amount(t.params), amount(t.macs), f"{t.macs / 1e9:.3f} G", f"{t.field.size:,}"} for t in traces]
    assert sum(any(re.search(rf"(?<![\d.]){re.escape(text)}\b", words) for text in texts) for texts in figures) >= 2


def words_of(name: str, size: int = 224) -> str:
    ready = next(ready for ready in READY_COMPARISONS if ready.name == name)
    return ready.words([trace(config, size) for config in ready.configs])


def test_known_figures_are_in_the_words() -> None:
    """Those that He et al. and design tables give, worked out by hand here."""
    bottleneck = words_of("Basic or bottleneck")
    assert f"{2 * 9 * 256 * 256:,}" in bottleneck
    assert f"{256 * 64 + 9 * 64 * 64 + 64 * 256:,}" in bottleneck
    assert "427 pixels against 899" in bottleneck
    assert "2.77 M weights" in words_of("Shortcut A, B, C, D")
    assert "3.858 G against 4.089 G" in words_of("v1 or v1.5")
    assert "483 against 427" in words_of("v1 or v1.5")
    assert "8 fewer" in words_of("18 sees more than 50")
    assert "35 against 43, 91 against 99, 267 against 211, 427 against 435" in words_of("18 sees more than 50")
    stems = words_of("Stems")
    assert "118.01 M" in stems
    assert "357.65 M" in stems
    assert [f"{28 * n - 3}" in words_of("CIFAR nets", 32) for n in (3, 9, 18)] == [True] * 3
    assert "Same field" in words_of("Dilation 32, 16, 8")


# -- drawings and charts ------------------------------------------------------------------


def test_columns_align_the_last_convolution_of_a_deep_stem() -> None:
    traces = [trace(config) for config in (ResNetConfig(), ResNetConfig(stem="deep"), ResNetConfig(antialias="blur"))]
    stems = [[part and part.identifier for part in one.parts] for one in columns(traces) if one.group == "stem"]
    assert stems == [
        [None, "conv1.0", None],
        [None, "conv1.3", None],
        ["conv1", "conv1.6", "conv1"],
        [None, None, "maxpool.0"],
        ["maxpool", "maxpool", "maxpool.1"],
    ]


def test_columns_align_blocks_and_show_gaps() -> None:
    traces = [trace(config) for config in of("resnet18", "resnet50")]
    drawn = {column.identifier: column for column in columns(traces)}
    stage = [name for name in drawn if name.startswith("layer3")]
    assert stage == [f"layer3.{block}" for block in range(6)]
    assert [drawn[name].parts[0] is None for name in stage] == [False] * 2 + [True] * 4
    assert not drawn["conv1"].differs(1)
    assert drawn["layer1.0"].differs(1)
    assert drawn["fc"].differs(1)


def identifiers(svg: str) -> list[str]:
    return [found for element in ElementTree.fromstring(svg).iter() if (found := element.get("data-id"))]


@pytest.mark.parametrize("names", [*PAIRS, ("resnet18", "resnet101", "resnet50d", "plain34")], ids=" ".join)
def test_every_block_is_drawn_once_for_its_network(names: tuple[str, ...]) -> None:
    traces = [trace(config, 64) for config in of(*names)]
    everything = frozenset(f"stage {stage}" for stage in range(1, 7))
    drawn = identifiers(overview(traces, labels(of(*names)), "layer2.0", everything).svg())
    assert len(drawn) == len(set(drawn))
    for number, traced in enumerate(traces):
        blocks = {
            f"{number} {layer.name.rsplit('.', len(layer.role.slot.split('.')))[0]}"
            for layer in traced.layers
            if layer.role.part == "stage"
        }
        assert {name for name in drawn if name.startswith(f"{number} layer")} == blocks
    folded = identifiers(overview(traces, labels(of(*names))).svg())
    assert set(folded) - {name for name in folded if name.startswith("unfold")} <= set(drawn)
    for part in ("layer2.0", "stem", "head"):
        slots = identifiers(detail(traces, labels(of(*names)), part).svg())
        here = [
            f"{number} {layer.name}"
            for number, traced in enumerate(traces)
            for layer in traced.layers
            if part in (layer.role.part, f"layer{layer.role.stage}.{layer.role.block}")
        ]
        assert sorted(slots) == sorted(here)
    with pytest.raises(ValueError, match="no network has"):
        detail(traces, labels(of(*names)), "layer9.0")


def test_marks_are_as_many_as_differ() -> None:
    traces = [trace(config) for config in of("resnet50_v1", "resnet50")]
    drawing = overview(traces, ["v1", "v1.5"]).svg()
    assert drawing.count("≠") == 3
    assert detail(traces, ["v1", "v1.5"], "layer2.0").svg().count("≠") == 4
    assert "≠" not in overview([traces[1]] * 2, ["a", "b"]).svg()


def test_a_hostile_name_is_text_in_the_drawing() -> None:
    traces = [trace(config) for config in of("resnet18", "resnet50")]
    for drawing in (overview(traces, ["<script>", "&"]), detail(traces, ["<script>", "&"], "layer3.4")):
        assert not [e for e in ElementTree.fromstring(drawing.svg()).iter() if e.tag.endswith("script")]


def test_stage_bars_sum_to_the_totals() -> None:
    traces = [trace(config) for config in of("resnet18", "resnet50", "resnet20")]
    names = ["a", "b", "c"]
    for name, total in (("MACs", "macs"), ("Parameters", "params")):
        figure = stages_figure(traces, names, name)
        assert [sum(bar.y) for bar in figure.data] == [getattr(traced, total) for traced in traces]
    fields = stages_figure(traces, names, "Receptive field")
    assert [bar.y[-1] for bar in fields.data] == [435, 427, 81]
    assert list(COMPARED) == ["MACs", "Parameters", "Activations", "Receptive field"]
    found = compare(preset("resnet18"), preset("resnet50"))
    (steps,) = bill_figure(found.bill, found.macs, "macs", "MACs").data
    assert sum(steps.y[:-1]) == steps.y[-1] == found.macs


# -- the command and the page -------------------------------------------------------------


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "resnet50_v1", "preset=resnet50"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(r"MACs +3,857,973,248 +4,089,184,256 +\+231,211,008 +×1\.06\n", out)
    assert re.search(r"receptive field +483 +427 +-56", out)
    assert "134 of 175 layers differ" in out
    assert re.search(r"Stride in: 1×1 → 3×3 +0 +231211008 +\d+ +-56\n +total +0 +231211008 +\d+ +-56\n$", out)
    assert main(["compare", "resnet20", "resnet50"]) == 0
    assert "ResNet-50 against ResNet-20 at 32×32" in capsys.readouterr().out
    assert main(["compare", "resnet50", "resnet50"]) == 0
    assert "0 of 175 layers differ" in capsys.readouterr().out
    assert main(["compare", "resnet50", "resnet51"]) == 2
    assert re.fullmatch(r"explorer: preset = resnet51 [^\n]+\.\n", capsys.readouterr().err)
    assert main(["compare", "resnet20", "resnetblur50", "--size=8"]) == 2
    assert "17 to 8192" in capsys.readouterr().err


def markdown(app) -> str:
    return " ".join(element.value for element in (*app.header, *app.markdown, *app.caption, *app.info, *app.warning))


def test_the_page_shows_a_prepared_comparison() -> None:
    app = opened("choose")
    assert "Nothing is beside it yet" in markdown(app)
    select(app, "ready", "v1 or v1.5")
    assert "483 against 427 pixels" in markdown(app)
    assert link(app)["with"] == "resnet50"
    assert link(app)["stride_in"] == "1x1"
    assert "12 in the layer itself, 122 only in the receptive field" in markdown(app)
    frame = app.dataframe[1].value
    assert len(frame) == 175
    app.toggle(key="only differing").set_value(True).run()
    frame = app.dataframe[1].value
    assert len(frame) == 134
    assert frame["Δ MACs"].sum() == 231_211_008
    app.button(key="first 1").click().run()
    assert link(app)["with"] == "resnet50_v1"
    assert "stride_in" not in link(app)
    app.button(key="remove 1").click().run()
    assert "with" not in link(app)
    assert "Nothing is beside it yet" in markdown(app)


def test_what_is_pinned_stands_beside_the_next_network() -> None:
    app = click(opened(preset="resnet34"), "Pin to compare")
    app = opened("choose", **link(app))
    assert "It is pinned: change the network" in markdown(app)
    typed_into(app, "add preset", "ResNet-18")
    app.button(key="remove 1").click().run()
    assert link(app)["with"] == "resnet34"  # nothing but what was removed
    select(app, "preset", "resnet101")
    assert [button.key for button in app.button if button.label == "Remove"] == ["remove 1"]
    assert "from ResNet-101 to ResNet-34" in markdown(app).replace("\\", "")

    six = {"with": "resnet18,resnet101,resnet152,resnet20,resnet56"}
    full = click(opened(preset="resnet34", **six), "Pin to compare")
    assert "It is pinned; beside it Choose has 5 networks already" in markdown(full)
    assert link(full)["with"] == six["with"]


def test_a_ready_comparison_asks_before_it_replaces_a_network_of_ones_own() -> None:
    own = {"layers": "2-2-2-3"}
    app = opened("choose", **own)
    select(app, "ready", "v1 or v1.5")
    assert "v1 or v1.5** would replace ResNet-50, blocks per stage 2-2-2-3, which is no preset" in markdown(
        app
    ).replace("\\", "")
    assert link(app) == own
    click(app, "Cancel")
    assert "would replace" not in markdown(app)
    select(app, "ready", "v1 or v1.5")
    click(app, "Open beside")
    assert link(app) == {**own, "with": "resnet50_v1,resnet50"}
    assert "483 against 427 pixels" in markdown(app)
    select(app, "ready", "Stems")
    click(app, "Replace")
    assert link(app) == {"with": "resnet50c,stem=3x3"}
    select(app, "ready", "Dilation 32, 16, 8")  # nothing of one's own is left
    assert link(app) == {"with": "output_stride=16,output_stride=8"}


def test_the_shortcuts_open_where_they_differ() -> None:
    app = opened("choose", at="layer4.1.conv2")
    select(app, "ready", "Shortcut A, B, C, D")
    assert link(app)["at"] == "layer2.0"
    assert "Block 0 of stage 2, slot by slot" in markdown(app)
    select(app, "ready", "v1 or v1.5")
    assert "at" not in link(app)


def test_the_page_adds_networks() -> None:
    app = opened("choose", pin="layers=2-2-2-2&block=basic")
    typed_into(app, "add preset", "ResNet-101")
    assert link(app)["with"] == "resnet101"
    assert app.selectbox(key="add preset").value is None
    typed_into(app, "add preset", "ResNet 51")
    assert "Preset = ResNet 51 is not accepted" in app.warning[0].value.replace("\\", "")
    app.text_input(key="add link").set_value("https://example.org/?shortcut=C").run()
    assert link(app)["with"] == "resnet101,shortcut=C"
    app.text_input(key="add link").set_value("depth=[50](x)").run()
    assert "option = depth is not accepted" in app.warning[0].value.replace("\\", "")
    assert "Nothing was added" in app.warning[0].value
    assert app.text_input(key="add link").value == "depth=[50](x)"
    next(button for button in app.button if button.label == "Add the pinned network").click().run()
    assert link(app)["with"] == "resnet101,shortcut=C,resnet18"
    assert not app.warning
    assert [box for box in app.selectbox if box.key == "add preset"]
    assert not app.exception


def test_six_networks_stand_beside_each_other() -> None:
    names = ["resnet18", "resnet34", "resnet101", "resnet152", "wide_resnet50_2"]
    app = opened("choose", **{"with": ",".join(names)})
    titles = ["ResNet-50", "ResNet-18", "ResNet-34", "ResNet-101", "ResNet-152", "wide_resnet50_2"]
    (table,) = [html.proto.body for html in app.get("html") if "Peak activations" in html.proto.body]
    assert re.findall("<th>([^<]+)</th>", table) == titles
    assert len([button for button in app.button if button.label == "Remove"]) == 5
    assert not [box for box in app.selectbox if box.label == "Add a preset"]
    app.button(key="remove 5").click()
    run(app)
    assert [box for box in app.selectbox if box.label == "Add a preset"]


SHOWN = [DetailSettings(*values) for values in product((1, 2, 3), (False, True), COMPARED)]


@pytest.mark.parametrize("shown", SHOWN, ids=DetailSettings.to_text)
def test_what_is_shown_reads_back(shown: DetailSettings) -> None:
    assert parse_detail(shown.to_text(), 4) == shown
    assert View.from_query(View(shown=shown.to_text()).to_query()).shown == shown.to_text()
    if shown.pair == 3:
        with pytest.raises(ConfigError, match="a network from 1 to 2"):
            parse_detail(shown.to_text(), 3)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2", DetailSettings(2)),
        ("differing", DetailSettings(1, True)),
        ("parameters", DetailSettings(1, False, "Parameters")),
        ("3-activations", DetailSettings(3, False, "Activations")),
        ("2-differing-receptive-field", DetailSettings(2, True, "Receptive field")),
    ],
)
def test_what_older_links_show(text: str, shown: DetailSettings) -> None:
    assert parse_detail(text, 4) == shown


@pytest.mark.parametrize("text", ["1", "0", "differing-2", "2-", "Parameters", "-", "](x)", "٢"])
def test_what_is_not_shown(text: str) -> None:
    with pytest.raises(ConfigError, match=r"(shown|differing) = .* is not accepted"):
        parse_detail(text, 4)


def test_the_link_says_what_is_shown() -> None:
    """Pair, filter and measure are chosen, stand in the link, and open again; a pair that is gone is forgotten."""
    app = opened("choose", layers="2-2-2-2", block="basic", **{"with": "resnet50,resnet101"})
    assert "shown" not in link(app)
    select(app, "pair", 2)
    assert "from ResNet-18 to ResNet-101" in markdown(app).replace("\\", "")
    app.toggle(key="only differing").set_value(True).run()
    select(app, "compared by", "Receptive field")
    assert link(app)["shown"] == "pair-2_differing-1_measure-Receptive.field"
    again = opened("choose", **link(app))
    assert markdown(again) == markdown(app)
    assert again.dataframe[1].value.equals(app.dataframe[1].value)
    assert "Receptive field at the end" in str(again.get("plotly_chart")[-1].proto.spec)
    app.button(key="remove 2").click().run()
    assert link(app)["shown"] == "differing-1_measure-Receptive.field"
    assert not app.warning


def test_the_pair_is_the_one_that_is_shown_when_names_move() -> None:
    """The second name becomes the first's, as it does when a browser goes back: the choice is a place, not a name."""
    app = opened("choose", preset="resnet18", **{"with": "resnet50,resnet101", "shown": "2"})
    assert app.segmented_control(key="pair").value == 2
    now = app.session_state["view"]
    app.session_state["view"] = replace(now, others=(preset("resnet101"), preset("resnet152")))
    app.run()
    assert "from ResNet-18 to ResNet-152" in markdown(app).replace("\\", "")
    assert app.segmented_control(key="pair").value == 2
    app.run()
    assert link(app)["shown"] == "2"


def test_a_link_that_shows_what_is_not_there() -> None:
    app = opened("choose", shown="3", **{"with": "resnet101"})
    (words,) = said(app.warning)
    assert words.startswith("shown = 3 is not accepted")
    assert words.endswith("The usual is shown instead.")
    assert "layers differ" in markdown(app)


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("layer2.1.conv1", "Block 1 of stage 2"),
        ("layer2.1", "Block 1 of stage 2"),
        ("fc", "Head"),
        ("stem", "Stem"),
        ("conv1.3", "Stem"),
        ("conv1", "Block 0 of stage 1"),
        ("layer1", "Block 0 of stage 1"),
        ("](x)", "Block 0 of stage 1"),
    ],
)
def test_the_page_shows_the_chosen_block(at: str, words: str) -> None:
    """What the link names in either network, else the first block that differs."""
    app = opened("choose", stem="deep", at=at, **{"with": "resnet50d"})
    assert f"{words}, slot by slot" in [header.value for header in app.header]


def test_the_page_raises_the_image_size() -> None:
    app = opened("choose", preset="resnet20", size="16", **{"with": "resnetblur50"})
    assert "compared at 17 pixels instead of 16: below 17 a map is too small for an operation of one" in markdown(app)
    assert "At 17×17 pixels." in [caption.value for caption in app.caption]
    assert not app.exception


def test_the_page_says_what_windows_and_small_images_leave_out() -> None:
    app = opened("choose", preset="resnet50_gn", size="16", **{"with": "ResNet-50,seresnet18"})
    assert link(app)["with"] == "resnet50,seresnet18"
    words = "\n".join(caption.value.replace("\\", "") for caption in app.caption)
    assert "resnet50_gn: Units also depend on the whole map through group norm, first in bn1." in words
    assert (
        "seresnet18: Units also depend on the whole map through channel attention, first in layer1.0.se.scale." in words
    )
    assert "ResNet-50: Units" not in words
    assert words.count("A side of 16 px is less than the network's total stride of 32") == 3


def test_a_number_of_bytes() -> None:
    assert [mebibytes(number) for number in (3960, 2**20, 9633792, 2**31)] == [
        "3.9 KiB",
        "1.0 MiB",
        "9.2 MiB",
        "2.00 GiB",
    ]
