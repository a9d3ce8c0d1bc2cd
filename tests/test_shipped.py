"""Checkpoints that describe themselves, and an installation whose files are damaged."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from resnet import ResNetConfig, build, preset
from resnet import shipped as shipped_module
from resnet.checkpoint import WeightsError
from resnet.weights import (
    BUNDLED,
    FASHION_MNIST,
    Checkpoint,
    available,
    bundled,
    bundled_path,
    load,
    read_checkpoint,
    save_checkpoint,
)

SHIPPED = [name for name in BUNDLED if bundled_path(name).exists()]
TINY = ResNetConfig(
    layers=(1,), planes=(4,), block="basic", stem="3x3", stem_pool="none", in_channels=1, num_classes=10
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_resnet20_ships() -> None:
    assert "resnet20" in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_checkpoint_describes_itself(name: str) -> None:
    network, checkpoint = read_checkpoint(bundled_path(name))
    assert checkpoint.config == BUNDLED[name] == network.config
    assert checkpoint.data == FASHION_MNIST
    least = 0.8 if checkpoint.config.shortcut == "none" else 0.9
    assert least < checkpoint.accuracy < 1
    assert checkpoint.command.startswith(f"python -m resnet.train --network {name}")
    assert not network.training
    (weights,) = bundled(BUNDLED[name])
    assert (weights.key, weights.accuracy, weights.data) == ("bundled", checkpoint.accuracy, FASHION_MNIST)
    assert available(BUNDLED[name], (28, 28))[0] == weights
    assert [w.key for w in available(BUNDLED[name], (28, 28))] == ["bundled", "random"]
    for tensor, loaded in zip(network.state_dict().values(), load(weights).state_dict().values(), strict=True):
        assert torch.equal(tensor, loaded)


def test_a_checkpoint_reads_back(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = build(TINY)
    network(torch.randn(4, 1, 8, 8))  # so that running statistics are not the initial ones
    checkpoint = Checkpoint(TINY, FASHION_MNIST, 0.1 + 0.2, "python -m resnet.train --network ‘x’")
    path = tmp_path / "new" / "tiny.safetensors"
    save_checkpoint(network, checkpoint, path)
    again, description = read_checkpoint(path)
    assert description == checkpoint
    assert not again.training
    assert list(again.state_dict()) == list(network.state_dict())
    for tensor, read in zip(network.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(tensor, read)


def test_a_config_that_is_not_shipped_has_only_random_weights() -> None:
    assert [weights.key for weights in available(TINY, (32, 32))] == ["random"]
    assert bundled(preset("resnet20")) == ()


# -- damaged installations -----------------------------------------------------------------


def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> Path:
    """The file of ResNet-20's weights in an installation where it holds something else, or is missing."""
    monkeypatch.setattr(shipped_module, "FOLDER", tmp_path)
    if content is not None:
        bundled_path("resnet20").write_bytes(content)
    return bundled_path("resnet20")


def header(metadata: Any) -> bytes:
    """A safetensors file without tensors."""
    text = json.dumps({"__metadata__": metadata}).encode()
    return struct.pack("<Q", len(text)) + text


WHOLE = bundled_path("resnet20").read_bytes()
DESCRIBED = json.loads(WHOLE[8 : 8 + struct.unpack("<Q", WHOLE[:8])[0]])["__metadata__"]
DAMAGED = {
    "empty": b"",
    "cut": WHOLE[:-1],
    "cut in its header": WHOLE[:100],
    "no safetensors": b"words" * 100,
    "nothing said": header({}),
    "no configuration": header(DESCRIBED | {"config": "{"}),
    "other keys": header(DESCRIBED | {"config": '{"wings": 2}'}),
    "a list": header(DESCRIBED | {"preprocessing": "[1]"}),
    "no number": header(DESCRIBED | {"accuracy": "much"}),
    "another network": bundled_path("plain20").read_bytes(),
    "deep": header(DESCRIBED | {"config": "[" * 100_000}),
}


@pytest.mark.parametrize("name", [*DAMAGED, "missing"])
def test_shipped_weights_that_are_damaged_are_a_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (weights,) = bundled(BUNDLED["resnet20"])
    path = shipped(tmp_path, monkeypatch, DAMAGED.get(name))
    verb = "is missing" if name == "missing" else "is damaged"
    sentence = (
        f"resnet20.safetensors {verb}: it ships with this app, so install that again; random weights work without it."
    )
    read: Callable[[], object]
    for read in (lambda: bundled(BUNDLED["resnet20"]), lambda: available(BUNDLED["resnet20"], (28, 28))):
        with pytest.raises(WeightsError) as caught:
            read()
        assert str(caught.value) == sentence
    if name != "another network":  # it is whole, and of use to who asks for its path
        for read in (lambda: load(weights), lambda: read_checkpoint(path)):
            with pytest.raises(WeightsError) as caught:
                read()
            assert str(caught.value) == sentence


def test_shipped_weights_that_lack_tensors_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (weights,) = bundled(BUNDLED["resnet20"])
    shipped(tmp_path, monkeypatch, header(DESCRIBED))
    assert bundled(BUNDLED["resnet20"]) == (weights,)
    with pytest.raises(WeightsError, match=r"^resnet20\.safetensors is damaged: it ships with this app"):
        load(weights)


def test_a_checkpoint_of_ones_own_that_is_damaged_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"^tiny\.safetensors is missing: a file that resnet\.train wrote is accepted\.$"
    ):
        read_checkpoint(tmp_path / "tiny.safetensors")
