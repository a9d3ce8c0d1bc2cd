"""Uploaded checkpoints: which network their tensors are of, and what hostile files get."""

from __future__ import annotations

import gc
import io
import json
import math
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib
from argparse import Namespace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from streamlit.testing.v1 import AppTest
from torch import Tensor, nn

from explorer.inference.device import Device
from explorer.sharing.holdings import Holdings
from explorer.views import own_checkpoint as checkpoint_view
from helpers import closed, held, link, run, saved, turned_to
from resnet import PRESETS, ConfigError, ResNetConfig, build, infer_config, open_checkpoint, preset, reading
from resnet.checkpoint import MAX_FILE_BYTES, WeightsError, mismatches, network, not_finite, read_state_dict, unseen
from resnet.weights import BUNDLED, FASHION_MNIST, Numbered, bundled_path, load, own_weights, read_checkpoint

SMALL = ResNetConfig(layers=(1, 1), planes=(4, 8), block="basic", stem="3x3", stem_pool="none", num_classes=5)
THEIRS = [name for name in PRESETS if hasattr(torchvision.models, name) or timm.is_model(name)]


def theirs(name: str, **given: Any) -> nn.Module:
    """The network as torchvision builds it, else timm."""
    make = getattr(torchvision.models, name, None)
    return make(**given) if make else timm.create_model(name, **given)


def small_state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(build(SMALL).state_dict())


def refused(data: bytes, name: str = "mine.pth") -> str:
    """The one sentence or two that a file gets."""
    with pytest.raises(WeightsError) as caught:
        read_state_dict(data, name)
    words = str(caught.value)
    assert words.startswith(name)
    assert words.endswith(".")
    assert "\n" not in words
    assert len(words) < 400
    return words


# -- which network ------------------------------------------------------------------------


def test_enough_networks() -> None:
    assert len(THEIRS) >= 80


@pytest.mark.parametrize("name", THEIRS)
def test_networks_of_torchvision_and_timm(name: str) -> None:
    """All but anti-aliasing, which has no tensors; where that is so it is among what must be asked."""
    with torch.device("meta"):
        state = theirs(name).state_dict()
    found, wanted = infer_config(state), PRESETS[name]
    assert not mismatches(found, state)
    asked = unseen(found, state)
    assert found == wanted.with_(antialias="none")[0]
    assert found == wanted or wanted.antialias in asked["antialias"]


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": (1, 2, 1, 1, 1)},
        {"block": "basic", "shortcut": "C"},
        {"shortcut": "D"},
        {"order": "pre", "norm": "group", "shortcut": "C"},
        {"norm": "none", "stem": "deep"},
        {"stem": "tiered", "stem_width": 17, "stem_pool": "conv"},
        {"stem": "3x3", "stem_pool": "none", "stem_width": 12},
        {"attention": "se", "se_reduction": 4},
        {"attention": "eca", "in_channels": 7, "num_classes": 3},
        {"groups": 8, "base_width": 12},
        {"planes": (16, 24, 40, 64)},
        {"block": "basic", "planes": (5, 7, 7, 9)},
        {"layers": (2,), "planes": (16,)},
    ],
)
def test_our_own_networks(changes: dict[str, Any]) -> None:
    wanted = ResNetConfig(**{"layers": (1, 2, 1, 1)} | changes)
    state = build(wanted, "meta").state_dict()
    assert infer_config(state) == wanted
    assert not mismatches(wanted, state)


def test_an_option_that_adds_nothing_is_asked() -> None:
    """A plain network and option A have the same tensors."""
    for name in ("resnet20", "plain20"):
        state = build(preset(name), "meta").state_dict()
        config = infer_config(state)
        assert config == preset("resnet20")
        assert unseen(config, state)["shortcut"] == ("none", "A")


