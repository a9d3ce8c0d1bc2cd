"""`python -m explorer`: what it prints, and what it says of a mistake."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl, urlencode
from xml.etree import ElementTree

import pytest
import torch

from explorer import cli
from explorer.analysis.compare import compare
from explorer.analysis.search import GOALS, Limits, fits, joined, pareto, parts, search
from explorer.analysis.space import Space
from explorer.analysis.trace import IMAGE, Trace, trace
from explorer.bench import measure
from explorer.bench.browser import ROOT
from explorer.cli import COMMAND, main
from explorer.cli.bench import Section
from explorer.cli.documents.base import rendered
from explorer.cli.documents.checkpoint import Checkpoint
from explorer.cli.documents.compare import Compared
from explorer.cli.documents.list import Listed
from explorer.cli.documents.predict import Prediction
from explorer.cli.documents.search import Searched, typed_as
from explorer.cli.documents.summary import Summary
from explorer.cli.export import CALLS, EXPORTS, PICTURES, WITH_WEIGHTS, Kind
from explorer.cli.parameters import repeat_list_options
from explorer.experiments import degradation
from explorer.experiments.degradation import RUNS
from explorer.inference.classify import classified
from explorer.inference.device import devices
from explorer.inference.weights import with_own_network
from explorer.link import View
from resnet import ResNet, ResNetConfig, open_checkpoint, preset
from resnet.weights import bundled_path

NETWORKS = {
    "resnet50": ("resnet50", ResNetConfig()),
    "ResNet-18": ("ResNet-18", preset("resnet18")),
    "query": ("block=basic&layers=1-2&attention=eca", ResNetConfig(block="basic", layers=(1, 2), attention="eca")),
    "link": (
        "https://example.org/?order=pre&shortcut=D&layers=1-1",
        ResNetConfig(order="pre", shortcut="D", layers=(1, 1)),
    ),
}


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[str, ResNetConfig]:
    """What is typed for a network, and its configuration."""
    return NETWORKS[request.param]


# -- exports ------------------------------------------------------------------------------


def test_json_reads_back(network: tuple[str, ResNetConfig], capsys: pytest.CaptureFixture[str]) -> None:
    text, config = network
    out = printed(capsys, "export", text, "json")
    assert isinstance(json.loads(out), dict)
    assert ResNetConfig.from_json(out) == config


def test_code_runs(network: tuple[str, ResNetConfig], capsys: pytest.CaptureFixture[str]) -> None:
    text, config = network
    names: dict[str, Any] = {}
    exec(printed(capsys, "export", text, "py"), names)
    assert isinstance(names["model"], ResNet)
    assert names["model"].config == config
    assert sum(parameter.numel() for parameter in names["model"].parameters()) == trace(config).params


@pytest.mark.parametrize(("size", "sides"), [("224", (224, 224)), ("64x96", (64, 96))])
def test_csv_holds_every_layer(
    network: tuple[str, ResNetConfig], size: str, sides: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    text, config = network
    traced = trace(config, sides)
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "export", text, "csv", "--size", size))))
    assert [row["name"] for row in rows] == [layer.name for layer in traced.layers]
    assert sum(int(row["params"]) for row in rows) == traced.params
    assert sum(int(row["macs"]) for row in rows) == traced.macs
    assert [row["output"] for row in rows] == ["×".join(map(str, layer.out_shape)) for layer in traced.layers]
    assert rows[0]["inputs"] == "image"


def drawn(source: str) -> tuple[set[str], set[tuple[str, str]]]:
    """The nodes and edges of a graph in DOT."""
    name = r'("[^"]+"|\w+)'
    nodes = {found.strip('"') for found in re.findall(rf"^\t*{name} \[label=", source, re.MULTILINE)}
    edges = {(a.strip('"'), b.strip('"')) for a, b in re.findall(rf"^\t*{name} -> {name}$", source, re.MULTILINE)}
    return nodes, edges


def edges(traced: Trace) -> set[tuple[str, str]]:
    return {
        ("input" if producer == IMAGE else traced.layers[producer].name, layer.name)
        for layer in traced.layers
        for producer in layer.inputs
    }


def test_dot_holds_every_edge(network: tuple[str, ResNetConfig], capsys: pytest.CaptureFixture[str]) -> None:
    text, config = network
    source = printed(capsys, "export", text, "dot")
    assert source.startswith("digraph resnet {")
    assert source.count("{") == source.count("}")
    nodes, arrows = drawn(source)
    traced = trace(config)
    assert nodes == {"input", *(layer.name for layer in traced.layers)}
    assert arrows == edges(traced)


def test_dot_of_a_deep_network_holds_its_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    nodes, arrows = drawn(printed(capsys, "export", "resnet1202", "dot", "--size", "32"))
    blocks = {f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(200)}
    assert blocks <= nodes
    assert len(nodes) < 620
    assert all(
        arrow in arrows for arrow in (("layer1.198", "layer1.199"), ("layer1.199", "layer2.0"), ("input", "conv1"))
    )
    assert len(arrows) == len(nodes) - 1


def test_svg_is_a_drawing(network: tuple[str, ResNetConfig], capsys: pytest.CaptureFixture[str]) -> None:
    text, config = network
    drawing = ElementTree.fromstring(printed(capsys, "export", text, "svg"))
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    identifiers = [element.get("data-id") for element in drawing.iter() if element.get("data-id")]
    blocks = [f"layer{s + 1}.{b}" for s, count in enumerate(config.layers) for b in range(count)]
    assert [name for name in identifiers if str(name).startswith("layer")] == blocks


def test_every_export_ends_its_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in EXPORTS:
        out = printed(capsys, "export", "resnet20", kind, "--size", "32")
        assert out.endswith("\n")
        assert not out.endswith("\n\n")


# -- summary ------------------------------------------------------------------------------


def test_summary_holds_layers_and_totals(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "summary", "resnet50")
    lines = out.splitlines()
    assert len(
        [line for line in lines if re.match(r"\s*(conv1|bn1|act1|maxpool|layer\d|avgpool|flatten|fc)\b", line)]
    ) == (len(trace(ResNetConfig()).layers))
    assert "ResNet-50 at 224×224, depth 50" in lines
    assert re.search(r"parameters +25,557,032\n", out)
    assert re.search(r"MACs +4,089,184,256\n", out)
    assert re.search(r"receptive field +427 px, effective stride 32, start -213\n", out)


def test_summary_says_what_the_figures_mean(capsys: pytest.CaptureFixture[str]) -> None:
    plain, group = (printed(capsys, "summary", name) for name in ("resnet50", "resnet50_gn"))
    assert "peak activations  11,841,536 bytes at layer1.1.bn3\n  at the least    9,633,792 bytes" in plain
    words = "Units also depend on the whole map through group norm, first in bn1."
    assert words in group
    assert "whole map" not in plain
    assert words in printed(capsys, "compare", "resnet50", "resnet50_gn")


@pytest.mark.parametrize("name", ["ResNet-50", "resnet 50", "timm/resnet50.a1_in1k", "preset=RESNET50"])
def test_a_name_as_people_type_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "export", name, "json") == "{}\n"
    assert "wide_resnet50_2 against ResNet-50 at" in printed(capsys, "compare", name, "wide-resnet50-2")


def test_a_small_image(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "summary", "ResNet-18", "--size", "28")
    assert re.search(r"MACs +34,747,136\n", out)
    assert (
        "A side of 28 px is less than the network's total stride of 32: from layer4.0.conv1 on the maps are 1×1" in out
    )
    assert "total stride" not in printed(capsys, "summary", "ResNet-18", "--size", "32")


def test_summary_at_another_size(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "summary", "block=basic&layers=2-2-2-2&num_classes=10", "--size", "64x96")
    assert "at 64×96" in out
    assert f"{trace(preset('resnet18').with_(num_classes=10)[0], (64, 96)).macs:,}" in out


@pytest.mark.parametrize(
    ("arguments", "sides"),
    [
        (["resnet50"], "224×224"),
        (["resnet20"], "32×32"),
        (["preset=resnet18&size=96x128"], "96×128"),
        (["preset=resnet18&size=96x128", "--size", "64"], "64×64"),
    ],
)
def test_the_image_size(arguments: list[str], sides: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f" at {sides}, depth " in printed(capsys, "summary", *arguments)


def test_a_title_says_its_depth_once(capsys: pytest.CaptureFixture[str]) -> None:
    title = next(line for line in printed(capsys, "summary", "layers=1-1").splitlines() if " at 224×224" in line)
    assert title.count("depth 8") == 1


@pytest.mark.parametrize(
    "view",
    [
        View(preset("resnet18"), (192, 256), "layer2.0.conv1", ResNetConfig(), "IMAGENET1K_V1", "coffee"),
        View(ResNetConfig(), at="fc"),
    ],
)
def test_the_part_of_a_link_after_the_question_mark(view: View, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "export", urlencode(view.to_query()), "json")
    assert ResNetConfig.from_json(out) == view.config


# -- where it goes ------------------------------------------------------------------------

SHIPPED = bundled_path("resnet20")
COFFEE = ROOT / "explorer" / "samples" / "photos" / "coffee.jpg"
DOCUMENTS = [("export", "resnet20", kind) for kind in sorted(EXPORTS)] + [
    ("summary", "resnet20"),
    ("compare", "resnet20", "resnet50"),
    ("list", "--max-macs", "1.2e9"),
    ("search", "resnet20 layers=2..3-2-2", "--pareto"),
    ("checkpoint", str(SHIPPED)),
    ("predict", str(COFFEE), "--weights", "resnet20_fashion"),
]


def document(*arguments: str) -> str:
    """What a command makes, before anything is printed."""
    if arguments[0] == "compare":
        a, b = map(preset, arguments[1:])
        return Compared((compare(a, b, image_size=(32, 32)),)).text()
    if arguments[0] == "list":
        return Listed(fits(Limits(macs=1_200_000_000))).text()
    if arguments[0] == "search":
        space, limits = Space.from_text(arguments[1]), Limits((32, 32))
        found = joined(parts(space, limits))
        return Searched(space, limits, found, pareto(found.candidates), GOALS).text()
    if arguments[0] == "predict":
        chosen = with_own_network(arguments[3])
        device = devices()[0]
        return Prediction([classified(arguments[1], chosen, device)], chosen, device).text()
    if arguments[0] == "checkpoint":
        return Checkpoint(SHIPPED.name, open_checkpoint(SHIPPED), {}).text()
    traced = trace(preset(arguments[1]), 32)
    return Summary(traced).text() if arguments[0] == "summary" else EXPORTS[arguments[2]](traced)


@pytest.mark.parametrize("arguments", DOCUMENTS, ids=" ".join)
def test_a_file_is_utf8_with_lf_on_windows(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output as Windows opens it for `> file`: its own code page, and lines that end in CR LF."""
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file, encoding="cp1252", newline="\r\n"))
    monkeypatch.setattr(os, "linesep", "\r\n")
    assert main([*arguments]) == 0
    assert b"\r" not in file.getvalue()
    assert file.getvalue().decode("utf-8") == document(*arguments)


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "cp1252"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["cp1252", "ascii"],
)
def test_a_file_is_utf8_whatever_the_locale(environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "explorer", "compare", "resnet20", "resnet50"]
    ran = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), **environment}, capture_output=True)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.decode("utf-8") == document(*command[3:])


