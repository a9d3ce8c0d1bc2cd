"""The drawings show the traced network: every part, every edge, nothing on top of anything else."""

from __future__ import annotations

import math
import re
from itertools import combinations, pairwise, product
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest

from explorer import Trace, trace
from explorer.analysis.parts import drawn_parts, fixed_blocks
from explorer.drawing import compare, dot, network, svg
from explorer.drawing.dot import graph
from explorer.drawing.kernels import growth
from explorer.drawing.network import Fold, Switches, detail, folded, overview, remark, strip
from explorer.drawing.svg import Drawing
from explorer.experiments.kernels import Lab, compare_stacks
from resnet import PRESETS, ResNetConfig, preset

SVG = "{http://www.w3.org/2000/svg}"
ALL = frozenset(f"stage {number}" for number in range(1, 7))
SOME = (
    "resnet18",
    "resnet50",
    "resnet152",
    "resnet20",
    "plain20",
    "resnetrs50",
    "resnetblur50d",
    "resnetaa50",
    "ecaresnet26t",
    "seresnext26d_32x4d",
    "resnet50_gn",
    "resnetv2_50t",
    "resnetv2_18",
)


def small(**given: Any) -> Trace:
    return trace(ResNetConfig(**{"layers": (2, 2), "planes": (8, 16), "num_classes": 7, **given}), 64)


def parse(drawing: Drawing) -> ElementTree.Element:
    root = ElementTree.fromstring(drawing.svg())
    assert root.tag == f"{SVG}svg"
    assert root.get("viewBox") == f"0 0 {drawing.width:.0f} {drawing.height:.0f}"
    return root


def chosen(root: ElementTree.Element) -> list[str | None]:
    return [group.get("data-id") for group in root.iter() if "data-chosen" in group.attrib]


class Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def inside(self) -> Box:
        """Without its rim, where lines end."""
        return Box(self.left + 0.3, self.top + 0.3, self.right - 0.3, self.bottom - 0.3)

    def within(self, drawing: Drawing) -> bool:
        return min(self.left, self.top) >= 0 and self.right <= drawing.width and self.bottom <= drawing.height


def box_of(group: ElementTree.Element) -> Box:
    """What a selectable group covers: its rectangle, or the circle of an addition."""
    shape = group.find(f"{SVG}rect")
    if shape is not None:
        x, y, width, height = (float(shape.attrib[name]) for name in ("x", "y", "width", "height"))
        return Box(x, y, x + width, y + height)
    circle = group.find(f"{SVG}circle")
    assert circle is not None
    x, y, radius = (float(circle.attrib[name]) for name in ("cx", "cy", "r"))
    return Box(x - radius, y - radius, x + radius, y + radius)


def boxes(root: ElementTree.Element) -> dict[str, Box]:
    return {group.attrib["data-id"]: box_of(group) for group in root.iter() if "data-id" in group.attrib}


def points(path: str) -> list[tuple[float, float]]:
    """The corners of a path; a rounded corner counts as its end."""
    x = y = 0.0
    result = []
    for command, numbers in re.findall(r"([MHVhvqC])([^MHVhvqC]*)", path):
        values = [float(number) for number in numbers.split()]
        if command == "M":
            x, y = values
        elif command in "HV":
            x, y = (values[0], y) if command == "H" else (x, values[0])
        elif command in "hv":
            x, y = (x + values[0], y) if command == "h" else (x, y + values[0])
        elif command == "q":
            x, y = x + values[2], y + values[3]
        else:
            x, y = values[4:]
        result.append((x, y))
    return result


# -- parts --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOME)
def test_parts_hold_every_layer_once_and_in_order(name: str) -> None:
    traced = trace(preset(name), 64)
    assert [layer for part in drawn_parts(traced) for layer in part.layers] == list(traced.layers)
    identifiers = [part.identifier for part in drawn_parts(traced)]
    assert len(set(identifiers)) == len(identifiers)
    blocks = [identifier for identifier in identifiers if re.fullmatch(r"layer\d+\.\d+", identifier)]
    assert len(blocks) == sum(preset(name).layers)


@pytest.mark.parametrize(
    "config",
    [
        *(preset(name) for name in SOME),
        ResNetConfig(layers=(1,), order="pre", norm="none"),
        ResNetConfig(layers=(1,), stem="deep", stem_pool="conv", antialias="blur"),
        ResNetConfig(layers=(1,), stem="tiered", stem_pool="conv", order="pre"),
    ],
    ids=lambda config: repr(config)[:70],
)
def test_parts_are_labelled_for_what_they_do(config: ResNetConfig) -> None:
    for part in drawn_parts(trace(config, 64)):
        first = part.layers[0]
        if part.group == "stem":
            assert first.op in ("convolution", "max pooling", "average pooling", "blur"), part.identifier
        if "×" in part.label:
            assert (first.op, part.label) == ("convolution", f"{first.kernel}×{first.kernel}"), part.identifier


