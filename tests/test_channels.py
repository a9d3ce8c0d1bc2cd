"""What a channel stands for: peaks, extremes and classes counted by hand, the file that ships, and the tab."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from playwright.sync_api import expect
from streamlit.testing.v1 import AppTest
from torch import nn

from explorer.analysis.trace import trace
from explorer.cli import main
from explorer.experiments import channels as shipped
from explorer.experiments.channels import CHANNELS, STRONGEST, gallery, shipped_channels
from explorer.experiments.shipped import labelled_inputs, shipped_network
from explorer.inference import archives, attribution, channels
from explorer.inference.channels import KEPT, Peaks
from explorer.inference.images import ImageError, open_image
from explorer.inference.predict import activation
from explorer.inference.preprocess import normalised, prepare
from explorer.inference.samples import labelled_images
from explorer.views.inference import channels as view
from explorer.views.inference.channels import measured_silence
from helpers import (
    CPU,
    Visitor,
    captions,
    click,
    frozen,
    held,
    link,
    look_at,
    narrow,
    opened,
    outputs_of,
    own_checkpoint,
    page_text,
    run,
    said,
)
from resnet import ResNetConfig
from resnet.shipped import BUNDLED
from resnet.weights import FASHION_MNIST, bundled, bundled_path, load, random_weights, read_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


# -- measuring ----------------------------------------------------------------------------


@settings(max_examples=6, deadline=None)
@given(narrow(), st.integers(0, 99))
def test_peaks_are_those_of_the_maps(config: ResNetConfig, seed: int) -> None:
    network, side = frozen(config), 32
    layers = [layer.name for layer in channels.places(trace(config, side)).values()]
    images = torch.randn(3, config.in_channels, side, side, generator=torch.Generator().manual_seed(seed))
    found = channels.peaks(network, images, layers, CPU)
    assert list(found) == layers
    for name, output in outputs_of(network, images, layers).items():
        for image, channel in ((0, 0), (2, output.shape[1] - 1)):
            one = output[image, channel].numpy().ravel()
            assert found[name].values[image, channel] == one.max()
            assert found[name].units[image, channel] == min(np.flatnonzero(one == one.max()))
            assert found[name].means[image, channel] == pytest.approx(sum(max(x, 0) for x in one.tolist()) / one.size)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 9), st.booleans())
def test_extremes_are_sorted_and_the_first_of_equals(count: int, more: int, seed: int, lowest: bool) -> None:
    """Of two sets together as of each and then both; few values, so that many are equal."""
    values = np.random.default_rng(seed).integers(0, 4, (count + more, 2)).astype(float)
    whole = Peaks(values, np.arange(2 * len(values)).reshape(-1, 2), values)
    found = channels.extremes(whole, lowest=lowest)
    for channel in range(2):
        order = sorted(range(len(values)), key=lambda n: ((1 if lowest else -1) * values[n, channel], n))
        expected = order[:KEPT]
        assert found.images[channel].tolist() == expected
        assert found.values[channel].tolist() == values[expected, channel].tolist()
        assert found.units[channel].tolist() == whole.units[expected, channel].tolist()
    if more:
        halves = (Peaks(*(each[part] for each in whole)) for part in (slice(count), slice(count, None)))
        first, second = (channels.extremes(half, start, lowest) for half, start in zip(halves, (0, count), strict=True))
        assert all(map(np.array_equal, channels.joined(first, second, lowest), found))


def test_classes_are_counted_and_selectivity_is_that_of_the_paper() -> None:
    draw = np.random.default_rng(0)
    values, means, labels = draw.normal(size=(60, 3)), draw.random((60, 3)), draw.permutation(np.arange(60) % 4)
    found = channels.by_class(Peaks(values, values, means), labels, 4, 10)
    strongest = sorted(range(60), key=lambda n: -values[n, 1])[:10]
    for kind in range(4):
        assert found.strongest[1, kind] == sum(labels[n] == kind for n in strongest)
        assert found.means[1, kind] == pytest.approx(np.mean([means[n, 1] for n in range(60) if labels[n] == kind]))
    highest, *rest = sorted(found.means[1], reverse=True)
    expected = (highest - sum(rest) / 3) / (highest + sum(rest) / 3)
    assert channels.selectivity(found.means)[1] == pytest.approx(expected)
    assert channels.selectivity(np.array([[0, 5, 0.0], [2, 2, 2], [0, 0, 0]])).tolist() == [1, 0, 0]


def test_a_share_is_that_of_smaller_values() -> None:
    """Of few images too, of which many have the same: rounded down to hundredths."""
    for count in (1, 2, 7, 12, 99, 100, 101, 350, 500):
        values = np.random.default_rng(count).integers(0, count // 2 + 1, (count, 1)).astype(np.float32)
        quantiles = channels.quantiles(values)[0]
        for value in (-1.0, *np.unique(values), *(np.unique(values) + 0.5)):
            below = int((values < value).sum())
            assert channels.share_below(quantiles, value) == 100 * below // count / 100


@pytest.mark.parametrize("place", ["stem", "layer2.0"])
def test_a_channel_at_zero(place: str) -> None:
    """What comes after a place, on its output without a channel, is the network whose weights write zero into it."""
    network, (images, labels) = shipped_network("plain20"), labelled_inputs(40)
    layer = channels.places(trace(BUNDLED["plain20"], 28))[place].name
    before, after = channels.split_after(network, place)
    by_halves = after(channels.without(before(images), 5))
    hooked = channels.without_channel(network, layer, 5)
    assert torch.equal(hooked(images), by_halves)
    assert not torch.equal(network(images), by_halves)
    silent = shipped_network("plain20")
    norm = silent.get_submodule("bn1" if place == "stem" else f"{place}.bn2")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.weight[5] = norm.bias[5] = 0
    assert torch.allclose(silent(images), by_halves, atol=1e-5)
    right = channels.right_by_class(by_halves, labels.numpy(), 10)
    best = by_halves.argmax(1).tolist()
    assert right.tolist() == [
        sum(a == b == kind for a, b in zip(best, labels.tolist(), strict=True)) for kind in range(10)
    ]


def test_what_a_class_loses_is_counted_on_all_test_images() -> None:
    weights = bundled(BUNDLED["resnet20"])[0]
    moves: list[float] = []
    found = measured_silence(weights, "layer3.2", 0, CPU, moves.append)
    images, labels = labelled_inputs(500)
    network = shipped_network("resnet20")
    network.fc.weight[:, 0] = 0  # what reads the channel after pooling
    for counted, model in ((found.whole, shipped_network("resnet20")), (found.right, network)):
        scores = torch.cat([model(batch) for batch in images.split(250)])
        assert counted.tolist() == labels[scores.argmax(1) == labels].bincount(minlength=10).tolist()
    assert found.counts.tolist() == labels.bincount(minlength=10).tolist()
    assert moves[-1] == 1


def test_slices_of_a_grouped_kernel_name_the_channels_that_they_read() -> None:
    """What a kernel makes of a channel that is alone at one, in the middle of nothing, adds up to its slice."""
    network = frozen(ResNetConfig(layers=(1, 1), planes=(8, 16), groups=2, base_width=64, num_classes=7))
    module = network.get_submodule("layer2.0.conv2")
    assert isinstance(module, nn.Conv2d)
    channel = module.out_channels - 1
    found = attribution.slices(network, "layer2.0.conv2", channel)
    for one in (0, len(found.values) - 1):
        image = torch.zeros(1, module.in_channels, 9, 9)
        image[0, found.first + one] = 1
        seen = F.conv2d(image, module.weight, groups=module.groups)[0, channel, 3, 3]
        assert float(seen) == pytest.approx(float(found.values[one].sum()), rel=1e-4)
    assert (np.diff(np.linalg.norm(found.values[found.order], axis=(1, 2))) <= 0).all()


# -- the file -----------------------------------------------------------------------------


def test_everything_that_ships_is_in_it() -> None:
    assert CHANNELS.stat().st_size < 6e6
    for name, config in BUNDLED.items():
        places, found = channels.places(trace(config, 28)), shipped_channels(name)
        assert list(found) == list(places)
        for place, layer in places.items():
            one, count = found[place], layer.out_shape[0]
            assert one.responses.best.images.shape == one.responses.least.images.shape == (count, KEPT)
            assert (one.by_class.strongest.sum(1) == STRONGEST).all()
            assert one.responses.quantiles[:, -1] == pytest.approx(one.responses.best.values[:, 0], rel=1e-3)
            assert one.silence.right.shape == (count, 10)
            assert one.responses.quantiles[:, 0] == pytest.approx(one.responses.least.values[:, 0], rel=1e-3, abs=1e-6)


def test_its_images_are_those_of_the_test_set() -> None:
    found = gallery()
    known = found.numbers[found.numbers < 500]
    assert np.array_equal(found.images[: len(known)], labelled_images().images[known])
    assert np.array_equal(found.labels[: len(known)], labelled_images().labels[known])
    assert found.place(int(found.numbers[-1])) == len(found.numbers) - 1


@pytest.mark.parametrize(("name", "place"), [("resnet20", "layer2.0"), ("plain56", "layer3.8")])
def test_a_part_of_it_comes_out_again(name: str, place: str) -> None:
    """The images of a few channels excite them as the file says, and none of the first test images does so more."""
    network, images, kept = shipped_network(name), gallery(), shipped_channels(name)[place].responses
    layer = channels.places(trace(BUNDLED[name], 28))[place].name
    for channel in (3, 31):
        for end in (kept.best, kept.least):
            rows = [images.place(int(number)) for number in end.images[channel]]
            inputs = normalised(images.images[rows], FASHION_MNIST.preprocessing)
            found = channels.peaks(network, inputs, [layer], CPU)[layer]
            assert found.values[:, channel] == pytest.approx(end.values[channel], rel=1e-3, abs=1e-5)
            assert found.units[:, channel].tolist() == end.units[channel].tolist()
    values = channels.peaks(network, labelled_inputs(200)[0], [layer], CPU)[layer].values
    others = np.array([[n not in of for of in kept.best.images] for n in range(200)])
    assert (values <= kept.best.values[:, -1] * 1.001 + 1e-5)[others].all()
    assert (values >= kept.least.values[:, 0] * 0.999 - 1e-5).all()


@pytest.mark.parametrize(("name", "place", "channel"), [("resnet20", "layer2.0", 31), ("plain56", "layer3.7", 3)])
def test_what_it_says_of_a_channel_at_zero_comes_out_again(name: str, place: str, channel: int) -> None:
    """One of a channel by its number, and one of that without which the network is worst."""
    network, (images, labels) = shipped_network(name), labelled_inputs(500)
    kept = shipped_channels(name)[place].silence
    assert kept.counts.tolist() == labels.bincount(minlength=10).tolist()
    layer = channels.places(trace(BUNDLED[name], 28))[place].name
    worst = int(kept.right.sum(1).argmin())
    without = {one: channels.without_channel(network, layer, one) for one in (channel, worst)}
    expected = {one: kept.right[one] for one in without}
    for found, model in ((kept.whole, network), *((expected[one], without[one]) for one in without)):
        best = torch.cat([model(batch) for batch in images.split(100)]).argmax(1)
        right = labels[best == labels].bincount(minlength=10).numpy()
        assert abs(found - right).max() <= 1  # where two scores are nearly equal, another processor may turn them


def test_the_command_writes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = labelled_inputs(120)
    folders: list[Path | None] = []

    def fashion_mnist(folder: Path | None, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
        folders.append(folder)
        assert not train
        return images, labels

    monkeypatch.setattr(shipped, "fashion_mnist", fashion_mnist)
    monkeypatch.setattr(shipped, "BUNDLED", {"resnet20": BUNDLED["resnet20"]})
    monkeypatch.setattr(shipped, "labelled_inputs", lambda count: labelled_inputs(count // 100))
    monkeypatch.chdir(tmp_path)
    assert main(["channels", "--data", "somewhere"]) == 0
    assert folders == [Path("somewhere")]
    with np.load(tmp_path / "channels.npz") as file:
        assert str(file["command"]) == shipped.COMMAND
        assert str(file["torch"]) == torch.__version__
        assert np.array_equal(file["images"], labelled_images().images[file["numbers"]])
        first = file["resnet20 best images"][0]
        assert file["resnet20 right"].shape == (16 + 3 * (16 + 32 + 64), 10)
        assert file["resnet20 counts"].tolist() == labels[:5].bincount(minlength=10).tolist()
    layer = channels.places(trace(BUNDLED["resnet20"], 28))["stem"].name
    values = channels.peaks(shipped_network("resnet20"), images, [layer], CPU)[layer].values[:, 0]
    assert first.tolist() == sorted(range(120), key=lambda n: (-values[n], n))[:KEPT]


def test_a_set_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["channels", "--data", str(tmp_path / "nowhere"), "--output", str(tmp_path / "x.npz")]) == 2
    assert "nowhere" in capsys.readouterr().err


# -- the tab ------------------------------------------------------------------------------

QUERY = {"preset": "resnet20_fashion", "tab": "Channel"}


def excited(app: AppTest) -> list[list[str]]:
    """The words for the images that excite the channel most, and least."""
    bodies = [html.proto.body for html in app.get("html") if 'class="excited"' in html.proto.body]
    return [re.findall('<figure title="(.*?)">', body) for body in bodies]


def test_the_tab_shows_what_excites_a_channel() -> None:
    app = opened("inference", at="layer2.0", channel="31", **QUERY)
    most, least = excited(app)
    answers, images = shipped_channels("resnet20")["layer2.0"].responses, gallery()
    for shown, end in ((most, answers.best), (least, answers.least)):
        numbers = [int(re.match(r"Test image (\d+), ", words)[1]) for words in shown]  # type: ignore[index]
        assert numbers == end.images[31].tolist()
        names = [FASHION_MNIST.categories[images.labels[images.place(number)]] for number in numbers]
        assert [words.split(", ")[1] for words in shown] == names
    assert "Borowski 2021" in captions(app)
    assert not app.error
    assert link(app)["channel"] == "31"
    click(app, "Previous")
    assert link(app)["channel"] == "30"
    assert excited(app)[0] != most


def test_a_channel_that_nothing_excites_is_said_to_be_one() -> None:
    """Its images and classes would be those that come first in the set."""
    (place, channel), *_ = (
        (place, int(channel))
        for place, one in shipped_channels("plain56").items()
        for channel in np.flatnonzero(one.responses.quantiles[:, -1] == 0)
    )
    app = opened("inference", at=place, channel=str(channel), **QUERY | {"preset": "plain56_fashion"})
    assert not excited(app)
    assert "No test image excites it**: the largest value of its map is 0 on all 10,000." in page_text(app)
    assert "no class excites it" in str([html.proto.body for html in app.get("html")])


def test_the_list_goes_by_selectivity() -> None:
    app = opened("inference", at="layer3.2", channel="0", **QUERY)
    means = shipped_channels("resnet20")["layer3.2"].by_class.means.astype(float)
    words = app.get_by_key("listed channel").options  # type: ignore[union-attr]
    values = [float(one.rpartition(" ")[2]) for one in words]
    assert values == sorted(values, reverse=True)
    best = int(re.match(r"Channel (\d+)", words[0])[1])  # type: ignore[index]
    assert best == int(channels.selectivity(means).argmax())


def silence_chart(app: AppTest) -> tuple[list[float], list[list[float]]]:
    """The changes of the classes with the channel at zero, and the shares of right ones before and after, as drawn."""
    (figure,) = (
        figure
        for chart in app.get("plotly_chart")
        if "at zero" in (figure := json.loads(chart.proto.spec))["layout"]["title"]["text"]
    )
    (bars,) = figure["data"]
    return drawn(bars["x"]), drawn(bars["customdata"])


def drawn(values: Any) -> Any:
    """Numbers of a figure's JSON, whose arrays are bytes."""
    if isinstance(values, list):
        return values
    return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist()


