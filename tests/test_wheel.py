"""The wheel: what is in it, and that command and app work from it, outside a checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch
from packaging.requirements import Requirement

import explorer
from explorer.bench.browser import ROOT
from explorer.bench.visitors import Visitor, visit
from explorer.link import parse_network
from explorer.navigation import PAGES
from helpers import alone
from resnet import ResNetConfig, build, open_checkpoint

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = ("resnet", "explorer", "pages")


def environment() -> dict[str, str]:
    """This one's without the way to the checkout, which the app sets for Streamlit to watch."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def ran(command: Sequence[str | Path], folder: Path) -> str:
    """What a command prints."""
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of a copy of the sources, so that nothing is left in the checkout."""
    copy, folder = tmp_path_factory.mktemp("sources") / "copy", tmp_path_factory.mktemp("wheel")
    copy.mkdir()
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = [sys.executable, "-m", "pip", "wheel", "-q", ".", "--no-deps", "--no-build-isolation", "--no-index", "-w"]
    ran([*build, folder], copy)
    (made,) = folder.iterdir()
    return made


class Installed(NamedTuple):
    """An environment that holds the wheel, and a folder to work in."""

    binaries: Path
    folder: Path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in a fresh environment, which finds everything else in this one's."""
    place, folder = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("elsewhere")
    ran([sys.executable, "-m", "venv", "--without-pip", place], folder)
    binaries = place / ("Scripts" if sys.platform == "win32" else "bin")
    install: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        binaries / "python",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
    ]
    ran([*install, wheel], folder)
    packages = Path(
        ran([binaries / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip()
    )
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "others.pth").write_text("\n".join(others), encoding="utf-8")  # files of this kind in them are not read
    return Installed(binaries, folder)


def test_the_wheel_holds_every_file_and_no_other(wheel: Path) -> None:
    sources = [
        path.relative_to(ROOT).as_posix().replace("pages/", "explorer/_pages/", 1)
        if name == "pages"
        else path.relative_to(ROOT).as_posix()
        for name in SOURCES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != "secrets.toml"
    ]
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert sorted(names) == sorted(sources)
    assert not any(name.startswith("explorer/pages/") for name in names)


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = archive.read(name).decode("utf-8")
    assert f"\nVersion: {explorer.__version__}\n" in metadata
    assert "\nLicense-Expression: MIT\n" in metadata
    assert "Copyright (c)" in archive.read(name.replace("METADATA", "licenses/LICENSE")).decode("utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(.+?)\]", changes, re.MULTILINE)[:2] == ["Unreleased", explorer.__version__]


def test_both_lists_of_requirements_are_one() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert lines[:-1] == PROJECT["dependencies"]
    assert lines[-1] == "-e ."
    names = [Requirement(line).name for line in PROJECT["dependencies"]]
    assert len(names) == len(set(names))


def test_it_is_the_wheel_that_runs(installed: Installed) -> None:
    script = "import explorer, resnet, explorer.navigation as n; print(explorer.__file__, resnet.__file__, n.PAGES[0].file, sep='\\n')"
    paths = ran([installed.binaries / "python", "-c", script], installed.folder).splitlines()
    place = installed.binaries.parent.resolve()
    assert all(Path(path).resolve().is_relative_to(place) for path in paths), paths


def test_the_command_from_the_wheel(installed: Installed) -> None:
    printed = json.loads(
        ran([installed.binaries / "resnet-explorer", "summary", "resnet50", "--json"], installed.folder)
    )
    assert (printed["parameters"], printed["macs"]) == (25_557_032, 4_089_184_256)
    version = ran([installed.binaries / "resnet-explorer", "--version"], installed.folder)
    assert version == f"resnet-explorer {explorer.__version__}\n"


@contextmanager
def opened(installed: Installed) -> Iterator[str]:
    """The address of the app that the command opens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (installed.folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [installed.binaries / "resnet-explorer", "--port", str(port), "--no-browser"],
            cwd=installed.folder,
            env=environment(),
            stdout=log,
            stderr=log,
        )
        try:
            end = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2).close()
                    break
                except OSError:
                    said = (installed.folder / "log").read_text(encoding="utf-8")
                    assert process.poll() is None, said
                    assert time.monotonic() < end, said
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


class Reader(Visitor):
    """A visitor who remembers the theme that a session is told, and the words of the page."""

    primary = ""
    seen = b""

    def take(self, message):
        assert message.WhichOneof("type") != "page_not_found"
        if message.WhichOneof("type") == "new_session":
            self.primary = message.new_session.custom_theme.light.primary_color
        self.seen += message.SerializeToString()
        super().take(message)


def test_the_app_from_the_wheel_shows_every_page(installed: Installed) -> None:
    """In a folder of its own, with its theme; a page that fails, or is not there, would raise or say so."""

    async def look(address: str) -> dict[str, Reader]:
        found = {}
        for page in PAGES:
            async with visit(address, page.path, kind=Reader) as visitor:
                assert isinstance(visitor, Reader)
                found[page.name] = visitor
        return found

    with opened(installed) as address:
        visitors = alone(look(address))
    assert len({visitor.client.page_script_hash for visitor in visitors.values()}) == len(visitors) == len(PAGES)
    for name, visitor in visitors.items():
        assert visitor.primary == "#2a6fd0", name
        assert b"ResNet Explorer" in visitor.seen, name
    assert [entry.name for entry in installed.folder.iterdir()] == ["log"]


# -- from a budget to a network that is taken away ----------------------------------------

SPACE = "resnet18 layers=1..2-1-1..2-1 planes=32-64-128-256 shortcut=A,B,D attention=none,se"
FORMS = {"code": "a.py", "onnx": "a.onnx", "safetensors": "a.safetensors", "json": "a.json"}
SCRIPT = f"""
import contextlib, io, json
from explorer.cli import main
def printed(*words):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main([*words, "--json"]) == 0, words
    return json.loads(said.getvalue())
listed = printed("list", "--size", "320x640", "--max-macs", "5e9", "--max-params", "30e6")
found = printed("search", {SPACE!r}, "--size", "64x96", "--max-macs", "60M", "--max-params", "3M", "--pareto")
best = found["networks"][0]
written = {{kind: printed("export", best["query"], kind, "--output", name) for kind, name in {FORMS!r}.items()}}
print(json.dumps([listed, best, written]))
"""
"""Commands in one process: torch takes seconds to import."""


def test_a_search_leads_to_a_network_that_is_taken_away(installed: Installed) -> None:
    """Its best design, as code that stands alone, ONNX, weights and a link, puts out the same each way."""
    listed, best, written = json.loads(ran([installed.binaries / "python", "-c", SCRIPT], installed.folder))
    assert [row["name"] for row in listed["networks"] if not row["over"]] == ["resnet10t"]
    assert best["macs"] <= 60e6
    assert best["parameters"] <= 3e6
    link = parse_network(f"https://example.org/?{written['onnx']['query']}")
    assert (json.loads(link.config.to_json()), list(link.image_size)) == (best["config"], best["image_size"])

    files = {kind: installed.folder / name for kind, name in FORMS.items()}
    assert ResNetConfig.from_json(files["json"].read_text(encoding="utf-8")) == link.config
    opened = open_checkpoint(files["safetensors"])
    ours = build(opened.config).eval()
    ours.load_state_dict(opened.state_dict)
    names: dict[str, Any] = {"__name__": "alone"}
    exec(files["code"].read_text(encoding="utf-8"), names)
    theirs = names["ResNet"]().eval()
    theirs.load_state_dict(opened.state_dict)
    images = torch.randn(2, 3, *link.image_size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        scores = ours(images)
        assert opened.config == link.config
        assert torch.equal(theirs(images), scores)
    session = onnxruntime.InferenceSession(files["onnx"], providers=["CPUExecutionProvider"])
    (run,) = session.run(None, {"image": images.numpy()})
    assert float(np.abs(run - scores.numpy()).max() / scores.abs().max()) < 1e-4
    for file in files.values():
        file.unlink()