@pytest.mark.parametrize("arguments", DOCUMENTS, ids=" ".join)
def test_output_names_the_file(arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is not there is made, and nothing is printed beside."""
    path = tmp_path / "made" / "dokument-é.txt"
    assert printed(capsys, *arguments, "--output", str(path)) == ""
    assert path.read_bytes() == document(*arguments).encode("utf-8")


@pytest.mark.parametrize(
    "command",
    [
        "summary resnet20",
        "export resnet20 svg",
        "compare resnet20 resnet50",
        "list",
        "search resnet20",
        f"checkpoint {SHIPPED}",
        f"predict {COFFEE} --weights resnet20_fashion",
        "latency resnet20 --repeats 2",
        "memory resnet20",
        "degradation --steps 100",
        "experiments",
        "beside",
        "probes",
        "landscape",
    ],
)
@pytest.mark.parametrize("place", ["", "file/below", "x" * 300])
def test_a_file_that_cannot_be_written_is_named(
    command: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / place
    assert main([*command.split(), "--output", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"explorer: {re.escape(str(path))} cannot be written \([^\n]+\): [^\n]+\.\n", err)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("arguments", ["summary resnet20 --size 32", "export resnet1202 csv --size 32", "--help"])
def test_a_reader_that_has_gone_is_no_mistake(arguments: str, tmp_path: Path) -> None:
    """Short output is only sent when Python ends, long output before."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed:
        command = [sys.executable, "-m", "explorer", *arguments.split()]
        ran = subprocess.run(
            command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, stdout=closed, stderr=subprocess.PIPE
        )
    assert (ran.returncode, ran.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no disk that is full")
def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    command = f"{sys.executable} -m explorer summary resnet20 > /dev/full"
    ran = subprocess.run(
        ["/bin/sh", "-c", command], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE
    )
    assert ran.returncode == 2
    assert re.fullmatch(rb"explorer: [^\n]*No space left on device\.\n", ran.stderr)


# -- the bench ----------------------------------------------------------------------------


def test_the_bench_makes_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    for name in measure.SECTIONS:
        monkeypatch.setitem(measure.SECTIONS, name, lambda name=name: made.append(name))
    for arguments, names in (
        ([], ["traces", "captures", "search", "exports", "engine", "clicks", "visitors"]),
        (["--no-browser"], ["traces", "captures", "search", "exports", "engine", "visitors"]),
        (["--only", *measure.SECTIONS], list(measure.SECTIONS)),
        (["--only", "visitors"], ["visitors"]),
        (["--only", "visitors", "clicks", "--no-browser"], ["visitors"]),
    ):
        made.clear()
        assert main(["bench", *arguments]) == 0
        assert made == names


@pytest.mark.parametrize(
    ("arguments", "missing", "words"),
    [
        ("", ["playwright", "websockets"], "clicks and visitors cannot be measured without playwright and websockets"),
        ("", ["torchinfo"], "traces cannot be measured without torchinfo: install by `pip install torchinfo`"),
        ("--only visitors captures", ["websockets"], "visitors cannot be measured without websockets"),
        (
            "--no-browser",
            ["playwright", "websockets", "torchinfo"],
            "traces and visitors cannot be measured without torchinfo and websockets",
        ),
        ("--only captures", ["playwright", "websockets", "torchinfo"], ""),
        ("--only traces captures", ["playwright", "websockets"], ""),
        ("--no-browser", ["playwright"], ""),
    ],
)
def test_what_the_bench_lacks_is_said_before_it_measures(
    arguments: str, missing: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []
    for name in measure.SECTIONS:
        monkeypatch.setitem(measure.SECTIONS, name, lambda name=name: made.append(name))
    for package in missing:
        monkeypatch.setitem(sys.modules, package, None)
    assert main(["bench", *arguments.split()]) == (2 if words else 0)
    err = capsys.readouterr().err
    assert bool(made) != bool(words)
    assert re.fullmatch(r"explorer: [^\n]+\.\n", err) if words else err == ""
    assert words in err


def test_the_bench_prints_the_table_of_the_readme(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def give(name: str, *rows: measure.Row) -> None:
        def section() -> tuple[measure.Row, ...]:
            print(f"{name} as lines")
            return rows

        monkeypatch.setitem(measure.SECTIONS, name, section)

    give("traces", measure.Row("A", 0.00683, "another's", 0.1224, 0.0558), measure.Row("B", 0.0966))
    give("captures", measure.Row("C", 0.101, "without", 0.1, 1.014))
    give("search", measure.Row("E", 0.0002, "whole", 0.008, 0.025))
    give("exports", measure.Row("F", 0.6))
    give("engine", measure.Row("G", 0.03, "here", 0.025, 1.2))
    give("clicks", measure.Row("D", 0.4, "nothing", 0.1, 4.0))
    assert main(["bench", "--markdown"]) == 0
    said = capsys.readouterr()
    *lines, empty, words = said.out.splitlines()
    assert lines == [
        "| | ours | beside it | | ratio |",
        "|:--|--:|:--|--:|--:|",
        "| A | 6.8 ms | another's | 122 ms | 0.06 |",
        "| B | 96.6 ms |  |  |  |",
        "| C | 101 ms | without | 100 ms | 1.01 |",
        "| E | 0.2 ms | whole | 8.0 ms | 0.03 |",
        "| F | 600 ms |  |  |  |",
        "| G | 30.0 ms | here | 25.0 ms | 1.20 |",
        "| D | 400 ms | nothing | 100 ms | 4.00 |",
    ]
    assert empty == ""
    assert words.startswith("Medians of one run on ")
    assert words.endswith(f", torch {torch.__version__.partition('+')[0]}.")
    assert said.err.splitlines() == [
        f"{name} as lines" for name in ("traces", "captures", "search", "exports", "engine", "clicks")
    ]
    assert main(["bench", "--markdown", "--only", "captures"]) == 0
    assert capsys.readouterr().out.splitlines()[2:-2] == lines[4:5]


def test_waits_are_compared_click_by_click() -> None:
    """The last clicks of either time have no twin, and the slowest click of a visitor is not always the same one."""
    title, alone, crowded, more = measure.waits([[0.1, 0.9], [0.2, 9.0]], [[0.5, 0.8, 4.0], [0.7]])
    assert title.startswith("2 visitors")
    assert alone.split()[-7:] == ["3", "200", "ms", "830", "ms", "900", "ms"]
    assert crowded.split()[-7:] == ["3", "700", "ms", "790", "ms", "800", "ms"]
    assert more == "longest wait added: 0.50 s to one click, 0.50 s to a visitor's slowest (limit 1 s)"
    assert "0.40 s to one click, -0.10 s" in [*measure.waits([[0.1, 0.9]], [[0.5, 0.8]])][-1]


# -- mistakes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["summary", "resnet51"], "one of"),
        (["summary", ""], "(empty)"),
        (["export", "vgg", "json"], "such as resnet"),
        (["summary", "block=basic&groups=32"], "only the bottleneck block has it"),
        (["summary", "depth=50"], "option = depth"),
        (["summary", "layers="], "(empty)"),
        (["summary", "https://example.org/?layers=3-x"], "layers = 3-x"),
        (["summary", "resnet50", "--size=abc"], "size = abc"),
        (["summary", "resnet50", "--size="], "(empty)"),
        (["summary", "resnet50", "--size=224x"], "size = 224x"),
        (["summary", "resnet50", "--size=1x2x3"], "size = 1x2x3"),
        (["summary", "resnet50", "--size=-224"], "-224"),
        (["summary", "resnet50", "--size=0"], "1 to 8192 pixels"),
        (["summary", "resnetblur50", "--size=16"], "17 to 8192 pixels"),
        (["export", "resnet50", "dot", "--size=9999"], "1 to 8192 pixels"),
        (["summary", "resnet50", "--size=" + "9" * 5000], "size = 999"),
        (["compare", "resnet50", "naïve"], "preset = naïve"),
        (["compare", "resnet50", "resnet18", "--size=x"], "size = x"),
        (["summary", "resnet20", "--output=a\0b"], "cannot be written"),
        (["list", "--size", "320by640"], "size = 320by640"),
        (["list", "--size", "9000"], "size = 9000 is not accepted: 1 to 8192 pixels a side"),
        (["search", "resnet51"], "preset = resnet51"),
        (["search", "layers=1..900-1..900"], "at most 100,000"),
        (["search", "resnet18 depth=3"], "space = depth=3"),
        (["search", "resnet18", "--goals", "+speed"], "goals = +speed"),
        (["checkpoint", "/nowhere/at/all"], "all cannot be read (No such file or directory): a file is accepted"),
        (["checkpoint", str(ROOT / "README.md")], "README.md is a text that begins with"),
        (["checkpoint", str(SHIPPED), "--answer", "layers=1-1-1"], "first layer1.1.conv1.weight"),
        (["predict", str(COFFEE), "--weights", "IMAGENET1K_V2"], "weights with their network such as resnet50.a1_in1k"),
        (["predict", str(COFFEE), "--weights", "a/b.pth"], "a/b.pth is no file: the path of a checkpoint is accepted"),
        (["predict", str(COFFEE), "--network", "resnet51"], "preset = resnet51"),
        (["predict", str(COFFEE), "--weights", "resnet20_fashion", "--size", "0"], "size = 0"),
        (["predict", "/nowhere.png", "--weights", "resnet20_fashion"], "/nowhere.png: It cannot be read (No such file"),
        (["predict", "a\0b", "--weights", "resnet20_fashion"], "It cannot be read"),
        (["latency", "resnet20", "resnet51"], "preset = resnet51"),
        (["latency", "resnet20", "--size", "0"], "size = 0"),
        (["memory", "resnet51"], "preset = resnet51"),
        (["degradation", "--seeds", "-1"], "seed = -1"),
        (["degradation", "--steps", "9" * 30], "steps = 999"),
        (["degradation", "--settings", "é"], "training = é"),
        (["degradation", "--settings", "deep-8"], "deep = 8"),
        (["degradation", "--cut", "/nowhere/at/all"], "holds neither train-images-idx3-ubyte nor"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_mistake_is_a_sentence(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"explorer: [^\n]+\.\n", err)
    assert words in err


@pytest.mark.parametrize("kind", [AssertionError, KeyError, RuntimeError, TypeError, ValueError])
def test_a_bug_is_shown_as_one(kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Trace) -> str:
        raise kind("a bug")

    monkeypatch.setitem(EXPORTS, "json", broken)
    with pytest.raises(kind, match="a bug"):
        main(["export", "resnet20", "json"])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["summary"],
        ["export", "resnet50"],
        ["export", "resnet50", "pdf"],
        ["show", "resnet50"],
        ["compare", "resnet50"],
        ["summary", "resnet50", "--output"],
        ["degradation", "--seeds", "one"],
        ["bench", "--only", "nothing"],
        ["bench", "x"],
    ],
)
def test_what_is_no_command_shows_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m explorer")


def test_the_command_itself(tmp_path: Path) -> None:
    """A status of its own, and quiet where a reader has seen enough."""
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "PYTHONIOENCODING": "utf-8"}

    def command(arguments: str) -> subprocess.CompletedProcess[str]:
        shell = f"{sys.executable} -m explorer {arguments}"
        return subprocess.run(
            ["/bin/sh", "-c", shell], cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8"
        )

    failed = command("summary resnet51")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.startswith("explorer: preset = resnet51 is not accepted")
    assert "Traceback" not in failed.stderr
    cut = command("export resnet1202 csv --size 32 | read line")
    assert cut.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("summary", "\x1b[31m"),
        ("summary", "layers=\x1b]0;x\x07\u202e"),
        ("summary", "\n\r=1"),
        ("summary", "resnet18", "--size", "\x1b[2J"),
        ("summary", "resnet18", "\x1b[31m"),
        ("export", "resnet18", "\x1b[31m"),
        ("summary", "resnet18", "--output", "\x1b[31m\0"),
        ("degradation", "--settings", "rate-\x1b[31m"),
        ("degradation", "--steps", "\x1b[31m"),
        ("summary", "x" * 100_000),
    ],
)
def test_what_is_typed_is_shown_as_text(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """A terminal obeys none of it."""
    status: str | int | None
    try:
        status = main(list(arguments))
    except SystemExit as end:
        status = end.code
    assert status == 2
    said = capsys.readouterr().err
    assert all(line.isprintable() for line in said.splitlines()), said
    assert len(said.splitlines()[-1]) < 1100


# -- help and completion ------------------------------------------------------------------

COMMANDS = (
    "summary",
    "compare",
    "list",
    "search",
    "checkpoint",
    "predict",
    "latency",
    "memory",
    "export",
    "notebooks",
    "degradation",
    "experiments",
    "channels",
    "beside",
    "probes",
    "landscape",
    "bench",
)


@pytest.mark.parametrize("name", ["python -m explorer", "resnet-explorer"])
@pytest.mark.parametrize("subcommand", ["", *COMMANDS])
def test_help_has_examples(name: str, subcommand: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*subcommand.split(), "--help"], name) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(" ".join(filter(None, ["Usage:", name, subcommand])))
    assert len(re.findall(rf"^  resnet-explorer {subcommand}", out, re.MULTILINE)) >= 3
    assert "\b" not in out
    if not subcommand:
        assert re.findall(r"^  (\w+)  ", out.partition("Commands:")[2], re.MULTILINE) == [*COMMANDS]
        assert ("--install-completion" in out) == (name == "resnet-explorer")


