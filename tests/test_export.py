"""A network in forms that work without this package: executed, loaded by others, and opened again."""

from __future__ import annotations

import ast
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_package
import onnxruntime
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from streamlit.testing.v1 import AppTest
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from explorer.analysis.layers import Op
from explorer.analysis.trace import trace
from explorer.bench.browser import ROOT
from explorer.cli import main
from explorer.export import int8, onnx
from explorer.export.code import code
from explorer.export.errors import ExportError
from explorer.export.folding import fold, folded_config
from explorer.export.libraries import Call, timm_call, torchvision_call
from explorer.export.provenance import provenance
from explorer.export.weights import program, safetensors
from explorer.inference.preprocess import normalised
from explorer.inference.weights import with_weights
from explorer.link import View, parse_network
from explorer.views import files
from helpers import CLOTHES, every_choice, name_of, narrow, small, trained
from resnet import (
    OPTIONS,
    PRESETS,
    ConfigError,
    Opened,
    ResNet,
    ResNetConfig,
    WeightsError,
    build,
    open_checkpoint,
    preset,
)
from resnet.checkpoint import network as network_of
from resnet.command import MissingError
from resnet.presets import GROUPS, TIMM, TORCHVISION
from resnet.tensor_files import RefusedError
from resnet.tensor_files.formats import read
from resnet.weights import FASHION_MNIST, bundled, randomly


def shortened(config: ResNetConfig) -> ResNetConfig:
    """At most two blocks a stage, which differ from each other as those of the whole network do."""
    return replace(config, layers=tuple(min(2, count) for count in config.layers))


