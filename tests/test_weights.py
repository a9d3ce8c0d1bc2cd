"""Weights and where they come from: shipped files, downloads, chance, and the training of the shipped ones."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import math
import os
import pickle
import re
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from helpers import FAMILY, soon
from resnet import ResNet, ResNetConfig, build, preset
from resnet import weights as weights_module
from resnet.checkpoint import WeightsError
from resnet.command import MissingError
from resnet.train import FILES, Recipe, accuracy, augment, copy_idx, fashion_mnist, fit, main, rate
from resnet.weights import (
    BUNDLED,
    FASHION_MNIST,
    Checkpoint,
    available,
    bundled,
    bundled_path,
    download,
    is_cached,
    load,
    randomly,
    read_checkpoint,
    save_checkpoint,
    torchvision_weights,
)

SHIPPED = [name for name in BUNDLED if bundled_path(name).exists()]
TINY = ResNetConfig(
    layers=(1,), planes=(4,), block="basic", stem="3x3", stem_pool="none", in_channels=1, num_classes=10
)


pytestmark = pytest.mark.usefixtures("one_thread")


# -- shipped ------------------------------------------------------------------------------


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


# -- torchvision --------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILY)
def test_torchvision_weights(name: str) -> None:
    found = torchvision_weights(preset(name))
    entries = list(torchvision.models.get_model_weights(name))
    assert {weights.key for weights in found} == {entry.name for entry in entries}
    assert [weights.key for weights in found] == sorted((entry.name for entry in entries), reverse=True)
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)().state_dict()
        ours = ResNet(preset(name)).state_dict()
    assert [(key, tensor.shape, tensor.dtype) for key, tensor in ours.items()] == [
        (key, tensor.shape, tensor.dtype) for key, tensor in theirs.items()
    ]
    for weights in found:
        entry = next(entry for entry in entries if entry.name == weights.key)
        transforms, preprocessing = entry.transforms(), weights.data.preprocessing
        assert [preprocessing.resize] == transforms.resize_size
        assert [preprocessing.crop] == transforms.crop_size
        assert list(preprocessing.mean) == transforms.mean
        assert list(preprocessing.std) == transforms.std
        assert not preprocessing.fit
        assert not preprocessing.bright_on_dark
        assert list(weights.data.categories) == entry.meta["categories"]
        assert len(weights.data.categories) == weights.config.num_classes == 1000
        assert weights.url == entry.url
        assert f"{100 * (weights.accuracy or 0):.3f}" == f"{entry.meta['_metrics']['ImageNet-1K']['acc@1']:.3f}"
        each = (
            2 if name.startswith("wide") and weights.key.endswith("V1") else 4
        )  # some are published in half precision
        assert weights.bytes == pytest.approx(each * entry.meta["num_params"], rel=0.02)


@pytest.mark.parametrize(
    "changes",
    [
        {"output_stride": 8},
        {"zero_init_residual": True},
        {"drop_path": 0.2},
        {"output_stride": 16, "zero_init_residual": True, "drop_path": 0.5},
    ],
)
def test_what_leaves_weights_alone_keeps_them(changes: dict[str, Any]) -> None:
    config, _ = preset("resnet50").with_(**changes)
    found = torchvision_weights(config)
    assert [weights.key for weights in found] == ["IMAGENET1K_V2", "IMAGENET1K_V1"]
    assert {weights.config for weights in found} == {config}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("resnet50", {"in_channels": 1}),
        ("resnet50", {"num_classes": 10}),
        ("resnet50", {"stride_in": "1x1"}),
        ("resnet50", {"activation": "silu"}),
        ("resnet50", {"norm": "group"}),
        ("resnet50", {"order": "pre"}),
        ("resnet18", {"shortcut": "none"}),
        ("resnet18", {"antialias": "blur"}),
        ("resnet20", {}),
        ("resnet26", {}),
    ],
)
def test_other_networks_have_none(name: str, changes: dict[str, Any]) -> None:
    assert torchvision_weights(preset(name).with_(**changes)[0]) == ()


# -- downloads ----------------------------------------------------------------------------


class Server:
    """Files on this machine's loopback; `asked` lists the paths that were asked for.

    It sends the first half of a file as soon as `first_half` is set, and the rest after `second_half`.
    """

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, int, str]] = {}
        self.first_half, self.second_half = threading.Event(), threading.Event()
        self.first_half.set()
        self.second_half.set()
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                if self.path not in server.files:
                    self.send_error(404)
                    return
                body, length, kind = server.files[self.path]
                self.send_response(200)
                self.send_header("Content-Type", kind)
                if length:
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                with suppress(OSError):  # who asked may have left
                    assert server.first_half.wait(60)
                    self.wfile.write(body[: len(body) // 2])
                    assert server.second_half.wait(60)
                    self.wfile.write(body[len(body) // 2 :])

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def offer(self, name: str, body: bytes, length: int | None = None, kind: str = "application/octet-stream") -> str:
        """The address of a file; `length` is what the server says of it (0: nothing), and `kind` of what type it is."""
        self.files[f"/{name}"] = body, len(body) if length is None else length, kind
        return f"http://127.0.0.1:{self.http.server_port}/{name}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    server = Server()
    yield server
    server.first_half.set()
    server.second_half.set()
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's folder, empty."""
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    torch.hub.set_dir(str(tmp_path / "hub"))
    return tmp_path / "hub"


