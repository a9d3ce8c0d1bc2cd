"""A network with its weights as a file: safetensors, which `resnet.open_checkpoint` reads, and a program of torch.export."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Mapping

import torch
from safetensors.torch import save

from resnet import ResNet
from resnet.blocks import BlurPool2d


def safetensors(network: ResNet, says: Mapping[str, str]) -> bytes:
    """The state dict, and the texts `says` as the file's metadata."""
    return save({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, dict(says) or None)


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
