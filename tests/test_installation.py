"""Where it runs: in which folder, with which Python, from a wheel, beside a person's own settings."""

from __future__ import annotations

import asyncio
import http.client
import importlib.metadata
import os
import re
import tomllib
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.testing.v1 import AppTest
from websockets.asyncio.client import connect

from explorer.bench.browser import CONFIGURATION, ROOT, server
from helpers import APP, alone

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETTINGS = tomllib.loads((CONFIGURATION / "config.toml").read_text(encoding="utf-8"))

# -- folders ------------------------------------------------------------------------------


class Upload:
    """A file of zeros in the form that a browser sends it."""

    HEAD = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="zeros.pth"\r\n\r\n'
    TAIL = b"\r\n--edge--\r\n"

    def __init__(self, megabytes: int):
        self.megabytes = megabytes
        self.length = len(self.HEAD) + megabytes * 2**20 + len(self.TAIL)

    def __iter__(self):
        yield self.HEAD
        yield from [bytes(2**20)] * self.megabytes
        yield self.TAIL


def status(address: str, session: str, upload: Upload) -> int:
    """What the server answers to an upload of a session."""
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=120)) as connection:
        connection.request("GET", "/_stcore/health")
        answer = connection.getresponse()
        answer.read()
        token = re.search(r"_streamlit_xsrf=([^;]+)", answer.headers["Set-Cookie"])
        assert token
        headers = {
            "Content-Type": "multipart/form-data; boundary=edge",
            "Content-Length": str(upload.length),
            "Cookie": token[0],
            "X-Xsrftoken": token[1],
        }
        with suppress(BrokenPipeError, ConnectionResetError):  # the server has refused it by its length
            connection.request("PUT", f"/_stcore/upload_file/{session}/file", upload, headers)
        with connection.getresponse() as answer:
            return answer.status


async def first_words(address: str) -> tuple[Any, int]:
    """What a new session is told, and the answer to its upload of 220 MB."""
    async with connect(f"ws://{urlsplit(address).netloc}/_stcore/stream", max_size=None) as socket:
        await socket.send(BackMsg(rerun_script=ClientState()).SerializeToString())
        while True:
            answer = ForwardMsg.FromString(await socket.recv(decode=False))
            if answer.WhichOneof("type") == "new_session":
                break
        session = answer.new_session
        return session, await asyncio.to_thread(status, address, session.initialize.session_id, Upload(220))


def test_the_configuration_is_found_from_any_folder(tmp_path: Path) -> None:
    """Theme, usage statistics and the limit of an upload, as the server sends and applies them."""
    with server(APP, tmp_path) as (address, _):
        session, uploaded = alone(first_words(address))
    theme = session.custom_theme
    assert theme.light.primary_color == SETTINGS["theme"]["light"]["primaryColor"] == "#2a6fd0"
    assert theme.dark.background_color == SETTINGS["theme"]["dark"]["backgroundColor"] == "#14181f"
    assert list(theme.chart_categorical_colors) == SETTINGS["theme"]["chartCategoricalColors"]
    assert not session.config.gather_usage_stats
    assert uploaded == 204


def test_what_no_browser_sees_is_set() -> None:
    assert SETTINGS["runner"] == {"magicEnabled": False, "postScriptGC": False}


@pytest.mark.parametrize("theirs", [None, "", "/theirs", os.pathsep.join(["/theirs", str(ROOT), "/more"])])
def test_a_python_path_of_ones_own_stays(theirs: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if theirs is not None:
        monkeypatch.setenv("PYTHONPATH", theirs)
    app = AppTest.from_file(str(APP.with_name("script.py")), default_timeout=120)
    for _ in range(2):
        assert not app.run().exception
        found = os.environ["PYTHONPATH"].split(os.pathsep)
        assert found.count(str(ROOT)) == 1
        assert [path for path in found if path != str(ROOT)] == [
            path for path in (theirs or "").split(os.pathsep) if path not in ("", str(ROOT))
        ]


# -- what is promised ---------------------------------------------------------------------


def test_the_oldest_python_is_one_that_every_requirement_takes() -> None:
    """As the requirements say of themselves. A release that is newer than it has to be may ask for more: pip takes another."""
    oldest = SpecifierSet(PROJECT["project"]["requires-python"])
    (version,) = (limit.version for limit in oldest if limit.operator == ">=")
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    for required in (Requirement(line) for line in lines if not line.startswith("-")):
        (least,) = (Version(limit.version) for limit in required.specifier if limit.operator == ">=")
        needed = importlib.metadata.metadata(required.name)["Requires-Python"] or ""
        if Version(importlib.metadata.version(required.name)) == least:
            assert SpecifierSet(needed).contains(version), f"{required.name} needs Python {needed}"
    readme, makefile = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "Makefile"))
    assert set(re.findall(r"Python ([\d.]+) or newer", readme + makefile)) == {version}
    assert f"OLDEST ?= python{version}\n" in makefile