def test_what_is_asked_fits_and_nothing_else_does() -> None:
    config = preset("resnet50")
    state = build(config, "meta").state_dict()
    assert unseen(config, state) == {
        "stride_in": ("3x3", "1x1"),
        "stem_pool": ("max", "none"),
        "output_stride": (32, 16, 8),
        "activation": ("relu", "leaky_relu", "elu", "silu", "gelu"),
        "antialias": ("none", "blur", "avg"),
    }
    for name, values in unseen(config, state).items():
        for value in values:
            assert not mismatches(config.with_(**{name: value})[0], state)
    bare = build(SMALL.with_(norm="none")[0], "meta").state_dict()
    assert unseen(infer_config(bare), bare)["order"] == ("post", "pre")


def test_timm_hides_whether_a_shortcut_pools() -> None:
    with torch.device("meta"):
        state = theirs("resnetv2_50").state_dict()
    config = infer_config(state)
    assert unseen(config, state)["shortcut"] == ("B", "D")
    assert not mismatches(config.with_(shortcut="D")[0], state)


def test_dilation_is_asked() -> None:
    with torch.device("meta"):
        state = theirs("resnet50", replace_stride_with_dilation=[False, True, True]).state_dict()
    assert infer_config(state) == preset("resnet50")
    assert 8 in unseen(preset("resnet50"), state)["output_stride"]


@pytest.mark.parametrize(
    "name",
    [
        "resnest14d",
        "res2net50_26w_4s",
        "skresnet18",
        "densenet121",
        "vgg11",
        "vit_tiny_patch16_224",
        "regnety_002",
        "ecaresnet50d_pruned",
        "gcresnet50t",
    ],
)
def test_other_networks_are_a_sentence(name: str) -> None:
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    with pytest.raises(ConfigError, match="is not accepted"):
        infer_config(state)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"conv1.weight": torch.zeros(64, 3, 7, 7)},
        {"layer1.0.conv1.weight": torch.zeros(3)},
        {"layer9999.9999.conv1.weight": torch.zeros(3)},
        {"layer0.0.conv1.weight": torch.zeros(3)},
        {f"layer1.{i}.conv{j}.weight": torch.zeros(1, 1, 1, 1) for i in range(1001) for j in (1, 2)}
        | {"conv1.weight": torch.zeros(1, 3, 7, 7)},
    ],
    ids=["empty", "stem alone", "no kernel", "far away", "stage 0", "too deep"],
)
def test_nonsense_is_a_sentence(state: dict[str, Tensor]) -> None:
    with pytest.raises(ConfigError):
        infer_config(state)


@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (4,), (4, 4, 3, 0), (), (4, 4, 3, 3, 1)])
def test_wrong_shapes_are_a_sentence(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"layer1\.0\.conv2\.weight"):
        infer_config(small_state() | {"layer1.0.conv2.weight": torch.zeros(shape)})


# -- what does not fit --------------------------------------------------------------------


def test_mismatches_are_listed_by_name_and_shape() -> None:
    state = small_state()
    del state["fc.bias"]
    state |= {"fc.weight": torch.zeros(5, 9), "aux.weight": torch.zeros(2, 2), "total_ops": torch.zeros(1)}
    wrong = mismatches(SMALL, state)
    assert wrong == [("fc.weight", (5, 8), (5, 9)), ("fc.bias", (5,), None), ("aux.weight", None, (2, 2))]
    assert str(wrong[0]) == "fc.weight: 5×8 in the network, 5×9 in the file"
    assert str(wrong[1]) == "fc.bias: 5 in the network, nothing in the file"
    with pytest.raises(WeightsError, match=r"first fc\.weight: 5×8 in the network, 5×9 in the file"):
        network(SMALL, state)


def test_a_file_without_a_classifier() -> None:
    state = {name: tensor for name, tensor in small_state().items() if not name.startswith("fc.")}
    config = infer_config(state)
    assert config == SMALL.with_(num_classes=1000)[0]
    assert [wrong.name for wrong in mismatches(config, state)] == ["fc.weight", "fc.bias"]


