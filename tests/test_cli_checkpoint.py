"""`checkpoint`: what the command says of files that others wrote."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18

from explorer.cli import main
from explorer.cli.documents.base import rendered
from explorer.cli.documents.checkpoint import Checkpoint
from helpers import saved
from resnet import ResNetConfig, open_checkpoint, preset
from resnet.weights import bundled_path
from zoo import CASES, data_of, resnet

ZOO = {case.name: case for case in CASES}


def stored(folder: Path, name: str) -> Path:
    """A file of the zoo."""
    path = folder / ZOO[name].file
    path.write_bytes(data_of(ZOO[name]))
    return path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["checkpoint", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_a_file_of_torchvision_is_named_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = resnet18(num_classes=7)
    torch.save(theirs.state_dict(), path := tmp_path / "mine.pth")
    found = json.loads(printed(capsys, str(path), "--json"))
    assert ResNetConfig.from_json(json.dumps(found["config"])) == preset("resnet18").with_(num_classes=7)[0]
    assert (found["file"], found["declared"], found["classes"], found["depth"]) == ("mine.pth", False, 7, 18)
    assert found["parameters"] == sum(parameter.numel() for parameter in theirs.parameters())
    shapes = {name: list(tensor.shape) for name, tensor in theirs.state_dict().items()}
    assert {one["name"]: one["shape"] for one in found["tensors"]} == shapes
    assert {one["name"]: one["stored_as"] for one in found["tensors"]} == {name: name for name in shapes}
    assert main(["export", found["query"], "json"]) == 0
    assert json.loads(capsys.readouterr().out) == found["config"]
    text = printed(capsys, str(path))
    assert re.search(r"^names +as torchvision's networks have them$", text, re.MULTILINE)
    assert re.search(rf"^parameters +{found['parameters']:,}$", text, re.MULTILINE)
    assert "stem_pool=max, or none. Code for ImageNet" in text


def test_what_is_left_out_and_how_others_call_their_tensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(stored(tmp_path, "torchvision_fasterrcnn"))
    found = json.loads(printed(capsys, path, "--json"))
    assert (found["preset"], found["query"], found["classes"]) == ("resnet50", "resnet50", None)
    assert found["left_out"] == ["backbone.fpn", "rpn", "roi_heads"]
    (first,) = (one for one in found["tensors"] if one["name"] == "layer1.0.conv1.weight")
    assert first["stored_as"] == "backbone.body.layer1.0.conv1.weight"
    assert {one["name"] for one in found["tensors"] if one["stored_as"] is None} >= {"fc.weight", "fc.bias"}
    text = printed(capsys, path)
    assert "backbone.fpn, rpn, roi_heads left out.\n" in text
    assert re.search(r"^classes +no classifier$", text, re.MULTILINE)
    assert re.search(
        r"^names +backbone\.body\.layer1\.0\.conv1\.weight for layer1\.0\.conv1\.weight", text, re.MULTILINE
    )


def test_answers_change_what_is_assumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(stored(tmp_path, "chenyaofo_resnet20"))
    found = json.loads(printed(capsys, path, "--json"))
    (asked,) = (one for one in found["questions"] if one["name"] == "stem_pool")
    assert (asked["assumed"], asked["choices"]) == ("none", ["none", "max"])
    answers = ("--answer", "stem_pool=max", "--answer", "activation=silu")
    config = json.loads(printed(capsys, path, *answers, "--json"))["config"]
    assert (config.get("stem_pool", "max"), config["activation"]) == ("max", "silu")
    text = printed(capsys, path, *answers)
    assert "Read with Stem pool = max, Activation = silu." in text
    assert "stem_pool=max, or none" in text


def test_tensors_that_cannot_be_run_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = resnet((1, 1), (8, 16), expansion=1, width=8, classes=5, seed=1)
    broken["fc.bias"][2] = torch.nan
    (path := tmp_path / "broken.pth").write_bytes(saved(broken))
    assert "in 1 of its tensors, first in fc.bias, so its network can be looked at" in printed(capsys, str(path))
    assert json.loads(printed(capsys, str(path), "--json"))["not_finite"] == ["fc.bias"]


def test_a_file_of_this_package_says_its_network(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, str(bundled_path("resnet20")), "--json"))
    assert (found["declared"], found["preset"], found["data"]) == (True, "resnet20_fashion", "Fashion-MNIST")
    assert found["preprocessing"]["size"] == [28, 28]


def test_every_key_is_documented(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    helped = printed(capsys, "--help")
    found = json.loads(printed(capsys, str(stored(tmp_path, "chenyaofo_resnet20")), "--json"))
    for part in (found, found["questions"][0], found["preprocessing"], found["tensors"][0]):
        for key in part:
            assert re.search(rf"\b{key}\b", helped), key


def test_a_terminal_that_is_narrow_shows_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    path = stored(tmp_path, "chenyaofo_resnet20")
    document = Checkpoint(path.name, open_checkpoint(path), {})
    shown = rendered(document.table())
    assert max(map(len, shown.splitlines())) <= 60
    words = "".join(document.text().split())
    assert sorted("".join(shown.split())) == sorted(words)
