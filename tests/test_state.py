"""A view reads back from its link, and a link with mistakes still opens."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import example, find, given, settings
from hypothesis import strategies as st

from explorer.analysis.compare import common_size
from explorer.analysis.parts import switchable_blocks
from explorer.analysis.trace import trace
from explorer.bench.visitors import unescaped
from explorer.inference.samples import samples
from explorer.link import (
    LONGEST,
    MAX_NETWORKS,
    MAX_OTHERS,
    SHOWN,
    TOUR_STOPS,
    TRAINED,
    UPLOAD,
    View,
    natural_size,
    parse_size,
    size_text,
    tolerant,
)
from explorer.views.cached import device
from explorer.views.inference.images import from_sample
from explorer.views.inference.running import run_with
from explorer.views.network import selected_layer
from explorer.views.session import escape_markdown
from helpers import configs
from resnet import OPTIONS, PRESETS, ConfigError, ResNetConfig, preset
from resnet.options import to_text
from resnet.weights import BUNDLED, bundled

# -- writing and reading ------------------------------------------------------------------


def sizes(config: ResNetConfig) -> st.SearchStrategy[Any]:
    side = st.integers(1, 8192)
    drawn = st.just(natural_size(config)) | st.tuples(side, side) | side.map(lambda pixels: (pixels, pixels))
    return drawn.map(lambda size: common_size((config,), size))


def switched_off(config: ResNetConfig) -> st.SearchStrategy[Any]:
    names = switchable_blocks(config)[:40]
    return (
        st.sets(st.sampled_from(names)).map(lambda off: tuple(n for n in names if n in off)) if names else st.just(())
    )


EXAMPLES = {
    "at": "layer2.0.conv1",
    "weights": "IMAGENET1K_V2",
    "image": "chelsea",
    "unit": "3-5",
    "lab": "count-2",
    "training": "steps-1000",
    "landscape": "seed-2",
    "limits": "macs-5000000000_ms-12.0",
    "space": "layers=1..3-1-1-1 groups=1,32",
    "experiment": "shipped-20",
    "appended": "stage-2_blocks-4",
    "shown": "pair-2_differing-1",
    "tab": "Receptive field",
    "find": "downsample",
    "cost": "grain-by.layer",
    "memory": "batch-64_precision-bf16",
    "run": "1000",
    "start": "shortcuts-on",
    "change": "right-4_rotate--10",
    "explained": "Bag",
}


def texts_like(text: str) -> Callable[[ResNetConfig], st.SearchStrategy[str]]:
    return lambda config: st.just(text) | st.text(max_size=100)


NETWORKS = [*TRAINED, SHOWN, UPLOAD, "resnet50.a1_in1k", "resnet50.IMAGENET1K_V2", "some/model?option_a=both"]

STRATEGIES: dict[str, Callable[[ResNetConfig], st.SearchStrategy[Any]]] = {
    "image_size": sizes,
    "pinned": lambda config: st.none() | st.just(ResNetConfig()) | configs(),
    "others": lambda config: st.lists(st.just(ResNetConfig()) | configs(), max_size=MAX_OTHERS).map(tuple),
    "networks": lambda config: (
        st.just(()) | st.lists(st.sampled_from(NETWORKS), min_size=2, max_size=MAX_NETWORKS, unique=True).map(tuple)
    ),
    "off": switched_off,
    "channel": lambda config: st.none() | st.integers(0, 999_999),
    "blend": lambda config: st.floats(0, 1),
    "range": lambda config: st.sampled_from(["own", "shared"]),
    "trail": lambda config: st.lists(
        st.from_regex(r"\A(conv1|layer[1-9]\.[0-9]{1,3}\.se\.fc1)\.[0-9]{1,6}\.[0-9]{1,4}-[0-9]{1,4}\Z"), max_size=5
    ).map(tuple),
    "tour": lambda config: st.integers(0, TOUR_STOPS),
    "present": lambda config: st.booleans(),
    **{name: texts_like(text) for name, text in EXAMPLES.items()},
}
"""How each field of a view but its configuration is drawn."""


@st.composite
def views(draw: st.DrawFn) -> View:
    config = draw(configs())
    names = [field.name for field in fields(View) if field.name != "config"]
    return View(config, **{name: draw(STRATEGIES[name](config)) for name in names})


@given(views())
@settings(max_examples=150, deadline=None)
def test_any_view_reads_back(view: View) -> None:
    """`views` draws every field that `View` has, and fails where it knows none for one."""
    query = view.to_query()
    assert View.from_query(query) == view
    assert View.from_query(dict(parse_qsl(urlencode(query), keep_blank_values=True))) == view
    assert tolerant(query) == (view, [])


@pytest.mark.parametrize("name", [field.name for field in fields(View)])
def test_every_field_of_a_view_is_drawn(name: str) -> None:
    """Away from its default too, so that one that a link leaves out does not read back."""
    default = getattr(View(), name)
    assert getattr(find(views(), lambda view: getattr(view, name) != default), name) != default


@pytest.mark.parametrize("name", PRESETS)
def test_presets_open_by_name_and_by_their_own_link(name: str) -> None:
    config = preset(name)
    view = View(config, natural_size(config))
    assert View.from_query({"preset": name}) == View.from_query(view.to_query()) == view
    assert "size" not in view.to_query()


def test_older_links_open() -> None:
    """By the names that keys and tabs had when they were written."""
    old = View.from_query({"picture": "coffee", "tab": "Several pictures"})
    assert old == View.from_query({"image": "coffee", "tab": "Several images"})
    assert (old.image, old.tab) == ("coffee", "Several images")


def test_a_link_is_readable() -> None:
    assert View().to_query() == {}
    assert View(channel=0, blend=0.25, range="shared").to_query() == {
        "channel": "0",
        "blend": "0.25",
        "range": "shared",
    }
    view = View(preset("resnet18"), (192, 256), "layer2.0.conv1", ResNetConfig(), "random", "coffee", "3-5")
    assert view.to_query() == {
        "layers": "2-2-2-2",
        "block": "basic",
        "size": "192x256",
        "pin": "default",
        "at": "layer2.0.conv1",
        "weights": "random",
        "image": "coffee",
        "unit": "3-5",
    }
    assert View(pinned=preset("resnet18")).to_query() == {"pin": "layers=2-2-2-2&block=basic"}


def test_a_preset_is_what_the_rest_changes() -> None:
    view = View.from_query({"preset": "resnext50_32x4d", "layers": "3-4-23-3", "base_width": "8", "at": "conv1"})
    assert view == View(preset("resnext101_32x8d"), at="conv1")


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({}, (224, 224)),
        ({"output_stride": 8}, (224, 224)),
        ({"stem": "3x3", "stem_pool": "none", "layers": (1, 1, 1)}, (32, 32)),
        ({"stem": "3x3", "stem_pool": "none"}, (32, 32)),
        ({"stem": "3x3", "stem_pool": "none", "layers": (1,) * 5}, (224, 224)),
        ({"stem": "3x3"}, (224, 224)),
        ({"stem_pool": "none", "layers": (1, 1)}, (224, 224)),
    ],
)
def test_natural_size(given: dict[str, Any], size: tuple[int, int]) -> None:
    assert natural_size(ResNetConfig(**given)) == size


def test_a_link_with_weights_is_of_the_size_that_they_take() -> None:
    view = View.from_query({"preset": "resnet50", "weights": "resnet50.a1_in1k"})
    assert view.image_size == (288, 288)
    assert "size" not in view.to_query()
    asked = replace(view, image_size=(224, 224))
    assert asked.to_query()["size"] == "224"
    assert View.from_query(asked.to_query()) == asked
    assert View.from_query({"preset": "resnet18", "weights": "resnet50.a1_in1k"}).image_size == (224, 224)


def test_bundled_networks_see_the_size_they_were_trained_on() -> None:
    assert {natural_size(config) for config in BUNDLED.values()} == {(28, 28)}
    assert natural_size(preset("resnet20")) == (32, 32)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("224", (224, 224)),
        (" 224 ", (224, 224)),
        ("192x256", (192, 256)),
        ("192 × 256", (192, 256)),
        ("192, 256", (192, 256)),
    ],
)
def test_sizes_in_many_hands(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size
    assert parse_size(size_text(size)) == size


@pytest.mark.parametrize("text", ["", "x", "224x", "x224", "1x2x3", "-224", "2.5", "1e3", "٢٢٤", "1234567", "9" * 9999])
def test_sizes_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^size = .* is not accepted: .*\.$"):
        parse_size(text)


# -- links with mistakes ------------------------------------------------------------------


def assert_sentences(problems: list[str]) -> None:
    for problem in problems:
        assert problem.endswith(".")
        assert "\n" not in problem
        assert " is not accepted: " in problem
        assert len(problem) < 700


@pytest.mark.parametrize(
    ("query", "kept", "about"),
    [
        (
            {"layers": "3-8-36-3", "shortcut": "Q", "attention": "se"},
            {"layers": "3-8-36-3", "attention": "se"},
            ["shortcut = Q"],
        ),
        ({"layers": "3-x", "block": "basic"}, {"block": "basic"}, ["layers = 3-x"]),
        ({"channel": "-1", "at": "fc"}, {"at": "fc"}, ["channel = -1"]),
        (
            {"channel": "1000000", "blend": "nan", "range": "both"},
            {},
            ["channel = 1000000", "blend = nan", "range = both"],
        ),
        ({"channel": "", "blend": "1.5", "range": "shared"}, {"range": "shared"}, ["channel = (empty)", "blend = 1.5"]),
        ({"layers": "3-x", "shortcut": "Q", "at": "fc"}, {"at": "fc"}, ["layers = 3-x", "shortcut = Q"]),
        ({"depth": "50", "attention": "se"}, {"attention": "se"}, ["option = depth"]),
        ({"option": "1", "": "2", "attention": "se"}, {"attention": "se"}, ["option = option", "option = (empty)"]),
        ({"preset": "resnet", "layers": "2-2-2-2"}, {"layers": "2-2-2-2"}, ["preset = resnet"]),
        ({"preset": "resnet18", "shortcut": "Q"}, {"layers": "2-2-2-2", "block": "basic"}, ["shortcut = Q"]),
        ({"size": "12", "antialias": "blur"}, {"antialias": "blur"}, ["size = 12 is not accepted: 17 to 8192"]),
        ({"size": "0", "attention": "se"}, {"attention": "se"}, ["size = 0 is not accepted: 1 to 8192"]),
        ({"size": "1", "attention": "se"}, {"attention": "se", "size": "1"}, []),
        ({"size": "x", "attention": "se"}, {"attention": "se"}, ["size = x"]),
        ({"size": "9999", "attention": "se"}, {"attention": "se"}, ["9999"]),
        ({"image_size": "32", "attention": "se"}, {"attention": "se"}, ["option = image_size"]),
        ({"block": "basic", "groups": "32"}, {"block": "basic"}, ["groups = 32"]),
        ({"shortcut": "A", "planes": "128-64-32-16"}, {"planes": "128-64-32-16"}, ["shortcut = A"]),
        ({"layers": "2-2", "planes": "8-16-32"}, {"layers": "2-2"}, ["planes = 8-16-32"]),
        ({"layers": "400-400-400", "block": "basic"}, {"block": "basic"}, ["layers = 400-400-400"]),
        ({"block": "basic", "pin": "groups=0"}, {"block": "basic"}, ["pin = groups=0"]),
        ({"block": "basic", "pin": "x"}, {"block": "basic"}, ["pin = x"]),
        ({"block": "basic", "pin": ""}, {"block": "basic", "pin": "default"}, []),
        ({"block": "basic", "pin": "x=1", "x": "1"}, {"block": "basic"}, ["option = x", "pin = x=1"]),
        ({"block": "basic", "pin": "pin=default"}, {"block": "basic"}, ["pin = pin=default"]),
        ({"off": "layer1.0,layer4.3"}, {}, ["off = layer1.0,layer4.3"]),
        ({"off": "layer1.0 layer1.1"}, {}, ["off = layer1.0 layer1.1"]),
        ({"off": "layer2.1,layer1.0,,layer2.1"}, {"off": "layer1.0,layer2.1"}, []),
        ({"off": ""}, {}, []),
        (
            {"off": "layer2.0,layer2.1", "shortcut": "none"},
            {"shortcut": "none"},
            ["any block but layer2.0: it changes"],
        ),
        ({"off": "layer3.4", "layers": "3-x"}, {"off": "layer3.4"}, ["layers = 3-x"]),
    ],
)
def test_what_is_wrong_is_left_out_and_the_rest_kept(
    query: dict[str, str], kept: dict[str, str], about: list[str]
) -> None:
    view, problems = tolerant(query)
    assert view.to_query() == kept
    assert_sentences(problems)
    assert len(problems) == len(about)
    for problem, words in zip(problems, about, strict=True):
        assert words in problem


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ({"layers": "3-8-36-3", "pin": "layers=x"}, {"layers": "3-8-36-3"}),
        ({"block": "basic", "pin": "block=x"}, {"block": "basic"}),
        ({"layers": "3-8-36-3", "size": "0", "pin": "groups=0"}, {"layers": "3-8-36-3"}),
        ({"attention": "se", "depth": "50", "size": "x", "pin": "attention=0"}, {"attention": "se"}),
    ],
)
def test_a_mistake_in_the_pin_costs_nothing_but_the_pin(query: dict[str, str], kept: dict[str, str]) -> None:
    view, problems = tolerant(query)
    assert view.to_query() == kept
    assert_sentences(problems)
    assert "Nothing is pinned" in " ".join(problems)


@pytest.mark.parametrize("key", ["find", "class", "weights", "picture"])
def test_a_text_that_is_too_long_is_named_and_left_out(key: str) -> None:
    """A part of it would be something else; a text of an older link has the name that it has today."""
    longest, field = "x" * LONGEST, {"class": "explained", "picture": "image"}.get(key, key)
    view, problems = tolerant({key: longest, "tab": "Speed"})
    assert (getattr(view, field), problems) == (longest, [])
    view, (problem,) = tolerant({key: longest + "x", "tab": "Speed"})
    assert view == View(tab="Speed")
    assert problem.endswith("… is not accepted: at most 200 characters. It is left out.")


def test_what_does_not_fit_together_gives_the_default_network() -> None:
    view, problems = tolerant({"preset": "resnext50_32x4d", "block": "basic"})
    assert view.config == ResNetConfig()
    assert_sentences(problems)
    assert "The default network is shown" in problems[-1]


@pytest.mark.parametrize(
    "query",
    [{"size": "1" + " " * 100_000 + "x"}, {"at": "x" * 16_000}, {f"x{n}": "1" for n in range(8_000)}],
    ids=["spaces", "text", "parts"],
)
def test_an_endless_link_is_one_sentence(query: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything in it is looked at."""
    monkeypatch.setattr(ResNetConfig, "from_query", lambda *_: pytest.fail("looked at"))
    monkeypatch.setattr("explorer.link.parse_size", lambda _: pytest.fail("looked at"))
    view, (problem,) = tolerant(query)
    assert view == View()
    assert "at most 16,000 characters in 64 parts. The default network is shown instead." in problem