def test_what_each_class_loses_is_read_from_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """For weights that ship nothing is counted; the same tensors as a person's own are counted live, with the same result."""
    ours = read_checkpoint(bundled_path("resnet20"))[0].state_dict()
    own = look_at(own_checkpoint(ours, preset="resnet20_fashion"), tab="Channel", at="layer3.1", channel=5)
    words = "the share of the first 500 test images, about 50 a class, that the whole network gets right"
    assert f"With all blocks on, {words}" in captions(own)
    assert not excited(own)
    live = silence_chart(own)

    monkeypatch.setattr(view, "measured_silence", None)
    app = opened("inference", at="layer3.1", channel="5", **QUERY)
    assert f"Right: {words}" in captions(app)
    assert not app.error
    kept = shipped_channels("resnet20")["layer3.1"].silence
    before, after = kept.whole / kept.counts, kept.right[5] / kept.counts
    assert silence_chart(app) == ((after - before).tolist(), list(map(list, zip(before, after, strict=True))))
    assert silence_chart(app)[0] == pytest.approx(live[0], abs=0.021)


def test_a_layer_inside_a_block_opens_its_output() -> None:
    app = opened("inference", at="layer2.0.conv1", channel="31", **QUERY)
    assert len(excited(app)[0]) == KEPT
    assert "`layer2.0.conv1` is inside" in captions(app)
    assert len(excited(look_at(app, at="fc"))[0]) == KEPT


