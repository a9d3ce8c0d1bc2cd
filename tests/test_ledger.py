"""The ledger against the tools themselves: every total exactly, every term a traced quantity."""

from __future__ import annotations

import logging
from math import prod

import pytest
import thop
import torch
from fvcore.nn import FlopCountAnalysis, parameter_count
from ptflops import get_model_complexity_info
from torch import nn
from torch.fx.experimental.optimization import fuse
from torch.utils.flop_counter import FlopCounterMode
from torchinfo import summary

from explorer.analysis.cost import (
    DOUBLED,
    LINES,
    OURS,
    PAPER_FLOPS,
    STRIDE,
    TOOLS,
    bridge,
    count,
    ledger,
    paper_bridge,
    paper_flops,
)
from explorer.analysis.layers import Op
from explorer.analysis.trace import OPERATIONS, Trace, trace
from explorer.export.folding import folded_config
from explorer.views.architecture import ledger as view
from helpers import PAPER, opened, select
from resnet import ResNetConfig, build, preset
from resnet.blocks import ACTIVATIONS

BY_NAME = {tool.name: tool for tool in TOOLS}

NETWORKS = {
    "18": preset("resnet18"),
    "50": preset("resnet50"),
    "50 v1": preset("resnet50_v1"),
    "resnext50": preset("resnext50_32x4d"),
    "20 for grey images": ResNetConfig.from_query({"in_channels": "1"}, preset("resnet20")),
    "plain 20": preset("plain20"),
    "seresnet50": preset("seresnet50"),
    "ecaresnet50t": preset("ecaresnet50t"),
    "50d": preset("resnet50d"),
    "pre-activation": preset("resnetv2_50d"),
    "group norm, gelu": ResNetConfig(layers=(1, 2, 1), norm="group", activation="gelu"),
    "no norm, silu": ResNetConfig(layers=(1, 1), norm="none", activation="silu", shortcut="C"),
    "blur, dilated, elu": ResNetConfig(
        layers=(1, 1, 1), antialias="blur", activation="elu", attention="se", output_stride=8
    ),
    "average, leaky relu": ResNetConfig(layers=(1, 2), block="basic", antialias="avg", activation="leaky_relu"),
    "D, dilated, convolution in the stem": ResNetConfig(
        layers=(1, 1, 2, 1), shortcut="D", output_stride=8, stem_pool="conv", drop_path=0.3
    ),
}
SIZE = (71, 64)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[Trace, nn.Module, torch.Tensor]:
    config = NETWORKS[request.param]
    return trace(config, SIZE), build(config).eval(), torch.zeros(1, config.in_channels, *SIZE)


def total(traced: Trace, name: str) -> int:
    return traced.macs + sum(bridge(ledger(traced), BY_NAME[name]).values())


def test_fvcore(network):
    traced, model, image = network
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    assert FlopCountAnalysis(model, image).total() == total(traced, "fvcore")
    assert parameter_count(model)[""] == traced.params


def test_torchinfo(network):
    traced, model, image = network
    counted = summary(model, tuple(image.shape), verbose=0)
    assert counted.total_mult_adds == total(traced, "torchinfo")
    assert counted.total_params == traced.params


def test_torch_counter(network):
    traced, model, image = network
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    assert counter.get_total_flops() == total(traced, "torch")


@pytest.mark.parametrize("backend", ["pytorch", "aten"])
def test_ptflops(network, backend):
    traced, model, image = network
    counted, parameters = get_model_complexity_info(
        model, tuple(image.shape[1:]), print_per_layer_stat=False, as_strings=False, backend=backend
    )
    assert counted == total(traced, "ptflops" if backend == "pytorch" else "ptflops aten")
    assert parameters == traced.params


def test_thop(network):
    traced, model, image = network
    counted, parameters = thop.profile(model, (image,), verbose=False)
    assert counted == total(traced, "thop")
    assert parameters == sum(layer.params for layer in traced.layers if layer.op != "group norm")


def test_published_totals_of_resnet50():
    traced = trace(preset("resnet50"))
    assert {tool.name: round(total(traced, tool.name) / 1e9, 4) for tool in TOOLS} == {
        "fvcore": 4.1115,
        "ptflops": 4.1324,
        "ptflops aten": 4.0892,
        "thop": 4.1337,
        "torchinfo": 4.0892,
        "torch": 8.1784,
    }
    assert bridge(ledger(traced), BY_NAME["torch"]) == {DOUBLED: traced.macs}
    names = [line.name for line in ledger(traced)]
    assert names == [
        "Convolution",
        "Linear",
        "Bias",
        "Batch norm",
        "Norm parameters",
        "ReLU",
        "Max pooling",
        "Global average pooling",
        "Averages",
        "Addition",
    ]
    assert next(line.amount for line in ledger(traced) if line.name == "Bias") == 1000


@pytest.mark.parametrize("name", NETWORKS)
def test_the_first_lines_are_our_macs(name):
    traced = trace(NETWORKS[name], SIZE)
    assert sum(line.amount for line in ledger(traced) if line.name in OURS) == traced.macs


def test_every_operation_that_computes_has_a_line():
    """An option that brings a new operation shows up here: it belongs in the ledger, or moves values only."""
    moves_only = {"flatten", "zero padding", "stochastic depth"}
    lines = {name.lower() for name in LINES}
    assert {op for op in OPERATIONS.values() if op not in lines} == moves_only
    assert set(ACTIVATIONS) == {"relu", "leaky_relu", "elu", "silu", "gelu"}
    assert {name for tool in TOOLS for name in tool.counts} <= set(LINES)


