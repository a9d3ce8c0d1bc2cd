"""Files that are made when they are asked for: what comes, and for how long a server holds it."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from unittest.mock import MagicMock
from urllib.parse import urlencode

import jsonschema
import numpy as np
import pandas
import pytest
from playwright.sync_api import expect
from streamlit.runtime import Runtime
from streamlit.runtime.media_file_manager import MediaFileManager
from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage

from explorer.analysis.trace import trace
from explorer.drawing import dot, network
from explorer.experiments.degradation import shipped_runs
from explorer.experiments.landscape import PAIR
from explorer.export import drawings
from explorer.inference.predict import activation
from explorer.inference.preprocess import prepare
from explorer.link import View, origin, parse_network
from explorer.sharing.holdings import NoRoomError
from explorer.views import cached, components, take
from explorer.views.architecture import others
from explorer.views.inference import images
from helpers import closed, looked, opened, tab, turned_to
from resnet import preset
from resnet.presets import PRESETS
from resnet.weights import BUNDLED, bundled, load


@pytest.mark.browser
def test_the_numbers_behind_an_image(visit) -> None:
    """What a browser gets, twice from one button, is the layer's output."""
    visit.open(
        "/inference?" + urlencode({"preset": "resnet20_fashion", "at": "layer2.0.conv1", "image": "0000-ankle-boot"})
    )
    weights = bundled(BUNDLED["resnet20"])[0]
    chosen = images.from_sample(next(sample for sample in images.samples() if sample.name == "0000-ankle-boot"))
    seen = chosen.apply(lambda image: prepare(image, weights.data.preprocessing))
    expected = activation(load(weights), seen.tensor, "layer2.0.conv1", cached.cached_devices()[0])
    for _ in range(2):
        with visit.page.expect_download() as download:
            visit.page.get_by_role("button", name="NPZ").click()
        with open(download.value.path(), "rb") as file, np.load(io.BytesIO(file.read())) as arrays:
            np.testing.assert_allclose(arrays["activation"], expected, atol=1e-4)
    expect(visit.page.get_by_role("button", name="NPZ")).to_be_enabled()


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> MediaFileManager:
    """What a server serves."""
    files = MediaFileManager(MemoryMediaFileStorage("/media"))
    monkeypatch.setattr(Runtime, "_instance", MagicMock(spec=Runtime, media_file_mgr=files))
    return files