def test_what_a_selection_belongs_to() -> None:
    traced = trace(preset("seresnet50"), 64)
    assert traced.part_of("layer2.1.se.fc1") == "layer2.1"
    assert traced.part_of("bn1") == "stem"
    assert traced.part_of("fc") == "head"
    assert traced.part_of("layer3.2") == "layer3.2"
    assert [layer.name for layer in traced.inside("head")] == ["avgpool", "flatten", "fc"]
    assert {layer.name.split(".", 2)[1] for layer in traced.inside("layer3.1")} == {"1"}
    assert traced.inside("layer9.0") == ()
    assert {layer.role.block for layer in small(layers=(1, 11)).inside("layer2.1")} == {1}


# -- overview -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOME)
def test_overview_has_every_part(name: str) -> None:
    traced = trace(preset(name), 64)
    drawing = overview(traced, unfolded=ALL)
    root = parse(drawing)
    assert list(boxes(root)) == [part.identifier for part in drawn_parts(traced)]
    assert chosen(root) == []
    for box in boxes(root).values():
        assert box.within(drawing)
    assert not any(a.overlaps(b) for a, b in combinations(boxes(root).values(), 2))


def arcs(drawing: Drawing) -> tuple[int, int]:
    """How many arcs are solid, and how many dashed."""
    curves = [path for path in parse(drawing).iter(f"{SVG}path") if "C" in path.attrib["d"]]
    dashed = sum("stroke-dasharray" in path.attrib for path in curves)
    return len(curves) - dashed, dashed


@pytest.mark.parametrize("order", ["post", "pre"])
@pytest.mark.parametrize(
    ("block", "shortcut", "projections"),
    [
        ("bottleneck", "none", 0),
        ("bottleneck", "A", 4),
        ("bottleneck", "B", 4),
        ("bottleneck", "C", 16),
        ("bottleneck", "D", 4),
        ("basic", "none", 0),
        ("basic", "A", 3),
        ("basic", "B", 3),
        ("basic", "C", 16),
        ("basic", "D", 3),
    ],
)
def test_arcs_are_shortcuts(block: str, order: str, shortcut: str, projections: int) -> None:
    traced = trace(ResNetConfig(block=block, order=order, shortcut=shortcut), 64)
    drawing = overview(traced, unfolded=ALL)
    identities = 0 if shortcut == "none" else 16 - projections
    assert arcs(drawing) == (identities, projections)
    additions = list(parse(drawing).iter(f"{SVG}circle"))
    assert len(additions) == sum(layer.op == "addition" for layer in traced.layers) == identities + projections


def test_arcs_span_their_block() -> None:
    root = parse(overview(trace(preset("resnet152"), 64)))
    blocks = [box for name, box in boxes(root).items() if "layer" in name or "unfold" in name]
    curves = [points(path.attrib["d"]) for path in root.iter(f"{SVG}path") if "C" in path.attrib["d"]]
    assert len(curves) == len(blocks)
    for (start, end), block in zip(curves, blocks, strict=True):
        assert start[0] < block.left < block.right < end[0]


def shown(root: ElementTree.Element, stage: int) -> list[str]:
    """A stage as the overview writes it: 0, 1, ×33, 35."""
    words = {group.attrib["data-id"]: group.find(f"{SVG}text") for group in root.iter() if "data-id" in group.attrib}
    mine = [
        group for group in root.iter() if re.match(rf"layer{stage}\.|unfold stage {stage}$", group.get("data-id", ""))
    ]
    assert None not in words.values()
    return [group.findtext(f"{SVG}text") or "" for group in mine]


def test_long_stages_fold() -> None:
    traced = trace(preset("resnet152"), 64)
    root = parse(overview(traced))
    assert shown(root, 2) == ["0", "1", "×5", "7"]
    assert shown(root, 3) == ["0", "1", "×33", "35"]
    assert [name for name in boxes(root) if name.startswith("unfold")] == ["unfold stage 2", "unfold stage 3"]
    assert shown(parse(overview(traced, unfolded=frozenset({"stage 3"}))), 3) == [str(block) for block in range(36)]
    assert shown(parse(overview(traced, unfolded=frozenset({"stage 1"}))), 3) == ["0", "1", "×33", "35"]


