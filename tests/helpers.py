"""What several test files share: plain functions and values. Fixtures stand in conftest.py."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import time
import weakref
from collections.abc import Callable, Coroutine, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from urllib.parse import urlsplit

import torch
from hypothesis import assume
from hypothesis import strategies as st
from playwright.sync_api import ConsoleMessage, Locator, Page, WebSocket
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.testing.v1 import AppTest
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from explorer.bench.browser import IDLE, ROOT
from explorer.bench.visitors import FINISHED, unescaped
from explorer.inference.device import Device
from explorer.inference.samples import samples
from explorer.sharing.jobs import JobQueue, Status
from explorer.views.session import Hand, SessionState
from resnet import OPTIONS, ConfigError, ResNet, ResNetConfig, build
from resnet.weights import FASHION_MNIST, randomly

Item = TypeVar("Item")
Value = TypeVar("Value")

APP, SCRIPT = ROOT / "explorer" / "app.py", ROOT / "explorer" / "script.py"
"""What a server runs, and an AppTest."""
CPU = Device("cpu", "this CPU")
ARCHITECTURE_TABS = (
    "Layers",
    "Cost",
    "Memory",
    "MACs and other tools' counts",
    "Receptive field",
    "torchinfo",
    "graphviz",
)
"""The tabs of the architecture page."""
TABS = (
    *("Maps", "One number", "Channel", "Addition", "Receptive field", "Why this class", "What if"),
    *("Blocks off", "Several images", "Weights", "Speed"),
)
"""Of the inference page."""
CLOTHES = [sample for sample in samples() if sample.label in FASHION_MNIST.categories]


def reference(name: str) -> dict[str, Any]:
    """Exact figures from elsewhere, by the name of their file."""
    return json.loads((ROOT / "tests" / "reference" / f"{name}.json").read_text(encoding="utf-8"))


TIMM = reference("timm_resnets")["models"]
PAPER = reference("paper_tables")
TABLE_6 = PAPER["table6_cifar10"]["exact_params_and_macs_32x32"]


# -- waiting ------------------------------------------------------------------------------


def alone(work: Coroutine[Any, Any, Value]) -> Value:
    """What a coroutine returns, run in a thread of its own, where no browser's event loop runs."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def soon(true: Callable[..., object]) -> None:
    """Wait until something is so, which another thread or process does."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def status_of(queue: JobQueue[Item], key: Hashable, who: str) -> Status:
    """How a job stands that somebody started."""
    found = queue.look(key, who)
    assert found is not None
    return found


def there(pid: int) -> bool:
    """Whether a process runs. One that has ended may be listed for as long as its parent has not asked about it."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # no Linux, or gone between the two
        return not Path("/proc").exists()


# -- configurations -----------------------------------------------------------------------

SMALL = ResNetConfig(block="basic", layers=(2, 2), planes=(8, 16), num_classes=10, stem="3x3", stem_pool="none")
PRE: dict[str, Any] = {"order": "pre"}
DILATES = ResNetConfig(layers=(1, 1, 2, 1), planes=(8, 16, 24, 32), output_stride=8, num_classes=7)
FAMILY = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
]
"""The presets that torchvision has."""


def small(**given: Any) -> ResNetConfig:
    """Three blocks of few channels, with any options."""
    return ResNetConfig(**{"layers": (1, 2), "planes": (8, 16), "num_classes": 7, **given})


def name_of(config: ResNetConfig) -> str:
    """A test's name for a configuration: the options that say what its blocks are like."""
    return f"{config.block} {config.order} {config.shortcut} {config.activation} {config.norm}"


def every_choice() -> list[ResNetConfig]:
    """Every choice of every option, post- and pre-activation, dilated too: each kind of module occurs."""
    found = []
    for order in ({}, PRE):
        found.append(small(drop_path=0.5, **order))
        for name, option in OPTIONS.items():
            found += [small(**(order | {name: choice})) for choice in option.choices]
            found += [DILATES.with_(**(order | {name: choice}))[0] for choice in option.choices]
    return list(dict.fromkeys(found))


