"""Models of the Hugging Face hub: looked up, downloaded, opened, with what their repositories say; from one on loopback."""

from __future__ import annotations

import gc
import io
import json
import os
import shutil
import tempfile
import time
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save

from loopback import File, Hub
from resnet import ConfigError, ResNetConfig, WeightsError, build, hub_cache, huggingface, preset, servers
from resnet import hub as hub_module
from resnet.checkpoint import Opened, open_checkpoint
from resnet.datasets import ImageNet, Numbered, Preprocessing
from resnet.hub_cache import blob_path, cache_folder, fetched_models, reference_path, repository_folder, snapshot
from resnet.huggingface import HubModel, cached_model, download_model, look_up, model_id, open_model
from resnet.weights import at_hand, hub_notes, hub_weights, load, named

pytestmark = pytest.mark.usefixtures("one_thread")

ID = "somebody/little-resnet"
TINY = ResNetConfig(
    layers=(1, 1), planes=(4, 8), block="basic", stem="3x3", stem_pool="none", in_channels=3, num_classes=3
)
CONFIG = {"id2label": {"0": "cat", "1": "dog", "2": "a | pipe"}, "model_type": "resnet"}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PROCESSOR = {
    "crop_pct": 0.875,
    "feature_extractor_type": "ConvNextFeatureExtractor",
    "image_mean": MEAN,
    "image_std": STD,
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
def hub(empty_hub: Hub) -> Hub:
    """A hub on loopback that has this model, and empty caches."""
    empty_hub.add_model(ID, repository())
    return empty_hub


def here(repo: str = ID) -> list[str]:
    """The names of a repository's files in the cache."""
    folder = cache_folder() / f"models--{repo.replace('/', '--')}" / "snapshots"
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# -- what a repository says -----------------------------------------------------------------


def test_a_model_is_looked_up_downloaded_and_opened(hub: Hub) -> None:
    assert cached_model(ID) is None
    commit = hub.said[ID]["sha"]
    found = look_up(f" https://huggingface.co/{ID}/tree/main ")
    assert (found.id, found.revision, found.licence, found.data) == (ID, commit, "apache-2.0", "imagenet-1k")
    assert [file.name for file in found.files] == ["model.safetensors"]
    assert found.bytes == len(weights_file())
    assert found.labels == ("cat", "dog", "a | pipe")
    assert found.preprocessing == Preprocessing(256, 224, MEAN, STD, interpolation="bicubic")
    assert found.notes == ()
    assert not snapshot(ID).is_whole
    assert cached_model(ID) is None
    assert here() == ["README.md", "config.json", "preprocessor_config.json"]

    calls: list[tuple[int, int]] = []
    (path,) = download_model(found, lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == weights_file()
    assert calls[-1] == (found.bytes, found.bytes)
    asked = len(hub.asked) + len(hub.elsewhere.asked)
    assert snapshot(ID).is_whole
    assert cached_model(ID) == found

    weights = hub_weights(found, open_model(found))
    assert (weights.key, weights.hub, weights.digest) == (ID, ID, commit)
    assert weights.config == TINY
    assert weights.data.categories == found.labels
    assert weights.data.source == f"https://huggingface.co/{ID}/tree/{commit}"
    assert weights.data.preprocessing == found.preprocessing
    assert at_hand(weights)
    ours, theirs = load(weights), build(TINY).eval()
    theirs.load_state_dict(load_tensors(weights_file()))
    image = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(ours(image), theirs(image))
    assert len(hub.asked) + len(hub.elsewhere.asked) == asked


def test_the_hubs_own_library_finds_what_was_fetched(hub: Hub) -> None:
    """And it is found where that library fetched it."""
    (path,) = download_model(look_up(ID), NOWHERE)
    kept = huggingface_hub.hf_hub_download(ID, "model.safetensors", cache_dir=cache_folder(), local_files_only=True)
    assert Path(kept) == path
    other = "somebody/other"
    hub.add_model(other, repository())
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        huggingface_hub.hf_hub_download(other, name, cache_dir=cache_folder(), endpoint=hub.endpoint, token=False)
    found = cached_model(other)
    assert found
    assert found == replace(look_up(other), licence="", data="")  # its card was not fetched
    assert load(hub_weights(found, open_model(found))).config == TINY


@pytest.mark.parametrize(
    "typed",
    [
        ID,
        f"{ID}/",
        f" {ID}\n",
        f"https://huggingface.co/{ID}",
        f"huggingface.co/{ID}?a=b",
        f"https://hf.co/{ID}/blob/main/config.json",
        f"{ID}/discussions/3#a",
    ],
)
def test_ways_to_name_a_model(typed: str) -> None:
    assert model_id(typed) == ID


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "resnet50",
        "a/b/c",
        "../../etc",
        "a/..",
        "a--b/c",
        "a/b.git",
        "a b/c",
        "a/b\x00",
        "datasets/mnist",
        "x" * 100 + "/y",
        "https://example.org/a/b",
        "https://huggingface.co/datasets/a/b",
        "https://huggingface.co/",
        "é/b",
        "-a/b",
        "a/b/tree",
    ],
)
def test_what_is_no_models_name(typed: str) -> None:
    with pytest.raises(
        WeightsError, match=r"is no model's name: OWNER/NAME such as microsoft/resnet-50 is accepted"
    ) as told:
        model_id(typed)
    assert len(str(told.value)) < 250