def narrowed(config: ResNetConfig) -> ResNetConfig:
    """A sixteenth of the channels, and of many groups two."""
    few: dict[str, Any] = {"planes": tuple(planes // 16 for planes in config.planes), "stem_width": 0}
    if config.stem_width != config.default("stem_width"):
        few["stem_width"] = config.stem_width // 8
    if config.groups > 1:
        few |= {"groups": 2, "base_width": 64}
    return replace(config, **few)


KINDS = list(dict.fromkeys(shortened(config) for config in PRESETS.values()))
"""The presets but for their depth."""


def namespace(text: str) -> dict[str, Any]:
    """What a file of Python defines."""
    names: dict[str, Any] = {"__name__": "exported"}
    exec(compile(text, "exported.py", "exec"), names)
    return names


def assert_same_network(theirs: nn.Module, config: ResNetConfig, size: int = 64, tolerance: float = 0.0) -> None:
    """The same names in the same order, and the same outputs with the same weights."""
    ours = randomly(config)
    state = ours.state_dict()
    assert list(theirs.state_dict()) == list(state)
    theirs.load_state_dict(state)
    images = torch.randn(2, config.in_channels, size, size)
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(images), ours(images), rtol=tolerance, atol=tolerance)


# -- code ---------------------------------------------------------------------------------


@pytest.mark.parametrize("config", KINDS, ids=name_of)
def test_code_is_the_network_of_every_preset(config: ResNetConfig) -> None:
    """With fewer channels, which the code names at its top alone."""
    few = narrowed(config)
    theirs = namespace(code(few))["build"]()
    assert repr(theirs) == repr(build(few, "meta"))
    assert_same_network(theirs, few)


@settings(max_examples=15, deadline=None)
@given(narrow())
def test_code_computes_what_any_network_does(config: ResNetConfig) -> None:
    assert_same_network(namespace(code(config))["build"](), config, 2 * max(32, config.total_stride))


def test_code_needs_torch_alone_and_says_how_the_network_opens_again() -> None:
    for config in (ResNetConfig(), preset("resnet20_fashion"), small(order="pre", attention="eca", antialias="blur")):
        text = code(config)
        tree = ast.parse(text)
        froms = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert {str(name).partition(".")[0] for name in froms | names} <= {"collections", "math", "torch", "typing"}
        links = re.findall(r"^\?\S+$", ast.get_docstring(tree) or "", re.MULTILINE)
        assert [parse_network(link).config for link in links] == [config]


def test_code_has_only_what_the_network_reaches() -> None:
    text = code(ResNetConfig())
    for other in (
        "BasicBlock",
        "PreAct",
        "Blur",
        "Pad",
        "Squeeze",
        "GroupNorm(",
        "config.",
        "tied",
        "if False",
        "if True",
    ):
        assert other not in text.replace("use BasicBlock or", "")
    assert "class Bottleneck(Block)" in text
    assert "# N × C × H × W" in text  # comments stay
    assert "NUM_CLASSES = 1000  # Classes\n" in text
    basic = code(preset("resnet20"))
    assert "class BasicBlock(Block)" in basic
    assert "class PadShortcut" in basic
    assert "Bottleneck(" not in basic


def test_constants_of_the_code_can_be_changed() -> None:
    text = code(small()).replace("NUM_CLASSES = 7", "NUM_CLASSES = 3").replace("LAYERS = (1, 2)", "LAYERS = (2, 2)")
    changed = namespace(text)["build"]("meta")
    assert repr(changed) == repr(build(small(num_classes=3, layers=(2, 2)), "meta"))


def test_code_is_formatted(tmp_path: Path) -> None:
    """As ruff formats this package, and without a name that is not used."""
    for number, config in enumerate(every_choice()[::6]):
        (tmp_path / f"{number}.py").write_text(code(config), encoding="utf-8")
    settings = ["--config", str(ROOT / "pyproject.toml")]
    for work in (["format", "--check"], ["check", "--select", "E,F,I,UP"]):
        ran = subprocess.run(
            [sys.executable, "-m", "ruff", *work, *settings, str(tmp_path)], capture_output=True, encoding="utf-8"
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


# -- the libraries' own calls -------------------------------------------------------------


def called(call: Call) -> nn.Module:
    return namespace(call.script())["model"]


def test_named_networks_are_called_by_their_names() -> None:
    for name, config in GROUPS[TORCHVISION].items():
        assert torchvision_call(config) == Call(f"torchvision.models.{name}()")
    for name, config in chain(GROUPS[TORCHVISION].items(), GROUPS[TIMM].items()):
        if config.order == "post":
            assert timm.is_model(name)
            assert timm_call(config) == Call(f'timm.create_model("{name}")')


BOTH = [
    ResNetConfig(layers=(1, 1, 1, 1), num_classes=9),
    ResNetConfig(layers=(1, 2, 1, 1), groups=32, base_width=4, output_stride=16),
    ResNetConfig(layers=(1, 1, 2, 1), base_width=32, output_stride=8, zero_init_residual=True),
    ResNetConfig(layers=(1, 1, 1, 1), norm="group"),
    ResNetConfig(layers=(1, 1, 1, 1), block="basic", norm="group", norm_groups=16),
    ResNetConfig(layers=(2, 2, 2, 2), block="basic", num_classes=10),
]


@pytest.mark.parametrize("config", BOTH, ids=lambda config: config.to_text())
def test_both_libraries_build_these(config: ResNetConfig) -> None:
    for call in (torchvision_call(config), timm_call(config)):
        assert_same_network(called(call), config, tolerance=1e-4)


@pytest.mark.parametrize("config", KINDS, ids=name_of)
def test_timm_builds_what_it_can(config: ResNetConfig) -> None:
    """With fewer channels, which no network of a name has: its class is told of all that a network is made of."""
    few = narrowed(config)
    if few.stem == "7x7":
        few = replace(few, stem_width=64)
    if few.norm == "group":
        few = replace(few, norm_groups=4)
    call = timm_call(few)
    assert (call.code is None) == (
        few.order == "pre" or few.stem == "3x3" or few.shortcut not in "BD" or few.stride_in == "1x1"
    )
    if call.code:
        assert_same_network(called(call), few, tolerance=1e-4)


def test_the_libraries_build_the_same_or_say_why_not() -> None:
    """Options that no preset has: a call builds every tensor of the network, a reason is a sentence of the library."""
    built = 0
    for name, option in OPTIONS.items():
        for choice in option.choices or (option.default,):
            config, _ = ResNetConfig(layers=(1, 1, 1, 1), planes=(16, 16, 24, 32), stem_width=64).with_(
                **{name: choice}
            )
            for library, call in (("torchvision", torchvision_call(config)), ("timm", timm_call(config))):
                if call.code is None:
                    assert re.fullmatch(rf"{library}[^\n]+\.", call.reason)
                    with pytest.raises(ExportError, match=library):
                        call.script()
                else:
                    assert_same_network(called(call), config, tolerance=1e-4)
                    built += 1
    assert built > 15


# -- ONNX ---------------------------------------------------------------------------------


def says(config: ResNetConfig) -> dict[str, str]:
    return provenance(View(config), "random")


@pytest.mark.parametrize("config", every_choice(), ids=lambda config: config.to_text())
def test_onnx_computes_what_the_network_does(config: ResNetConfig) -> None:
    """In onnxruntime, on a batch of two, at a size that is odd after each halving."""
    network, size = randomly(config), (65, 47)
    assert onnx.difference(onnx.model(network, size, says(config)), network, size) < 1e-4


@pytest.mark.parametrize("config", [preset("resnet20_fashion"), narrowed(preset("seresnext26t_32x4d"))], ids=name_of)
def test_onnx_takes_batches_of_any_size(config: ResNetConfig) -> None:
    network, side = randomly(config), 64
    file = onnx.model(network, (side, side), says(config))
    assert onnx.difference(file, network, (side, side)) < 1e-4
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert [(one.name, one.shape) for one in session.get_inputs()] == [
        ("image", ["batch", config.in_channels, side, side])
    ]
    assert [(one.name, one.shape) for one in session.get_outputs()] == [("scores", ["batch", config.num_classes])]
    for batch in (1, 3):
        images = np.zeros((batch, config.in_channels, side, side), np.float32)
        assert session.run(None, {"image": images})[0].shape == (batch, config.num_classes)


def test_onnx_has_our_names_and_says_what_it_is() -> None:
    """Its nodes are the layers of the trace, its tensors those of the state dict."""
    config = preset("resnet20_fashion")
    network = randomly(config)
    file = onnx_package.load_from_string(onnx.model(network, (32, 32), says(config)))
    onnx_package.checker.check_model(file, full_check=True)
    layers = {layer.name for layer in trace(config, 32).layers}
    assert {node.name.removesuffix(".slice") for node in file.graph.node} == layers
    tensors = {one.name: onnx_package.numpy_helper.to_array(one) for one in file.graph.initializer}
    for name, values in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(tensors[name], values.numpy())
    said = {prop.key: prop.value for prop in file.metadata_props}
    assert said == says(config)
    assert parse_network(said["link"]).config == ResNetConfig.from_json(said["config"]) == config
    shapes = {one.name: len(one.type.tensor_type.shape.dim) for one in file.graph.value_info}
    assert shapes["layer1.0.conv1"] == 4  # Netron shows them beside the edges


def test_without_the_extra_a_sentence_says_how_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = randomly(small())
    for package, work in (
        ("onnx", lambda: onnx.model(network, (32, 32), {})),
        ("onnxruntime", lambda: onnx.difference(b"", network, (32, 32))),
    ):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingError, match=rf"^ONNX needs {package}: install it by `pip install .*\[onnx\]'`\.$"):
            work()


def test_weights_that_an_onnx_file_cannot_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "MAX_BYTES", 1000)
    with pytest.raises(ExportError, match="less than 2 GiB is accepted"):
        onnx.model(randomly(small()), (32, 32), {})