def zeroed(app: AppTest) -> str:
    """What is said of this image with the channel at zero."""
    (body,) = (html.proto.body for html in app.get("html") if "With it at zero" in html.proto.body)
    return re.sub("<.*?>", "", body.partition("With it at zero")[2].partition("</dd>")[0])


def test_a_channel_that_nothing_reads_is_said_to_be_one() -> None:
    """A plain block that is off hands on its input, a residual one its shortcut; and a channel can be off itself."""
    plain = QUERY | {"preset": "plain20_fashion"}
    words = zeroed(opened("inference", at="layer2.1", channel="5", off="layer2.1", **plain))
    assert words == "no change: layer2.1 is off and hands on its input, so nothing reads what its layers put out"
    assert "→" in zeroed(opened("inference", at="layer2.0", channel="5", off="layer2.1", **plain))
    assert "→" in zeroed(opened("inference", at="layer2.1", channel="5", off="layer2.1", **QUERY))
    words = zeroed(opened("inference", at="layer2.1", channel="5", off="layer2.1:5", **QUERY))
    assert words == "no change: the channel is off"


def test_a_channel_that_is_not_there_is_said() -> None:
    app = opened("inference", at="layer2.0", channel="32", **QUERY)
    assert said(app.warning) == ["channel = 32 is not accepted: 0 to 31 in this layer. The strongest is shown instead."]
    assert len(excited(app)[0]) == KEPT