def test_counters_do_not_matter() -> None:
    state = {name: tensor for name, tensor in small_state().items() if not name.endswith("num_batches_tracked")}
    assert not mismatches(SMALL, state)
    network(SMALL, state)


# -- reading ------------------------------------------------------------------------------

WRAPPED: dict[str, Any] = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "loss": torch.tensor(0.5)},
    "model": lambda state: {"model": state},
    "twice": lambda state: {"model": {"state_dict": state}},
    "module": lambda state: {"module." + name: tensor for name, tensor in state.items()},
    "compiled": lambda state: {"_orig_mod.module." + name: tensor for name, tensor in state.items()},
    "parameters": lambda state: {
        name: nn.Parameter(tensor) if tensor.is_floating_point() else tensor for name, tensor in state.items()
    },
    "kuangliu": lambda state: {
        name.replace("downsample", "shortcut").replace("fc.", "linear."): tensor for name, tensor in state.items()
    },
}


@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_wrappers_are_taken_off(wrapper: str, zipped: bool) -> None:
    state = small_state()
    found = read_state_dict(saved(WRAPPED[wrapper](state), zipped), "mine.pth")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert infer_config(WRAPPED[wrapper](state)) == SMALL


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_becomes_float32(dtype: torch.dtype) -> None:
    state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in small_state().items()}
    found = read_state_dict(safetensors.torch.save(state), "mine.safetensors")
    assert {tensor.dtype for tensor in found.values()} == {torch.float32, torch.int64}
    torch.testing.assert_close(found["fc.weight"], state["fc.weight"].float())


@pytest.mark.parametrize("name", ["resnet18", "resnetv2_18", "seresnet18"])
def test_an_uploaded_network_computes_what_theirs_does(name: str) -> None:
    torch.manual_seed(3)
    model = theirs(name).eval()
    state = read_state_dict(saved(model.state_dict()), "mine.pth")
    weights = own_weights(infer_config(state), (224, 224), "mine.pth", "digest")
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = model(image)
        torch.testing.assert_close(load(weights, state_dict=state)(image), expected, rtol=1e-4, atol=1e-4)


def test_a_projection_whose_number_is_hidden_fits() -> None:
    """As in the names of fastai's of 2019: whether a pool stands before it is for the configuration to say."""
    config = preset("resnet18d")
    state = build(config).state_dict()
    hidden = {
        name.replace("downsample.1.", "downsample.conv.").replace("downsample.2.", "downsample.norm."): tensor
        for name, tensor in state.items()
    }
    assert not mismatches(config, hidden)
    assert network(config, hidden).state_dict().keys() == state.keys()


def test_our_own_file_says_its_configuration() -> None:
    """Which tensors alone could not: plain-20 has those of ResNet-20."""
    for name, config in BUNDLED.items():
        if bundled_path(name).exists():
            data = bundled_path(name).read_bytes()
            opened = open_checkpoint(data, name)
            assert (opened.declared, opened.config) == (True, config)
            assert not mismatches(config, read_state_dict(data, name))
            ours = read_checkpoint(bundled_path(name))[0].state_dict()
            assert all(torch.equal(ours[key], tensor) for key, tensor in read_state_dict(data, name).items())


@pytest.mark.parametrize(
    "metadata", [None, {}, {"config": "{"}, {"config": '{"layers": [0]}'}, {"config": "[1]"}, {"config": '{"x": 1}'}]
)
def test_a_file_that_says_nothing_sensible(metadata: dict[str, str] | None) -> None:
    assert not open_checkpoint(safetensors.torch.save(small_state(), metadata), "x").declared
    assert not open_checkpoint(saved(small_state()), "x").declared