def examples() -> list[str]:
    """Every example of every help that writes a document to standard output."""
    works = (
        *(cli.app.app, cli.summary.summary, cli.summary.compare),
        *(cli.search.list_, cli.search.search, cli.memory.memory, cli.export.export),
    )
    texts = "\n".join(work.__doc__ or "" for work in works)
    found = re.findall(r"^ *resnet-explorer ((?:summary|compare|list|search|memory|export) .*)$", texts, re.MULTILINE)
    assert len(found) > 10
    return [line.partition(" --output ")[0] for line in found if not {*WITH_WEIGHTS} & {*line.split()}]


@pytest.mark.parametrize("example", dict.fromkeys(examples()))
def test_the_examples_work(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, *shlex.split(example))


def test_help_needs_no_torch(tmp_path: Path) -> None:
    """Torch takes seconds to import, which a person who asks how a command is called, or what it could be, would wait for."""
    script = (
        "import sys\nfrom explorer.cli import main\nfrom explorer.cli.parameters import presets\n"
        "main(['summary', '--help'])\nassert 'resnet50' in presets('resnet5')\n"
        "try: main(['show'])\nexcept SystemExit: pass\n"
        "sys.exit(str([name for name in ('torch', 'pandas', 'streamlit', 'numpy') if name in sys.modules]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
    )
    assert ran.stderr.splitlines()[-1] == "[]"


