"""The training of the shipped weights, from data files to a checkpoint."""

from __future__ import annotations

import gzip
import math
import re
import struct
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet import ResNetConfig, build
from resnet import shipped as shipped_module
from resnet.command import MissingError
from resnet.train import FILES, Descent, Recipe, accuracy, augment, copy_idx, fashion_mnist, fit, main, rate
from resnet.weights import BUNDLED, FASHION_MNIST, Checkpoint, bundled_path, read_checkpoint, save_checkpoint

TINY = ResNetConfig(
    layers=(1,), planes=(4,), block="basic", stem="3x3", stem_pool="none", in_channels=1, num_classes=10
)

pytestmark = pytest.mark.usefixtures("one_thread")


def toy(count: int = 64) -> tuple[Tensor, Tensor]:
    """Stripes that lie or stand, which neither mirroring nor a shift changes."""
    labels = torch.arange(count) % 2
    images = 0.3 * torch.randn(count, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    images[labels == 0, :, ::3] += 2
    images[labels == 1, :, :, ::3] += 2
    return images, labels


def losses(seed: int, chance: int = 0, epochs: int = 8) -> list[float]:
    """The losses of a run, with torch's own generator at `chance`."""
    torch.manual_seed(4)
    network = build(replace(TINY, num_classes=2))
    torch.manual_seed(chance)
    steps = list(fit(network, *toy(), Recipe(epochs=epochs, batch=16, learning_rate=0.05, seed=seed)))
    assert [step.number for step in steps] == list(range(1, 4 * epochs + 1))
    assert {step.total for step in steps} == {4 * epochs}
    return [step.loss for step in steps]


def test_training_is_reproducible_and_learns() -> None:
    first = losses(seed=1)
    assert losses(seed=1, chance=9) == first
    assert losses(seed=2) != first
    assert sum(first[-4:]) < 0.3 * sum(first[:4])


def test_what_was_learned_is_measured() -> None:
    torch.manual_seed(4)
    network = build(replace(TINY, num_classes=2))
    images, labels = toy(600)  # two pieces of 500 and 100
    for _ in fit(network, images[:64], labels[:64], Recipe(epochs=8, batch=16, learning_rate=0.05)):
        pass
    share = accuracy(network, images, labels)
    assert share > 0.95
    assert accuracy(network, images, 1 - labels) == pytest.approx(1 - share)
    assert not network.training


def test_descent_takes_torchs_steps() -> None:
    """Bit for bit, by rates that change; norms and biases do not decay, and what has no gradient stays."""
    recipe = Recipe(momentum=0.8, weight_decay=0.1)
    networks = [build(replace(TINY, num_classes=2)) for _ in "12"]
    networks[1].load_state_dict(networks[0].state_dict())
    ours, theirs = (tuple(network.parameters()) for network in networks)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in theirs if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in theirs if p.ndim < 2]},
    ]
    optimiser, descend = torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=True), Descent(ours, recipe)
    generator = torch.Generator().manual_seed(2)
    for speed in (0.1, 0.4, 0.003):
        for one, other in zip(ours[1:], theirs[1:], strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        for group in optimiser.param_groups:
            group["lr"] = speed
        optimiser.step()
        descend(speed)
        assert all(map(torch.equal, ours, theirs))


def test_learning_rate() -> None:
    rates = [rate(step, 100, 0.15) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 16)
    assert rates[:16] == sorted(rates[:16])
    assert rates[15] == max(rates) == 1
    assert rates[15:] == sorted(rates[15:], reverse=True)
    assert rates[15 + 85 // 2] == pytest.approx(0.5, abs=0.02)
    assert rates[100] == pytest.approx(0)
    assert math.isfinite(rate(0, 0, 0.15))


def test_augmentation_shifts_and_mirrors_and_nothing_else() -> None:
    crop, count = 2, 400
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(count, 2, 6, 5, generator=generator)
    changed = augment(images, crop, generator)
    assert changed.shape == images.shape
    dark = images.min().item()
    seen: set[tuple[int, int, bool]] = set()
    for image, result in zip(images, changed, strict=True):
        found = []
        for mirrored in (False, True):
            padded = F.pad(image.flip(-1) if mirrored else image, (crop,) * 4, value=dark)
            for top in range(2 * crop + 1):
                for left in range(2 * crop + 1):
                    if torch.equal(padded[:, top : top + 6, left : left + 5], result):
                        found.append((top, left, mirrored))
        assert len(found) == 1
        seen.update(found)
    assert len(seen) == 2 * (2 * crop + 1) ** 2


def test_augmentation_follows_its_generator() -> None:
    images = torch.randn(8, 1, 6, 6)
    first, second = (augment(images, 1, torch.Generator().manual_seed(9)) for _ in "12")
    assert torch.equal(first, second)
    unshifted = augment(images, 0, torch.Generator().manual_seed(9))
    assert all(torch.equal(a, b) or torch.equal(a.flip(-1), b) for a, b in zip(images, unshifted, strict=True))


# -- data files ----------------------------------------------------------------------------


def idx(values: Tensor) -> bytes:
    """Bytes as an idx file holds them (http://yann.lecun.com/exdb/mnist/)."""
    return (
        struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.to(torch.uint8).numpy().tobytes()
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of 150 and 60 images, two of its files compressed."""
    path = tmp_path / "data"
    path.mkdir()
    generator = torch.Generator().manual_seed(0)
    for prefix, count in (("train", 150), ("t10k", 60)):
        images = torch.randint(0, 256, (count, 28, 28), generator=generator)
        (path / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        (path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(torch.arange(count) % 10)))
    return path


def test_idx_files_plain_and_compressed(folder: Path, tmp_path: Path) -> None:
    for name in FILES:
        plain = tmp_path / "copy"
        copy_idx(folder, name, plain)
        source = folder / name if (folder / name).exists() else folder / f"{name}.gz"
        expected = source.read_bytes() if source.suffix != ".gz" else gzip.decompress(source.read_bytes())
        assert plain.read_bytes() == expected


def test_images_are_normalised(folder: Path) -> None:
    for train, count, file in ((True, 150, FILES[0]), (False, 60, FILES[2])):
        images, labels = fashion_mnist(folder, train=train)
        raw = torch.frombuffer(bytearray((folder / file).read_bytes()[16:]), dtype=torch.uint8)
        expected = (raw.reshape(count, 1, 28, 28).double() / 255 - 0.2860) / 0.3530
        assert images.shape == (count, 1, 28, 28)
        assert images.dtype == torch.float32
        torch.testing.assert_close(images.double(), expected, rtol=0, atol=1e-6)
        assert labels.tolist() == [index % 10 for index in range(count)]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    for path in folder.glob(f"{name}*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"holds neither {name} nor {name}\.gz"):
        fashion_mnist(folder, train=True)


# -- the command ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epochs", "0"], "--epochs"),
        (["--threads", "0"], "--threads"),
        (["--seed", "-1"], "--seed"),
        (["--seed", str(2**63)], "--seed"),
        (["--epochs", "two"], "--epochs"),
        (["--network", "resnet50"], "resnet50"),
        (["resnet20"], "resnet20"),
    ],
)
def test_bad_arguments(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a failed command prints."""
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"resnet\.train: [^\n]+\n", err)
    return err


def test_no_data_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path / "nowhere")]) == 2
    assert "holds neither train-images-idx3-ubyte nor" in sentence(capsys)


