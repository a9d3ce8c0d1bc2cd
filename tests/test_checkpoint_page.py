"""The card for a person's own checkpoint: what it opens, leaves out, asks and refuses, and pages without a classifier."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from typing import Any

import pytest
import safetensors.torch
import torch
from streamlit.testing.v1 import AppTest

from explorer.inference.preprocess import normalised
from explorer.inference.samples import labelled_images
from explorer.sharing.holdings import Holdings
from explorer.sharing.store import FileDigest
from explorer.views import own_checkpoint as checkpoint
from explorer.views.inference import ablation
from explorer.views.own_checkpoint import MAX_NETWORKS
from helpers import (
    TABS,
    Visitor,
    captions,
    click,
    closed,
    held,
    link,
    look_at,
    page_text,
    run,
    said,
    saved,
    select,
    tab,
    texts,
    turned_to,
)
from resnet import WeightsError, open_checkpoint, preset
from resnet.checkpoint import Opened, fitted, mismatches, network, with_option_a
from resnet.shards import MAX_HEADER_BYTES, join
from resnet.weights import FASHION_MNIST, bundled_path, own_weights, read_checkpoint
from zoo import CASES, akamaster, data_of, resnet, under

ZOO = {case.name: case for case in CASES}


def card(**query: str) -> AppTest:
    """The inference page with the card open."""
    app = closed(**query)
    app.session_state["own checkpoint"] = True
    return turned_to(app, "inference")


def upload(app: AppTest, *files: tuple[str, bytes]) -> AppTest:
    uploader = app.file_uploader(key=f"checkpoint {held(app).checkpoint_widget}")
    uploader.set_value([(name, data, "application/octet-stream") for name, data in files])
    return run(app)


def small(seed: int = 1, **given: Any) -> dict[str, torch.Tensor]:
    """The tensors of two blocks, which say nothing of a classifier where `classes` is 0."""
    return resnet((1, 1), (8, 16), **{"expansion": 1, "width": 8, "classes": 5, "seed": seed, **given})


def says(app: AppTest) -> str:
    """All that the page says."""
    alerts = [*said(app.info), *said(app.warning), *said(app.error)]
    return "\n".join([page_text(app), captions(app), *alerts])


# -- without a classifier -----------------------------------------------------------------


def test_a_detector_opens_on_its_backbone() -> None:
    app = upload(card(preset="resnet20_fashion"), ("fasterrcnn.pth.tar", data_of(ZOO["torchvision_fasterrcnn"])))
    assert link(app) == preset("resnet50").to_query() | {"weights": "upload"}
    assert "backbone.fpn, rpn, roi_heads left out." in page_text(app)
    assert "**No classifier**, so no scores" in page_text(app)
    assert not any("%" in text for text in texts(app))
    assert "› `layer2.0.act`" in page_text(app)
    assert "512×28×28" in str([html.proto for html in app.get("html")])


@pytest.fixture(scope="module")
def headless() -> AppTest:
    return upload(card(preset="resnet20_fashion"), ("trunk.pth", saved(small(classes=0))))


@pytest.mark.parametrize("name", TABS)
def test_no_tab_makes_names_of_zeros(headless: AppTest, name: str) -> None:
    app = tab(headless, name)
    assert not app.exception
    everything = says(app) + str([one.proto for kind in ("html", "bidi_component") for one in app.get(kind)])
    assert "class 0" not in everything.lower()
    assert "tench" not in everything.lower()
    assert "0.1%" not in everything
    assert not app.error
    needs = name in ("Blocks off", "Why this class", "Several images")
    assert (says(app).count("so it names no classes") == 2) == needs


def test_its_layers_and_blocks_are_looked_at(headless: AppTest) -> None:
    for name in ("Maps", "Several images", "Weights"):
        app = look_at(headless, at="fc", off=("layer1.0",), tab=name)
        assert "`fc` is zeros here" in says(app), name
        assert "the whole network says" not in says(app).lower()
        assert "across the images" not in page_text(app)
    app.session_state["grid shown"] = ["Grad-CAM"]
    look_at(app, at="layer1.0.conv1", tab="Receptive field")
    assert "No Grad-CAM, as this checkpoint has no classifier." in "\n".join(said(app.caption))
    click(tab(app, "Speed"), "Measure precision and layout")
    assert "So what a form changes of the scores is not listed." in captions(app)
    (table,) = [frame.value for frame in app.dataframe if "Form" in frame.value]
    assert {*table} == {"Form", "Time", "fp32 in turn", "Ratio", "Measured as"}


def test_a_network_without_a_classifier_fits_any_number_of_classes() -> None:
    opened = open_checkpoint(saved(small(classes=0)), "trunk.pth")
    config = opened.config.with_(num_classes=7)[0]
    assert not mismatches(config, fitted(opened, config))
    assert network(config, fitted(opened, config))(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    assert fitted(opened, opened.config) is opened.state_dict
    for number in (10, 1000):
        weights = own_weights(config.with_(num_classes=number)[0], (32, 32), "trunk.pth", "d", headless=True)
        assert weights.data.name == "unknown"
    opened = open_checkpoint(saved(small()), "mine.pth")
    assert mismatches(opened.config.with_(num_classes=7)[0], fitted(opened, opened.config))


# -- questions ----------------------------------------------------------------------------


def verdict(app: AppTest) -> str:
    """The class and its probability, as the page says them."""
    return next(text for text in texts(app) if text.startswith("**") and text.endswith("%"))


def counted(app: AppTest) -> int:
    """How many of the test images the page says that a person's own network gets right."""
    (found,) = re.findall(r"ight on \*\*(\d+) of 500\*\* Fashion-MNIST test images", page_text(app))
    return int(found)


