"""`predict`: classes of images by a network's own weights, against torchvision's way to them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import quote, urlencode

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save
from torchvision.models import ResNet18_Weights, resnet18

from explorer.bench.browser import ROOT
from explorer.cli import main
from explorer.cli.documents.base import rendered
from explorer.cli.documents.predict import Prediction
from explorer.inference.classify import TOP, classified
from explorer.inference.weights import Chosen, with_own_network, with_weights
from explorer.link import parse_network, trace
from helpers import CPU, saved, small
from loopback import Hub
from resnet import ConfigError, ResNet, ResNetConfig, WeightsError, build, open_checkpoint, preset
from resnet.weights import Weights, bundled_path, read_checkpoint
from zoo import resnet

SAMPLES = ROOT / "explorer" / "samples"
PHOTOS = [SAMPLES / "photos" / name for name in ("coffee.jpg", "astronaut.jpg")]
BOOT = SAMPLES / "fashion" / "0000-ankle-boot.png"

pytestmark = pytest.mark.usefixtures("one_thread")


def predicted(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    assert main(["predict", *map(str, arguments), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def assert_same(found: dict, names: list[str], probabilities: torch.Tensor) -> None:
    """The five best classes with their probabilities."""
    best = probabilities.topk(5)
    assert [one["number"] for one in found["classes"]] == best.indices.tolist()
    assert [one["name"] for one in found["classes"]] == [names[number] for number in best.indices]
    assert [one["probability"] for one in found["classes"]] == pytest.approx(best.values.tolist(), rel=1e-3)


def test_a_file_of_torchvision_predicts_as_torchvision_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(5)
    theirs = resnet18().eval()
    theirs.fc.weight.data *= 30  # else all classes are alike
    torch.save(theirs.state_dict(), path := tmp_path / "mine.pth")
    found = predicted(capsys, *PHOTOS, "--weights", path)
    usual = ResNet18_Weights.IMAGENET1K_V1
    assert (found["preset"], found["weights"], found["data"]) == ("resnet18", "the file mine.pth", "ImageNet-1k")
    for photo, one in zip(PHOTOS, found["images"], strict=True):
        with torch.no_grad():
            scores = theirs(usual.transforms()(Image.open(photo).convert("RGB"))[None])[0]
        assert (one["image"], one["problem"], one["inverted"]) == (str(photo), None, False)
        assert_same(one, usual.meta["categories"], scores.softmax(0))


def test_networks_that_ship_predict_by_their_own_preprocessing(capsys: pytest.CaptureFixture[str]) -> None:
    network, shipped = read_checkpoint(bundled_path("resnet20"))
    pixels = torch.tensor(np.array(Image.open(BOOT).convert("L")), dtype=torch.float32)[None, None]
    with torch.no_grad():
        scores = network((pixels / 255 - 0.2860) / 0.3530)[0]
    for arguments in (("--weights", "resnet20_fashion"), ("--network", "resnet20_fashion")):
        found = predicted(capsys, BOOT, *arguments)
        assert_same(found["images"][0], [*shipped.data.categories], scores.softmax(0))
        assert found["preprocessing"]["size"] == [28, 28]
    assert found["images"][0]["classes"][0]["name"] == "Ankle boot"
    assert predicted(capsys, BOOT, *arguments, "--size", "40x36")["preprocessing"]["size"] == [40, 36]


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (empty := tmp_path / "empty.png").touch()
    (text := tmp_path / "text.jpg").write_text("no image", encoding="utf-8")
    command = ["predict", str(empty), str(BOOT), str(text), "--weights", "resnet20_fashion"]
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert len(re.findall(r"Ankle boot +99\.", out)) == 1
    assert "empty.png" not in out
    assert re.fullmatch(r"explorer: 2 of 3 images are left out\. [^\n]+\n", err)
    assert f"{empty}: The file is empty" in err
    assert f"{text}: The file cannot be read as an image" in err
    assert main([*command, "--json"]) == 2
    first, second, third = json.loads(capsys.readouterr().out)["images"]
    assert first["problem"].startswith("The file is empty")
    assert (first["classes"], second["problem"], len(third["classes"])) == ([], None, 0)
    assert len(second["classes"]) == TOP
    assert main([*command[:2], *command[-2:]]) == 2
    assert capsys.readouterr().out == ""


def test_weights_that_say_nothing_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = resnet((1, 1), (8, 16), expansion=1, width=8, classes=5, seed=1)
    broken = {**tensors, "fc.bias": torch.full((5,), torch.inf)}
    trunk = {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}
    for held, words in ((broken, "first in fc.bias"), (trunk, "has no classifier, so it names no class")):
        (path := tmp_path / "held.pth").write_bytes(saved(held))
        assert main(["predict", str(BOOT), "--weights", str(path)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert words in err
    huge = {**tensors, "fc.weight": torch.full((5, 16), 3e38)}
    (path := tmp_path / "held.pth").write_bytes(saved(huge))
    assert main(["predict", str(PHOTOS[0]), "--weights", str(path)]) == 2
    assert "Its scores overflow" in capsys.readouterr().err


def test_weights_bring_their_network() -> None:
    asked: list[Weights] = []

    def loader(weights: Weights) -> ResNet:
        asked.append(weights)
        return ResNet(small())

    for name, network, key in (
        ("resnet50.a1_in1k", "resnet50", "resnet50.a1_in1k"),
        ("timm/ResNet18d.ra2_in1k", "resnet18d", "resnet18d.ra2_in1k"),
        ("resnet34.IMAGENET1K_V1", "resnet34", "IMAGENET1K_V1"),
        ("ResNet-56_fashion", "resnet56_fashion", "bundled"),
    ):
        chosen = with_own_network(name, loader)
        assert (asked[-1].config, chosen.key) == (preset(network), key)
        assert chosen.weights == asked[-1]
    assert with_weights(preset("resnet34"), (224, 224), "IMAGENET1K_V1", loader).weights == asked[2]
    for wrong in ("IMAGENET1K_V1", "resnet50", "", "random"):
        with pytest.raises(ConfigError, match=r"weights = .* is not accepted: a file, weights with their network"):
            with_own_network(wrong, loader)
    with pytest.raises(WeightsError, match="is no file"):
        with_own_network("models/mine.pth", loader)


MODEL = "somebody/little-resnet"


@pytest.fixture
def model(empty_hub: Hub) -> ResNet:
    """A network that a hub has under the name of `MODEL`, with three classes."""
    torch.manual_seed(4)
    network = build(small(num_classes=3)).eval()
    network.fc.weight.data *= 30
    described = {"id2label": {"0": "cat", "1": "dog", "2": "a | pipe"}, "model_type": "resnet"}
    files = {"model.safetensors": save(dict(network.state_dict())), "config.json": json.dumps(described).encode()}
    empty_hub.add_model(MODEL, files)
    return network


def test_a_model_of_the_hub_predicts_what_its_network_does(
    model: ResNet, empty_hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is downloaded once, and then found on this machine."""
    found = predicted(capsys, PHOTOS[0], "--weights", MODEL)
    chosen = with_own_network(MODEL)
    assert chosen.network.config == model.config == ResNetConfig.from_json(json.dumps(found["config"]))
    image = ResNet18_Weights.IMAGENET1K_V1.transforms()(Image.open(PHOTOS[0]).convert("RGB"))
    with torch.no_grad():
        scores = model(image[None])[0].softmax(0)
    assert (found["weights"], chosen.key) == (MODEL, MODEL)
    shown = {one["name"]: one["probability"] for one in found["images"][0]["classes"]}
    assert shown == pytest.approx(dict(zip(("cat", "dog", "a | pipe"), scores.tolist(), strict=True)), rel=1e-3)
    assert any("Images are prepared at" in note for note in found["notes"])
    asked = len(empty_hub.asked)
    assert predicted(capsys, PHOTOS[0], "--weights", f"https://huggingface.co/{MODEL}")["images"] == found["images"]
    assert len(empty_hub.asked) == asked


