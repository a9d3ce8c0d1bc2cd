"""A zoo of ResNet checkpoint files, by the layouts of the places where people get or write them.

Weights carry no information: most tensors are one zero expanded to its shape, so that a file of ResNet-50 has some
hundred kilobytes. `Case.expect` says what a user would expect:

opens     the network of the file, every weight in place
asks      opens, and an option that no tensor shows has to be set: `ask` has the value that is right
backbone  the ResNet in a larger file opens with its weights; what was left out is said (`left_out`)
headless  as opens, but the file has no classifier, or another head
refused   a sentence that names what it is; `says` has words that are in it
"""

from __future__ import annotations

import argparse
import io
import pickle
import re
import sys
import types
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Tensors = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], Any]
    """What torch.save is given; bytes are the file itself."""
    file: str
    """The name under which people have such a file."""
    source: str
    """Repository and file that the layout was read from."""
    expect: str
    network: Mapping[str, Any] = field(default_factory=dict)
    """The options of the network, as differences from torchvision's ResNet-50."""
    ask: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    note: str = ""


CASES: list[Case] = []


def case(name: str, file: str, source: str, expect: str, network: Mapping[str, Any] | None = None, **more: Any):
    def add(make: Callable[[], Any]) -> Callable[[], Any]:
        CASES.append(Case(name, make, file, source, expect, network or {}, **more))
        return make

    return add


# -- tensors ------------------------------------------------------------------------------