SAMPLES = ("0000-ankle-boot", "0001-pullover", "0002-trouser", "0006-coat")


def test_zeros_on_both_sides_are_read_and_can_be_answered() -> None:
    """The shipped ResNet-20 as akamaster's code has it is the same network; the other answer is another function."""
    ours = read_checkpoint(bundled_path("resnet20"))[0].state_dict()
    data = saved({"state_dict": under("module.", akamaster(ours))})
    shipped, app = card(preset="resnet20_fashion"), card(preset="resnet20_fashion")
    upload(app, ("resnet20.th", data))
    assert "are reordered for ours" in page_text(app)
    changed = 0
    for form in ("both", "after", "both"):
        if form != app.selectbox(key="asked option_a").value:
            select(app, "asked option_a", form)
        assert app.selectbox(key="weights").value == "upload"
        assert ("are reordered for ours" in page_text(app)) == (form == "both")
        assert counted(app) == (476 if form == "both" else 36)
        for name in SAMPLES:
            for one in (shipped, app):
                look_at(one, image=name)
            assert form == "after" or verdict(app) == verdict(shipped)
            changed += form == "after" and verdict(app).partition(",")[0] != verdict(shipped).partition(",")[0]
    assert changed >= 2


def test_an_answer_about_zeros_needs_no_file() -> None:
    data = saved(akamaster(read_checkpoint(bundled_path("resnet20"))[0].state_dict()))
    both, after = (open_checkpoint(data, "m.th", option_a=form) for form in ("both", "after"))
    for opened, form, wanted in ((both, "after", after), (after, "both", both), (both, "both", both)):
        found = with_option_a(opened, form)
        assert found.notes == wanted.notes
        assert found.questions == wanted.questions
        for name, tensor in wanted.state_dict.items():
            assert torch.equal(found.state_dict[name], tensor), name
    unmoved = both.state_dict["conv1.weight"]
    assert with_option_a(both, "after").state_dict["conv1.weight"] is unmoved


def test_the_average_is_opened_and_the_other_is_kept_beside_it() -> None:
    data = saved({"model": small(1), "model_ema": small(2)})
    app = upload(card(preset="resnet18"), ("both.pt", data))
    averaged, before = verdict(app), held(app).checkpoint
    assert before is not None
    assert before.nbytes == 2 * before.opened.nbytes
    assert app.selectbox(key="asked weights").value == "model_ema"
    select(app, "asked weights", "model")
    mine = held(app).checkpoint
    assert mine is not None
    assert mine.nbytes == before.nbytes
    assert mine.digest != before.digest
    assert torch.equal(mine.tensors["fc.bias"], small(1)["fc.bias"])
    assert verdict(app) != averaged
    assert "those of model are opened" in page_text(app)
    select(app, "asked weights", "model_ema")
    assert verdict(app) == averaged


def test_of_many_networks_a_few_are_kept() -> None:
    """A file may hold a thousand small ones, each of which takes a look into it."""
    data = saved({f"ema_{number}": small(number) for number in range(6)})
    app = upload(card(preset="resnet18"), ("many.pt", data))
    mine = held(app).checkpoint
    assert mine is not None
    assert len(mine.networks) == MAX_NETWORKS < 6
    assert len(app.selectbox(key="asked weights").options) == MAX_NETWORKS
    left = [f"ema_{number}" for number in range(6) if f"ema_{number}" not in mine.networks]
    assert f"4 of its 6 networks can be chosen, and not {', '.join(left)}." in page_text(app)


