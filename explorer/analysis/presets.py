"""The networks that have a name, as lines of a list: what each is called, whose it is and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from resnet.presets import GROUPS, name_title

from ..units import amount

COSTS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        # torchvision
        "resnet18": (11_689_512, 1_814_073_344),
        "resnet34": (21_797_672, 3_663_761_408),
        "resnet50": (25_557_032, 4_089_184_256),
        "resnet101": (44_549_160, 7_801_405_440),
        "resnet152": (60_192_808, 11_513_626_624),
        "resnext50_32x4d": (25_028_904, 4_230_479_872),
        "resnext101_32x8d": (88_791_336, 16_414_015_488),
        "resnext101_64x4d": (83_455_272, 15_460_270_080),
        "wide_resnet50_2": (68_883_240, 11_398_021_120),
        "wide_resnet101_2": (126_886_696, 22_753_050_624),
        # paper
        "resnet18_v1": (11_689_512, 1_814_073_344),
        "resnet34_v1": (21_797_672, 3_663_761_408),
        "resnet50_v1": (25_557_032, 3_857_973_248),
        "resnet101_v1": (44_549_160, 7_570_194_432),
        "resnet152_v1": (60_192_808, 11_282_415_616),
        "plain18": (11_515_688, 1_794_805_760),
        "plain34": (21_623_848, 3_644_493_824),
        # CIFAR
        "resnet20": (269_722, 40_551_040),
        "resnet32": (464_154, 68_862_592),
        "resnet44": (658_586, 97_174_144),
        "resnet56": (853_018, 125_485_696),
        "resnet110": (1_727_962, 252_887_680),
        "resnet1202": (19_421_274, 2_829_238_912),
        "plain20": (269_722, 40_551_040),
        "plain56": (853_018, 125_485_696),
        # shipped
        "resnet20_fashion": (269_434, 30_821_248),
        "plain20_fashion": (269_434, 30_821_248),
        "resnet56_fashion": (852_730, 95_849_344),
        "plain56_fashion": (852_730, 95_849_344),
        # timm
        "resnet10t": (5_435_488, 1_097_259_008),
        "resnet14t": (10_081_632, 1_676_822_528),
        "resnet18d": (11_708_744, 2_053_713_920),
        "resnet34d": (21_816_904, 3_903_401_984),
        "resnet26": (15_995_176, 2_342_256_640),
        "resnet26t": (16_011_872, 2_550_286_336),
        "resnet26d": (16_014_408, 2_581_897_216),
        "resnet50c": (25_576_264, 4_328_824_832),
        "resnet50d": (25_576_264, 4_328_824_832),
        "resnet50s": (25_680_808, 5_444_337_664),
        "resnet50t": (25_573_728, 4_297_213_952),
        "resnet101c": (44_568_392, 8_041_046_016),
        "resnet101d": (44_568_392, 8_041_046_016),
        "resnet101s": (44_672_936, 9_156_558_848),
        "resnet152c": (60_212_040, 11_753_267_200),
        "resnet152d": (60_212_040, 11_753_267_200),
        "resnet152s": (60_316_584, 12_868_780_032),
        "resnet200": (64_673_832, 15_007_481_856),
        "resnet200d": (64_693_064, 15_247_122_432),
        "resnet50_gn": (25_557_032, 4_089_184_256),
        "resnext50d_32x4d": (25_048_136, 4_470_120_448),
        "resnext101_32x4d": (44_177_704, 7_969_996_800),
        "resnext101_32x16d": (194_026_792, 36_163_289_088),
        "resnext101_32x32d": (468_530_472, 87_106_781_184),
        "ecaresnet26t": (16_011_916, 2_550_332_928),
        "ecaresnet50d": (25_576_350, 4_328_912_640),
        "ecaresnet50t": (25_573_814, 4_297_301_760),
        "ecaresnetlight": (30_162_046, 4_089_287_424),
        "ecaresnet101d": (44_568_563, 8_041_220_864),
        "ecaresnet200d": (64_693_400, 15_247_415_040),
        "ecaresnet269d": (102_093_077, 20_269_980_416),
        "ecaresnext26t_32x4d": (15_406_220, 2_678_783_488),
        "ecaresnext50t_32x4d": (25_045_686, 4_438_597_376),
        "seresnet18": (11_779_624, 1_814_161_408),
        "seresnet34": (21_960_416, 3_663_920_128),
        "seresnet50": (28_088_024, 4_091_699_200),
        "seresnet50t": (28_104_720, 4_299_728_896),
        "seresnet101": (49_326_872, 7_806_148_608),
        "seresnet152": (66_821_848, 11_520_204_800),
        "seresnet152d": (66_841_080, 11_759_845_376),
        "seresnet200d": (71_855_096, 15_254_224_896),
        "seresnet269d": (113_672_760, 20_281_032_704),
        "seresnext26d_32x4d": (16_809_512, 2_711_740_416),
        "seresnext26t_32x4d": (16_806_976, 2_680_129_536),
        "seresnext50_32x4d": (27_559_896, 4_232_994_816),
        "seresnext101_32x4d": (48_955_416, 7_974_739_968),
        "seresnext101_32x8d": (93_569_048, 16_418_758_656),
        "seresnext101d_32x8d": (93_588_280, 16_658_399_232),
        "seresnext101_64x4d": (88_232_984, 15_465_013_248),
        "resnetblur18": (11_689_512, 2_334_298_112),
        "resnetblur50": (25_557_032, 5_129_633_792),
        "resnetblur50d": (25_576_264, 5_369_274_368),
        "resnetblur101d": (44_568_392, 9_081_495_552),
        "resnetaa34d": (21_816_904, 4_423_626_752),
        "resnetaa50": (25_557_032, 5_129_633_792),
        "resnetaa50d": (25_576_264, 5_369_274_368),
        "resnetaa101d": (44_568_392, 9_081_495_552),
        "seresnetaa50d": (28_107_256, 5_371_789_312),
        "seresnextaa101d_32x8d": (93_588_280, 17_178_624_000),
        "seresnextaa201d_32x8d": (149_394_904, 34_276_270_080),
        "resnetrs50": (35_691_912, 4_454_490_112),
        "resnetrs101": (63_618_696, 8_175_624_192),
        "resnetrs152": (86_621_576, 11_895_185_408),
        "resnetrs200": (93_209_992, 15_391_137_792),
        "resnetrs270": (129_861_448, 20_643_618_816),
        "resnetrs350": (163_956_168, 26_332_012_544),
        "resnetrs420": (191_891_656, 31_363_342_336),
        "resnetv2_18": (11_687_720, 1_814_073_344),
        "resnetv2_34": (21_795_880, 3_663_761_408),
        "resnetv2_50": (25_549_352, 4_089_184_256),
        "resnetv2_101": (44_541_480, 7_801_405_440),
        "resnetv2_152": (60_185_128, 11_513_626_624),
        "resnetv2_50d": (25_568_584, 4_328_824_832),
        "resnetv2_50t": (25_566_048, 4_297_213_952),
    }
)
"""Parameters, and MACs for one image of the network's usual size, by name. A test traces them all anew: that takes seconds,
which nobody should wait for to see a list.
"""


def _lines() -> dict[str, str]:
    """By name: "ResNet-50 (25.56 M, 4.09 GMACs) torchvision/resnet50".

    A browser ranks what is typed by where it matches, and each character more costs a line as much as one match further
    on. So all lines of a group are equally long, and a group's are longer than those before it: of equal matches the
    first in the table comes first, and "50" is ResNet-50 and not resnetv2_50.
    """
    lines = {}
    for group, named in GROUPS.items():
        for name in named:
            params, macs = map(amount, COSTS[name])
            title = name_title(name)
            lines[name] = f"{title} ({params}, {macs}MACs) {group}" + (f"/{name}" if title != name else "")
    longest = max(map(len, lines.values()))
    ends = {name: longest + 5 * number for number, named in enumerate(GROUPS.values()) for name in named}
    return {name: line.ljust(ends[name]) for name, line in lines.items()}


LINES: Mapping[str, str] = MappingProxyType(_lines())
"""What a list of presets says of each, by name: its parameters, its MACs, and whose name it is."""