def completed(words: str) -> list[str]:
    """What bash is offered after a line that was begun."""
    environment = {
        "PYTHONPATH": str(ROOT),
        "_RESNET_EXPLORER_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    script = "import sys; from explorer.cli import command; sys.exit(command())"
    ran = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, encoding="utf-8")
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.split()


def test_a_shell_completes_subcommands_options_and_presets() -> None:
    assert completed("resnet-explorer ") == [*COMMANDS]
    assert completed("resnet-explorer summary resnext5") == ["resnext50_32x4d", "resnext50d_32x4d"]
    assert completed("resnet-explorer compare resnet18 resnetv2_1") == ["resnetv2_18", "resnetv2_101", "resnetv2_152"]
    assert {"--size", "--json", "--output"} <= {*completed("resnet-explorer summary resnet50 --")}
    assert completed("resnet-explorer export resnet18 s") == ["safetensors", "svg"]
    assert completed("resnet-explorer bench --only t") == ["traces"]


def test_choices_are_those_that_there_are() -> None:
    assert [*get_args(Kind)] == sorted([*CALLS, *EXPORTS, *PICTURES, *WITH_WEIGHTS])
    assert [section.value for section in Section] == [*measure.SECTIONS]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("--steps 1 2 --seeds 0", "--steps 1 --steps 2 --seeds 0"),
        ("--calibrate a b -o x y", "--calibrate a --calibrate b -o x y"),
        ("--seeds -1 -2 --output x", "--seeds -1 --seeds -2 --output x"),
        ("--steps 1 --steps 2", "--steps 1 --steps 2"),
        ("--only traces clicks --no-browser", "--only traces --only clicks --no-browser"),
        ("summary a --size 3 b", "summary a --size 3 b"),
        ("--steps", "--steps"),
    ],
)
def test_a_list_is_spread(given: str, read: str) -> None:
    assert repeat_list_options(given.split()) == read.split()