def test_a_size_with_spaces_is_looked_at_once() -> None:
    """An expression that tried each way to part the spaces would take minutes."""
    for text in ("224" + " " * 200_000 + "x", "224 x" + " " * 200_000 + "x", " " * 200_000):
        with pytest.raises(ConfigError):
            parse_size(text)
    assert parse_size(" 224 ×  320 ") == (224, 320)


def test_the_longest_link_of_a_view_opens() -> None:
    config = preset("resnet1202") if "resnet1202" in PRESETS else ResNetConfig(layers=(200, 200, 200), block="basic")
    view = View(config, natural_size(config), off=switchable_blocks(config))
    assert tolerant(view.to_query()) == (view, [])


def test_of_many_mistakes_five_are_named() -> None:
    view, problems = tolerant({f"x{n}": "1" for n in range(60)} | {"attention": "se"})
    assert view.to_query() == {"attention": "se"}
    assert len(problems) == 6
    assert problems[-1] == "55 more of the link's parts are left out."


def test_each_mistake_says_what_is_used_instead() -> None:
    _, problems = tolerant({"channel": "x", "blend": "x", "range": "x"})
    assert problems == [
        "channel = x is not accepted: a whole number from 0 to 999999. The strongest is shown instead.",
        "blend = x is not accepted: a number from 0 to 1. 0.6 is used instead.",
        "range = x is not accepted: one of own, shared. own is used instead.",
    ]
    _, problems = tolerant({"shortcut": "Q", "size": "x", "pin": "x", "layers": "y", "planes": "z"})
    ends = {problem.partition(" = ")[0]: problem.rpartition(": ")[2].partition(". ")[2] for problem in problems}
    assert ends["shortcut"] == "B is used instead."
    assert ends["layers"] == "3-4-6-3 is used instead."
    assert ends["size"] == "The network's usual image size is used instead."
    assert ends["planes"] == "64-128-256-512 is used instead."
    assert len(problems) == 5