def values_of(name: str, blocks: int | None = None) -> st.SearchStrategy[Any]:
    """What an option can be; at most so many `blocks` in a stage where they are given."""
    option = OPTIONS[name]
    if option.choices:
        return st.sampled_from(option.choices)
    if isinstance(option.default, bool):
        return st.booleans()
    if isinstance(option.default, float):
        return st.floats(option.low, option.high)
    low, high = int(option.low), blocks if blocks and name == "layers" else int(option.high)
    whole = st.integers(low, min(high, low + 80)) | st.integers(low, high)
    if isinstance(option.default, tuple):
        return st.lists(whole, min_size=1, max_size=option.most).map(tuple)
    return whole


@st.composite
def configs(draw: st.DrawFn, blocks: int | None = None) -> ResNetConfig:
    """Valid configurations, of at most so many `blocks` a stage; fields that do not apply to the others are left out."""
    values = draw(st.fixed_dictionaries({}, optional={name: values_of(name, blocks) for name in OPTIONS}))
    stages = len(values.get("layers", OPTIONS["layers"].default))
    if "planes" in values:
        values["planes"] = tuple(draw(st.lists(values_of("planes").map(max), min_size=stages, max_size=stages)))
        if values.get("shortcut") == "A":
            values["planes"] = tuple(sorted(values["planes"]))
    draft = SimpleNamespace(**{name: values.get(name, option.default) for name, option in OPTIONS.items()})
    values = {name: value for name, value in values.items() if not OPTIONS[name].unless(draft)}
    try:
        return ResNetConfig(**values)
    except ConfigError:
        assume(False)
        raise


NARROW = {
    "planes": st.integers(1, 24),
    "stem_width": st.integers(4, 24),
    "groups": st.integers(1, 4),
    "base_width": st.integers(64, 96),
    "in_channels": st.integers(1, 4),
    "num_classes": st.integers(1, 9),
}


@st.composite
def narrow(draw: st.DrawFn) -> ResNetConfig:
    """Configurations of all kinds, of few channels and at most two blocks a stage, that run in milliseconds."""
    stages = draw(st.integers(1, 4))
    values = {name: draw(NARROW.get(name, values_of(name))) for name in OPTIONS if name not in ("layers", "planes")}
    values |= {
        name: draw(st.lists(each, min_size=stages, max_size=stages).map(tuple))
        for name, each in (("layers", st.integers(1, 2)), ("planes", NARROW["planes"]))
    }
    if values["shortcut"] == "A":
        values["planes"] = tuple(sorted(values["planes"]))
    draft = SimpleNamespace(**values)
    try:
        return ResNetConfig(**{name: value for name, value in values.items() if not OPTIONS[name].unless(draft)})
    except ConfigError:
        assume(False)
        raise


# -- networks -----------------------------------------------------------------------------


def frozen(config: ResNetConfig) -> ResNet:
    """A network with the app's random weights, whose parameters need no gradients."""
    return randomly(config).requires_grad_(False)


def positive(config: ResNetConfig) -> nn.Module:
    """The network such that each unit's gradient is positive at all that it sees.

    Weights are positive, and average pooling stands for max pooling, whose gradient reaches one position only.
    """
    network = build(config).double().eval()
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        if isinstance(module, nn.MaxPool2d):
            network.set_submodule(name, nn.AvgPool2d(module.kernel_size, module.stride, module.padding))
    return network


def outputs_of(network: nn.Module, image: Tensor, names: list[str]) -> dict[str, Tensor]:
    """The outputs of the modules of these names on an image (N×C×H×W)."""
    outputs: dict[str, Tensor] = {}
    for name in names:
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: outputs.update({name: output})
        )
    network(image)
    return outputs


def hooks(network: nn.Module) -> list[str]:
    """The modules that carry hooks."""
    return [name for name, module in network.named_modules() if module._forward_hooks or module._forward_pre_hooks]


def saved(value: Any, zipped: bool = True) -> bytes:
    """A file as `torch.save` writes it, in its format or in the one before."""
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


class Account(TorchDispatchMode):
    """Bytes of the memory that operations put tensors into, from when it is made until Python lets go of it."""

    def __init__(self, network: nn.Module, image: Tensor):
        super().__init__()
        weights = (*network.parameters(), *network.buffers())
        self.known = {tensor.untyped_storage()._cdata for tensor in weights}
        self.live = self.peak = 0
        self.add(image)

    def add(self, tensor: Tensor) -> None:
        memory = tensor.untyped_storage()
        if memory._cdata not in self.known:
            self.known.add(memory._cdata)
            self.live += memory.nbytes()
            weakref.finalize(memory, self.drop, memory._cdata, memory.nbytes())
        self.peak = max(self.peak, self.live)

    def drop(self, address: int, size: int) -> None:
        self.known.discard(address)
        self.live -= size

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.add(tensor)
        return result