@pytest.mark.parametrize(
    ("name", "folds"),
    [
        ("resnet50", []),
        ("resnet101", ["stage 3"]),
        ("resnet50d", ["stage 3"]),
        ("resnet20", []),
        ("resnet44", ["stage 1", "stage 2", "stage 3"]),
    ],
)
def test_the_longest_stages_fold_until_a_line_holds_the_rest(name: str, folds: list[str]) -> None:
    drawn = boxes(parse(overview(trace(preset(name), 64))))
    assert len(drawn) <= network.MOST
    assert [box for box in drawn if box.startswith("unfold")] == [f"unfold {stage}" for stage in folds]


@pytest.mark.parametrize("at", ["layer3.20", "layer3.20.conv2"])
def test_the_selected_block_stays_visible(at: str) -> None:
    root = parse(overview(trace(preset("resnet152"), 64), at))
    assert shown(root, 3) == ["0", "1", "×18", "20", "×14", "35"]
    assert chosen(root) == ["layer3.20"]


@pytest.mark.parametrize(
    ("block", "expected"),
    [(2, ["0", "1", "2", "×5", "8"]), (3, ["0", "1", "2", "3", "×4", "8"]), (8, ["0", "1", "×6", "8"])],
)
def test_a_fold_holds_more_than_one_block(block: int, expected: list[str]) -> None:
    traced = small(layers=(1, 9))
    assert shown(parse(overview(traced, f"layer2.{block}")), 2) == expected
    for item in folded(drawn_parts(traced), f"layer2.{block}", frozenset()):
        assert not isinstance(item, Fold) or len(item.blocks) > 1


@pytest.mark.parametrize("at", ["conv1", "bn1", "maxpool", "layer1.0", "layer2.1.conv2", "avgpool", "fc"])
def test_one_part_is_selected(at: str) -> None:
    traced = trace(preset("resnet18"), 64)
    selected = chosen(parse(overview(traced, at)))
    assert len(selected) == 1
    (part,) = (part for part in drawn_parts(traced) if part.identifier == selected[0])
    assert at == part.identifier or at in {layer.name for layer in part.layers}


@pytest.mark.parametrize("at", ["", "layer9.0", "nothing"])
def test_what_is_not_there_is_not_selected(at: str) -> None:
    assert chosen(parse(overview(trace(preset("resnet18"), 64), at))) == []


@pytest.mark.parametrize("name", ["resnet50", "resnet20", "resnetrs50", "plain20"])
@pytest.mark.parametrize("size", [224, (40, 250)])
def test_height_follows_the_feature_map(name: str, size: int | tuple[int, int]) -> None:
    traced = trace(preset(name), size)
    drawn = boxes(parse(overview(traced, unfolded=ALL)))
    area = {part.identifier: math.prod(part.shape[1:]) for part in drawn_parts(traced)}
    height = {name: box.bottom - box.top for name, box in drawn.items()}
    ordered = sorted(area, key=lambda identifier: area[identifier])
    for smaller, larger in pairwise(ordered):
        assert height[smaller] <= height[larger]
        if area[smaller] < area[larger]:
            assert height[smaller] < height[larger] or height[larger] == network.SHORTEST
    assert height[ordered[-1]] == pytest.approx(network.TALLEST, abs=0.1)
    for identifier, tall in height.items():
        root = network.TALLEST * (area[identifier] / area[ordered[-1]]) ** 0.25
        assert tall == pytest.approx(max(root, network.SHORTEST), abs=0.1)


def test_bands_name_stages_and_shapes() -> None:
    words = [element.text for element in parse(overview(trace(preset("resnet50"), 224))).iter(f"{SVG}text")]
    joined = " ".join(word or "" for word in words)
    for expected in ("stem", "stage 1", "stage 4", "head", "224²×3", "56²×256", "28²×512", "14²×1024", "7²×2048"):
        assert expected in joined


def test_thumbnails_stand_in_their_boxes() -> None:
    address = "data:image/png;base64,AA=="
    traced = trace(preset("resnet18"), 64)
    drawing = strip(traced, thumbnails={"layer1.0": address, "layer4.1": address, "elsewhere": address})
    root = parse(drawing)
    for group in root.iter():
        image = group.find(f"{SVG}image")
        assert (image is not None) == (group.get("data-id") in ("layer1.0", "layer4.1"))
        if image is not None:
            x, y, width, height = (float(image.attrib[name]) for name in ("x", "y", "width", "height"))
            frame = box_of(group)
            assert image.attrib["href"] == address
            assert frame.left <= x < x + width <= frame.right
            assert frame.top <= y < y + height <= frame.bottom


