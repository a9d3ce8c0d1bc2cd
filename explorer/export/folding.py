"""A network as it is deployed: each batch norm taken into the convolution before it."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from resnet import ResNet, ResNetConfig

from ..analysis.trace import run_hooks
from .errors import ExportError


def folded_config(config: ResNetConfig) -> ResNetConfig:
    """The configuration of the folded network: without norms, its convolutions have biases, and all else follows.

    Raises:
        ExportError: for a network without batch norms after its convolutions.
    """
    if config.norm != "batch":
        raise ExportError(f"norm = {config.norm} cannot be folded: batch norm is accepted, whose statistics are fixed.")
    if config.order == "pre":
        raise ExportError(
            "order = pre cannot be folded, as its norms follow additions: order = post is accepted, whose norms follow "
            "convolutions."
        )
    return config.with_(norm="none")[0]


@torch.no_grad()
def fold(network: ResNet) -> ResNet:
    """A network of `folded_config` that computes what this one does in evaluation mode.

    A convolution takes in the norm that reads it, or that reads a low-pass filter of it: the filter's weights have the sum 1
    at every place, so that scales and shifts pass through it. It is made on the CPU, as Apple's GPUs have no numbers of 64 bits.

    Raises:
        ExportError: as `folded_config`.
    """
    config = network.config
    folded = ResNet(folded_config(config))
    side = 2 * max(16, config.total_stride)
    empty = torch.empty(0, config.in_channels, side, side, device=next(network.parameters()).device)
    calls = run_hooks(network, empty)
    state = dict(network.state_dict())
    for call in calls:
        if isinstance(norm := call.module, nn.BatchNorm2d):
            before = calls[call.inputs[0]]
            while not isinstance(before.module, nn.Conv2d):
                before = calls[before.inputs[0]]
            own = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            mean, variance, scale, shift = (values.cpu().double() for values in own if values is not None)
            weight, bias = before.module.weight.cpu().double(), before.module.bias
            weight, bias = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, scale, shift)
            state |= {f"{before.name}.weight": weight, f"{before.name}.bias": bias}
    folded.load_state_dict({name: state[name] for name in folded.state_dict()})
    return folded.eval()


def folded_if_possible(network: ResNet) -> ResNet:
    """`fold`, or the network itself where it cannot be folded."""
    try:
        return fold(network)
    except ExportError:
        return network