def test_a_file_waits_for_its_browser_and_is_let_go(files: MediaFileManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """While other people's scripts end; then nothing of it is held, though nobody's does."""
    later: list[Callable[[], None]] = []

    def timer(seconds: float, function: Callable[[], None]) -> MagicMock:
        later.append(function)
        return MagicMock()

    monkeypatch.setattr(threading, "Timer", timer)
    session = MagicMock(session_id="a session")
    storage = files._storage._files_by_id  # type: ignore[attr-defined]
    file = files.add_deferred(lambda: made(session), "text/plain", "1.2", "numbers.txt")
    address = files.execute_deferred(file)
    for _ in range(4):
        files.remove_orphaned_files()
    (one,) = storage.values()
    assert one.content == b"numbers" * 1000
    assert next(iter(storage)) in address
    later[0]()
    assert sum(len(one.content) for one in storage.values()) == 0


def made(session: MagicMock) -> bytes:
    data = b"numbers" * 1000
    components.hand_out(data, "numbers.txt", "text/plain", session)
    return data


def test_a_pages_files_are_made_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """And are the table, the graph and the drawing."""
    makes: dict[str, Callable[[], bytes]] = {}

    def recorded(label: str, make: Callable[[], bytes], name: str, kind: str, words: str) -> None:
        makes[label] = make
        download(label, make, name, kind, words)

    download = components.download
    for module in (take, others):
        monkeypatch.setattr(module, "download", recorded)
    app = opened(preset="resnet18")
    app.session_state["take layer table"] = True  # the button below it is clicked
    for name in ("Layers", "graphviz"):
        buttons = tab(app, name).get("download_button")
        assert buttons
        assert all(button.proto.deferred_file_id and not button.proto.url for button in buttons)
    shown = trace(preset("resnet18"), 224)
    rows = makes["CSV"]().decode().splitlines()
    assert len(rows) == len(shown.layers) + 1
    assert shown.layers[0].name in rows[1]
    for form in ("JSON", "Markdown", "LaTeX"):
        text = makes[form]().decode()
        assert shown.layers[-1].name in text
        link = re.search(r"\?\w+=[\w=&%.+-]+", text)
        assert link
        assert parse_network(link[0]).config == preset("resnet18")
    assert makes["Download DOT"]().decode() == dot.graph(shown).source
    says = origin(View(preset("resnet18"), tab="graphviz"))
    assert makes["Download overview as SVG"]().decode() == drawings.svg(network.overview(shown), says)


# -- tables -------------------------------------------------------------------------------


def taken(key: str, page: str, query: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> pandas.DataFrame:
    """The CSV that a page offers below a table whose button is clicked, checked against the other forms."""
    makes: dict[str, Callable[[], bytes]] = {}
    monkeypatch.setattr(take, "download", lambda label, make, *_: makes.setdefault(label, make))
    app = closed(**query)
    app.session_state[f"take {key}"] = True
    turned_to(app, page)
    frame = pandas.read_csv(io.BytesIO(makes["CSV"]()))
    whole = json.loads(makes["JSON"]())
    jsonschema.validate(whole, whole["schema"])
    columns = [*whole["rows"][0]]
    assert [*frame.columns] == [name for name in columns if name != "link"] + ["link"]
    assert len(frame) == len(whole["rows"])
    assert parse_network(whole["link"]).config == app.session_state["view"].config
    if "link" not in columns:
        assert set(frame["link"]) == {whole["link"]}
    return frame


def test_what_takes_memory_is_taken_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"preset": "resnet18", "tab": "Memory"}
    frame = taken("memory at the peak", "architecture", asked, monkeypatch)
    terms, total = frame.iloc[:-1], frame.iloc[-1]
    for name in ("Prediction, bytes", "Training, bytes"):
        assert terms[name].sum() == total[name]
    assert frame["Prediction, bytes"][0] == 4 * 11_689_512
    batches = taken("largest batch", "architecture", asked, monkeypatch)["Training"].tolist()
    assert batches == sorted(batches)


def test_each_row_of_the_table_of_networks_opens_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = taken("networks", "choose", {"preset": "resnet34", "size": "96x64"}, monkeypatch)
    named = frame[frame["Network"].isin(PRESETS)]
    assert len(named) == len(PRESETS)
    for name, text in zip(named["Network"], named["link"], strict=True):
        assert parse_network(text).config == preset(name)
    own = parse_network(named.set_index("Network")["link"]["resnet101"])
    assert own == View(preset("resnet101"), (96, 64))
    assert trace(own.config, own.image_size).macs == named.set_index("Network")["MACs"]["resnet101"]


def test_each_network_of_a_comparison_and_each_published_result_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"with": "resnet18,resnet34"}
    figures = taken("figures", "choose", asked, monkeypatch)
    assert [parse_network(text) for text in figures["link"]] == [
        View(preset(name)) for name in ("resnet50", "resnet18", "resnet34")
    ]
    results = taken("published results", "choose", asked, monkeypatch).dropna(subset="Weights")
    assert [parse_network(text).weights for text in results["link"]] == results["Weights"].tolist()
    assert "resnet50.a1_in1k" in set(results["Weights"])


def test_the_papers_table_is_taken_with_our_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = taken("table 1", "start", {}, monkeypatch).set_index("layer")
    assert frame.loc["conv4_x", "101-layer"] == "1×1, 256; 3×3, 256; 1×1, 1024 ×23"
    assert frame["18-layer"].tolist()[-1] == "11689512"


def test_a_sum_is_taken_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"preset": "resnet20_fashion", "image": "0000-ankle-boot", "tab": "One number"}
    frame = taken("sums", "inference", asked, monkeypatch)
    np.testing.assert_allclose(frame["Sum of its terms"], frame["torch's value"], atol=1e-5)
    np.testing.assert_allclose(frame["Sum of its terms"] - frame["torch's value"], frame["Difference"], atol=1e-12)


