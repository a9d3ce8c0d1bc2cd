"""Our networks in other tools' hands: what comes back computes the same, and counts what the trace counts.

Tools that count operations are held to the ledger in `test_ledger`.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.ao.quantization import fuse_modules
from torchview import draw_graph
from torchvision.models.feature_extraction import create_feature_extractor

from explorer.analysis.trace import Trace, trace, trace_module
from helpers import every_choice
from resnet import ResNet, ResNetConfig, build, preset

SIDE = 64


def short(name: str, **changes: Any) -> ResNetConfig:
    """A preset with two blocks in its second stage and one in the others."""
    stages = len(preset(name).layers)
    return preset(name).with_(layers=(1, 2, 1, 1)[:stages], **changes)[0]


NETWORKS = {
    "basic": short("resnet18"),
    "bottleneck, D": short("resnet26d"),
    "plain": short("plain20"),
    "SE, stochastic depth": short("seresnet18", drop_path=0.5),
    "ECA": short("ecaresnet26t"),
    "blur": short("resnetblur18"),
    "average, dilated, A": short("resnetaa34d", shortcut="A", output_stride=8),
    "blur, dilated, D": short("resnetblur50d", output_stride=8),
    "pre-activation": short("resnetv2_18"),
    "group norm, SiLU": short("resnet50_gn", activation="silu"),
}


class Given(NamedTuple):
    """A network in evaluation mode with statistics of its own, a batch of images, and its scores for them."""

    config: ResNetConfig
    traced: Trace
    untouched: ResNet
    image: Tensor
    scores: Tensor


@cache
def made(name: str) -> Given:
    config = NETWORKS[name]
    torch.manual_seed(0)
    network, image = build(config), torch.randn(2, config.in_channels, SIDE, SIDE)
    with torch.no_grad():
        network(image)
        scores = network.eval()(image)
    assert scores.std() > 1e-3
    return Given(config, trace(config, SIDE), network, image, scores)


@pytest.fixture(params=NETWORKS)
def given(request: pytest.FixtureRequest) -> Given:
    return made(request.param)


@pytest.fixture
def network(given: Given) -> ResNet:
    """A copy for a tool to have."""
    return deepcopy(given.untouched)


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


# -- what the network is made of ----------------------------------------------------------


@pytest.mark.parametrize("config", every_choice(), ids=lambda config: repr(config)[:60])
def test_whatever_has_weights_is_a_layer_of_torchs_own(config: ResNetConfig) -> None:
    weighted = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.GroupNorm)
    for name, module in build(config, "meta").named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            assert type(module) in weighted, name


def test_a_layer_fills_itself_when_asked(given: Given, network: ResNet) -> None:
    for parameter in network.parameters():
        nn.init.constant_(parameter, torch.nan)
    for module in network.modules():
        if reset := getattr(module, "reset_parameters", None):
            reset()
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    fresh = nn.Linear(network.fc.in_features, given.config.num_classes)
    for own in (network.fc, fresh):
        torch.manual_seed(3)
        own.reset_parameters()
    assert torch.equal(network.fc.weight, fresh.weight)


# -- rewriting and compiling --------------------------------------------------------------


def exported(network: nn.Module, image: Tensor) -> nn.Module:
    batch = torch.export.Dim("batch", min=2, max=1024)
    return torch.export.export(network, (image,), dynamic_shapes=({0: batch},)).module()


def compiled(network: nn.Module, image: Tensor) -> Callable[[Tensor], Tensor]:
    torch.compiler.reset()
    return torch.compile(network, backend="eager", fullgraph=True)


REWRITTEN: dict[str, Callable[[nn.Module, Tensor], Callable[[Tensor], Tensor]]] = {
    "torch.fx": lambda network, image: torch.fx.symbolic_trace(network),
    "jit.trace": torch.jit.trace,
    "jit.script": lambda network, image: torch.jit.script(network),
    "torch.export": exported,
    "torch.compile": compiled,
    "SyncBatchNorm": lambda network, image: nn.SyncBatchNorm.convert_sync_batchnorm(network),
    "pickle": lambda network, image: pickle.loads(pickle.dumps(network)),
    "deepcopy": lambda network, image: deepcopy(network),
}


@pytest.mark.parametrize("tool", REWRITTEN)
@torch.no_grad()
def test_the_network_computes_the_same(given: Given, network: ResNet, tool: str) -> None:
    theirs = REWRITTEN[tool](network, given.image)
    assert_same(given.scores, theirs(given.image))
    more = torch.cat([given.image.flip(3), given.image[:1]])
    assert_same(given.untouched(more), theirs(more))


@torch.no_grad()
def test_fx_takes_a_network_in_training(given: Given, network: ResNet) -> None:
    graph = torch.fx.symbolic_trace(deepcopy(network).train())
    scores = []
    for one in (network.train(), graph):
        torch.manual_seed(1)
        scores.append(one(given.image))
    assert_same(*scores)


def test_fx_sees_each_layer_of_torchs_once_and_in_order(given: Given, network: ResNet) -> None:
    nodes = torch.fx.symbolic_trace(network).graph.nodes
    called = [node.target for node in nodes if node.op == "call_module"]
    theirs = [name for name in called if not isinstance(network.get_submodule(name), nn.Identity)]
    own = [
        layer.name
        for layer in given.traced.layers
        if type(network.get_submodule(layer.name)).__module__.startswith("torch.nn.")
    ]
    assert theirs == own


@pytest.mark.filterwarnings("ignore:NOTE. The nodes obtained by tracing")  # stochastic depth is there in training only
@torch.no_grad()
def test_feature_extractor_hands_out_the_stages(given: Given, network: ResNet) -> None:
    names = [f"layer{number + 1}" for number in range(len(given.config.layers))]
    seen: dict[str, Tensor] = {}
    for name in names:
        network.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: seen.update({name: output})
        )
    network(given.image)
    features = create_feature_extractor(given.untouched, names)(given.image)
    assert list(features) == names
    for name in names:
        assert_same(seen[name], features[name])


def fusible(traced: Trace) -> list[list[str]]:
    """Each convolution with the batch norm that alone reads it, and the ReLU that alone reads that."""
    found = []
    for layer in traced.layers:
        run = [layer]
        for op in ("batch norm", "relu") if layer.op == "convolution" else ():
            readers = traced.consumers[run[-1].index]
            if len(readers) == 1 and traced.layers[readers[0]].op == op:
                run.append(traced.layers[readers[0]])
        if len(run) > 1 and run[1].op == "batch norm":
            found.append([one.name for one in run])
    return found


@torch.no_grad()
def test_batch_norms_fuse_into_the_convolutions_before_them(given: Given, network: ResNet) -> None:
    runs = fusible(given.traced)
    norms = [layer for layer in given.traced.layers if layer.op == "batch norm"]
    if given.config.order == "post":
        assert len(runs) == len(norms)
    fused = fuse_modules(network, runs) if runs else network
    left = sum(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert left == len(norms) - len(runs)
    assert_same(given.scores, fused(given.image))


def test_synchronised_norms_take_every_place(given: Given, network: ResNet) -> None:
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    norms = [module for module in converted.modules() if isinstance(module, nn.SyncBatchNorm)]
    assert len(norms) == sum(layer.op == "batch norm" for layer in given.traced.layers)
    assert converted.state_dict().keys() == given.untouched.state_dict().keys()


# -- drawing ------------------------------------------------------------------------------


def test_torchview_draws_the_edges_of_the_trace(given: Given, network: ResNet) -> None:
    graph = draw_graph(network, input_data=given.image, depth=9, device="cpu")
    through = {after: before for before, after in graph.edge_list if after.name == "Identity"}

    def origin(node: Any) -> str:
        while node in through:
            node = through[node]
        return node.name if type(node).__name__ == "ModuleNode" else "image"

    theirs = Counter(
        (origin(before), after.name)
        for before, after in graph.edge_list
        if type(after).__name__ == "ModuleNode" and after not in through
    )
    ours = Counter(
        ("image" if producer < 0 else given.traced.layers[producer].module, layer.module)
        for layer in given.traced.layers
        for producer in layer.inputs
    )
    assert theirs == ours


# -- a caller's module under our trace ----------------------------------------------------


class Hidden(nn.Module):
    """An operation that is no module stands behind the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.act = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)) * 2)


def test_tracing_leaves_a_callers_module_as_it_was(given: Given, network: ResNet) -> None:
    network.train()
    network.get_submodule("layer2").eval()  # frozen, as in fine-tuning
    before = {name: module.training for name, module in network.named_modules()}
    assert len(set(before.values())) == 2
    assert trace_module(network, given.traced.image_shape) == given.traced.layers
    assert {name: module.training for name, module in network.named_modules()} == before


def test_a_module_that_cannot_be_traced_is_left_as_it_was() -> None:
    for module, shape in ((Hidden(), (3, 8, 8)), (Hidden(), (5, 8, 8))):
        module.bn.eval()
        before = [part.training for part in module.modules()]
        with pytest.raises(RuntimeError):
            trace_module(module, shape)
        assert [part.training for part in module.modules()] == before
        assert not any(part._forward_hooks for part in module.modules())