def test_what_is_longer_than_any_name_is_not_looked_at() -> None:
    """A pattern may take hours with a megabyte of question marks, and the whole process waits."""
    for typed in ("?" * 10**6 + "\nx", f"{ID}/discussions" + "/" * 10**6):
        with pytest.raises(WeightsError, match="is no model's name"):
            model_id(typed)


@pytest.mark.parametrize("page", ["tree/v2", "blob/v2/config.json", "commits/v2/"])
def test_another_revision_is_refused_by_its_name(page: str) -> None:
    with pytest.raises(WeightsError, match=rf"^The revision v2 of {ID} is not accepted: {ID} alone is, "):
        model_id(f"https://huggingface.co/{ID}/{page}")


def test_a_mirror_is_asked_and_nobody_else(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's address names the model, not whom to ask; the hub itself leads elsewhere."""
    asked: list[str] = []
    plain = servers._open

    def _open(request: Any) -> Any:
        asked.append(request.full_url)
        return plain(request)

    monkeypatch.setattr(servers, "_open", _open)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint + "/")
    download_model(look_up(f"https://huggingface.co/{ID}"), NOWHERE)
    assert len(asked) == 5
    assert all(url.startswith(hub.endpoint + "/") for url in asked)
    assert len(hub.elsewhere.asked) == 1
    monkeypatch.setenv("HF_ENDPOINT", "not an address")
    with pytest.raises(ConfigError, match="HF_ENDPOINT = not an address is not accepted"):
        look_up(ID)


def test_a_model_that_has_another_name_by_now(hub: Hub) -> None:
    hub.moved["Somebody/old-name"] = ID
    found = look_up("Somebody/old-name")
    assert found == look_up(ID)
    download_model(found, NOWHERE)
    assert cached_model(ID) == found


def test_a_model_that_says_nothing_is_here_once_it_was_fetched(hub: Hub) -> None:
    hub.add_model(ID, {"model.safetensors": weights_file()})
    found = look_up(ID)
    download_model(found, NOWHERE)
    hub.close()
    assert cached_model(ID) == found


def test_the_last_commit_is_the_one_that_is_here(hub: Hub) -> None:
    """An older one that is fetched beside it does not take its place; one that others left without a name has it then."""
    old = look_up(ID)
    reference = cache_folder() / "models--somebody--little-resnet" / "refs" / "main"
    download_model(old, NOWHERE)
    reference.unlink()
    assert cached_model(ID) is None
    download_model(old, NOWHERE)
    assert cached_model(ID) == old
    shutil.rmtree(reference.parents[1])
    before = dict(hub.said), dict(hub.files)
    hub.add_model(ID, repository(model__safetensors=weights_file(replace(TINY, num_classes=4))))
    new = look_up(ID)
    download_model(new, NOWHERE)
    hub.said, hub.files = before
    download_model(look_up(ID, old.revision), NOWHERE)
    assert snapshot(ID, old.revision).weights
    assert cached_model(ID) == new
    for blob in {path.resolve() for path in reference.parents[1].rglob("model.safetensors")}:
        blob.unlink()
    download_model(look_up(ID), NOWHERE)
    assert cached_model(ID) == old


@pytest.mark.parametrize("reference", ["", "v1"])
def test_a_newer_commit_takes_the_place_of_the_older_one(hub: Hub, reference: str) -> None:
    """What both have stays, and an older one that somebody calls by a name of its own."""
    old = look_up(ID)
    download_model(old, NOWHERE)
    if reference:
        reference_path(ID).with_name(reference).write_text(old.revision, encoding="utf-8")
    hub.add_model(ID, repository(model__safetensors=weights_file(replace(TINY, num_classes=4))))
    new = look_up(ID)
    assert cached_model(ID) == old
    download_model(new, NOWHERE)
    assert cached_model(ID) == new
    assert snapshot(ID, old.revision).folder.exists() == bool(reference)
    assert blob_path(ID, old.files[0]).exists() == bool(reference)


NOW = time.time()


