"""The notebooks that ship: they run as they stand, without a network, and hold no outputs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from nbformat import NotebookNode

from explorer import trace
from explorer.bench.browser import ROOT
from explorer.cli import main
from explorer.cli.notebooks import SHIPPED
from explorer.drawing import network

NAMES = ("compare.ipynb", "first-look.ipynb", "look-inside.ipynb")
OFFLINE = """
import socket
def refused(*_): raise OSError("no network")
socket.create_connection = socket.getaddrinfo = socket.socket.connect = refused
"""


def read(name: str) -> NotebookNode:
    return nbformat.read(SHIPPED / name, as_version=4)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, NotebookNode]]:
    """The notebooks after they ran, one after the other in one kernel, as torch takes seconds to import: names do not go on from
    one to the next."""
    folder = tmp_path_factory.mktemp("elsewhere")
    manager, client = start_new_kernel(
        kernel_name="python3", cwd=str(folder), env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    )
    try:
        client.execute_interactive(OFFLINE, timeout=60)
        found = {}
        for name in NAMES:
            notebook = read(name)
            runner = NotebookClient(notebook, km=manager, timeout=120)
            runner.kc = client
            runner.execute(reset_kc=False, cleanup_kc=False)
            client.execute_interactive("%reset -f", timeout=60)
            found[name] = notebook
        assert not [*folder.iterdir()]
        yield found
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def outputs(notebook: NotebookNode, kind: str) -> list[object]:
    """What the cells of a notebook showed of a kind, such as text/html."""
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output.data[kind] for output in shown if kind in output.get("data", {})]


def said(notebook: NotebookNode) -> str:
    return "".join(output.text for cell in notebook.cells for output in cell.get("outputs", ()) if "text" in output)


def test_they_are_those_that_there_are() -> None:
    assert sorted(path.name for path in SHIPPED.iterdir()) == [*NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_holds_no_outputs(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    for cell in notebook.cells:
        assert not cell.metadata
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert notebook.cells[0].source.startswith("# ")


def test_first_look_draws_a_diagram_to_click_into(ran: dict[str, NotebookNode]) -> None:
    notebook, traced = ran["first-look.ipynb"], trace("resnet50")
    (view,) = outputs(notebook, "application/vnd.jupyter.widget-view+json")
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    state = states[view["model_id"]]["state"]  # type: ignore[index]
    layer = traced.by_name["layer2.0.conv2"]
    assert state["network"]["layouts"] == [network.overview(traced, layer.name).svg()]
    assert state["selected"] == layer.name
    assert f"{layer.params:,} parameters, {layer.macs:,} MACs" in said(notebook)
    assert "fits: resnet10t\nresnet14t: " in said(notebook)
    assert len(outputs(notebook, "application/vnd.plotly.v1+json")) == 2


def test_compare_shows_the_bill_and_a_search(ran: dict[str, NotebookNode]) -> None:
    notebook = ran["compare.ipynb"]
    assert re.search(r"216 designs, \d+ within the limits, \d+ that no other beats", said(notebook))
    assert any("resnet50d against ResNet-34" in str(html) for html in outputs(notebook, "text/html"))
    assert len(outputs(notebook, "application/vnd.jupyter.widget-view+json")) == 1


def test_look_inside_explains_a_number_and_leaves_blocks_out(ran: dict[str, NotebookNode]) -> None:
    words = said(ran["look-inside.ipynb"])
    assert re.search(r"^Ankle boot: 99\.\d%$", words, re.MULTILINE)
    terms, total, own = re.findall(r"(\d+) terms sum to (\S+); the network's own is (\S+)", words)[0]
    assert (int(terms), float(total)) == (9 * 16, pytest.approx(float(own), abs=1e-4))
    without, whole = map(float, re.findall(r"error is ([\d.]+)%, with all blocks ([\d.]+)%", words)[0])
    assert whole < 15 < without


def test_they_are_written_into_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "made"
    assert main(["notebooks", str(place)]) == main(["notebooks", str(place)]) == 0
    assert capsys.readouterr().out.splitlines() == 2 * [str(place / name) for name in NAMES]
    assert {path.name: path.read_bytes() for path in place.iterdir()} == {
        name: (SHIPPED / name).read_bytes() for name in NAMES
    }
    (place / NAMES[0]).unlink()
    (changed := place / NAMES[1]).write_text("mine", encoding="utf-8")
    assert main(["notebooks", str(place)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"explorer: {re.escape(str(changed))} is another file than [^\n]+\.\n", err)
    assert changed.read_text(encoding="utf-8") == "mine"
    assert not (place / NAMES[0]).exists()
    assert main(["notebooks", str(changed)]) == 2
    assert re.fullmatch(r"explorer: [^\n]+ cannot be written [^\n]+\n", capsys.readouterr().err)
