"""Values in a notebook and at the prompt: a line, HTML whose text is escaped, and pictures."""

from __future__ import annotations

import io
import math
import pickle
import sys
from dataclasses import FrozenInstanceError
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

import resnet
from explorer import (
    Candidate,
    Comparison,
    Drawing,
    Explanation,
    Limits,
    Space,
    Trace,
    compare,
    diagram,
    explain,
    notebook,
    search,
    trace,
)
from explorer.drawing import network
from explorer.drawing.widget import Diagram
from resnet import ConfigError, Opened, build, open_checkpoint, preset

SHIPPED = Path(resnet.__file__).parent / "checkpoints" / "resnet20.safetensors"
EVIL = "<img src=x onerror=alert(1)>\n\x1b[31m&"


def nodes(html: str) -> ElementTree.Element:
    """HTML as a tree, of elements that all end."""
    return ElementTree.fromstring(f"<div>{html}</div>")


def rows(html: str, number: int) -> list[list[str]]:
    """The cells of one of its tables, without the head."""
    table = list(nodes(html).iter("table"))[number]
    return [[cell.text or "" for cell in row.iter("td")] for row in table.iter("tr") if row.find("td") is not None]


def paragraphs(html: str) -> list[str]:
    return ["".join(one.itertext()) for one in nodes(html).iter("p")]


def evil_file() -> Opened:
    """A backbone without classifier, beside tensors whose name is code."""
    state = {name: tensor for name, tensor in build(preset("resnet18")).state_dict().items() if name[:3] != "fc."}
    file = io.BytesIO()
    torch.save(state | {f"{EVIL}.weight": torch.zeros(3)}, file)
    return open_checkpoint(file.getvalue(), "evil.pth")


@cache
def explanation() -> Explanation:
    torch.manual_seed(1)
    model = build(preset("resnet18")).eval()
    return explain(model, torch.randn(1, 3, 64, 64), "layer1.0.conv1", 3, 4, 5)


@cache
def values() -> dict[type, Any]:
    return {
        Trace: trace("resnet50"),
        Comparison: compare(preset("resnet34"), preset("resnet50d")),
        Opened: evil_file(),
        Explanation: explanation(),
        Candidate: next(search(Space.from_text("resnet18 attention=none,se"), Limits())),
        Drawing: network.overview(trace("resnet50")),
        Diagram: diagram("resnet50"),
    }


SHOWN = {
    Trace: "Trace(ResNet-50 at 224×224, depth 50: 175 layers, 25.56 M parameters, 4.09 GMACs, field 427 px)",
    Comparison: "Comparison(resnet50d against ResNet-34 at 224×224: +3.78 M parameters, +665.06 MMACs, +105.7 MiB of outputs, "
    "field -468 px)",
    Opened: "Opened(ResNet-18: 120 tensors, 11,186,132 numbers, 42.7 MiB, asks stem_pool, activation, antialias, "
    "output_stride, last_stride)",
    Explanation: "Explanation(layer1.0.conv1, channel 3, row 4, column 5: convolution = {value:.6g}, of 576 terms)",
    Candidate: "Candidate(0: ResNet-18 at 224×224, 11.69 M parameters, 1.81 GMACs, 6.7 MiB at once)",
    Drawing: "Drawing(The network from input to output: 942×160 units)",
    Diagram: "Diagram(ResNet-50 at 224×224)",
}

VALUES = [kind for kind in SHOWN if kind not in (Drawing, Diagram)]
"""Those that are HTML in a notebook."""


@pytest.mark.parametrize("kind", SHOWN)
def test_the_prompt_shows_one_line(kind: type) -> None:
    value = values()[kind]
    assert repr(value) == SHOWN[kind].format(value=getattr(value, "value", None))
    assert isinstance(value, kind)