# -- weights ------------------------------------------------------------------------------


def reopened(file: bytes, config: ResNetConfig) -> Opened:
    opened = open_checkpoint(file, "mine.safetensors")
    assert (opened.config, opened.declared, opened.headless, opened.left_out) == (config, True, False, ())
    return opened


PROGRAMS: dict[str, Callable[[ResNet, dict[str, str]], bytes]] = {
    "onnx": lambda network, said: onnx.model(network, (64, 64), said),
    "pt2": lambda network, said: program(network, (64, 64), said),
}
"""Exported files that hold more than tensors."""


@pytest.mark.parametrize("kind", PROGRAMS)
@pytest.mark.parametrize(
    "network",
    [
        fold(randomly(small(shortcut="D"))),
        *map(
            randomly,
            [
                preset("resnet20_fashion"),
                small(order="pre", attention="eca", antialias="blur", shortcut="A"),
                small(norm="group", norm_groups=4, stem="tiered", activation="gelu"),
            ],
        ),
    ],
    ids=lambda network: network.config.to_text(),
)
def test_programs_open_again_as_the_same_network(network: ResNet, kind: str) -> None:
    """Onnx's own and torch's own reader find the same numbers in them, as the tests of what they compute show."""
    config = network.config
    file = PROGRAMS[kind](network, says(config))
    if kind == "pt2" and b"serialized_exported_program" in file:
        pytest.skip("torch before 2.8 writes another archive")
    opened = open_checkpoint(file, f"mine.{kind}")
    assert (opened.config, opened.declared, opened.headless) == (config, True, False)
    assert (opened.left_out, opened.notes, dict(opened.questions)) == ((), (), {})
    for name, values in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):  # which ONNX has no place for
            torch.testing.assert_close(opened.state_dict[name], values, rtol=0, atol=0)