def test_what_is_used_instead_is_the_networks_that_is_shown() -> None:
    view, problems = tolerant({"preset": "resnet20", "layers": "y", "planes": "z", "block": "q"})
    assert view.config == preset("resnet20")
    used = [problem.rpartition(": ")[2].partition(". ")[2] for problem in problems]
    assert used == [f"{value} is used instead." for value in ("3-3-3", "16-32-64", "basic")]


_names = st.sampled_from(
    [
        *OPTIONS,
        "size",
        "pin",
        "off",
        "preset",
        "at",
        "weights",
        "image",
        "class",
        "channel",
        "blend",
        "range",
        "image_size",
        "option",
    ]
)
_texts = (
    st.text(max_size=30)
    | st.sampled_from([to_text(choice) for option in OPTIONS.values() for choice in option.choices])
    | st.sampled_from(
        ["", "3-4-6-3", "2-2", "0", "1", "8", "32", "12", "224x", "9" * 5000, "٣-٤", "resnet18", "resnet20"]
    )
    | st.dictionaries(_names, st.text(max_size=8), max_size=3).map(urlencode)
    | st.just("pin=" + "pin%3D" * 50 + "x")
)


@given(st.dictionaries(_names | st.text(max_size=20), _texts, max_size=8))
@example({"pin": "&&==;%", "size": "\x00"})
@settings(max_examples=500, deadline=None)
def test_any_link_opens(query: dict[str, str]) -> None:
    view, problems = tolerant(query)
    assert tolerant(view.to_query()) == (view, [])
    assert len(problems) <= len(query) + 1
    for problem in problems:
        assert problem.endswith(".")
        assert len(problem) < 700
    if not problems:
        assert View.from_query(query) == view