def test_what_a_checkpoint_was_trained_on_is_assumed() -> None:
    weights = own_weights(preset("resnet50"), (224, 224), "a", "d")
    assert weights.data.categories[281] == "tabby"
    assert (weights.data.preprocessing.resize, weights.data.preprocessing.size) == (256, (224, 224))
    assert own_weights(preset("resnet50"), (320, 640), "a", "d").data.preprocessing.size == (320, 640)
    assert weights.data.preprocessing.mean == (0.485, 0.456, 0.406)
    for shipped, known in (("resnet20_fashion", True), ("resnet56_fashion", True), ("resnet18", False)):
        grey, _ = preset(shipped).with_(in_channels=1, num_classes=10)
        data = own_weights(grey, (28, 28), "a", "d").data
        assert (data.preprocessing == FASHION_MNIST.preprocessing) == known
        assert data.categories == (FASHION_MNIST.categories if known else Numbered(10))
        assert not data.licence
    assert list(own_weights(SMALL, (32, 32), "a", "d").data.categories) == [f"class {i}" for i in range(5)]
    assert len(own_weights(SMALL.with_(in_channels=4)[0], (32, 32), "a", "d").data.preprocessing.std) == 4


# -- hostile files ------------------------------------------------------------------------


class Command:
    """What runs a command when it is unpickled without care."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        import os

        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize(
    "write",
    [
        lambda value: saved(value),
        lambda value: saved(value, zipped=False),
        lambda value: pickle.dumps(value),
        lambda value: pickle.dumps(value, 2),
    ],
    ids=["zip", "legacy", "pickle", "pickle 2"],
)
def test_a_command_is_not_run_and_named(write: Any, tmp_path: Path) -> None:
    target = tmp_path / "ran"
    words = refused(write({"state_dict": small_state(), "x": Command(target)}))
    assert "posix.system" in words or "nt.system" in words
    assert "not opened" in words
    assert not target.exists()


def test_objects_beside_the_tensors_are_left_out() -> None:
    """What a script puts beside its weights, and the network itself around them."""
    beside = {"args": Namespace(lr=0.1), "best": np.float64(0.9), "folder": Path("data"), "day": date(2020, 1, 1)}
    found = read_state_dict(saved({"state_dict": small_state(), **beside}), "mine.pth")
    assert found.keys() == small_state().keys()
    model = torchvision.models.resnet18()
    for value in (model, {"model": model}, Namespace(model=model)):
        assert read_state_dict(saved(value), "mine.pth").keys() == model.state_dict().keys()


def test_what_is_no_state_dict_is_named() -> None:
    assert "it is a whole argparse.Namespace" in refused(saved(Namespace(lr=0.1)))
    assert "it is a list" in refused(saved([small_state()]))


@pytest.mark.parametrize(
    "name", ["builtins\nbytearray", "_codecs\nencode", "torch\nTensor", "torch._utils\n_rebuild_wrapper_subclass"]
)
def test_calls_that_torch_allows_but_can_take_any_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened"))
    call = b"\x80\x02c" + name.encode() + b"\n\x8a\x06" + (10**12).to_bytes(6, "little") + b"\x85R."
    assert name.replace("\n", ".") in refused(call)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", call)
    assert name.replace("\n", ".") in refused(archive.getvalue())


@pytest.mark.parametrize("keep", [1, 2, 4, 8, 9, 100, 0.5, -1])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated_files(kind: str, keep: float) -> None:
    state = small_state()
    whole = {"zip": saved(state), "legacy": saved(state, zipped=False), "safetensors": safetensors.torch.save(state)}[
        kind
    ]
    cut = int(keep * len(whole)) if isinstance(keep, float) else keep
    refused(whole[:cut])


@pytest.mark.parametrize(
    "data",
    [b"", b"not a checkpoint at all", b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\x05\x06" + bytes(18), bytes(10**5)],
)
def test_files_that_are_no_checkpoints(data: bytes) -> None:
    words = refused(data)
    assert ("is empty" in words) == (not data)


def test_over_the_limit() -> None:
    assert "has 400 MiB: at most 400 MiB are accepted" in refused(bytes(MAX_FILE_BYTES + 1))


@pytest.mark.parametrize("given", [None, 3, "mine.pth", Path("mine.pth"), [1], io.BytesIO(b"x"), torch.zeros(2)])
def test_what_is_no_bytes_is_a_sentence(given: Any) -> None:
    assert "its bytes are accepted, as Path.read_bytes() has them" in refused(given)


@pytest.mark.parametrize("kind", [bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
def test_bytes_of_any_kind(kind: Any) -> None:
    assert read_state_dict(kind(saved(small_state())), "mine.pth").keys() == small_state().keys()


@pytest.mark.parametrize(
    "text", ["\x1b[31mred\x1b[0m", "a\nb\r\t\0", "\u202egnp.\u2066x\u2069\u200f", "\ud800", "x" * 5000]
)
def test_names_are_shown_as_text(text: str) -> None:
    """Of the file, a tensor, and what a pickle would call: nothing that a terminal obeys, that is unseen, or endless."""
    clean = text.encode("utf-8", "replace").decode()
    weights = {f"{clean[:400]}.weight": torch.zeros(2, dtype=torch.int8)}
    files = [
        b"",
        saved(weights),
        safetensors.torch.save(weights),
        b"\x80\x02c" + clean.replace("\n", " ").encode() + b"\nx\n)R.",
    ]
    shown = []
    for data in files:
        with pytest.raises(WeightsError) as caught:
            read_state_dict(data, text)
        shown.append(str(caught.value))
    state = {f"{text[:400]}.conv.weight": torch.zeros(2, 2, 2, 2)}
    with pytest.raises(ConfigError) as wrong:
        infer_config(state)
    shown += [str(wrong.value), str(mismatches(SMALL, state)[-1]), own_weights(SMALL, (32, 32), text, "d").title]
    for words in shown:
        assert words.isprintable(), words
        assert len(words) < 600


@pytest.mark.parametrize(
    "config",
    [
        "",
        "[]",
        "null",
        "3",
        '"x"',
        "{",
        "[" * 5000,
        '{"layers":' * 3000,
        '{"layers": [[1]]}',
        '{"layers": {"a": 1}}',
        '{"layers": [1e999]}',
        '{"layers": [' + "1," * 4000 + "1]}",
        '{"layers": 1' + "0" * 5000 + "}",
        '{"planes": "\\ud800"}',
        '{"nothing": 1}',
        '{"groups": true}',
        '{"layers": [500, 500, 500]}',
        "x" * 100_000,
        '{"num_classes": NaN}',
    ],
)
def test_a_configuration_that_is_none_is_ignored(config: str) -> None:
    opened = open_checkpoint(safetensors.torch.save(small_state(), {"config": config}), "mine")
    assert not opened.declared
    assert opened.config == SMALL


@pytest.mark.parametrize("metadata", [[], 3, "x", {"config": 3}, {"config": {"layers": [1]}}, {"config": None}])
def test_metadata_of_another_kind(metadata: Any) -> None:
    data = safetensors.torch.save(small_state())
    (length,) = struct.unpack("<Q", data[:8])
    header = json.dumps({"__metadata__": metadata} | json.loads(data[8 : 8 + length])).encode()
    changed = struct.pack("<Q", len(header)) + header + data[8 + length :]
    if isinstance(metadata, dict):
        assert not open_checkpoint(changed, "mine").declared
    else:
        refused(changed)


@pytest.mark.parametrize(("shape", "dtype"), [((64, 2**19), torch.float32), ((2**19, 64), torch.float16)])
@pytest.mark.parametrize("count", [1, 16])
def test_reading_takes_the_memory_of_the_tensors(count: int, shape: tuple[int, int], dtype: torch.dtype) -> None:
    """Of 128 MiB in float32, in any number of tensors; so does looking for numbers that are not finite."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("memory is read from /proc")
    script = """
import io, re, sys, torch
from resnet import read_state_dict
from resnet.checkpoint import not_finite
held = lambda name: int(re.search(name + r":\\s+([0-9]+)", open("/proc/self/status", encoding="utf-8").read())[1]) // 1024
data = sys.stdin.buffer.read()
before = held("VmRSS")
tensors = read_state_dict(data, "mine")
assert not not_finite(tensors)
print(held("VmHWM") - before, held("VmRSS") - before)
"""
    data = saved({f"{index}.weight": torch.ones(shape, dtype=dtype)[::count].clone() for index in range(count)})
    ended = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True)
    most, after = map(int, ended.stdout.split())
    assert 128 <= after < 128 + 24
    assert most < 128 + 40