# -- images that a person brings ----------------------------------------------------------

OWN = {"preset": "resnet20", "layers": "1-1", "planes": "8-16", "weights": "random", "size": "32", "tab": "Channel"}


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def broken(method: int) -> bytes:
    """An archive whose directory is whole, and whose one file is not."""
    data = bytearray(zipped({"a.png": png(0)}, method))
    data[200:300] = bytes(255 - byte for byte in data[200:300])
    return bytes(data)


def bring(app: AppTest, *files: tuple[str, bytes]) -> AppTest:
    uploader = app.file_uploader(key=f"image set {held(app).image_set_widget}")
    uploader.set_value([(name, data, "application/octet-stream") for name, data in files])
    return run(app)


def test_ones_own_images_are_ranked_for_weights_that_do_not_ship() -> None:
    """As files and in an archive, among which one cannot be opened; the ranks are those of passes one by one."""
    app = opened("inference", at="layer2.0", channel="3", **OWN)
    assert not excited(app)
    archive = {f"folder/{number}.png": png(number) for number in range(11)} | {
        "__MACOSX/._0.png": b"",
        "notes.txt": b"no",
    }
    app = click(bring(app, ("first.png", png(99)), ("all.zip", zipped(archive))), "Run the network on 13 images")
    (problem,) = said(app.warning)
    assert problem.startswith("notes.txt: The file cannot be read as an image")
    weights = random_weights(app.session_state["view"].config, (32, 32))
    names = ["first.png", *(name for name in archive if name.startswith("folder"))]
    network, strength = load(weights), {}
    for name, data in zip(names, [png(99), *map(png, range(11))], strict=True):
        prepared = prepare(open_image(data), weights.data.preprocessing)
        strength[name] = float(activation(network, prepared.tensor, "layer2.0.act", CPU)[3].max())
    order = sorted(names, key=lambda name: -strength[name])
    most, least = ([words.rpartition(", ")[0] for words in part] for part in excited(app))
    assert most == order[:KEPT]
    assert least == order[::-1][:KEPT]
    assert "Of 12 images." in captions(app)
    click(app, "Remove them")
    assert held(app).image_set is None
    assert not excited(app)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"bad.zip": b"PK\x03\x04 and then nothing"}, "bad.zip is damaged or packed in an unusual way"),
        ({"none.zip": zipped({})}, "none.zip holds no files"),
        ({"lzma.zip": broken(zipfile.ZIP_LZMA)}, "lzma.zip is damaged or packed in an unusual way"),
        (
            {"bomb.zip": zipped({"a.png": bytes(21 * 2**20)})},
            "bomb.zip holds a file of 21.0 MiB: images of at most 20 MiB",
        ),
        (
            {"bomb.zip": zipped({f"{n}.png": bytes(19 * 2**20) for n in range(7)})},
            "bomb.zip has 133 MiB unpacked: at most 128 MiB are accepted.",
        ),
    ],
    ids=["damaged", "empty", "damaged inside", "large", "bomb"],
)
def test_an_archive_that_is_not_accepted_is_said(files: Mapping[str, bytes], sentence: str) -> None:
    ((name, data),) = files.items()
    with pytest.raises(ImageError) as caught:
        archives.unpack(name, data)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_what_was_wrong_with_files_is_said_on_the_page() -> None:
    app = bring(opened("inference", **OWN), ("none.zip", zipped({})))
    (words,) = said(app.error)
    assert words.startswith("none.zip holds no files")
    assert held(app).image_set is None


