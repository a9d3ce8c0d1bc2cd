"""A network in forms that work without this package: executed, loaded by others, and opened again."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import replace
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
from torch import nn

from explorer.analysis.trace import trace
from explorer.bench.browser import ROOT
from explorer.export import onnx
from explorer.export.code import code
from explorer.export.libraries import Call, timm_call, torchvision_call
from explorer.export.provenance import provenance
from explorer.link import View, parse_network
from helpers import every_choice, name_of, narrow, small
from resnet import OPTIONS, PRESETS, ResNetConfig, build, preset
from resnet.command import MissingError
from resnet.presets import GROUPS, TIMM, TORCHVISION
from resnet.weights import randomly


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
                    with pytest.raises(ValueError, match=library):
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


@pytest.mark.parametrize("name", ["resnet20_fashion", "seresnext26t_32x4d", "resnetblur50d"])
def test_onnx_of_networks_with_a_name(name: str) -> None:
    config = preset(name)
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
    with pytest.raises(onnx.OnnxError, match="less than 2 GiB is accepted"):
        onnx.model(randomly(small()), (32, 32), {})
