"""Tables that are taken away: read back by pandas, checked by jsonschema, and typeset by LaTeX."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
from csv import DictReader
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.analysis.trace import trace
from explorer.cli import main
from explorer.cli.parameters import FormName
from explorer.export.tables import FORMS, SCHEMA, Table, csv, latex, markdown, schema, to_json, written
from explorer.link import View, origin, parse_network, relative
from resnet import ResNetConfig, preset

CONFIG = preset("resnet50d")
LAYERS = Table.of(trace(CONFIG, 224).frame(), "Layers", origin(View(CONFIG)))
MIXED_CELLS: dict[str, Any] = {
    "a|b": ["x_1 & 50 %", "{~}^\\#$", "Δ 3×3 → 56²·µ", None],
    "count": [1, -2, 25_557_032, None],
    "share": [0.5, float("nan"), 1e-9, 3.0],
    "known": [True, False, True, True],
}
MIXED = Table.of(MIXED_CELLS, "Of all kinds", origin(View(ResNetConfig(), weights="random")), {"count": "Parameters"})

cells = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=9)
tables = st.integers(1, 4).flatmap(
    lambda wide: st.lists(st.lists(cells, min_size=wide, max_size=wide), min_size=1, max_size=4)
)


def test_csv_reads_back_in_pandas() -> None:
    frame = trace(CONFIG, 224).frame()
    again = pandas.read_csv(io.StringIO(csv(LAYERS)))
    pandas.testing.assert_frame_equal(again.drop(columns="link"), frame, check_dtype=False)
    again = pandas.read_csv(io.StringIO(csv(MIXED)))
    assert again["count"].tolist()[:3] == [1, -2, 25_557_032]
    assert list(again.columns) == ["a|b", "count", "share", "known", "link"]
    assert re.search(r"^\{~\}\^\\#\$,-2,,False,\?weights=random$", csv(MIXED), re.MULTILINE)  # whole numbers stay whole


def test_rows_of_several_tables_still_say_which_network_each_is_of() -> None:
    """In CSV, whose only place for it are the rows; what has its own links keeps them, and forms to read leave them out."""
    configs = [CONFIG, preset("resnet18").with_(antialias="blur", attention="se")[0]]
    tables = [Table.of({"a": [1, 2]}, "Any", origin(View(config, (96, 64)))) for config in configs]
    together = [row for table in tables for row in DictReader(io.StringIO(csv(table)))]
    assert [*together[0]] == ["a", "link"]
    opened = [parse_network(row["link"]) for row in together]
    assert opened == [View(config, (96, 64)) for config in configs for _ in range(2)]
    links = [relative(View(config)) for config in configs]
    own = tables[0].linked(links)
    assert [row["link"] for row in DictReader(io.StringIO(csv(own)))] == links
    whole = json.loads(to_json(own))
    jsonschema.validate(whole, whole["schema"])
    assert [row["link"] for row in whole["rows"]] == links
    assert [markdown(own), latex(own)] == [markdown(tables[0]), latex(tables[0])]


@pytest.mark.parametrize("table", [LAYERS, MIXED], ids=lambda table: table.title)
def test_json_is_as_its_schema_says_and_says_where_it_is_from(table: Table) -> None:
    whole = json.loads(to_json(table))
    jsonschema.Draft202012Validator.check_schema(whole["schema"])
    jsonschema.validate(whole, whole["schema"])
    assert whole["schema"]["$schema"] == SCHEMA
    assert parse_network(whole["link"]).config.to_text() in (CONFIG.to_text(), ResNetConfig().to_text())
    assert [tuple(row.values()) for row in whole["rows"]] == list(table.rows)
    changes: tuple[dict[str, Any], ...] = (
        {"rows": [{}]},
        {"rows": [{**whole["rows"][0], table.columns[1]: []}]},
        {"rows": [{**whole["rows"][0], "more": 1}]},
        {"link": None},
        {"more": 1},
    )
    for change in changes:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**whole, **change}, whole["schema"])


def test_a_schema_names_types_and_what_people_call_a_column() -> None:
    columns = schema(MIXED)["properties"]["rows"]["items"]["properties"]
    assert columns["count"] == {"title": "Parameters", "type": ["integer", "null"]}
    assert columns["share"]["type"] == ["null", "number"]
    assert columns["known"]["type"] == "boolean"
    mixed = schema(Table.of({"a": [1, 2.5]}, "Both", {}))["properties"]["rows"]["items"]["properties"]
    assert mixed["a"]["type"] == "number"
    layers = schema(LAYERS)["properties"]["rows"]["items"]["properties"]
    assert (layers["macs"]["type"], layers["name"]["type"]) == ("integer", "string")


@settings(max_examples=40, deadline=None)
@given(tables)
def test_any_table_is_as_its_schema_says(rows: list[list[Any]]) -> None:
    table = Table.of([{str(place): value for place, value in enumerate(row)} for row in rows], "Any", {})
    whole = json.loads(to_json(table), parse_constant=pytest.fail)
    jsonschema.validate(whole, whole["schema"])
    assert len(markdown(table).splitlines()) == len(rows) + 4
    assert all(re.fullmatch(r"[^\n]*", line) for line in latex(table).splitlines())


def test_markdown_is_a_table_and_says_where_it_is_from() -> None:
    *lines, _, said = markdown(MIXED).splitlines()
    assert lines[:2] == [r"| a\|b | Parameters | share | known |", "|:--|--:|--:|:--|"]
    assert lines[4] == "| Δ 3×3 → 56²·µ | 25,557,032 | 1e-09 | yes |"
    assert written(0.0123456789) == "0.0123457"
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {5}
    assert said == "<!-- Of all kinds · ResNet-50 · random · ?weights=random -->"


def test_no_text_is_read_as_something_else() -> None:
    table = Table("of\nall", ("<a>",), (("*b*\n`c` 网 [d] |",),), {"link": "?x=a--b"})
    head, _, row, _, said = markdown(table).splitlines()
    assert (head, row) == (r"| \<a> |", r"| \*b\* \`c\` 网 [d] \| |")
    assert said.endswith("?x=a-%2Db -->")  # two hyphens would end a comment; it is the same link
    lines = latex(table).splitlines()
    assert lines[0] == "% of all · ?x=a--b"
    assert r"\textless{}a\textgreater{} \\" in lines
    assert r"*b* `c` ? {[}d] \textbar{} \\" in lines


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_is_typeset(tmp_path: Path) -> None:
    """With booktabs and nothing else, without a word about what is missing."""
    body = "\n\n".join(latex(table) for table in (MIXED, replace(LAYERS, rows=LAYERS.rows[:8])))
    document = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{chr(10)}{body}\end{{document}}"
    (tmp_path / "table.tex").write_text(document, encoding="utf-8")
    ran = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    assert ran.returncode == 0, ran.stdout[-2000:]
    assert "Missing character" not in ran.stdout
    assert (tmp_path / "table.pdf").read_bytes().startswith(b"%PDF")


def test_latex_escapes_what_it_would_read_as_something_else() -> None:
    lines = latex(MIXED).splitlines()
    assert lines[0].startswith("% Of all kinds · ResNet-50 · random · ?weights=")
    assert lines[2] == r"\begin{tabular}{lrrl}"
    assert r"x\_1 \& 50 \% & 1 & 0.5 & yes \\" in lines
    assert r"\{\textasciitilde{}\}\textasciicircum{}\textbackslash{}\#\$ & -2 &  & no \\" in lines
    assert r"$\Delta$ 3$\times$3 $\to$ 56$^2$$\cdot$$\mu$ & 25,557,032 & 1e-09 & yes \\" in lines


@pytest.mark.parametrize(
    ("command", "count", "column", "value"),
    [
        ("summary resnet18", 69, "params", 11_689_512),
        ("compare resnet18 resnet34", 0, "parameters", 21_797_672 - 11_689_512),
        ("compare resnet18 resnet34 resnet50", 3, "parameters", 11_689_512 + 21_797_672 + 25_557_032),
        ("list --size 320x640 --max-macs 5e9 --max-params 30e6", 1, "parameters", 5_435_488),
        ("search resnet18\\ attention=none,se", 2, "parameters", 11_689_512 + 11_779_624),
    ],
)
def test_the_command_prints_tables_in_every_form(
    command: str, count: int, column: str, value: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which say the same numbers, whose sum is known."""

    def printed(form: str) -> str:
        assert main([*shlex.split(command), "--format", form]) == 0
        return capsys.readouterr().out

    frame = pandas.read_csv(io.StringIO(printed("csv")))
    whole = json.loads(printed("json"))
    jsonschema.validate(whole, whole["schema"])
    assert len(frame) == len(whole["rows"])
    assert frame.columns[-1] == "link"
    opened = [parse_network(link) for link in frame["link"]]
    if "network" in frame:  # each row is of its own
        alone = [trace(one.config, one.image_size).params for one in opened]
        assert alone == frame["parameters"].tolist()
    else:
        assert {one.config for one in opened} == {preset("resnet18")}
    assert frame[column].sum() == sum(row[column] for row in whole["rows"]) == value
    assert len(printed("markdown").splitlines()) == len(frame) + 4
    lines = [line for line in printed("latex").splitlines() if line.endswith(r" \\")]
    assert len(lines) == len(frame) + 1
    assert len(frame) == (count or 56 + 48)  # eight blocks of seven layers, and those that see more for it


def test_a_table_and_all_that_was_found_are_not_printed_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["summary", "resnet18", "--json", "--format", "csv"])
    assert "one of them is accepted" in capsys.readouterr().err
    assert [*get_args(FormName)] == sorted(FORMS)