def test_a_network_that_cannot_be_opened_is_named() -> None:
    odd = small(2) | {"conv1.weight": torch.zeros(8, 3, 5, 5)}
    app = upload(card(preset="resnet18"), ("both.pt", saved({"model_ema": small(1), "model": odd})))
    assert "The weights model cannot be chosen: both.pt holds a network that no configuration expresses" in page_text(
        app
    )
    assert link(app)["weights"] == "upload"
    assert not [box for box in app.selectbox if box.key == "asked weights"]


def test_room_is_looked_for_before_another_network_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held, reserved and opened stays within the bounds of one file and of the server."""
    halves = [{name: tensor.half() for name, tensor in small(seed).items() if tensor.ndim} for seed in (1, 2)]
    data = saved({"model": halves[0], "model_ema": halves[1]})
    one, reserved = open_checkpoint(saved(halves[0]), "one.pt").nbytes, []

    def opening(*args: Any, **answers: Any) -> Opened:
        reserved.append(checkpoint.HELD_FILES.bytes)
        return open_checkpoint(*args, **answers)

    monkeypatch.setattr(checkpoint, "open_checkpoint", opening)
    for most, words in ((2 * one, ""), (2 * one - 1, "both.pt finds no room")):
        ours = Holdings(most)
        monkeypatch.setattr(checkpoint, "HELD_FILES", ours)
        reserved.clear()
        app = upload(card(preset="resnet18"), ("both.pt", data))
        mine = held(app).checkpoint
        assert mine is not None
        assert (len(mine.networks), ours.bytes) == ((1, one) if words else (2, 2 * one))
        assert reserved == ([len(data)] if words else [len(data), 2 * one])
        assert (f"The weights model cannot be chosen: {words}" in page_text(app)) == bool(words)
    monkeypatch.setattr(checkpoint, "HELD_FILES", Holdings(10**9))
    monkeypatch.setattr(checkpoint, "MAX_TENSOR_BYTES", 2 * one - 1)
    app = upload(card(preset="resnet18"), ("both.pt", data))
    assert "The weights model cannot be chosen: the networks of a file may take" in page_text(app)


def test_networks_and_answers_are_told_apart_by_their_digests() -> None:
    """Whatever their names, which may look like a digest's parts."""
    data = saved({"a": small(1), "a/b": small(2)})
    first = checkpoint.with_others(checkpoint.read_upload(data, "m.pt"), data, len(data))
    assert len(first.networks) == 2
    found = [checkpoint.as_answered(replace(first, chosen=name)) for name in first.networks]
    assert [one.file for one in found] == [first.file] * 2 == [hashlib.sha256(data).hexdigest()] * 2
    assert len({one.digest for one in found}) == 2
    assert first.digest == next(one.digest for one in found if one.chosen == first.chosen)
    padded = checkpoint.read_upload(saved(akamaster(read_checkpoint(bundled_path("resnet20"))[0].state_dict())), "m.th")
    other = checkpoint.as_answered(replace(padded, networks={"": with_option_a(padded.opened, "after")}))
    assert (other.file, other.digest == padded.digest) == (padded.file, False)
    grouped = saved(small(norm="group"))
    answered = [checkpoint.read_upload(grouped, "m.pt", norm="group", **more) for more in ({}, {"norm_groups": "4"})]
    assert [one.config.norm_groups for one in answered] == [32, 4]
    assert answered[0].digest != answered[1].digest
    assert isinstance(answered[0].digest, FileDigest)


def test_what_a_files_name_decides_tells_it_from_the_same_bytes_under_another_name() -> None:
    """Weights that are standardised, which "ws" in a name says, are others; nobody was asked anything."""
    data = saved(small(norm="group"))
    one, other = (checkpoint.read_upload(data, name) for name in ("r_gn_ws.pth", "r_gn.pth"))
    assert not torch.equal(one.tensors["conv1.weight"], other.tensors["conv1.weight"])
    assert one.file == other.file
    assert one.digest != other.digest
    assert one.digest == checkpoint.read_upload(data, "also_gn_ws.pth").digest


