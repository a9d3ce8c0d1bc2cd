"""Weights by their names: the list of all that are published, models of the Hugging Face hub, and what a link names."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, expect
from safetensors.torch import save
from streamlit.testing.v1 import AppTest

from explorer.bench.browser import server
from explorer.inference.preprocess import normalised
from explorer.inference.samples import labelled_images
from explorer.link import View
from explorer.sharing.store import StoppedError
from explorer.views.cached import short_key
from explorer.views.inference import selection
from explorer.views.inference import weights as inference_weights
from explorer.views.weights import on_hub
from helpers import (
    APP,
    SMALL,
    Visitor,
    click,
    closed,
    hold,
    link,
    look_at,
    opened,
    page_text,
    run,
    said,
    select,
    soon,
    tab,
    texts,
    turned_to,
    typed_into,
)
from loopback import Hub
from resnet import huggingface, owner, preset, title
from resnet.published import tags
from resnet.weights import FASHION_MNIST, Numbered, bundled_path, load, own_weights, randomly, read_checkpoint
from zoo import akamaster

TAG, MODEL = "resnet18.a1_in1k", "somebody/small"
NAMES = ["ape", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"]
RUNS = {**preset("resnet18").to_query(), "weights": TAG}
"""The link of that tag's weights in their network."""


