"""The list of presets: what each costs, and that what people type is found."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from explorer.analysis.presets import COSTS, LINES
from explorer.analysis.trace import trace
from explorer.link import View, natural_size
from helpers import opened, said, typed_into
from resnet import PRESETS, ConfigError, preset
from resnet.presets import CIFAR, GROUPS


def test_the_table_of_costs_is_what_a_trace_counts() -> None:
    traces = {name: trace(config, natural_size(config)) for name, config in PRESETS.items()}
    assert {name: (found.params, found.macs) for name, found in traces.items()} == dict(COSTS)


def test_a_line_says_what_a_preset_costs_and_whose_it_is() -> None:
    assert LINES["resnet50"].rstrip() == "ResNet-50 (25.56 M, 4.09 GMACs) torchvision/resnet50"
    assert LINES["resnet50d"].rstrip() == "resnet50d (25.58 M, 4.33 GMACs) timm"
    assert len({line.rstrip() for line in LINES.values()}) == len(LINES) == len(PRESETS)


def test_a_group_that_is_typed_is_answered_with_its_names() -> None:
    with pytest.raises(ConfigError) as caught:
        preset("cifar")
    assert all(name in str(caught.value) for name in list(GROUPS[CIFAR])[:6])
    app = typed_into(opened("architecture"), "preset", "cifar")
    assert "Preset = cifar is not accepted" in said(app.warning)[0]


@pytest.mark.browser
@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("50", "resnet50"),
        ("ResNet-50", "resnet50"),
        ("resnet 50", "resnet50"),
        ("cifar", "resnet20"),
        ("18", "resnet18"),
    ],
)
def test_the_list_shows_first_what_is_typed(visit, typed: str, first: str) -> None:
    visit.open("/architecture")
    box = visit.sidebar.get_by_role("combobox", name="Preset")
    box.click()
    box.press_sequentially(typed)
    options = visit.page.get_by_role("option")
    options.nth(1).wait_for()  # after the one that takes what is typed as it is
    assert options.nth(1).inner_text() == LINES[first].rstrip()


@pytest.mark.browser
def test_a_number_and_enter_is_the_network_of_that_depth(visit) -> None:
    visit.open("/architecture?preset=resnet18")
    box = visit.sidebar.get_by_role("combobox", name="Preset")
    box.click()
    box.press_sequentially("50")
    box.press("Enter")
    visit.wait()
    assert View.from_query(dict(parse_qsl(urlsplit(visit.page.url).query))).config == preset("resnet50")
    assert box.input_value().rstrip() == LINES["resnet50"].rstrip()