def thin(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor of this shape that holds one number."""
    return torch.zeros((), dtype=dtype, device="cpu").expand(shape)


def filled(shapes: Shapes, seed: int | None = None) -> Tensors:
    """Thin tensors, or random ones such that signals neither vanish nor explode."""
    if seed is None:
        return {k: thin(s, torch.int64 if k.endswith("tracked") else torch.float32) for k, s in shapes.items()}
    draw = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes.items():
        if name.endswith("tracked"):
            made[name] = torch.tensor(7)
        elif len(shape) > 1:
            fan = shape[1] * (shape[2] * shape[3] if len(shape) == 4 else 1)
            made[name] = torch.randn(shape, generator=draw) * (2 / fan) ** 0.5
        elif name.endswith(("running_var", "weight")):
            made[name] = 0.5 + torch.rand(shape, generator=draw)
        else:
            made[name] = torch.randn(shape, generator=draw) * 0.1
    return made


def of(model: nn.Module) -> Tensors:
    """A module's state dict, thin; build it on the device "meta"."""
    return {k: thin(tuple(v.shape), v.dtype) if isinstance(v, Tensor) else v for k, v in model.state_dict().items()}


def resnet(
    layers: tuple[int, ...] = (3, 4, 6, 3),
    planes: tuple[int, ...] = (),
    *,
    expansion: int = 4,
    inner: Callable[[int], int] = lambda planes: planes,
    groups: int = 1,
    stem: int = 7,
    width: int = 64,
    channels: int = 3,
    classes: int = 1000,
    shortcut: bool = True,
    pre: bool = False,
    final: bool = True,
    norm: str = "batch",
    bias: bool = False,
    seed: int | None = None,
) -> Tensors:
    """A residual network by torchvision's names; expansion 1 is the basic block, 0 classes no classifier."""
    planes = planes or tuple(64 * 2**i for i in range(len(layers)))
    shapes: Shapes = {}

    def conv(name: str, outs: int, ins: int, kernel: int) -> None:
        shapes[f"{name}.weight"] = (outs, ins, kernel, kernel)
        if bias:
            shapes[f"{name}.bias"] = (outs,)

    def bn(name: str, size: int) -> None:
        shapes.update({f"{name}.{k}": (size,) for k in ("weight", "bias")})
        if norm == "batch":
            shapes.update(
                {f"{name}.running_mean": (size,), f"{name}.running_var": (size,), f"{name}.num_batches_tracked": ()}
            )

    conv("conv1", width, channels, stem)
    if not pre:
        bn("bn1", width)
    ins = width
    for stage, (count, plane) in enumerate(zip(layers, planes, strict=True), start=1):
        for index in range(count):
            at, outs, mid = f"layer{stage}.{index}.", plane * expansion, inner(plane)
            chain = (
                [(mid, ins, 1), (mid, mid // groups, 3), (outs, mid, 1)]
                if expansion > 1
                else [(plane, ins, 3), (plane, plane, 3)]
            )
            before = ins
            for number, (a, b, kernel) in enumerate(chain, start=1):
                conv(f"{at}conv{number}", a, b, kernel)
                bn(f"{at}bn{number}", before if pre else a)
                before = a
            if shortcut and index == 0 and (stage > 1 or ins != outs):
                conv(f"{at}downsample.0", outs, ins, 1)
                if not pre:
                    bn(f"{at}downsample.1", outs)
            ins = outs
    if pre and final:
        bn("norm", ins)
    if classes:
        shapes |= {"fc.weight": (classes, ins), "fc.bias": (classes,)}
    return filled(shapes, seed)


def linear(name: str, outs: int, ins: int, bias: bool = True) -> Tensors:
    return filled({f"{name}.weight": (outs, ins)} | ({f"{name}.bias": (outs,)} if bias else {}))


def norm1d(name: str, size: int, affine: bool = True) -> Tensors:
    names = (("weight", "bias") if affine else ()) + ("running_mean", "running_var")
    return filled({f"{name}.{k}": (size,) for k in names} | {f"{name}.num_batches_tracked": ()})


def renamed(tensors: Mapping[str, Tensor], *rules: tuple[str, Any]) -> Tensors:
    def new(name: str) -> str:
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        return name

    return {new(k): v for k, v in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    return {prefix + k: v for k, v in tensors.items()}


def without(tensors: Mapping[str, Tensor], *patterns: str) -> Tensors:
    return {k: v for k, v in tensors.items() if not any(re.search(p, k) for p in patterns)}


def children(tensors: Mapping[str, Tensor], pool: bool = True) -> Tensors:
    """Numbered as nn.Sequential(*list(model.children())) numbers a torchvision network."""
    place = {"conv1": 0, "bn1": 1, **{f"layer{i}": i + (3 if pool else 2) for i in range(1, 5)}}
    return {f"{place[k.split('.')[0]]}.{k.split('.', 1)[1]}": v for k, v in tensors.items() if k.split(".")[0] in place}


def saved(value: Any, **how: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **how)
    return stream.getvalue()


def sgd(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What an SGD optimiser with momentum saves."""
    weights = [v for k, v in tensors.items() if v.is_floating_point() and "running" not in k]
    return {
        "state": {i: {"momentum_buffer": v} for i, v in enumerate(weights)},
        "param_groups": [
            {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False, "params": list(range(len(weights)))}
        ],
    }


R18 = {"layers": (2, 2, 2, 2), "block": "basic"}
R34 = {"block": "basic"}
CLIP50 = {"stem": "deep", "stem_width": 32, "shortcut": "D", "antialias": "avg"}
SMALL = {"stem": "3x3", "stem_pool": "none"}
CIFAR20 = {"layers": (3, 3, 3), "planes": (16, 32, 64), "block": "basic", **SMALL, "num_classes": 10}


def r18(**how: Any) -> Tensors:
    return resnet((2, 2, 2, 2), expansion=1, **how)


def r50(**how: Any) -> Tensors:
    return resnet(**how)


def cifar18(**how: Any) -> Tensors:
    return r18(stem=3, **{"classes": 10, **how})


def cifar20(**how: Any) -> Tensors:
    return resnet((3, 3, 3), (16, 32, 64), expansion=1, stem=3, width=16, **{"classes": 10, **how})


KUANGLIU = ((r"\.downsample\.", ".shortcut."), (r"^fc\.", "linear."))

# -- plain state dicts --------------------------------------------------------------------


@case(
    "torchvision_resnet50", "resnet50-0676ba61.pth", "pytorch/vision: torchvision/models/resnet.py (installed)", "opens"
)
def _() -> Any:
    return r50()


@case("torchvision_resnet18_fp16", "resnet18_half.pth", "model.half().state_dict()", "opens", R18)
def _() -> Any:
    return {k: thin(tuple(v.shape), torch.float16) if v.is_floating_point() else v for k, v in r18().items()}


@case("torchvision_resnet50_bf16", "model_bf16.pt", "model.bfloat16().state_dict()", "opens")
def _() -> Any:
    return {k: thin(tuple(v.shape), torch.bfloat16) if v.is_floating_point() else v for k, v in r50().items()}


@case(
    "timm_hub",
    "pytorch_model.bin",
    "timm/resnet50.a1_in1k on the Hugging Face hub; timm/models/resnet.py (installed)",
    "opens",
)
def _() -> Any:
    import timm

    with torch.device("meta"):
        return of(timm.create_model("resnet50"))


@case(
    "hf_timm_wrapper",
    "model.safetensors",
    "huggingface/transformers: models/timm_wrapper (prefix timm_model.)",
    "opens",
    R18,
)
def _() -> Any:
    return under("timm_model.", r18())


@case(
    "semi_weakly_supervised",
    "semi_weakly_supervised_resnet50-16a12f1b.pth",
    "facebookresearch/semi-supervised-ImageNet1K-models: hubconf.py",
    "opens",
)
def _() -> Any:
    return r50()


@case(
    "wsl_resnext",
    "ig_resnext101_32x8-c38310e5.pth",
    "facebookresearch/WSL-Images: hubconf.py (torchvision's ResNet)",
    "opens",
    {"layers": (3, 4, 23, 3), "groups": 32, "base_width": 8},
)
def _() -> Any:
    return resnet((3, 4, 23, 3), inner=lambda p: p * 4, groups=32)


@case(
    "caffe_stride",
    "resnet101-caffe.pth",
    "ruotianluo/pytorch-resnet (torchvision's names, the paper's stride)",
    "asks",
    {"layers": (3, 4, 23, 3)},
    ask={"stride_in": "1x1"},
)
def _() -> Any:
    return resnet((3, 4, 23, 3))


@case(
    "chenyaofo_resnet20",
    "cifar10_resnet20-4118986f.pt",
    "chenyaofo/pytorch-cifar-models: pytorch_cifar_models/resnet.py",
    "opens",
    {**CIFAR20, "shortcut": "B"},
)
def _() -> Any:
    return cifar20()


@case(
    "bearpaw_resnet110",
    "model_best.pth",
    "bearpaw/pytorch-classification: models/cifar/resnet.py, cifar.py",
    "opens",
    {**CIFAR20, "layers": (18, 18, 18), "block": "bottleneck", "num_classes": 100},
)
def _() -> Any:
    sd = under("module.", resnet((18, 18, 18), (16, 32, 64), stem=3, width=16, classes=100))
    return {"epoch": 164, "state_dict": sd, "acc": 71.1, "best_acc": 71.8, "optimizer": sgd(sd)}


@case(
    "huyvnphan_resnet18",
    "resnet18.pt",
    "huyvnphan/PyTorch_CIFAR10: cifar10_models/resnet.py (3×3 stem, then max pooling)",
    "asks",
    {**R18, **SMALL, "num_classes": 10},
    ask={"stem_pool": "max"},
)
def _() -> Any:
    return cifar18()


@case(
    "akamaster_resnet20",
    "resnet20-12fca82f.th",
    "akamaster/pytorch_resnet_cifar10: resnet.py, trainer.py (option A: zeros on both sides of the channels)",
    "opens",
    {**CIFAR20, "shortcut": "A"},
    note="our option A adds the zeros after the channels, theirs before and after: another function",
)
def _() -> Any:
    return {"state_dict": under("module.", renamed(cifar20(shortcut=False), *KUANGLIU)), "best_prec1": 91.73}


@case(
    "kuangliu_resnet18",
    "ckpt.pth",
    "kuangliu/pytorch-cifar: models/resnet.py, main.py",
    "opens",
    {**R18, **SMALL, "num_classes": 10},
)
def _() -> Any:
    return {"net": under("module.", renamed(cifar18(), *KUANGLIU)), "acc": 95.3, "epoch": 199}


@case(
    "kuangliu_preact18",
    "ckpt_preact.pth",
    "kuangliu/pytorch-cifar: models/preact_resnet.py (no norm before the classifier)",
    "refused",
    says=("pre-activation",),
    note="no final normalisation: no configuration can express it",
)
def _() -> Any:
    return {"net": under("module.", renamed(cifar18(pre=True, final=False), *KUANGLIU)), "acc": 95.1, "epoch": 199}


@case(
    "kuangliu_resnext29",
    "ckpt_resnext.pth",
    "kuangliu/pytorch-cifar: models/resnext.py",
    "opens",
    {"layers": (3, 3, 3), "planes": (64, 128, 256), "groups": 2, "base_width": 64, **SMALL, "num_classes": 10},
)
def _() -> Any:
    return {
        "net": renamed(
            resnet((3, 3, 3), (64, 128, 256), inner=lambda p: p * 2, groups=2, stem=3, classes=10), *KUANGLIU
        ),
        "acc": 94.8,
        "epoch": 199,
    }


@case(
    "weiaicunzai_resnet18",
    "resnet18-200-regular.pth",
    "weiaicunzai/pytorch-cifar100: models/resnet.py",
    "opens",
    {**R18, **SMALL, "num_classes": 100},
)
def _() -> Any:
    return renamed(
        cifar18(classes=100),
        (r"^conv1\.", "conv1.0."),
        (r"^bn1\.", "conv1.1."),
        (r"\.downsample\.", ".shortcut."),
        (r"^(layer\d\.\d+)\.conv1\.", r"\1.residual_function.0."),
        (r"^(layer\d\.\d+)\.bn1\.", r"\1.residual_function.1."),
        (r"^(layer\d\.\d+)\.conv2\.", r"\1.residual_function.3."),
        (r"^(layer\d\.\d+)\.bn2\.", r"\1.residual_function.4."),
        (r"^layer(\d)\.", lambda m: f"conv{int(m[1]) + 1}_x."),
    )


@case(
    "hysts_resnet20",
    "checkpoint_00160.pth",
    "hysts/pytorch_image_classification: models/cifar/resnet.py",
    "opens",
    {**CIFAR20, "shortcut": "B"},
)
def _() -> Any:
    sd = renamed(
        cifar20(),
        (r"^conv1\.", "conv."),
        (r"^bn1\.", "bn."),
        (r"\.downsample\.0\.", ".shortcut.conv."),
        (r"\.downsample\.1\.", ".shortcut.bn."),
        (r"^layer(\d)\.(\d+)\.", lambda m: f"stage{m[1]}.block{int(m[2]) + 1}."),
    )
    return {"model": sd, "optimizer": sgd(sd), "scheduler": {"last_epoch": 160}, "epoch": 160}


# -- wide and pre-activation --------------------------------------------------------------


def wide(depth: int = 28, factor: int = 10, classes: int = 10, **how: Any) -> Tensors:
    n = (depth - 4) // 6
    sd = resnet(
        (n, n, n),
        (16 * factor, 32 * factor, 64 * factor),
        expansion=1,
        stem=3,
        width=16,
        classes=classes,
        pre=True,
        **how,
    )
    return renamed(
        sd, (r"^norm\.", "bn1."), (r"^layer(\d)\.", r"block\1.layer."), (r"\.downsample\.0\.", ".convShortcut.")
    )


WRN = {
    "layers": (4, 4, 4),
    "planes": (160, 320, 640),
    "stem_width": 16,
    "block": "basic",
    "order": "pre",
    **SMALL,
    "num_classes": 10,
}


@case(
    "wrn34_10_trades",
    "model_cifar_wrn.pt",
    "yaodongyu/TRADES: models/wideresnet.py (has sub_block1 that its forward never uses)",
    "opens",
    {**WRN, "layers": (5, 5, 5)},
    left_out=("sub_block1",),
)
def _() -> Any:
    sd = wide(34)
    return sd | {k.replace("block1.", "sub_block1."): v for k, v in sd.items() if k.startswith("block1.")}


@case(
    "wrn_fixmatch",
    "model_best.pth",
    "kekmodel/FixMatch-pytorch: models/wideresnet.py, train.py (leaky ReLU of slope 0.1, two of three shortcuts read x)",
    "refused",
    says=("wide",),
    note="same tensors as RobustBench's; another function",
)
def _() -> Any:
    sd = wide(28, 2)
    return {
        "epoch": 1024,
        "state_dict": sd,
        "ema_state_dict": sd,
        "acc": 94.1,
        "best_acc": 94.3,
        "optimizer": sgd(sd),
        "scheduler": {"last_epoch": 9},
    }


@case(
    "wrn_meliketoy",
    "wide-resnet-28x10.t7",
    "timgaripov/swa: models/wide_resnet.py, after meliketoy/wide-resnet.pytorch (convolutions have a bias, the stride is in conv2, the shortcut reads x)",
    "refused",
    says=("bias",),
)
def _() -> Any:
    sd = resnet((4, 4, 4), (160, 320, 640), expansion=1, stem=3, width=16, classes=10, pre=True, bias=True)
    return renamed(sd, (r"^norm\.", "bn1."), *KUANGLIU)


@case(
    "timm_resnetv2_bit",
    "resnetv2_50x1_bit.goog_in21k.bin",
    "timm/models/resnetv2.py (installed); weights are standardised, the pool pads with zeros",
    "opens",
    {"order": "pre", "norm": "group", "zero_pool": True},
    note="standardising can be done once, when the file is read",
)
def _() -> Any:
    import timm

    with torch.device("meta"):
        return of(timm.create_model("resnetv2_50x1_bit"))


@case(
    "hf_bit",
    "pytorch_model.bin",
    "huggingface/transformers: models/bit/modeling_bit.py (google/bit-50)",
    "opens",
    {"order": "pre", "norm": "group", "zero_pool": True},
)
def _() -> Any:
    from transformers import BitConfig, BitForImageClassification

    given: dict[str, Any] = {"num_labels": 1000}
    with torch.device("meta"):
        return of(BitForImageClassification(BitConfig(**given)))


# -- training wrappers --------------------------------------------------------------------


@case("examples_imagenet", "model_best.pth.tar", "pytorch/examples: imagenet/main.py", "opens", R18)
def _() -> Any:
    sd = under("module.", r18())
    return {
        "epoch": 90,
        "arch": "resnet18",
        "state_dict": sd,
        "best_acc1": torch.tensor(69.8),
        "optimizer": sgd(sd),
        "scheduler": {"step_size": 30, "gamma": 0.1, "last_epoch": 90, "_last_lr": [1e-4]},
    }


@case(
    "vision_reference",
    "model_89.pth",
    "pytorch/vision: references/classification/train.py (args is an argparse.Namespace)",
    "opens",
    R18,
)
def _() -> Any:
    sd = r18()
    args = argparse.Namespace(model="resnet18", lr=0.1, epochs=90, amp=True, output_dir=".")
    return {
        "model": sd,
        "optimizer": sgd(sd),
        "lr_scheduler": {"last_epoch": 89},
        "epoch": 89,
        "args": args,
        "scaler": {"scale": 65536.0, "growth_factor": 2.0},
        "model_ema": {"n_averaged": torch.tensor(9), **under("module.", sd)},
    }


@case("vision_reference_without_args", "model_89.pth", "the same, args taken out", "opens", R18)
def _() -> Any:
    sd = r18()
    return {
        "model": sd,
        "optimizer": sgd(sd),
        "epoch": 89,
        "model_ema": {"n_averaged": torch.tensor(9), **under("module.", sd)},
    }


@case("best_acc_of_numpy", "best_model.pth", "any script with best_acc = np.mean(…)", "opens", R18)
def _() -> Any:
    import numpy as np

    return {"state_dict": r18(), "epoch": 12, "best_acc": np.float64(0.93)}


@case(
    "early_stopping",
    "checkpoint.pt",
    "Bjarten/early-stopping-pytorch: model.state_dict()",
    "opens",
    {**R18, "num_classes": 2},
)
def _() -> Any:
    return r18(classes=2)


@case(
    "torch_tutorial",
    "model.tar",
    "pytorch.org, Saving and loading a general checkpoint: model_state_dict, .tar",
    "opens",
    R18,
)
def _() -> Any:
    sd = r18()
    return {"epoch": 5, "model_state_dict": sd, "optimizer_state_dict": sgd(sd), "loss": 0.4}


@case(
    "lightning",
    "epoch=9-step=1000.ckpt",
    "Lightning-AI/pytorch-lightning: checkpoint_connector (dump_checkpoint)",
    "opens",
    {**R18, "num_classes": 10},
)
def _() -> Any:
    sd = under("model.", r18(classes=10))
    return {
        "epoch": 9,
        "global_step": 1000,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": sd,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': 'val_loss'}": {"best_model_score": torch.tensor(0.3), "dirpath": "x"}
        },
        "optimizer_states": [sgd(sd)],
        "lr_schedulers": [{"last_epoch": 9}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "classes": 10},
    }


@case(
    "lightning_hparams_of_classes",
    "last.ckpt",
    "Lightning, save_hyperparameters() with a pathlib.Path and a torch.nn.CrossEntropyLoss among them",
    "opens",
    {**R18, "num_classes": 10},
)
def _() -> Any:
    return {
        "state_dict": under("net.", r18(classes=10)),
        "hyper_parameters": {"data": Path("data"), "loss": nn.CrossEntropyLoss()},
    }


@case("data_parallel_compiled", "ckpt.pt", "torch.compile(DDP(model)).state_dict()", "opens", R18)
def _() -> Any:
    return {"model": under("_orig_mod.module.", r18())}


@case(
    "activation_checkpointing",
    "ckpt.pt",
    "torch.distributed checkpoint_wrapper: _checkpoint_wrapped_module in names",
    "opens",
    R18,
)
def _() -> Any:
    return renamed(r18(), (r"^(layer\d\.\d)\.", r"\1._checkpoint_wrapped_module."))


@case(
    "averaged_model",
    "swa.pt",
    "torch.optim.swa_utils.AveragedModel(model).state_dict(): n_averaged and module.",
    "opens",
    R18,
)
def _() -> Any:
    return {"n_averaged": torch.tensor(100), **under("module.", r18())}


@case("ema_key", "ckpt.pth", "{'ema': state_dict, 'optimizer': …}", "opens", R18)
def _() -> Any:
    return {"ema": r18(), "epoch": 1}


@case(
    "ema_pytorch",
    "ema.pt",
    "lucidrains/ema-pytorch: online_model. and ema_model. side by side",
    "opens",
    R18,
    left_out=("online_model",),
)
def _() -> Any:
    return (
        under("online_model.", r18())
        | under("ema_model.", r18())
        | {"initted": torch.tensor(True), "step": torch.tensor(9)}
    )


@case("key_weights", "model.pth", "{'weights': state_dict}", "opens", R18)
def _() -> Any:
    return {"weights": r18(), "epoch": 1}


@case(
    "key_model_state",
    "best.pth",
    "VainF/DeepLabV3Plus-Pytorch: main.py (model_state), with torchvision's DeepLab names",
    "backbone",
    ask={"output_stride": 16},
    left_out=("classifier",),
)
def _() -> Any:
    return {
        "cur_itrs": 30000,
        "model_state": under("backbone.", r50(classes=0))
        | {"classifier.aspp.convs.0.0.weight": thin((256, 2048, 1, 1))},
        "best_score": 0.7,
    }


@case(
    "state_dict_in_a_list",
    "weights.pth",
    "torch.save([net.state_dict(), optimizer.state_dict()])",
    "refused",
    says=("list",),
)
def _() -> Any:
    return [r18(), {}]


@case(
    "madry_robustness",
    "imagenet_l2_3_0.pt",
    "MadryLab/robustness: robustness/attacker.py, train.py",
    "opens",
    left_out=("normalizer", "attacker"),
)
def _() -> Any:
    stats = {"new_mean": thin((3, 1, 1)), "new_std": thin((3, 1, 1))}
    sd = (
        under("module.normalizer.", stats)
        | under("module.model.", r50())
        | under("module.attacker.normalize.", stats)
        | under("module.attacker.model.", r50())
    )
    return {"model": sd, "optimizer": {}, "schedule": {"last_epoch": 90}, "epoch": 90, "amp": "N/A"}


@case(
    "normalised_sequential",
    "model.pt",
    "nn.Sequential(Normalize(mean, std), resnet): 0.mean, 1.conv1.weight",
    "opens",
    R18,
    left_out=("0",),
)
def _() -> Any:
    return {"0.mean": thin((3, 1, 1)), "0.std": thin((3, 1, 1)), **under("1.", r18())}


@case("pruned", "pruned.pth", "torch.nn.utils.prune: conv1.weight_orig and conv1.weight_mask", "opens", R18)
def _() -> Any:
    sd: Tensors = {}
    for k, v in r18().items():
        sd |= {f"{k}_orig": v, f"{k}_mask": v} if k.endswith("weight") and v.ndim == 4 else {k: v}
    return sd


# -- heads that people change -------------------------------------------------------------


@case(
    "dropout_head",
    "finetuned.pth",
    "model.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 2))",
    "opens",
    {**R18, "num_classes": 2},
)
def _() -> Any:
    return r18(classes=0) | linear("fc.1", 2, 512)


@case(
    "mlp_head",
    "finetuned.pth",
    "model.fc = nn.Sequential(nn.Linear(2048, 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, 10))",
    "headless",
    left_out=("fc",),
)
def _() -> Any:
    return r50(classes=0) | linear("fc.0", 256, 2048) | linear("fc.3", 10, 256)


@case(
    "no_head", "features.pth", "del model.fc, nn.Identity(), timm num_classes=0, create_feature_extractor", "headless"
)
def _() -> Any:
    return r50(classes=0)


@case(
    "grey_with_bias",
    "mnist.pth",
    "model.conv1 = nn.Conv2d(1, 64, 7, 2, 3), whose bias defaults to True",
    "opens",
    {**R18, "in_channels": 1, "num_classes": 10},
    note="the bias can go into the running mean of bn1",
)
def _() -> Any:
    return r18(channels=1, classes=10) | {"conv1.bias": thin((64,))}


@case("stem_5x5", "m.pth", "model.conv1 = nn.Conv2d(3, 64, 5, 1, 2)", "refused", says=("stem", "5×5"))
def _() -> Any:
    return r18(stem=5)


# -- frameworks ---------------------------------------------------------------------------


def hf(tensors: Tensors) -> Tensors:
    return renamed(
        tensors,
        (r"^conv1\.", "embedder.embedder.convolution."),
        (r"^bn1\.", "embedder.embedder.normalization."),
        (r"^layer(\d)\.(\d+)\.", lambda m: f"encoder.stages.{int(m[1]) - 1}.layers.{m[2]}."),
        (r"(layers\.\d+)\.downsample\.0\.", r"\1.shortcut.convolution."),
        (r"(layers\.\d+)\.downsample\.1\.", r"\1.shortcut.normalization."),
        (r"(layers\.\d+)\.conv(\d)\.", lambda m: f"{m[1]}.layer.{int(m[2]) - 1}.convolution."),
        (r"(layers\.\d+)\.bn(\d)\.", lambda m: f"{m[1]}.layer.{int(m[2]) - 1}.normalization."),
    )


@case(
    "hf_resnet50",
    "pytorch_model.bin",
    "huggingface/transformers: models/resnet/modeling_resnet.py (microsoft/resnet-50)",
    "opens",
)
def _() -> Any:
    return under("resnet.", hf(r50(classes=0))) | linear("classifier.1", 1000, 2048)


@case("hf_resnet50_base", "pytorch_model.bin", "the same, ResNetModel without a classifier", "headless")
def _() -> Any:
    return hf(r50(classes=0))


def box_head() -> Tensors:
    return (
        {"rpn.head.conv.0.0.weight": thin((256, 256, 3, 3))}
        | linear("roi_heads.box_head.fc6", 1024, 12544)
        | linear("roi_heads.box_predictor.cls_score", 91, 1024)
    )


@case(
    "torchvision_fasterrcnn",
    "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
    "torchvision/models/detection (installed): backbone.body, frozen batch norm",
    "backbone",
    left_out=("backbone.fpn", "rpn", "roi_heads"),
)
def _() -> Any:
    body = under("backbone.body.", without(r50(classes=0), "num_batches"))
    return body | {"backbone.fpn.inner_blocks.0.weight": thin((256, 256, 1, 1))} | box_head()


@case(
    "torchvision_deeplab",
    "deeplabv3_resnet50_coco-cd0a2569.pth",
    "torchvision/models/segmentation (installed): backbone, dilated",
    "backbone",
    ask={"output_stride": 8},
    left_out=("classifier", "aux_classifier"),
)
def _() -> Any:
    from torchvision.models.segmentation import deeplabv3_resnet50

    with torch.device("meta"):
        return of(deeplabv3_resnet50(weights=None, weights_backbone=None, aux_loss=True))


@case(
    "mmpretrain_resnet50",
    "resnet50_8xb32_in1k_20210831-ea4938fa.pth",
    "open-mmlab/mmpretrain: models/backbones/resnet.py (backbone., head.fc.)",
    "opens",
)
def _() -> Any:
    return {
        "meta": {"mmcls_version": "0.20.1", "epoch": 100},
        "state_dict": under("backbone.", r50(classes=0)) | linear("head.fc", 1000, 2048),
    }


def deep(tensors: Tensors, mm: bool) -> Tensors:
    """MMPretrain's ConvModules in the stem, or MMSegmentation's plain layers."""
    out = without(tensors, r"^conv1\.", r"^bn1\.")
    for place, (outs, ins) in enumerate(((32, 3), (32, 32), (64, 32))):
        conv, bn = (f"stem.{place}.conv", f"stem.{place}.bn") if mm else (f"stem.{3 * place}", f"stem.{3 * place + 1}")
        out |= {f"{conv}.weight": thin((outs, ins, 3, 3))} | norm1d(bn, outs)
    return out


def pooled(tensors: Tensors) -> Tensors:
    """Shortcut D: a pool stands before the projection where the stride is 2."""
    return renamed(
        tensors, (r"^(layer[2-9]\.\d+\.downsample)\.1\.", r"\1.2."), (r"^(layer[2-9]\.\d+\.downsample)\.0\.", r"\1.1.")
    )


@case(
    "mmpretrain_resnetv1d50",
    "resnetv1d50_b32x8_imagenet_20210531-db14775a.pth",
    "open-mmlab/mmpretrain: ResNetV1d (backbone.stem.0.conv.)",
    "opens",
    {"stem": "deep", "stem_width": 32, "shortcut": "D"},
    note="layer1's projection has no pool in front, so its number is 0 there and 1 elsewhere",
)
def _() -> Any:
    return {
        "meta": {},
        "state_dict": under("backbone.", pooled(deep(r50(classes=0), mm=True))) | linear("head.fc", 1000, 2048),
    }


def d2(tensors: Tensors, stem: str = "stem.") -> Tensors:
    return renamed(
        without(tensors, "num_batches"),
        (r"^conv1\.", f"{stem}conv1."),
        (r"^bn1\.", f"{stem}conv1.norm."),
        (r"^layer(\d)\.", lambda m: f"res{int(m[1]) + 1}."),
        (r"\.downsample\.0\.", ".shortcut."),
        (r"\.downsample\.1\.", ".shortcut.norm."),
        (r"\.bn(\d)\.", r".conv\1.norm."),
    )


@case(
    "detectron2_model",
    "model_final.pth",
    "facebookresearch/detectron2: modeling/backbone/resnet.py (backbone.bottom_up.res2.0.conv1.norm.)",
    "backbone",
    ask={"stride_in": "1x1"},
    left_out=("proposal_generator", "roi_heads"),
)
def _() -> Any:
    sd = (
        under("backbone.bottom_up.", d2(r50(classes=0)))
        | {
            "proposal_generator.rpn_head.conv.weight": thin((256, 256, 3, 3)),
            "backbone.fpn_lateral2.weight": thin((256, 256, 1, 1)),
        }
        | linear("roi_heads.box_predictor.cls_score", 81, 1024)
    )
    return {"model": sd, "optimizer": {}, "scheduler": {"last_epoch": 90000}, "iteration": 89999}


@case(
    "detectron2_pkl",
    "R-50.pkl",
    "facebookresearch/detectron2: checkpoint/c2_model_loading.py (res2_0_branch2a_w, numpy arrays in a pickle)",
    "refused",
    says=("numpy", "Caffe2"),
)
def _() -> Any:
    import numpy as np

    return pickle.dumps(
        {
            "model": {
                "conv1_w": np.zeros((64, 3, 7, 7), np.float32),
                "res2_0_branch2a_w": np.zeros((64, 64, 1, 1), np.float32),
            },
            "__author__": "Caffe2",
        },
        2,
    )


@case(
    "nvidia_dle",
    "nvidia_resnet50.pth.tar",
    "NVIDIA/DeepLearningExamples: image_classification/models/resnet.py (layers.0.0.conv1)",
    "opens",
)
def _() -> Any:
    return {
        "state_dict": under("module.", renamed(r50(), (r"^layer(\d)\.", lambda m: f"layers.{int(m[1]) - 1}."))),
        "epoch": 250,
        "best_prec1": 78.5,
    }


@case(
    "classy_vision",
    "checkpoint.torch",
    "facebookresearch/ClassyVision: models/resnext.py (initial_block._module, blocks.0.block0-0.convolutional_block; the head in a dictionary beside the trunk)",
    "opens",
)
def _() -> Any:
    inside = [
        (rf"\.{kind}{n}\.", rf".convolutional_block.{3 * (n - 1) + (kind == 'bn')}.")
        for n in (1, 2, 3)
        for kind in ("conv", "bn")
    ]
    trunk = renamed(
        r50(classes=0),
        (r"^conv1\.", "initial_block._module.0."),
        (r"^bn1\.", "initial_block._module.1."),
        (r"\.bn3\.", ".bn."),
        *inside,
        (r"^layer(\d)\.(\d+)\.", lambda m: f"blocks.{int(m[1]) - 1}.block{int(m[1]) - 1}-{m[2]}."),
    )
    return {
        "classy_state_dict": {
            "base_model": {"model": {"trunk": trunk, "heads": {"block3-2": {"fc": linear("fc", 1000, 2048)}}}}
        }
    }


def fastai_body() -> Tensors:
    return under("0.", children(r18(classes=0)))


@case(
    "fastai_learner",
    "stage-1.pth",
    "fastai/fastai: vision/learner.py (nn.Sequential(body, head): 0.0.weight, 0.4.0.conv1.weight, 1.8.weight)",
    "headless",
    R18,
    left_out=("1",),
)
def _() -> Any:
    return {
        "model": fastai_body()
        | norm1d("1.2", 1024)
        | linear("1.4", 512, 1024, bias=False)
        | norm1d("1.6", 512)
        | linear("1.8", 37, 512, bias=False),
        "opt": {},
    }


@case(
    "fastai_export", "export.pkl", "fastai: learn.export(), a pickle of the whole Learner", "refused", says=("whole",)
)
def _() -> Any:
    learner = type("Learner", (), {"__module__": "fastai.learner"})
    sys.modules.setdefault("fastai", types.ModuleType("fastai"))
    module = sys.modules.setdefault("fastai.learner", types.ModuleType("fastai.learner"))
    module.Learner = learner  # type: ignore[attr-defined]
    learner.__qualname__ = "Learner"
    value = learner()
    value.model = nn.Linear(2, 2)
    return value


@case(
    "fastai_xresnet",
    "xresnet50.pth",
    "fastai/fastai: vision/models/xresnet.py, as of 2019 (conv1.0, conv2.0, conv3.0; pool after the projection)",
    "opens",
    {"stem": "deep", "stem_width": 32, "shortcut": "D"},
    note="an average after a 1×1 convolution and a norm is one before them: the same function at even sizes",
)
def _() -> Any:
    sd = renamed(
        r50(),
        (r"\.conv(\d)\.", r".conv\1.0."),
        (r"\.bn(\d)\.", r".conv\1.1."),
        (r"\.downsample\.(\d)\.", r".downsample.0.\1."),
    )
    sd = without(sd, r"^conv1\.", r"^bn1\.")
    for n, (a, b) in enumerate(((32, 3), (32, 32), (64, 32)), start=1):
        sd |= {f"conv{n}.0.weight": thin((a, b, 3, 3))} | norm1d(f"conv{n}.1", a)
    return sd


@case(
    "lightly",
    "simclr.pth",
    "lightly-ai/lightly: examples/pytorch/simclr.py (backbone.0.weight, backbone.4.0.conv1.weight)",
    "headless",
    R18,
    left_out=("projection_head",),
)
def _() -> Any:
    return under("backbone.", children(r18(classes=0))) | linear("projection_head.layers.0", 512, 512)


@case(
    "ffcv_blurpool",
    "final_weights.pt",
    "libffcv/ffcv-imagenet: train_imagenet.py (BlurPoolConv2d: layer2.0.conv2.conv, blur_filter)",
    "asks",
    R18,
    note="their blur stands before the strided convolution, ours after the activation of one without stride",
)
def _() -> Any:
    sd: Tensors = {}
    for k, v in r18().items():
        hit = re.fullmatch(r"(layer[2-4]\.0\.(?:conv1|downsample\.0))\.weight", k)
        sd |= {f"{hit[1]}.conv.weight": v, f"{hit[1]}.blur_filter": thin((v.shape[1], 1, 3, 3))} if hit else {k: v}
    return under("module.", sd)


# -- self-supervised ----------------------------------------------------------------------


@case(
    "moco_v1",
    "moco_v1_200ep_pretrain.pth.tar",
    "facebookresearch/moco: moco/builder.py (module.encoder_q., its fc of 128 projects)",
    "opens",
    {"num_classes": 128},
    left_out=("queue", "encoder_k"),
)
def _() -> Any:
    q = under("module.encoder_q.", r50(classes=128))
    return {
        "epoch": 200,
        "arch": "resnet50",
        "state_dict": q
        | {k.replace("_q", "_k"): v for k, v in q.items()}
        | {"module.queue": thin((128, 65536)), "module.queue_ptr": torch.zeros(1, dtype=torch.long)},
        "optimizer": {},
    }


@case(
    "moco_v2",
    "moco_v2_800ep_pretrain.pth.tar",
    "facebookresearch/moco: moco/builder.py (fc.0, fc.2)",
    "headless",
    left_out=("queue", "fc"),
)
def _() -> Any:
    q = under("module.encoder_q.", r50(classes=0) | linear("fc.0", 2048, 2048) | linear("fc.2", 128, 2048))
    return {
        "epoch": 800,
        "arch": "resnet50",
        "state_dict": q | {"module.queue": thin((128, 65536)), "module.queue_ptr": torch.zeros(1, dtype=torch.long)},
    }


@case("moco_lincls", "model_best.pth.tar", "facebookresearch/moco: main_lincls.py", "opens")
def _() -> Any:
    return {"epoch": 100, "arch": "resnet50", "state_dict": under("module.", r50()), "best_acc1": torch.tensor(71.1)}


@case(
    "simclr_sthalles",
    "checkpoint_0200.pth.tar",
    "sthalles/SimCLR: models/resnet_simclr.py (backbone., backbone.fc.0)",
    "headless",
    R18,
    left_out=("fc",),
)
def _() -> Any:
    return {
        "epoch": 200,
        "arch": "resnet18",
        "state_dict": under("backbone.", r18(classes=0) | linear("fc.0", 512, 512) | linear("fc.2", 128, 512)),
        "optimizer": {},
    }


@case("simclr_converter", "resnet50-1x.pth", "tonylins/simclr-converter: convert.py", "opens")
def _() -> Any:
    return {"state_dict": r50()}


@case(
    "supcontrast",
    "supcon.pth",
    "HobbitLong/SupContrast: networks/resnet_big.py, util.py (encoder.module., head.; opt is an argparse.Namespace)",
    "headless",
    SMALL,
    left_out=("head",),
)
def _() -> Any:
    sd = (
        under("encoder.module.", renamed(r50(stem=3, classes=0), KUANGLIU[0]))
        | linear("head.0", 2048, 2048)
        | linear("head.2", 128, 2048)
    )
    return {"opt": argparse.Namespace(model="resnet50"), "model": sd, "optimizer": {}, "epoch": 1000}


@case(
    "swav",
    "swav_800ep_pretrain.pth.tar",
    "facebookresearch/swav: src/resnet50.py (module., projection_head, prototypes)",
    "headless",
    left_out=("projection_head", "prototypes"),
)
def _() -> Any:
    sd = (
        r50(classes=0)
        | linear("projection_head.0", 2048, 2048)
        | norm1d("projection_head.1", 2048)
        | linear("projection_head.3", 128, 2048)
        | linear("prototypes", 3000, 128, bias=False)
    )
    return under("module.", sd)


@case("barlow_twins", "resnet50.pth", "facebookresearch/barlowtwins: main.py (the backbone alone)", "headless")
def _() -> Any:
    return r50(classes=0)


@case("dino_pretrain", "dino_resnet50_pretrain.pth", "facebookresearch/dino: hubconf.py", "headless")
def _() -> Any:
    return r50(classes=0)


@case(
    "simsiam",
    "checkpoint_0099.pth.tar",
    "facebookresearch/simsiam: simsiam/builder.py (module.encoder., fc.0 to fc.7, predictor)",
    "headless",
    left_out=("predictor", "fc"),
)
def _() -> Any:
    enc = (
        r50(classes=0)
        | linear("fc.0", 2048, 2048, bias=False)
        | norm1d("fc.1", 2048)
        | linear("fc.6", 2048, 2048)
        | norm1d("fc.7", 2048, affine=False)
    )
    return {
        "epoch": 100,
        "arch": "resnet50",
        "state_dict": under("module.encoder.", enc) | linear("module.predictor.0", 512, 2048, bias=False),
    }


@case(
    "solo_learn",
    "byol-resnet18-cifar10-ep=999.ckpt",
    "vturrisi/solo-learn: methods/base.py (backbone., classifier., momentum_; conv1 has padding 2)",
    "opens",
    {**R18, **SMALL, "num_classes": 10},
    left_out=("momentum_backbone", "projector"),
    note="their 3×3 stem pads by 2: the map is two pixels larger",
)
def _() -> Any:
    return {
        "state_dict": under("backbone.", cifar18(classes=0))
        | linear("classifier", 10, 512)
        | under("momentum_backbone.", cifar18(classes=0))
        | linear("projector.0", 4096, 512),
        "epoch": 999,
    }


@case("clip_rn50", "RN50.pt", "openai/CLIP: clip/model.py (a TorchScript archive)", "refused", says=("TorchScript",))
def _() -> Any:
    import warnings

    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8)), stream)
    return stream.getvalue()


@case(
    "open_clip_rn50",
    "rn50-quickgelu-cc12m-f000538c.pt",
    "mlfoundations/open_clip: modified_resnet.py (visual.conv1, visual.attnpool, transformer.)",
    "backbone",
    CLIP50,
    left_out=("attnpool", "transformer"),
    note="up to layer4 it is our deep stem, shortcut D and average anti-aliasing, to the last bit; the attention pool is not ours",
)
def _() -> Any:
    from open_clip.factory import get_model_config
    from open_clip.model import CLIP

    with torch.device("meta"):
        model = CLIP(**get_model_config("RN50"))
    return {"epoch": 32, "name": "x", "state_dict": under("module.", of(model))}


# -- recognition of people, faces, voices -------------------------------------------------


@case(
    "torchreid",
    "model.pth.tar-60",
    "KaiyangZhou/deep-person-reid: torchreid/models/resnet.py (classifier)",
    "opens",
    {"num_classes": 751},
)
def _() -> Any:
    return {"state_dict": r50(classes=0) | linear("classifier", 751, 2048), "epoch": 60, "rank1": 0.88, "optimizer": {}}


@case(
    "strong_baseline",
    "resnet50_model_120.pth",
    "michuanhaohao/reid-strong-baseline: modeling/baseline.py (base., bottleneck., classifier.; the last stage has stride 1, the stem no ReLU)",
    "headless",
    left_out=("bottleneck", "classifier"),
)
def _() -> Any:
    return under("base.", r50(classes=0)) | norm1d("bottleneck", 2048) | linear("classifier", 751, 2048, bias=False)


@case(
    "insightface",
    "backbone.pth",
    "deepinsight/insightface: arcface_torch/backbones/iresnet.py (prelu, bn3, fc over 7×7, features)",
    "refused",
    says=("ArcFace",),
)
def _() -> Any:
    sd = resnet((3, 4, 14, 3), expansion=1, stem=3, classes=0)
    out = {}
    for k, v in sd.items():
        out[re.sub(r"^(layer\d\.\d+)\.bn(\d)", lambda m: f"{m[1]}.bn{int(m[2]) + 1}", k)] = v
    for stage, (count, plane) in enumerate(zip((3, 4, 14, 3), (64, 128, 256, 512), strict=True), start=1):
        for b in range(count):
            ins = plane if b else max(64, plane // 2)
            out |= norm1d(f"layer{stage}.{b}.bn1", ins) | {f"layer{stage}.{b}.prelu.weight": thin((plane,))}
    out |= (
        {"layer1.0.downsample.0.weight": thin((64, 64, 1, 1))}
        | norm1d("layer1.0.downsample.1", 64)
        | {"prelu.weight": thin((64,))}
    )
    return out | norm1d("bn2", 512) | linear("fc", 512, 25088) | norm1d("features", 512)


@case(
    "voxceleb",
    "baseline_lite_ap.model",
    "clovaai/voxceleb_trainer: models/ResNetSE34L.py (__S__., stem stride 2×1)",
    "refused",
    says=("se.fc.0",),
)
def _() -> Any:
    sd = resnet((3, 4, 6, 3), (16, 32, 64, 128), expansion=1, width=16, channels=1, classes=0)
    for stage, plane in enumerate((16, 32, 64, 128), start=1):
        for b in range((3, 4, 6, 3)[stage - 1]):
            sd |= linear(f"layer{stage}.{b}.se.fc.0", plane // 8, plane) | linear(
                f"layer{stage}.{b}.se.fc.2", plane, plane // 8
            )
    return under(
        "__S__.",
        sd
        | linear("fc", 512, 256)
        | linear("sap_linear", 128, 128)
        | {"attention": thin((128, 1)), "torchfb.spectrogram.window": thin((400,))},
    ) | linear("__L__.fc", 5994, 512)


# -- variants of the block ----------------------------------------------------------------


def squeezed(tensors: Tensors, first: str, second: str, reduction: int, conv: bool, bias: bool) -> Tensors:
    out = dict(tensors)
    for k, v in tensors.items():
        hit = re.fullmatch(r"(layer\d\.\d+)\.bn3\.weight", k)
        if hit:
            c, tail = v.shape[0], (1, 1) if conv else ()
            out |= {
                f"{hit[1]}.{first}.weight": thin((c // reduction, c, *tail)),
                f"{hit[1]}.{second}.weight": thin((c, c // reduction, *tail)),
            }
            if bias:
                out |= {f"{hit[1]}.{first}.bias": thin((c // reduction,)), f"{hit[1]}.{second}.bias": thin((c,))}
    return out


@case(
    "senet_moskomule",
    "seresnet50-60a8950a85b2b.pkl",
    "moskomule/senet.pytorch: senet/se_resnet.py (se.fc.0, se.fc.2: linear, no bias)",
    "opens",
    {"attention": "se"},
)
def _() -> Any:
    return squeezed(r50(), "se.fc.0", "se.fc.2", 16, conv=False, bias=False)


@case(
    "cbam_resnet50",
    "RESNET50_CBAM_new_name_wrap.pth",
    "Jongchan/attention-module: MODELS/model_resnet.py (cbam.ChannelGate)",
    "refused",
    says=("CBAM",),
)
def _() -> Any:
    sd = squeezed(r50(), "cbam.ChannelGate.mlp.1", "cbam.ChannelGate.mlp.3", 16, conv=False, bias=True)
    for k in [k for k in sd if k.endswith("ChannelGate.mlp.1.weight")]:
        sd |= {k.replace("ChannelGate.mlp.1", "SpatialGate.spatial.conv"): thin((1, 2, 7, 7))}
    return {"state_dict": under("module.", sd)}


@case(
    "ibn_a",
    "resnet50_ibn_a-d9d0bb7b.pth",
    "XingangPan/IBN-Net: ibnnet/resnet_ibn.py (bn1.IN, bn1.BN)",
    "refused",
    says=("IBN",),
)
def _() -> Any:
    sd: Tensors = {}
    for k, v in r50().items():
        hit = re.fullmatch(r"(layer[123]\.\d+\.bn1)\.(\w+)", k)
        if hit:
            half = thin((v.shape[0] // 2,)) if v.ndim else v
            sd[f"{hit[1]}.BN.{hit[2]}"] = half
            if hit[2] in ("weight", "bias"):
                sd[f"{hit[1]}.IN.{hit[2]}"] = half
        else:
            sd[k] = v
    return sd


@case(
    "repvgg",
    "RepVGG-A0-train.pth",
    "DingXiaoH/RepVGG: repvgg.py (stage1.0.rbr_dense.conv)",
    "refused",
    says=("RepVGG",),
)
def _() -> Any:
    sd: Tensors = {}
    for s in range(1, 5):
        for part in ("rbr_dense", "rbr_1x1"):
            sd |= {f"stage{s}.0.{part}.conv.weight": thin((64, 64, 3, 3))} | norm1d(f"stage{s}.0.{part}.bn", 64)
    return sd | linear("linear", 1000, 1280)


@case("densenet121", "densenet121-a639ec97.pth", "torchvision (installed)", "refused", says=("DenseNet",))
def _() -> Any:
    from torchvision.models import densenet121

    with torch.device("meta"):
        return of(densenet121())


@case("vit", "vit_base.pth", "timm (installed)", "refused", says=("transformer",))
def _() -> Any:
    import timm

    with torch.device("meta"):
        return of(timm.create_model("vit_base_patch16_224"))


@case(
    "resnet_3d",
    "r3d50_K_200ep.pth",
    "kenshohara/3D-ResNets-PyTorch: models/resnet.py (torchvision's names, five dimensions)",
    "refused",
    says=("3-d",),
)
def _() -> Any:
    sd = {k: thin((*v.shape, v.shape[-1])) if v.ndim == 4 else v for k, v in r50(classes=700).items()}
    return {"epoch": 200, "arch": "resnet-50", "state_dict": under("module.", sd), "optimizer": {}}


@case(
    "semseg_pspnet",
    "train_epoch_200.pth",
    "hszhao/semseg: model/pspnet.py (module.layer0.0, ppm, cls, aux)",
    "backbone",
    {"stem": "deep", "stem_width": 64},
    ask={"output_stride": 8},
    left_out=("ppm", "cls", "aux"),
)
def _() -> Any:
    sd = without(r50(width=128, classes=0), r"^conv1\.", r"^bn1\.")
    for place, (a, b) in enumerate(((64, 3), (64, 64), (128, 64))):
        sd |= {f"layer0.{3 * place}.weight": thin((a, b, 3, 3))} | norm1d(f"layer0.{3 * place + 1}", a)
    return {
        "epoch": 200,
        "state_dict": under(
            "module.",
            sd
            | {
                "ppm.features.0.1.weight": thin((512, 2048, 1, 1)),
                "aux.4.weight": thin((19, 256, 1, 1)),
                "cls.4.weight": thin((19, 512, 1, 1)),
            },
        ),
        "optimizer": {},
    }


@case(
    "deeplab_jfzhang",
    "deeplab-resnet.pth.tar",
    "jfzhang95/pytorch-deeplab-xception: modeling/backbone/resnet.py (backbone., aspp., decoder.; multi-grid dilation)",
    "backbone",
    {"layers": (3, 4, 23, 3)},
    ask={"output_stride": 16},
    left_out=("aspp", "decoder"),
    note="blocks of layer4 are dilated 2, 4 and 8: no configuration expresses that",
)
def _() -> Any:
    return {
        "epoch": 50,
        "state_dict": under("backbone.", resnet((3, 4, 23, 3), classes=0))
        | {"aspp.conv1.weight": thin((256, 1280, 1, 1)), "decoder.conv1.weight": thin((48, 256, 1, 1))},
        "best_pred": 0.78,
    }


# -- norms that look like another ---------------------------------------------------------


@case(
    "group_norm_of_2",
    "fedavg.pth",
    "resnet18(norm_layer=lambda c: nn.GroupNorm(2, c)), as federated learning has it",
    "asks",
    {**R18, "norm": "group", "num_classes": 10},
    ask={"norm_groups": 2},
)
def _() -> Any:
    return r18(norm="group", classes=10)


@case(
    "instance_norm",
    "style.pth",
    "resnet18(norm_layer=partial(nn.InstanceNorm2d, affine=True))",
    "refused",
    says=("instance",),
    note="the tensors of group normalisation",
)
def _() -> Any:
    return r18(norm="group")


@case(
    "batch_norm_of_batch",
    "m.pth",
    "BatchNorm2d(track_running_stats=False)",
    "refused",
    says=("running",),
    note="the tensors of group normalisation",
)
def _() -> Any:
    return r18(norm="group")


# -- other formats ------------------------------------------------------------------------


@case(
    "whole_module",
    "model.pth",
    "torch.save(model): a pickle of torchvision's class",
    "opens",
    {**R18, "num_classes": 2},
    note="the tensors are in it and can be had without running anything",
)
def _() -> Any:
    from torchvision.models import resnet18

    return saved(resnet18(num_classes=2).half())


@case("torchscript", "resnet18_traced.pt", "torch.jit.save", "refused", says=("TorchScript",))
def _() -> Any:
    import warnings

    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))), stream)
    return stream.getvalue()


@case(
    "quantized",
    "resnet18_fbgemm_16fa66dd.pth",
    "torchvision/models/quantization (installed): int8 weights",
    "refused",
    says=("quanti",),
)
def _() -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchvision.models.quantization import resnet18

        return saved(resnet18(quantize=True).state_dict())


@case("onnx", "resnet18.onnx", "torch.onnx.export", "refused", says=("ONNX",))
def _() -> Any:
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph([], "resnet", [], [], [helper.make_tensor("conv1.weight", TensorProto.FLOAT, [1], [0.0])])
    return helper.make_model(graph, producer_name="pytorch").SerializeToString() or onnx


@case(
    "keras_h5",
    "resnet50_weights_tf_dim_ordering_tf_kernels.h5",
    "keras-team/keras-applications: HDF5",
    "refused",
    says=("Keras", "HDF5"),
)
def _() -> Any:
    return b"\x89HDF\r\n\x1a\n" + bytes(2048)


@case(
    "flax_msgpack",
    "flax_model.msgpack",
    "huggingface/transformers: FlaxResNet (microsoft/resnet-50)",
    "refused",
    says=("Flax", "msgpack"),
)
def _() -> Any:
    return b"\x82\xa6params\x81\xa6resnet\x80\xabbatch_stats\x80"


@case("tf_checkpoint", "model.ckpt-90.index", "TensorFlow's checkpoint index", "refused", says=("TensorFlow",))
def _() -> Any:
    return bytes(512) + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"


@case(
    "npz",
    "resnet50.npz",
    "numpy.savez, as google-research/big_transfer publishes (BiT-M-R50x1.npz)",
    "refused",
    says=("numpy",),
)
def _() -> Any:
    import numpy as np

    stream = io.BytesIO()
    arrays: dict[str, Any] = {"resnet/root_block/standardized_conv2d/kernel": np.zeros((7, 7, 3, 64), np.float32)}
    np.savez(stream, **arrays)
    return stream.getvalue()


@case("protocol_0", "weights.pkl", "pickle.dump(state, file, 0), as Python 2 wrote it", "refused", says=("pickle",))
def _() -> Any:
    return pickle.dumps({"conv1.weight": [0.0]}, 0)


@case("lfs_pointer", "model.safetensors", "a Git LFS pointer, from a clone without git-lfs", "refused", says=("LFS",))
def _() -> Any:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 102469840\n"


@case("true_tar", "model.tar", "a tar archive around a checkpoint", "refused", says=("archive",))
def _() -> Any:
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:") as archive:
        data = saved(r18())
        entry = tarfile.TarInfo("model.pth")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


@case("zipped_again", "model.zip", "a checkpoint that somebody zipped", "refused", says=("zip",))
def _() -> Any:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.pth", saved(r18()))
    return stream.getvalue()


@case(
    "optimizer_alone", "optimizer.pt", "HF Trainer's optimizer.pt, uploaded by mistake", "refused", says=("optimiser",)
)
def _() -> Any:
    return sgd(r18())


# -- more of the same kinds ---------------------------------------------------------------


def arrays(tensors: Tensors) -> dict[str, Any]:
    return {k: v.contiguous().numpy() for k, v in tensors.items()}


def se_layers(first: str, second: str, tensors: Tensors) -> Tensors:
    return squeezed(tensors, first, second, 16, conv=True, bias=True)


@case(
    "cadene_resnet50",
    "resnet50-19c8e357.pth",
    "Cadene/pretrained-models.pytorch: torchvision_models.py (last_linear)",
    "opens",
)
def _() -> Any:
    return renamed(r50(), (r"^fc\.", "last_linear."))


@case(
    "cadene_seresnet50",
    "se_resnet50-ce0d4300.pth",
    "Cadene/pretrained-models.pytorch: senet.py (layer0.conv1, se_module.fc1, last_linear)",
    "opens",
    {"attention": "se"},
)
def _() -> Any:
    sd = se_layers("se_module.fc1", "se_module.fc2", r50())
    return renamed(sd, (r"^conv1\.", "layer0.conv1."), (r"^bn1\.", "layer0.bn1."), (r"^fc\.", "last_linear."))


@case(
    "eca_resnet50",
    "eca.pth.tar",
    "BangguWu/ECANet: models/eca_resnet.py (eca.conv), with the kernels of the paper's formula",
    "opens",
    {"attention": "eca"},
)
def _() -> Any:
    sd = r50()
    for k, v in r50().items():
        if hit := re.fullmatch(r"(layer\d\.\d+)\.bn3\.weight", k):
            sd[f"{hit[1]}.eca.conv.weight"] = thin((1, 1, 7 if v.shape[0] == 2048 else 5))
    return {"state_dict": under("module.", sd), "epoch": 100}


@case(
    "fastai_xresnet_sequential",
    "xrn50_940.pth",
    "fastai/fastai: vision/models/xresnet.py, since 2020 (0.0, 4.0.convs.0.0, idpath.1.0, 11)",
    "opens",
    {"stem": "deep", "stem_width": 32, "shortcut": "D"},
)
def _() -> Any:
    sd = without(r50(classes=0), r"^conv1\.", r"^bn1\.")
    sd = renamed(
        sd,
        (r"^layer(\d)\.", lambda m: f"{int(m[1]) + 3}."),
        (r"\.conv(\d)\.", lambda m: f".convs.{int(m[1]) - 1}.0."),
        (r"\.bn(\d)\.", lambda m: f".convs.{int(m[1]) - 1}.1."),
        (r"^4\.0\.downsample\.(\d)\.", r"4.0.idpath.0.\1."),
        (r"\.downsample\.(\d)\.", r".idpath.1.\1."),
    )
    for n, (a, b) in enumerate(((32, 3), (32, 32), (64, 32))):
        sd |= {f"{n}.0.weight": thin((a, b, 3, 3))} | norm1d(f"{n}.1", a)
    return sd | linear("11", 1000, 2048)


@case(
    "szagoruyko_wrn",
    "model.pt7",
    "szagoruyko/wide-residual-networks: pytorch/resnet.py (group0.block0.conv0)",
    "opens",
    {**WRN, "layers": (2, 2, 2), "planes": (32, 64, 128)},
)
def _() -> Any:
    sd = renamed(
        wide(16, 2),
        (r"^conv1\.weight", "conv0"),
        (r"^bn1\.", "bn."),
        (r"^block(\d)\.layer\.", lambda m: f"group{int(m[1]) - 1}.block"),
        (r"\.convShortcut\.weight", ".convdim"),
        (r"\.conv(\d)\.weight", lambda m: f".conv{int(m[1]) - 1}"),
        (r"\.bn(\d)\.", lambda m: f".bn{int(m[1]) - 1}."),
    )
    return {"params": sd, "epoch": 200}


@case(
    "detectron2_pkl_whole",
    "R-50.pkl",
    "facebookresearch/detectron2: tools/convert-torchvision-to-d2.py (numpy arrays in a pickle)",
    "opens",
)
def _() -> Any:
    sd = d2(r50()) | linear("stem.fc", 1000, 2048)
    fc = {k.replace("stem.fc", "fc"): v for k, v in sd.items() if k.startswith("stem.fc")}
    sd = {k: v for k, v in sd.items() if not k.startswith("stem.fc")} | fc
    return pickle.dumps({"model": arrays(sd), "__author__": "torchvision", "matching_heuristics": True})


@case(
    "detectron2_pkl_msra",
    "R-50.pkl",
    "facebookresearch/detectron2: ImageNetPretrained/MSRA (Caffe2's names, scales and shifts alone)",
    "asks",
    ask={"stride_in": "1x1"},
)
def _() -> Any:
    def branch(match: re.Match[str]) -> str:
        stage, block, layer = int(match[1]) + 1, match[2], match[3]
        side = "1" if layer.startswith("downsample") else f"2{'abc'[int(layer[-1]) - 1]}"
        return f"res{stage}_{block}_branch{side}{'' if layer.startswith('conv') or layer.endswith('.0') else '_bn'}."

    sd = renamed(
        without(r50(), "running", "num_batches"),
        (r"^layer(\d)\.(\d+)\.(conv\d|bn\d|downsample\.\d)\.", branch),
        (r"^bn1\.", "res_conv1_bn."),
        (r"^fc\.", "fc1000."),
        (r"_bn\.weight$", "_bn_s"),
        (r"_bn\.bias$", "_bn_b"),
        (r"\.weight$", "_w"),
        (r"\.bias$", "_b"),
    )
    return pickle.dumps({"model": arrays(sd), "__author__": "Caffe2"})


@case(
    "detectron2_deeplab",
    "model_final.pth",
    "facebookresearch/detectron2: projects/DeepLab (stem.conv1, conv2, conv3)",
    "backbone",
    {"stem": "deep", "stem_width": 64},
    left_out=("sem_seg_head",),
)
def _() -> Any:
    sd = d2(without(r50(width=128, classes=0), r"^conv1\.", r"^bn1\."))
    for n, (a, b) in enumerate(((64, 3), (64, 64), (128, 64)), start=1):
        sd |= {f"stem.conv{n}.weight": thin((a, b, 3, 3))} | norm1d(f"stem.conv{n}.norm", a)
    return {"model": under("backbone.", sd) | {"sem_seg_head.predictor.weight": thin((19, 256, 1, 1))}}


@case(
    "mmseg_resnetv1c",
    "pspnet_r50-d8.pth",
    "open-mmlab/mmsegmentation: models/backbones/resnet.py (ResNetV1c: stem.0 to stem.7)",
    "backbone",
    {"stem": "deep", "stem_width": 32},
    ask={"output_stride": 8},
    left_out=("decode_head", "auxiliary_head"),
)
def _() -> Any:
    sd = under("backbone.", deep(r50(classes=0), mm=False))
    return {
        "meta": {},
        "state_dict": sd
        | {
            "decode_head.conv_seg.weight": thin((19, 512, 1, 1)),
            "auxiliary_head.conv_seg.weight": thin((19, 256, 1, 1)),
        },
    }


@case(
    "smp_unet",
    "unet.pth",
    "qubvel/segmentation_models.pytorch: encoders/resnet.py (encoder., decoder., segmentation_head.)",
    "backbone",
    R34,
    left_out=("decoder", "segmentation_head"),
)
def _() -> Any:
    sd = under("encoder.", resnet(expansion=1, classes=0))
    return sd | {
        "decoder.blocks.0.conv1.0.weight": thin((256, 768, 3, 3)),
        "segmentation_head.0.weight": thin((1, 16, 3, 3)),
    }


@case(
    "moco_cifar",
    "model_last.pth",
    "facebookresearch/moco: the CIFAR-10 demo (encoder_q.net.0, net.3.0.conv1, net.9)",
    "opens",
    {**R18, **SMALL, "num_classes": 128},
    left_out=("encoder_k", "queue"),
)
def _() -> Any:
    net = children(cifar18(classes=0), pool=False) | linear("9", 128, 512)
    return {
        "epoch": 200,
        "state_dict": under("encoder_q.net.", net) | under("encoder_k.net.", net) | {"queue": thin((128, 4096))},
    }


@case(
    "timm_training",
    "model_best.pth.tar",
    "huggingface/pytorch-image-models: utils/checkpoint_saver.py (state_dict, state_dict_ema, args)",
    "opens",
    R18,
)
def _() -> Any:
    return {
        "epoch": 3,
        "arch": "resnet18",
        "state_dict": r18(),
        "state_dict_ema": r18(),
        "args": argparse.Namespace(lr=0.1),
        "metric": 70.1,
    }


@case(
    "dino_training",
    "checkpoint0100.pth",
    "facebookresearch/dino: main_dino.py (student, teacher)",
    "headless",
    left_out=("head",),
)
def _() -> Any:
    sd = (
        under("backbone.", r50(classes=0))
        | linear("head.mlp.0", 2048, 2048)
        | linear("head.last_layer", 60000, 256, bias=False)
    )
    return {"student": under("module.", sd), "teacher": sd, "args": argparse.Namespace(arch="resnet50")}


@case(
    "vissl",
    "model_final_checkpoint.torch",
    "facebookresearch/vissl: models/trunks/resnext.py (trunk._feature_blocks.)",
    "headless",
)
def _() -> Any:
    return {
        "classy_state_dict": {
            "base_model": {
                "model": {"trunk": under("_feature_blocks.", r50(classes=0)), "heads": linear("0.clf.0", 128, 256)}
            }
        }
    }


@case("fsdp", "model.pt", "torch.distributed.fsdp: _fsdp_wrapped_module in names", "opens", R18)
def _() -> Any:
    return under("_fsdp_wrapped_module.", renamed(r18(), (r"^(layer\d\.\d)\.", r"\1._fsdp_wrapped_module.")))


@case(
    "whole_data_parallel",
    "model.pt",
    "torch.save({'model': nn.DataParallel(model)}) in the format before zip files",
    "opens",
    {**R18, "num_classes": 3},
)
def _() -> Any:
    from torchvision.models import resnet18

    value = {"model": nn.DataParallel(resnet18(num_classes=3).half())}
    return saved(value, _use_new_zipfile_serialization=False)


@case(
    "clip_of_state_dict",
    "clip_rn50.pt",
    "openai/CLIP: clip/model.py, model.state_dict() (visual.conv1 to conv3, attnpool)",
    "backbone",
    CLIP50,
    left_out=("attnpool", "transformer", "logit_scale"),
)
def _() -> Any:
    return clip_names(r50(classes=0)) | {
        "transformer.resblocks.0.attn.in_proj_weight": thin((1536, 512)),
        "logit_scale": thin(()),
    }


def clip_names(trunk: Tensors) -> Tensors:
    """CLIP's names for a trunk whose stem is made anew."""
    sd = without(trunk, r"^conv1\.", r"^bn1\.")
    for n, (a, b) in enumerate(((32, 3), (32, 32), (64, 32)), start=1):
        sd |= {f"conv{n}.weight": thin((a, b, 3, 3))} | norm1d(f"bn{n}", a)
    return under(
        "visual.", sd | {"attnpool.positional_embedding": thin((50, 2048))} | linear("attnpool.k_proj", 2048, 2048)
    )


@case(
    "resnet_1d",
    "ecg.pth",
    "a residual network for electrocardiograms, nn.Conv1d by torchvision's names",
    "refused",
    says=("1-d",),
)
def _() -> Any:
    return {k: thin(tuple(v.shape[:3])) if v.ndim == 4 else v for k, v in r18(channels=12).items()}


def other(name: str, model: str, *says: str) -> None:
    @case(name, "pytorch_model.bin", f"timm: {model} (installed)", "refused", says=says)
    def _() -> Any:
        import timm

        with torch.device("meta"):
            return of(timm.create_model(model))


other("resnest", "resnest14d", "ResNeSt")
other("res2net", "res2net50_26w_4s", "Res2Net")
other("sknet", "skresnet18", "SKNet")
other("regnet", "regnety_002", "RegNet")
other("efficientnet", "efficientnet_b0", "EfficientNet")
other("convnext", "convnext_tiny", "ConvNeXt")
other("swin", "swin_tiny_patch4_window7_224", "Swin")
other("vgg", "vgg11", "VGG")
other("inception", "inception_v3", "Inception")
other("gcnet", "gcresnet50t", "GCNet")


@case(
    "pytorchcv",
    "resnet18-0896-77a56f15.pth",
    "osmr/imgclsmob: pytorchcv/models/resnet.py (features.stage1.unit1.body.conv1.conv, identity_conv, output)",
    "opens",
    R18,
)
def _() -> Any:
    def inside(match: re.Match[str]) -> str:
        return f"features.stage{match[1]}.unit{int(match[2]) + 1}.body.conv{match[4]}.{match[3]}."

    return renamed(
        r18(),
        (r"^conv1\.", "features.init_block.conv.conv."),
        (r"^bn1\.", "features.init_block.conv.bn."),
        (r"\.downsample\.0\.", ".identity_conv.conv."),
        (r"\.downsample\.1\.", ".identity_conv.bn."),
        (r"^layer(\d)\.(\d)\.(conv|bn)(\d)\.", inside),
        (r"^layer(\d)\.(\d)\.", lambda m: f"features.stage{m[1]}.unit{int(m[2]) + 1}."),
        (r"^fc\.", "output."),
    )


@case(
    "tsn",
    "TSN_kinetics.pth",
    "mit-han-lab/temporal-shift-module: ops/models.py without shifts (base_model., new_fc)",
    "opens",
    {"num_classes": 400},
)
def _() -> Any:
    return {"state_dict": under("module.base_model.", r50(classes=0)) | linear("module.new_fc", 400, 2048)}


@case(
    "tsm",
    "TSM_somethingv1_RGB_resnet50.pth.tar",
    "mit-han-lab/temporal-shift-module: ops/temporal_shift.py (conv1.net)",
    "refused",
    says=("video",),
)
def _() -> Any:
    return {"state_dict": under("module.base_model.", renamed(r50(), (r"^(layer\d\.\d+)\.conv1\.", r"\1.conv1.net.")))}


@case(
    "guided_diffusion",
    "64x64_diffusion.pt",
    "openai/guided-diffusion: guided_diffusion/unet.py (input_blocks.1.0.in_layers.0)",
    "refused",
    says=("diffusion",),
)
def _() -> Any:
    return {
        "time_embed.0.weight": thin((512, 128)),
        "input_blocks.0.0.weight": thin((128, 3, 3, 3)),
        "input_blocks.1.0.in_layers.0.weight": thin((128,)),
        "input_blocks.1.0.in_layers.2.weight": thin((128, 128, 3, 3)),
        "input_blocks.1.0.out_layers.3.weight": thin((128, 128, 3, 3)),
    }


@case(
    "detr",
    "detr-r50-e632da11.pth",
    "facebookresearch/detr: models/backbone.py (backbone.0.body, frozen batch norm)",
    "backbone",
    left_out=("transformer", "input_proj", "class_embed"),
)
def _() -> Any:
    beside = {"transformer.encoder.layers.0.self_attn.in_proj_weight": thin((768, 256))}
    beside |= {"input_proj.weight": thin((256, 2048, 1, 1))} | linear("class_embed", 92, 256)
    return {"model": under("backbone.0.body.", without(r50(classes=0), "num_batches")) | beside}


@case(
    "web_page", "resnet50.pth", "what a link to a hub's page gives instead of the file", "refused", says=("web page",)
)
def _() -> Any:
    return b"<!DOCTYPE html>\n<html lang='en'><head><title>resnet50</title></head></html>"


@case(
    "torch_export",
    "resnet18.pt2",
    "torch.export.save: a zip archive with models/model.json",
    "refused",
    says=("torch.export",),
)
def _() -> Any:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("resnet18/archive_format", "pt2")
        archive.writestr("resnet18/models/model.json", "{}")
    return stream.getvalue()


def cifar32() -> Tensors:
    return resnet((5, 5, 5), (16, 32, 64), expansion=1, stem=3, width=16, classes=0, shortcut=False)


@case(
    "pycil_resnet32",
    "phase_0.pkl",
    "G-U-N/PyCIL: convs/cifar_resnet.py, after D-X-Y/ResNeXt-DenseNet (conv_1_3x3, stage_1.0.conv_a, option A after an average)",
    "opens",
    {**CIFAR20, "layers": (5, 5, 5), "shortcut": "A", "num_classes": 100},
)
def _() -> Any:
    rules = ((r"^conv1\.", "conv_1_3x3."), (r"^bn1\.", "bn_1."), (r"^layer", "stage_"))
    parts = ((r"\.(conv|bn)1\.", r".\1_a."), (r"\.(conv|bn)2\.", r".\1_b."))
    return {"model_state_dict": under("convnet.", renamed(cifar32(), *rules, *parts)) | linear("fc", 100, 64)}


@case(
    "branch_in_a_sequential",
    "resnet18_cifar10.pkl",
    "tutorials of ResNet-18 on CIFAR-10 (conv1.0, layer1.0.left.0, left.3, shortcut.0)",
    "opens",
    {**R18, **SMALL, "num_classes": 10},
)
def _() -> Any:
    def inside(match: re.Match[str]) -> str:
        return f"{match[1]}.left.{3 * (int(match[3]) - 1) + (match[2] == 'bn')}."

    sd = renamed(cifar18(), *KUANGLIU, (r"^(layer\d\.\d)\.(conv|bn)(\d)\.", inside))
    return renamed(sd, (r"^conv1\.", "conv1.0."), (r"^bn1\.", "conv1.1."), (r"^linear\.", "fc."))


@case(
    "pre_activation_for_imagenet",
    "preresnet50.pth",
    "torchvision's names with the norms first (bn_last)",
    "opens",
    {"order": "pre"},
)
def _() -> Any:
    return renamed(r50(pre=True), (r"^norm\.", "bn_last."))


@case(
    "two_linear_layers",
    "m.pth",
    "self.fc1 = nn.Linear(512, 512), self.fc2 = nn.Linear(512, 10)",
    "headless",
    R18,
    left_out=("fc1", "fc2"),
)
def _() -> Any:
    return r18(classes=0) | linear("fc1", 512, 512) | linear("fc2", 10, 512)


def within(norm: str, add: Callable[[str, int], Tensors]) -> Tensors:
    """A ResNet-50 or -18 with more in each block, made of the block's name and channels; `norm` is its last one."""
    sd = r50() if norm == "bn3" else r18()
    for name, tensor in dict(sd).items():
        if hit := re.fullmatch(rf"(layer\d\.\d+)\.{norm}\.weight", name):
            sd |= add(hit[1], len(tensor))
    return sd


def variant(name: str, file: str, source: str, says: str, make: Callable[[], Any]) -> None:
    CASES.append(Case(name, make, file, source, "refused", says=(says,)))


def fixup() -> Tensors:
    sd = without(r50(), r"bn\d", r"downsample\.1")
    places = ("bias1a", "bias1b", "bias2a", "bias2b", "bias3a", "bias3b", "scale")
    return sd | {f"layer{n}.{i}.{place}": thin((1,)) for n in range(1, 5) for i in range(3) for place in places}


def pyramid() -> Tensors:
    sd, ins = filled({"conv1.weight": (16, 3, 3, 3)}) | norm1d("bn1", 16), 16
    for path, outs in (
        (f"layer{stage}.{index}", 16 + 10 * (2 * stage + index - 1)) for stage in (1, 2) for index in (0, 1)
    ):
        sd |= norm1d(f"{path}.bn1", ins) | norm1d(f"{path}.bn2", outs) | norm1d(f"{path}.bn3", outs)
        sd |= {f"{path}.conv1.weight": thin((outs, ins, 3, 3)), f"{path}.conv2.weight": thin((outs, outs, 3, 3))}
        ins = outs
    return sd | norm1d("bn_final", ins) | linear("fc", 10, ins)


@case(
    "d2l_resnet18",
    "resnet18.params",
    "d2l-ai/d2l-en: chapter_convolutional-modern/resnet.md (2.0.conv3, a projection with a bias and without a norm)",
    "opens",
    {**R18, "in_channels": 1, "num_classes": 10},
)
def _() -> Any:
    sd = renamed(without(r18(channels=1, classes=10, bias=True), r"downsample\.1"), (r"\.downsample\.0\.", ".conv3."))
    sd = renamed(sd, (r"^layer(\d)\.", r"\1."), (r"^conv1\.", "0.0."), (r"^bn1\.", "0.1."), (r"^fc\.", "7."))
    return under("net.", sd)


@case(
    "shortcut_as_third_convolution",
    "m.pth",
    "tutorials of ResNet-18 on CIFAR-10 (conv3 and bn3 are the projection)",
    "opens",
    {**R18, **SMALL, "num_classes": 10},
)
def _() -> Any:
    return renamed(cifar18(), (r"downsample\.0", "conv3"), (r"downsample\.1", "bn3"))


@case("flat_list_of_blocks", "m.pth", "self.blocks = nn.ModuleList(blocks), not divided into stages", "opens", R18)
def _() -> Any:
    return renamed(r18(), (r"^layer(\d)\.(\d)", lambda m: f"blocks.{2 * int(m[1]) - 2 + int(m[2])}"))


@case("upper_case", "m.pth", "self.Conv1, self.BN1, self.Layer1", "opens")
def _() -> Any:
    return renamed(r50(), (r"\bconv", "Conv"), (r"\bbn", "BN"), ("layer", "Layer"), ("downsample", "Downsample"))


@case("extra_state", "m.pth", "modules with get_extra_state: layer1.0.conv1._extra_state", "opens", R18)
def _() -> Any:
    return r18() | {f"{name}._extra_state": thin((0,), torch.uint8) for name in ("conv1", "layer1.0.conv1", "fc")}


@case(
    "kazuto_deeplab",
    "deeplabv2_resnet101_msc.pth",
    "kazuto1011/deeplab-pytorch: libs/models/resnet.py (base.layer2.block1.reduce.conv, conv3x3, increase)",
    "backbone",
    left_out=("aspp",),
)
def _() -> Any:
    words = {"1": "reduce", "2": "conv3x3", "3": "increase"}
    sd = renamed(
        r50(classes=0),
        (r"^(conv|bn)1\.", r"layer1.conv1.\1."),
        (r"^layer(\d)\.(\d)\.", lambda m: f"layer{int(m[1]) + 1}.block{int(m[2]) + 1}."),
        (r"\.(conv|bn)(\d)\.(?=w|b|r|n)", lambda m: f".{words[m[2]]}.{m[1]}."),
        (r"layer1\.reduce", "layer1.conv1"),
        (r"downsample\.0", "shortcut.conv"),
        (r"downsample\.1", "shortcut.bn"),
    )
    return under("base.", sd | filled({f"aspp.c{rate}.weight": (21, 2048, 3, 3) for rate in range(4)}))


@case(
    "prlz77_resnext29",
    "model.pytorch",
    "prlz77/ResNeXt.pytorch: models/model.py (stage_1.stage_1_bottleneck_0.conv_reduce, conv_conv, conv_expand)",
    "opens",
    {"layers": (3, 3, 3), "groups": 8, **SMALL, "num_classes": 10},
)
def _() -> Any:
    words = {"1": "_reduce", "2": "_conv", "3": "_expand"}
    sd = renamed(
        resnet((3, 3, 3), inner=lambda planes: planes * 8, groups=8, stem=3, classes=10),
        (r"^layer(\d)\.(\d)\.", r"stage_\1.stage_\1_bottleneck_\2."),
        (r"\.(conv|bn)(\d)\.", lambda m: f".{m[1]}{words[m[2]]}.".replace("bn_conv", "bn")),
        (r"downsample\.0", "shortcut.shortcut_conv"),
        (r"downsample\.1", "shortcut.shortcut_bn"),
        (r"^(conv1)\.", "conv_1_3x3."),
        (r"^bn1\.", "bn_1."),
        (r"^fc\.", "classifier."),
    )
    return under("module.", sd)


@case(
    "rtdetr",
    "rtdetr_r50vd_6x_coco_from_paddle.pth",
    "lyuwenyu/RT-DETR: rtdetr_pytorch/src/nn/backbone/presnet.py (branch2a.conv, short.conv.conv behind a pool)",
    "backbone",
    {"stem": "deep", "shortcut": "D"},
    left_out=("encoder", "decoder"),
)
def _() -> Any:
    import timm

    with torch.device("meta"):
        model = timm.create_model("resnet50d", num_classes=0)
    kinds, letters = {"conv": "conv", "bn": "norm", "1": "conv", "2": "norm"}, " abc"
    sd = renamed(
        of(model),
        (r"^conv1\.([036])\.", lambda m: f"conv1.conv1_{int(m[1]) // 3 + 1}.conv."),
        (r"^conv1\.([14])\.", lambda m: f"conv1.conv1_{int(m[1]) // 3 + 1}.norm."),
        (r"^bn1\.", "conv1.conv1_3.norm."),
        (r"^layer(\d)\.(\d)\.", lambda m: f"res_layers.{int(m[1]) - 1}.blocks.{m[2]}."),
        (r"(blocks\.\d)\.(conv|bn)(\d)", lambda m: f"{m[1]}.branch2{letters[int(m[3])]}.{kinds[m[2]]}"),
        (r"^(res_layers\.0\..*)downsample\.(\d)", lambda m: f"{m[1]}short.{kinds[m[2]]}"),
        (r"downsample\.(\d)", lambda m: f"short.conv.{kinds[m[1]]}"),
    )
    beside = linear("encoder.layer", 4, 4) | linear("decoder.layer", 4, 4)
    return {"ema": {"module": under("backbone.", sd) | beside, "updates": 9}}


@case(
    "simclrv2",
    "r50_1x_sk0.pth",
    "Separius/SimCLRv2-Pytorch: resnet.py (net.1.blocks.0.net.0, net.1.0, projection.shortcut)",
    "opens",
)
def _() -> Any:
    sd = renamed(
        r50(),
        (r"^conv1\.", "net.0.0."),
        (r"^bn1\.", "net.0.1.0."),
        (r"^layer(\d)\.(\d)\.", r"net.\1.blocks.\2."),
        (r"(blocks\.\d)\.conv(\d)", lambda m: f"{m[1]}.net.{2 * int(m[2]) - 2}"),
        (r"(blocks\.\d)\.bn(\d)", lambda m: f"{m[1]}.net.{2 * int(m[2]) - 1}.0"),
        (r"downsample\.0", "projection.shortcut"),
        (r"downsample\.1", "projection.bn.0"),
    )
    return {"resnet": sd, "head": linear("layers.0", 128, 2048)}


@case(
    "blocks_in_blocks",
    "m.pth",
    "FrancescoSaverioZuppichini/ResNet: ResNet.ipynb (encoder.blocks.0.blocks.0.blocks.0.conv, decoder.decoder)",
    "opens",
)
def _() -> Any:
    return renamed(
        r50(),
        (r"^conv1\.", "encoder.gate.0."),
        (r"^bn1\.", "encoder.gate.1."),
        (r"^layer(\d)\.(\d)\.", lambda m: f"encoder.blocks.{int(m[1]) - 1}.blocks.{m[2]}."),
        (r"(blocks\.\d)\.(conv|bn)(\d)", lambda m: f"{m[1]}.blocks.{2 * int(m[3]) - 2}.{m[2]}"),
        (r"downsample\.0", "shortcut.conv"),
        (r"downsample\.1", "shortcut.bn"),
        (r"^fc\.", "decoder.decoder."),
    )


@case(
    "vggface2",
    "resnet50_scratch_dag.pth",
    "robots.ox.ac.uk/~albanie/pytorch-models.html (conv2_1_1x1_reduce, conv2_1_1x1_reduce_bn)",
    "asks",
    ask={"stride_in": "1x1"},
)
def _() -> Any:
    def matconvnet(match: re.Match[str]) -> str:
        layer = {"1": "1x1_reduce", "2": "3x3", "3": "1x1_increase"}[match[4]] if match[4] else "1x1_proj"
        normed = "_bn" if "bn" in (match[3] or "") or match[5] == "1" else ""
        return f"conv{int(match[1]) + 1}_{int(match[2]) + 1}_{layer}{normed}."

    return renamed(
        r50(),
        (r"^layer(\d)\.(\d)\.(?:(conv|bn)(\d)|downsample\.(\d))\.", matconvnet),
        (r"^conv1\.", "conv1_7x7_s2."),
        (r"^bn1\.", "conv1_7x7_s2_bn."),
        (r"^fc\.", "classifier."),
    )


@case(
    "caffe_names",
    "resnet50.pth",
    "KaimingHe/deep-residual-networks, converted: res2a_branch2a, bn2a_branch2a beside scale2a_branch2a",
    "asks",
    ask={"stride_in": "1x1"},
)
def _() -> Any:
    def caffe(match: re.Match[str]) -> str:
        kind = "res" if match[3] == "conv" or match[5] == "0" else "bn" if match[6][0] in "rn" else "scale"
        branch = f"2{' abc'[int(match[4])]}" if match[4] else "1"
        return f"{kind}{int(match[1]) + 1}{'abcdef'[int(match[2])]}_branch{branch}.{match[6]}"

    return renamed(
        r50(),
        (r"^layer(\d)\.(\d)\.(?:(conv|bn)(\d)|downsample\.(\d))\.(.*)", caffe),
        (r"^bn1\.(?=[rn])", "bn_conv1."),
        (r"^bn1\.", "scale_conv1."),
        (r"^fc\.", "fc1000."),
    )


@case(
    "seresnet_of_weiaicunzai",
    "seresnet18-200-best.pth",
    "weiaicunzai/pytorch-cifar100: models/senet.py (residual.0, excitation.0 of 4 channels)",
    "opens",
    {**R18, **SMALL, "attention": "se", "num_classes": 100},
)
def _() -> Any:
    def inside(match: re.Match[str]) -> str:
        return f"{match[1]}.residual.{3 * (int(match[3]) - 1) + (match[2] == 'bn')}."

    sd = renamed(cifar18(classes=100, bias=True), (r"^(layer\d\.\d)\.(conv|bn)(\d)\.", inside))
    sd = renamed(sd, (r"^layer", "stage"), (r"downsample", "shortcut"), (r"^conv1\.", "pre.0."), (r"^bn1\.", "pre.1."))
    for stage in range(1, 5):
        for index in (0, 1):
            path, channels = f"stage{stage}.{index}.excitation", 32 * 2**stage
            sd |= linear(f"{path}.0", channels // 16, channels) | linear(f"{path}.2", channels, channels // 16)
    return renamed(sd, (r"^fc\.", "linear."))


@case(
    "mmaction2_tsn",
    "tsn_r50.pth",
    "open-mmlab/mmaction2: models/backbones/resnet.py (layer1.0.conv1.bn, cls_head.fc_cls)",
    "opens",
    {"num_classes": 400},
)
def _() -> Any:
    sd = renamed(r50(classes=0), (r"\bconv(\d)\.", r"conv\1.conv."), (r"\bbn(\d)\.", r"conv\1.bn."))
    sd = renamed(sd, (r"downsample\.0", "downsample.conv"), (r"downsample\.1", "downsample.bn"))
    return {"state_dict": under("backbone.", sd) | linear("cls_head.fc_cls", 400, 2048)}


@case(
    "pytorchcv_wrn",
    "wrn16_10_cifar10-0293.pth",
    "osmr/imgclsmob: pytorchcv/models/wrn_cifar.py (features.post_activ.bn)",
    "opens",
    {**WRN, "layers": (2, 2, 2)},
)
def _() -> Any:
    sd = resnet((2, 2, 2), (160, 320, 640), expansion=1, stem=3, width=16, classes=10, pre=True)
    return renamed(
        sd,
        (r"^layer(\d)\.(\d)\.", lambda m: f"features.stage{m[1]}.unit{int(m[2]) + 1}."),
        (r"\.(conv|bn)(\d)\.", r".body.conv\2.\1."),
        (r"downsample\.0", "identity_conv"),
        (r"^conv1\.", "features.init_block."),
        (r"^norm\.", "features.post_activ.bn."),
        (r"^fc\.", "output."),
    )


variant(
    "norm_after_the_stem",
    "preresnet18-1028.pth",
    "osmr/imgclsmob: pytorchcv/models/preresnet.py (features.init_block.bn)",
    "a norm after its stem too",
    lambda: renamed(r18(pre=True) | norm1d("bn1", 64), (r"^norm\.", "bn_last.")),
)
variant(
    "sobel",
    "deepclusterv2.pth.tar",
    "facebookresearch/deepcluster: models/vgg16.py (sobel.0, sobel.1, then two channels)",
    "Sobel",
    lambda: (
        r18(channels=2) | filled({f"sobel.{n}.weight": shape for n, shape in ((0, (1, 3, 1, 1)), (1, (2, 1, 3, 3)))})
    ),
)
variant(
    "deepmind_wrn",
    "Rebuffi2021Fixing_28_10.pt",
    "RobustBench/robustbench: model_zoo/architectures/dm_wide_resnet.py (batchnorm_0, conv_0)",
    "DeepMind",
    lambda: renamed(
        wide(16, 2),
        (r"^conv1\.", "init_conv."),
        (r"^bn1\.", "batchnorm."),
        (r"^block(\d)\.layer", lambda m: f"layer.{int(m[1]) - 1}.block"),
        (r"\.conv(\d)\.", lambda m: f".conv_{int(m[1]) - 1}."),
        (r"\.bn(\d)\.", lambda m: f".batchnorm_{int(m[1]) - 1}."),
        (r"^fc\.", "logits."),
    ),
)
variant(
    "scored_weights",
    "model_best.pth.tar",
    "inspire-group/hydra: models/layers.py (popup_scores beside each weight)",
    "popup_scores",
    lambda: r18() | {k.replace("weight", "popup_scores"): v for k, v in r18().items() if v.ndim == 4},
)
variant(
    "zero_3",
    "mp_rank_00_model_states.pt",
    "deepspeedai/DeepSpeed: runtime/engine.py (weights of no size where they lie in parts)",
    "DeepSpeed",
    lambda: {"module": {name: thin((0,)) if tensor.ndim else tensor for name, tensor in r18().items()}},
)
variant(
    "pickle_alone",
    "m.pkl",
    "pickle.dump(model.state_dict(), file)",
    "pickle, not by torch.save",
    lambda: pickle.dumps({"model": r18(classes=2)}),
)
variant(
    "xet_pointer",
    "model.safetensors",
    "huggingface/xet-core: a pointer, from a clone without git-xet",
    "Git Xet",
    lambda: b"# xet version 0\nfilesize = 102530333\nhash = '5f'\n",
)
variant("tensorrt", "resnet50.engine", "TensorRT's plans", "TensorRT", lambda: b"ftrt" + bytes(300))
variant(
    "plain_blocks",
    "cnn.pth",
    "blocks of two convolutions without shortcuts",
    "without projections",
    lambda: renamed(without(resnet((1, 1, 1), expansion=1), "downsample"), (r"^layer(\d)\.0\.", r"block\1.")),
)
other("tresnet", "tresnet_m", "TResNet")
other("inception_resnet", "inception_resnet_v2", "Inception")
variant(
    "prelu",
    "m.pth",
    "nn.PReLU() in each block, named relu",
    "PReLU",
    lambda: within("bn2", lambda path, channels: {f"{path}.relu.weight": thin((1,))}),
)
variant("fixup", "fixup_resnet50.pth", "hongyi-zhang/Fixup: imagenet/models/fixup_resnet_imagenet.py", "Fixup", fixup)
variant("pyramidnet", "pyramidnet.pth", "dyhan0920/PyramidNet-PyTorch: PyramidNet.py", "PyramidNet", pyramid)
variant(
    "detectron2_dcn",
    "model_final.pth",
    "detectron2: DeformBottleneckBlock (conv2_offset)",
    "deformable",
    lambda: within("bn3", lambda path, channels: {f"{path}.conv2_offset.weight": thin((18, channels // 4, 3, 3))}),
)
variant(
    "spatial_attention",
    "m.pth",
    "CBAM by its words (channel_attention, spatial_attention)",
    "CBAM",
    lambda: within("bn2", lambda path, channels: {f"{path}.spatial_attention.conv.weight": thin((1, 2, 7, 7))}),
)
variant(
    "lsq",
    "m.pth",
    "zhutmost/lsq-net: quan/func.py (quan_w_fn.s)",
    "quantisation",
    lambda: within("bn2", lambda path, channels: {f"{path}.conv1.quan_w_fn.s": thin((1,))}),
)
variant(
    "int8_beside_scales",
    "m.pth",
    "bitsandbytes: weight as int8, SCB",
    "int8",
    lambda: (
        {name: tensor.to(torch.int8) if tensor.ndim == 4 else tensor for name, tensor in r18().items()}
        | {"conv1.SCB": thin((64,))}
    ),
)
variant(
    "paddle",
    "resnet18.pdparams",
    "PaddlePaddle: vision/models/resnet.py (bn1._mean)",
    "Paddle",
    lambda: renamed(without(r18(), "num_batches"), ("running_mean", "_mean"), ("running_var", "_variance")),
)
variant(
    "shake_shake",
    "m.pth",
    "owruby/shake-shake_pytorch: models/shake_resnet.py",
    "Shake",
    lambda: {
        f"layer{stage}.{index}.branch{branch}.{number}.weight": thin((64, 64, 3, 3))
        for stage in (1, 2, 3)
        for index in (0, 1)
        for branch in (1, 2)
        for number in (1, 4)
    },
)
variant(
    "latent_diffusion",
    "vae.ckpt",
    "CompVis/latent-diffusion: encoder.down.0.block.0.conv1",
    "diffusion",
    lambda: {
        **filled({f"encoder.down.0.block.0.conv{n}.weight": (128, 128, 3, 3) for n in (1, 2)}),
        **filled({f"encoder.down.0.block.0.norm{n}.{part}": (128,) for n in (1, 2) for part in ("weight", "bias")}),
        **filled({"encoder.conv_in.weight": (128, 3, 3, 3), "encoder.norm_out.weight": (128,)}),
    },
)
variant(
    "optimiser_in_a_dictionary",
    "last.pth",
    "{'optimizer': …, 'epoch': 3} without a network",
    "optimiser",
    lambda: {"optimizer": sgd(r18()), "epoch": 3},
)
variant("mxnet", "resnet50_v1-0000.params", "MXNet: NDArray::Save", "MXNet", lambda: b"\x12\x01" + bytes(300))
variant("not_found", "resnet50.pth", "what raw.githubusercontent.com answers", "404", lambda: b"404: Not Found")
variant("saved_page", "resnet50.pth", "a page with a comment first", "web page", lambda: b"\xef\xbb\xbf<!-- --><html>")
variant("openvino", "model.xml", "OpenVINO's IR", "OpenVINO", lambda: b'<?xml version="1.0"?>\n<net name="resnet">')
other("nf_resnet", "nf_resnet26", "NF-ResNet")
other("timm_repvgg", "repvgg_a0", "RepVGG")
other("timm_darknet", "cs3darknet_s", "CSPNet")


def data_of(one: Case) -> bytes:
    """The bytes of a case's file."""
    value = one.make()
    return value if isinstance(value, bytes) else saved(value)


# -- the shipped network in another's form -------------------------------------------------

THEIRS_1 = list(range(16))
THEIRS_2 = [*range(8, 24), *range(8), *range(24, 32)]
THEIRS_3 = [*(16 + place for place in THEIRS_2), *range(16), *range(48, 64)]
"""Where each channel of our stages stands in theirs."""


def akamaster(state: Mapping[str, Tensor]) -> Tensors:
    """A ResNet-20 of ours as akamaster's code has it."""

    def scattered(tensor: Tensor, places: list[int], axis: int) -> Tensor:
        return torch.empty_like(tensor).index_copy_(axis, torch.tensor(places), tensor)

    theirs, stages = {}, {"layer1": THEIRS_1, "layer2": THEIRS_2, "layer3": THEIRS_3}
    for name, tensor in state.items():
        stage, _, role = name.partition(".")
        if stage in stages and tensor.ndim:
            _, _, role = role.partition(".")
            before = {"layer2": THEIRS_1, "layer3": THEIRS_2}.get(stage) if ".0." in name else None
            if role == "conv1.weight":
                tensor = scattered(tensor, before or stages[stage], 1)
            if role == "conv2.weight" or role.startswith("bn2."):
                tensor = scattered(tensor, stages[stage], 0)
        if name == "fc.weight":
            tensor = scattered(tensor, THEIRS_3, 1)
        theirs[name.replace("fc.", "linear.")] = tensor
    return theirs