@pytest.fixture(scope="module")
def bodies() -> dict[str, bytes]:
    """The files of a tag, and of a small network."""
    networks = {TAG: preset("resnet18"), MODEL: SMALL}
    return {name: save(dict(randomly(config).state_dict())) for name, config in networks.items()}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bodies: dict[str, bytes]) -> Iterator[Hub]:
    """A hub on loopback, and empty caches."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "huggingface"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    how = {
        "size": {"shortest_edge": 40},
        "do_center_crop": True,
        "crop_size": {"height": 32, "width": 32},
        "resample": 3,
    }
    how |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.add_model(f"timm/{TAG}", {"model.safetensors": bodies[TAG]})
        said = {"id2label": dict(enumerate(NAMES))}
        files = {"config.json": json.dumps(said).encode(), "preprocessor_config.json": json.dumps(how).encode()}
        hub.add_model(MODEL, {"model.safetensors": bodies[MODEL], **files})
        yield hub


pytestmark = pytest.mark.usefixtures("nothing_loaded")


def options(app: AppTest) -> list[str]:
    return list(app.selectbox(key="weights").options)


def captions(app: AppTest) -> str:
    return "\n".join(said(app.caption))


def verdict(app: AppTest) -> str:
    (first,) = [text for text in texts(app) if text.endswith("%")]
    return first


def buttons(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def test_all_that_is_published_is_in_the_list(hub: Hub) -> None:
    """First what fits the network, the most accurate before the others; nothing is asked of the hub."""
    app = opened("inference", preset="resnet18")
    names = [option.partition(" · ")[0] for option in options(app)]
    assert len(names) == len(set(names))
    assert {tag.name for tag in tags()} <= set(names)
    fitting = names[: names.index("Random, untrained")]
    assert {tag.name for tag in tags() if tag.name.startswith("resnet18.")} == {name for name in fitting if "." in name}
    assert f"{TAG} · 73.2% · 45 MiB · apache-2.0" in options(app)
    assert not hub.asked
    assert not hub.elsewhere.asked


def test_weights_of_another_network_bring_it(hub: Hub) -> None:
    app = select(opened("inference", preset="resnet20_fashion"), "weights", TAG)
    assert link(app) == RUNS
    assert not app.error
    assert "73.2% of ImageNet-1k right · apache-2.0" in captions(app)
    assert "input 288 px, crop 1.0, bicubic" in captions(app)
    assert f"{TAG} · 73.2% · 45 MiB, here · apache-2.0" in options(run(app))
    assert "at 288×288 pixels" in captions(app)
    downloaded = list(hub.elsewhere.asked)
    assert run(opened("inference", **RUNS)).selectbox(key="weights").value == TAG
    assert hub.elsewhere.asked == downloaded


@pytest.mark.parametrize("typed", [f"timm/{TAG}", f"https://huggingface.co/timm/{TAG}", " ResNet18.A1_in1k "])
def test_a_tag_can_be_typed(hub: Hub, typed: str) -> None:
    assert link(typed_into(opened("inference", preset="resnet50"), "weights", typed)) == RUNS


@pytest.mark.parametrize("typed", ["nonsense", "a1_in1k", "a/b/c", "https://example.com/x", "x" * 300])
def test_what_is_no_name_is_told_and_stays_to_be_mended(hub: Hub, typed: str) -> None:
    app = typed_into(opened("inference", preset="resnet20_fashion"), "weights", typed)
    (warning,) = said(app.warning)
    assert " is not accepted: a name in the list" in warning
    assert ", or a model of the Hugging Face hub as OWNER/NAME" in warning
    assert warning.endswith("The weights are unchanged.")
    assert app.selectbox(key="weights").value == typed
    assert "weights" not in link(app)
    assert not hub.asked


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        (
            "ResNet18.A1_in",
            ", such as resnet18.a1_in1k, or",
        ),  # one has it, and is not downloaded for a part of its name
        ("a1_in1k", ", such as resnet50.a1_in1k, resnet152.a1_in1k, "),  # of this network, then the most accurate
        ("resnet50.a1in1k", ", such as resnet50.a1_in1k, "),
        ("nonsense", "a name in the list, or"),
    ],
)
def test_what_is_no_name_names_the_nearest(hub: Hub, typed: str, near: str) -> None:
    app = typed_into(opened("inference", preset="resnet50", weights="random"), "weights", typed)
    assert near in said(app.warning)[0]
    assert near in said(opened("inference", preset="resnet50", weights=typed).warning)[0]
    assert link(app)["weights"] == "random"
    assert not hub.asked


def test_what_is_too_large_is_said_in_the_list_and_offered_nowhere(hub: Hub) -> None:
    """Whoever chooses it all the same sees its network, and why it does not run; nothing is downloaded."""
    app = opened("inference", preset="resnetrs420")
    (name,) = [option for option in options(app) if option.startswith("resnetrs420.tf_in1k")]
    assert name == "resnetrs420.tf_in1k · 85.0% · too large to run here · apache-2.0"
    assert not any("MiB" in label for label in buttons(app))
    assert "This network is too large to run here: its arithmetic" in captions(app)
    select(app, "weights", "resnetrs420.tf_in1k")
    assert said(app.error)[0].startswith("This network is too large to run here: its arithmetic")
    assert not hub.asked


def test_a_model_that_says_it_is_too_large_is_not_downloaded(hub: Hub) -> None:
    """Typed, or named by a link; one that is asked for at a size at which it runs is."""
    how = {"input_size": [3, 352, 352], "mean": [0.5] * 3, "std": [0.5] * 3}
    says = json.dumps({"architecture": "ecaresnet269d", "pretrained_cfg": how})
    files = {"config.json": says.encode(), "model.safetensors": b"x" * 9999}
    hub.add_model("somebody/large", files)
    refused = "somebody/large is too large to run here: its arithmetic and memory traffic take the time of "
    app = typed_into(opened("inference", preset="resnet20_fashion"), "weights", "somebody/large")
    (warning,) = said(app.warning)
    assert warning.startswith(refused)
    assert warning.endswith("Nothing of it was downloaded. The weights are unchanged.")
    assert "weights" not in link(app)
    (warning,) = said(opened("inference", weights="somebody/large").warning)
    assert warning.startswith(refused)
    assert not hub.elsewhere.asked
    (warning,) = said(opened("inference", preset="ecaresnet269d", weights="somebody/large", size="64").warning)
    assert "model.safetensors of somebody/large" in warning
    assert hub.elsewhere.asked


def test_a_link_opens_on_what_it_names(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights without a configuration mean their own, and say so where they are not to be had, with a way on."""
    of_network = preset("resnet18").to_query()
    assert link(opened("architecture", weights=TAG)) == {**of_network, "weights": TAG}
    monkeypatch.setenv(owner.DOWNLOADS, "off")
    app = opened("inference", weights=TAG)
    assert app.title[0].value == "ResNet-18 · Inference"
    assert "its owner has switched downloads off" in said(app.error)[0]
    click(app, "Random weights")
    assert not app.error
    assert link(app) == {**of_network, "weights": "random"}
    monkeypatch.undo()
    app = opened("inference", preset="resnet50", weights="resnet18.a2_in1k")  # a configuration is named, too
    assert app.title[0].value == "ResNet-50 · Inference"
    assert "Open ResNet-18, their network" in buttons(app)
    assert View.from_query(link(app)) == app.session_state["view"]


def test_a_link_of_a_model_of_the_hub_opens_on_its_network(hub: Hub) -> None:
    app = opened("inference", weights=MODEL)
    assert app.session_state["view"].config == SMALL
    assert not app.error
    assert not app.warning


def test_a_typed_model_that_is_not_there_leaves_what_runs(hub: Hub) -> None:
    """And stays to be mended, as every text that is not accepted."""
    app = opened("inference", preset="resnet20_fashion", image="0030-bag")
    before = link(app), verdict(app)
    typed_into(app, "weights", "nobody/nothing")
    (warning,) = said(app.warning)
    assert warning.startswith("nobody/nothing is no public model of ")
    assert warning.endswith("The weights are unchanged.")
    assert (link(app), verdict(app)) == before
    assert app.selectbox(key="weights").value == "nobody/nothing"
    asked = len(hub.asked)
    app.selectbox(key="weights").options.append("nobody/nothing")
    run(app)
    assert len(hub.asked) == asked
    typed_into(app, "weights", MODEL)
    assert not app.warning
    assert app.session_state["view"].config == SMALL