def age(repo: str, hours: float) -> None:
    """Make what is here of a repository as old as what nobody had used for so long when the tests began."""
    for blob in (repository_folder(repo) / "blobs").iterdir():
        os.utime(blob, (NOW - 3600 * hours,) * 2)


def room_for(models: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """For so many like `ID` in the half of the cache that people's models may take, and not for one more."""
    size = sum(map(len, repository(pytorch_model__bin=b"").values()))
    monkeypatch.setattr(hub_module.owner, "cache_bytes", lambda: 2 * int((models + 0.5) * size))


def test_models_that_nobody_uses_make_room(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used first, were it a part that was left; copies have the same commit, and are others."""
    room_for(3, monkeypatch)
    names = ["somebody/a", "somebody/b", "somebody/c", "somebody/d"]
    part, used, unused, asked = names
    for name in names:
        hub.add_model(name, {"model.safetensors": weights_file()} if name == part else repository())
    for name in (used, unused):
        download_model(look_up(name), NOWHERE)
    found = look_up(part)
    hub.elsewhere.files[f"/blobs/{found.files[0].digest}"].breaks = found.bytes - 1
    with pytest.raises(WeightsError, match="broke off"):
        download_model(found, NOWHERE)
    hub.elsewhere.files[f"/blobs/{found.files[0].digest}"].breaks = None
    for _ in range(2):  # what looks at files for the first time reads them
        for hours, name in enumerate((unused, part, used), start=2):
            age(name, hours)
        assert cached_model(used)
    download_model(look_up(asked), NOWHERE)
    assert [name for name in names if repository_folder(name).exists()] == [used, unused, asked]
    assert fetched_models() == {used, unused, asked}
    assert all(map(cached_model, (used, unused, asked)))


@pytest.mark.parametrize("why", ["in use", "on its way", "a name", "others' file", "not enough"])
def test_models_that_do_not_make_room(hub: Hub, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    room_for(1, monkeypatch)
    kept, asked = ID, "somebody/other"
    larger = {"model__safetensors": weights_file(replace(TINY, num_classes=5000))} if why == "not enough" else {}
    hub.add_model(asked, repository(**larger))
    (path,) = download_model(look_up(kept), NOWHERE)
    age(kept, 2)
    if why == "in use":
        age(kept, -1)
    if why == "on its way":
        path.resolve().with_suffix(".0a.part").write_bytes(b"x")
    if why == "a name":
        reference_path(kept).with_name("v1").write_text(look_up(kept).revision, encoding="utf-8")
        age(kept, 2)
    if why == "others' file":
        (repository_folder(kept) / "blobs" / ("0" * 64)).write_bytes(b"x")
        age(kept, 2)
    with pytest.raises(WeightsError, match=r"^There is no room for .* the models whose names people typed"):
        download_model(look_up(asked), NOWHERE)
    assert snapshot(kept).is_whole


def test_few_descriptions_are_kept_in_memory(hub: Hub) -> None:
    """They are large, and strangers choose them."""
    none = (None, None, None)
    kept = [weakref.ref(huggingface._model_from(snapshot(ID, str(number)), (), none)) for number in range(40)]
    gc.collect()
    assert sum(one() is not None for one in kept) <= 16


def test_the_cache_is_looked_through_where_it_has_changed(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages ask at every click."""
    found = look_up(ID)
    (path,) = download_model(found, NOWHERE)
    assert snapshot(ID).weights == found.files
    with monkeypatch.context() as patch:
        patch.setattr(hub_cache, "_file_of", lambda path: pytest.fail("it has not changed"))
        assert snapshot(ID).weights == found.files
    assert cached_model(ID) == found
    with monkeypatch.context() as patch:
        patch.setattr(huggingface, "describe", lambda *_: pytest.fail("they have not changed"))
        assert cached_model(ID) == found
    path.resolve().unlink()
    assert snapshot(ID).weights == ()
    assert cached_model(ID) is None


def test_models_that_were_fetched_are_those_with_weights(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """No look is taken at what was only looked up, and none where the record cannot be read."""
    download_model(look_up(ID), NOWHERE)
    hub.add_model("somebody/looked-up", repository())
    look_up("somebody/looked-up")
    seen: list[str] = []

    def look(repo: str) -> Any:
        seen.append(repo)
        return snapshot(repo)

    monkeypatch.setattr(hub_cache, "snapshot", look)
    assert fetched_models() == {ID}
    assert seen == [ID]
    hub_module._record_path(by_id=True).unlink()
    hub_module._record_path(by_id=True).mkdir()
    assert fetched_models() == frozenset()


# -- how images are prepared, and what classes are called ----------------------------------------


def described(config: object = None, processor: object = None) -> HubModel:
    """A model whose files say this, looked up and read from the cache."""
    files = {"config.json": text(config), "preprocessor_config.json": text(processor)}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_CACHE", folder)
        with Hub() as hub:
            patch.setenv("HF_ENDPOINT", hub.endpoint)
            hub.add_model(
                ID, {"model.safetensors": b"x"} | {name: body for name, body in files.items() if body != b"null"}
            )
            return look_up(ID)


WARPED = "Its processor stretches images into a square; the middle is cut out here."


@pytest.mark.parametrize(
    ("processor", "expected", "notes"),
    [
        (PROCESSOR | {"crop_pct": None}, (256, 224, "bicubic"), ()),
        (PROCESSOR | {"size": {"shortest_edge": 288}, "crop_pct": 0.95, "resample": 2}, (303, 288, "bilinear"), ()),
        (
            PROCESSOR | {"do_resize": False},
            (256, 224, "bicubic"),
            ("Its processor leaves images at their size; they are scaled here.",),
        ),
        (PROCESSOR | {"size": 384}, (384, 384, "bicubic"), (WARPED,)),
        (
            {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 448}, "do_center_crop": True}
            | {"crop_size": {"height": 448, "width": 320}, "image_mean": MEAN, "image_std": STD, "resample": 3},
            (448, (448, 320), "bicubic"),
            (),
        ),
        (
            {"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}, "resample": 2}
            | {"image_mean": MEAN, "image_std": STD},
            (224, 224, "bilinear"),
            (WARPED,),
        ),
    ],
)
def test_what_a_processor_of_transformers_does(
    processor: object, expected: tuple[Any, ...], notes: tuple[str, ...]
) -> None:
    found = described(CONFIG, processor)
    resize, crop, interpolation = expected
    assert found.preprocessing == Preprocessing(resize, crop, MEAN, STD, interpolation=interpolation)
    assert found.notes == notes


def test_what_is_not_used_is_said() -> None:
    """The mean of grey images, and other classes than the network has."""
    found = replace(
        described(CONFIG, PROCESSOR), labels=("a", "b"), preprocessing=Preprocessing(256, 224, (0.5,), (0.5,))
    )
    weights = hub_weights(found, Opened(TINY, {}))
    assert weights.data.preprocessing.mean == MEAN
    assert weights.data.categories == Numbered(3)
    assert hub_notes(found, Opened(TINY, {})) == (
        "Its preprocessing is of 1-channel images and its network takes 3-channel ones, which are prepared with a mean of 0.485, "
        "0.456, 0.406.",
        "It names 2 classes and its network has 3: its names are left out.",
    )


def test_what_timm_says_is_of_its_evaluation() -> None:
    """At the size and with the crop with which it is evaluated, as timm's own data configuration."""
    model: Any = timm.create_model("resnet50.a1_in1k")
    found = described({"architecture": "resnet50", "num_classes": 1000, "pretrained_cfg": model.pretrained_cfg})
    theirs = timm.data.resolve_data_config(pretrained_cfg=model.pretrained_cfg, use_test_size=True)
    assert theirs["input_size"] == (3, 288, 288)
    assert theirs["crop_pct"] == 1.0
    assert found.preprocessing == Preprocessing(
        288, 288, theirs["mean"], theirs["std"], interpolation=theirs["interpolation"]
    )
    assert found.notes == ()


@pytest.mark.parametrize(
    ("config", "processor"),
    [
        ({}, {"size": "large", "image_mean": MEAN, "image_std": STD}),
        ({}, PROCESSOR | {"image_std": [0, 1, 1]}),
        ({}, PROCESSOR | {"image_mean": []}),
        ({}, PROCESSOR | {"size": 10**9}),
        ({}, PROCESSOR | {"size": 0}),
        ({}, PROCESSOR | {"crop_pct": 1e-300}),
        ({}, PROCESSOR | {"crop_pct": "much"}),
        ({}, PROCESSOR | {"image_mean": [float("nan")] * 3}),
        ({}, PROCESSOR | {"image_mean": [1e308, 0, 0]}),
        ({}, PROCESSOR | {"image_std": [1e-300, 1, 1]}),
        ({"pretrained_cfg": {"input_size": [3, 224]}}, None),
        ({"pretrained_cfg": {"input_size": [3, 224, 224], "crop_pct": -1, "mean": MEAN, "std": STD}}, None),
        ({"pretrained_cfg": {}, "input_size": [3, 1e400, 224]}, None),
    ],
)
def test_what_is_not_understood_is_said(config: object, processor: object) -> None:
    found = described(config, processor)
    assert found.preprocessing is None
    assert [note for note in found.notes if "prepares images is not understood." in note]


@pytest.mark.parametrize(
    ("config", "labels"),
    [
        ({"id2label": {"1": "b", "0": "a"}}, ("a", "b")),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, ()),
        ({"id2label": {"0": "a", "2": "b"}}, ()),
        ({"id2label": {"0": 3}}, ()),
        ({"id2label": ["a"]}, ()),
        ({"label_names": ["a", "b\n\u202e"]}, ("a", "b\\n\\u202e")),
        ({"label_names": "ab"}, ()),
        ({}, ()),
    ],
)
def test_what_classes_are_called(config: object, labels: tuple[str, ...]) -> None:
    assert described(config).labels == labels


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_the_network_that_transformers_would_build(block: str) -> None:
    """Is the one in its weights."""
    transformers = pytest.importorskip("transformers")
    given = transformers.ResNetConfig(
        layer_type=block, depths=[1, 2], hidden_sizes=[16, 32], embedding_size=12, num_labels=5, num_channels=1
    )
    state = transformers.ResNetForImageClassification(given).state_dict()
    assert described(given.to_dict()).network == open_checkpoint(save(state)).config


@pytest.mark.parametrize(
    ("config", "network"),
    [
        (
            {"architecture": "resnet18", "num_classes": 7, "pretrained_cfg": {"input_size": [1, 64, 64]}},
            ("resnet18", 1, 7),
        ),
        ({"architecture": "ecaresnet269d", "input_size": [3, 352, 352]}, ("ecaresnet269d", 3, 1000)),
        ({"model_type": "resnet", "downsample_in_bottleneck": True, "id2label": [0] * 9}, ("resnet50_v1", 3, 9)),
        ({"model_type": "resnet", "downsample_in_first_stage": True}, None),
        ({"model_type": "resnet", "depths": 3}, None),
        ({"model_type": "resnet", "hidden_sizes": ["256"]}, None),
        ({"model_type": "resnet", "depths": [10**9] * 4}, None),
        ({"architecture": "resnet18", "input_size": [3, 8, 8], "model_args": {"stem_type": "deep"}}, None),
        ({"architecture": "vit_base", "input_size": [3, 8, 8]}, None),
        ({"architecture": ["resnet18"], "input_size": [3, 8, 8]}, None),
        ({"architecture": "resnet18", "input_size": 224}, None),
        ({"architecture": "resnet18"}, None),
        ({}, None),
    ],
)
def test_the_network_that_a_repository_names(config: object, network: tuple[str, int, int] | None) -> None:
    """One that is not understood is none."""
    name, channels, classes = network or ("", 0, 0)
    expected = replace(preset(name), in_channels=channels, num_classes=classes) if network else None
    assert described(config).network == expected


def test_what_does_not_fit_the_network_is_not_used(hub: Hub) -> None:
    """Labels of another number, the means of another number of channels; a network of a thousand classes has ImageNet's."""
    grey = replace(TINY, in_channels=1)
    for config, files in ((grey, {}), (replace(TINY, num_classes=1000), {"preprocessor_config.json": b"{}"})):
        hub.add_model(ID, repository() | {"model.safetensors": weights_file(config)} | files)
        found = look_up(ID)
        download_model(found, NOWHERE)
        weights = hub_weights(found, open_model(found))
        assert weights.config == config
        assert len(weights.data.preprocessing.mean) == config.in_channels
        assert weights.data.preprocessing.size == (32, 32) if config is not grey else True
        expected = ImageNet() if config.num_classes == 1000 else ("cat", "dog", "a | pipe")
        assert weights.data.categories == expected


@pytest.mark.parametrize(
    "tag", ["resnet18.a1_in1k", "resnet50_gn.a1h_in1k", "seresnet50.a1_in1k", "resnetaa50d.sw_in12k"]
)
def test_weights_of_a_tag_put_out_what_timm_does(hub: Hub, tag: str) -> None:
    """Once they are here, nobody is asked for anything."""
    torch.manual_seed(6)
    theirs: torch.nn.Module = timm.create_model(tag).eval()
    hub.add_model(f"timm/{tag}", {"model.safetensors": save(theirs.state_dict()), "config.json": text({})})
    weights = named(tag, TINY)
    assert weights
    assert not at_hand(weights)
    calls: list[tuple[int, int]] = []
    ours = load(weights, lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1] > 0
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = theirs(image)
        torch.testing.assert_close(ours(image), expected, rtol=0, atol=1e-4 * expected.abs().max().item())
    assert at_hand(weights)
    hub.close()
    load(weights)


def test_a_tag_that_is_larger_than_others_may_be(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (huggingface, hub_cache):
        monkeypatch.setattr(module, "MAX_FILE_BYTES", 2**20)
    torch.manual_seed(6)
    theirs: torch.nn.Module = timm.create_model("resnet10t.c3_in1k").eval()
    files = {"model.safetensors": save(theirs.state_dict()), "config.json": text({})}
    hub.add_model("timm/resnet10t.c3_in1k", files)
    hub.add_model("timm/resnet14t.c3_in1k", files)
    hub.add_model("somebody/resnet10t.c3_in1k", files)
    weights, other = named("resnet10t.c3_in1k", ResNetConfig()), named("resnet14t.c3_in1k", ResNetConfig())
    assert weights
    assert other
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = theirs(image)
        torch.testing.assert_close(load(weights)(image), expected, rtol=0, atol=1e-4 * expected.abs().max().item())
    with pytest.raises(WeightsError, match="does not fit this network"):
        load(other)
    with pytest.raises(WeightsError, match="has weights of 21 MiB: at most 1 MiB are accepted"):
        look_up("somebody/resnet10t.c3_in1k")


def test_a_repository_that_transformers_writes(hub: Hub, tmp_path: Path) -> None:
    """Such as microsoft/resnet-50: its labels, its preprocessing, and the same scores."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[16, 32, 48, 64],
        depths=[1, 2, 1, 1],
        layer_type="bottleneck",
        num_labels=3,
        id2label={0: "cat", 1: "dog", 2: "fish"},
    )
    torch.manual_seed(7)
    theirs = transformers.ResNetForImageClassification(config).eval()
    theirs.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "preprocessor_config.json").write_bytes(text(PROCESSOR))
    hub.add_model(ID, {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()})
    found = look_up(ID)
    download_model(found, NOWHERE)
    weights = hub_weights(found, open_model(found))
    assert weights.data.categories == ("cat", "dog", "fish")
    assert weights.data.preprocessing == Preprocessing(256, 224, MEAN, STD, interpolation="bicubic")
    ours, image = load(weights), torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = theirs(image).logits
        torch.testing.assert_close(ours(image), expected, rtol=0, atol=1e-4 * expected.abs().max().item())


# -- logins -----------------------------------------------------------------------------------


def test_a_model_that_asks_for_a_login(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated.add(ID)
    hub.token = "hf_of_the_owner"
    with pytest.raises(WeightsError, match=rf"^127\.0\.0\.1:\d+ asks for a login for {ID}, .* can set HF_TOKEN "):
        look_up(ID)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    found = look_up(ID)
    download_model(found, NOWHERE)
    assert {*hub.tokens[-3:]} == {f"Bearer {hub.token}"}
    assert {*hub.elsewhere.tokens} == {""}  # where the hub leads on to, nobody is shown it
    assert hub.token not in repr(found)
    assert hub.token not in repr(huggingface._source(ID, found.revision, found.files[0]))


def test_a_key_goes_on_with_a_model_to_its_new_name(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a private one would not be there."""
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_owner")
    hub.moved["Somebody/old-name"] = ID
    assert look_up("Somebody/old-name").id == ID
    assert {*hub.tokens} == {"Bearer hf_of_the_owner"}


def test_an_address_that_has_expired_is_no_login(hub: Hub) -> None:
    """Of where the hub leads on to; it signs another one for whoever asks again."""
    found = look_up(ID)
    file = hub.elsewhere.files[f"/blobs/{found.files[0].digest}"]
    file.status = 403
    with pytest.raises(WeightsError, match=r"could not be downloaded \(where it is kept, it is refused: try again\);"):
        download_model(found, NOWHERE)
    file.status = 200
    download_model(found, NOWHERE)


def test_a_token_that_the_hub_does_not_accept(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """To whoever shows such a one, the hub says of all models that a login is needed."""
    monkeypatch.setenv("HF_TOKEN", "hf_of_last_year")
    monkeypatch.setattr(hub, "find", lambda path, query: File(b"{}", status=401))
    with pytest.raises(
        WeightsError, match=rf"^{ID} cannot be looked up: 127\.0\.0\.1:\d+ does not accept the HF_TOKEN .* expired\.$"
    ):
        look_up(ID)


def test_a_hub_is_not_asked_too_often(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "_LOOK_UPS", deque(maxlen=2))
    for _ in range(2):
        look_up(ID)
    asked = len(hub.asked)
    with pytest.raises(WeightsError, match=r"has asked 127\.0\.0\.1:\d+ for 2 models in 5 minutes, and more are not"):
        look_up(ID)
    assert len(hub.asked) == asked


def test_who_looks_a_model_up_can_leave(hub: Hub) -> None:
    hub.find = lambda path, query: File(bytes(2**16))  # type: ignore[method-assign]
    hub.first_half.clear()

    class Left(BaseException):
        pass

    def leave(done: int, total: int) -> None:
        raise Left

    with pytest.raises(Left):
        look_up(ID, progress=leave)


def test_a_model_that_is_not_there_or_private(hub: Hub) -> None:
    with pytest.raises(
        WeightsError, match=r"^nobody/nothing is no public model of 127\.0\.0\.1:\d+: .*asks for a login\.$"
    ):
        look_up("nobody/nothing")


# -- what is refused --------------------------------------------------------------------------


def refuses(hub: Hub, words: str, files: dict[str, bytes], **said: Any) -> None:
    """A repository with these files is refused by a sentence, before anything large is asked for."""
    hub.add_model(ID, files, **said)
    with pytest.raises(WeightsError) as told:
        look_up(ID)
    assert words in str(told.value)
    assert ID in str(told.value)
    assert len(str(told.value)) < 300
    assert "\n" not in str(told.value)
    assert not hub.elsewhere.asked


def test_repositories_that_are_refused(hub: Hub) -> None:
    files = repository()
    del files["model.safetensors"], files["pytorch_model.bin"]
    words = (
        "has no weights that are accepted (it has tf_model.h5): model.safetensors, its shards or pytorch_model.bin are."
    )
    refuses(hub, words, files | {"tf_model.h5": b"x"})
    refuses(hub, "has no weights that are accepted: ", files)
    shard = "model-00001-of-00002.safetensors"
    refuses(hub, f"it has {shard}", files | {shard: b"x", "model.safetensors.index.json": b"{}"})
    refuses(hub, "is no network for images: it is for text-generation.", repository(), pipeline_tag="text-generation")
    refuses(hub, "is no network for images", repository() | {"config.json": text({"vocab_size": 9})})
    refuses(hub, "config.json of somebody/little-resnet is damaged", repository() | {"config.json": b"[]"})
    refuses(
        hub,
        "config.json of somebody/little-resnet has more than 1,024 KiB",
        repository() | {"config.json": bytes(2**20 + 1)},
    )
    hub.add_model(ID, repository())
    hub.listed(ID, "model.safetensors")["lfs"]["size"] = 500 * 2**20
    with pytest.raises(WeightsError, match=r"has weights of 500 MiB: at most 400 MiB are accepted\.$"):
        look_up(ID)


@pytest.mark.parametrize(
    "answer",
    [b"", b"<p>", b"[]", b"{}", b'{"id": 3}', b"[" * 100_000, b'{"id": "a/b", "sha": "../..", "siblings": []}'],
)
def test_an_endpoint_that_is_no_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setattr(hub, "find", lambda path, query: File(answer))
    with pytest.raises(
        WeightsError, match=r"does not answer as the Hugging Face hub does, asked for somebody/little-resnet\.$"
    ):
        look_up(ID)


def test_a_list_without_end(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "MAX_LISTING_BYTES", 100)
    with pytest.raises(WeightsError, match=rf"^{ID} could not be downloaded \(it has more than 0 KiB\)"):
        look_up(ID)


def test_no_network(hub: Hub) -> None:
    """What is here is opened; the rest is named."""
    download_model(look_up(ID), NOWHERE)
    hub.close()
    assert cached_model(ID)
    with pytest.raises(WeightsError, match=r"^timm/resnet18 could not be downloaded \(.*need no download\.$"):
        look_up("timm/resnet18")


def test_an_owner_may_forbid_downloads(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    found = look_up(ID)
    asked = len(hub.asked)
    monkeypatch.setenv("RESNET_EXPLORER_DOWNLOADS", "off")
    for act in (lambda: look_up(ID), lambda: download_model(found, NOWHERE)):
        with pytest.raises(WeightsError, match="its owner has switched downloads off"):
            act()
    assert len(hub.asked) == asked


def test_a_hub_that_is_not_to_be_asked(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """By huggingface_hub's own variable; what is here is opened."""
    found, asked = look_up(ID), len(hub.asked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for act in (lambda: look_up(ID), lambda: download_model(found, NOWHERE)):
        with pytest.raises(WeightsError, match=r"asks the Hugging Face hub for nothing: HF_HUB_OFFLINE is set\.$"):
            act()
    assert len(hub.asked) == asked
    assert not hub.elsewhere.asked
    monkeypatch.setenv("HF_HUB_OFFLINE", "NO")
    download_model(found, NOWHERE)
    monkeypatch.setenv("HF_HUB_OFFLINE", "YES")
    assert cached_model(ID) == found
    download_model(found, NOWHERE)


# -- what arrives -----------------------------------------------------------------------------


def test_a_hub_that_lies(hub: Hub) -> None:
    """About the length of a file, or its hash; nothing of it is kept."""
    listed = hub.listed(ID, "model.safetensors")["lfs"]
    honest = dict(listed)
    for lie, words in (
        ({"size": honest["size"] + 1}, "bytes and its server sends"),
        ({"sha256": "0" * 64}, "is not that file"),
    ):
        listed |= honest | lie
        with pytest.raises(WeightsError, match=words):
            download_model(look_up(ID), NOWHERE)
        assert "model.safetensors" not in here()
    blobs = cache_folder() / "models--somebody--little-resnet" / "blobs"
    assert not [path for path in blobs.iterdir() if path.suffix == ".part" or len(path.name) == 64]
    listed |= honest
    hub.listed(ID, "config.json")["blobId"] = "0" * 40
    hub.add_model("somebody/else", repository())
    hub.listed("somebody/else", "config.json")["blobId"] = "1" * 40
    with pytest.raises(
        WeightsError, match=r"config\.json of somebody/else could not be downloaded \(what arrived is not"
    ):
        look_up("somebody/else")


@pytest.mark.parametrize("size", [-1, True, 1e3, "9", None])
def test_a_file_of_no_size_is_none(hub: Hub, size: object) -> None:
    hub.listed(ID, "model.safetensors")["lfs"]["size"] = size
    assert [file.name for file in look_up(ID).files] == ["pytorch_model.bin"]


def test_a_download_that_breaks_off_goes_on(hub: Hub) -> None:
    found = look_up(ID)
    (file,) = (
        hub.elsewhere.files.values()
        if len(hub.elsewhere.files) == 1
        else [hub.elsewhere.files[f"/blobs/{found.files[0].digest}"]]
    )
    file.breaks = 1000
    with pytest.raises(WeightsError, match="broke off after 1,000 of"):
        download_model(found, NOWHERE)
    assert huggingface.bytes_so_far(found) == (1000, found.bytes)
    file.breaks = None
    (path,) = download_model(found, NOWHERE)
    assert path.read_bytes() == file.body
    assert hub.elsewhere.ranges == ["bytes=1000-"]


def test_damaged_weights_are_fetched_again(hub: Hub) -> None:
    found = look_up(ID)
    (path,) = download_model(found, NOWHERE)
    weights = hub_weights(found, open_model(found))
    for damaged in (b"x" * found.bytes, weights_file()[:-1], b""):
        path.resolve().write_bytes(damaged)
        assert not snapshot(ID).is_whole
        assert cached_model(ID) is None
        assert load(weights).config == TINY
        assert path.read_bytes() == weights_file()
        assert cached_model(ID) == found


def test_a_damaged_description_is_fetched_again(hub: Hub) -> None:
    """Until then the model is not here."""
    found = look_up(ID)
    download_model(found, NOWHERE)
    for name in ("config.json", "preprocessor_config.json", "README.md"):
        path = snapshot(ID).path(name)
        assert path
        path.resolve().write_bytes(b"{}")
        assert cached_model(ID) is None
        assert look_up(ID) == found
        assert cached_model(ID) == found


def test_an_index_that_names_what_the_model_does_not_have(hub: Hub) -> None:
    files = repository() | {
        "model-00001-of-00001.safetensors": weights_file(),
        "model.safetensors.index.json": text({"weight_map": {"conv1.weight": "other.safetensors"}}),
    }
    del files["model.safetensors"]
    hub.add_model(ID, files)
    found = look_up(ID)
    download_model(found, NOWHERE)
    with pytest.raises(
        WeightsError, match=rf"^{ID} has no weights .* names other\.safetensors, which it does not have\.$"
    ):
        open_model(found)


def test_shards(hub: Hub) -> None:
    tensors = load_tensors(weights_file())
    names = list(tensors)
    parts = names[: len(names) // 2], names[len(names) // 2 :]
    shards = {
        f"model-0000{number}-of-00002.safetensors": save({name: tensors[name] for name in part})
        for number, part in enumerate(parts, start=1)
    }
    index = {"weight_map": {name: shard for shard, part in zip(shards, parts, strict=True) for name in part}}
    files = repository() | shards | {"model.safetensors.index.json": text(index)}
    del files["model.safetensors"]
    hub.add_model(ID, files)
    found = look_up(ID)
    assert len(found.files) == 3
    calls: list[tuple[int, int]] = []
    download_model(found, lambda done, total: calls.append((done, total)))
    assert calls == sorted(calls)
    assert calls[-1] == (found.bytes, found.bytes)
    assert cached_model(ID) == found
    assert load(hub_weights(found, open_model(found))).config == TINY


def test_a_pickle_is_read_weights_only(hub: Hub, tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    class Bad:
        def __reduce__(self) -> Any:
            return Path.touch, (mark,)

    stream = io.BytesIO()
    torch.save({**load_tensors(weights_file()), "more": Bad()}, stream)
    files = repository() | {"pytorch_model.bin": stream.getvalue()}
    del files["model.safetensors"]
    hub.add_model(ID, files)
    found = look_up(ID)
    download_model(found, NOWHERE)
    with suppress(WeightsError):
        open_model(found)
    assert not mark.exists()