@pytest.mark.parametrize("packed", [False, True], ids=["files", "archive"])
def test_of_more_images_than_fit_the_first_are_taken(packed: bool) -> None:
    """As files, and in archives, of which one alone holds too many: one sentence says so."""
    files = {f"{number}.png": b"x" for number in range(502)}
    brought = [("all.zip", zipped(files)), ("more.zip", zipped({"z.png": b"x"}))] if packed else list(files.items())
    app = bring(opened("inference", **OWN), *brought)
    found = held(app).image_set
    assert found
    assert [name for name, _ in found.files] == list(files)[:500]
    count = 503 if packed else 502
    assert said(app.error) == [f"{count} images were brought, as files or in archives: the first 500 are used."]


def test_the_same_images_by_other_names_are_another_set() -> None:
    """Results are shared by their key, and show the names."""
    sets = [held(bring(opened("inference", **OWN), (name, png(0)))).image_set for name in ("mine.png", "yours.png")]
    assert len({one.digest for one in sets if one}) == 2


def test_an_encrypted_archive_is_not_opened() -> None:
    data = bytearray(zipped({"a.png": png(0)}, zipfile.ZIP_STORED))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    with pytest.raises(ImageError, match=r"^locked\.zip is encrypted: an archive without a password is accepted\.$"):
        archives.unpack("locked.zip", bytes(data))


# -- in a browser -------------------------------------------------------------------------


@pytest.mark.browser
def test_a_person_opens_a_channel(visit: Visitor) -> None:
    """Channel 31 of layer2.0 and its nine best images; the next one by a click; the link opens on it."""
    page = visit.open("/inference?preset=resnet20_fashion&tab=Channel&at=layer2.0&channel=31").page
    best = page.locator(".excited").first
    expect(best.locator("figure")).to_have_count(KEPT)
    assert best.locator("img").evaluate_all("all => all.every(one => one.naturalWidth > 0)")
    expect(best.locator("figcaption").first).to_contain_text("Bag")
    page.get_by_role("button", name="Previous").click()
    visit.wait()
    expect(page.get_by_role("heading", name="Channel 30 of layer2.0")).to_be_visible()
    assert "channel=30" in page.url
    assert visit.fits()