def test_what_was_trained_is_taken_seed_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = max(shipped_runs().groups.items(), key=lambda group: group[0].steps)[1]
    frame = taken("shipped rows", "experiments", {"tab": "Degradation", "run": "1000"}, monkeypatch)
    assert len(frame) == sum(len(run.curves) for run in runs)
    assert {*frame["Seed"]} == {run.settings.seed for run in runs}
    surfaces = taken("landscape rows", "experiments", {"tab": "Loss landscape"}, monkeypatch)
    assert [parse_network(text).config for text in surfaces["link"]] == [
        BUNDLED[name] for name in PAIR for _ in range(3)
    ]


@pytest.mark.parametrize(
    ("key", "page", "query"),
    [
        ("depth numbers", "beside", {"tab": "By depth"}),
        ("symbols", "source", {}),
        ("Table 6 rows", "paper", {"find": "Table 6"}),
        ("sharpness rows", "experiments", {"tab": "Loss landscape"}),
        ("shift rows", "inference", {"preset": "resnet20_fashion", "image": "0000-ankle-boot", "tab": "What if"}),
    ],
)
def test_tables_of_words_and_numbers_are_taken(
    key: str, page: str, query: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(taken(key, page, query, monkeypatch)) > 1


Ask = Callable[[str, Callable[[], bytes]], bytes]


@pytest.fixture
def ask(files: MediaFileManager, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """A session's click on a button for a file."""
    buttons: list[Callable[[], bytes]] = []
    monkeypatch.setattr(components, "DESK", components.Desk())
    monkeypatch.setattr(threading, "Timer", MagicMock())
    monkeypatch.setattr(components.st, "download_button", lambda label, made, *_, **__: buttons.append(made))

    def click(session: str, make: Callable[[], bytes]) -> bytes:
        with monkeypatch.context() as patch:
            patch.setattr(components, "get_script_run_ctx", lambda: MagicMock(session_id=session))
            components.download("TXT", make, "name", "text/plain", "")
        return buttons[-1]()

    return click


def test_files_are_made_one_after_the_other_and_one_for_each_session(ask: Ask) -> None:
    begun, go, made = threading.Event(), threading.Event(), []

    def slowly() -> bytes:
        begun.set()
        assert go.wait(30)
        made.append("a")
        return b"slow"

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, "a", slowly)
        assert begun.wait(30)
        with pytest.raises(NoRoomError, match="being made already"):
            ask("a", lambda: pytest.fail("it is not made"))

        def make() -> bytes:
            made.append("b")
            return b"other"

        other = pool.submit(ask, "b", make)
        wait([other], timeout=0.3)
        assert not made
        go.set()
        assert (first.result(30), other.result(30)) == (b"slow", b"other")
    assert made == ["a", "b"]
    assert ask("a", lambda: b"again") == b"again"


def test_what_waits_to_be_fetched_is_bounded(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a session, and for all; there is room again when files are let go."""
    later: list[Callable[[], None]] = []
    monkeypatch.setattr(components, "LEAST_OUT", 100)
    monkeypatch.setattr(components, "OUT_OF_ONE", 200)
    monkeypatch.setattr(components, "OUT_OF_ALL", 500)
    monkeypatch.setattr(components, "tidy", lambda: None)

    def timer(seconds: float, function: Callable[[], None]) -> MagicMock:
        later.append(function)
        return MagicMock()

    monkeypatch.setattr(threading, "Timer", timer)

    def full(session: str) -> bool:
        try:
            ask(session, lambda: b"little")
        except NoRoomError:
            return True
        return False

    assert [full(session) for session in "aaa"] == [False, False, True]
    assert [full(session) for session in "bbcd"] == [False, False, False, True]
    for function in later:
        function()
    assert not components.DESK.out
    assert not full("a")


def test_what_is_too_large_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "MAX_DOWNLOAD_BYTES", 2**20)
    app = looked("Several images", preset="resnet20", layers="1", planes="4", size="256", weights="random", at="conv1")
    numbers = [button.proto for button in app.get("download_button") if button.proto.label == "NPZ"]
    assert [button.disabled for button in numbers] == [True, True]
    assert numbers[0].help.startswith("These numbers take ")
    assert "MiB, and downloads of at most 1 MiB are made." in numbers[0].help