def test_answers_are_one_sessions() -> None:
    """Two people bring the same file and answer in two ways."""
    data = saved({"model": small(1), "model_ema": small(2)})
    one, other = (upload(card(preset="resnet18"), ("both.pt", data)) for _ in range(2))
    assert verdict(one) == verdict(other)
    before = verdict(one)
    select(one, "asked weights", "model")
    assert verdict(run(other)) == before != verdict(run(one))


def test_a_question_of_the_configuration_is_asked_with_how_to_tell() -> None:
    app = upload(card(preset="resnet18"), ("mine.ckpt", saved(small(expansion=4))))
    box = app.selectbox(key="asked stride_in")
    assert "torchvision and timm in the 3×3" in box.help
    assert "Stride in 3×3 · Shortcut B · Stem pool max · Activation relu" in captions(app).replace(
        "\N{NO-BREAK SPACE}", " "
    )
    mine = held(app).checkpoint
    assert mine is not None
    other = next(value for value in mine.opened.questions["stride_in"].choices if value != box.value)
    select(app, "asked stride_in", other)
    assert link(app)["stride_in"] == str(other)
    assert "Stride in 1×1 · Shortcut B" in captions(app).replace("\N{NO-BREAK SPACE}", " ")
    assert app.selectbox(key="weights").value == "upload"


def test_a_projection_whose_pool_is_hidden_fits_both_answers() -> None:
    opened = open_checkpoint(data_of(ZOO["fastai_xresnet"]), "m.safetensors")
    assert set(opened.questions["shortcut"].choices) == {"B", "D"}
    other = opened.config.with_(shortcut=opened.questions["shortcut"].choices[1])[0]
    assert mismatches(other, opened.state_dict)
    assert not mismatches(other, fitted(opened, other))


def test_an_answer_that_no_configuration_has_is_told() -> None:
    app = upload(card(preset="resnet18", weights="random", size="64"), ("reid.pth", saved(small(classes=0))))
    other = next(text for text in app.selectbox(key="asked last_stride").options if text.startswith("1"))
    select(app, "asked last_stride", other)
    (words,) = said(app.error)
    assert words.startswith("No configuration has a last stage of stride 1, so reid.pth computes something else here")
    assert app.selectbox(key="asked last_stride").value == 2
    assert link(app)["weights"] == "upload"


def test_norms_that_may_be_others_are_opened_where_a_person_says_so() -> None:
    data = saved(small(norm="group"))
    app = upload(card(preset="resnet18"), ("mine.pt", data))
    assert "instance norm and batch norm of each batch" in " ".join(said(app.error))
    assert link(app) == preset("resnet18").to_query()
    click(app, "They are group norms")
    words = "Choose mine.pt again: it is read with Normalisation = group. Other files are read without."
    assert words in said(app.info)
    upload(app, ("mine.pt", data))
    assert not app.error
    assert link(app)["norm"] == "group"
    assert "Read with Normalisation = group." in page_text(app)
    assert not held(app).answers


def test_an_answer_is_of_one_file_and_can_be_withdrawn() -> None:
    """A file of the same name with other numbers is another one; what is answered stays until it is used."""
    data, other = (saved(small(seed, norm="group")) for seed in (1, 2))
    app = upload(card(preset="resnet18"), ("mine.pt", data))
    click(app, "They are group norms")
    upload(app, ("third.pt", saved(small())))
    assert link(app)["weights"] == "upload"
    assert "norm" not in link(app)
    assert any(words.startswith("Choose mine.pt again") for words in said(app.info))
    click(app, "Forget it")
    upload(app, ("mine.pt", other))
    assert "instance norm and batch norm of each batch" in " ".join(said(app.error))
    click(app, "They are group norms")
    click(app, "Withdraw the answer")
    assert not any("again" in words for words in said(app.info))
    upload(app, ("mine.pt", other))
    assert "instance norm and batch norm of each batch" in " ".join(said(app.error))


# -- on labelled images -------------------------------------------------------------------


