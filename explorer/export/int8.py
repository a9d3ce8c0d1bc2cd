"""Integers of 8 bits in place of fp32: post-training static quantisation of an ONNX file by onnxruntime
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).

torch's own way has moved to a package of its own, and its kernels are deprecated; an ONNX file runs elsewhere too.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from .onnx import needed


def quantised(file: bytes, images: np.ndarray) -> bytes:
    """An ONNX file of the same network whose convolutions and linear layers compute in 8 bits: weights are signed, with a scale
    for each output channel; activations are unsigned, with the range that they have on the images, N×C×H×W in fp32.

    The nodes stay, between `QuantizeLinear` and `DequantizeLinear`, which onnxruntime takes into the kernels.

    Raises:
        MissingError: without the extra `onnx`.
    """
    onnx, quantization = needed("onnx"), needed("onnxruntime.quantization")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            onnx.load_from_string(file),
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
    logging.disable(logging.WARNING)  # it advises to fold, which is done
    yield quantised(file, images)


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