def test_the_paper_is_v1_and_rounding():
    printed = PAPER["table1"]["nets"]
    assert {f"resnet{depth}": net["flops"] for depth, net in printed.items()} == PAPER_FLOPS
    for name, flops in PAPER_FLOPS.items():
        v1 = trace(preset(f"{name}_v1"))
        for traced in (trace(preset(name)), v1):
            assert paper_flops(traced) == flops
            total = traced.macs + sum(paper_bridge(traced, v1).values())
            assert total == v1.macs
            assert abs(flops - total) < 0.1e9  # less than one unit of the last digit
    fifty, v1 = trace(preset("resnet50")), trace(preset("resnet50_v1"))
    assert paper_bridge(fifty, v1) == {STRIDE: 3_857_973_248 - 4_089_184_256}
    assert paper_bridge(v1, v1) == {}


@pytest.mark.parametrize(
    ("config", "size"), [(preset("resnet50"), 192), (preset("seresnet50"), 224), (preset("resnet20"), 32)]
)
def test_the_paper_has_no_figure_for_other_networks(config, size):
    assert paper_flops(trace(config, size)) is None


# -- folded -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["18", "50 v1", "plain 20", "50d"])
def test_the_folded_count_is_that_of_a_network_that_torch_fuses(name):
    """torch's own fusion over the graph of torch.fx, against the trace of the folded configuration."""
    traced, config = trace(NETWORKS[name], SIZE), folded_config(NETWORKS[name])
    model = build(NETWORKS[name]).eval()
    norms = [layer for layer in traced.layers if layer.op == Op.BATCH_NORM]
    fused = fuse(model)
    before, after = count(traced), count(trace(config, SIZE))
    assert after.params == sum(parameter.numel() for parameter in fused.parameters())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert (before.layers - after.layers, before.macs) == (len(norms), after.macs)
    values = sum(
        2 * prod(layer.out_shape) + layer.out_shape[0] for layer in norms
    )  # read, written; a bias for scale and shift
    assert before.moved_bytes - after.moved_bytes == 4 * values


def test_the_tab_counts_the_folded_network():
    app = opened(preset="resnet18", tab="Ledger")
    frame = app.dataframe[1].value.set_index("Count")
    assert list(frame.loc["Layers"]) == [69, 49, -20]
    assert list(frame.loc["Parameters"]) == [11_689_512, 11_684_712, -4_800]
    assert frame.loc["MACs for one image", "Difference"] == 0
    select(app, "folded ledger", True)
    lines = app.dataframe[0].value.set_index("Line")
    assert "Batch norm" not in lines.index
    assert lines.loc[["Bias"], "This network"].tolist() == [
        2 * 802_816 + 5 * (100_352 + 50_176 + 25_088) + 1000
    ]  # maps, classes
    assert not lines.loc[view.REST, ["torch", "torchinfo"]].any()
    grouped = opened(preset="resnet18", norm="group", tab="Ledger")
    assert "norm = group cannot be folded" in "".join(caption.value for caption in grouped.caption)


# -- the table ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet50", "resnet18_v1", "ecaresnet50t", "resnetblur50"])
def test_each_column_adds_up(name):
    traced = trace(preset(name))
    frame = view.table(traced, view.cached_tool_counts(traced.config, traced.image_size)).set_index("Line")
    ours = ["Our MACs", *(line for line in frame.index[: list(frame.index).index(view.TOTAL)] if line not in OURS)]
    for tool in frame.columns.drop(["This network"]):
        assert frame.loc[ours[1:], tool].sum() == frame.loc[view.TOTAL, tool]
    for tool in ("torch", "torchinfo"):
        assert frame.loc[view.REST, tool] == 0
    assert ("paper" in frame) == (name in ("resnet50", "resnet18_v1"))


def test_what_a_tool_prints_beyond_the_ledger_is_shown():
    traced = trace(preset("resnet18"))
    frame = view.table(traced, {"torch": 2 * traced.macs + 5}).set_index("Line")
    assert frame.loc[view.REST, "torch"] == 5
    assert frame.loc[view.PRINTED, "torch"] == 2 * traced.macs + 5
    assert frame.loc[view.REST, "paper"] == 1_800_000_000 - 1_814_073_344


def test_the_page_says_how_many_networks_these_are():
    assert len(NETWORKS) == 15
    assert any("on fifteen networks" in caption.value for caption in opened(preset="resnet18", tab="Ledger").caption)


def test_the_tab_shows_the_table():
    frame = opened(preset="resnet18", tab="Ledger").dataframe[0].value.set_index("Line")
    assert frame.loc[[view.TOTAL, view.PRINTED], "torch"].tolist() == [2 * 1_814_073_344] * 2
    assert frame.loc[view.REST].dropna().to_dict() == {"torch": 0, "torchinfo": 0, "paper": -14_073_344}


def test_a_very_deep_network_is_measured_on_demand(monkeypatch):
    monkeypatch.setattr(view, "cached_tool_counts", lambda config, size: {"torch": 1})
    app = opened(preset="resnet1202", tab="Ledger")
    assert "torch" not in app.dataframe[0].value.set_index("Line").loc[view.PRINTED].dropna()
    button = next(button for button in app.button if button.label.startswith("Run torch"))
    frame = button.click().run().dataframe[0].value.set_index("Line")
    assert frame.loc[view.PRINTED, "torch"] == 1
