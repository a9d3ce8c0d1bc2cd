"""A configuration reads back exactly however it was written, and one that cannot exist says why."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models import resnet50

from helpers import configs, narrow, values_of
from resnet import OPTIONS, PRESETS, ConfigError, ResNetConfig, build, preset
from resnet.options import to_text
from resnet.presets import plain_name
from resnet.sizes import check_image_size, least_side


def refused(field: str, words: str, error: ConfigError) -> None:
    """Assert that an error is one sentence about `field` which says `words`."""
    text = str(error)
    assert error.field == field
    assert text.startswith(f"{field} = ")
    assert text.endswith(".")
    assert " is not accepted: " in text
    assert words in text
    assert "\n" not in text
    assert len(text) < 600


# -- writing and reading ------------------------------------------------------------------


def assert_reads_back(config: ResNetConfig) -> None:
    query = config.to_query()
    assert all(isinstance(text, str) for text in query.values())
    assert ResNetConfig.from_query(query) == config
    assert ResNetConfig.from_json(config.to_json()) == config
    assert eval(repr(config)) == config


@pytest.mark.parametrize("name", PRESETS)
def test_presets_read_back(name: str) -> None:
    assert_reads_back(PRESETS[name])


def test_the_default_is_the_empty_query() -> None:
    assert ResNetConfig().to_query() == {}
    assert ResNetConfig().to_json() == "{}"
    assert ResNetConfig() == preset("resnet50") == ResNetConfig.from_query({})


def test_a_query_is_readable() -> None:
    config = ResNetConfig(layers=(3, 8, 36, 3), zero_init_residual=True, drop_path=0.1, output_stride=8)
    expected = {"layers": "3-8-36-3", "zero_init_residual": "1", "drop_path": "0.1", "output_stride": "8"}
    assert config.to_query() == expected


def test_a_query_changes_its_base() -> None:
    base = preset("resnext50_32x4d")
    assert ResNetConfig.from_query({}, base) == base
    changed = ResNetConfig.from_query({"layers": "3-4-23-3", "base_width": "8"}, base)
    assert changed == preset("resnext101_32x8d")
    assert ResNetConfig.from_query({"groups": "1", "base_width": "64"}, base) == ResNetConfig()


@pytest.mark.parametrize("rate", [0.00012345678901234567, 1.2345678901234567e-05, 5e-324, 0.99, 1e-9, 0.5])
def test_every_digit_of_a_rate_reads_back(rate: float) -> None:
    assert_reads_back(ResNetConfig(drop_path=rate))


@pytest.mark.parametrize(
    ("field", "text"),
    [
        *[("groups", text) for text in ("٣", "²", "+3", " 3", "3 ", "3.0", "1_0", "", "3-4", "9" * 5000)],
        *[("layers", text) for text in ("٣-٤", "3,4", "3-", "-3", "3--4", "(3, 4)", "")],
        *[("drop_path", text) for text in ("nan", "inf", "-0.1", ".", "0,1", "٠.١", "1e400", "")],
        *[("zero_init_residual", text) for text in ("True", "2", "yes", "")],
        *[("output_stride", text) for text in ("032", "٣٢", "32.0")],
        *[("block", text) for text in ("Basic", "basic ", "")],
    ],
    ids=lambda text: ascii(text[:9]),
)
def test_a_query_has_one_way_to_write_a_value(field: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ResNetConfig.from_query({field: text})
    refused(field, "", caught.value)


def test_code_builds_the_network() -> None:
    config = preset("resnet20")
    code = config.to_code().replace("model = build(", "config = (")
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["config"] == config


def test_a_list_is_a_tuple_and_a_whole_number_a_float() -> None:
    config = ResNetConfig(layers=[2, 2], planes=[8, 16], drop_path=0)  # type: ignore[arg-type]
    assert config == ResNetConfig(layers=(2, 2), planes=(8, 16))
    assert hash(config) == hash(ResNetConfig(layers=(2, 2), planes=(8, 16)))
    assert isinstance(config.drop_path, float)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("ResNet-50", "resnet50"),
        ("resnet 50", "resnet50"),
        ("RESNET50", "resnet50"),
        ("resnet50\n", "resnet50"),
        ("resnet-50d", "resnet50d"),
        ("wide-resnet50-2", "wide_resnet50_2"),
        ("Wide ResNet-50-2", "wide_resnet50_2"),
        ("resnext50-32x4d", "resnext50_32x4d"),
        ("ResNeXt-50 32×4d", "resnext50_32x4d"),
        ("resnet20-fashion", "resnet20_fashion"),
        ("RESNET20_FASHION", "resnet20_fashion"),
        ("timm/resnet50.a1_in1k", "resnet50"),
        ("resnet50.tv_in1k", "resnet50"),
        ("hf-hub:timm/resnet18.a1_in1k", "resnet18"),
        ("hf_hub:timm/resnet50_gn.a1h_in1k", "resnet50_gn"),
        ("https://huggingface.co/timm/resnet50d.ra2_in1k", "resnet50d"),
        ("ResNet-50 v1", "resnet50_v1"),
        ("ResNet-50 v1.5", "resnet50"),
        ("SE-ResNet-50", "seresnet50"),
        ("50", "resnet50"),
        (" 1202 ", "resnet1202"),
    ],
)
def test_preset_names_are_forgiving(typed: str, name: str) -> None:
    assert preset(typed) == PRESETS[name]


def test_preset_names_stay_apart_however_they_are_typed() -> None:
    for form in (str, str.upper, lambda name: name.replace("_", "-"), lambda name: name.replace("_", " ")):
        assert {name: preset(form(name)) for name in PRESETS} == dict(PRESETS)
    assert len({plain_name(name) for name in PRESETS}) == len(PRESETS)


@pytest.mark.parametrize("hub", ["", "timm/", "hf-hub:timm/"])
def test_every_name_on_timms_hub_is_its_network_or_none(hub: str) -> None:
    """`timm.list_pretrained` names weights as network.tag."""
    weights = timm.list_pretrained("*res*")
    assert sum(name.partition(".")[0] in PRESETS for name in weights) > 100
    for name in weights:
        network = name.partition(".")[0]
        found = attempt(preset, hub + name)
        assert (found == PRESETS[network]) if network in PRESETS else isinstance(found, ConfigError), name


@pytest.mark.parametrize(
    "name",
    ["resnet51", "", "vgg", "५०", "a" * 10_000, "resnet50.5", "timm/", "resnet50.", "resnet50 v2.5"],
    ids=lambda name: name[:9],
)
def test_preset_offers_near_names(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        preset(name)
    refused("preset", "such as resnet", caught.value)


# -- any configuration --------------------------------------------------------------------


@given(configs())
@settings(max_examples=300, deadline=None)
def test_any_configuration_reads_back(config: ResNetConfig) -> None:
    assert_reads_back(config)
    assert config.with_() == (config, ())


def attempt(read: Callable[[Any], Any], given: Any) -> Any:
    """What `read` makes of it, or its refusal."""
    try:
        return read(given)
    except ConfigError as error:
        return error


_numbers = st.integers() | st.integers(10**9, 10**40) | st.floats() | st.sampled_from([-1, 0, 10**400, "1e3", "0x10"])
_texts = (
    st.text(max_size=30)
    | st.text(st.characters(categories=["Nd"]), min_size=1, max_size=4)
    | _numbers.map(str)
    | st.sampled_from(list(OPTIONS)).flatmap(values_of).map(to_text)
    | st.sampled_from(["", "-", "3-4-6-3", "3--4", "1-", "٣-٤", "x" * 5000, "1-" * 2000 + "1", "True", "None", "1\n"])
)
_queries = st.dictionaries(st.sampled_from(list(OPTIONS)) | st.text(max_size=30), _texts, max_size=5)


@given(_queries | _queries.map(lambda query: {name: text for name, text in query.items() if name in OPTIONS}))
@settings(max_examples=500, deadline=None)
def test_any_query_is_a_configuration_or_a_sentence(query: dict[str, str]) -> None:
    result = attempt(ResNetConfig.from_query, query)
    if isinstance(result, ResNetConfig):
        assert_reads_back(result)
        return
    text = str(result)
    assert result.field in text
    assert text.endswith(".")
    assert len(text) < 600
    assert "\n" not in text or any("\n" in given for pair in query.items() for given in pair)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(list(OPTIONS)), _json, max_size=3) | _json)
@settings(max_examples=300, deadline=None)
def test_any_json_is_a_configuration_or_a_sentence(value: Any) -> None:
    result = attempt(ResNetConfig.from_json, json.dumps(value))
    if isinstance(result, ResNetConfig):
        assert_reads_back(result)
    else:
        assert str(result).endswith(".")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '"layers"', "[" * 100_000, '{"layers": [3, 4'], ids=lambda text: text[:12]
)
def test_json_that_is_no_object(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ResNetConfig.from_json(text)
    refused("configuration", "a JSON object", caught.value)


def test_json_with_an_unknown_field() -> None:
    with pytest.raises(ConfigError) as caught:
        ResNetConfig.from_json('{"depth": 50}')
    refused("option", "one of layers, planes", caught.value)


# -- what cannot exist --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"block": "basic", "groups": 32}, "groups", "only the bottleneck block has it"),
        ({"block": "basic", "base_width": 128}, "base_width", "only the bottleneck block has it"),
        ({"block": "basic", "stride_in": "1x1"}, "stride_in", "only the bottleneck block has it"),
        ({"se_reduction": 4}, "se_reduction", "only squeeze-and-excitation has it"),
        ({"se_reduction": 4, "attention": "eca"}, "se_reduction", "only squeeze-and-excitation has it"),
        ({"shortcut": "none", "zero_init_residual": True}, "zero_init_residual", "a plain network has no shortcut"),
        ({"shortcut": "none", "drop_path": 0.1}, "drop_path", "a plain network has no shortcut"),
        ({"planes": (64, 128)}, "planes", "each of the 4 stages"),
        ({"layers": (2, 2), "planes": (8, 16, 32)}, "planes", "each of the 2 stages"),
        ({"layers": (1, 1), "planes": (128, 64), "shortcut": "A"}, "shortcut", "fewer channels than its input"),
        ({"stem_width": 512, "shortcut": "A"}, "shortcut", "fewer channels than its input"),
        ({"layers": (1, 1), "planes": (8, 16), "base_width": 4}, "base_width", "at least 1"),
        ({"layers": (1,), "planes": (16384,), "groups": 1024}, "base_width", "at most 1048576 channels"),
        ({"layers": (1,) * 7}, "layers", "1 to 6 of them"),
        ({"layers": ()}, "layers", "1 to 6 of them"),
        ({"layers": (3, 0, 6, 3)}, "layers", "from 1 to 500"),
        ({"layers": (3, -4, 6, 3)}, "layers", "from 1 to 500"),
        ({"layers": (3, 501, 6, 3)}, "layers", "from 1 to 500"),
        ({"layers": (400, 400, 201)}, "layers", "at most 1000 blocks"),
        ({"planes": (64, 128, 256, 0)}, "planes", "from 1 to 16384"),
        ({"stem": "tiered", "stem_width": 3}, "stem_width", "at least 4"),
        ({"stem_width": -1}, "stem_width", "from 1 to 16384"),
        ({"groups": 0}, "groups", "from 1 to 1024"),
        ({"groups": -1}, "groups", "from 1 to 1024"),
        ({"drop_path": 1.0}, "drop_path", "from 0 to 0.99"),
        ({"drop_path": -0.1}, "drop_path", "from 0 to 0.99"),
        ({"drop_path": float("nan")}, "drop_path", "a number"),
        ({"drop_path": float("inf")}, "drop_path", "a number"),
        ({"drop_path": 10**400}, "drop_path", "a number"),
        ({"output_stride": 4}, "output_stride", "one of 32, 16, 8"),
        ({"block": "Basic"}, "block", "one of basic, bottleneck"),
        ({"num_classes": 0}, "num_classes", "from 1 to 100000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_impossible(given: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ResNetConfig(**given)
    refused(field, words, caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("groups", value) for value in (True, 3.0, None, "4", (4,))],
        *[("layers", value) for value in (None, 3, "3-4-6-3", {2, 3}, (True, 1), (2.0, 2), ("2", "2"), (None,))],
        *[("planes", value) for value in (64, (64.0, 128, 256, 512), "64-128-256-512")],
        *[("stem_width", value) for value in (True, 64.0, "64")],
        *[("zero_init_residual", value) for value in (1, 0, None, "1")],
        *[("drop_path", value) for value in (True, False, None, "0.1")],
        *[("block", value) for value in (None, True, ["basic"], 0)],
        *[("output_stride", value) for value in (True, 16.0, "16", None)],
    ],
)
def test_wrong_types(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        ResNetConfig(**{field: value})
    refused(field, "", caught.value)


def test_limits_are_within() -> None:
    assert sum(ResNetConfig(layers=(500, 500)).layers) == 1000
    assert len(ResNetConfig(layers=(1,) * 6).planes) == 6
    assert ResNetConfig(stem="tiered", stem_width=4).stem_channels == 8
    assert ResNetConfig(layers=(1, 1), planes=(64, 64), block="basic", shortcut="A").stage_channels == (64, 64)
    assert ResNetConfig(layers=(1,), planes=(16,), base_width=4).width(16) == 1


# -- image size ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "sides"),
    [(224, (224, 224)), ((160, 224), (160, 224)), ([224, 160], (224, 160)), (32, (32, 32)), (8192, (8192, 8192))],
)
def test_image_size(size: Any, sides: tuple[int, int]) -> None:
    assert check_image_size(ResNetConfig(), size) == sides


@pytest.mark.parametrize(
    "size",
    [0, -224, 8193, (8193, 224), (224, 0), 224.0, "224", None, True, (224,), (224, 224, 3), (True, 224), (224, None)],
)
def test_image_size_refused(size: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        check_image_size(ResNetConfig(), size)
    refused("size", "1 to 8192 pixels", caught.value)


def passes(config: ResNetConfig, size: tuple[int, int]) -> bool:
    """Whether torch runs the network on one image."""
    network = build(config).eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, config.in_channels, *size))
    except (RuntimeError, ValueError):
        return False
    return True


@given(narrow(), st.tuples(*[st.integers(1, 4) | st.integers(1, 40)] * 2))
@settings(max_examples=300, deadline=None)
def test_an_image_is_refused_where_torch_cannot_run_it(config: ResNetConfig, size: tuple[int, int]) -> None:
    result = attempt(partial(check_image_size, config), size)
    assert (result == size) == passes(config, size), result
    if isinstance(result, ConfigError):
        refused("size", f"{least_side(config)} to 8192 pixels", result)
        assert f"below {least_side(config)} a map is too small" in str(result)


@given(narrow())
@settings(max_examples=60, deadline=None)
def test_the_least_side_is_the_smallest_that_torch_runs(config: ResNetConfig) -> None:
    assert least_side(config) == next(side for side in range(1, 65) if passes(config, (side, side)))


@pytest.mark.parametrize(
    ("given", "low"),
    [
        ({}, 1),
        ({"stem": "3x3", "stem_pool": "none", "layers": (3, 3, 3), "block": "basic", "shortcut": "A"}, 1),
        ({"antialias": "avg"}, 3),
        ({"antialias": "avg", "stem_pool": "conv"}, 1),
        ({"antialias": "blur"}, 17),
        ({"antialias": "blur", "layers": (1,)}, 3),
        ({"norm": "group"}, 1),
        ({"norm": "group", "planes": (8, 16, 32, 64)}, 17),
    ],
)
def test_smallest_image(given: dict[str, Any], low: int) -> None:
    """A blur reflects a map of two positions or more, the unpadded average pool reads two, group norm two of a group."""
    config = ResNetConfig(**given)
    assert least_side(config) == low
    assert check_image_size(config, low) == (low, low)
    with pytest.raises(ConfigError, match=f"{low} to 8192"):
        check_image_size(config, low - 1)


def test_one_side_may_be_smaller_than_the_least_of_a_square() -> None:
    config = ResNetConfig(norm="group", planes=(8, 16, 32, 64))
    assert check_image_size(config, (1, 400)) == (1, 400)


# -- changing -----------------------------------------------------------------------------


def test_fields_that_no_longer_apply_return_to_their_defaults() -> None:
    config, notes = preset("resnext50_32x4d").with_(block="basic")
    assert config == preset("resnet34")
    assert [note.partition(" went")[0] for note in notes] == ["Groups", "Base width"]
    assert "from 32 to 1" in notes[0]
    assert "from 4 to 64" in notes[1]


@pytest.mark.parametrize(
    ("given", "change", "label"),
    [
        ({"stride_in": "1x1"}, {"block": "basic"}, "Stride in"),
        ({"attention": "se", "se_reduction": 4}, {"attention": "eca"}, "SE reduction"),
        ({"zero_init_residual": True}, {"shortcut": "none"}, "Zero-init branches"),
        ({"drop_path": 0.2}, {"shortcut": "none"}, "Stochastic depth"),
    ],
)
def test_every_field_that_follows_is_noted(given: dict[str, Any], change: dict[str, Any], label: str) -> None:
    config, notes = ResNetConfig(**given).with_(**change)
    assert config == ResNetConfig(**change)
    (note,) = notes
    assert note.startswith(f"{label} went from ")
    assert note.endswith(".")


@pytest.mark.parametrize(
    ("layers", "planes"),
    [((2,), (16,)), ((2, 2), (16, 40)), ((2,) * 4, (16, 40, 64, 128)), ((2,) * 6, (16, 40, 64, 128, 256, 512))],
)
def test_planes_of_ones_own_follow_the_stages(layers: tuple[int, ...], planes: tuple[int, ...]) -> None:
    config, notes = ResNetConfig(layers=(2, 2, 2), planes=(16, 40, 64)).with_(layers=layers)
    assert (config.layers, config.planes) == (layers, planes)
    assert notes == (f"Planes per stage went from 16-40-64 to {'-'.join(map(str, planes))}.",)


def test_grown_planes_stay_in_range() -> None:
    config, _ = ResNetConfig(layers=(1, 1), planes=(64, 10_000), block="basic").with_(layers=(1, 1, 1, 1))
    assert config.planes == (64, 10_000, 16384, 16384)


@pytest.mark.parametrize("stages", [1, 3, 5, 6])
def test_default_planes_follow_silently(stages: int) -> None:
    config, notes = ResNetConfig().with_(layers=(2,) * stages)
    assert config == ResNetConfig(layers=(2,) * stages)
    assert config.planes == (64, 128, 256, 512, 1024, 2048)[:stages]
    assert notes == ()


def test_the_stem_follows_the_planes_silently() -> None:
    config, notes = ResNetConfig().with_(planes=(16, 32, 64, 128))
    assert (config.stem_width, notes) == (16, ())
    config, notes = ResNetConfig().with_(stem="deep")
    assert (config, notes) == (preset("resnet50c"), ())


@pytest.mark.parametrize(
    ("stem", "planes", "width", "channels"),
    [("7x7", 2, 2, 2), ("3x3", 64, 64, 64), ("deep", 64, 32, 64), ("deep", 4, 4, 8), ("tiered", 10, 5, 10)],
)
def test_default_width_of_the_stem(stem: str, planes: int, width: int, channels: int) -> None:
    config = ResNetConfig(layers=(1,), planes=(planes,), stem=stem)
    assert (config.stem_width, config.stem_channels) == (width, channels)


@pytest.mark.parametrize(
    ("name", "change", "field"),
    [
        ("resnet18", {"groups": 32}, "groups"),
        ("resnext50_32x4d", {"block": "basic", "groups": 32}, "groups"),
        ("plain34", {"drop_path": 0.1}, "drop_path"),
        ("resnet50", {"layers": ()}, "layers"),
        ("resnet50", {"layers": 3}, "layers"),
        ("resnet20", {"layers": ()}, "layers"),
        ("resnet20", {"layers": 3}, "layers"),
        ("resnet20", {"layers": None}, "layers"),
        ("resnet20", {"planes": (16, 32)}, "planes"),
        ("resnet20", {"layers": (3, 3), "planes": (16, 32, 64)}, "planes"),
        ("resnet50", {"num_classes": "10"}, "num_classes"),
    ],
)
def test_a_change_that_is_impossible_raises(name: str, change: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        preset(name).with_(**change)
    refused(field, "", caught.value)


# -- what follows -------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in PRESETS if re.fullmatch(r"(resnet|plain)\d+(_v1)?", name)])
def test_depth_is_the_number_in_the_name(name: str) -> None:
    assert str(preset(name).depth) in re.findall(r"\d+", name)[:1]


@pytest.mark.parametrize(("name", "extra"), [("resnet50d", 2), ("resnet50t", 2), ("resnetrs50", 3)])
def test_depth_counts_every_stem_convolution(name: str, extra: int) -> None:
    assert preset(name).depth == 50 + extra


@pytest.mark.parametrize(
    ("output_stride", "dilated"), [(32, [False, False, False]), (16, [False, False, True]), (8, [False, True, True])]
)
def test_strides_are_those_of_torchvision(output_stride: int, dilated: list[bool]) -> None:
    config = ResNetConfig(output_stride=output_stride)
    with torch.device("meta"):
        theirs = resnet50(replace_stride_with_dilation=dilated)
        stages = (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4)
        features = torch.nn.Sequential(*list(theirs.children())[:-2])
        side = features(torch.zeros(1, 3, 256, 256)).shape[-1]
    assert config.stage_strides == tuple((stage[0].conv2.stride[0], stage[-1].conv2.dilation[0]) for stage in stages)
    assert config.total_stride == 256 // side == output_stride


@pytest.mark.parametrize(
    ("given", "strides", "total"),
    [
        ({"layers": (1,) * 6}, ((1, 1), (2, 1), (2, 1), (2, 1), (1, 2), (1, 4)), 32),
        ({"layers": (1,) * 3, "stem": "3x3", "stem_pool": "none"}, ((1, 1), (2, 1), (2, 1)), 4),
        ({"layers": (1,) * 3, "stem_pool": "none"}, ((1, 1), (2, 1), (2, 1)), 8),
        ({"layers": (1,) * 3, "stem": "3x3", "output_stride": 8}, ((1, 1), (2, 1), (2, 1)), 8),
        ({"layers": (1,) * 5, "stem_pool": "conv", "output_stride": 8}, ((1, 1), (2, 1), (1, 2), (1, 4), (1, 8)), 8),
        ({"layers": (1,)}, ((1, 1),), 4),
    ],
)
def test_strides(given: dict[str, Any], strides: tuple[tuple[int, int], ...], total: int) -> None:
    config = ResNetConfig(**given)
    assert config.stage_strides == strides
    assert config.total_stride == total


def test_every_option_explains_itself() -> None:
    for name, option in OPTIONS.items():
        assert option.label, name
        assert option.help.endswith("."), name
        assert not option.choices or option.default in option.choices, name


# -- edges ----------------------------------------------------------------------------------


def test_a_list_of_layers_changes_the_stages_like_a_tuple() -> None:
    assert preset("resnet20").with_(layers=[3, 3]) == preset("resnet20").with_(layers=(3, 3))


@pytest.mark.parametrize("given", [{"stem_width": False}, {"stem_width": 0.0}, {"planes": None}, {"planes": {}}])
def test_only_an_empty_value_of_the_right_kind_stands_for_the_default(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        ResNetConfig(**given)
    assert caught.value.field == next(iter(given))


def test_a_number_too_long_to_write_is_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="num_classes = a number of thousands of digits is not accepted"):
        ResNetConfig(num_classes=10**5000)


def test_an_error_survives_pickling() -> None:
    error = ConfigError("layers", "x", "numbers")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.field, again.value, again.accepted) == (str(error), "layers", "x", "numbers")