def test_a_model_with_longer_answers_than_a_link_holds_is_told(hub: Hub) -> None:
    app = opened("inference", preset="resnet20_fashion")
    before = link(app)
    typed_into(app, "weights", f"{MODEL}?weights={'x' * 200}")
    (warning,) = said(app.warning)
    assert "is not accepted: at most 200 characters" in warning
    assert link(app) == before
    assert "Sneaker" in verdict(app)


def test_a_link_names_the_weights_of_a_model_that_is_not_there(hub: Hub) -> None:
    of_network = {**preset("resnet18").to_query(), "weights": "nobody/nothing"}
    assert link(opened("inference", **of_network)) == of_network


def test_a_link_that_is_waited_for_names_no_other_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else who opens it while the model is on its way would come to that one."""

    def stopped(*_: object) -> None:
        raise StoppedError

    monkeypatch.setattr(selection, "on_hub", stopped)
    app = typed_into(opened("inference", preset="resnet18", image="astronaut"), "weights", MODEL)
    assert link(app) == {"weights": MODEL, "image": "astronaut"}


def test_a_model_of_the_hub_can_be_typed(hub: Hub) -> None:
    """It opens with its own network, labels and preprocessing, which its link brings to others, without a network too."""
    app = typed_into(opened("inference", preset="resnet50"), "weights", MODEL)
    expected = {**SMALL.to_query(), "weights": MODEL}
    assert link(app) | {"size": ""} == expected | {"size": ""}
    (name,) = [text for text in texts(app) if text.endswith("%")]
    assert name.partition("**,")[0].removeprefix("**") in NAMES
    assert "input 32 px, crop 0.8, bicubic" in captions(app)
    assert MODEL in page_text(app)
    tiles = str([one.proto for one in tab(app, "Several images").get("bidi_component")])
    assert any(name in tiles for name in NAMES)
    hub.files.clear()
    hub.said.clear()
    again = opened("inference", **link(app))
    assert not again.error
    assert again.selectbox(key="weights").value == MODEL
    assert name in texts(again)


def test_a_stopped_model_of_the_hub_keeps_its_page(hub: Hub) -> None:
    """With the card, the drawing, and what was stopped."""
    app = closed(**preset("resnet20_fashion").to_query(), weights=MODEL)
    hold(app, stopped=frozenset({short_key(("download", MODEL, hub.said[MODEL]["sha"]))}))
    turned_to(app, "inference")
    assert said(app.info) == [f"{MODEL}: stopped at 0 of 49 KiB."]
    assert {"Resume the download", "Random weights", "Use the shipped ResNet-20, trained on clothing"} <= set(
        buttons(app)
    )
    assert app.get("bidi_component")
    click(app, "Resume the download")
    assert not app.info
    assert f"Open {title(SMALL)}, their network" in buttons(app)


@pytest.mark.browser
def test_the_page_stays_while_a_model_of_the_hub_is_waited_for(browser: Browser, hub: Hub, tmp_path: Path) -> None:
    hub.second_half.clear()
    with server(APP, environment={"TORCH_HOME": str(tmp_path)}) as (address, _):
        context = browser.new_context()
        visitor = Visitor(context.new_page(), address)
        page = visitor.page
        page.goto(f"{address}/inference?preset=resnet18&weights={MODEL}")
        card = page.locator(".st-key-question")
        expect(card.get_by_test_id("stProgress")).to_contain_text(f"Downloading {MODEL}")
        expect(page.locator(".st-key-overview svg")).to_be_visible()
        card.get_by_role("button", name="Stop", exact=True).click()
        expect(card.get_by_text(f"{MODEL}: stopped at")).to_be_visible()
        card.get_by_role("button", name="Random weights").click()
        expect(page.locator(".st-key-below")).to_contain_text("Untrained")
        hub.second_half.set()
        context.close()
        assert not visitor.errors


def test_a_model_that_is_here_is_in_the_list(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others keep in the same cache is not."""
    here = f"{MODEL} · here"
    app = opened("inference", preset="resnet50")
    assert here not in options(app)
    typed_into(app, "weights", MODEL)
    theirs = tmp_path / "huggingface" / "models--somebody--else"
    shutil.copytree(tmp_path / "huggingface" / "models--somebody--small", theirs, symlinks=True)
    hub.files.clear()
    hub.said.clear()
    app = opened("inference", preset="resnet50", weights="random")
    assert [option for option in options(app) if "somebody" in option] == [here]
    assert app.session_state["view"].config == preset("resnet50")
    assert select(app, "weights", MODEL).session_state["view"].config == SMALL
    monkeypatch.setenv("HF_TOKEN", "hf_key")  # some may be private
    assert not [option for option in options(opened("inference", preset="resnet50")) if "somebody" in option]