# -- words --------------------------------------------------------------------------------

JOINER = "\u2060"
MEANINGFUL = "\\`*_{}[]()<>#+-.!|$~:&"
"""Characters that Markdown, or Streamlit on top of it, may take as more than text."""


def assert_plain(words: str) -> None:
    escaped = escape_markdown(words)
    assert unescaped(escaped) == "".join(map(as_text, re.sub(r"\s+", " ", words)))
    meaningful = "".join(map(re.escape, MEANINGFUL))
    assert not re.search(rf"[{meaningful}]", re.sub(rf"\\[{meaningful}]", "", escaped))


def as_text(character: str) -> str:
    """A character, or how Python writes one that is not seen: it may control a terminal, or the direction of text."""
    seen = character.isprintable() or unicodedata.category(character) == "Zs"
    return character if seen else character.encode("unicode_escape").decode()


@pytest.mark.parametrize("character", MEANINGFUL)
def test_every_meaningful_character_is_escaped(character: str) -> None:
    assert_plain(f"a{character}b{character * 2}")


@given(st.text(st.sampled_from(MEANINGFUL + "aé1 \n")) | st.text())
@example(r"\*a*\\")
@example("\x1b[31mred\u202egnp.exe\0")
@example("**b** :red[c] $x$ ![](http://x) <b> &amp; :material/lock: ~~d~~")
@settings(deadline=None)
def test_typed_text_stays_text(words: str) -> None:
    assert_plain(words)


# -- what is selected ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "at", "selected"),
    [
        ("resnet18", "layer3.1.bn1", "layer3.1.bn1"),
        ("resnet50", "layer3.1", "layer3.1.conv2"),  # of a block its 3×3
        ("resnet18", "stem", "conv1"),  # of a part without one its first layer
        ("resnet50", "", "layer2.0.conv2"),
        ("resnet50", "layer9.0.conv1", "layer2.0.conv2"),
    ],
)
def test_what_a_link_selects(name: str, at: str, selected: str) -> None:
    assert selected_layer(trace(preset(name), 64), at).name == selected


def test_a_run_on_another_image_is_as_if_it_had_begun_with_it() -> None:
    first, second = map(from_sample, samples()[:2])
    run = run_with([first], bundled(BUNDLED["resnet20"])[0], None, (), device())
    assert run.on(second).key == run_with([second], run.weights, None, (), device()).key