def switches(drawing: Drawing) -> dict[str, str]:
    """How each switch stands, by its block: on, off, or fixed where it cannot be moved."""
    return {
        group.attrib["data-id"].removeprefix("switch "): group.attrib["data-switch"]
        for group in parse(drawing).iter()
        if "data-switch" in group.attrib
    }


@pytest.mark.parametrize("name", ["resnet18", "plain20"])
def test_each_block_has_a_switch_where_they_are_asked_for(name: str) -> None:
    traced = trace(preset(name), 64)
    assert switches(overview(traced, unfolded=ALL)) == {}
    reasons = fixed_blocks(preset(name))
    drawing = overview(traced, switches=Switches(["layer1.1"], reasons), unfolded=ALL)
    found = switches(drawing)
    assert found == {
        block: "fixed" if block in reasons else "off" if block == "layer1.1" else "on" for block in preset(name).blocks
    }
    root = parse(drawing)
    placed = boxes(root)
    assert all(box.within(drawing) for box in placed.values())
    for one, other in combinations(placed, 2):
        assert not placed[one].overlaps(placed[other]), (one, other)
    for block in found:
        middle = [(box.left + box.right) / 2 for box in (placed[block], placed[f"switch {block}"])]
        assert middle[0] == pytest.approx(middle[1])
        assert placed[f"switch {block}"].top > placed[block].bottom
    titles = " ".join(element.text or "" for element in root.iter(f"{SVG}title"))
    assert all(reason in titles for reason in reasons.values())


@pytest.mark.parametrize("drawn", ["overview", "strip"])
def test_a_block_that_is_off_is_dashed(drawn: str) -> None:
    traced = trace(preset("resnet18"), 64)
    off = (
        overview(traced, switches=Switches(["layer1.1"], {}))
        if drawn == "overview"
        else strip(traced, off=["layer1.1"])
    )
    dashed = {}
    for group in parse(off).iter():
        if group.get("data-id") in ("layer1.0", "layer1.1"):
            dashed[group.get("data-id")] = any("stroke-dasharray" in frame.attrib for frame in group.iter(f"{SVG}rect"))
    assert dashed == {"layer1.0": False, "layer1.1": True}


@pytest.mark.parametrize("name", PRESETS)
def test_a_strip_has_what_the_overview_has(name: str) -> None:
    """The same parts and folds in the same order, the same one chosen, each a square; and no text below 10 pixels in a card of 900."""
    traced = trace(preset(name), 224)
    one, other = (strip(traced, "layer2.0"), overview(traced, "layer2.0"))
    identifiers = [
        [group.get("data-id") for group in parse(each).iter() if group.get("data-id")] for each in (one, other)
    ]
    assert identifiers[0] == identifiers[1]
    assert [
        [group.get("data-id") for group in parse(each).iter() if "data-chosen" in group.attrib] for each in (one, other)
    ] == [["layer2.0"]] * 2
    for group in parse(one).iter():
        if (group.get("data-id") or "unfold").startswith("layer"):
            frame = box_of(group)
            assert frame.right - frame.left == pytest.approx(frame.bottom - frame.top)
    assert one.width * svg.LEGIBLE <= 900


def test_a_block_that_is_off_stays_out_of_a_fold() -> None:
    drawing = overview(trace(preset("resnet152"), 64), switches=Switches(["layer3.17"], {}))
    drawn = [name for name in boxes(parse(drawing)) if name.startswith("layer3.")]
    assert drawn == ["layer3.0", "layer3.1", "layer3.17", "layer3.35"]
    assert switches(drawing)["layer3.17"] == "off"
    assert "layer3.16" not in switches(drawing)


HOSTILE = "\"'><script>alert(1)</script>&<!--"


def test_foreign_text_stays_text() -> None:
    traced = trace(preset("resnet18"), 64)
    assert overview(traced, HOSTILE) == overview(traced)
    assert detail(traced, "layer1.0", HOSTILE) == detail(traced, "layer1.0")
    assert strip(traced, HOSTILE) == strip(traced)
    root = parse(strip(traced, thumbnails={"layer1.0": HOSTILE}))
    assert [image.get("href") for image in root.iter(f"{SVG}image")] == [HOSTILE]
    assert not list(root.iter(f"{SVG}script"))
    group = ElementTree.fromstring(svg.selectable(HOSTILE, HOSTILE, svg.text(0, 0, HOSTILE), False))
    assert group.get("data-id") == HOSTILE
    assert [child.text for child in group] == [HOSTILE, HOSTILE]