def test_what_strangers_call_classes_and_data_is_text(hub: Hub, bodies: dict[str, bytes]) -> None:
    """And neither a link nor anything else that Markdown has."""
    names = {"id2label": {number: f"[log in](https://evil.example) {number}" for number in range(10)}}
    hub.add_model("evil/labels", {"model.safetensors": bodies[MODEL], "config.json": json.dumps(names).encode()})
    app = opened("inference", **SMALL.to_query(), weights="evil/labels")
    (verdict,) = [text for text in texts(app) if text.endswith("%")]
    assert "log in" in verdict
    assert "](" not in verdict
    assert "https://" not in verdict
    look_at(app, off=("layer1.1",))
    (change,) = [text for text in texts(app) if "The whole network says" in text]
    assert "log in" in change
    assert "](" not in change
    card = b"---\ndatasets:\n- https://evil.example/login\n---\n"
    hub.add_model("evil/data", {"model.safetensors": bodies[MODEL], "config.json": b"{}", "README.md": card})
    app = opened("inference", **SMALL.to_query(), weights="evil/data")
    assert "https://evil.example/login" in captions(app)  # which reads what is written as text
    assert not any("https://evil" in caption.value for caption in app.caption)
    assert "This network has 10 classes, which have numbers here and no names." in captions(app)


def test_a_model_that_is_not_there_is_told(hub: Hub) -> None:
    app = opened("inference", preset="resnet18", weights="nobody/nothing")
    (warning,) = said(app.warning)
    assert warning.startswith("nobody/nothing is no public model of 127.0.0.1")
    assert "Try again" in buttons(app)
    assert link(app)["weights"] == "nobody/nothing"
    click(app, "Random weights")
    assert not app.warning


def test_a_model_that_is_refused_is_not_asked_for_again_unasked(hub: Hub) -> None:
    app = opened("inference", preset="resnet18", weights="nobody/nothing")
    asked = len(hub.asked)
    look_at(run(app), tab="Weights")
    assert len(hub.asked) == asked
    assert said(app.warning)[0].startswith("nobody/nothing is no public model")
    hub.said["nobody/nothing"] = hub.said[MODEL] | {"id": "nobody/nothing"}
    click(app, "Try again")
    assert len(hub.asked) > asked
    assert not any("no public model" in words for words in said(app.warning))


