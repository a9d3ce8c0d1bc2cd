"""Networks side by side by what a link calls them: published weights, models of the hub, an uploaded checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save
from streamlit.testing.v1 import AppTest
from torchvision import transforms

from explorer.inference.predict import predict
from explorer.inference.preprocess import border_brightness, prepare
from explorer.inference.samples import samples
from explorer.link import View, tolerant
from explorer.views.beside import networks, several
from explorer.views.cached import short_key
from explorer.views.own_checkpoint import read_upload
from helpers import CPU, SMALL, click, closed, hold, link, opened, page_text, run, said, saved, tab
from loopback import Hub
from resnet import preset
from resnet.weights import bundled, fully_named, load, published, randomly, torchvision_weights

MODEL, NAMES = "somebody/small", ["ape", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"]
SHIPPED = "resnet20_fashion"

pytestmark = pytest.mark.usefixtures("nothing_loaded")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on loopback with a small network, and empty caches."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "huggingface"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    size = {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}}
    how = size | {"resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    files = {"config.json": {"id2label": dict(enumerate(NAMES))}, "preprocessor_config.json": how}
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        body = save(dict(randomly(SMALL).state_dict()))
        hub.add_model(
            MODEL, {"model.safetensors": body, **{name: json.dumps(each).encode() for name, each in files.items()}}
        )
        yield hub


def answers(app: AppTest) -> list[list[tuple[str, str]]]:
    """The classes that each network names, with how sure it is of them."""
    found = [html.proto.body for html in app.get("html") if 'class="bars"' in html.proto.body]
    return [re.findall(r"<dt>(.*?)</dt>.*?</i>(.*?)</div>", body) for body in found]


# -- names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("timm/resnet50.a1_in1k", "resnet50.a1_in1k"),
        (" ResNet50.imagenet1k_v2", "resnet50.IMAGENET1K_V2"),
        ("https://huggingface.co/microsoft/resnet-50", "microsoft/resnet-50"),
        ("someone/mine?option_a=both", "someone/mine?option_a=both"),
        ("upload", "upload"),
    ],
)
def test_a_network_has_one_name(written: str, name: str) -> None:
    view = View.from_query({"networks": f"{SHIPPED},{written}"})
    assert view.networks == (SHIPPED, name)
    assert View.from_query(view.to_query()) == view


@pytest.mark.parametrize("wrong", ["resnet50", "resnet50.IMAGENET1K_V9", "a/b/c", "someone/mine?x=1", "a/" + "b" * 300])
def test_what_is_no_network_with_weights_is_named(wrong: str) -> None:
    found, problems = tolerant({"networks": f"{SHIPPED},{wrong}"})
    assert found.networks == ()
    (words,) = problems
    assert words.startswith(f"networks = {wrong[:20]}")
    assert "upload (your own checkpoint)" in words
    twice, _ = tolerant({"networks": "resnet50.a1_in1k,timm/resnet50.a1_in1k"})
    assert twice.networks == ()


def test_all_that_is_published_has_a_name_of_its_own() -> None:
    every = published()
    names = [networks.full_name(one) for one in every]
    assert len(set(names)) == len(names)
    assert all(fully_named(name) == one for name, one in zip(names, every, strict=True))
    (one,) = torchvision_weights(preset("resnet18"))
    assert fully_named("resnet18.IMAGENET1K_V1") == one
    assert fully_named("resnet18") is None


# -- from elsewhere -----------------------------------------------------------------------


def test_a_model_of_the_hub_stands_beside_one_that_ships(hub: Hub) -> None:
    """It is downloaded, gets the image by its own recipe, and says what torchvision's transforms and torch say."""
    app = opened("beside", networks=f"{SHIPPED},{MODEL}", image="chelsea")
    assert not [*app.error, *app.warning]
    (sample,) = [one for one in samples() if one.name == "chelsea"]
    seen = transforms.Compose(
        [
            transforms.Resize(40, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )(sample.image().convert("RGB"))
    with torch.inference_mode():
        shares = randomly(SMALL)(seen[None]).softmax(1)[0]
    best = shares.topk(3)
    assert [name for name, _ in answers(app)[1]] == [NAMES[index] for index in best.indices]
    assert [float(share.rstrip("%")) for _, share in answers(app)[1]] == pytest.approx(
        (100 * best.values).tolist(), abs=0.3
    )
    captions = "\n".join(said(app.caption))
    assert "Each gets the image by its own recipe" in captions
    assert "its own answer" in captions
    seen_by = [image.caption for shown in app.image for image in shown.proto.imgs]
    assert "Input 28 px, the whole image, bilinear, in grey" in seen_by
    assert "Input 32 px, crop 0.8, bicubic" in seen_by
    asked = len(hub.elsewhere.asked)
    assert "The strongest maps of `layer2.1`" in [header.value for header in run(app).header]
    assert not any("It has no" in words for words in said(app.info))
    assert len(hub.elsewhere.asked) == asked == 1
    assert f"{MODEL} · here" in app.multiselect[0].options


def test_a_download_that_fails_is_one_sentence_and_the_others_are_shown(hub: Hub) -> None:
    """It is asked for again by a person alone."""
    (path,) = hub.elsewhere.files
    hub.elsewhere.files[path].status = 503
    app = opened("beside", networks=f"{SHIPPED},plain20_fashion,{MODEL}")
    (words,) = said(app.warning)
    assert words.startswith(f"{MODEL} is left out: ")
    assert "model.safetensors" in words
    assert len(answers(app)) == 2
    asked = len(hub.elsewhere.asked)
    run(app)
    assert len(hub.elsewhere.asked) == asked
    hub.elsewhere.files[path].status = 200
    click(app, "Try again")
    assert not app.warning
    assert len(answers(app)) == 3
    hub.elsewhere.files[path].status = 503
    assert "somebody/other is left out: " in said(opened("beside", networks=f"{SHIPPED},somebody/other").warning)[0]


@pytest.mark.parametrize(("name", "repo"), [(MODEL, MODEL), ("resnet18.a1_in1k", "timm/resnet18.a1_in1k")])
def test_a_stopped_download_leaves_the_others(hub: Hub, name: str, repo: str) -> None:
    if repo != MODEL:
        hub.add_model(repo, {"model.safetensors": save(dict(randomly(preset("resnet18")).state_dict()))})
    app = closed(networks=f"{SHIPPED},{name}")
    hold(app, stopped=frozenset({short_key(("download", repo, hub.said[repo]["sha"]))}))
    run(run(app).switch_page("../pages/beside.py"))
    assert f"{name}: stopped at 0 of " in said(app.info)[-1]
    assert len(answers(app)) == 1
    assert not hub.elsewhere.asked
    click(app, "Resume the download")
    assert len(answers(app)) == 2


def test_published_weights_that_may_not_be_fetched(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's, timm's, and those of the link; what is too large is not even asked for."""
    monkeypatch.setenv("RESNET_EXPLORER_DOWNLOADS", "off")
    names = f"{SHIPPED},resnet18.IMAGENET1K_V1,resnet18.a1_in1k,shown"
    app = opened("beside", preset="resnet34", weights="IMAGENET1K_V1", networks=names)
    first, second, third = said(app.warning)
    assert first.startswith("resnet18.IMAGENET1K_V1 is left out: resnet18-f37072fd.pth is not on this server")
    assert second.startswith("resnet18.a1_in1k is left out: ")
    assert third.startswith("ResNet-34, as shown is left out: ")
    assert len(answers(app)) == 1
    app = opened("beside", networks=f"{SHIPPED},resnetrs420.tf_in1k")
    assert said(app.error)[0].startswith("resnetrs420.tf_in1k is too large to run here: ")
    assert not [*hub.asked, *hub.elsewhere.asked]


def test_the_links_own_network_may_be_a_model_of_the_hub(hub: Hub) -> None:
    given = SMALL.to_query() | {"weights": MODEL, "networks": f"{SHIPPED},shown"}
    app = opened("beside", **given)
    assert len(answers(app)) == 2
    assert {name for name, _ in answers(app)[1]} <= set(NAMES)


def test_a_damaged_file_is_said(hub: Hub) -> None:
    """One that is no network at all, which the hub has."""
    hub.add_model("somebody/else", {"model.safetensors": save({"x": torch.zeros(3)})})
    app = opened("beside", networks=f"{SHIPPED},somebody/else")
    assert "somebody/else" in said([*app.warning, *app.error])[0]
    assert len(answers(app)) == 1


# -- a person's own -----------------------------------------------------------------------


def test_an_uploaded_checkpoint_stands_beside_those_that_ship() -> None:
    """On the test set too, where its tensors say that it knows clothes; nobody else's link brings it."""
    state = load(bundled(preset(SHIPPED))[0]).state_dict()
    app = closed(networks=f"upload,{SHIPPED}", tab="On the test set")
    hold(app, checkpoint=read_upload(saved(dict(state)), "mine.pth"))
    run(run(app).switch_page("../pages/beside.py"))
    counts = re.findall(r"\*\*(.*?)\*\* is right on (\d+) of 500", page_text(app))
    assert [label for label, _ in counts] == ["Your checkpoint", "ResNet-20"]
    assert len({count for _, count in counts}) == 1
    assert "have a CKA of 1.00 at `layer1.0`, 1.00 at `layer3.2` and the least, 1.00, at " in page_text(
        tab(app, "By depth")
    )
    app = opened("beside", networks=f"upload,{SHIPPED}")
    assert said(app.warning)[0].startswith("A checkpoint stays with the person who uploaded it")
    assert len(answers(app)) == 1
    state["conv1.weight"] = state["conv1.weight"] * torch.nan
    hold(app, checkpoint=read_upload(saved(dict(state)), "broken.pth"))
    assert said(run(app).warning)[0].startswith("broken.pth: NaN or infinite numbers are in 1 of its tensors")


# -- choosing -----------------------------------------------------------------------------


def choose(app: AppTest, *names: str) -> AppTest:
    """Choose in the list, or type what it does not hold."""
    app.multiselect[0].options.extend(names)
    app.multiselect[0].set_value(list(names))
    return run(app)


def test_what_is_typed_becomes_its_name(hub: Hub) -> None:
    app = opened("beside")
    options = app.multiselect[0].options
    assert "resnet18.a1_in1k · 73.2% · 45 MiB · apache-2.0" in options
    assert any(option.startswith("resnet50.IMAGENET1K_V2 · 80.9% · 98 MiB · ") for option in options)
    choose(app, SHIPPED, f"https://huggingface.co/{MODEL}")
    assert link(app)["networks"] == f"{SHIPPED},{MODEL}"
    assert len(answers(app)) == 2
    choose(app, SHIPPED, "nonsense")
    (words,) = said(app.warning)
    assert words.startswith(
        "Networks = nonsense is not accepted: two to 4 of the list, or models of the Hugging Face hub"
    )
    assert link(app)["networks"] == f"{SHIPPED},{MODEL}"


# -- several images -----------------------------------------------------------------------


def test_agreement_is_counted(one_thread: None) -> None:
    """Against the networks' own answers to one sample of each kind."""
    given = {"preset": "resnet18", "weights": "random", "networks": f"{SHIPPED},plain20_fashion,shown"}
    app = opened("beside", **given, tab="On several images")
    pair = [bundled(preset(name))[0] for name in (SHIPPED, "plain20_fashion")]
    images = several.sample_of_each_label()
    opened_images = [Image.fromarray(image.source.pixels()) for image in images]
    named: list[list[int]] = []
    for one in pair:
        network, how = load(one), one.data.preprocessing
        tensors = [prepare(image, how, border_brightness(image) > 127).tensor for image in opened_images]
        named.append([predict(network, tensor, CPU).top(1)[0][0] for tensor in tensors])
    same = sum(one == other for one, other in zip(*named, strict=True))
    words = page_text(app)
    assert 0 < same < len(images)
    assert f"ResNet-20 and Plain-20 name the same class on **{same} of {len(images)}** images; apart: " in words
    assert "ResNet-18, as shown names no classes." in words