@pytest.mark.parametrize("keep", [0, 3, 8, 1000])
def test_a_damaged_file_is_a_sentence(keep: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:keep])
    assert main(["--data", str(folder)]) == 2
    sentence(capsys)


def test_a_damaged_archive_is_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "t10k-labels-idx1-ubyte.gz"
    for data in (b"not compressed", path.read_bytes()[:-12], b""):
        path.write_bytes(data)
        assert main(["--data", str(folder)]) == 2
        sentence(capsys)


def test_too_few_images_are_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte.gz"):
        (folder / f"train-{kind}").write_bytes((folder / f"t10k-{kind}").read_bytes())
    assert main(["--data", str(folder), "--output", str(folder / "x")]) == 2
    _, err = capsys.readouterr()  # beside the bar
    assert err.endswith("resnet.train: 60 training images are fewer than a batch of 128.\n")


def test_a_download_that_fails_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    assert main(["--output", str(tmp_path / "x")]) == 2
    assert re.search(r"Fashion-MNIST could not be had \(.*\): --data names a folder with it\.$", sentence(capsys))


def test_training_from_files_to_checkpoint(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out" / "trained.safetensors"
    assert main(["--data", str(folder), "--output", str(out), "--epochs", "1", "--seed", "3"]) == 0
    network, checkpoint = read_checkpoint(out)
    assert checkpoint.config == BUNDLED["resnet20"]
    assert checkpoint.data == FASHION_MNIST
    assert checkpoint.command == "python -m resnet.train --network resnet20 --epochs 1 --seed 3"
    assert checkpoint.accuracy == accuracy(network, *fashion_mnist(folder, train=False))
    assert "of 60 test images" in capsys.readouterr().out
    torch.manual_seed(3)
    untrained = build(BUNDLED["resnet20"])
    assert not torch.equal(network.get_parameter("conv1.weight"), untrained.get_parameter("conv1.weight"))


def test_a_checkpoint_goes_into_the_current_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: Callable[[], Any]
) -> None:
    before = package()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["--network", "plain20", "--data", str(folder), "--epochs", "1"]) == 0
    assert [path.name for path in Path().iterdir()] == ["plain20.safetensors"]
    assert read_checkpoint(Path("plain20.safetensors"))[1].config == BUNDLED["plain20"]
    assert package() == before


def test_a_place_that_takes_no_checkpoint_is_a_sentence_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path / "nowhere"), "--output", str(tmp_path)]) == 2
    assert f"{tmp_path} cannot be written" in sentence(capsys)
    with pytest.raises(OSError, match="cannot be written"):
        save_checkpoint(build(TINY), Checkpoint(TINY, FASHION_MNIST, 0.5, ""), tmp_path)


def test_the_shipped_network_is_measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(folder), "--evaluate"]) == 0
    network, checkpoint = read_checkpoint(bundled_path("resnet20"))
    share = accuracy(network, *fashion_mnist(folder, train=False))
    expected = f"resnet20: {share:.2%} of 60 test images; the file says {checkpoint.accuracy:.2%}\n"
    assert capsys.readouterr().out == expected


def test_evaluating_what_does_not_ship_is_a_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped_module, "FOLDER", folder)
    assert main(["--data", str(folder), "--evaluate"]) == 2
    sentence(capsys)


def test_fewer_images_than_a_batch_train_nothing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"^5 training images are fewer than a batch of 128\.$"):
        next(fit(build(TINY), torch.zeros(5, 1, 8, 8), torch.zeros(5, dtype=torch.long), Recipe()))