@pytest.mark.parametrize("kind", VALUES)
def test_a_notebook_shows_short_html_without_code(kind: type) -> None:
    html = values()[kind]._repr_html_()
    assert len(html) < 8_000
    named = {node.tag for node in nodes(html).iter()}
    assert named <= {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td"}


# -- each value ---------------------------------------------------------------------------


def test_a_trace_shows_its_totals_and_its_first_and_last_layers() -> None:
    traced = trace("resnet50")
    html = traced._repr_html_()
    model = build(traced.config, "meta")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert rows(html, 0)[0] == ["parameters", f"{parameters:,}"]
    modules = [name for name, module in model.named_modules() if not list(module.children())]
    leaves = [name for name in modules if not isinstance(model.get_submodule(name), torch.nn.Identity)]
    table = rows(html, 1)
    assert [row[0] for row in table[:4]] == leaves[:4]
    assert [row[0] for row in table[-3:]] == leaves[-3:]
    assert [set(row) for row in table].count({"..."}) == 1
    assert len(table) == notebook.ROWS + 1
    assert table[-1][4] == "2,049,000"
    assert paragraphs(html)[-1].startswith(f"{len(leaves)} rows")


def test_a_trace_says_what_its_figures_leave_out() -> None:
    traced = trace("seresnet18", 16)
    assert paragraphs(traced._repr_html_())[1:-1] == [traced.beyond_windows(), traced.too_small]


def test_a_comparison_shows_totals_bill_and_layers() -> None:
    compared = compare(preset("resnet34"), preset("resnet50d"))
    html = compared._repr_html_()
    a, b = (sum(p.numel() for p in build(preset(name), "meta").parameters()) for name in ("resnet34", "resnet50d"))
    assert rows(html, 0)[0] == ["parameters", f"{a:,}", f"{b:,}", f"+{b - a:,}", f"×{b / a:.3g}"]
    *charges, total = rows(html, 1)
    assert [words for words, *_ in charges] == [charge.words for charge in compared.bill]
    for column in range(1, 5):
        numbers = [int(row[column].replace(",", "").replace("±", "")) for row in (*charges, total)]
        assert sum(numbers[:-1]) == numbers[-1]
    assert len(rows(html, 2)) == notebook.ROWS + 1
    assert f"{compared.differing}" in paragraphs(html)


def test_a_network_against_itself_shows_no_layers() -> None:
    html = compare(preset("resnet18"), preset("resnet18"))._repr_html_()
    assert len(list(nodes(html).iter("table"))) == 2
    assert rows(html, 1) == [["total", "±0", "±0", "±0", "±0"]]


def test_a_file_says_what_it_is() -> None:
    state = open_checkpoint(SHIPPED).state_dict
    numbers = sum(tensor.numel() for tensor in state.values())
    said = paragraphs(open_checkpoint(SHIPPED)._repr_html_())
    assert said[0].startswith(f"ResNet-20 for Fashion-MNIST: {len(state)} tensors, {numbers:,} numbers")
    assert said[1:] == ["The file names its configuration."]


def test_what_a_file_names_is_shown_as_text() -> None:
    """As HTML, and at the prompt, where a control character would be obeyed."""
    opened = values()[Opened]
    said = paragraphs(opened._repr_html_())
    assert said == [*opened.words]
    assert said[2] == r"Left out: <img src=x onerror=alert(1)>\n\x1b[31m&."
    assert "<img" not in opened._repr_html_()
    assert any(words.startswith("stem_pool = max is assumed, of max, none. ") for words in said)
    text = EVIL.replace("\x1b", "")
    code = notebook.heading(text) + notebook.table((text,), [(text,)]) + notebook.paragraphs([text])
    assert "<img" not in code
    assert "".join(nodes(code).itertext()).count("<img src=x onerror=alert(1)>") == 4


def test_the_terms_of_an_explanation_sum_to_its_value() -> None:
    found = explanation()
    *terms, rest, total = rows(found._repr_html_(), 0)
    assert len(terms) == notebook.ROWS
    assert rest[0] == f"{len(found.terms) - notebook.ROWS} more"
    assert math.fsum(float(row[-1]) for row in (*terms, rest)) == pytest.approx(found.value, abs=1e-3)
    assert float(total[-1]) == pytest.approx(found.value, rel=1e-3)
    assert abs(float(terms[0][-1])) == pytest.approx(max(abs(term.value) for term in found.terms), rel=1e-3)
    assert float(terms[0][2]) * float(terms[0][3]) == pytest.approx(float(terms[0][4]), rel=1e-2)
    assert paragraphs(found._repr_html_())[1] == f"{found.steps[0].words}."


def test_a_candidate_shows_what_its_trace_does() -> None:
    shown = dict(rows(values()[Candidate]._repr_html_(), 0))
    traced = trace("resnet18")
    assert shown["Parameters"] == f"{traced.params:,}"
    assert shown["Peak memory"] == f"{traced.inference_memory.bytes:,} bytes"
    assert shown["Receptive field"] == f"{traced.field.size:,} px"


# -- drawings -----------------------------------------------------------------------------


def test_a_drawing_is_its_svg_on_a_light_page() -> None:
    drawn = network.overview(trace("resnet50"))
    shown, plain = ElementTree.fromstring(drawn._repr_svg_()), ElementTree.fromstring(drawn.svg())
    assert shown.attrib.pop("style") == "background:#ffffff"
    assert ElementTree.tostring(shown) == ElementTree.tostring(plain)


# -- the diagram --------------------------------------------------------------------------


def shown(widget: Any, name: str = "network") -> str:
    return widget.get_state()[name]["layouts"][0]


def test_a_diagram_is_of_a_name_a_configuration_or_a_trace() -> None:
    traced = trace("resnet50")
    for given in ("resnet50", preset("resnet50"), traced):
        assert shown(diagram(given)) == network.overview(traced).svg() == diagram(given).svg()
    assert diagram("resnet50", "layer2.0").svg() == network.detail(traced, "layer2.0", "layer2.0").svg()
    assert diagram(trace("resnet50", 320)).svg() != diagram("resnet50").svg()


def test_a_diagram_follows_what_is_selected() -> None:
    """And tells who observes it."""
    widget, traced, heard = diagram("resnet101"), trace("resnet101"), []
    assert isinstance(widget, Diagram)
    assert widget.get_state()["part"]["layouts"] == []
    widget.observe(lambda change: heard.append(change["new"]), "selected")
    widget.selected = "layer2.0.conv2"
    widget.unfolded = ["stage 3"]
    assert heard == ["layer2.0.conv2"]
    assert shown(widget) == network.overview(traced, "layer2.0.conv2", frozenset({"stage 3"})).svg()
    assert shown(widget, "part") == network.detail(traced, "layer2.0", "layer2.0.conv2").svg()
    layer = traced.by_name["layer2.0.conv2"]
    assert f" · {layer.params:,} parameters · {layer.macs:,} MACs · " in widget.words
    assert repr(widget) == "Diagram(ResNet-101 at 224×224: layer2.0.conv2 selected)"
    with pytest.raises(
        ConfigError, match=r"part = layer9 is not accepted: stem, a block from layer1\.0 to layer4\.2, "
    ):
        widget.selected = "layer9"
    assert widget.selected == "layer2.0.conv2"


def test_a_page_without_widgets_shows_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    widget, drawn = diagram("resnet18", "stem"), network.detail(trace("resnet18"), "stem", "stem")
    assert isinstance(widget, Diagram)
    bundle, _ = widget._repr_mimebundle_()
    assert bundle["image/svg+xml"] == drawn._repr_svg_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    monkeypatch.delitem(sys.modules, "explorer.drawing.widget")
    monkeypatch.setitem(sys.modules, "anywidget", None)
    assert diagram("resnet18", "stem") == drawn


@pytest.mark.parametrize(
    ("given", "part", "named"),
    [
        ("resnet50", "layer9.0", r"part = layer9\.0 .*: stem, a block from layer1\.0 to layer4\.2, head"),
        ("resnet5", "", "preset = resnet5 "),
    ],
)
def test_a_diagram_names_what_is_wrong(given: str, part: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        diagram(given, part)


# -- values stay values -------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Trace, Comparison, Candidate, Drawing])
def test_values_are_equal_by_what_they_hold(kind: type) -> None:
    value = values()[kind]
    again = pickle.loads(pickle.dumps(value))
    assert again == value
    assert hash(again) == hash(value)
    assert again is not value
    assert repr(again) == repr(value)


@pytest.mark.parametrize("kind", VALUES)
def test_values_are_frozen(kind: type) -> None:
    name = next(iter(kind.__dataclass_fields__))  # type: ignore[attr-defined]
    with pytest.raises(FrozenInstanceError):
        setattr(values()[kind], name, None)


def test_other_networks_are_other_values() -> None:
    assert trace("resnet50") != trace("resnet50", 320)
    assert evil_file() != evil_file()  # as before: a file is itself