# -- JSON ---------------------------------------------------------------------------------

TORCHVISION = json.loads((ROOT / "tests" / "reference" / "torchvision_resnets.json").read_text(encoding="utf-8"))[
    "weights"
]


@pytest.mark.parametrize("name", dict.fromkeys(entry["model"] for entry in TORCHVISION.values()))
def test_summary_as_json_has_torchvisions_counts(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "summary", name, "--json"))
    for entry in (entry for entry in TORCHVISION.values() if entry["model"] == name):
        assert found["parameters"] == entry["num_params"]
        assert round(found["macs"] / 1e9, 3) == entry["_ops"]
    assert (found["schema"], found["preset"], found["image_size"]) == (1, name, [224, 224])
    for key in ("parameters", "macs"):
        assert sum(layer[key] for layer in found["layers"]) == found[key]


def test_summary_as_json_holds_what_the_trace_does(capsys: pytest.CaptureFixture[str]) -> None:
    text = "block=basic&layers=1-2&norm=group"
    traced = trace(ResNetConfig(block="basic", layers=(1, 2), norm="group"), (48, 64))
    found = json.loads(printed(capsys, "summary", text, "--size", "48x64", "--json"))
    assert ResNetConfig.from_json(json.dumps(found["config"])) == traced.config
    assert (found["title"], found["preset"], found["image_size"]) == ("Custom ResNet, depth 8", None, [48, 64])
    assert found["memory"] == {
        "peak": traced.inference_memory.bytes,
        "peak_at": traced.inference_memory.layer.name,
        "least": traced.least_memory.bytes,
        "training": traced.training_memory,
    }
    assert found["receptive_field"] == traced.field._asdict()
    assert found["remarks"] == [traced.beyond_windows()]
    assert [layer["name"] for layer in found["layers"]] == [layer.name for layer in traced.layers]
    for shown, layer in zip(found["layers"], traced.layers, strict=True):
        assert shown["inputs"] == [*traced.sources(layer)]
        assert shown["output"] == [*layer.out_shape]
        assert [shown[key] for key in ("kernel", "stride", "padding", "dilation", "groups")] == [
            layer.kernel,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
        ]
        assert shown["receptive_field"] == layer.field._asdict()