# -- detail -------------------------------------------------------------------------------


def assert_detail_is_the_graph(traced: Trace, part: str) -> None:
    """In both layouts every layer has a box of its own, and every edge that leads out of a step a line past all others."""
    assert_drawn_as_wired(traced, part, shared=False)
    assert_drawn_as_wired(traced, part, shared=True)


def assert_drawn_as_wired(traced: Trace, part: str, shared: bool) -> None:
    layers = traced.inside(part)
    drawing = detail(traced, part, shared=shared)
    root = parse(drawing)
    placed = boxes(root)
    assert list(placed) == [layer.name for layer in layers]
    assert all(box.within(drawing) for box in placed.values())
    assert not any(a.overlaps(b) for a, b in combinations(placed.values(), 2))

    cells = network.steps(traced, layers, shared)
    assert shared or all(len(step) == 1 for step in cells)
    steps = {layer.name: outline([placed[one.name] for one in step]) for step in cells for layer in step}
    together = {frozenset((a.index, b.index)) for step in cells for a, b in combinations(step, 2)}
    lines = [points(element.attrib["d"]) for element in root if element.tag == f"{SVG}path"]
    entry, tail = lines[-2], lines[-1]
    wires = lines[:-2]
    edges = [
        (producer, layer)
        for layer in layers
        for producer in layer.inputs
        if frozenset((producer, layer.index)) not in together
    ]
    assert len(wires) == len(edges)
    for (producer, layer), wire in zip(edges, wires, strict=True):
        source, target = traced.layers[producer].name if producer >= 0 else "image", steps[layer.name]
        (x, y), (end_x, end_y) = wire[0], wire[-1]
        if source in placed:
            box = steps[source]
            assert x == pytest.approx(box.right, abs=0.2)
            assert box.top < y < box.bottom
            assert shared or y == pytest.approx((box.top + box.bottom) / 2, abs=0.2)
        else:
            assert x <= entry[-1][0]
            assert y == entry[-1][1]
        on_left = end_x == pytest.approx(target.left, abs=0.2) and target.top < end_y < target.bottom
        on_rim = min(abs(end_y - target.top), abs(end_y - target.bottom)) < 0.2 and target.left < end_x < target.right
        assert on_left or on_rim, (source, layer.name)
        for (x0, y0), (x1, y1) in pairwise(wire):
            step = Box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
            assert step.within(drawing), (source, layer.name)
            crossed = [name for name, box in placed.items() if step.overlaps(box.inside())]
            assert not crossed, (source, layer.name)
    last = steps[layers[-1].name]
    assert tail[0][0] == pytest.approx(last.right, abs=0.2)
    assert last.top < tail[0][1] < last.bottom
    assert tail[-1][0] <= drawing.width