# -- a person at the app ------------------------------------------------------------------


def run(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception, app.exception
    return app


def closed(**query: str) -> AppTest:
    """The app at a link that nobody has opened: what its session holds can be set."""
    app = AppTest.from_file(str(SCRIPT), default_timeout=120)
    app.query_params.update(query)
    return app


def turned_to(app: AppTest, page: str) -> AppTest:
    return run(run(app).switch_page(f"../pages/{page}.py"))


def opened(page: str = "architecture", /, **query: str) -> AppTest:
    """The app as a link opens it, at a page."""
    return run(closed(**query).switch_page(f"../pages/{page}.py"))


def looked(name: str, **query: str) -> AppTest:
    """The inference page with one of its tabs open."""
    return tab(opened("inference", **query), name)


def click(app: AppTest, label: str) -> AppTest:
    (button,) = [button for button in app.button if button.label == label]
    button.click()
    return run(app)


def widget_of(app: AppTest, key: str) -> Any:
    """A widget of any kind."""
    return app.get_by_key(key)


def select(app: AppTest, key: str, value: Any) -> AppTest:
    widget_of(app, key).set_value(value)
    return run(app)


def typed_into(app: AppTest, key: str, text: str) -> AppTest:
    """Type a value that a list does not hold, which a test's list only takes where it holds it."""
    app.selectbox(key=key).options.append(text)
    return select(app, key, text)


def own_checkpoint(tensors: Mapping[str, Tensor], **query: str) -> AppTest:
    """The inference page with a file of these tensors brought to it."""
    app = closed(**query)
    app.session_state["own checkpoint"] = True
    uploader = turned_to(app, "inference").file_uploader(key=f"checkpoint {held(app).checkpoint_widget}")
    uploader.set_value([("own.pth", saved(tensors), "application/octet-stream")])
    return run(app)


def look_at(app: AppTest, **changes: Any) -> AppTest:
    """Another image, tab or block that is off, as a click would choose it."""
    app.session_state["view"] = replace(app.session_state["view"], **changes)
    return run(app)


def tab(app: AppTest, name: str) -> AppTest:
    """Open a tab, as its link would."""
    return look_at(app, tab=name)


def held(app: AppTest) -> SessionState:
    """What the session holds and its link does not."""
    return app.session_state["hand"].held


def hold(app: AppTest, **changes: Any) -> None:
    """Let a session hold something, which may not have begun."""
    if "hand" not in app.session_state:
        app.session_state["hand"] = Hand()
    app.session_state["hand"].held = replace(held(app), **changes)


def link(app: AppTest) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value[0] for name, value in app.query_params.items()}


def menu_of(place: Any) -> Any:
    """What is said to the browser of the menu of pages, in the app or in a part of it."""
    (menu,) = (one.proto for one in place.get("bidi_component") if one.proto.component_name.endswith(".menu"))
    return menu


def figures(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def deltas(app: AppTest) -> list[str]:
    return [metric.delta for metric in app.metric]


def said(alerts: Any) -> list[str]:
    """Alerts as they read."""
    return [unescaped(alert.value) for alert in alerts]


def texts(app: AppTest) -> list[str]:
    return [markdown.value for markdown in app.markdown]


def page_text(app: AppTest) -> str:
    """All texts of a page as they read, a line each."""
    return "\n".join(said([*app.header, *app.markdown]))


def captions(app: AppTest) -> str:
    return "\n".join(caption.value for caption in app.caption)


def shown(app: AppTest) -> list[str]:
    """All that a page shows, but for how long something took and what this session's elements and files are called."""
    found: list[str] = []

    def walk(node: Any) -> None:
        proto = getattr(node, "proto", None)
        if proto is not None:
            found.append(re.sub(r'\$\$ID-\w+|deferred_file_id: "[^"]*"|[\d,]+ ms on|about [\d,]+ s', "", str(proto)))
        for child in getattr(node, "children", {}).values():
            walk(child)

    walk(app._tree)
    return [text for text in found if text]  # a bar that is done leaves an empty place


# -- a person at a browser ----------------------------------------------------------------

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}}


