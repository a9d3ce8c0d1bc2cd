"""What no configuration expresses among a checkpoint's tensors, by name: other networks, and variants of the residual one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from .layers import AFFINE, BLUR, STATISTICS, Layer, LayoutError, own_name

NETWORKS = (
    (r"(?<![^./])s\d\.b\d+\.f\.", "the blocks of pycls, where RegNet and others have the same names"),
    (r"(?<![^./])s\d\.b\d+\.|trunk_output\.block\d", "RegNet's blocks"),
    # https://github.com/RobustBench/robustbench/blob/master/robustbench/model_zoo/architectures/dm_wide_resnet.py
    (r"\.batchnorm_0$", "DeepMind's wide blocks, which pad on one side where they have a stride"),
    (r"(?<![^./])regnet\.", "RegNet's blocks"),
    (r"(?<![^./])(down|up)\.\d\.block\.\d", "the blocks of a diffusion model"),
    (r"denseblock|denselayer|dense_block", "DenseNet's blocks"),
    (r"(down|up)_blocks\.\d+\.resnets|put_blocks\.\d+\.\d+\.in_layers", "the blocks of a diffusion model"),
    # https://github.com/kekmodel/FixMatch-pytorch/blob/master/models/wideresnet.py
    (r"ema_state_dict/(module\.)?block\d\.layer", "FixMatch's wide blocks, with other shortcuts and a leaky ReLU"),
)
"""Networks whose blocks look like ours, by a layer of theirs."""

INSIDE = (
    (
        r"\.cbam|ChannelGate|SpatialGate|\.ca\d?\..*|\.sa\d?\.conv|(?i:(channel|spatial)_?att)",
        "CBAM, attention over channels and places",
    ),
    (r"(?i:coord_?att)", "coordinate attention"),
    (r"(?i:triplet_?att)", "triplet attention"),
    (r"\.(IN|BN)\.|instance_norm|\.ibn", "IBN, instance norm beside batch norm"),
    (r"\.prelu\d?\.", "ArcFace's iresnet, whose blocks have PReLU and three norms"),
    (r"\.conv2\.(fc1|fc2|radix|bn0)|\.splat", "ResNeSt, attention over splits"),
    (r"\.bns\.\d+\.(weight|running)", "Res2Net, whose 3×3 convolution is a chain of smaller ones"),
    (r"\.(paths|conv_kernels?)\.\d|conv\d\.attn", "SKNet, kernels of several sizes"),
    (r"rbr_(dense|1x1|reparam)", "RepVGG"),
    (r"\.bam|\.gate_[cs]", "BAM, attention over channels and places"),
    (r"context_block|channel_add_conv|conv_attn|mask_pool", "GCNet, attention with a global context"),
    (r"conv\d?_?offset|\.offset", "deformable convolutions"),
    (r"\.(theta|phi|g)\.\d?|nonlocal|non_local", "non-local blocks"),
    (r"rel_(h|w|height|width)|\.(to_)?(qkv?|key_conv|query_conv)|\.mhsa", "self-attention in its blocks"),
    (r"mean_weight|var_weight", "switchable normalisation"),
    (r"\.(temporal|tsm|conv_t)\.|\.conv1\.(conv\.)?net\b", "shifts in time, for video"),
    (r"fake_quant|activation_post_process|_quantizer|\.quan\w*_fn", "quantisation that it was trained with"),
    (r"\.gain$|skipinit_gain", "the scaled standardised convolutions of NF-ResNet"),
    (r"\.bias\d[ab]$", "the biases and scales of Fixup"),
    (r"\.(_|moving_)(mean|variance)$", "weights by the names of PaddlePaddle, TensorFlow or MindSpore"),
    (r"\.lora_[AB]\b", "LoRA's additions to its weights"),
    (r"\.filt$", "blurs before its projections"),
    (r"conv\d_(1x1|kxk)\.", "the blocks of timm's ByobNet"),
)
"""What stands in the blocks of variants that no configuration expresses, by what follows a block's name."""

OTHERS = (
    (r"rbr_(dense|1x1|reparam)", "RepVGG"),
    (r"stages\.\d\.\d+\.conv_kxk\.", "RepVGG or MobileOne"),
    (r"stages\.\d\.(conv_(down|exp|transition)|blocks\.\d+\.conv\d)", "CSPNet or Darknet"),
    (r"residual_path\d|layer\d\.\d+\.branch[12]\.\d", "Shake-Shake, blocks of two branches"),
    (r"features\.\d\.\d+\.layer_scale", "ConvNeXt"),
    (r"relative_position_bias_table|layers\.\d\.blocks\.\d+\.attn", "a Swin transformer"),
    (
        r"cls_token|class_token|class_embedding|(?<!head\.)pos_embed|position_embeddings?|patch_embed",
        "a vision transformer",
    ),
    (
        r"_blocks\.\d+\._(expand|depthwise)|\.\d+\.block\.\d\.(\d|fc\d)\.|blocks\.\d\.\d\.conv_[dp]w|"
        r"layers\.\d+\.\d\.layers\.\d",
        "EfficientNet or MobileNet",
    ),
    (
        r"dwconv|conv_dw\.|stages\.\d\.(blocks\.)?\d\.gamma|layer_scale",
        "ConvNeXt or another network of depthwise kernels",
    ),
    (r"features\.\d+\.conv\.\d|inverted", "MobileNet"),
    (r"[Mm]ixed_\d[a-e]|inception\d[a-e]|inception_", "Inception"),
    (r"features\.\d+\.(squeeze|expand)", "SqueezeNet"),
    (r"stage\d\.\d\.(branch\d|branches)", "ShuffleNet or HRNet"),
    (r"features\.0\.weight|features\.0\.0\.weight", "VGG, AlexNet or a like network without residual blocks"),
    (r"(inc|down\d|up\d)\.(double_conv|maxpool_conv|conv)", "U-Net"),
    (r"model\.\d+\.(m|cv\d)\.", "YOLO"),
    (r"dark\d|darknet", "Darknet"),
)
"""Other networks that people have, by a tensor of theirs."""