def test_a_model_of_the_hub_is_exported(model: ResNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, link = tmp_path / "a.safetensors", urlencode(model.config.to_query())
    command = ["export", link, "safetensors", "--weights", MODEL, "--output", str(path), "--json"]
    assert main(command) == 0
    written = json.loads(capsys.readouterr().out)
    opened = open_checkpoint(path)
    assert opened.config == model.config == parse_network(written["query"]).config
    assert all(torch.equal(opened.state_dict[name], tensor) for name, tensor in model.state_dict().items())
    assert (written["weights"], parse_network(written["query"]).weights) == (MODEL, MODEL)
    assert written["bytes"] == path.stat().st_size


def test_a_link_that_leaves_its_network_to_the_hub_gets_it_there(
    model: ResNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the app, which opens such a link with the network of the weights; not with the one that it shows without a link."""
    link, path = f"https://example.org/inference?weights={quote(MODEL, safe='')}", tmp_path / "a.safetensors"
    found = predicted(capsys, PHOTOS[0], "--network", link)
    assert found == predicted(capsys, PHOTOS[0], "--weights", MODEL)
    assert main(["summary", f"{link}&size=64", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["config"] == found["config"] == json.loads(model.config.to_json())
    assert shown["image_size"] == [64, 64]
    assert main(["export", link, "safetensors", "--output", str(path)]) == 0
    assert open_checkpoint(path).config == model.config
    capsys.readouterr()
    assert main(["compare", "resnet18", "?weights=nobody/nothing"]) == 2
    assert re.fullmatch(r"explorer: [^\n]*nobody/nothing[^\n]+\.\n", capsys.readouterr().err)
    with pytest.raises(ConfigError, match=f"^weights = {MODEL} is not accepted: beside the network that they are of"):
        trace(link)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("nobody/nothing", "nobody/nothing"),
        (f"{MODEL}?speed=1", f"{MODEL} has no question speed"),
        ("https://huggingface.co/datasets/a/b", "is no model's name: OWNER/NAME"),
        ("a/b/c", "weights = a/b/c is not accepted: a file, weights with their network"),
        ("a/b.safetensors", "a/b.safetensors is no file"),
    ],
)
def test_what_is_no_model_of_the_hub_is_a_sentence(
    weights: str, words: str, model: ResNet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(BOOT), "--weights", weights]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"explorer: [^\n]+\.\n", err)
    assert words in err


def test_a_model_of_another_network_is_refused(model: ResNet, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(BOOT), "--network", "resnet18", "--weights", MODEL]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"explorer: [^\n]+\.\n", err)


def test_every_key_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--help"]) == 0
    helped = capsys.readouterr().out
    found = predicted(capsys, BOOT, "--weights", "resnet20_fashion")
    for part in (found, found["preprocessing"], found["images"][0], found["images"][0]["classes"][0]):
        for key in part:
            assert re.search(rf"\b{key}\b", helped), key


def test_a_terminal_that_is_narrow_shows_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    chosen: Chosen = with_own_network("resnet20_fashion")
    document = Prediction([classified(str(BOOT), chosen, CPU)], chosen, CPU)
    shown = rendered(document.table())
    assert max(map(len, shown.splitlines())) <= 50
    for _, name, share in document.rows:
        assert re.search(rf"{re.escape(name)} +{re.escape(share)}", shown)
