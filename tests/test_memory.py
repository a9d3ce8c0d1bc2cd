"""What a forward pass holds, against an account of every tensor that lives while it runs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from explorer.analysis.trace import trace
from explorer.inference.limits import MAX_FORWARD_BYTES, check_runnable
from explorer.inference.turns import TooLargeError
from helpers import Account, narrow, small
from resnet import ResNetConfig, build, preset

pytestmark = pytest.mark.usefixtures("one_thread")


def held(config: ResNetConfig, size: tuple[int, int]) -> int:
    """The most bytes alive in a pass of our own network, weights aside."""
    network, image = build(config).eval(), torch.zeros(1, config.in_channels, *size)
    with torch.no_grad(), Account(network, image) as account:
        network(image)
    return account.peak


def allocated(config: ResNetConfig, size: tuple[int, int]) -> int:
    """The most bytes that torch's allocator has given out in a pass, the image with them."""
    network, image = build(config).eval(), torch.zeros(1, config.in_channels, *size)
    with torch.no_grad():
        network(image)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            network(image)
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    live, peak = image.nbytes, 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


NETWORKS: dict[str, tuple[ResNetConfig, tuple[int, int]]] = {
    **{
        name: (preset(name), (224, 224))
        for name in ("resnet18", "resnet50", "resnetv2_50", "seresnet50", "resnetblur50")
    },
    **{name: (preset(name), (32, 32)) for name in ("resnet20", "plain20", "resnet20_fashion")},
    **{
        name: (preset(name), (64, 96))
        for name in (
            "resnet50_v1",
            "resnet50d",
            "resnet50_gn",
            "resnetrs50",
            "ecaresnet50d",
            "resnetaa50",
            "resnetblur18",
            "resnetv2_18",
            "resnetv2_50t",
            "plain18",
            "resnext50_32x4d",
            "seresnext26t_32x4d",
            "resnet10t",
        )
    },
    "A": (small(shortcut="A"), (64, 96)),
    "A, blur, pre-activation": (small(shortcut="A", antialias="blur", order="pre"), (64, 96)),
    "C": (small(shortcut="C"), (64, 96)),
    "D, average": (small(shortcut="D", antialias="avg"), (7, 31)),
    "no norm": (small(norm="none", block="basic"), (64, 96)),
    "group norm, pre-activation": (small(norm="group", order="pre", attention="se"), (33, 47)),
    "blurred convolution for pool": (small(antialias="blur", stem_pool="conv"), (64, 96)),
    "zero-padded pool": (small(zero_pool=True, order="pre"), (33, 47)),
    "stochastic depth": (small(drop_path=0.5, attention="eca"), (64, 96)),
    "dilated": (small(layers=(1, 1, 2, 1), planes=(8, 8, 8, 8), output_stride=8), (64, 96)),
    "plain, pre-activation": (small(shortcut="none", order="pre", activation="silu"), (64, 96)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_inference_memory_is_what_a_pass_holds(name: str) -> None:
    config, size = NETWORKS[name]
    assert trace(config, size).inference_memory.bytes == held(config, size)


@given(narrow(), st.tuples(st.integers(33, 80), st.integers(33, 80)))
@settings(max_examples=100, deadline=None)
def test_inference_memory_of_any_configuration(config: ResNetConfig, size: tuple[int, int]) -> None:
    assert trace(config, size).inference_memory.bytes == held(config, size)


@pytest.mark.parametrize("name", ["resnet50", "resnet50d", "seresnet50", "ecaresnet50d", "resnetrs50", "resnet50_gn"])
def test_the_profiler_agrees_but_for_scratch_space(name: str) -> None:
    """Torch's kernel of batch norm allocates two numbers a channel for itself; the other peaks are a convolution's,
    whose scratch space depends on the kernel that is chosen."""
    traced = trace(preset(name), 224)
    peak = traced.inference_memory
    scratch = 2 * 4 * peak.layer.out_shape[0] if peak.layer.op == "batch norm" else 0
    assert peak.layer.op in ("batch norm", "group norm")
    assert allocated(traced.config, (224, 224)) == peak.bytes + scratch


def test_inference_memory_of_resnet50() -> None:
    traced = trace(preset("resnet50"), 224)
    peak, first, map_ = traced.inference_memory, 64 * 56 * 56 * 4, 256 * 56 * 56 * 4
    assert peak.layer.name == "layer1.1.bn3"
    assert peak.bytes == 11_841_536 == 4 * 3 * 224 * 224 + first + 3 * map_ + first
    assert traced.least_memory.bytes == 9_633_792 == 3 * map_


def test_the_limit_is_on_what_a_pass_holds() -> None:
    """A size at which the maps fit the server, and what their convolutions lay out for themselves does not."""
    config = preset("plain20")
    side = next(side for side in range(1000, 8192, 8) if trace(config, side).working_memory > MAX_FORWARD_BYTES)
    traced = trace(config, side)
    assert traced.inference_memory.bytes < MAX_FORWARD_BYTES
    with pytest.raises(TooLargeError, match=r"an image takes 1\.0 GiB"):
        check_runnable(traced)


@pytest.mark.parametrize("name", ["resnet18", "seresnext26d_32x4d", "resnetblur18", "resnetv2_18"])
def test_what_operations_read_and_write(name: str) -> None:
    """Inputs, outputs and parameters of each module that has no others in it, but for those that only look at a tensor anew."""
    network, moved = build(preset(name)).eval(), [0]

    def counted(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.data_ptr() != inputs[0].data_ptr():
            moved[0] += sum(one.nbytes for one in (*inputs, output, *module.parameters()))

    for module in network.modules():
        if not [*module.children()]:
            module.register_forward_hook(counted)
    with torch.no_grad():
        network(torch.zeros(1, 3, 64, 96))
    assert trace(preset(name), (64, 96)).moved_bytes == moved[0]