def outline(members: list[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*members, strict=True)
    return Box(min(lefts), min(tops), max(rights), max(bottoms))


@pytest.mark.parametrize(
    ("name", "part", "expected"),
    [
        ("resnet50", "layer2.0", "conv1+bn1+act1 conv2+bn2+act2 conv3+bn3 downsample.0+downsample.1 add act"),
        ("resnetv2_18", "layer2.0", "bn1+act1 conv1 bn2+act2+conv2 downsample.0 add"),
        ("resnetv2_18", "layer2.1", "bn1+act1+conv1 bn2+act2+conv2 add"),
    ],
)
def test_a_step_shares_one_box(name: str, part: str, expected: str) -> None:
    """A convolution with its norm and activation, but for what another layer reads, too."""
    traced = trace(preset(name), 64)
    found = network.steps(traced, traced.inside(part), True)
    names = ["+".join(layer.role.slot for layer in step) for step in found]
    assert sorted(names) == sorted(expected.split())
    wide, narrow = (detail(traced, part, shared=shared).width for shared in (False, True))
    assert narrow < wide


@pytest.mark.parametrize(
    ("name", "part", "expected"),
    [
        ("resnet50", "layer2.0", ["28²×512"]),
        ("resnet50", "layer2.1", ["28²×512"]),
        ("resnet50d", "layer2.0", ["28²×256", "28²×512"]),
    ],
)
@pytest.mark.parametrize("shared", [False, True])
def test_shapes_stand_on_the_path_of_the_shortcut(name: str, part: str, expected: list[str], shared: bool) -> None:
    root = parse(detail(trace(preset(name), 224), part, shared=shared))
    below = max(box.bottom for box in boxes(root).values() if box.top < 70)
    found = [element for element in root if element.tag == f"{SVG}text" and float(element.attrib["y"]) > below]
    assert [element.text for element in found] == expected


def test_a_box_says_what_it_does() -> None:
    traced = trace(preset("resnet18"), 224)

    def said(drawing: Drawing, name: str) -> list[str]:
        (group,) = (element for element in parse(drawing).iter() if element.get("data-id") == name)
        return (group.findtext(f"{SVG}title") or "").split("\n")

    assert said(detail(traced, "layer2.0"), "layer2.0.conv1") == [
        "layer2.0.conv1: 3×3 convolution, stride 2",
        "64×56×56 → 128×28×28",
        "73,728 parameters",
        "57,802,752 MACs",
        "receptive field: 51 px",
    ]
    layers = traced.inside("layer4.1")
    assert said(overview(traced), "layer4.1") == [
        "block 1 of stage 4",
        "512×7×7 → 512×7×7",
        f"{sum(layer.params for layer in layers):,} parameters",
        f"{sum(layer.macs for layer in layers):,} MACs",
        "receptive field: 435 px",
    ]
    assert said(overview(traced), "fc")[-1] == "receptive field: the whole image"


COLOUR = re.compile(r"none|#[0-9a-f]{3}|#[0-9a-f]{6}")


def test_a_drawing_is_a_plain_file() -> None:
    """What strict readers of SVG refuse, or leave out, is not in it: every colour is a colour, and a font that all have ends the list."""
    traced = trace(preset("resnet50d"), 224)
    traces, kernels = [traced, trace(preset("resnet18"), 224)], compare_stacks(Lab())
    drawings = [
        overview(traced, "layer2.0", switches=Switches(["layer1.1"], {})),
        strip(traced, "layer2.0", thumbnails={"layer1.0": "data:image/png;base64,AA=="}, off=["layer1.1"]),
        detail(traced, "layer2.0", "layer2.0.add"),
        detail(traced, "layer2.0", shared=True),
        compare.overview(traces, ["a", "b"]),
        compare.detail(traces, ["a", "b"], "layer2.0"),
        growth(kernels.stack, kernels.single),
    ]
    for drawing in drawings:
        root = parse(drawing)
        assert not re.search(r"var\(|aria-|role=|style=|class=|currentColor", drawing.svg())
        assert (root.get("width"), root.get("height")) == (f"{drawing.width:.0f}", f"{drawing.height:.0f}")
        assert root.attrib["font-family"].endswith(", sans-serif")
        assert root.findtext(f"{SVG}title") == drawing.title
        for element in root.iter():
            kind = element.tag.removeprefix(SVG)
            if kind in ("rect", "circle", "path", "text"):
                assert COLOUR.fullmatch(element.attrib["fill"]), element.attrib
                assert COLOUR.fullmatch(element.get("stroke", "none")), element.attrib
            if kind == "text":
                assert float(element.get("font-size", "12")) >= svg.SMALLEST
            assert kind in ("svg", "g", "title", "rect", "circle", "path", "text", "image")


@pytest.mark.parametrize("name", ["seresnet50", "ecaresnet50d", "resnetrs50"])
def test_attention_is_above_the_branch_and_the_shortcut_below(name: str) -> None:
    placed = boxes(parse(detail(trace(preset(name), 64), "layer2.0")))
    above = [box for name, box in placed.items() if ".se." in name and not name.endswith(".scale")]
    below = [box for name, box in placed.items() if ".downsample." in name]
    branch = [box for box in placed.values() if box not in above + below]
    assert max(box.bottom for box in above) < min(box.top for box in branch)
    assert max(box.bottom for box in branch) < min(box.top for box in below)


@pytest.mark.parametrize(
    "name", ["seresnet18", "seresnet50", "seresnext50_32x4d", "ecaresnet50d", "ecaresnext50t_32x4d"]
)
def test_attention_stands_over_the_branch_on_a_phone(name: str) -> None:
    """A card's 330 pixels hold the block with legible text; the scaled branch comes down to the addition, not dashed."""
    traced = trace(preset(name), 224)
    for stage in (1, 2, 3, 4):
        drawing = detail(traced, f"layer{stage}.0", shared=True)
        assert drawing.width * svg.LEGIBLE <= 330
        placed = boxes(parse(drawing))
        scale, addition = (placed[f"layer{stage}.0.{slot}"] for slot in ("se.scale", "add"))
        assert scale.bottom < min(box.top for slot, box in placed.items() if ".conv" in slot and ".se." not in slot)
        (down,) = (
            path
            for path in parse(drawing).iter(f"{SVG}path")
            if points(path.attrib["d"])[0][0] == pytest.approx(scale.right, abs=0.2)
        )
        assert points(down.attrib["d"])[-1][1] == pytest.approx(addition.top, abs=0.2)
        assert "stroke-dasharray" not in down.attrib


@pytest.mark.parametrize("order", ["post", "pre"])
@pytest.mark.parametrize("attention", ["none", "se", "eca"])
@pytest.mark.parametrize("shortcut", ["none", "A", "B", "C", "D"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_every_kind_of_block_is_drawn_as_wired(block: str, shortcut: str, attention: str, order: str) -> None:
    given: dict[str, Any] = {"block": block, "shortcut": shortcut, "attention": attention, "order": order}
    dropped = {"drop_path": 0.5} if shortcut != "none" else {}
    for more in ({}, {"antialias": "blur", **dropped}, {"norm": "none", "antialias": "avg"}):
        traced = small(**given, **more)
        for part in ("layer1.0", "layer1.1", "layer2.0", "layer2.1", "stem", "head"):
            assert_detail_is_the_graph(traced, part)


@pytest.mark.parametrize(
    ("stem", "pool", "antialias"),
    list(product(["7x7", "deep", "tiered", "3x3"], ["max", "conv", "none"], ["none", "blur"])),
)
def test_every_stem_is_drawn_as_wired(stem: str, pool: str, antialias: str) -> None:
    assert_detail_is_the_graph(small(stem=stem, stem_pool=pool, antialias=antialias), "stem")
    if pool == "max" and antialias == "none":
        assert_detail_is_the_graph(small(stem=stem, zero_pool=True), "stem")


@pytest.mark.parametrize("name", SOME)
def test_blocks_of_presets_are_drawn_as_wired(name: str) -> None:
    traced = trace(preset(name), 64)
    for part in ("stem", "layer1.0", "layer2.1", "layer3.0", "head"):
        assert_detail_is_the_graph(traced, part)


def test_projections_are_dashed_in_the_detail() -> None:
    def dashes(part: str) -> int:
        paths = parse(detail(trace(preset("resnet50"), 64), part)).iter(f"{SVG}path")
        return sum("stroke-dasharray" in path.attrib for path in paths)

    assert dashes("layer2.0") == 2  # into the projection and on to the addition
    assert dashes("layer2.1") == 0


@pytest.mark.parametrize("at", ["layer2.0.conv2", "layer2.0.add", "layer2.0.downsample.0"])
def test_one_layer_is_selected(at: str) -> None:
    traced = trace(preset("resnet50"), 64)
    assert chosen(parse(detail(traced, "layer2.0", at))) == [at]
    assert chosen(parse(detail(traced, "layer2.1", at))) == []


def words_of(traced: Trace, name: str) -> list[str]:
    """The lines written in a layer's box."""
    root = parse(detail(traced, traced.part_of(name)))
    (group,) = (element for element in root if element.get("data-id") == name)
    return [element.text or "" for element in group if element.tag == f"{SVG}text"]


def test_captions() -> None:
    traced = trace(preset("seresnext26d_32x4d"), 64)
    assert words_of(traced, "layer2.0.conv2") == ["conv2", "3×3, 256, s2, g32"]
    assert words_of(traced, "layer2.0.bn3") == ["bn3"]
    assert words_of(traced, "layer2.0.se.fc1") == ["fc1", "1×1, 32"]
    assert words_of(traced, "layer2.0.downsample.1") == ["projection", "1×1, 512"]
    assert words_of(traced, "fc") == ["fc", "2048 → 1000"]
    assert words_of(small(norm="group"), "layer1.0.bn1") == ["gn1"]
    assert words_of(small(shortcut="A"), "layer2.0.downsample") == ["zero pad"]


@pytest.mark.parametrize(
    ("shape", "words"),
    [((128, 56, 56), "56²×128"), ((64, 7, 9), "7×9×64"), ((2048, 1, 1), "1×1×2048"), ((1000,), "1000")],
)
def test_short_shapes(shape: tuple[int, ...], words: str) -> None:
    assert svg.short_shape(shape) == words


@pytest.mark.parametrize(
    ("given", "part", "branch", "shortcut"),
    [
        ({}, "layer1.1", "3×3", "the identity: no parameters, sees 1×1"),
        ({}, "layer2.0", "3×3", "option B: 144 parameters, sees 1×1"),
        ({"shortcut": "A"}, "layer2.0", "3×3", "option A: no parameters, sees 1×1"),
        ({"shortcut": "D"}, "layer2.0", "3×3", "option D: 144 parameters, sees 2×2"),
        ({"shortcut": "C"}, "layer1.1", "3×3", "option C: 72 parameters, sees 1×1"),
        ({"block": "basic", "planes": (8, 16)}, "layer1.0", "5×5", "the identity: no parameters, sees 1×1"),
        ({"block": "basic", "planes": (8, 16)}, "layer2.0", "7×7", "option B: 144 parameters, sees 1×1"),
        ({"order": "pre"}, "layer2.0", "3×3", "option B: 144 parameters, sees 1×1"),
    ],
)
def test_remarks(given: dict[str, Any], part: str, branch: str, shortcut: str) -> None:
    traced = small(**{"planes": (2, 4), "norm": "none", **given})
    assert remark(traced, part) == f"F(x) sees {branch} of its input. S(x) is {shortcut}."


@pytest.mark.parametrize(
    ("options", "part", "units"),
    [
        ({"norm": "group"}, "layer2.0", "Units of F(x) and S(x) also depend on the whole map through group norm."),
        ({"norm": "group"}, "layer2.1", "Units of F(x) also depend on the whole map through group norm."),
        ({"attention": "se"}, "layer2.0", "Units of F(x) also depend on the whole map through channel attention."),
        ({}, "layer2.0", ""),
    ],
)
def test_a_block_says_what_windows_leave_out(options: dict[str, Any], part: str, units: str) -> None:
    words = remark(small(layers=(1, 2), planes=(8, 16), **options), part)
    assert words.partition("Units")[2] == units.removeprefix("Units")


def test_without_an_addition_there_is_nothing_to_remark() -> None:
    assert remark(small(shortcut="none"), "layer1.1") == ""
    assert remark(small(), "stem") == ""


# -- graphviz -----------------------------------------------------------------------------


def edges_of(source: str) -> list[tuple[str, str]]:
    return re.findall(r'^\t*"?([\w. ]+?)"? -> "?([\w. ]+?)"?$', source, re.MULTILINE)


def nodes_of(source: str) -> list[str]:
    return [name for name in re.findall(r'^\t*"?([\w. ]+?)"? \[label=', source, re.MULTILINE) if name != "graph"]


@pytest.mark.parametrize("name", SOME)
def test_the_graph_is_the_trace(name: str) -> None:
    traced = trace(preset(name), 64)
    source = graph(traced).source
    expected = [
        ("input" if read == "image" else read, layer.name) for layer in traced.layers for read in traced.sources(layer)
    ]
    assert sorted(edges_of(source)) == sorted(expected)
    assert sorted(nodes_of(source)) == sorted(["input", *traced.by_name])
    assert source.count("->") == len(expected)


def test_stages_are_clusters() -> None:
    source = graph(trace(preset("resnet18"), 64)).source
    clusters = re.findall(r'subgraph "?cluster_([\w ]+?)"? {(.*?)\n\t}', source, re.DOTALL)
    assert [name for name, _ in clusters] == ["stem", "stage 1", "stage 2", "stage 3", "stage 4", "head"]
    inside = dict(clusters)
    assert {name.split(".")[0] for name in nodes_of(inside["stage 2"])} == {"layer2"}
    assert nodes_of(inside["head"]) == ["avgpool", "flatten", "fc"]


def test_a_long_network_is_drawn_by_blocks() -> None:
    traced = trace(preset("resnet1202"), 32)
    assert len(traced.layers) > dot.DRAWABLE
    source = graph(traced).source
    names = ["input", *(part.identifier for part in drawn_parts(traced))]
    assert sorted(nodes_of(source)) == sorted(names)
    assert sorted(edges_of(source)) == sorted(pairwise(names))


def test_up_to_the_limit_every_layer_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = trace(preset("resnet18"), 64)
    monkeypatch.setattr(dot, "DRAWABLE", len(traced.layers))
    assert len(nodes_of(graph(traced).source)) == len(traced.layers) + 1
    monkeypatch.setattr(dot, "DRAWABLE", len(traced.layers) - 1)
    assert len(nodes_of(graph(traced).source)) == len(drawn_parts(traced)) + 1


@pytest.mark.parametrize("name", [name for name in PRESETS if sum(PRESETS[name].layers) < 20])
def test_drawings_are_well_formed(name: str) -> None:
    traced = trace(PRESETS[name], 64)
    last = f"layer{len(PRESETS[name].layers)}.0"
    for drawing in (
        overview(traced),
        overview(traced, last),
        *(detail(traced, part) for part in ("stem", last, "head")),
    ):
        parse(drawing)
