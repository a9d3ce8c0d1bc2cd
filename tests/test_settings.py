"""What a person sets reads back exactly from its text, whichever class it is of; what older links hold still opens."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from explorer.experiments.degradation import Settings as Training
from explorer.experiments.identity import AppendSettings
from explorer.experiments.kernels import Lab
from explorer.inference.whatif import Change
from explorer.link import LONGEST, View
from explorer.views.architecture.cost import CostSettings
from explorer.views.compare import DetailSettings
from explorer.views.start import StartSettings
from resnet import ConfigError, Option, ResNetConfig
from resnet.options import Settings, option

KINDS: tuple[type[Settings], ...] = (
    ResNetConfig,
    Training,
    Lab,
    AppendSettings,
    DetailSettings,
    CostSettings,
    StartSettings,
    Change,
)
IN_LINK = KINDS[1:]


def values(option: Option) -> st.SearchStrategy[Any]:
    """Every value that an option accepts."""
    if option.choices:
        return st.sampled_from(option.choices)
    if isinstance(option.default, bool):
        return st.booleans()
    if isinstance(option.default, float):
        return st.floats(option.low, option.high)
    whole = st.integers(int(option.low), int(option.high))
    if isinstance(option.default, tuple):
        return st.lists(whole, min_size=option.least, max_size=option.most).map(tuple)
    return whole


@st.composite
def made(draw: st.DrawFn, kinds: tuple[type[Settings], ...] = KINDS) -> Settings:
    """Settings of any kind, some of their fields given."""
    kind = draw(st.sampled_from(kinds))
    fields = {name: values(one) for name, one in kind.options().items() if name != "planes"}
    try:
        return kind(**draw(st.fixed_dictionaries({}, optional=fields)))
    except ConfigError:
        assume(False)
        raise


@given(made())
@settings(max_examples=300, deadline=None)
def test_settings_read_back(one: Settings) -> None:
    assert type(one).from_text(one.to_text()) == one
    assert type(one)(**one.given()) == one


@given(made(IN_LINK))
@settings(max_examples=100, deadline=None)
def test_a_link_holds_settings(one: Settings) -> None:
    text = one.to_text()
    assert len(text) <= LONGEST
    given: dict[str, Any] = {one.key: text}
    query = urlencode(replace(View(), **given).to_query())
    assert getattr(View.from_query(dict(parse_qsl(query))), one.key) == text


def test_the_longest_settings_fit_into_a_link() -> None:
    stack = {"count": 6, "kernel": 5, "single": 13, "inputs": 2048, "between": 2048, "outputs": 2048, "stride": 4}
    words = {"strided": "last", "padding": "none", "activation": "none", "side": 512, "width": 4096, "entry": "B"}
    lab = Lab(**stack, **words, weights=(-9,) * 6, pixel=(-9,) * 3)  # type: ignore[arg-type]
    assert Lab.from_text(View.from_query(View(lab=lab.to_text()).to_query()).lab) == lab


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_is_no_text(kind: type[Settings]) -> None:
    assert kind().to_text() == ""
    assert kind.from_text("") == kind()


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_is_a_part_of_a_text(kind: type[Settings]) -> None:
    assert kind.from_text(kind.example).to_text() == kind.example


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (Training(deep=110, rate=0.1, seed=3), "deep-110_rate-0.1_seed-3"),
        (Lab(count=2, weights=(-1, 0, 2, 0, -9, 9)), "count-2_weights--1.0.2.0.-9.9"),
        (AppendSettings(2, 4), "stage-2_blocks-4"),
        (DetailSettings(2, True, "Receptive field"), "pair-2_differing-1_measure-Receptive.field"),
        (CostSettings("Parameters", "by layer"), "measure-Parameters_grain-by.layer"),
        (StartSettings("on", "v1.5"), "shortcuts-on_table-v1.5"),
        (
            ResNetConfig(layers=(2, 2), stem_pool="conv", activation="leaky_relu"),
            "layers-2-2_stem.pool-conv_activation-leaky.relu",
        ),
    ],
)
def test_how_settings_are_written(one: Settings, text: str) -> None:
    assert one.to_text() == text
    assert type(one).from_text(text) == one


OLD_LETTERS = {
    "n2": Lab(count=2),
    "k5": Lab(kernel=5),
    "K13": Lab(single=13),
    "i3": Lab(inputs=3),
    "m32": Lab(between=32),
    "o128": Lab(outputs=128),
    "s2": Lab(stride=2),
    "llast": Lab(strided="last"),
    "pnone": Lab(padding="none"),
    "anone": Lab(activation="none"),
    "x224": Lab(side=224),
    "c64": Lab(width=64),
    "eB": Lab(entry="B"),
    "eidentity": Lab(),
    "w-1.0.1.0.-9.9": Lab(weights=(-1, 0, 1, 0, -9, 9)),
    "v-3.0.9": Lab(pixel=(-3, 0, 9)),
    "i3_m32_s2_x224": Lab(inputs=3, between=32, stride=2, side=224),
    "n6_s4_k7_llast_w-1.-1.-1.-1.-1.-1_v2.-3.1": Lab(
        count=6, stride=4, kernel=7, strided="last", weights=(-1,) * 6, pixel=(2, -3, 1)
    ),
    "count-2_m32": Lab(count=2, between=32),
}


@pytest.mark.parametrize("text", OLD_LETTERS)
def test_letters_of_older_links_open(text: str) -> None:
    assert Lab.from_text(text) == OLD_LETTERS[text]


def test_every_field_of_older_links_is_tried() -> None:
    assert {name for one in OLD_LETTERS.values() for name in one.given()} == set(Lab.options())


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        (Lab, "counts-2", r"width = ounts-2 is not accepted: a whole number from 4 to 4096\."),
        (
            Lab,
            "depth-2",
            r"lab = depth-2 is not accepted: parts joined by _, such as count-2, each of count, kernel, .*\.",
        ),
        (Lab, "weights-1.2", r"weights = 1\.2 is not accepted: 6 whole numbers from -9 to 9 joined by dots\."),
        (Lab, "pixel-1.2.33", r"pixel = 1\.2\.33 is not accepted: 3 whole numbers from -9 to 9 joined by dots\."),
        (Lab, "pixel-1-2-3", r"pixel = 1-2-3 is not accepted: 3 whole numbers .*\."),
        (Training, "rate--1", r"rate = -1 is not accepted: a number from 0\.0001 to 1\."),
        (
            Training,
            "deep-110_",
            r"training = \(empty\) is not accepted: parts joined by _, such as seed-3, each of .*\.",
        ),
        (
            Training,
            "seed-3_deep-110_seed-4",
            r"training = seed-4 is not accepted: parts joined by _, such as seed-3, each of .*, once\.",
        ),
        (AppendSettings, "stage-7", r"stage = 7 is not accepted: a whole number from 0 to 6\."),
        (DetailSettings, "differing-yes", r"differing = yes is not accepted: 0 or 1\."),
        (
            DetailSettings,
            "measure-Size",
            r"measure = Size is not accepted: one of MACs, Parameters, Activations, Receptive field\.",
        ),
        (
            ResNetConfig,
            "stem.pool-none_stem.pol-conv",
            r"configuration = stem\.pol-conv is not accepted: .*stem\.pool.*\.",
        ),
        (
            ResNetConfig,
            "layers-3.4",
            r"layers = 3\.4 is not accepted: 1 to 6 of them joined by -, each a whole number .*\.",
        ),
    ],
)
def test_what_is_not_accepted_gets_one_sentence(kind: type[Settings], text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{sentence}$"):
        kind.from_text(text)


@given(st.sampled_from(KINDS), st.text(max_size=40) | st.text(st.sampled_from("nkw-_.019 depth"), max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_settings_or_a_sentence(kind: type[Settings], text: str) -> None:
    one = attempt(kind, text)
    if isinstance(one, ConfigError):
        assert str(one).endswith(".")
    else:
        assert kind.from_text(one.to_text()) == one


def attempt(kind: type[Settings], text: str) -> Settings | ConfigError:
    """What the text is read as, or its refusal."""
    try:
        return kind.from_text(text)
    except ConfigError as error:
        return error


def test_one_field_as_it_was_typed() -> None:
    assert Lab(count=2).with_text("weights", " 1.2.3.-4.5.6 ") == Lab(count=2, weights=(1, 2, 3, -4, 5, 6))
    assert Training(seed=3).with_text("rate", "0.1") == Training(rate=0.1, seed=3)
    assert ResNetConfig(block="basic").with_text("layers", "2-2") == ResNetConfig(block="basic", layers=(2, 2))
    with pytest.raises(ConfigError, match="warmup = 30 is not accepted: at most the 20 steps"):
        Training().with_text("steps", "20")


def test_a_list_is_taken_for_a_tuple_and_nothing_can_be_changed() -> None:
    lab = Lab(pixel=[1, 2, 3])  # type: ignore[arg-type]
    assert hash(lab) == hash(Lab(pixel=(1, 2, 3)))
    with pytest.raises(FrozenInstanceError):
        lab.count = 2  # type: ignore[misc]


def test_a_default_that_follows_from_another_field() -> None:
    @dataclass(frozen=True)
    class Sides(Settings):
        key = "sides"
        example = "width-3"

        width: int = option(2, "Width", "", low=1, high=9)
        height: int = option(0, "Height", "", low=1, high=9)

        def default(self, name: str) -> Any:
            return self.width if name == "height" else super().default(name)

    assert (Sides().height, Sides(width=5).height, Sides(width=5, height=3).height) == (2, 5, 3)
    assert Sides(width=5).to_text() == "width-5"
    assert Sides(width=5).with_text("width", "6") == Sides(6, 6)
    for height in (False, 0.0, -1):
        with pytest.raises(ConfigError, match="height = "):
            Sides(height=height)  # type: ignore[arg-type]
