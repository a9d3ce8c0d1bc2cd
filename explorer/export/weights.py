"""A network with its weights as a file: safetensors, which `resnet.open_checkpoint` reads, and a program of torch.export."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save

from resnet import ConfigError, ResNet, ResNetConfig, WeightsError, open_checkpoint
from resnet.blocks import BlurPool2d
from resnet.checkpoint import fitted
from resnet.checkpoint import network as network_of
from resnet.options import plain
from resnet.shipped import NAMES
from resnet.weights import available, load, named, randomly


def safetensors(network: ResNet, says: Mapping[str, str]) -> bytes:
    """The state dict, and the texts `says` as the file's metadata."""
    return save({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, dict(says))


def program(network: ResNet, image_size: tuple[int, int], says: Mapping[str, str]) -> bytes:
    """What `torch.export.load` reads: the network in evaluation mode, for batches of any size of images of this size.

    The texts `says` are its extra file "says.json".
    """
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, BlurPool2d):  # one kernel for all channels, which a file cannot hold as such
            module.kernel = module.kernel.contiguous()
    images = torch.zeros(2, network.config.in_channels, *image_size)
    batch = torch.export.Dim("batch", min=1)
    made = torch.export.export(network, (images,), dynamic_shapes=({0: batch},), strict=False)
    stream = io.BytesIO()
    torch.export.save(made, stream, extra_files={"says.json": json.dumps(dict(says), ensure_ascii=False)})
    return stream.getvalue()


def with_weights(config: ResNetConfig, image_size: tuple[int, int], choice: str) -> tuple[ResNet, str, str]:
    """The network with chosen weights in evaluation mode, what these are in words, and what a link calls them.

    A choice is "random", the name of published weights, "bundled" for those that ship, or a file; without one it is those
    that ship, else "random".

    Raises:
        ConfigError: for weights that this network does not have.
        WeightsError: where they cannot be had, or do not fit.
    """
    choice = choice or ("bundled" if config in NAMES else "random")
    if choice == "random":
        return randomly(config), "random, untrained", "random"
    if choice != "bundled" and (weights := named(choice, config)) and weights.config == config:
        return load(weights), weights.title, weights.key
    every = {weights.key: weights for weights in available(config, image_size)}
    if choice in every:
        return load(every[choice]), every[choice].title, choice
    path = Path(choice)
    if path.is_file():
        opened = open_checkpoint(path)
        return network_of(config, fitted(opened, config)), f"the file {plain(path.name, 80)}", ""
    if path.suffix and path.parent != Path():
        raise WeightsError(f"{plain(choice, 80)} is no file: the path of a checkpoint is accepted.")
    raise ConfigError("weights", choice, f"a file, or one of {', '.join(every)}")