TRANSFORMER = re.compile(r"attn|attention|q_proj|in_proj_weight|encoder_layer")


def check_dimensions(layers: Iterable[Layer]) -> None:
    """That the kernels are of pictures.

    Raises:
        LayoutError: where they have one axis or three.
    """
    axes = {len(layer.shape) for layer in layers if ".se." not in layer.name}
    if 5 in axes:
        raise LayoutError("holds a 3-d network, for video or volumes: networks for pictures are accepted.")
    if 3 in axes and 4 not in axes:
        raise LayoutError("holds a 1-d network, for sound or other series: networks for pictures are accepted.")


BETWEEN = (
    # https://github.com/facebookresearch/deepcluster/blob/main/models/vgg16.py
    (r"^sobel", "a Sobel filter before it"),
    (r"^(ca|sa)\d?\.|^cbam", "CBAM, attention over channels and places"),
    (r"^NL_\d|^non_?local|\.(theta|phi)$", "non-local blocks"),
    (r"^(p?relu|act)\d?$", "PReLU, an activation with weights"),
)
"""What stands between the stages of such variants, by what follows the place where the network stands."""


def check_makers(layers: Iterable[Layer]) -> None:
    """That weights which are computed at each use are computed in a known way.

    Raises:
        LayoutError: where one is not.
    """
    for layer in layers:
        made = layer.parts.keys() - {*AFFINE, *STATISTICS, BLUR}
        if made and len(layer.shape) > 1 and not layer.is_linear:
            raise LayoutError(
                f"has weights that are computed at each use in a way that is not known, first "
                f"{own_name(layer.parts[min(made)])}: weights as they are used are accepted, such as "
                "torch.nn.utils.parametrize.remove_parametrizations leaves."
            )


VOICES = re.compile(r"(torchfb|instancenorm|sap_linear)\b")
"""What stands around a network that reads spectrograms of voices."""


def check_voices(beside: Iterable[str], attention: Iterable[str]) -> None:
    """That no network reads a spectrogram and has squeeze-and-excitation: such blocks activate before they normalise.

    https://github.com/clovaai/voxceleb_trainer/blob/master/models/ResNetSE34L.py.

    Raises:
        LayoutError: where one does.
    """
    reads, gate = next(filter(VOICES.match, beside), None), next(iter(attention), None)
    if reads and gate:
        raise LayoutError(
            f"holds a network for voices ({reads}), whose blocks with channel attention ({own_name(gate)}) activate before they "
            "normalise, which no configuration expresses."
        )


def name_the_thing(things: Iterable[tuple[str, str]], names: Iterable[str]) -> None:
    """That no layer is one of a known variant.

    Raises:
        LayoutError: where one is.
    """
    names = list(names)
    for pattern, thing in things:
        if seen := next((name for name in names if re.search(pattern, name)), None):
            shown = own_name(seen).lstrip(".")
            raise LayoutError(f"holds a network with {thing} ({shown}), which no configuration expresses.")


def other_network(names: Iterable[str]) -> str:
    """Which other network that people have is in a file, the end of a sentence; "" where none is."""
    names = list(names)
    for pattern, thing in OTHERS:
        if seen := next((name for name in names if re.search(pattern, name)), None):
            return f"holds {thing} ({own_name(seen)}): a residual network is accepted."
    return ""


def stranger(names: Sequence[str], layers: Mapping[str, Layer]) -> str:
    """What a file is in which no residual network was found.

    Raises:
        LayoutError: for what is told by its layers.
    """
    if empty := next((layer for layer in layers.values() if "weight" in layer.parts and 0 in layer.shape), None):
        return (
            f"has an empty {own_name(empty.parts['weight'])}, as DeepSpeed leaves where weights lie in other files: its "
            "zero_to_fp32.py puts them together."
        )
    if other := other_network(names):
        return other
    name_the_thing([*NETWORKS, *INSIDE], names)
    if seen := next((name for name in names if TRANSFORMER.search(name)), None):
        return f"holds a transformer ({own_name(seen)}): a residual network is accepted."
    check_dimensions(layer for layer in layers.values() if layer.parts.keys() <= {*AFFINE} and len(layer.shape) > 2)
    shown = ", ".join(own_name(name) for name in list(names)[:3])
    return (
        f"holds no residual network that is known ({len(names)} tensors, first {shown}): a stem and stages of basic or "
        "bottleneck blocks are looked for."
    )


BESIDE = (
    # https://github.com/michuanhaohao/reid-strong-baseline/blob/master/modeling/backbones/resnet.py
    (
        r"neck\b",
        True,
        "Code that tells people apart often has no ReLU after the stem: then it is a network that no configuration has.",
    ),
    # https://github.com/jfzhang95/pytorch-deeplab-xception/blob/master/modeling/backbone/resnet.py
    (
        r"aspp|ppm|decode_head|aux_classifier|sem_seg_head|conv2d_list",
        False,
        "Code for segmentation may dilate the blocks of a stage by several amounts (multi-grid), and DeepLab v2 rounds up where "
        "its stem pools, which no configuration does.",
    ),
)
"""What stands beside a network whose code may compute another function: its name, and whether it is a norm of the last
stage's channels, or convolutions."""


def stands(pattern: str, norm: bool, layers: Iterable[Layer], channels: int) -> bool:
    return any(
        re.search(pattern, own_name(layer.name))
        and (layer.is_norm and layer.shape == (channels,) if norm else layer.is_kernel)
        for layer in layers
    )
