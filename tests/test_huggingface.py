"""Models of the Hugging Face hub: looked up, downloaded, opened, with what their repositories say; from one on loopback."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save

from loopback import COMMIT, File, Hub
from resnet import ResNetConfig, WeightsError, build, huggingface, preset
from resnet import hub as hub_module
from resnet.datasets import DataSet, ImageNet, Numbered, Preprocessing
from resnet.huggingface import cached_model, download_model, is_cached, look_up, model_id, open_model
from resnet.weights import Weights, at_hand, hub_weights, load

pytestmark = pytest.mark.usefixtures("one_thread")

ID = "somebody/little-resnet"
TINY = ResNetConfig(
    layers=(1, 1), planes=(4, 8), block="basic", stem="3x3", stem_pool="none", in_channels=3, num_classes=3
)
CONFIG = {"id2label": {"0": "cat", "1": "dog", "2": "a | pipe"}, "model_type": "resnet"}
PROCESSOR = {
    "crop_pct": 0.875,
    "feature_extractor_type": "ConvNextFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": 224,
}
CARD = b"---\nlicense: apache-2.0\ndatasets:\n- imagenet-1k\ntags: [vision]\n---\n# A model\n"
NOWHERE = lambda done, total: None  # noqa: E731


def text(value: object) -> bytes:
    return json.dumps(value).encode()


def weights_file(config: ResNetConfig = TINY) -> bytes:
    torch.manual_seed(4)
    return save(dict(build(config).state_dict()))


def repository(**changes: bytes) -> dict[str, bytes]:
    """The files of a small network's repository."""
    files = {
        "config.json": text(CONFIG),
        "preprocessor_config.json": text(PROCESSOR),
        "README.md": CARD,
        "model.safetensors": weights_file(),
        "pytorch_model.bin": b"is not looked at",
    }
    return files | {name.replace("__", "."): body for name, body in changes.items()}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on loopback, and empty caches."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "huggingface"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.add_model(ID, repository())
        yield hub


def here(repo: str = ID) -> list[str]:
    """The names of a repository's files in the cache."""
    folder = huggingface.cache_folder() / f"models--{repo.replace('/', '--')}" / "snapshots"
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# -- what a repository says -----------------------------------------------------------------


def test_a_model_is_looked_up_downloaded_and_opened(hub: Hub) -> None:
    assert cached_model(ID) is None
    found = look_up(f" https://huggingface.co/{ID}/tree/main ")
    assert (found.id, found.revision, found.licence, found.data) == (ID, COMMIT, "apache-2.0", "imagenet-1k")
    assert [file.name for file in found.files] == ["model.safetensors"]
    assert found.bytes == len(weights_file())
    assert found.labels == ("cat", "dog", "a | pipe")
    mean, std = tuple(PROCESSOR["image_mean"]), tuple(PROCESSOR["image_std"])  # type: ignore[arg-type]
    assert found.preprocessing == Preprocessing(256, 224, mean, std, interpolation="bicubic")
    assert found.notes == ()
    assert not is_cached(found)
    assert cached_model(ID) is None
    assert here() == ["README.md", "config.json", "preprocessor_config.json"]

    calls: list[tuple[int, int]] = []
    (path,) = download_model(found, lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == weights_file()
    assert calls[-1] == (found.bytes, found.bytes)
    asked = len(hub.asked) + len(hub.elsewhere.asked)
    assert is_cached(found)
    assert cached_model(ID) == found

    weights = hub_weights(found, open_model(found))
    assert (weights.key, weights.hub, weights.digest) == (ID, ID, COMMIT)
    assert weights.config == TINY
    assert weights.data.categories == found.labels
    assert weights.data.preprocessing == found.preprocessing
    assert at_hand(weights)
    ours, theirs = load(weights), build(TINY).eval()
    theirs.load_state_dict({name: tensor for name, tensor in torch_tensors().items()})
    image = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(ours(image), theirs(image))
    assert len(hub.asked) + len(hub.elsewhere.asked) == asked


def torch_tensors() -> dict[str, torch.Tensor]:
    from safetensors.torch import load as tensors_of

    return tensors_of(weights_file())
