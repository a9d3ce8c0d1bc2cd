"""Our speed beside the peers', measured in the same run and printed as ratios."""

from __future__ import annotations

import asyncio
import gc
import io
import math
import os
import platform
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import numpy as np
import torch

from resnet import ResNet, open_checkpoint, preset, title
from resnet.checkpoint import network as network_of
from resnet.command import MissingError
from resnet.weights import randomly

from ..analysis.parts import drawn_parts, switchable_blocks
from ..analysis.pieces import forget_pieces
from ..analysis.search import Limits, search
from ..analysis.space import Space
from ..analysis.trace import trace
from ..experiments.degradation import Settings, train
from ..export import onnx
from ..export.code import code
from ..export.provenance import provenance
from ..export.weights import program, safetensors
from ..inference.device import devices
from ..inference.predict import predict
from ..link import View
from ..navigation import ARCHITECTURE, INFERENCE
from ..sharing.engine import Engine, here

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page
from .browser import CONFIGURATION, IDLE, ROOT, chromium, server


class Row(NamedTuple):
    """A line of the README's table: the seconds of ours, and those of what it is measured beside, where there is such."""

    what: str
    ours: float
    beside: str = ""
    theirs: float | None = None
    ratio: float | None = None
    """Of ours to theirs; not always that of their medians, since some are measured in pairs."""


def run(names: Iterable[str], attacks: Sequence[str] = (), markdown: bool = False) -> None:
    """Print the measurements of these names of `SECTIONS`; of the hostile ones those whose name holds one of `attacks`.

    In `markdown`, print the README's table of them, and everything else on standard error.

    Raises:
        MissingError: where a package or the browser that one of them needs is missing.
    """
    names = list(names)
    missing = [(name, package) for name in names for package in NEEDS.get(name, ()) if find_spec(package) is None]
    if missing:
        packages = list(dict.fromkeys(package for _, package in missing))
        raise MissingError(
            f"{' and '.join(name for name, _ in missing)} cannot be measured without {' and '.join(packages)}: install "
            f"by `pip install {' '.join(packages)}`, or name the others with --only."
        )
    torch.set_num_threads(2)
    gc.collect()
    gc.freeze()
    rows: list[Row] = []
    with redirect_stdout(sys.stderr) if markdown else nullcontext():
        for name in names:
            rows += SECTIONS[name](*([attacks] if attacks and name == "hostile" else ())) or ()
    if markdown:
        print("\n".join(table(rows)))


def table(rows: Iterable[Row]) -> Iterator[str]:
    """The lines of the README's table in Markdown, and what was measured on."""
    yield "| | ours | beside it | | ratio |"
    yield "|:--|--:|:--|--:|--:|"
    for row in rows:
        theirs = "" if row.theirs is None else milliseconds(row.theirs)
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        yield f"| {row.what} | {milliseconds(row.ours)} | {row.beside} | {theirs} | {ratio} |"
    yield ""
    yield (
        f"Medians of one run on {os.cpu_count()} cores with {torch.get_num_threads()} of torch's threads: "
        f"Python {platform.python_version()}, torch {torch.__version__.partition('+')[0]}."
    )


def milliseconds(seconds: float) -> str:
    """6.8 ms, 122 ms."""
    return f"{seconds * 1e3:.{1 if seconds < 0.1 else 0}f} ms"


def medians(*actions: Callable[[], object], repeats: int) -> list[float]:
    """The median seconds of each action, all run in turn so that they share the machine's moods.

    The first round is not counted.
    """
    rounds = [[seconds(action) for action in actions] for _ in range(repeats + 1)]
    return [statistics.median(times) for times in zip(*rounds[1:], strict=True)]


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def traces() -> list[Row]:
    """Build + trace, against torchinfo's build + summary of torchvision's same network."""
    import torchinfo
    import torchvision

    print("build + trace at 224 px                ours   torchinfo, CPU   torchinfo, meta")
    rows = []
    for name in ("resnet18", "resnet50", "resnet152"):
        make = getattr(torchvision.models, name)

        def on_cpu(make: Callable[[], torch.nn.Module] = make) -> None:
            torchinfo.summary(make(), (1, 3, 224, 224), verbose=0)

        def on_meta(make: Callable[[], torch.nn.Module] = make) -> None:
            with torch.device("meta"):
                torchinfo.summary(make(), (1, 3, 224, 224), device="meta", verbose=0)

        config = preset(name)
        ours, cpu, meta = medians(lambda config=config: trace(config), on_cpu, on_meta, repeats=9)  # type: ignore[misc]
        print(
            f"{name:32}{ours * 1e3:8.1f} ms{cpu * 1e3:10.0f} ms {cpu / ours:3.0f}×{meta * 1e3:11.0f} ms {meta / ours:3.1f}×"
        )
        rows.append(Row(f"{title(config)}, built and traced at 224 px", ours, "torchinfo on meta", meta, ours / meta))
    deep = preset("resnet1202")
    (whole,) = medians(lambda: trace(deep, 32), repeats=5)
    print(f"{'resnet1202 at 32 px':32}{whole * 1e3:8.1f} ms")
    return [*rows, Row(f"{title(deep)}, built and traced at 32 px", whole)]


