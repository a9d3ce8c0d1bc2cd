"""Integers of 8 bits in place of fp32: post-training static quantisation of an ONNX file by onnxruntime
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).

torch's own way has moved to a package of its own, and its kernels are deprecated; an ONNX file runs elsewhere too.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from resnet import ResNet
from resnet.weights import Weights

from ..inference.preprocess import prepare
from ..inference.samples import samples
from . import onnx
from .errors import ExportError
from .folding import folded_if_possible


def quantised(file: bytes, images: np.ndarray) -> bytes:
    """An ONNX file of the same network whose convolutions and linear layers compute in 8 bits: weights are signed, with a scale
    for each output channel; activations are unsigned, with the range that they have on the images, N×C×H×W in fp32.

    The nodes stay, between `QuantizeLinear` and `DequantizeLinear`, which onnxruntime takes into the kernels.

    Raises:
        MissingError: without the extra `onnx`.
    """
    package, quantization = onnx.needed("onnx"), onnx.needed("onnxruntime.quantization")
    with TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            package.load_from_string(file),
            str(path),
            _reader(quantization.CalibrationDataReader, images),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=saturates(),
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return path.read_bytes()


def quantised_apart(file: bytes, images: np.ndarray) -> Iterator[bytes]:
    """`quantised`, as the one item of an iterator in a process of its own: it takes seconds and much memory."""
    yield quantised(file, images)


class Quantised(NamedTuple):
    """An ONNX file in 8 bits, and how it does in onnxruntime on the images that calibrated it: as a share of the largest score
    the most that one changes, and on how many of them the best class is that of the network."""

    file: bytes
    images: int
    change: float
    same: int


def model(network: ResNet, images: Tensor, says: Mapping[str, str]) -> Quantised:
    """A network in evaluation mode in 8 bits, calibrated on N×C×H×W images, its batch norms folded where they can be. The file
    holds the texts `says`.

    Raises:
        MissingError: without the extra `onnx`.
        ExportError: for weights of more than 2 GiB, and where scores of the images overflow.
    """
    with torch.inference_mode():
        before = torch.cat([network(image) for image in images.split(1)])
    if not before.isfinite().all():
        raise ExportError(
            "Scores of the images that calibrate it overflow: other weights or another size are accepted."
        )
    height, width = images.shape[2:]
    file = quantised(onnx.model(folded_if_possible(network), (height, width), says), images.numpy())
    after = onnx.scores(file, images.split(1))
    same = int((before.argmax(1) == after.argmax(1)).sum())
    return Quantised(file, len(images), onnx.change(before, after), same)


def shipped_images(weights: Weights) -> Tensor:
    """The samples as a network with these weights takes them, N×C×H×W: those of its classes where there are some, else all."""
    known = [sample for sample in samples() if sample.label in weights.data.categories] or samples()
    return torch.cat([prepare(sample.image(), weights.data.preprocessing).tensor for sample in known])


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, onnxruntime does not advise to fold, which is done where it can be."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _reader(base: type, images: np.ndarray) -> object:
    """The images one by one, as onnxruntime asks for them."""

    class Reader(base):
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.left, None)
            return None if image is None else {"image": image[None]}

    return Reader()


def saturates() -> bool:
    """Whether sums of two products overflow 16 bits in this processor's instructions, so that weights should have 7 bits: x86
    without VNNI."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    able: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return not (able.get("avx512_vnni") or able.get("avx_vnni"))