def test_a_model_that_does_not_fit_the_links_network_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the network, with the first thing that differs; the file is not read again for it."""
    app = opened("inference", preset="resnet18", weights=MODEL)
    assert not app.error
    assert f"{MODEL} do not fit ResNet-18; first conv1.weight" in page_text(app)
    assert "Try again" not in buttons(app)
    assert app.title[0].value == "ResNet-18 · Inference"
    assert app.get("bidi_component")
    monkeypatch.setattr(huggingface, "open_model", None)
    assert not run(app).exception
    monkeypatch.undo()
    click(app, f"Open {title(SMALL)}, their network")
    assert not app.error
    assert app.session_state["view"].config == SMALL


def add(hub: Hub, id: str, state: Mapping[str, torch.Tensor], labels: Iterable[str] = (), card: str = "") -> None:
    """A repository with these weights, what its classes are called, and the head of its card."""
    config = json.dumps({"id2label": dict(enumerate(labels))}).encode()
    files = {"model.safetensors": save(dict(state)), "config.json": config, "README.md": f"---\n{card}\n---\n".encode()}
    hub.add_model(id, files)


def test_what_no_tensor_shows_is_asked_of_a_model_of_the_hub(hub: Hub) -> None:
    """And answered in the link: 95.2 % of the test images are right with zeros on both sides, 7.2 % after the channels."""
    shipped = read_checkpoint(bundled_path("resnet20"))[0].state_dict()
    add(hub, "me/akamaster", akamaster(shipped))
    app = typed_into(opened("inference", preset="resnet50"), "weights", "me/akamaster")
    assert app.session_state["view"].config.shortcut == "A"
    assert "pad the channels on both sides" in page_text(app)
    box = app.selectbox(key="asked of the hub option_a")
    assert box.value == "both"
    folded = [select.key for popover in app.get("popover") for select in popover.selectbox]
    assert "asked of the hub stem_pool" in folded
    assert box.key not in folded
    assert "pads the channels on both sides" in box.help
    both = texts(app)
    select(app, "asked of the hub option_a", "after")
    assert link(app)["weights"] == "me/akamaster?option_a=after"
    assert app.selectbox(key="asked of the hub option_a").value == "after"
    assert "Read with Zeros of option A = after the channels." in page_text(app)
    assert texts(app) != both
    images, classes = labelled_images()
    inputs = normalised(images[:100], FASHION_MNIST.preprocessing)
    right = {}
    for form in ("both", "after"):
        weights = on_hub(f"me/akamaster?option_a={form}").weights
        with torch.inference_mode():
            right[form] = int((load(weights)(inputs).argmax(1).numpy() == classes[:100]).sum())
    assert right["both"] > 90
    assert right["after"] < 30
    again = opened("inference", **link(app))
    assert again.selectbox(key="asked of the hub option_a").value == "after"


def test_norms_of_a_model_of_the_hub_are_said_to_be_groups(hub: Hub) -> None:
    config, _ = SMALL.with_(norm="group", norm_groups=2)
    add(hub, "me/normed", randomly(config).state_dict())
    app = typed_into(opened("inference", preset="resnet50"), "weights", "me/normed")
    (warning,) = said(app.warning)
    assert "is opened where norm=group is answered" in warning
    click(app, "They are group norms")
    assert not app.warning
    assert link(app)["weights"] == "me/normed?norm=group"
    assert app.session_state["view"].config.norm == "group"
    select(app, "asked of the hub standardised", True)
    assert link(app)["weights"] == "me/normed?norm=group&standardised=1"
    assert "Its convolutions standardise their weights." in page_text(app)
    select(app, "asked of the hub norm_groups", 2)
    assert link(app)["norm_groups"] == "2"
    assert app.selectbox(key="weights").value == "me/normed?norm=group&standardised=1"
    assert not app.error
    assert not app.exception


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("colour=red", "has no question colour"),
        ("name=x", "has no question name"),
        ("model=x", "has no question model"),
        ("option_a=both", "does not need the answer option_a: leave it out."),
        ("option_a=red", "has no option_a red: both or after is accepted"),
        ("stem_stride=2", "is answered to have a 3×3 stem of stride 2"),
        ("norm_groups=many", "norm_groups = many is not accepted"),
    ],
)
def test_an_answer_that_cannot_be_is_told(hub: Hub, answer: str, words: str) -> None:
    app = opened("inference", **SMALL.to_query(), weights=f"{MODEL}?{answer}")
    (warning,) = said(app.warning)
    assert words in warning
    assert not app.exception


def test_other_data_with_a_thousand_classes_has_no_imagenet_names(hub: Hub) -> None:
    config, _ = SMALL.with_(num_classes=1000)
    state = randomly(config).state_dict()
    add(hub, "me/birds", state, [f"LABEL_{number}" for number in range(1000)], "datasets: me/birds1000")
    add(hub, "me/photographs", state)
    app = typed_into(opened("inference", preset="resnet50"), "weights", "me/birds")
    assert any(text.startswith("**class ") for text in texts(app))
    assert "me/birds1000" in captions(app)
    assert "ImageNet's" not in page_text(app)
    app = typed_into(opened("inference", preset="resnet50"), "weights", "me/photographs")
    assert not any(text.startswith("**class ") for text in texts(app))
    assert "Its 1,000 classes are taken for ImageNet's." in page_text(app)


def test_ten_classes_of_grey_images_are_taken_for_clothing_as_those_of_an_upload_are(hub: Hub) -> None:
    """Where its tensors have the shapes of the networks that ship, and its repository says nothing else; and that is said."""
    shipped = preset("resnet20_fashion")
    state = read_checkpoint(bundled_path("resnet20"))[0].state_dict()
    upload = own_weights(shipped, (28, 28), "mine.pth", "digest").data
    add(hub, "me/clothes", state)
    found = on_hub("me/clothes")
    assert (found.weights.data.categories, found.weights.data.preprocessing) == (
        upload.categories,
        upload.preprocessing,
    )
    assert "Images are prepared at 28×28 pixels with a mean of 0.286, as for Fashion-MNIST." in found.notes
    assert any(note.startswith("Its 10 classes are taken for Fashion-MNIST's") for note in found.notes)
    app = typed_into(opened("inference", preset="resnet50"), "weights", "me/clothes")
    assert "Right on **476 of 500** Fashion-MNIST test images" in page_text(app)
    add(hub, "me/animals", state, NAMES)
    add(hub, "me/digits", state, card="datasets: mnist")
    add(hub, "me/deep", randomly(preset("resnet18").with_(in_channels=1, num_classes=10)[0]).state_dict())
    for model, names, size in (
        ("animals", tuple(NAMES), 32),
        ("digits", Numbered(10), 32),
        ("deep", Numbered(10), 224),
    ):
        found = on_hub(f"me/{model}")
        assert found.weights.data.categories == names
        assert f"Images are prepared at {size}×{size} pixels with a mean of 0.5." in found.notes
        assert not any("Fashion" in note for note in found.notes)


def test_numbers_that_are_none_are_found_in_a_model_of_the_hub(hub: Hub) -> None:
    state = randomly(SMALL).state_dict()
    state["layer1.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    add(hub, "me/broken", state)
    app = typed_into(opened("inference", preset="resnet50"), "weights", "me/broken")
    assert "NaN or infinite numbers are in 1 of its tensors, first in layer1.0.conv1.weight" in page_text(app)
    assert app.session_state["view"].config == SMALL
    assert app.get("bidi_component")
    assert not app.error


def test_another_depth_offers_the_same_recipe(hub: Hub) -> None:
    app = opened("inference", **RUNS)
    downloaded = list(hub.elsewhere.asked)
    select(app, "option layers", "3-4-6-3")
    assert "resnet18.a1_in1k are for ResNet-18." in page_text(app)
    assert next(label for label in buttons(app) if "MiB" in label).startswith("resnet34.a1_in1k · ")
    assert not app.warning
    select(app, "option layers", "2-2-2-2")
    assert link(app) == RUNS
    assert hub.elsewhere.asked == downloaded
    select(app, "option layers", "3-4-6-3")
    click(app, "Open ResNet-18, their network")
    assert link(app) == RUNS


def test_where_the_hub_is_out_of_reach_others_are_offered(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    offered = [name for name in buttons(opened("inference", preset="resnet18")) if "MiB" in name]
    assert offered == ["torchvision V1, ImageNet-1k · 69.8% · 45 MiB · bsd-3-clause"]
    app = opened("inference", preset="resnet26")  # of which torchvision has none
    assert "**Which weights?** None for ResNet-26 are on this machine." in texts(app)
    assert "The owner of this server has set HF_HUB_OFFLINE, so not: resnet26." in captions(app)


@pytest.mark.parametrize("downloads", ["on", "off"])
def test_what_is_on_this_machine_is_offered_first(hub: Hub, monkeypatch: pytest.MonkeyPatch, downloads: str) -> None:
    """Beside a model of the hub that is not there, whoever may download what."""
    opened("inference", **RUNS)
    monkeypatch.setenv(owner.DOWNLOADS, downloads)
    app = opened("inference", preset="resnet18", weights="nobody/nothing")
    assert "**Which weights?** Some for ResNet-18 are on this machine." in texts(app)
    assert [name for name in buttons(app) if "MiB" in name] == [f"{TAG} · 73.2% · 45 MiB, here · apache-2.0"]
    click(app, f"{TAG} · 73.2% · 45 MiB, here · apache-2.0")
    assert link(app)["weights"] == TAG
    assert not app.error


def test_where_downloads_are_forbidden_what_is_published_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(owner.DOWNLOADS, "off")
    first = opened("inference")
    assert not any("MiB" in label for label in buttons(first))
    assert "No ImageNet weights are on this machine, and its owner has switched downloads off, so" in page_text(first)
    app = opened("inference", preset="resnet18")
    assert not any("MiB" in label for label in buttons(app))
    assert "The owner of this server has switched downloads off, so not: resnet18." in captions(app)
    assert not hub.asked


# -- what cannot be had -------------------------------------------------------------------


def has_a_fault(hub: Hub, patch: pytest.MonkeyPatch) -> None:
    for file in hub.elsewhere.files.values():
        file.status = 503


def asks_for_a_login(hub: Hub, patch: pytest.MonkeyPatch) -> None:
    hub.gated |= {f"timm/{TAG}", MODEL}


def sends_another_file(hub: Hub, patch: pytest.MonkeyPatch) -> None:
    for file in hub.elsewhere.files.values():
        file.body = bytes(len(file.body))


def is_too_large(hub: Hub, patch: pytest.MonkeyPatch) -> None:
    for one in (f"timm/{TAG}", MODEL):
        hub.listed(one, "model.safetensors")["lfs"]["size"] = 3 * 2**30


def finds_a_full_disk(hub: Hub, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("resnet.hub.RESERVE_BYTES", 2**60)


def is_out_of_reach(hub: Hub, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


def is_forbidden(hub: Hub, patch: pytest.MonkeyPatch) -> None:
    patch.setenv(owner.DOWNLOADS, "off")


Spoil = Callable[[Hub, pytest.MonkeyPatch], None]
REASONS: dict[Spoil, str] = {
    has_a_fault: "(its server has a fault, 503)",
    asks_for_a_login: "asks for a login for",
    sends_another_file: "(what arrived is not that file",
    is_too_large: "has weights of 3,072 MiB: at most",
    finds_a_full_disk: "There is no room for",
    is_out_of_reach: "could not be downloaded (",
    is_forbidden: "its owner has switched downloads off",
}


@pytest.mark.parametrize("spoil", REASONS)
@pytest.mark.parametrize("key", [TAG, MODEL])
def test_what_cannot_be_had_leaves_what_is_shown(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, key: str, spoil: Spoil
) -> None:
    """With one sentence, and the link of what is shown; asked again, it comes as soon as it can."""
    app = opened("inference", preset="resnet20_fashion", image="0030-bag", off="layer1.1", tab="Weights")
    before = app.session_state["view"], link(app), verdict(app)
    with monkeypatch.context() as patch:
        spoil(hub, patch)
        patch.setattr(inference_weights, "look_up", lambda _: None)  # it may be out of reach a moment later
        typed_into(app, "weights", key)
        (warning,) = said(app.warning)
        assert REASONS[spoil] in warning
        assert warning.endswith(" The weights are unchanged.")
        assert (app.session_state["view"], link(app), verdict(app)) == before
        assert app.selectbox(key="weights").value == "bundled"
        assert not app.error
        asked = len(hub.asked)
        look_at(app, image="0000-ankle-boot")
        assert said(app.warning) == [warning]
        assert len(hub.asked) == asked
    if spoil in (has_a_fault, asks_for_a_login):
        hub.gated.clear()
        for file in hub.elsewhere.files.values():
            file.status = 200
        click(app, "Try again")
        assert not app.warning
        assert app.session_state["view"].config == (preset("resnet18") if key == TAG else SMALL)
        assert link(app)["weights"] == key


def test_a_model_that_cannot_be_looked_up_is_asked_for_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("inference", preset="resnet20_fashion")
    before = link(app)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    typed_into(app, "weights", MODEL)
    assert "asks the Hugging Face hub for nothing: HF_HUB_OFFLINE is set. The weights are" in said(app.warning)[0]
    assert f"Hugging Face cache, `$HF_HUB_CACHE`, as `hf download {MODEL}` does." in captions(app)
    assert link(app) == before
    monkeypatch.delenv("HF_HUB_OFFLINE")
    app.selectbox(key="weights").options.append(MODEL)
    click(app, "Try again")
    assert not app.warning
    assert link(app)["weights"] == MODEL
    assert app.session_state["view"].config == SMALL


def test_what_is_shown_stays_where_it_was_left(hub: Hub) -> None:
    """And no more is said of what cannot be had, when a person goes back or asks for others."""
    has_a_fault(hub, pytest.MonkeyPatch())
    app = select(opened("inference", preset="resnet20_fashion"), "weights", TAG)
    before = link(app)
    click(app, "Upload a file")
    assert app.file_uploader(key="checkpoint 0")
    click(app, "Back")
    assert not app.warning
    assert link(app) == before
    select(app, "weights", TAG)
    assert app.warning
    select(app, "weights", "random")
    assert not app.warning
    select(app, "option layers", "2-2-2")
    select(app, "weights", TAG)
    assert said(app.warning)[0].endswith(" The weights are unchanged.")
    assert app.session_state["view"].config.layers == (2, 2, 2)


def test_a_question_stays_where_nothing_was_shown(hub: Hub) -> None:
    """Whoever asks for the weights of a network that has none keeps that network, though another was shown before."""
    has_a_fault(hub, pytest.MonkeyPatch())
    app = opened("inference", preset="resnet20_fashion")
    select(app, "preset", "resnet18")
    select(app, "weights", TAG)
    assert "its server has a fault, 503" in said(app.error)[0]
    assert link(app) == RUNS
    assert "Try again" in buttons(app)


def test_a_stopped_download_leaves_what_is_shown(hub: Hub) -> None:
    app = opened("inference", preset="resnet20_fashion", image="0030-bag")
    before = link(app), verdict(app)
    stopped = short_key(("download", f"timm/{TAG}", hub.said[f"timm/{TAG}"]["sha"]))
    hold(app, stopped=frozenset({stopped}))
    select(app, "weights", TAG)
    assert said(app.warning) == [f"timm {TAG}: stopped at 0 of 45 MiB. The weights are unchanged."]
    assert (link(app), verdict(app)) == before
    assert not hub.elsewhere.asked
    click(app, "Resume the download")
    assert not app.warning
    assert link(app) == RUNS | {"image": "0030-bag"}


@pytest.mark.parametrize(
    ("variables", "hubs", "torchs"),
    [
        ({}, "~/.cache/huggingface/hub", "~/.cache/torch/hub/checkpoints"),
        ({"XDG_CACHE_HOME": "/secret"}, "$XDG_CACHE_HOME/huggingface/hub", "$XDG_CACHE_HOME/torch/hub/checkpoints"),
        ({"HF_HOME": "/secret", "TORCH_HOME": "/secret"}, "$HF_HOME/hub", "$TORCH_HOME/hub/checkpoints"),
        ({"HF_HUB_CACHE": "/secret"}, "$HF_HUB_CACHE", "~/.cache/torch/hub/checkpoints"),
    ],
)
def test_where_a_servers_owner_can_put_weights(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], hubs: str, torchs: str
) -> None:
    """As the environment names it: no stranger reads where that is."""
    for name in ("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    put = inference_weights.where_to_put
    assert put(View(weights=MODEL)) == (
        f"The owner of this server can put it into the server's Hugging Face cache, `{hubs}`, as `hf download {MODEL}` does."
    )
    assert f", `{hubs}`, as `hf download timm/{TAG}` does." in put(View(weights=TAG))
    assert put(View(weights="IMAGENET1K_V2")) == (
        f"The owner of this server can put `resnet50-11ad3fa6.pth` into the server's torch.hub cache, `{torchs}`."
    )
    assert put(View()) == ""


# -- in a browser -------------------------------------------------------------------------


@pytest.mark.browser
def test_a_tag_is_chosen_by_its_name_stopped_and_resumed(browser: Browser, hub: Hub, tmp_path: Path) -> None:
    """`resnet50.a1_in1k`: progress, Stop, Resume, and then labels and the preprocessing that it was published with."""
    hub.add_model("timm/resnet50.a1_in1k", {"model.safetensors": save(dict(randomly(preset("resnet50")).state_dict()))})
    hub.second_half.clear()
    with server(APP, environment={"TORCH_HOME": str(tmp_path)}) as (address, _):
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        visitor = Visitor(context.new_page(), address)
        page = visitor.open("/inference").page
        expect(page.get_by_role("button", name="ResNet-50 with ImageNet weights (98 MiB)")).to_be_visible()
        box = visitor.sidebar.get_by_label("Weights", exact=True)
        box.fill("resnet50.a1_in1k")
        page.get_by_role("option", name=re.compile("^resnet50.a1_in1k ")).click()
        expect(page.get_by_test_id("stProgress")).to_contain_text("Downloading timm resnet50.a1_in1k: 49 of 98 MiB")
        page.get_by_role("button", name="Stop", exact=True).click()
        expect(page.get_by_text("Stopped at 49 of 98 MiB.")).to_be_visible()
        hub.second_half.set()  # the server reads on, sees that nobody waits, and keeps the part
        soon(lambda: [path for path in tmp_path.rglob("*.part") if path.name.count(".") == 1])
        page.get_by_role("button", name="Resume the download").click()
        expect(page.locator(".st-key-verdict-chip")).to_be_visible()
        visitor.wait()
        expect(visitor.verdict().locator("dl.bars dt")).to_have_count(5)
        assert "class " not in visitor.verdict().inner_text()
        page.keyboard.press("Escape")
        assert len(hub.elsewhere.ranges) == 1
        assert "input 288 px, crop 1.0, bicubic" in visitor.weights_card().inner_text()
        assert "What the network sees: 288×288" in page.locator(".st-key-seen").inner_text()
        assert page.url.endswith("/inference?weights=resnet50.a1_in1k")
        assert visitor.fits()
        context.close()
        assert not visitor.errors


@pytest.mark.browser
def test_a_refused_download_keeps_the_page(browser: Browser, hub: Hub, tmp_path: Path) -> None:
    """The verdict, the maps, the open tab and the link; and a card with the reason and three ways, of which each goes on."""
    has_a_fault(hub, pytest.MonkeyPatch())
    with server(APP, environment={"TORCH_HOME": str(tmp_path)}) as (address, _):
        context = browser.new_context(viewport={"width": 1280, "height": 720})
        visitor = Visitor(context.new_page(), address)
        page = visitor.open("/inference?preset=resnet20_fashion&image=0030-bag").page
        page.get_by_role("tab", name="Weights").click()
        visitor.wait()
        card, verdict = page.locator(".st-key-failure"), page.locator(".st-key-verdict-chip")
        maps = page.locator(".st-key-strip svg image")

        def seen() -> tuple[str, str, list[str | None], str | None]:
            addresses = [one.get_attribute("href") for one in maps.all()]
            tab = page.get_by_role("tab", selected=True).first.text_content()
            return page.url, verdict.inner_text(), addresses, tab

        def refused() -> None:
            visitor.sidebar.get_by_label("Weights", exact=True).fill(TAG)
            page.get_by_role("option", name=re.compile(f"^{TAG} ")).click()
            expect(card).to_contain_text("its server has a fault, 503")
            visitor.wait()
            assert seen() == before

        before = seen()
        assert len(before[2]) > 2
        refused()
        card.get_by_role("button", name="Upload a file").click()
        expect(page.locator(".st-key-own-checkpoint input[type=file]")).to_be_attached()
        visitor.wait()
        card.get_by_role("button", name="Back", exact=True).click()
        expect(card).to_have_count(0)
        visitor.wait()
        assert seen() == before
        refused()
        for file in hub.elsewhere.files.values():
            file.status = 200
        card.get_by_role("button", name="Try again").click()
        expect(page.locator(".st-key-weights-chip")).to_contain_text(f"timm {TAG}")
        visitor.wait()
        expect(visitor.verdict().locator("dl.bars dt")).to_have_count(5)
        assert not card.count()
        assert f"weights={TAG}" in page.url
        assert visitor.fits()
        context.close()
        assert not visitor.errors