def test_compare_as_json_sums_up(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "compare", "resnet18", "resnet50", "--json"))
    one, two = (json.loads(printed(capsys, "summary", name, "--json")) for name in ("resnet18", "resnet50"))
    for network, alone in ((found["a"], one), (found["b"], two)):
        assert network == {key: value for key, value in alone.items() if key not in ("schema", "layers")}
    for key in ("parameters", "macs"):
        assert found["difference"][key] == two[key] - one[key]
    for key in ("parameters", "macs", "bytes", "receptive_field"):
        assert sum(charge[key] for charge in found["bill"]) == found["difference"][key]
    for key in ("parameters", "macs", "bytes"):
        assert sum(layer[key] for layer in found["layers"]) == found["difference"][key]
    assert [charge["options"] for charge in found["bill"]] == [["layers"], ["block"]]
    missing = [layer for layer in found["layers"] if layer["a"] is None]
    assert missing
    assert all(layer["output_a"] is None and layer["receptive_field"] is None for layer in missing)


def test_several_networks_are_compared_with_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("resnet20", "resnet32", "plain20", "resnet18")
    found = json.loads(printed(capsys, "compare", *names, "--json"))
    for name, against in zip(names[1:], (found, *found["others"]), strict=True):
        alone = json.loads(printed(capsys, "compare", names[0], name, "--json"))
        assert {key: against[key] for key in ("b", "difference", "layers", "bill")} == {
            key: alone[key] for key in ("b", "difference", "layers", "bill")
        }
        assert alone["others"] == []
    pairs = [printed(capsys, "compare", names[0], name) for name in names[1:]]
    totals, *rest = printed(capsys, "compare", *names).partition(pairs[0])
    assert "".join(rest) == "\n".join(pairs)
    counts = [trace(preset(name), 32) for name in names]
    for traced, line in zip(counts, totals.splitlines()[1:-1], strict=True):
        assert line.split()[-4:-2] == [str(traced.params), str(traced.macs)]


def test_what_was_exported_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.py"
    found = json.loads(printed(capsys, "export", "resnet20", "code", "--size", "40", "--json", "--output", str(path)))
    assert path.read_text(encoding="utf-8") == printed(capsys, "export", "resnet20", "code", "--size", "40")
    assert (found["preset"], found["kind"], found["weights"]) == ("resnet20", "code", None)
    assert (found["file"], found["bytes"]) == (str(path), path.stat().st_size)
    opened = View.from_query(dict(parse_qsl(found["query"])))
    assert (opened.config, list(opened.image_size)) == (preset("resnet20"), found["image_size"])
    helped = printed(capsys, "export", "--help")
    assert all(re.search(rf"\b{key}\b", helped) for key in keys(found))