class Visitor:
    """A person at the app: waits for an idle page after everything they do.

    `errors` are those of scripts, what the page's policy forbade, and requests to another host; `waits` is whether a run
    that was asked for is not over.
    """

    def __init__(self, page: Page, address: str):
        self.page, self.address = page, address
        self.errors: list[str] = []
        self.waits = False
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self.reads)
        page.on("request", lambda request: self.asks(request.url))
        page.on("websocket", self.listen)

    def listen(self, socket: WebSocket) -> None:
        self.asks(socket.url)
        socket.on("framesent", self.sent)
        socket.on("framereceived", self.received)

    def sent(self, data: bytes | str) -> None:
        if isinstance(data, bytes) and BackMsg.FromString(data).HasField("rerun_script"):
            self.waits = True

    def received(self, data: bytes | str) -> None:
        if isinstance(data, bytes) and len(data) < 1000:  # what says that a run is over is short
            message = ForwardMsg.FromString(data)
            if message.HasField("script_finished") and message.script_finished in FINISHED:
                self.waits = False

    def reads(self, said: ConsoleMessage) -> None:
        if "Content Security Policy" in said.text:
            self.errors.append(said.text)

    def asks(self, url: str) -> None:
        host = urlsplit(url).netloc
        if host and host != urlsplit(self.address).netloc:  # data and blobs have none
            self.errors.append(f"a request to {url}")

    def open(self, path: str = "/architecture") -> Visitor:
        self.page.goto(self.address + path)
        return self.wait()

    def wait(self) -> Visitor:
        """Until the script has run and the page has not changed for a moment."""
        self.page.wait_for_timeout(150)
        end = time.monotonic() + 60
        while self.waits:
            assert time.monotonic() < end
            self.page.wait_for_timeout(20)
        self.page.wait_for_selector(IDLE)
        self.page.wait_for_function(
            """() => new Promise((done) => {
                let timer = setTimeout(() => done(true), 300);
                new MutationObserver((_, observer) => {
                    clearTimeout(timer);
                    timer = setTimeout(() => { observer.disconnect(); done(true); }, 300);
                }).observe(document.body, { subtree: true, childList: true, characterData: true });
            })"""
        )
        self.page.wait_for_selector(IDLE)
        assert not self.page.get_by_test_id("stException").count(), self.page.get_by_test_id("stException").inner_text()
        return self

    def unfold(self, chip: str, content: str) -> Locator:
        """What a chip of the inference page opens on, both by their keys."""
        shown = self.page.locator(f".st-key-{content}")
        if not shown.count():
            self.page.locator(f".st-key-{chip} button").click()
            shown.wait_for()
        return shown

    def verdict(self) -> Locator:
        """What the network says, in full."""
        return self.unfold("verdict-chip", "verdict")

    def weights_card(self) -> Locator:
        """What is known of the weights that run; where a checkpoint is uploaded."""
        return self.unfold("weights-chip", "card")

    @property
    def sidebar(self) -> Locator:
        return self.page.get_by_test_id("stSidebar")

    def metric(self, label: str) -> str:
        """The figure under a label: "25.56 M"."""
        metric = self.page.get_by_test_id("stMetric").filter(has_text=label)
        return metric.get_by_test_id("stMetricValue").inner_text()

    def pick(self, choice: str) -> Visitor:
        """Click a segment in the sidebar."""
        self.sidebar.get_by_role("radio", name=choice, exact=True).or_(
            self.sidebar.get_by_role("button", name=choice, exact=True)
        ).first.click()
        return self.wait()

    def type(self, label: str, text: str) -> Visitor:
        """Fill a text field of the sidebar and press Enter."""
        field = self.sidebar.get_by_label(label, exact=True)
        field.fill(text)
        field.press("Enter")
        return self.wait()

    def fits(self) -> bool:
        """Whether nothing makes the page itself scroll sideways."""
        return self.page.evaluate(
            """[document.documentElement, document.querySelector("[data-testid='stMain']")]
                .every((scrolls) => scrolls.scrollWidth <= scrolls.clientWidth)"""
        )


def trained(network: ResNet) -> ResNet:
    """Norms that do something: scales, shifts and statistics as of a network that was trained."""
    chance = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.6, 1.0, generator=chance)
            module.bias.data.normal_(0, 0.2, generator=chance)
            assert module.running_mean is not None
            module.running_mean += 0.1 * torch.randn(module.running_mean.shape, generator=chance)
    return network.requires_grad_(False)