BODY = bytes(range(256)) * 10_000  # more than two of the pieces in which a file is read
HASH = hashlib.sha256(BODY).hexdigest()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_download_lands_in_the_cache(server: Server, hub: Path) -> None:
    url = server.offer(f"tiny-{HASH[:8]}.pth", BODY)
    calls: list[tuple[int, int]] = []
    assert not is_cached(url)
    path = download(url, lambda done, total: calls.append((done, total)))
    assert path == hub / "checkpoints" / f"tiny-{HASH[:8]}.pth"
    assert path.read_bytes() == BODY
    assert is_cached(url)
    assert files(hub) == [path.name]
    assert calls == sorted(calls)
    assert calls[-1] == (len(BODY), len(BODY))

    assert download(url, lambda done, total: calls.append((0, 0))) == path
    assert len(server.asked) == 1
    assert calls[-1] == (len(BODY), len(BODY))


@pytest.mark.parametrize(("name", "length"), [("plain.pth", None), (f"tiny-{HASH}.pth", 0), ("resnet-18-v2.pth", None)])
def test_a_download_without_hash_or_length(server: Server, hub: Path, name: str, length: int | None) -> None:
    calls: list[tuple[int, int]] = []
    path = download(server.offer(name, BODY, length), lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == BODY
    assert calls[-1] == (len(BODY), len(BODY) if length is None else 0)


def refused(url: str, hub: Path, words: str) -> None:
    with pytest.raises(WeightsError) as caught:
        download(url, lambda done, total: None, timeout=5)
    text = str(caught.value)
    assert words in text
    assert Path(url).name in text
    assert text.endswith("work without a network.")
    assert "\n" not in text
    assert len(text) < 300
    assert files(hub) == []


def test_another_file_than_the_name_says(server: Server, hub: Path) -> None:
    refused(server.offer(f"tiny-{'0' * 8}.pth", BODY), hub, "is not that file: 2,560,000 bytes")
    refused(server.offer(f"tiny-{HASH[:8]}.pth", BODY[:-1]), hub, "is not that file: 2,559,999 bytes")
    refused(
        server.offer(f"tiny-{HASH[:7]}x.pth".replace("x", "0" if HASH[7] != "0" else "1"), BODY), hub, "is not that"
    )


@pytest.mark.parametrize("name", ["plain.pth", f"tiny-{HASH[:8]}.pth"])
def test_a_download_that_stops_half_way(server: Server, hub: Path, name: str) -> None:
    refused(server.offer(name, BODY[:100_000], len(BODY)), hub, "is not that file: 100,000 bytes")


def test_a_file_that_is_not_there(server: Server, hub: Path) -> None:
    refused(server.offer("x.pth", b"")[:-5] + "y.pth", hub, "could not be downloaded (Not Found)")


def test_a_server_that_is_not_there(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    refused(f"http://127.0.0.1:{port}/x.pth", hub, "could not be downloaded (")


def test_a_cache_that_cannot_be_written(server: Server, hub: Path) -> None:
    hub.write_text("not a folder", encoding="utf-8")
    with pytest.raises(WeightsError, match=r"^x\.pth could not be downloaded \(.*network\.$"):
        download(server.offer("x.pth", BODY), lambda done, total: None)


class Person(threading.Thread):
    """Somebody who waits for a download, until it has ended or they leave."""

    def __init__(self, url: str):
        super().__init__(daemon=True)
        self.url, self.far, self.leaves = url, threading.Event(), threading.Event()
        self.result: Path | BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = download(self.url, self.progress)
        except BaseException as error:
            self.result = error

    def progress(self, done: int, total: int) -> None:
        if done:
            self.far.set()
        if self.leaves.is_set():
            raise Left

    def leave(self) -> None:
        self.leaves.set()
        self.join(60)
        assert isinstance(self.result, Left)


class Left(BaseException):
    """What Streamlit raises in the script of a person who clicks elsewhere."""


def test_four_people_download_a_file_once(server: Server, hub: Path) -> None:
    server.second_half.clear()
    url = server.offer("x.pth", BODY)
    people = [Person(url) for _ in range(4)]
    for person in people:
        assert person.far.wait(60)  # each sees how far the one download is
    people[0].leave()
    server.second_half.set()
    for person in people[1:]:
        person.join(60)
        assert person.result == hub / "checkpoints" / "x.pth"
    assert server.asked == ["/x.pth"]
    assert files(hub) == ["x.pth"]
    assert download(url, lambda done, total: pytest.fail("it is there")).read_bytes() == BODY


def test_a_download_that_everybody_leaves(server: Server, hub: Path) -> None:
    server.second_half.clear()
    url = server.offer("x.pth", BODY)
    first, second = Person(url), Person(url)
    assert first.far.wait(60)
    first.leave()
    second.leave()
    server.second_half.set()
    soon(lambda: files(hub) == [])
    assert download(url, lambda done, total: None).read_bytes() == BODY
    assert server.asked == ["/x.pth"] * 2


def test_a_failure_is_everybodys_who_waits(server: Server, hub: Path) -> None:
    server.second_half.clear()
    people = [Person(server.offer(f"x-{'0' * 8}.pth", BODY)) for _ in range(3)]
    for person in people:
        assert person.far.wait(60)
    server.second_half.set()
    for person in people:
        person.join(60)
        assert isinstance(person.result, WeightsError)
        assert "is not that file" in str(person.result)
    assert len(server.asked) == 1
    assert files(hub) == []


def test_a_download_that_trickles_has_an_end(server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many bytes as arrive at 15 KiB/s, and a clock that runs as far as that takes."""
    server.second_half.clear()
    url = server.offer("x.pth", bytes(2 * 30 * 15 * 2**10))
    clock = threading.Event()
    monkeypatch.setattr(weights_module.time, "monotonic", lambda: 31.0 * clock.is_set())
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        seen.append(done)
        if done == total // 2:
            clock.set()

    with pytest.raises(
        WeightsError, match=r"x\.pth could not be downloaded \(less than 16 KiB a second arrived over 30 s\)"
    ):
        download(url, progress)
    assert seen[-1] == 30 * 15 * 2**10
    server.second_half.set()
    soon(lambda: files(hub) == [])


def test_a_download_is_as_long_as_its_rate_is_enough(
    server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.first_half.clear()
    server.second_half.clear()
    url = server.offer("x.pth", bytes(2 * 30 * 17 * 2**10))
    clock = threading.Event()
    monkeypatch.setattr(weights_module.time, "monotonic", lambda: 31.0 * clock.is_set())

    def progress(done: int, total: int) -> None:
        server.first_half.set()
        if clock.is_set():
            server.second_half.set()
        elif done == total // 2:
            clock.set()

    assert download(url, progress).stat().st_size == 2 * 30 * 17 * 2**10


def test_a_server_that_sends_headers_for_ever(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(weights_module, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        refused(f"http://127.0.0.1:{listening.getsockname()[1]}/x.pth", hub, "less than 16 KiB a second arrived")


@pytest.mark.parametrize("length", [None, 0], ids=["announced", "not announced"])
def test_a_file_that_is_too_large(
    server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch, length: int | None
) -> None:
    monkeypatch.setattr(weights_module, "MAX_DOWNLOAD_BYTES", len(BODY) - 1)
    refused(server.offer("x.pth", BODY, length), hub, "it has more than ")


def test_a_page_instead_of_the_file(server: Server, hub: Path) -> None:
    refused(
        server.offer("x.pth", b"<html>Please log in", kind="text/html; charset=utf-8"), hub, "the server sent a page"
    )


def test_a_full_disk(server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, _: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    plain = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, mode="r", *rest: Full(path, mode) if path.suffix == ".part" else plain(path, mode, *rest),
    )
    refused(server.offer("x.pth", BODY), hub, "could not be downloaded (No space left on device)")


def test_a_part_of_a_killed_server_goes_and_another_servers_stays(server: Server, hub: Path) -> None:
    old, new = hub / "checkpoints" / "x.pth.a1.part", hub / "checkpoints" / "x.pth.b2.part"
    old.parent.mkdir(parents=True)
    for path in (old, new):
        path.write_bytes(b"so far")
    os.utime(old, (time.time() - 7200,) * 2)
    download(server.offer("x.pth", BODY), lambda done, total: None)
    assert files(hub) == ["x.pth", new.name]


@pytest.mark.parametrize("damage", ["cut", "a byte", "empty"])
def test_a_damaged_file_in_the_cache_is_downloaded_again(server: Server, hub: Path, damage: str) -> None:
    path = hub / "checkpoints" / f"tiny-{HASH[:8]}.pth"
    url = server.offer(path.name, BODY)
    download(url, lambda done, total: None)
    assert is_cached(url)
    path.write_bytes({"cut": BODY[:-1], "a byte": b"x" + BODY[1:], "empty": b""}[damage])
    assert not is_cached(url)
    assert download(url, lambda done, total: None).read_bytes() == BODY
    assert is_cached(url)
    assert len(server.asked) == 2
    assert files(hub) == [path.name]


def test_a_whole_file_is_read_once(server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.offer(f"tiny-{HASH[:8]}.pth", BODY)
    download(url, lambda done, total: None)
    assert is_cached(url)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("it has not changed"))
    assert is_cached(url)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_torchvision_weights_end_to_end(server: Server, hub: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    theirs = torchvision.models.resnet18().to(dtype)
    stream = io.BytesIO()
    torch.save(theirs.state_dict(), stream)
    theirs = theirs.float().eval()
    body = stream.getvalue()
    (weights,) = torchvision_weights(preset("resnet18"))
    url = server.offer(f"resnet18-{hashlib.sha256(body).hexdigest()[:8]}.pth", body)
    calls: list[tuple[int, int]] = []
    ours = load(replace(weights, url=url), lambda done, total: calls.append((done, total)))
    assert calls[-1] == (len(body), len(body))
    assert not ours.training
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert ours(image).dtype == torch.float32
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-5, atol=1e-5)


def test_a_download_that_fails_stops_loading(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr(weights_module.urllib.request, "urlopen", fail)
    (weights,) = torchvision_weights(preset("resnet18"))
    with pytest.raises(WeightsError, match=r"^resnet18-f37072fd\.pth could not be downloaded \(timed out\); "):
        load(weights)
    assert files(hub) == []


# -- random -------------------------------------------------------------------------------


DEEP = ResNetConfig(
    layers=(100, 100, 100), planes=(4, 8, 16), block="basic", shortcut="A", stem="3x3", stem_pool="none", num_classes=10
)


@pytest.mark.parametrize(
    "config",
    [preset("resnet152"), DEEP, replace(DEEP, shortcut="none"), replace(DEEP, order="pre"), preset("resnet20_fashion")],
    ids=["resnet152", "deep", "deep plain", "deep pre", "grey"],
)
def test_random_networks_are_finite_however_deep(config: ResNetConfig) -> None:
    network = randomly(config)
    image = torch.randn(1, config.in_channels, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        scores = network(image)
    assert not network.training
    assert scores.isfinite().all()
    assert scores.std() > 1e-6
    assert {norm.momentum for norm in network.modules() if isinstance(norm, nn.BatchNorm2d)} == {0.1}


def test_calibration_is_what_keeps_them_finite() -> None:
    noise = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        assert not build(DEEP).eval()(noise).isfinite().all()
    network, deviations = randomly(DEEP), []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda _, __, output: deviations.append(output.std().item()))
    with torch.inference_mode():
        network(noise)
    assert len(deviations) == 601
    assert min(deviations) > 0.5
    assert max(deviations) < 2


def test_a_seed_gives_its_network_and_leaves_chance_alone() -> None:
    config = replace(TINY, drop_path=0.5)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = randomly(config).state_dict()
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(6)
    second, other = randomly(config).state_dict(), randomly(config, seed=1).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


@pytest.mark.parametrize(("channels", "size"), [(1, (28, 28)), (3, (224, 160)), (5, (64, 96))])
def test_random_weights_take_any_input(channels: int, size: tuple[int, int]) -> None:
    weights = available(replace(TINY, in_channels=channels), size)[-1]
    preprocessing = weights.data.preprocessing
    assert preprocessing.size == size
    assert preprocessing.resize == min(size)
    assert len(preprocessing.mean) == len(preprocessing.std) == channels
    assert len(weights.data.categories) == 10
    assert (weights.key, weights.url, weights.accuracy) == ("random", "", None)
    with torch.inference_mode():
        assert load(weights)(torch.randn(1, channels, *size)).shape == (1, 10)


# -- training -----------------------------------------------------------------------------


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


# -- data files ---------------------------------------------------------------------------


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


# -- the command --------------------------------------------------------------------------


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
    assert not torch.equal(
        network.get_parameter("conv1.weight"), build(BUNDLED["resnet20"]).get_parameter("conv1.weight")
    )


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
    monkeypatch.setattr(weights_module, "FOLDER", folder)
    assert main(["--data", str(folder), "--evaluate"]) == 2
    sentence(capsys)


def test_fewer_images_than_a_batch_train_nothing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"^5 training images are fewer than a batch of 128\.$"):
        next(fit(build(TINY), torch.zeros(5, 1, 8, 8), torch.zeros(5, dtype=torch.long), Recipe()))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut", pickle.dumps([], 2)])
def test_a_file_without_a_hash_that_is_damaged_is_downloaded_again(server: Server, hub: Path, content: bytes) -> None:
    stream = io.BytesIO()
    torch.save(ResNet(preset("resnet18")).state_dict(), stream)
    weights = replace(torchvision_weights(preset("resnet18"))[0], url=server.offer("served.pth", stream.getvalue()))
    path = hub / "checkpoints" / "served.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert not load(weights).training
    assert path.read_bytes() == stream.getvalue()
    server.offer("served.pth", content or b"x")
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"^served\.pth in torch\.hub's cache holds no weights of this network; "):
        load(weights)
    assert len(server.asked) == 2


def test_a_stranger_who_writes_into_the_cache_has_nothing_run(server: Server, hub: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    weights = torchvision_weights(preset("resnet18"))[0]

    class Bad:
        def __reduce__(self) -> Any:
            return Path.touch, (mark,)

    stream = io.BytesIO()
    torch.save({"conv1.weight": Bad()}, stream)
    with pytest.raises(WeightsError):
        load(replace(weights, url=server.offer("served.pth", stream.getvalue())))
    assert not mark.exists()


# -- damaged installations ----------------------------------------------------------------


def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> Path:
    """The file of ResNet-20's weights in an installation where it holds something else, or is missing."""
    monkeypatch.setattr(weights_module, "FOLDER", tmp_path)
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