def captures() -> list[Row]:
    """A forward pass that keeps what the inference page watches against a bare one, and both with everything around.

    Pairs in alternating order, as the second pass finds the memory that the first one let go; the median ratio.
    """
    device = devices()[0]
    rows = []
    print(f"{device.name[:31]:32}{'bare':>11}   capturing   ratio   with its maps   ratio")
    for name, size, pairs in (("resnet20_fashion", 28, 200), ("resnet50", 224, 40)):
        config = preset(name)
        network = device.network(randomly(config))
        image = torch.randn(1, config.in_channels, size, size)
        watched = [part.layers[-1].name for part in drawn_parts(trace(config, size))]
        passes: dict[bool, list[float]] = {False: [], True: []}
        calls: dict[bool, list[float]] = {False: [], True: []}
        for number in range(pairs):
            for capturing in (False, True) if number % 2 else (True, False):
                start = time.perf_counter()
                prediction = predict(network, image, device, watched if capturing else ())
                calls[capturing].append(time.perf_counter() - start)
                passes[capturing].append(prediction.seconds)
        print(
            f"{name + f' at {size} px':32}{statistics.median(passes[False]) * 1e3:8.1f} ms"
            f"{statistics.median(passes[True]) * 1e3:9.1f} ms  {ratio(passes):5.3f}×"
            f"{statistics.median(calls[True]) * 1e3:12.1f} ms  {ratio(calls):5.3f}×"
        )
        bare, kept = statistics.median(passes[False]), statistics.median(passes[True])
        words = f"{title(config)}, an image of {size} px, {len(watched)} layers' outputs kept"
        rows.append(Row(words, kept, "none kept", bare, ratio(passes)))
    return rows


def ratio(times: dict[bool, list[float]]) -> float:
    """The median of what capturing takes over what its bare twin takes."""
    return statistics.median(kept / bare for bare, kept in zip(times[False], times[True], strict=True))


SPACE = "resnet50 layers=1..3-1..4-1..6-1..3 stem_width=32,64 groups=1,32 base_width=4,64 shortcut=B,D attention=none,se,eca"
"""10,368 designs."""
EVERY = 81
"""Of so many designs one is traced whole."""


def designs() -> list[Row]:
    """A search that has traced nothing yet against whole traces of some of its designs, each with the same totals."""
    space, limits = Space.from_text(SPACE), Limits((224, 224))
    forget_pieces()
    start = time.perf_counter()
    found = list(search(space, limits))
    ours = (time.perf_counter() - start) / len(found)
    some = found[::EVERY]
    start = time.perf_counter()
    for one in some:
        whole = trace(one.config, one.image_size)
        totals = (whole.params, whole.macs, whole.inference_memory.bytes, whole.training_memory, whole.field)
        if totals != (one.params, one.macs, one.memory, one.training_memory, one.field):
            raise AssertionError(f"the search counts otherwise than the trace of {one.config}")
    theirs = (time.perf_counter() - start) / len(some)
    print(f"{'a search at 224 px':32}{'a second':>11}   traced whole   ratio")
    print(f"{f'{len(found):,} designs':32}{1 / ours:11,.0f}{1 / theirs:15,.0f}{theirs / ours:7.0f}×")
    return [Row("A design of a search at 224 px", ours, "traced whole", theirs, ours / theirs)]


EXPORTED = (("resnet20_fashion", 28), ("resnet50", 224))
"""The networks that are exported, and their images' side."""