@pytest.mark.parametrize("shape", [(7,), (30, 5), (3, 40, 2), (1, 1, 90)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.int64])
def test_a_large_tensor_is_read_in_parts(
    shape: tuple[int, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its shape and however it lies in the file; a part has a few numbers here."""
    monkeypatch.setattr(reading, "PART_BYTES", 24)
    whole = torch.arange(2 * math.prod(shape), dtype=dtype).reshape(*shape, 2)
    state = {"a": whole[..., 1], "b": whole[..., 0].contiguous(), "c": whole.transpose(0, -1), "d": whole.flatten()[3]}
    found = read_state_dict(saved(state), "mine.pt")
    assert all(
        found[name].equal(tensor.float() if dtype.is_floating_point else tensor) for name, tensor in state.items()
    )


def repacked(data: bytes, compression: int, **replaced: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(stream, "w", compression) as after:
        for record in before.infolist():
            content = replaced.get(record.filename.rpartition("/")[2], before.read(record))
            after.writestr(record.filename, content)
    return stream.getvalue()


def test_a_zip_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened"))
    bomb = repacked(saved({"a": torch.zeros(2**24)}), zipfile.ZIP_DEFLATED)
    assert len(bomb) < 2**20
    assert "64 MiB unpacked" in refused(bomb)


def test_a_zip_whose_entries_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many names for the same bytes."""
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened"))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(10**5))
        (first,) = archive.infolist()
        for number in range(50):
            copy = zipfile.ZipInfo(f"archive/data/{number}")
            copy.file_size, copy.compress_size = first.file_size, first.compress_size
            copy.CRC, copy.header_offset = zlib.crc32(bytes(10**5)), first.header_offset
            archive.filelist.append(copy)
        archive._didModify = True  # type: ignore[attr-defined]
    assert "5 MiB unpacked" in refused(stream.getvalue())


def test_a_tensor_that_claims_more_than_its_record() -> None:
    refused(repacked(saved({"a": torch.zeros(4)}), zipfile.ZIP_STORED, **{"0": bytes(4)}))


def test_a_tensor_that_stands_for_more_than_it_holds() -> None:
    wide = torch.zeros(1).expand(2**20, 2**12)
    assert "16,384 MiB" in refused(saved({"conv1.weight": wide}))


def test_a_dictionary_that_holds_itself() -> None:
    loop: dict[str, Any] = {}
    loop["model"] = loop
    assert "holds no tensors" in refused(saved(loop))


@pytest.mark.parametrize("value", [[1, 2], 3, {"a": 1}, {1: torch.zeros(2)}, torch.zeros(3), [torch.zeros(2)], {}])
def test_no_tensors_by_name(value: Any) -> None:
    assert "holds no tensors" in refused(saved(value))


@pytest.mark.parametrize("kind", ["int8", "complex64", "sparse"])
def test_tensors_that_are_no_weights(kind: str) -> None:
    weight = torch.eye(3).to_sparse() if kind == "sparse" else torch.eye(3).to(getattr(torch, kind))
    refused(saved({"fc.weight": weight}))


def test_a_torchscript_program() -> None:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), stream)
    assert "TorchScript" in refused(stream.getvalue())