def test_a_persons_own_network_is_measured_on_the_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the shipped ones are; where counting takes long it is asked for, and where a network overflows it is not offered."""
    monkeypatch.setattr(ablation, "AT_ONCE_MACS", 0)
    model = read_checkpoint(bundled_path("plain20"))[0]
    app = upload(card(preset="resnet18"), ("plain.pth", saved(model.state_dict())))
    select(app, "asked shortcut", "none")  # as residual with option A, which has the same tensors, it knows little
    assert "test images" not in page_text(app)
    click(app, "Count on 500 test images")
    inputs = normalised(labelled_images().images, FASHION_MNIST.preprocessing)
    right = int((model(inputs).argmax(1).numpy() == labelled_images().labels).sum())
    assert counted(app) == right > 400
    assert "Sneaker. Fashion-MNIST" in captions(app)  # a piece of clothing, which it knows
    look_at(app, off=("layer1.1",))
    assert f"The whole network is right on **{right} of 500**" in page_text(app)

    few = labelled_images()
    monkeypatch.setattr(ablation, "labelled_images", lambda: type(few)(few.images[:20], few.labels[:20]))
    app = click(tab(app, "Blocks off"), "Each one in turn")
    assert "Measured on the first 20 images of Fashion-MNIST's test set" in captions(app)
    assert [text.partition(" gets")[0] for text in texts(app) if "at the median with one block off" in text] == [
        "**Plain-20**"
    ]
    monkeypatch.setattr(ablation, "MAX_FORWARD_BYTES", 1)
    app = click(look_at(app, image="0002-trouser"), "Each one in turn")
    assert "for small networks only; here the class that the whole network names" in captions(app)


def test_images_that_a_network_does_not_know_are_not_counted() -> None:
    for given in ({"classes": 10}, {"classes": 5, "channels": 1}):
        app = upload(card(preset="resnet18"), ("mine.pth", saved(small(**given))))
        assert link(app)["weights"] == "upload"
        assert "test images" not in says(app)


# -- refusals -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cbam_resnet50", "lfs_pointer", "onnx"])
def test_a_file_that_is_refused_says_why_in_the_card(name: str) -> None:
    if name == "onnx":
        pytest.importorskip("onnx")
    case, app = ZOO[name], card(preset="resnet18")
    upload(app, (case.file, data_of(case)))
    (words,) = said(app.error)
    assert all(word in words for word in case.says)
    assert words.startswith(case.file)
    assert words.endswith("The network is unchanged.")
    assert held(app).checkpoint is None


# -- several files ------------------------------------------------------------------------


def shards(state: dict[str, torch.Tensor]) -> dict[str, bytes]:
    """An index and two files, each with every other tensor."""
    parts = {f"model-0000{number}-of-00002.safetensors": number for number in (1, 2)}
    named = {file: dict(list(state.items())[number - 1 :: 2]) for file, number in parts.items()}
    index = {"metadata": {}, "weight_map": {name: file for file, own in named.items() for name in own}}
    files = {file: safetensors.torch.save(own, {"format": "pt"}) for file, own in named.items()}
    return {"model.safetensors.index.json": json.dumps(index).encode(), **files}


def test_shards_are_one_file() -> None:
    state = small()
    name, data = join(shards(state))
    assert name == "model.safetensors"
    opened = open_checkpoint(data, name)
    assert all(torch.equal(opened.state_dict[name], tensor) for name, tensor in state.items())
    app = upload(card(preset="resnet18"), *shards(state).items())
    assert "model.safetensors" in page_text(app)
    assert link(app)["weights"] == "upload"


def test_a_missing_shard_is_named() -> None:
    files = shards(small())
    del files["model-00002-of-00002.safetensors"]
    app = upload(card(preset="resnet18"), *files.items())
    assert said(app.error) == [
        "model.safetensors.index.json needs model-00002-of-00002.safetensors, which was not chosen with it: choose the "
        "index and all of its shards together. The network is unchanged."
    ]


LONG = (MAX_HEADER_BYTES + 2).to_bytes(8, "little") + b"{}".ljust(MAX_HEADER_BYTES + 2)
"""A shard whose list of tensors is longer than any has to be."""

OFFSETS = b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [%d, %d]}}' % (2**70, 2**70 + 4)
FAR = len(OFFSETS).to_bytes(8, "little") + OFFSETS + bytes(4)
"""A shard whose numbers lie where no file has any."""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.safetensors.index.json": b"[" * 100_000}, "is no index of shards"),
        ({"model.safetensors.index.json": b'{"weight_map": {}}'}, "names no shards"),
        ({"model-00001-of-00002.safetensors": b"\xff" * 100}, "is no safetensors file, or damaged"),
        ({"model-00001-of-00002.safetensors": b""}, "is no safetensors file, or damaged"),
        ({"model-00001-of-00002.safetensors": LONG}, "is no safetensors file, or damaged"),
        ({"model-00001-of-00002.safetensors": b"\x08" + bytes(7) + b'{"a": 1}'}, "its list of tensors is none"),
        ({"model-00001-of-00002.safetensors": FAR}, "its list of tensors is none"),
        ({"other.index.json": b""}, "4 files were chosen"),
    ],
)
def test_shards_that_are_none_are_refused(changes: dict[str, bytes], words: str) -> None:
    with pytest.raises(WeightsError, match=words) as caught:
        join(shards(small()) | changes)
    assert str(caught.value).endswith(".")


def test_the_lists_of_all_shards_have_one_bound() -> None:
    """Two that are accepted alone are too long together."""
    half = (b"{}".ljust(MAX_HEADER_BYTES // 2 + 1),) * 2
    files = {name: len(header).to_bytes(8, "little") + header for name, header in zip("ab", half, strict=True)}
    index = {"x.safetensors.index.json": json.dumps({"weight_map": {"1": "a", "2": "b"}}).encode()}
    with pytest.raises(WeightsError, match="b is no safetensors file, or damaged"):
        join(index | files)
    assert join(index | {"a": files["a"], "b": (2).to_bytes(8, "little") + b"{}"})


def test_two_checkpoints_at_once_are_refused() -> None:
    data = saved(small())
    with pytest.raises(WeightsError, match=r"2 files were chosen \(a.pt, b.pt\), with no index among them"):
        join({"a.pt": data, "b.pt": data})
    assert join({"a.pt": data}) == ("a.pt", data)


def test_files_that_are_not_whole_or_not_told_apart_are_refused() -> None:
    (_, *parts) = shards(small()).items()
    for files, words in (
        (parts[:1], "model-00001-of-00002.safetensors is one of several shards: choose the index"),
        (
            parts,
            "2 files were chosen (model-00001-of-00002.safetensors, model-00002-of-00002.safetensors), with no index",
        ),
        ([("m.pt", saved(small(seed))) for seed in (1, 2)], "2 files were chosen, of which several are called m.pt"),
    ):
        app = upload(card(preset="resnet18", weights="random", size="64"), *files)
        (said_of_it,) = said(app.error)
        assert said_of_it.startswith(words)
        assert link(app)["weights"] == "random"
        assert held(app).checkpoint is None


def test_a_shard_that_lies_about_its_numbers_is_refused() -> None:
    """The lists are put together, and what they say is judged as that of any file."""
    header = json.dumps({"conv1.weight": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4 * 10**9]}}).encode()
    lying = len(header).to_bytes(8, "little") + header
    index = json.dumps({"weight_map": {"conv1.weight": "a"}}).encode()
    name, data = join({"x.safetensors.index.json": index, "a": lying})
    with pytest.raises(WeightsError):
        open_checkpoint(data, name)


# -- in a browser -------------------------------------------------------------------------


@pytest.mark.browser
def test_a_backbone_is_uploaded_by_any_name(visit: Visitor) -> None:
    """No list of endings stands in the way; what is left out and what is asked is read in the card."""
    page = visit.open("/inference?preset=resnet20_fashion").page
    visit.weights_card()
    detector = under("backbone.body.", small(classes=0)) | {"roi_heads.box_head.fc6.weight": torch.zeros(4, 4)}
    uploader = page.locator(".st-key-own-checkpoint input[type=file]")
    assert uploader.get_attribute("accept") is None
    for name, mime in (("x.pth.tar", "application/x-tar"), ("model_final", "")):
        uploader.set_input_files({"name": name, "mimeType": mime, "buffer": saved({"model": detector})})
        card = page.locator(".st-key-own-checkpoint")
        card.get_by_text(f"{name}: ").wait_for()
        visit.wait()
        assert "roi_heads left out." in card.inner_text()
        assert "No classifier" in visit.verdict().inner_text()
        assert "%" not in visit.verdict().inner_text()
        page.keyboard.press("Escape")
        assert page.locator(".st-key-activations .tiles button").count() == 16
    card.get_by_text("Stem pool max").wait_for()
    card.get_by_role("button", name="Change").click()
    page.get_by_test_id("stPopoverBody").get_by_role("combobox", name="Stem pool").wait_for()
    page.keyboard.press("Escape")
    uploader.set_input_files(
        {"name": "x.onnx", "mimeType": "", "buffer": b"version https://git-lfs.github.com/spec/v1"}
    )
    card.get_by_test_id("stAlert").filter(has_text="Git LFS").wait_for()
    assert visit.fits()
    assert not visit.errors