def exports() -> list[Row]:
    """How long each form of a network takes to be made, and how far its scores are from the network's: the code's own
    `build()` with the same weights, ONNX in onnxruntime, the program of torch.export, and the file of weights opened again.
    """
    rows = []
    print(f"{'exported':32}{'code':>20}{'safetensors':>20}{'ONNX':>20}{'torch.export':>20}")
    for name, side in EXPORTED:
        config = preset(name)
        network = randomly(config)
        says = provenance(View(config, image_size=(side, side)), "random")
        images = torch.randn(2, config.in_channels, side, side, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            scores = network(images)

        def difference(theirs: torch.Tensor, ours: torch.Tensor = scores) -> float:
            return float((theirs - ours).abs().max() / ours.abs().max())

        found = []
        with torch.inference_mode():
            for make, run in FORMS:
                start = time.perf_counter()
                file = make(network, (side, side), says)
                found.append((time.perf_counter() - start, difference(run(file, network, images))))
        cells = (f"{took * 1e3:,.0f} ms, {apart:.0e}" for took, apart in found)
        print(f"{title(config):32}" + "".join(f"{cell:>20}" for cell in cells))
        took, apart = found[2]
        rows.append(Row(f"{title(config)} as ONNX; scores in onnxruntime within {apart:.0e} of the largest", took))
    return rows


def _of_code(text: str, network: ResNet, images: torch.Tensor) -> torch.Tensor:
    names: dict[str, Any] = {}
    exec(text, names)
    theirs = names["build"]()
    theirs.load_state_dict(network.state_dict())
    return theirs.eval()(images)


def _of_weights(file: bytes, network: ResNet, images: torch.Tensor) -> torch.Tensor:
    opened = open_checkpoint(file, "exported.safetensors")
    return network_of(opened.config, opened.state_dict)(images)


def _of_onnx(file: bytes, network: ResNet, images: torch.Tensor) -> torch.Tensor:
    return onnx.scores(file, [images])


def _of_program(file: bytes, network: ResNet, images: torch.Tensor) -> torch.Tensor:
    return torch.export.load(io.BytesIO(file)).module()(images)


FORMS: tuple[tuple[Callable[..., Any], Callable[..., torch.Tensor]], ...] = (
    (lambda network, size, says: code(network.config), _of_code),
    (lambda network, size, says: safetensors(network, says), _of_weights),
    (onnx.model, _of_onnx),
    (program, _of_program),
)
"""How each form is made, and what its scores are."""


WORK = Settings(steps=20, warmup=5)
"""80 steps of the four networks."""


def engine() -> list[Row]:
    """A degradation run on the server's own worker against the same in this process, in turns; and what comes before its first
    step, where the worker has to be started and where it is there."""
    engine = Engine()

    def first() -> None:
        next(engine.run(train, WORK))

    def there() -> None:
        deque(engine.run(train, WORK), maxlen=0)

    def in_this_process() -> None:
        deque(here(train, WORK), maxlen=0)

    threads = torch.get_num_threads()
    with engine.keep_running():
        cold = seconds(first)
        (warm,) = medians(first, repeats=5)
        ours, theirs = (time / WORK.total for time in medians(there, in_this_process, repeats=3))
    torch.set_num_threads(threads)
    print(f"{'a degradation run':32}{'on a worker':>11}   in this process   ratio   first step cold    warm")
    print(
        f"{f'{WORK.total} steps':32}{1 / ours:9,.1f}/s{1 / theirs:16,.1f}/s{ours / theirs:7.2f}×"
        f"{cold:16.1f} s{warm * 1e3:6.0f} ms"
    )
    return [Row("A step of a degradation run on the server's worker", ours, "in this process", theirs, ours / theirs)]


EMPTY = 'import streamlit as st\nwith st.sidebar:\n    st.write(st.segmented_control("Block", ["basic", "bottleneck"], required=True))\n'


def clicks() -> list[Row]:
    """From a click to an idle page: the sidebar's Block, beside a page with nothing on it; then the inference page."""
    with TemporaryDirectory() as folder, chromium() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        empty = Path(folder, "empty.py")
        empty.write_text(EMPTY, encoding="utf-8")
        copytree(CONFIGURATION, Path(folder, CONFIGURATION.name))
        with server(empty) as (address, _):
            floor = block_times(page, address)
        with server(ROOT / "explorer" / "app.py") as (address, _):
            ours = block_times(page, address)
            print("click on Block to idle page            median    slowest")
            for name, times in (("an empty page", floor), ("ResNet-50, architecture page", ours)):
                print(f"{name:36}{statistics.median(times) * 1e3:6.0f} ms {max(times) * 1e3:7.0f} ms")
            print(f"{'ratio':36}{statistics.median(ours) / statistics.median(floor):6.1f}×")
            print("click on the inference page                      to the changed drawing    to an idle page")
            for name in LOOKS:
                for what, clicks in looks(page, address, name):
                    drawn, idle = (statistics.median(times) * 1e3 for times in zip(*clicks, strict=True))
                    print(f"{name + ', ' + what:48}{drawn:19.0f} ms{idle:17.0f} ms")
    words = "ResNet-50's page, a click on Block until it is idle"
    full, bare = statistics.median(ours), statistics.median(floor)
    return [Row(words, full, "an empty page", bare, full / bare)]


def block_times(page: Page, address: str, count: int = 24) -> list[float]:
    """Seconds that each of `count` clicks on Block takes; the first four are not counted."""
    opened(page, f"{address}/{ARCHITECTURE.path}")
    buttons = page.get_by_test_id("stSidebar").get_by_role("radio")
    pair = [buttons.filter(has_text=name).first for name in ("basic", "bottleneck")]
    return [click_time(pair[number % 2])[1] for number in range(count)][4:]


LOOKS = {"resnet20_fashion": "", "resnet56_fashion": "", "resnet50": "random"}
"""The networks that the inference page is measured on, and their weights."""
COUNT = 9
"""Clicks of a kind, at most."""


def looks(page: Page, address: str, name: str) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """What a person does with an image there, the network at its own size, and what each click took; the first of a kind is not
    counted.
    """
    config = preset(name)

    def show(tab: str = "") -> None:
        opened(page, f"{address}/{INFERENCE.path}?{urlencode({'preset': name, 'weights': LOOKS[name], 'tab': tab})}")

    for what, place, item in (
        ("another block", "", ".st-key-strip [data-id='{}']"),
        ("one more off", "Blocks off", "[data-id='switch {}']"),
    ):
        show(place)
        blocks = [page.locator(item.format(block)) for block in switchable_blocks(config)]
        yield what, [click_time(block) for block in [block for block in blocks if block.count()][:COUNT]][1:]
    show()
    for what, card in (("another channel", "activations"), ("another image", "images")):
        yield what, [click_time(tile) for tile in page.locator(f".st-key-{card} .tiles button").all()[1:COUNT]][1:]
    tabs = page.get_by_role("tab").all()
    rounds = [[click_time(tab) for tab in tabs] for _ in range(4)][1:]
    slowest, tab = max(zip(zip(*rounds, strict=True), tabs, strict=True), key=lambda pair: statistics.median(pair[0]))
    yield f"the slowest tab, {tab.inner_text()}", list(slowest)
    show("Receptive field")
    image = page.locator(".st-key-map-and-numbers .pixels svg")
    yield "another unit", [click_time(image, (number / COUNT, 0.5)) for number in range(1, COUNT)][1:]
    show("One number")
    terms = page.locator(".st-key-one-number [data-id]")
    yield "a number that one is made of", [click_time(terms.last) for _ in range(COUNT) if terms.count()][1:]


def opened(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector(IDLE)
    page.wait_for_timeout(3000)


def click_time(target: Locator, place: tuple[float, float] = (0.5, 0.5)) -> tuple[float, float]:
    """Seconds from a click to the last change of the component that was clicked, and of the page, then idle.

    The click falls at a place in shares of the target's width and height. The table's canvas is left out: it writes
    its cells again for screen readers after it is drawn.
    """
    script = """async (target, [idle, across, down]) => {
        const start = performance.now();
        let own = start, last = start;
        const inTable = (target) => (target.parentElement ?? target).closest('[data-testid=stDataFrame]');
        const outside = (changes) => changes.some(({ target }) => !inTable(target));
        const observer = new MutationObserver((changes) => { if (outside(changes)) last = performance.now(); });
        const all = { subtree: true, childList: true, attributes: true, characterData: true };
        observer.observe(document.body, all);
        const inside = new MutationObserver((changes) => { if (outside(changes)) own = last = performance.now(); });
        inside.observe(target.getRootNode(), all);
        const box = target.getBoundingClientRect();
        const at = { clientX: box.left + across * box.width, clientY: box.top + down * box.height };
        target.dispatchEvent(new MouseEvent('click', { bubbles: true, cancelable: true, composed: true, ...at }));
        do await new Promise((done) => setTimeout(done, 50));
        while (performance.now() - last < 500 || !document.querySelector(idle));
        observer.disconnect();
        inside.disconnect();
        return [(own - start) / 1000, (last - start) / 1000];
    }"""
    drawn, idle = target.evaluate(script, [IDLE, *place])
    return drawn, idle


# -- a class ------------------------------------------------------------------------------

VISITORS, PAUSE = 10, 3.0
"""How many people click, and the mean seconds from an idle page to somebody's next click."""
ALONE = 40.0
"""Seconds that they click without a degradation run."""
RUN_LIMIT, WAIT_LIMIT = 90, 1
"""What the app promises on two cores: seconds of a degradation run, and seconds that it adds to anybody's wait."""
GIVEN_UP = 120.0
"""Seconds after which a degradation run is not waited for any longer."""


def visitors() -> None:
    """Ten people who click, without a degradation run and beside one; and the run without and beside them.

    Each time on a fresh server, where the same people make the same clicks in the same order: so every click has its
    twin beside the run, as far as the shorter of the two times goes.
    """
    from .visitors import crowd, degradation_run

    async def first(address: str) -> tuple[list[list[float]], float]:
        end = time.monotonic() + ALONE
        times = await crowd(address, VISITORS, PAUSE, lambda: time.monotonic() > end)
        return times, await degradation_run(address, GIVEN_UP)

    async def second(address: str) -> tuple[list[list[float]], float]:
        training = asyncio.create_task(degradation_run(address, GIVEN_UP))
        return await crowd(address, VISITORS, PAUSE, training.done), await training

    with server(ROOT / "explorer" / "app.py") as (address, _):
        without, alone = asyncio.run(first(address))
    with server(ROOT / "explorer" / "app.py") as (address, _):
        beside, crowded = asyncio.run(second(address))
    print("\n".join(waits(without, beside)))
    alone_words, crowded_words = (
        f"{seconds:.0f} s" if seconds < math.inf else f"over {GIVEN_UP:.0f} s" for seconds in (alone, crowded)
    )
    print(
        f"degradation run at its default budget: {alone_words} alone, {crowded_words} beside them (limit {RUN_LIMIT} s)"
    )


def waits(without: Sequence[Sequence[float]], beside: Sequence[Sequence[float]]) -> Iterator[str]:
    """Lines on the seconds of each visitor's clicks that have a twin, without a degradation run and beside one."""
    both = [list(zip(one, two, strict=False)) for one, two in zip(without, beside, strict=True)]
    title = f"{len(both)} visitors, a click every {PAUSE:.0f} s"
    yield f"{title:36}{'clicks':>8}{'median':>12}{'p95':>12}{'slowest':>12}"
    for place, name in enumerate(("without a degradation run", "the same beside one")):
        clicks = [twins[place] for visitor in both for twins in visitor]
        middle, late = np.quantile(clicks, (0.5, 0.95))
        yield f"{name:36}{len(clicks):8}" + "".join(f"{s * 1e3:9.0f} ms" for s in (middle, late, max(clicks)))
    click = max(late - early for visitor in both for early, late in visitor)
    slowest = max(max(late for _, late in visitor) - max(early for early, _ in visitor) for visitor in both)
    yield (
        f"longest wait added: {click:.2f} s to one click, {slowest:.2f} s to a visitor's slowest (limit {WAIT_LIMIT} s)"
    )


def hostile(attacks: Sequence[str] = ()) -> None:
    """Files, links and loads made to hurt, beside visitors who click."""
    from .hostile.siege import hostile

    hostile(attacks)


def links() -> None:
    """Links of chance to every page."""
    from .links import links

    links()


SECTIONS: dict[str, Callable[..., Sequence[Row] | None]] = {
    "traces": traces,
    "captures": captures,
    "search": designs,
    "exports": exports,
    "engine": engine,
    "clicks": clicks,
    "visitors": visitors,
    "hostile": hostile,
    "links": links,
}
"""The measurements by their name, in the order in which they are made; some give rows of the README's table."""
USUAL = ("traces", "captures", "search", "exports", "engine", "clicks", "visitors")
"""Those that are made where none is named; the hostile ones take a quarter of an hour, the links twice as long."""
TABLE = ("traces", "captures", "search", "exports", "engine", "clicks")
"""Those of the README's table."""
NEEDS = {
    "traces": ("torchinfo",),
    "exports": ("onnx", "onnxruntime"),
    "clicks": ("playwright",),
    "visitors": ("websockets",),
    "hostile": ("websockets",),
    "links": ("websockets",),
}
"""The packages that a measurement needs beside what the app does."""