def test_a_safetensors_header_that_lies() -> None:
    def file(**entry: Any) -> bytes:
        header = json.dumps({"fc.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | entry}).encode()
        return struct.pack("<Q", len(header)) + header + bytes(16)

    assert read_state_dict(file(), "x")["fc.weight"].shape == (2, 2)
    for entry in (
        {"shape": [2**40, 2**40]},
        {"shape": [-1]},
        {"data_offsets": [0, 999]},
        {"dtype": "F1"},
        {"shape": 3},
    ):
        refused(file(**entry))
    refused(struct.pack("<Q", 2**62) + b"{" + bytes(100))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 5000,
        {},
        {"contents": []},
        {"refused": "x\n\x1b[31m" * 100},
        {"contents": {"a": []}},
        *(
            {"contents": {"a": entry}}
            for entry in (
                ["float32", [2], [1], 0, -8],
                ["float32", [2], [1], -2, 8],
                ["float32", [2], [-1], 0, 0],
                ["float32", [-2], [1], 0, 0],
                ["float32", [2, 2], [1], 0, 0],
                ["float32", [2.0], [1], 0, 0],
                ["float32", [26], [1], 0, 0],
                ["float32", [25], [1], 1, 0],
                ["float32", [25], [1], 0, 4],
                ["float32", [0], [1], 0, 2**60],
                ["load", [0], [1], 0, 0],
                ["load", [1], [1], 0, 0],
                [[], [1], [1], 0, 0],
                ["float32", 3, 3, 0, 0],
                ["float32", [1] * 30, [1] * 30, 0, 0],
            )
        ),
    ],
)
def test_what_the_process_answers_is_checked(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a file may have taken it over: what it says of 100 bytes."""
    said = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    monkeypatch.setattr(reading, "confined", lambda *_, **__: said)
    with pytest.raises(WeightsError) as caught:
        read_state_dict(bytes(100), "x")
    assert str(caught.value).isprintable()
    good = json.dumps({"contents": {"a": ["float32", [24], [1], 1, 0]}}).encode()
    monkeypatch.setattr(reading, "confined", lambda *_, **__: good)
    assert len(read_state_dict(bytes(100), "x")["a"]) == 24


@pytest.mark.parametrize("length", [*range(0x7F78, 0x7F90, 8), int.from_bytes(b"PK", "little")])
def test_a_safetensors_file_may_begin_as_another_format_does(length: int) -> None:
    """With the length of its header, of any value."""
    header = json.dumps({"fc.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode().ljust(length)
    assert read_state_dict(struct.pack("<Q", length) + header + bytes(4), "x")["fc.weight"].tolist() == [0]


def test_not_finite_weights_are_named() -> None:
    state = small_state()
    state["layer1.0.conv1.weight"][0, 0, 0, 0] = torch.nan
    state["fc.bias"][1] = torch.inf
    state["phases"] = torch.tensor([1j, complex(0, torch.inf)])
    state["none"] = torch.zeros(0)
    assert not_finite(read_state_dict(saved(state), "mine.pth")) == ["layer1.0.conv1.weight", "fc.bias", "phases"]


# -- in the app ---------------------------------------------------------------------------


def app_with(**query: str) -> AppTest:
    app = closed(**query)
    app.session_state["own checkpoint"] = True
    return turned_to(app, "inference")


def upload(app: AppTest, data: bytes, name: str = "mine.pth") -> AppTest:
    number = held(app).checkpoint_widget
    app.file_uploader(key=f"checkpoint {number}").set_value((name, data, "application/octet-stream"))
    return run(app)


def shown(alerts: Any) -> str:
    return " ".join(alert.value for alert in alerts).replace("\\", "")


def test_an_upload_opens_runs_and_is_forgotten() -> None:
    app = app_with(preset="resnet20_fashion")
    opened = SMALL.to_query() | {"weights": "upload"}
    upload(app, saved({"state_dict": small_state()}))
    assert link(app) == opened
    assert app.selectbox(key="weights").value == "upload"
    assert "mine.pth was understood by its tensors" in shown(app.info)
    app.selectbox(key="asked activation").set_value("silu")
    run(app)
    assert link(app) == opened | {"activation": "silu"}
    assert app.selectbox(key="weights").value == "upload"
    app.text_input(key="option planes").set_value("4-16")
    run(app)
    assert app.selectbox(key="weights").value is None
    assert "do not fit this network" in shown(app.warning)
    (rows,) = (table.value for table in app.dataframe)
    assert list(rows.loc[rows["Tensor"] == "fc.weight"].iloc[0]) == ["fc.weight", "5×16", "5×8"]
    next(button for button in app.button if button.label == "Open its network").click()
    run(app)
    assert link(app) == opened
    next(button for button in app.button if button.label == "Forget it").click()
    run(app)
    assert link(app) == SMALL.to_query()
    assert app.selectbox(key="weights").value is None


def test_two_uploads_of_one_network_are_two_networks() -> None:
    app, seen = app_with(**SMALL.to_query()), []
    for value in (0.0, 1.0):
        state = small_state() | {"fc.weight": torch.zeros(5, 8), "fc.bias": value * 100 * torch.eye(5)[3]}
        upload(app, saved(state))
        seen.append(next(text.value for text in app.markdown if text.value.startswith("**class")))
    assert "20.0%" in seen[0]
    assert seen[1] == "**class 3**, 100.0%"


@pytest.mark.parametrize("data", [b"", b"text", saved({"features.0.weight": torch.zeros(3, 3, 3, 3)})])
def test_a_bad_upload_leaves_the_network(data: bytes) -> None:
    app = app_with(**SMALL.to_query())
    upload(app, data, "[b](http://x).pth")
    assert "[b](http" in shown(app.error).replace("\u2060", "")
    assert shown(app.error).endswith("The network is unchanged.")
    assert link(app) == SMALL.to_query()
    upload(app, saved(small_state()))
    assert not app.error


def test_a_network_shares_the_tensors_of_its_checkpoint() -> None:
    """So that they are in memory once, and a pass leaves them as they are."""
    state = small_state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    network = load(own_weights(SMALL, (32, 32), "mine", "digest"), state_dict=state)
    own = network.state_dict()
    assert all(own[name].data_ptr() == tensor.data_ptr() for name, tensor in state.items() if "tracked" not in name)
    Device("cpu", "CPU", half=True, channels_last=True).network(network)(torch.zeros(1, 3, 32, 32).bfloat16())
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.items())


def test_all_sessions_share_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """One's own checkpoint makes way for the next; another person's is in the way until it is forgotten."""
    data = saved(small_state())
    ours = Holdings(len(data) + 100)
    monkeypatch.setattr(checkpoint_view, "HELD_FILES", ours)
    one, other = app_with(**SMALL.to_query()), app_with(**SMALL.to_query())
    for _ in range(2):
        upload(one, data)
        assert not one.error
    upload(other, data)
    assert "mine.pth finds no room: this server already holds 0.0 GiB of people's files" in shown(other.error)
    assert shown(other.error).endswith("The network is unchanged.")
    next(button for button in one.button if button.label == "Forget it").click()
    run(one)
    gc.collect()
    upload(other, data)
    assert not other.error
    assert len(list(ours)) == 1


def test_weights_that_are_not_finite_are_not_run() -> None:
    app = app_with(preset="resnet18")
    upload(app, saved(small_state() | {"fc.bias": torch.full((5,), torch.nan)}))
    assert link(app) == SMALL.to_query()
    assert "in 1 of its tensors, first in fc.bias" in shown(app.warning)
    assert app.selectbox(key="weights").value is None


def test_a_link_to_an_upload_says_that_it_is_elsewhere() -> None:
    app = app_with(**SMALL.to_query(), weights="upload")
    assert "stays with the person who uploaded it" in shown(app.warning)