def test_degradation_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the runs that ship, in the place of new ones."""
    monkeypatch.setattr(
        degradation, "record", lambda every, seeds, path, base, run: path.write_bytes(RUNS.read_bytes()) and []
    )
    path = tmp_path / "runs.json"
    command = ("degradation", "--output", str(path))
    found = json.loads(printed(capsys, *command, "--json"))
    lines = printed(capsys, *command).splitlines()
    stored = json.loads(RUNS.read_text(encoding="utf-8"))["runs"]
    assert found["seeds"] == sorted({run["settings"]["seed"] for run in stored})
    rows = [(run["steps"], one) for run in found["runs"] for one in run["networks"]]
    for line, (steps, one) in zip(lines[:-1], rows, strict=True):
        assert line.startswith(f"{steps:5} steps  {one['name']:12}  training loss {one['loss']['mean']:.3f} ")
        accuracies = [
            other["accuracy"]
            for run in stored
            for other in run["networks"]
            if (run["settings"]["steps"], other["kind"], other["depth"]) == (steps, one["kind"], one["depth"])
        ]
        assert one["accuracy"]["low"] == min(accuracies)
    helped = printed(capsys, "degradation", "--help")
    assert all(re.search(rf"\b{key}\b", helped) for key in keys(found))


def keys(value: object) -> set[str]:
    """All keys in what JSON holds, but for those of a configuration."""
    if isinstance(value, list):
        return set().union(*map(keys, value))
    if not isinstance(value, dict):
        return set()
    return {*value}.union(*(keys(inner) for key, inner in value.items() if key != "config"))


@pytest.mark.parametrize("command", ["summary resnet20", "compare resnet20 resnet32"])
def test_every_key_is_documented(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    helped = printed(capsys, command.split()[0], "--help") + printed(capsys, "summary", "--help")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for key in keys(json.loads(printed(capsys, *command.split(), "--json"))):
        assert re.search(rf"\b{key}\b", helped), key
        assert re.search(rf"\b{key}\b", readme), key


@pytest.mark.parametrize("command", ["list --max-macs 1.2e9", "list --size 4", "search resnet20 --pareto"])
def test_every_key_of_what_fits_is_documented(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    helped = "".join(printed(capsys, name, "--help") for name in (command.split()[0], "list", "summary"))
    for key in keys(json.loads(printed(capsys, *command.split(), "--json"))):
        assert re.search(rf"\b{key}\b", helped), key


# -- what fits ----------------------------------------------------------------------------


def test_the_list_names_what_fits_and_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    budget = ("--size", "320x640", "--max-macs", "5e9", "--max-params", "30e6")
    lines = printed(capsys, "list", *budget).splitlines()
    assert lines[0] == "1 of 103 presets at 320×640, at most 5.00 GMACs and 30.00 M parameters"
    assert re.fullmatch(r" *resnet10t +12 +5435488 +4477030400 +28672000 +90342336 +199", lines[3])
    nearest = lines[lines.index("The nearest of the others:") + 1 : -1]
    assert [line.partition(":")[0] for line in nearest] == [
        "resnet14t",
        "plain18",
        "resnet18",
        "resnetv2_18",
        "seresnet18",
    ]
    assert nearest[2].endswith("7.40 GMACs, 1.48 times the limit; fits at 256×512 pixels, or with 13/16 of its planes")
    found = json.loads(printed(capsys, "list", *budget, "--json"))
    assert found["limits"] == {"image_size": [320, 640], "macs": 5 * 10**9, "parameters": 30 * 10**6, "memory": None}
    assert len(found["networks"]) == 103
    assert [row["name"] for row in found["networks"] if not row["over"]] == ["resnet10t"]
    for row in found["networks"][:2]:
        traced = trace(ResNetConfig.from_json(json.dumps(row["config"])), (320, 640))
        assert (row["parameters"], row["macs"]) == (traced.params, traced.macs)
        assert row["memory"] == {"peak": traced.inference_memory.bytes, "training": traced.training_memory}
        assert row["receptive_field"] == traced.field._asdict()
    value = trace(preset("resnet14t"), (320, 640)).macs
    assert found["networks"][1]["over"] == [{"limit": "macs", "value": value, "ratio": value / 5e9}]
    assert len(printed(capsys, "list").splitlines()) == 3 + 103


@pytest.mark.parametrize(
    ("text", "number"),
    [("5e9", 5 * 10**9), ("1.82G", 1_820_000_000), ("1820 M", 1_820_000_000), ("2000000000", 2 * 10**9)],
)
def test_amounts_as_people_write_them(text: str, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(printed(capsys, "list", "--max-macs", text, "--json"))["limits"]["macs"] == number


def test_a_search_prints_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    typed = "resnet18 layers=1..2-1-1..2 block=basic,bottleneck groups=1,2 size=64,96"
    budget = ("--max-macs", "90M")
    space, limits = Space.from_text(typed), Limits(macs=90 * 10**6)
    every = [*search(space, limits)]
    found = json.loads(printed(capsys, "search", typed, *budget, "--json"))
    assert (found["space"], found["goals"]) == (space.to_text(), None)
    assert found["designs"] == {"all": 32, "within": len(every), "over": 24 - len(every), "invalid": 8}
    assert [row["index"] for row in found["networks"]] == [one.index for one in every]
    for row, one in zip(found["networks"], every, strict=True):
        (again,) = json.loads(printed(capsys, "search", f"?{row['query'].partition('&size=')[0]}", "--json"))[
            "networks"
        ]
        assert again["config"] == row["config"] == json.loads(one.config.to_json())
        summed = json.loads(printed(capsys, "summary", row["query"], "--json"))
        for key in ("image_size", "depth", "parameters", "macs", "receptive_field", "title", "preset"):
            assert summed[key] == row[key], key
    best = json.loads(printed(capsys, "search", typed, *budget, "--pareto", "--json"))
    assert best["goals"] == GOALS
    assert [row["index"] for row in best["networks"]] == [one.index for one in pareto(every)]
    heading, _, _, *rows = printed(capsys, "search", typed, *budget, "--goals", "+depth -macs").splitlines()
    assert heading == (
        f"{len(rows)} that no other beats by +depth -macs, of {len(every)} of 32 designs at their own sizes, at most 90.00 MMACs; "
        f"{24 - len(every)} over a limit, 8 not buildable"
    )
    assert [row.split()[0] for row in rows] == [typed_as(one) for one in pareto(every, "+depth -macs")]
    assert printed(capsys, "search", "resnet18", "--max-macs", "1M").count("\n") == 1


def test_a_search_takes_what_its_link_says_where_nothing_is_typed(capsys: pytest.CaptureFixture[str]) -> None:
    """As Choose does: the network, its designs, its limits and its image size."""
    view = View(preset("resnet50"), (96, 96), limits="macs-900000000_ms-3.0", space="groups=1,32")
    query = urlencode(view.to_query())
    link = f"http://localhost:8501/choose?{query}"
    found = json.loads(printed(capsys, "search", link, "--json"))
    assert found["space"] == "resnet50 groups=1,32"
    assert found["limits"] == {"image_size": [96, 96], "macs": 900_000_000, "parameters": None, "memory": None}
    for typed in (query, f"?{query}", f"preset=resnet50&{query}"):
        assert json.loads(printed(capsys, "search", typed, "--json")) == found
    typed = json.loads(printed(capsys, "search", f"{link} block=basic", "--size", "64", "--max-macs", "9G", "--json"))
    assert typed["space"] == "resnet50 groups=1,32 block=basic"
    assert typed["limits"] == found["limits"] | {"image_size": [64, 64], "macs": 9 * 10**9}
    for wrong, words in (
        ("?limits=macs-x", "macs = x is not accepted"),
        ("?preset=resnet18&space=groups%3D1 groups=2", "space = groups=2 is not accepted: options with their values"),
        ("?preset=resnet18&space=resnet34+groups%3D1", "space = resnet34 is not accepted: the network is ResNet-18"),
    ):
        assert main(["search", wrong]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"explorer: {words}")


# -- terminals ----------------------------------------------------------------------------


def on_a_terminal(columns: int, *arguments: str) -> str:
    """What a terminal of so many columns is sent."""
    pty = pytest.importorskip("pty")
    reader, writer = pty.openpty()
    environment = {"PYTHONPATH": str(ROOT), "COLUMNS": str(columns), "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.Popen([sys.executable, "-m", "explorer", *arguments], env=environment, stdout=writer)
    os.close(writer)
    sent = b""
    with suppress(OSError), open(reader, "rb", buffering=0) as terminal:  # Linux says so when nobody writes any more
        while piece := terminal.read(4096):
            sent += piece
    assert process.wait(60) == 0
    return sent.decode("utf-8").replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [80, 140])
def test_a_terminal_gets_tables(columns: int) -> None:
    shown = on_a_terminal(columns, "summary", "resnet18")
    assert "\x1b[1m" in shown
    lines = re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()
    assert max(map(len, lines)) <= columns
    (head,) = (line for line in lines if line.startswith("Layer"))
    assert ("Effective stride" in head) == (columns == 140)
    for layer in trace(preset("resnet18")).layers:
        (line,) = (line for line in lines if line.split(" ")[0] == layer.name)
        assert f"{layer.params:,}" in line
        assert f"{layer.macs:,}" in line
    assert any(re.fullmatch(r"parameters +11,689,512 *", line) for line in lines)
    shown = re.sub(r"\x1b\[[\d;]*m", "", on_a_terminal(columns, "compare", "resnet18", "resnet34"))
    assert max(map(len, shown.splitlines())) <= columns
    assert re.search(r"^parameters +11,689,512 +21,797,672 +\+10,108,160 +×1\.86", shown, re.MULTILINE)
    assert re.search(r"^total +10,108,160", shown, re.MULTILINE)


@pytest.mark.parametrize("columns", [80, 140])
def test_what_fits_as_tables(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = rendered(Listed(fits(Limits((320, 640), macs=5 * 10**9))).table())
    assert re.search(r"^resnet10t +12 +5,435,488 +4,477,030,400", shown, re.MULTILINE)
    assert "resnet14t: 6.84 GMACs" in shown
    space = Space.from_text("?shortcut=D&attention=se layers=2-2-2-1..2 stem_width=32,64 order=pre size=64x96")
    found = joined(parts(space, Limits()))
    shown = rendered(Searched(space, Limits(), found, found.candidates).table())
    assert max(map(len, shown.splitlines())) <= columns
    for one in found.candidates:
        assert f" {one.params:,} " in shown
        assert f" {one.macs:,} " in shown


def test_a_terminal_gets_json_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert on_a_terminal(40, "summary", "resnet20", "--json") == printed(capsys, "summary", "resnet20", "--json")


# -- the app ------------------------------------------------------------------------------


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have taken this process's place."""
    found: list[list[str]] = []
    monkeypatch.setattr(cli.app, "replace_process", found.append)
    return found


