"""What a server holds in memory while people look at large images, and after they have left."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from explorer.bench.browser import ROOT
from explorer.inference.predict import KEPT_BYTES
from explorer.inference.preprocess import prepare
from explorer.sharing.footprint import memory_bytes
from explorer.sharing.store import RESULTS
from explorer.views.cached import device
from explorer.views.inference import images, running
from helpers import SCRIPT, looked, tab
from resnet.weights import BUNDLED, bundled

pytestmark = pytest.mark.usefixtures("one_thread")

TABS = ("Several images", "Maps", "Addition", "Receptive field", "Why this class", "Weights", "Blocks off")


@pytest.mark.usefixtures("nothing_loaded")
def test_what_is_kept_never_exceeds_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person goes through all tabs three times, with room for a fraction of what they look at; all of it works."""
    monkeypatch.setattr(RESULTS, "budget", 12 * 2**20)
    app = looked("Maps", preset="resnet20", layers="1-1", planes="8-16", size="256", weights="random")
    for name in 3 * TABS:
        tab(app, name)
        assert not app.error
        kept = sum(
            memory_bytes(work.value, key) for key, work in list(RESULTS._works.items()) if work.value is not None
        )
        assert RESULTS.bytes <= RESULTS.budget
        assert kept == pytest.approx(RESULTS.bytes, rel=0.05)  # some results count their sums when first asked


def test_a_run_holds_nothing_large() -> None:
    """A page keeps its run as long as it is open: a few keys, whatever the images' size."""
    weights = bundled(BUNDLED["resnet20"])[0]
    chosen = images.from_sample(next(sample for sample in images.samples() if sample.name == "astronaut"))
    run = running.run_with([chosen], weights, None, (), device())
    assert run.prediction.finite
    assert run.prepared.input_image.size
    assert not run.network.training
    assert run.maps("conv1").size
    assert set(vars(run)) == {"images", "invert", "key", "trace"}
    held = {field: memory_bytes(value) for field, value in vars(run).items() if field != "trace"}
    assert max(held.values()) < 20_000
    small = sum(output.nbytes for output in run.prediction.outputs.values())
    assert small <= KEPT_BYTES
    assert (
        memory_bytes(run.prediction) < small + 100_000
    )  # beside outputs that are small, maps of at most 32 pixels a side


def test_an_image_is_prepared_as_bytes() -> None:
    """A quarter of what its numbers take, which are the same as ever."""
    chosen = images.from_sample(images.samples()[0])
    preprocessing = bundled(BUNDLED["resnet20"])[0].data.preprocessing
    prepared = chosen.apply(lambda image: prepare(image, preprocessing))
    assert prepared.pixels.nbytes == prepared.tensor.nbytes == 4 * prepared.input_image.nbytes


MEASURE = """
import gc, json, re, sys, threading, time
from pathlib import Path
from streamlit import config
config._main_script_path = sys.argv[1]
config.get_config_options(force_reparse=True)
from streamlit.testing.v1 import AppTest
from explorer.sharing.store import RESULTS
from explorer.sharing.tidying import give_back

def held():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))[1]) // 1024

def look(size, **query):
    app = AppTest.from_file(sys.argv[1], default_timeout=600)
    query |= dict(preset="resnet20", layers="1", planes="2", stem_width="2", size=size, weights="random")
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    app.switch_page("../pages/inference.py").run()
    assert not app.exception and not app.error, (app.exception, app.error)

def leave():
    RESULTS.leave("test session id")
    gc.collect()
    give_back()

def watch():
    while not done.wait(0.01):
        most.append(held())

look("64", tab="Several images")
leave()
RESULTS._ended.clear()  # the next AppTest has the same name
before, most, done = held(), [], threading.Event()
threading.Thread(target=watch).start()
for size in sys.argv[2:]:
    look(size, tab="Several images")
done.set()
leave()
print(json.dumps({"before": before, "most": max(most), "after": held(), "kept": RESULTS.bytes}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_comes_back_when_a_person_leaves() -> None:
    """Ten images of 1024 pixels, twice, in a process of its own."""
    answer = subprocess.run(
        [sys.executable, "-c", MEASURE, str(SCRIPT), "1024", "1024"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        encoding="utf-8",
    )
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert found["after"] < 1.1 * found["before"], found
    assert found["most"] < found["before"] + 700, found
    assert found["kept"] < 2**25, found
