"""Files made to hurt: images and checkpoints are what they say."""

from __future__ import annotations

import io
import pickle

import numpy as np
import safetensors.torch
import torch
from PIL import Image, ImageSequence

from explorer.bench.hostile import checkpoints, images
from resnet import ResNetConfig


def opened(data: bytes) -> Image.Image:
    """What Pillow makes of an image."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_images_are_of_many_parts() -> None:
    runs = opened(images.bmp_rle(8, 8, (b"\1\7" * 8 + b"\0\0") * 8 + b"\0\1"))
    assert (runs.size, set(np.asarray(runs).ravel())) == ((8, 8), {7})
    png = images.png(1, 1, b"\0\7", images.chunk(b"teSt", b"") * 50)
    assert (opened(png).size, png.count(b"teSt")) == ((1, 1), 50)
    jpeg = images.scans(64, 20)
    assert (opened(jpeg).size, opened(jpeg).info["progressive"]) == ((64, 64), 1)
    assert jpeg.count(b"\xff\xda") == images.scans(64, 0).count(b"\xff\xda") + 20
    gif = opened(images.commented_gif(b"!\xfe" + b"\2cc" * 100 + b"\0"))
    assert (gif.size, gif.info["comment"]) == ((4, 4), b"c" * 200)
    assert len(list(ImageSequence.Iterator(gif))) == 1


def test_checkpoints_are_checkpoints() -> None:
    assert pickle.loads(checkpoints.key(checkpoints.DEEPER * 3)) == {((((),),),): "fc.weight"}
    assert pickle.loads(checkpoints.key(checkpoints.TWICE * 2)) == {(((), ()), ((), ())): "fc.weight"}
    one = torch.load(io.BytesIO(checkpoints.one_number_for_all()), weights_only=True)
    assert {(tensor.dtype, tensor.untyped_storage().nbytes()) for tensor in one.values()} == {(torch.float16, 2)}
    assert sum(tensor.numel() for tensor in one.values()) * 4 > 0.7 * 2**30


def test_half_precision_is_one_network_for_each_person() -> None:
    config = ResNetConfig(block="basic", layers=(1,), planes=(8,), num_classes=10)
    first, second = (b"".join(checkpoints.half_precision(number, config)) for number in (0, 1))
    tensors = safetensors.torch.load(first)
    assert {name: tensor.shape for name, tensor in tensors.items()} == checkpoints.shapes(config)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert first != second
    assert len(first) == len(second)