def test_alone_it_opens_the_app(commands: list[list[str]]) -> None:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    assert main([], COMMAND) == main(["--port", str(port), "--no-browser"], COMMAND) == 0
    start = [sys.executable, "-m", "streamlit", "run", str(ROOT / "explorer" / "app.py")]
    assert commands == [start, [*start, f"--server.port={port}", "--server.headless=true"]]


def test_a_port_that_is_taken_is_a_sentence(commands: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port)], COMMAND) == 2
    assert re.fullmatch(rf"explorer: port {port} cannot be opened \([^\n]+\): [^\n]+\.\n", capsys.readouterr().err)
    assert not commands


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--port 0", "0 is not a port, a whole number from 1 to 65535"),
        ("--port x", "x is not a whole number"),
        ("--no-browser summary resnet18", "for the app"),
        (
            "show",
            "No such command 'show'; the commands are summary, compare, list, search, checkpoint, predict, latency, memory, "
            "export, notebooks, degradation, experiments, "
            "channels, beside, probes, landscape, bench",
        ),
        ("summary", "Missing argument 'NETWORK'"),
        ("summary resnet18 --szie 3", "--size"),
        ("compare resnet18", "Missing argument 'B'"),
        (
            "export resnet18 eps",
            "'code', 'csv', 'dot', 'json', 'onnx', 'pdf', 'png', 'pt2', 'py', 'safetensors', 'svg'",
        ),
        ("export resnet18 onnx", "onnx is no text: name a file by --output"),
        ("export resnet18 csv --weights random", "csv holds no weights: onnx, pt2, safetensors do"),
        ("export resnet18 pt2 --int8", "pt2 is not written in integers of 8 bits: onnx is, with --int8"),
        (
            "export resnet18 onnx --calibrate a.png",
            "--calibrate sets the ranges of integers: it is accepted with --int8",
        ),
        ("export resnet18 json --json", "--json prints what was written into a file: name one by --output"),
        ("compare a b c d e f g", "7 networks are compared: up to 6 are accepted"),
        ("degradation --json --cut FOLDER", "--json prints what runs came to, and --cut makes none"),
        ("checkpoint", "Missing argument 'FILE'"),
        ("predict --weights resnet20_fashion", "Missing argument 'IMAGE"),
        ("predict a.png", "name weights by --weights, such as resnet50.a1_in1k, or a network by --network"),
        ("latency", "Missing argument 'NETWORK"),
        ("latency resnet20 --batch 0", "0 is not a whole number from 1 to 4,096"),
        ("latency resnet20 --repeats 1", "1 is not a whole number from 2 to 10,000"),
        ("latency resnet20 --threads 9999", "9999 is not a whole number from 1 to"),
        ("latency resnet20 --device tpu", "device = tpu is not there: cpu "),
        ("latency resnet20 --precision int8", "'fp32', 'half'"),
        ("memory", "Missing argument 'NETWORK'"),
        ("memory resnet20 --batch 0", "0 is not a whole number from 1 to 65,536"),
        ("memory resnet20 --precision fp8", "'fp32', 'autocast', 'bf16'"),
        ("memory resnet20 --optimizer lion", "'sgd', 'momentum', 'rmsprop', 'adam', 'adamw'"),
        ("memory resnet20 --within much", "much is not an amount such as"),
        ("memory resnet20 --within 24", "24 is less than 1 MiB: an amount of bytes such as 24GiB is accepted"),
        ("checkpoint a.pth --answer speed=1", "speed=1 is no answer such as stem_pool=none"),
        ("degradation --steps many", "many is not a whole number"),
        ("list --max-macs lots", "lots is not an amount such as 5e9, 5G, 30M or 256MiB"),
        ("list --max-memory 0", "0 is not an amount"),
        ("search --pareto", "Missing argument 'SPACE'"),
        ("search ", "SPACE is empty: a network is accepted"),
        ("checkpoint ", "FILE is empty: the path of a checkpoint is accepted"),
        ("checkpoint a.pth --answer stem_pool=max --answer stem_pool=none", "answered twice by --answer"),
        ("bench --only nothing", "'traces', 'captures'"),
        ("bench --attacks", "requires an argument"),
        ("degradation --seeds", "requires an argument"),
    ],
)
def test_what_is_no_command_is_a_sentence(
    arguments: str, words: str, commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments.split(" "), COMMAND)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: resnet-explorer ")
    last = err.splitlines()[-1]
    assert words in last
    assert re.fullmatch(r"explorer: .+; see `resnet-explorer[ a-z]* --help`\.", last)
    assert "Value error" not in err
    assert not commands


def test_ctrl_c_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: Trace) -> str:
        raise KeyboardInterrupt

    monkeypatch.setitem(EXPORTS, "json", interrupted)
    assert main(["export", "resnet20", "json"]) == 130
    assert capsys.readouterr() == ("", "")