@pytest.mark.parametrize("kind", PROGRAMS)
def test_programs_of_others_are_refused_in_a_sentence(kind: str) -> None:
    file = PROGRAMS[kind](randomly(small()), {"network": "mine"})
    with pytest.raises(
        WeightsError, match=r"^mine is (a program of torch.export|an ONNX program) that ResNet Explorer did"
    ):
        open_checkpoint(file, "mine")


@cache
def small_program(kind: str) -> bytes:
    return PROGRAMS[kind](randomly(small()), says(small()))


@pytest.mark.parametrize("kind", PROGRAMS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_programs_are_refused_or_hold_what_lies_in_the_file(kind: str, data: st.DataObject) -> None:
    """Read here, without the process around it, whose limits are not at stake: nothing but a refusal or an error ends it."""
    file = bytearray(small_program(kind))
    for at in data.draw(st.lists(st.integers(0, len(file) - 1), max_size=3)):
        file[at] = data.draw(st.integers(0, 255))
    del file[data.draw(st.integers(len(file) // 2, len(file))) :]
    try:
        answer = read(io.BytesIO(file), len(file))
    except (RefusedError, ValueError, LookupError, AttributeError, TypeError, EOFError):
        return
    for place in answer["contents"].values():
        assert 0 <= place.at <= len(file)
        assert place.at + (place.start + math.prod(place.shape)) * 4 <= len(file) or place.dtype != "float32"


@pytest.mark.parametrize("config", every_choice()[::5], ids=lambda config: config.to_text())
def test_safetensors_open_again_as_the_same_network(config: ResNetConfig) -> None:
    network = randomly(config)
    opened = reopened(safetensors(network, says(config)), config)
    for name, values in network.state_dict().items():
        torch.testing.assert_close(opened.state_dict[name], values, rtol=0, atol=0)


def test_a_configuration_that_does_not_fit_the_tensors_is_not_believed() -> None:
    network = randomly(small())
    for other in (small(num_classes=8).to_json(), '{"layers": "many"}', "[]", ""):
        opened = open_checkpoint(safetensors(network, {"config": other}), "mine.safetensors")
        assert (opened.config, opened.declared) == (small(), False)


@pytest.mark.parametrize(
    "config", [small(), small(order="pre", attention="eca", antialias="blur", shortcut="D")], ids=name_of
)
def test_a_program_computes_what_the_network_does(config: ResNetConfig) -> None:
    network = randomly(config)
    extra = {"says.json": ""}
    loaded = torch.export.load(io.BytesIO(program(network, (32, 48), says(config))), extra_files=extra)
    assert json.loads(extra["says.json"]) == says(config)
    for batch in (1, 3):
        images = torch.randn(batch, config.in_channels, 32, 48)
        with torch.no_grad():
            torch.testing.assert_close(loaded.module()(images), network(images))


def test_weights_are_chosen_by_name_by_file_or_by_what_ships(tmp_path: Path) -> None:
    shipped = preset("resnet20_fashion")
    assert with_weights(shipped, (32, 32), "")[1:3] == ("Trained on Fashion-MNIST, shipped", "bundled")
    assert with_weights(small(), (32, 32), "")[1:3] == ("random, untrained", "random")
    path = tmp_path / "mine.pth"
    torch.save(randomly(small(), seed=3).state_dict(), path)
    network, words, key, *_ = with_weights(small(), (32, 32), str(path))
    assert (words, key) == ("the file mine.pth", "")
    torch.testing.assert_close(network.state_dict(), randomly(small(), seed=3).state_dict())
    with pytest.raises(WeightsError, match="does not fit this network"):
        with_weights(preset("resnet20"), (32, 32), str(path))
    with pytest.raises(WeightsError, match="is no file"):
        with_weights(small(), (32, 32), str(tmp_path / "other.pth"))
    with pytest.raises(
        ConfigError, match=r"weights = IMAGENET1K_V1 is not accepted: a file, a model of .*, or one of random"
    ):
        with_weights(small(), (32, 32), "IMAGENET1K_V1")


# -- folding ------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [config for config in KINDS if config.order == "post"], ids=name_of)
def test_a_folded_network_computes_the_same(config: ResNetConfig) -> None:
    few = narrowed(config)
    if few.norm != "batch":
        with pytest.raises(ExportError, match="norm = group cannot be folded"):
            fold(randomly(few))
        return
    network = trained(randomly(few))
    folded = fold(network)
    assert not folded.training
    images = torch.randn(2, few.in_channels, 64, 80)
    with torch.no_grad():
        ours = network(images)
        torch.testing.assert_close(folded(images), ours, rtol=1e-5, atol=1e-5 * ours.abs().max().item())


class WithoutDoubles(TorchDispatchMode):
    """As on an Apple GPU, which has no numbers of 64 bits."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **kwargs or {})
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor) and one.dtype == torch.float64 and one.device.type != "cpu":
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return made


def test_a_network_on_a_gpu_without_doubles_is_folded() -> None:
    with FakeTensorMode():
        network = build(small(), "cuda").eval()
        with WithoutDoubles():
            folded = fold(network)
    assert "bn1.weight" not in folded.state_dict()


def test_a_folded_network_is_traced_as_one_without_norms() -> None:
    config = preset("resnet50")
    before, after = trace(config), trace(folded_config(config))
    norms = [layer for layer in before.layers if layer.op == Op.BATCH_NORM]
    assert [layer.name for layer in after.layers] == [layer.name for layer in before.layers if layer not in norms]
    assert after.macs == before.macs
    assert after.params == before.params - sum(layer.params for layer in norms) // 2  # a bias for a scale and a shift
    with pytest.raises(ExportError, match="order = pre cannot be folded"):
        folded_config(preset("resnetv2_50"))
    shipped = fold(with_weights(preset("resnet20_fashion"), (32, 32), "")[0])
    reopened(safetensors(shipped, says(shipped.config)), shipped.config)


# -- the command --------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "folded"), [("safetensors", False), ("onnx", True), ("pt2", False)])
def test_the_command_writes_files_with_weights(
    kind: str, folded: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "made" / f"resnet20.{kind}"
    assert main(["export", "resnet20_fashion", kind, "-o", str(path), *["--folded"] * folded]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "weights: Trained on Fashion-MNIST, shipped" in out
    assert ("batch norms folded" in out) == folded
    network = with_weights(preset("resnet20_fashion"), (28, 28), "bundled")[0]
    if kind == "safetensors":
        with safe_open(path, framework="pt") as file:
            link = file.metadata()["link"]
        assert (parse_network(link).config, parse_network(link).weights) == (network.config, "bundled")
        assert reopened(path.read_bytes(), network.config)
    if kind == "onnx":
        assert "in onnxruntime its scores differ by " in out
        assert onnx.difference(path.read_bytes(), network, (28, 28)) < 1e-4
        assert "BatchNormalization" not in {node.op_type for node in onnx_package.load(path).graph.node}
    if kind == "pt2":
        images = torch.randn(1, 1, 28, 28)
        with torch.no_grad():
            torch.testing.assert_close(torch.export.load(path).module()(images), network(images))


@pytest.mark.parametrize("own", [True, False], ids=["own images", "shipped images"])
def test_the_command_writes_integers(own: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Calibrated on the images that are named, else on the samples of its classes; checked in onnxruntime."""
    path, network = tmp_path / "small.onnx", with_weights(preset("resnet20_fashion"), (28, 28), "bundled")[0]
    named = []
    for sample in CLOTHES[:2] if own else ():
        named.append(str(tmp_path / f"{sample.name}.png"))
        sample.image().save(named[-1])
    calibrated = ["--calibrate", *named] if own else []
    assert main(["export", "resnet20_fashion", "onnx", "--int8", *calibrated, "-o", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    used = CLOTHES[:2] if own else CLOTHES
    same = re.search(r"the best class is the same on (\d+) of the (\d+) images that calibrated them", out)
    assert same is not None
    assert int(same[2]) == len(used)
    grey = np.stack([np.asarray(sample.image().convert("L")) for sample in used])
    images = normalised(grey, FASHION_MNIST.preprocessing)
    file = onnx_package.load(path)
    tensors = {one.name: onnx_package.numpy_helper.to_array(one) for one in file.graph.initializer}
    assert tensors["image_scale"] == pytest.approx(float(images.max() - images.min()) / 255, rel=1e-3)
    assert tensors["conv1.weight_quantized"].dtype == np.int8
    assert "BatchNormalization" not in {node.op_type for node in file.graph.node}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"image": images.numpy()})
    with torch.no_grad():
        expected = network(images).numpy()
    assert (scores.argmax(1) == expected.argmax(1)).sum() == int(same[1])
    assert 1e-4 < np.abs(scores - expected).max() / np.abs(expected).max() < 0.1
    says = {one.key: one.value for one in file.metadata_props}
    assert says["weights"] == "Trained on Fashion-MNIST, shipped, int8"
    assert parse_network(says["link"]).config == network.config


def test_scores_that_overflow_calibrate_nothing() -> None:
    network = randomly(small()).requires_grad_(False)
    network.state_dict()["fc.bias"].fill_(float("inf"))
    with pytest.raises(ExportError, match="overflow: other weights or another size are accepted"):
        int8.model(network, torch.ones(1, 3, 32, 32), {})


def test_the_command_prints_code_and_calls(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "resnet50d", "timm"]) == 0
    assert capsys.readouterr().out == 'import timm\n\nmodel = timm.create_model("resnet50d")\n'
    assert main(["export", "resnet50", "torchvision"]) == 0
    assert capsys.readouterr().out == "import torchvision\n\nmodel = torchvision.models.resnet50()\n"
    assert main(["export", "resnet18", "code", "--folded"]) == 0
    assert capsys.readouterr().out == code(folded_config(preset("resnet18")))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("resnet20 timm", "timm builds no network with stem = 3x3: its own has 7x7 or deep or tiered."),
        (
            "resnet18 onnx -o {} --weights nothing",
            "weights = nothing is not accepted: a file, a model of the Hugging Face hub as OWNER/NAME, or one of ",
        ),
        ("resnet18 safetensors -o {} --weights a/b.pth", "a/b.pth is no file: the path of a checkpoint is accepted."),
        ("resnetv2_50 pt2 -o {} --folded", "order = pre cannot be folded"),
        ("resnet18 onnx -o {} --int8 --calibrate no.png", "no.png: It cannot be read (No such file or directory)"),
    ],
)
def test_what_cannot_be_exported_is_a_sentence(
    arguments: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *arguments.format(tmp_path / "file").split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"explorer: [^\n]+\.\n", err)
    assert words in err
    assert not [*tmp_path.iterdir()]


def test_scores_that_differ_in_onnxruntime_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = randomly(small())
    file = onnx.model(network, (32, 32), {})
    assert onnx.checked(file, network, (32, 32)) < 1e-4
    with pytest.raises(ExportError, match="the scores differ by"):
        onnx.checked(file, randomly(small(), seed=1), (32, 32))


def test_the_app_hands_a_network_on() -> None:
    """By its own call, torchvision's and timm's, each of which builds the same network, and as code that stands alone."""

    def script() -> None:
        from explorer.views import headline
        from resnet.presets import preset

        headline.share(preset("resnet50"))

    app = AppTest.from_function(script, default_timeout=60).run()
    assert not app.exception
    written = app.code[1].value
    counts = []
    for text in re.split(r"\n\n(?=(?:from resnet|import t))", written):
        made: dict[str, Any] = {}
        exec(text, made)
        counts.append(sum(one.numel() for one in made["model"].parameters()))
    assert counts == [25_557_032] * 3
    (button,) = app.get("download_button")
    assert button.proto.label == "PyTorch, one file"


def test_the_app_hands_a_network_with_its_weights_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folded or not, made when the button is clicked and not before, in a process of its own where it takes long."""
    makes: dict[str, Callable[[], bytes]] = {}
    monkeypatch.setattr(files, "download", lambda label, make, name, *_, **__: makes.update({name: make}))

    def script() -> None:
        from explorer.views import files

        files.network_files()

    config = preset("resnet20_fashion")
    app = AppTest.from_function(script, default_timeout=60)
    app.query_params["preset"] = "resnet20_fashion"
    app.run()
    assert not app.exception
    assert app.caption[0].value == "This network with its weights: Trained on Fashion\\-MNIST, shipped"
    assert [*makes] == ["resnet20_fashion.safetensors", "resnet20_fashion.onnx", "resnet20_fashion.pt2"]
    app.checkbox[0].check().run()
    images = torch.randn(2, 1, 28, 28)
    with torch.inference_mode():
        scores = with_weights(config, (28, 28), "")[0](images)
    for name in ("resnet20_fashion.safetensors", "resnet20_fashion-folded.onnx"):
        opened = open_checkpoint(makes[name](), name)
        assert opened.declared
        assert opened.config == (folded_config(config) if "folded" in name else config)
        with torch.inference_mode():
            torch.testing.assert_close(
                network_of(opened.config, opened.state_dict)(images), scores, rtol=1e-4, atol=1e-4
            )


def test_what_is_made_apart_answers_in_a_sentence() -> None:
    network = randomly(small(norm="group"))
    with pytest.raises(ExportError, match=r"^norm = group cannot be folded: [^\n]+\.$"):
        files.made_apart("onnx", network, (32, 32), says(network.config), True)
    with pytest.raises(ExportError, match=r"takes more than 0 s to make here: `resnet-explorer export` makes it"):
        files.made_apart("onnx", network, (32, 32), says(network.config), False, seconds=0.01)


def test_what_is_too_large_for_a_download_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_DOWNLOAD_BYTES", 2**20)
    (weights,) = bundled(preset("resnet56_fashion"))
    assert re.fullmatch(r"They take 3 MiB, and files of at most 1 MiB are made here: .*\.", files.why_not(weights))
    assert files.why_not(bundled(preset("resnet20_fashion"))[0]).startswith("They take 1 MiB")
